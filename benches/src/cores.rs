//! Which CPU runs what: lists such as `0,2-3`, pinning, and the choice of the client's core.

use std::fmt;
use std::fs;
use std::str::FromStr;
use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Serialize, Serializer};

/// A set of CPU numbers, never empty, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoreList(Vec<usize>);

/// Why a list of cores is none, or can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CoreError {
    /// Not a list.
    #[error("`{0}` is no list of cores: write numbers and ranges, such as 0 or 0,2-3")]
    Syntax(String),
    /// The machine or the container does not have it.
    #[error("core {core} is not available here, these are: {available}")]
    Unavailable {
        /// The core that was asked for.
        core: usize,
        /// What the process may use.
        available: CoreList,
    },
    /// The kernel refuses.
    #[error("cannot pin to {cores}: {source}")]
    Pin {
        /// The cores.
        cores: CoreList,
        /// What the kernel said.
        source: rustix::io::Errno,
    },
}

impl FromStr for CoreList {
    type Err = CoreError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || CoreError::Syntax(text.to_owned());
        let mut cores = Vec::new();
        for part in text.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.trim().parse().map_err(|_| syntax())?;
            let last: usize = last.trim().parse().map_err(|_| syntax())?;
            if first > last || last >= CpuSet::MAX_CPU {
                return Err(syntax());
            }
            cores.extend(first..=last);
        }
        cores.sort_unstable();
        cores.dedup();
        Ok(Self(cores))
    }
}

impl fmt::Display for CoreList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

impl Serialize for CoreList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl CoreList {
    /// One core.
    pub(crate) fn one(core: usize) -> Self {
        Self(vec![core])
    }

    /// The cores that this process may run on. A thread that is pinned already does not change the answer,
    /// if it was asked for before: `main` does.
    pub(crate) fn available() -> Self {
        static AT_START: OnceLock<CoreList> = OnceLock::new();
        let read = || {
            let set = sched_getaffinity(None).unwrap_or_default();
            Self((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
        };
        AT_START.get_or_init(read).clone()
    }

    /// The cores that process `pid` works on: those of its pinned threads, and if none is pinned, all that it may use.
    /// `None` if the kernel does not tell.
    pub(crate) fn of_process(pid: u32) -> Option<Self> {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let lists = threads.flatten().filter_map(|thread| {
            let status = fs::read_to_string(thread.path().join("status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().parse().ok()
        });
        Self::worked_on(lists.collect())
    }

    fn worked_on(threads: Vec<Self>) -> Option<Self> {
        let most = threads.iter().map(|list| list.0.len()).max()?;
        let all_alike = threads.iter().all(|list| list.0.len() == most);
        let mut cores: Vec<usize> =
            threads.into_iter().filter(|list| all_alike || list.0.len() < most).flat_map(|list| list.0).collect();
        cores.sort_unstable();
        cores.dedup();
        Some(Self(cores))
    }

    /// The numbers.
    pub(crate) fn as_slice(&self) -> &[usize] {
        &self.0
    }

    /// Pins the calling thread, and with it the processes that it starts from now on.
    ///
    /// # Errors
    /// A core is not available.
    pub(crate) fn pin_thread(&self) -> Result<(), CoreError> {
        let available = Self::available();
        if let Some(&core) = self.0.iter().find(|core| !available.0.contains(core)) {
            return Err(CoreError::Unavailable { core, available });
        }
        let mut set = CpuSet::new();
        for &core in &self.0 {
            set.set(core);
        }
        sched_setaffinity(None, &set).map_err(|source| CoreError::Pin { cores: self.clone(), source })
    }
}

/// The client's core if none was named: the last one that the server can't run on, else the last.
pub(crate) fn client_core(server: Option<&CoreList>) -> usize {
    choose(CoreList::available().as_slice(), server.map_or(&[], |server| server.as_slice()))
}

fn choose(available: &[usize], server: &[usize]) -> usize {
    let free = available.iter().rev().find(|core| !server.contains(core));
    *free.or(available.last()).unwrap_or(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_sorted_and_written_back() {
        for (text, written) in [("0", "0"), ("3,0-1", "0,1,3"), (" 2-2 ", "2"), ("1,1", "1")] {
            assert_eq!(text.parse::<CoreList>().expect(text).to_string(), written);
        }
        for text in ["", "a", "3-1", "1,,2", "0-999999999"] {
            let error = text.parse::<CoreList>().expect_err(text).to_string();
            assert!(error.contains("0,2-3"), "{error}");
        }
    }

    #[test]
    fn a_process_works_where_its_threads_are_pinned() {
        let list = |text: &str| text.parse::<CoreList>().expect("a list");
        let worked_on = |texts: &[&str]| CoreList::worked_on(texts.iter().map(|text| list(text)).collect());
        assert_eq!(worked_on(&["0-3", "0", "2"]), Some(list("0,2")));
        assert_eq!(worked_on(&["1", "1"]), Some(list("1")));
        assert_eq!(worked_on(&["0-1", "0-1"]), Some(list("0-1")));
        assert_eq!(worked_on(&[]), None);
    }

    #[test]
    fn the_client_keeps_off_the_servers_core() {
        assert_eq!(choose(&[0, 1], &[0]), 1);
        assert_eq!(choose(&[0, 1], &[1]), 0);
        assert_eq!(choose(&[0, 1], &[0, 1]), 1);
        assert_eq!(choose(&[4, 6, 7], &[]), 7);
    }

    #[test]
    fn a_core_that_is_not_there_is_refused_by_name() {
        let error = CoreList::one(CpuSet::MAX_CPU - 1).pin_thread().expect_err("no machine has it").to_string();
        assert!(error.contains("is not available here, these are: "), "{error}");
    }
}
