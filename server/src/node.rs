//! Which server this is, and which of its runs: for those who have several, or look at logs from before a restart.

use std::fmt;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

/// Bytes of a server's name.
const NAME_BYTES_MAX: usize = 64;

/// Where the kernel says what the host is called (`proc_sys_kernel(5)`).
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// The name of a host that has none.
const NAMELESS: &str = "crore";

/// A server at work. Its name stays, its run is another one after each start.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: Box<str>,
    pub(crate) run: Run,
}

/// One of the runs of all servers: 64 bits by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run(u64);

impl Run {
    fn new() -> Self {
        // The keys of the hasher come from the kernel's random numbers.
        Self(RandomState::new().hash_one(SystemTime::now()))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl Node {
    /// A run that begins, of the server with this name, or with that of the host.
    pub(crate) fn start(name: Option<&str>) -> Self {
        let name = name.map_or_else(host_name, str::to_owned);
        Self { name: name.into_boxed_str(), run: Run::new() }
    }
}

/// Whether a text can be the name of a server: it stands in labels of metrics, and in logs.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(may_be_in_name) {
        return Ok(());
    }
    Err(format!("expected 1 to {NAME_BYTES_MAX} ASCII letters, digits, `.`, `-` or `_`"))
}

fn may_be_in_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || ".-_".contains(character)
}

fn host_name() -> String {
    let host = fs::read_to_string(HOST_NAME).unwrap_or_default();
    let name: String = host.chars().filter(|character| may_be_in_name(*character)).take(NAME_BYTES_MAX).collect();
    if name.is_empty() { NAMELESS.to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_stays_and_the_run_is_new() {
        let [one, two] = [Node::start(Some("edge-1")), Node::start(Some("edge-1"))];
        assert_eq!((&*one.name, &*two.name), ("edge-1", "edge-1"));
        assert_ne!(one.run, two.run);
        assert_eq!(one.run.to_string().len(), 16);
        assert!(check_name(&Node::start(None).name).is_ok(), "the host's name can be one");
    }

    #[test]
    fn a_name_needs_no_quotes_anywhere() {
        for good in ["a", "edge-1.example.com", "A_9", &"x".repeat(64)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "a b", "a\"", "ä", "a\n", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
