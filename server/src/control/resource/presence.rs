//! Who is where. The home core of a channel is asked, or the cores of a user's connections.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::users::connections;
use crate::control::api::ApiState;
use crate::control::ask;
use crate::control::error::ApiError;
use crate::control::extract::{Parameters, PathName};
use crate::presence::{List, PresenceNotice, Roster, USERS_DEFAULT, USERS_MAX};
use crate::wire::Refusal;

/// Which of the users.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// Users that the answer may have; 0 asks for the counts alone.
    #[param(minimum = 0, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the answer before.
    after: Option<String>,
}

impl Part {
    fn limit(&self) -> Result<usize, ApiError> {
        let limit = self.limit.unwrap_or(USERS_DEFAULT);
        let right = limit <= USERS_MAX;
        right.then_some(limit).ok_or_else(|| ApiError::Invalid(format!("`limit` is a number from 0 to {USERS_MAX}")))
    }
}

/// Show who is in a channel
///
/// Its subscribers by user, in the order of their names, a part at a time: go on with `next` until there is none.
#[utoipa::path(
    get,
    path = "/api/channels/{channel}/presence",
    operation_id = "show_presence",
    tag = "channels",
    params(("channel" = String, Path, description = "The channel's name"), Part),
    responses(
        (status = 200, description = "Who is there.", body = Roster),
        (status = 404, description = "The channel has no presence.", body = crate::control::error::ErrorBody),
    ),
    security(("bearer" = [])),
)]
pub(super) async fn show(
    State(api): State<ApiState>,
    PathName(channel): PathName,
    Parameters(part): Parameters<Part>,
) -> Result<Json<Roster>, ApiError> {
    let shared = api.shared()?;
    if shared.policy().channels.options(&channel).presence.is_none() {
        return Err(Refusal::NoPresence.into());
    }
    let users_max = part.limit()?;
    let home = shared.home_of(&channel);
    let list = |asker| {
        let after = part.after.map(Into::into);
        PresenceNotice::List(List { asker, channel: channel.into(), after, users_max })
    };
    ask::home(&api.engine, home, list).await.map(Json)
}

/// Where a user is.
#[derive(Serialize, ToSchema)]
pub(super) struct UserPresence {
    /// The name that was asked for.
    user: String,
    /// Whether it has an open connection.
    online: bool,
    /// Its open connections.
    connections: Vec<UserConnection>,
}

/// A connection of a user.
#[derive(Serialize, ToSchema)]
pub(super) struct UserConnection {
    /// Its identifier.
    id: String,
    /// When it opened, in milliseconds since the Unix epoch; absent if no channel had a presence then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    connected_at: Option<u64>,
    /// The name of the server that it is on.
    server: String,
    /// Channels with a presence that it is in.
    channels: Vec<String>,
}

/// Show where a user is
///
/// Its connections, and the channels with a presence that each of them is in. A connection without a user is the user of
/// its own identifier.
#[utoipa::path(
    get,
    path = "/api/users/{user}/presence",
    operation_id = "show_user_presence",
    tag = "connections",
    params(("user" = String, Path, description = "The user's name")),
    responses((status = 200, description = "Where it is.", body = UserPresence)),
    security(("bearer" = [])),
)]
pub(super) async fn of_user(
    State(api): State<ApiState>,
    PathName(user): PathName,
) -> Result<Json<UserPresence>, ApiError> {
    let reports = ask::whereabouts(&api.engine, &connections(&api, &user)?).await?;
    let shared = api.shared()?;
    let connections: Vec<_> = reports
        .into_iter()
        .map(|report| UserConnection {
            id: report.connection.to_string(),
            connected_at: report.connected_ms,
            server: shared.presence.server().to_owned(),
            channels: report.channels.into_iter().map(String::from).collect(),
        })
        .collect();
    Ok(Json(UserPresence { user, online: !connections.is_empty(), connections }))
}
