//! How many connections the host holds as it is, and what binds next.

use super::Examination;
use super::host::Privilege;
use super::knobs::{Knob, Role, TableError};
use super::report::{Bound, Verdict};
use super::sysctl::{CONNTRACK, CONNTRACK_COUNT};

impl Examination<'_> {
    /// All bounds that are known, the tightest first.
    pub(super) fn bounds(&self, knobs: &[Knob]) -> Result<Vec<Bound>, TableError> {
        let mut bounds = Vec::new();
        let mut add = |name, connections: Option<u64>| {
            bounds.extend(connections.map(|connections| Bound { name, connections }));
        };
        if self.host.uring.is_err() {
            add("io_uring", Some(0));
        }
        add("nofile", self.host.limit("Max open files").map(|limit| self.room_for(self.usable(limit))));
        // To which nofile can be raised.
        add("fs.nr_open", self.host.sysctl_number("fs.nr_open").map(|limit| self.room_for(limit)));
        add("fs.file-max", self.files_left().filter(|_| !self.host.may(Privilege::SysAdmin)));
        add(CONNTRACK, self.tracked_left());
        if self.question.role == Role::Server {
            let per_core = self.question.connections_per_core_max.map(u64::from);
            add("limits.connections_per_core_max", per_core.map(|most| most * self.question.cores as u64));
        }
        for knob in knobs {
            match knob.name {
                "memory" | "cgroup" => {
                    let room =
                        if knob.name == "memory" { self.host.meminfo("MemAvailable") } else { self.host.cgroup_room() };
                    add(knob.name, room.map(|bytes| self.connections_in(knob, bytes)).transpose()?);
                }
                // Short of it the rings, and not the connections, are too many.
                "memlock" => add(knob.name, (self.memlock(knob)?.verdict == Verdict::Fail).then_some(0)),
                _ => {}
            }
        }
        // What is never reached, since something else of the same size is there before, keeps the table's order.
        bounds.sort_by_key(|bound| bound.connections);
        Ok(bounds)
    }

    /// Connections that the firewall can still track, if it tracks any.
    fn tracked_left(&self) -> Option<u64> {
        let count = self.host.sysctl_number(CONNTRACK_COUNT).filter(|count| *count > 0)?;
        Some(self.host.sysctl_number(CONNTRACK)?.saturating_sub(count))
    }
}
