//! `crore doctor`: can this host hold so many connections, and what stands in the way?
//!
//! ```text
//! knobs (the table) ─► expression ─► what is wanted ─┐
//! host (files, io_uring) ──────────► what there is ──┼─► checks: sysctl, process, memory ─► report
//!                                                    └─► bounds: how many it holds as it is
//! ```
//!
//! It says what holds for the user, the limits and the cgroup that it is run with: a server that is started in the
//! same way finds the same.

mod bounds;
mod expression;
mod host;
mod knobs;
mod memory;
mod process;
mod report;
mod sysctl;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use crore_engine::uring::{DescriptorKind, DescriptorSetting, KernelRelease};
use crore_engine::{HostMemory, Limits};

use self::expression::Variables;
use self::host::Host;
pub(crate) use self::knobs::Role;
use self::knobs::{Knob, Place, TableError, knobs};
use self::report::Check;
pub(crate) use self::report::{Report, Verdict};

/// What the doctor is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The target.
    pub(crate) connections: u64,
    /// Which ends of the connections are here.
    pub(crate) role: Role,
    /// Workers of the server.
    pub(crate) cores: usize,
    /// As the server is configured.
    pub(crate) descriptors: DescriptorSetting,
    /// Where the server listens.
    pub(crate) listen: SocketAddr,
    /// Its own bounds.
    pub(crate) limits: Limits,
}

/// Examines the host that this program runs on.
pub(crate) fn examine(question: Question) -> Report {
    let host = Host::this(question.descriptors);
    Examination::new(question, &host).report().expect("the table is part of the program, and a test reads all of it")
}

/// One question to one host.
struct Examination<'h> {
    question: Question,
    host: &'h Host,
    kernel: KernelRelease,
    kind: DescriptorKind,
    /// Read once: it changes while it is looked at.
    memory: HostMemory,
    /// The wanted `nofile`, of the end that wants more.
    descriptors: i64,
}

/// The first kernel that releases direct descriptors in time; asked only where io_uring can't be.
const DIRECT_SINCE: (u32, u32) = (6, 13);

impl<'h> Examination<'h> {
    fn new(question: Question, host: &'h Host) -> Self {
        let kernel = host.kernel();
        let kind = match &host.uring {
            Ok(uring) => uring.features.descriptors,
            Err(_) if question.descriptors == DescriptorSetting::Regular => DescriptorKind::Regular,
            Err(_) if (kernel.major(), kernel.minor()) >= DIRECT_SINCE => DescriptorKind::Direct,
            Err(_) => DescriptorKind::Regular,
        };
        Self { question, host, kernel, kind, memory: host.memory(), descriptors: 0 }
    }

    fn report(mut self) -> Result<Report, TableError> {
        let knobs = knobs(self.question.role)?;
        for knob in knobs.iter().filter(|knob| knob.name == "nofile") {
            let wanted = knob.wanted(&self)?.first().copied().unwrap_or_default();
            self.descriptors = self.descriptors.max(wanted);
        }
        let mut checks = Vec::new();
        for knob in &knobs {
            checks.extend(self.check(knob)?);
        }
        let bounds = self.bounds(&knobs)?;
        let connections_max = bounds.first().map_or(0, |bound| bound.connections);
        let worst = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Pass);
        Ok(Report {
            connections: self.question.connections,
            host: self.question.role,
            cores: self.question.cores as u64,
            kernel: self.kernel.to_string(),
            descriptors: self.kind.to_string(),
            verdict: if connections_max < self.question.connections { Verdict::Fail } else { worst },
            connections_max,
            bounds,
            checks,
        })
    }

    /// What there is to say about a knob; nothing if the kernel has no such thing.
    fn check(&self, knob: &Knob) -> Result<Vec<Check>, TableError> {
        let one = |check: Check| Ok(vec![check]);
        match (knob.place, knob.name) {
            (Place::Sysctl, "fs.file-max") => Ok(self.open_files(knob)?.into_iter().collect()),
            (Place::Sysctl, "kernel.io_uring_disabled") => Ok(self.io_uring_disabled(knob).into_iter().collect()),
            (Place::Sysctl, _) => Ok(self.sysctl(knob)?.into_iter().collect()),
            (Place::Rlimit, "nofile") => one(self.nofile(knob)?),
            (Place::Rlimit, "memlock") => one(self.memlock(knob)?),
            (Place::Boot, "thash_entries") => Ok(self.established_hash(knob)?.into_iter().collect()),
            (Place::Memory, "memory") => one(self.memory(knob)?),
            (Place::Memory, "cgroup") => one(self.cgroup(knob)?),
            (Place::Setting, "memory_budget") => one(self.memory_budget(knob)?),
            (Place::Setting, "limits.connections_per_core_max") => one(self.connections_per_core_max(knob)?),
            (Place::Kernel, "linux") => one(self.linux(knob)),
            (Place::Kernel, "io_uring") => Ok(self.io_uring(knob)),
            (Place::Kernel, "direct_descriptors") => one(self.direct_descriptors(knob)),
            (Place::Kernel, "seccomp") => one(self.seccomp(knob)),
            _ => Err(TableError::Field { knob: knob.name.to_owned(), field: "where" }),
        }
    }
}

impl Variables for Examination<'_> {
    fn value(&self, name: char) -> Option<i64> {
        let number = |value: Option<u64>| Some(i64::try_from(value.unwrap_or(0)).unwrap_or(i64::MAX));
        match name {
            'N' => number(Some(self.question.connections)),
            'C' => number(Some(self.question.cores as u64)),
            'P' => Some(self.question.listen.port().into()),
            'E' => Some(self.question.role.ends()),
            'D' => Some((self.kind == DescriptorKind::Direct).into()),
            'L' => Some(self.descriptors),
            'M' => number(self.host.meminfo("MemTotal").map(|bytes| bytes / 4096)),
            'S' => number(self.host.sysctl_number("net.ipv4.tcp_syncookies")),
            'K' => Some(i64::from(self.kernel.major()) * 1000 + i64::from(self.kernel.minor())),
            _ => None,
        }
    }
}

impl Knob {
    /// A check of this knob that has passed.
    fn pass(&self, have: impl Into<String>, want: impl Into<String>) -> Check {
        Check {
            name: self.name.to_owned(),
            place: self.place,
            have: have.into(),
            want: want.into(),
            verdict: Verdict::Pass,
            why: self.why.to_owned(),
            cost: self.cost,
            source: self.source,
            mend: None,
        }
    }
}

impl Check {
    /// The same, with another verdict and what mends it.
    fn but(mut self, verdict: Verdict, mend: impl Into<Option<String>>) -> Self {
        self.verdict = verdict;
        self.mend = mend.into();
        self
    }

    /// The same, with a better reason than the table's.
    fn because(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }
}
