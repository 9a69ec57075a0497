//! What a span of time has cost: server, client, and the cores that they ran on.

use std::time::Instant;

use serde::Serialize;

use super::MeasureError;
use super::cpu::{CoreTicks, CpuSource, ProcessCpu, thread_nanoseconds};
use super::memory::ProcessMemory;
use crate::cores::CoreList;

/// What to look at.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    /// The server, if its process is known.
    pub(crate) server_pid: Option<u32>,
    /// The core of the calling thread.
    pub(crate) client_core: usize,
    /// The core of the server, if it has one to itself.
    server_core: Option<usize>,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    at: Instant,
    server: Option<ProcessCpu>,
    server_core: Option<CoreTicks>,
    client_nanoseconds: u64,
    client_core: CoreTicks,
}

/// What the server has used.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ServerUsage {
    /// Microseconds of CPU per message: user and kernel, receive softirq included.
    pub(crate) cpu_us_per_message: f64,
    /// The same from `/proc/PID/stat`, which counts in ticks of 10 ms.
    pub(crate) cpu_us_per_message_by_stat: f64,
    /// Where the first was read.
    pub(crate) source: CpuSource,
    /// CPU time by wall time, in percent of one core.
    pub(crate) busy_percent: f64,
    /// How busy its core was with anything, if it has one to itself.
    pub(crate) core_busy_percent: Option<f64>,
    /// How much of that core the hypervisor took.
    pub(crate) core_steal_percent: Option<f64>,
    /// Threads at the end.
    pub(crate) threads: usize,
    /// Memory at the end.
    pub(crate) memory: ProcessMemory,
}

/// What the client has used.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClientUsage {
    /// Its core.
    pub(crate) core: usize,
    /// CPU time of its thread by wall time. Near 100 with a client that blocks, the client was the bottleneck.
    pub(crate) busy_percent: f64,
    /// How busy the core was with anything.
    pub(crate) core_busy_percent: f64,
    /// How much of the core the hypervisor took.
    pub(crate) core_steal_percent: f64,
    /// Microseconds of CPU per message.
    pub(crate) cpu_us_per_message: f64,
}

/// Both, and the time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Usage {
    /// Seconds of wall time.
    pub(crate) seconds: f64,
    /// The server's, if its process is known.
    pub(crate) server: Option<ServerUsage>,
    /// The client's.
    pub(crate) client: ClientUsage,
}

impl Observer {
    /// Watches process `server_pid` and the calling thread, which runs on `client_core`.
    pub(crate) fn new(server_pid: Option<u32>, client_core: usize) -> Self {
        let cores = server_pid.and_then(CoreList::of_process);
        let server_core = cores.and_then(|cores| match cores.as_slice() {
            [one] => Some(*one),
            _ => None,
        });
        Self { server_pid, client_core, server_core }
    }

    /// Reads all clocks.
    ///
    /// # Errors
    /// The server is gone, or not this user's.
    pub(crate) fn look(&self) -> Result<Look, MeasureError> {
        Ok(Look {
            server: self.server_pid.map(ProcessCpu::read).transpose()?,
            server_core: self.server_core.map(CoreTicks::read).transpose()?,
            client_nanoseconds: thread_nanoseconds(),
            client_core: CoreTicks::read(self.client_core)?,
            at: Instant::now(),
        })
    }

    /// What has been used since `before`, in which `messages` were handled.
    ///
    /// # Errors
    /// The server is gone.
    pub(crate) fn usage_since(&self, before: &Look, messages: u64) -> Result<Usage, MeasureError> {
        let after = self.look()?;
        let seconds = (after.at - before.at).as_secs_f64();
        let per_message = |nanoseconds: u64| nanoseconds as f64 / 1000.0 / messages.max(1) as f64;
        let percent = |nanoseconds: u64| nanoseconds as f64 / 1e7 / seconds;
        let server = match (self.server_pid, before.server, after.server) {
            (Some(pid), Some(then), Some(now)) => {
                let core = after.server_core.zip(before.server_core).map(|(now, then)| now.percent_since(then));
                let used = now.nanoseconds.saturating_sub(then.nanoseconds);
                Some(ServerUsage {
                    cpu_us_per_message: per_message(used),
                    cpu_us_per_message_by_stat: per_message(now.stat_nanoseconds - then.stat_nanoseconds),
                    source: now.source,
                    busy_percent: percent(used),
                    core_busy_percent: core.map(|(busy, _)| busy),
                    core_steal_percent: core.map(|(_, steal)| steal),
                    threads: now.threads,
                    memory: ProcessMemory::read(pid)?,
                })
            }
            _ => None,
        };
        let used = after.client_nanoseconds - before.client_nanoseconds;
        let (core_busy_percent, core_steal_percent) = after.client_core.percent_since(before.client_core);
        let client = ClientUsage {
            core: self.client_core,
            busy_percent: percent(used),
            core_busy_percent,
            core_steal_percent,
            cpu_us_per_message: per_message(used),
        };
        Ok(Usage { seconds, server, client })
    }
}
