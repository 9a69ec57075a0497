//! How many connections the host holds as it is, and what binds next.

use crore_engine::{Bound as EngineBound, Resources, connection_bytes};

use super::Examination;
use super::host::Privilege;
use super::knobs::{Knob, Role, TableError};
use super::report::{Bound, Verdict};
use super::sysctl::{CONNTRACK, CONNTRACK_COUNT};
use crate::session::Session;

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
        if self.question.role.is_server() {
            add("limits.connections_per_core_max", self.engine_room(EngineBound::Setting));
            add("memory_budget", self.engine_room(EngineBound::Memory));
            add("direct_descriptors", self.engine_room(EngineBound::RingTable));
            add("identifiers", self.engine_room(EngineBound::Identifiers));
        }
        let nofile = self.host.limit("Max open files").map(|limit| limit.hard);
        // To which nofile can be raised; before it, so that what keeps it from being raised is named where both bind.
        add("fs.nr_open", self.host.sysctl_number("fs.nr_open").map(|limit| self.room_for(limit)));
        add("nofile", nofile.map(|limit| self.room_for(limit)));
        add("fs.file-max", self.file_room().filter(|_| !self.host.may(Privilege::SysAdmin)));
        add(CONNTRACK, self.tracked_left());
        for knob in knobs {
            match knob.name {
                "memory" => add(knob.name, self.connections_in(knob, self.memory.available_bytes)?),
                "cgroup" => add(knob.name, self.connections_in(knob, self.memory.cgroup_bytes)?),
                // Short of it the rings, and not the connections, are too many.
                "memlock" => add(knob.name, (self.memlock(knob)?.verdict == Verdict::Fail).then_some(0)),
                _ => {}
            }
        }
        // What is never reached, since something else of the same size is there before, keeps this order.
        bounds.sort_by_key(|bound| bound.connections);
        Ok(bounds)
    }

    /// What the engine would have to work with.
    pub(super) fn resources(&self) -> Resources {
        Resources {
            cores: self.question.cores,
            descriptors: self.kind,
            descriptor_limit: self.host.limit("Max open files").map_or(u64::MAX, |limit| limit.hard),
            user_connection_bytes: connection_bytes::<Session>(),
            kernel_connection_bytes: self.host.kernel_connection_bytes(self.question.listen.is_ipv6(), self.kind),
            memory_bytes: self.memory.budget_bytes(),
        }
    }

    /// Connections of all cores that a bound of the engine's allows; `None`: it is no bound.
    pub(super) fn engine_room(&self, bound: EngineBound) -> Option<u64> {
        let bounds = self.resources().bounds(&self.question.limits);
        let (_, per_core) = bounds.into_iter().find(|(one, _)| *one == bound)?;
        (per_core != u64::MAX).then(|| per_core.saturating_mul(self.question.cores as u64))
    }

    /// Connections that a limit of descriptors allows, in the process of each end that is here.
    pub(super) fn room_for(&self, limit: u64) -> u64 {
        let of = |role| self.room_of(role, limit);
        match self.question.role {
            Role::Both => of(Role::Server).min(of(Role::Load)),
            role => of(role),
        }
    }

    /// The same, for one end.
    pub(super) fn room_of(&self, role: Role, limit: u64) -> u64 {
        // crore-bench has one ring.
        let rings = if role == Role::Load { 1 } else { self.question.cores };
        u64::from(self.kind.connections_per_core_at(limit, rings)) * rings as u64
    }

    /// Connections that the firewall can still track, if it tracks any.
    fn tracked_left(&self) -> Option<u64> {
        let count = self.host.sysctl_number(CONNTRACK_COUNT).filter(|count| *count > 0)?;
        Some(self.host.sysctl_number(CONNTRACK)?.saturating_sub(count))
    }
}
