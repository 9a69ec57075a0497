//! Connections as their cores know them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use crore_engine::{Survey, connection_bytes};
use serde::Serialize;
use utoipa::ToSchema;

use super::part::{Part, Top, age_ms, cursor};
use crate::control::api::ApiState;
use crate::control::ask::{self, PLACES_MAX};
use crate::control::error::ApiError;
use crate::control::extract::{Parameters, PathName};
use crate::session::Session;
use crate::users::connection_id;

/// A connection, in short.
#[derive(Serialize, ToSchema)]
#[schema(as = ConnectionSummary)]
pub(super) struct Summary {
    /// Its identifier.
    #[schema(example = "0-1-a2")]
    id: String,
    /// Its user; absent if it has none, which makes it the user of its own identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user: Option<String>,
    /// Where its client is, by the word of trusted proxies if there are any; absent if that is not kept
    /// (`api.client_addresses`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, nullable = false, example = "192.0.2.7")]
    address: Option<IpAddr>,
    /// Milliseconds since it came; absent as `address` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    age_ms: Option<u64>,
    /// The core that it is on.
    core: u16,
    /// Channels that it subscribes to.
    channel_count: usize,
    /// Bytes that wait for it to read.
    queued_bytes: usize,
}

impl From<&ask::Summary> for Summary {
    fn from(summary: &ask::Summary) -> Self {
        Self {
            id: summary.id.to_string(),
            user: summary.user.clone(),
            address: summary.address,
            age_ms: summary.age.map(age_ms),
            core: summary.id.core().0,
            channel_count: summary.channel_count,
            queued_bytes: summary.queued_bytes,
        }
    }
}

/// A connection.
#[derive(Serialize, ToSchema)]
pub(super) struct Connection {
    #[serde(flatten)]
    summary: Summary,
    /// Channels that it subscribes to, the first thousand of them, in no order.
    channels: Vec<String>,
    /// Those of them that it has joined, in no order.
    rooms: Vec<String>,
    /// When its user's token ends, in milliseconds since the Unix epoch; absent if it has none, or one that never ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    token_expires_ms: Option<u64>,
    /// Bytes that are held for it alone, by class: its slot, an estimate of what the kernel keeps, and what it has
    /// beyond that.
    memory_bytes: BTreeMap<&'static str, u64>,
}

/// Show a connection
///
/// Its core is asked.
#[utoipa::path(
    get,
    path = "/api/connections/{id}",
    operation_id = "show_connection",
    tag = "connections",
    params(("id" = String, Path, description = "The connection's identifier", example = "0-1-a2")),
    responses(
        (status = 200, description = "The connection.", body = Connection),
        (status = 404, description = "There is no such connection.", body = crate::control::error::ErrorBody),
    ),
    security(("bearer" = [])),
)]
pub(super) async fn show(State(api): State<ApiState>, PathName(id): PathName) -> Result<Json<Connection>, ApiError> {
    let id = connection_id(&id).ok_or(ApiError::NoSuchConnection)?;
    let report = ask::inspect(&api.engine, id).await?.ok_or(ApiError::NoSuchConnection)?;
    let mut memory = report.memory;
    memory.slab += connection_bytes::<Session>();
    memory.kernel += api.shared()?.room.get().map_or(0, |room| room.kernel_connection_bytes);
    Ok(Json(Connection {
        summary: Summary::from(&report.summary),
        channels: report.channels,
        rooms: report.rooms,
        token_expires_ms: report.token_expires_s.map(|seconds| u64::from(seconds) * 1000),
        memory_bytes: memory.classes().collect(),
    }))
}

/// A part of the connections.
#[derive(Serialize, ToSchema)]
pub(super) struct Connections {
    /// In no order that means anything; perhaps none, though there are more.
    connections: Vec<Summary>,
    /// The `cursor` to go on with; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
}

/// List connections
///
/// Every open connection, a part at a time: go on with `next` until there is none. One that is open all the while comes
/// exactly once.
#[utoipa::path(
    get,
    path = "/api/connections",
    operation_id = "list_connections",
    tag = "connections",
    params(Part),
    responses((status = 200, description = "A part of them.", body = Connections)),
    security(("bearer" = [])),
)]
pub(super) async fn list(
    State(api): State<ApiState>,
    Parameters(part): Parameters<Part>,
) -> Result<Json<Connections>, ApiError> {
    let (limit, (core, from)) = (part.limit()?, part.cursor()?);
    let Some(core) = ask::cores(&api.engine).nth(core) else {
        return Ok(Json(Connections { connections: Vec::new(), next: None }));
    };
    let survey = Survey { from, places_max: PLACES_MAX, connections_max: limit, queued_bytes_min: 0 };
    let answered = ask::survey(&api.engine, core, survey);
    let found = match ask::unless_ended(&api.engine, answered)? {
        Some(answered) => ask::unless_ended(&api.engine, ask::wait(answered).await)?.unwrap_or_default(),
        None => crore_engine::Surveyed::default(),
    };
    let ids: Vec<_> = found.connections.iter().map(|(id, _)| *id).collect();
    let connections = ask::summaries(&api.engine, &ids).await?.iter().map(Summary::from).collect();
    Ok(Json(Connections { connections, next: cursor(&api.engine, core, found.next) }))
}

/// Those who read too slowly.
#[derive(Serialize, ToSchema)]
pub(super) struct SlowConsumers {
    /// The one for which the most waits first.
    connections: Vec<Summary>,
    /// Open connections for which anything waits. What has just been sent is among it: not each of them is slow.
    count: usize,
    /// Bytes that wait for all of them.
    queued_bytes: usize,
    /// Bytes for one connection at which `limits.slow_consumer` is applied to it (`limits.outbox_bytes_max`).
    queued_bytes_max: usize,
    /// Milliseconds since they were looked for.
    age_ms: u64,
}

/// List the connections for which the most waits
///
/// All connections are looked at, a part at a time and at most once a second, and less often where that takes long.
#[utoipa::path(
    get,
    path = "/api/slow-consumers",
    operation_id = "list_slow_consumers",
    tag = "connections",
    params(Top),
    responses((status = 200, description = "The slowest of them.", body = SlowConsumers)),
    security(("bearer" = [])),
)]
pub(super) async fn slow(
    State(api): State<ApiState>,
    Parameters(top): Parameters<Top>,
) -> Result<Json<SlowConsumers>, ApiError> {
    let limit = top.limit()?;
    let (found, age) = api.surveys.slow_consumers(&api.engine).await?;
    Ok(Json(SlowConsumers {
        connections: found.connections.iter().take(limit).map(Summary::from).collect(),
        count: found.count,
        queued_bytes: found.queued_bytes,
        queued_bytes_max: api.outbox_bytes_max,
        age_ms: age_ms(age),
    }))
}
