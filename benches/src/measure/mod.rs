//! What is read from `/proc` and from the clock: CPU time, memory, slabs, latency.

pub(crate) mod cpu;
pub(crate) mod latency;
pub(crate) mod memory;
pub(crate) mod slab;
pub(crate) mod usage;

use std::path::PathBuf;

/// Why a measurement cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeasureError {
    /// A file of `/proc` is missing or closed to this user.
    #[error("cannot read {path}: {source}; is the process still running, and may this user look at it (try as root)?")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A file of `/proc` has a format that this program does not know.
    #[error("{path} has no readable {field}; this kernel writes it differently, please report its first lines")]
    Format {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        field: &'static str,
    },
}

/// Reads a whole file of `/proc`.
fn read(path: impl Into<PathBuf>) -> Result<String, MeasureError> {
    let path = path.into();
    std::fs::read_to_string(&path).map_err(|source| MeasureError::Unreadable { path, source })
}
