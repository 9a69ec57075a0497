//! What the engine counts, as JSON.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use crore_engine::{Memory, Stats};
use serde::Serialize;
use utoipa::ToSchema;

use crate::control::api::ApiState;
use crate::control::error::ApiError;
use crate::metrics::Usage;

/// The server's numbers.
#[derive(Serialize, ToSchema)]
#[schema(as = Stats)]
pub(super) struct Numbers {
    /// Name of the server.
    name: String,
    /// Identifier of this run of it: another one after each start.
    run: String,
    /// Version of the server.
    version: &'static str,
    /// Milliseconds since the start.
    uptime_ms: u64,
    /// Whether the server has begun to stop.
    draining: bool,
    /// Connections that there is room for, on all cores together.
    connections_max: u64,
    /// The most connections that have been open at one time.
    connections_open_peak: u64,
    /// Bytes that connections may take, by the count of `memory_bytes`.
    memory_budget_bytes: u64,
    /// Messages that were answered with an error.
    errors: u64,
    /// Milliseconds of processor time that the process has used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cpu_ms: Option<u64>,
    /// Bytes of the process that are resident.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    resident_bytes: Option<u64>,
    /// All cores together.
    total: CoreNumbers,
    /// Each core.
    cores: Vec<CoreNumbers>,
}

/// What is counted on a core.
#[derive(Serialize, ToSchema)]
#[schema(as = CoreStats)]
struct CoreNumbers {
    /// Counters and gauges by name: those of the metrics without `crore_` and `_total`.
    counters: BTreeMap<&'static str, u64>,
    /// Bytes by class.
    memory_bytes: BTreeMap<&'static str, u64>,
}

impl CoreNumbers {
    fn new(stats: &Stats, memory: &Memory) -> Self {
        let counters = stats.entries().map(|(name, _, value)| (name, value)).collect();
        Self { counters, memory_bytes: memory.classes().collect() }
    }
}

/// Show what is counted
#[utoipa::path(
    get,
    path = "/api/stats",
    tag = "operations",
    responses((status = 200, description = "Now, but for memory: that is as old as the core's last tick.", body = Numbers)),
    security(("bearer" = [])),
)]
pub(super) async fn stats(State(api): State<ApiState>) -> Result<Json<Numbers>, ApiError> {
    let (stats, memory) = (api.engine.stats_by_core(), api.engine.memory_by_core());
    let shared = api.shared()?;
    let (room, usage) = (shared.room.get(), Usage::read());
    let connections_per_core_max = room.map_or(0, |room| u64::from(room.connections_per_core_max));
    Ok(Json(Numbers {
        name: shared.node.name.to_string(),
        run: shared.node.run.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_ms: u64::try_from(shared.uptime().as_millis()).unwrap_or(u64::MAX),
        draining: api.engine.is_draining(),
        connections_max: connections_per_core_max * api.engine.cores() as u64,
        connections_open_peak: shared.metrics.peak.read(),
        memory_budget_bytes: room.map_or(0, |room| room.memory_budget_bytes),
        errors: shared.metrics.errors(),
        cpu_ms: usage.as_ref().map(|usage| usage.cpu_ms),
        resident_bytes: usage.as_ref().map(|usage| usage.resident_bytes),
        total: CoreNumbers::new(&stats.iter().copied().sum(), &memory.iter().copied().sum()),
        cores: stats.iter().zip(&memory).map(|(stats, memory)| CoreNumbers::new(stats, memory)).collect(),
    }))
}
