//! Users: their connections, all of which are meant at once.

use axum::Json;
use axum::extract::State;
use crore_engine::ConnectionId;
use crore_engine::clock::unix_ms;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::connections::{Disconnect, Disconnected, Terminated, end};
use crate::control::api::{Api, ApiState};
use crate::control::error::ApiError;
use crate::control::extract::{Body, PathName};
use crate::rate_limit;
use crate::wire::{Envelope, Refusal};

/// A user.
#[derive(Serialize, ToSchema)]
pub(super) struct User {
    /// The name that was asked for.
    user: String,
    /// Identifiers of its open connections; none if it is not online.
    connections: Vec<String>,
}

/// Show a user's open connections
///
/// A connection without a user is the user of its own identifier.
#[utoipa::path(
    get,
    path = "/api/users/{user}",
    operation_id = "show_user",
    tag = "connections",
    params(("user" = String, Path, description = "The user's name")),
    responses((status = 200, description = "The user.", body = User)),
    security(("bearer" = [])),
)]
pub(super) async fn show(State(api): State<ApiState>, PathName(user): PathName) -> Result<Json<User>, ApiError> {
    let connections = connections(&api, &user)?.iter().map(ConnectionId::to_string).collect();
    Ok(Json(User { user, connections }))
}

/// What a user is told.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Send {
    #[schema(schema_with = super::any_value)]
    data: Box<RawValue>,
}

/// What has come of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Sent {
    /// Connections that it is on its way to.
    delivered: usize,
}

/// Send to a user
///
/// Every open connection of the user receives `{"type":"private","data":…,"timestamp":…}`, without `from`.
#[utoipa::path(
    post,
    path = "/api/users/{user}/send",
    operation_id = "send_to_user",
    tag = "messages",
    params(("user" = String, Path, description = "The user's name")),
    request_body = Send,
    responses(
        (status = 200, description = "On its way.", body = Sent),
        (status = 404, description = "The user has no open connection.", body = crate::control::error::ErrorBody),
    ),
    security(("bearer" = [])),
)]
pub(super) async fn send(
    State(api): State<ApiState>,
    PathName(user): PathName,
    Body(Send { data }): Body<Send>,
) -> Result<Json<Sent>, ApiError> {
    let connections = connections(&api, &user)?;
    if connections.is_empty() {
        return Err(Refusal::NotOnline.into());
    }
    let mut text = String::new();
    let text = Envelope::start(&mut text, "private").data(data.get()).finish(unix_ms());
    api.shared()?.policy().fits(text.len())?;
    // Where one core takes no more, the others have it: it is not to be sent again then.
    let delivered = connections.iter().filter(|connection| api.engine.send(**connection, text).is_ok()).count();
    if delivered == 0 {
        return Err(Refusal::Busy.into());
    }
    Ok(Json(Sent { delivered }))
}

/// Close a user's connections
///
/// Each gets a close frame. Before that leaves, the connection is the user's no more: nothing is sent to it, it leaves the
/// presence of its channels, and it does not count for `limits.connections_per_user_max`, so that its client may come
/// back as soon as it has the frame. That there are none is no error.
#[utoipa::path(
    post,
    path = "/api/users/{user}/disconnect",
    operation_id = "disconnect_user",
    tag = "connections",
    params(("user" = String, Path, description = "The user's name")),
    request_body = Disconnect,
    responses((status = 200, description = "Close frames are on their way.", body = Disconnected)),
    security(("bearer" = [])),
)]
pub(super) async fn disconnect(
    State(api): State<ApiState>,
    PathName(user): PathName,
    Body(disconnect): Body<Disconnect>,
) -> Result<Json<Disconnected>, ApiError> {
    let connections = connections(&api, &user)?;
    disconnect.send(&api.engine, &connections).map(Json)
}

/// Terminate a user's connections
///
/// Their TCP connections end at once, without close frames. Those that are being closed are the user's no more, and end by
/// themselves after `limits.close_timeout`. That there are none is no error.
#[utoipa::path(
    post,
    path = "/api/users/{user}/terminate",
    operation_id = "terminate_user",
    tag = "connections",
    params(("user" = String, Path, description = "The user's name")),
    responses((status = 200, description = "They end.", body = Terminated)),
    security(("bearer" = [])),
)]
pub(super) async fn terminate(
    State(api): State<ApiState>,
    PathName(user): PathName,
) -> Result<Json<Terminated>, ApiError> {
    end(&api.engine, &connections(&api, &user)?).map(Json)
}

/// What has come of it.
#[derive(Serialize, ToSchema)]
pub(super) struct RateLimitReset {
    /// Whether there is a rate limit: without one there is nothing to forget.
    reset: bool,
}

/// Forget what a user has sent
///
/// The user may send as much as one that has sent nothing; so may each of its connections, where they are limited one by
/// one. It holds soon after the answer. That there is no such user is no error.
#[utoipa::path(
    post,
    path = "/api/users/{user}/rate-limit/reset",
    operation_id = "reset_rate_limit",
    tag = "connections",
    params(("user" = String, Path, description = "The user's name, or a connection's identifier")),
    responses((status = 200, description = "It is forgotten.", body = RateLimitReset)),
    security(("bearer" = [])),
)]
pub(super) async fn reset_rate_limit(
    State(api): State<ApiState>,
    PathName(user): PathName,
) -> Result<Json<RateLimitReset>, ApiError> {
    rate_limit::reset(&api.engine, &user).map_err(|_| Refusal::Busy)?;
    Ok(Json(RateLimitReset { reset: api.shared()?.rate_limiter.is_some() }))
}

/// The open connections of a user.
pub(super) fn connections(api: &Api, user: &str) -> Result<Vec<ConnectionId>, ApiError> {
    let mut connections = Vec::new();
    api.shared()?.users.find(user, &mut connections);
    Ok(connections)
}
