//! What the process may do: its limits, io_uring, filters of system calls.

use crore_engine::uring::{DescriptorKind, KernelRelease, SetupError};

use super::Examination;
use super::host::{Limit, Privilege};
use super::knobs::{Knob, Role, TableError};
use super::report::{Check, Verdict, grouped};

impl Examination<'_> {
    /// Descriptors of the server, or of the load, by the engine's own arithmetic. The hard limit counts: both raise
    /// their soft one to it.
    pub(super) fn nofile(&self, knob: &Knob) -> Result<Check, TableError> {
        let role = knob.role.unwrap_or_default();
        let wanted = self.wanted_number(knob)?;
        let (check, limit) = match self.host.limit("Max open files") {
            Some(limit) => {
                let have = format!("{} ({} soft, {} hard)", shown(limit.hard), shown(limit.soft), shown(limit.hard));
                (knob.pass(have, wanted.to_string()), limit)
            }
            None => return Ok(knob.pass("unknown", wanted.to_string()).but(Verdict::Warn, None)),
        };
        // A host of both ends has this check twice.
        let of_both = self.question.role == Role::Both && role == Role::Load;
        let check = if of_both { Check { name: "nofile (load)".to_owned(), ..check } } else { check };
        let room = self.room_of(role, limit.hard);
        let most = self.room_of(role, u64::MAX);
        Ok(match room >= self.question.connections {
            true if limit.hard >= wanted => check,
            true => check.but(Verdict::Warn, self.raise_nofile(limit, wanted)),
            false if most < self.question.connections => check
                .because(format!(
                    "a ring has at most 2^20 direct descriptors, so that {} cores hold no more than {} connections",
                    self.question.cores,
                    grouped(most)
                ))
                .but(Verdict::Fail, "descriptors = \"regular\" in the configuration, or more cores".to_owned()),
            false => check.but(Verdict::Fail, self.raise_nofile(limit, wanted)),
        })
    }

    fn raise_nofile(&self, limit: Limit, wanted: u64) -> String {
        let bounded = self.host.sysctl_number("fs.nr_open").is_some_and(|most| most < wanted);
        let before = if bounded { format!("sysctl -w fs.nr_open={wanted} && ") } else { String::new() };
        let command = if wanted <= limit.hard || self.host.may(Privilege::SysResource) {
            format!("ulimit -n {wanted}")
        } else {
            format!("sudo prlimit --pid $$ --nofile={wanted}:{wanted}")
        };
        format!("{before}{command}   # of a service: LimitNOFILE={wanted} in its unit")
    }

    /// Memory of the rings that counts for the user.
    pub(super) fn memlock(&self, knob: &Knob) -> Result<Check, TableError> {
        if !knob.matters(self)? {
            return Ok(knob.pass("does not count here", ""));
        }
        if self.host.may(Privilege::IpcLock) {
            return Ok(knob.pass("exempt (CAP_IPC_LOCK)", ""));
        }
        let wanted = self.wanted_number(knob)?;
        let have = self.host.limit("Max locked memory").map_or(0, |limit| limit.soft);
        let check = knob.pass(shown(have), wanted.to_string());
        if have >= wanted {
            return Ok(check);
        }
        let missed = knob.needed(self)?.is_some_and(|needed| have < needed.cast_unsigned());
        let verdict = if missed { Verdict::Fail } else { Verdict::Warn };
        let mend = format!("ulimit -l {}   # of a service: LimitMEMLOCK={wanted} in its unit", wanted.div_ceil(1024));
        Ok(check.but(verdict, mend))
    }

    pub(super) fn linux(&self, knob: &Knob) -> Check {
        let check = knob.pass(self.kernel.to_string(), format!("{} or newer", KernelRelease::MINIMUM));
        if self.kernel >= KernelRelease::MINIMUM {
            return check;
        }
        check.but(Verdict::Fail, "apt install linux-image-amd64 of Debian 12 or newer, and a reboot".to_owned())
    }

    /// io_uring itself, then each thing that the rings make use of.
    pub(super) fn io_uring(&self, knob: &Knob) -> Vec<Check> {
        let uring = match &self.host.uring {
            Ok(uring) => uring,
            Err(error) => {
                return vec![knob.pass("refused", "works").because(error.to_string()).but(Verdict::Fail, None)];
            }
        };
        let mut checks = vec![knob.pass("works", "")];
        for capability in &uring.capabilities {
            let check = knob.pass(if capability.present { "yes" } else { "no" }, "");
            let check = Check { name: format!("io_uring: {}", capability.name), ..check };
            let missing = capability.needed && !capability.present;
            checks.push(if missing {
                Check { want: "yes".to_owned(), ..check }.but(Verdict::Fail, None)
            } else {
                check
            });
        }
        checks
    }

    /// Never worse than a note: the server takes what there is.
    pub(super) fn direct_descriptors(&self, knob: &Knob) -> Check {
        knob.pass(if self.kind == DescriptorKind::Direct { "used" } else { "not used" }, "")
    }

    pub(super) fn seccomp(&self, knob: &Knob) -> Check {
        let filtered = self.host.status("Seccomp").is_some_and(|mode| mode != "0");
        let refused = matches!(self.host.uring, Err(SetupError::NotPermitted(_) | SetupError::Missing));
        let disabled = self.host.sysctl_number("kernel.io_uring_disabled").is_some_and(|value| value > 0);
        match (filtered, refused) {
            (false, _) => knob.pass("no filter", ""),
            (true, true) if !disabled => knob.pass("a filter", "one that allows io_uring").but(
                Verdict::Fail,
                "allow io_uring_setup, io_uring_enter and io_uring_register in the container's profile \
                 (docker run --security-opt seccomp=PROFILE.json)"
                    .to_owned(),
            ),
            (true, true) => knob.pass("a filter (io_uring is switched off anyway)", ""),
            (true, false) => knob.pass("a filter that allows io_uring", ""),
        }
    }
}

/// A limit as a person writes it.
fn shown(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() }
}
