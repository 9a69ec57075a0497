//! To everyone.

use axum::Json;
use axum::extract::State;
use crore_engine::clock::unix_ms;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::control::api::ApiState;
use crate::control::error::ApiError;
use crate::control::extract::Body;
use crate::wire::Envelope;

/// What everyone is told.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Broadcast {
    #[schema(schema_with = super::any_value)]
    data: Box<RawValue>,
}

/// What has come of it.
#[derive(Serialize, ToSchema)]
#[schema(as = BroadcastDone)]
pub(super) struct Done {
    /// True: it is on its way to every open connection.
    broadcast: bool,
}

/// Send to every open connection
///
/// Each receives `{"type":"broadcast","data":…,"timestamp":…}`, without `from`.
#[utoipa::path(
    post,
    path = "/api/broadcast",
    tag = "messages",
    request_body = Broadcast,
    responses((status = 200, description = "On its way.", body = Done)),
    security(("bearer" = [])),
)]
pub(super) async fn broadcast(
    State(api): State<ApiState>,
    Body(Broadcast { data }): Body<Broadcast>,
) -> Result<Json<Done>, ApiError> {
    let mut text = String::new();
    let text = Envelope::start(&mut text, "broadcast").data(data.get()).finish(unix_ms());
    api.shared()?.policy().fits(text.len())?;
    api.engine.broadcast(text)?;
    Ok(Json(Done { broadcast: true }))
}
