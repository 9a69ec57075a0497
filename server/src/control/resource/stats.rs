//! What the engine counts, as JSON.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use crore_engine::{Memory, Stats};
use serde::Serialize;
use utoipa::ToSchema;

use crate::control::api::ApiState;
use crate::control::error::ApiError;

/// The server's numbers.
#[derive(Serialize, ToSchema)]
#[schema(as = Stats)]
pub(super) struct Numbers {
    /// Version of the server.
    version: &'static str,
    /// Milliseconds since the start.
    uptime_ms: u64,
    /// Whether the server has begun to stop.
    draining: bool,
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
    Ok(Json(Numbers {
        version: env!("CARGO_PKG_VERSION"),
        uptime_ms: u64::try_from(api.shared()?.uptime().as_millis()).unwrap_or(u64::MAX),
        draining: api.engine.is_draining(),
        total: CoreNumbers::new(&stats.iter().copied().sum(), &memory.iter().copied().sum()),
        cores: stats.iter().zip(&memory).map(|(stats, memory)| CoreNumbers::new(stats, memory)).collect(),
    }))
}
