//! User memory of the server: what is resident in its own address space.

use std::path::PathBuf;

use serde::Serialize;

use super::{MeasureError, read};

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ProcessMemory {
    /// All resident pages.
    pub(crate) rss_bytes: u64,
    /// Those that belong to no file: heap, stacks, anonymous mappings.
    pub(crate) anonymous_bytes: u64,
    /// Page tables of the process: kernel memory that grows with the resident pages.
    pub(crate) page_table_bytes: u64,
}

impl ProcessMemory {
    /// Reads process `pid`: `smaps_rollup`, which walks the page tables and is exact, and where
    /// that is closed, `status`, whose counters may lag by some pages per thread.
    ///
    /// # Errors
    /// The process is gone or closed to this user.
    pub(crate) fn read(pid: u32) -> Result<Self, MeasureError> {
        let path = PathBuf::from(format!("/proc/{pid}/status"));
        let status = read(&path)?;
        let missing = |field| MeasureError::Format { path: path.clone(), field };
        let mut memory = Self {
            rss_bytes: field_bytes(&status, "VmRSS:").ok_or_else(|| missing("VmRSS"))?,
            anonymous_bytes: field_bytes(&status, "RssAnon:").ok_or_else(|| missing("RssAnon"))?,
            page_table_bytes: field_bytes(&status, "VmPTE:").ok_or_else(|| missing("VmPTE"))?,
        };
        if let Ok(rollup) = read(format!("/proc/{pid}/smaps_rollup"))
            && let (Some(rss), Some(anonymous)) = (field_bytes(&rollup, "Rss:"), field_bytes(&rollup, "Anonymous:"))
        {
            memory.rss_bytes = rss;
            memory.anonymous_bytes = anonymous;
        }
        Ok(memory)
    }
}

/// The value of a line such as `VmRSS:     1234 kB`, in bytes.
pub(super) fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut fields = line.split_ascii_whitespace();
    let value: u64 = fields.next()?.parse().ok()?;
    match fields.next() {
        Some("kB") => Some(value * 1024),
        None => Some(value),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_become_bytes_and_names_match_from_the_start() {
        let text = "Rss:                1848 kB\nPss:                 220 kB\nPss_Anon:            100 kB\nHugePages_Total:       3\n";
        assert_eq!(field_bytes(text, "Rss:"), Some(1848 * 1024));
        assert_eq!(field_bytes(text, "Anon:"), None);
        assert_eq!(field_bytes(text, "HugePages_Total:"), Some(3));
        assert_eq!(field_bytes("VmRSS:\t12 pages\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_is_resident() {
        let memory = ProcessMemory::read(std::process::id()).expect("own process is readable");
        assert!(memory.rss_bytes >= memory.anonymous_bytes && memory.anonymous_bytes > 0, "{memory:?}");
    }
}
