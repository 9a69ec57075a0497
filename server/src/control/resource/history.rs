//! What is kept of a channel. Its home core is asked.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use crate::control::api::ApiState;
use crate::control::ask;
use crate::control::error::ApiError;
use crate::control::extract::{Parameters, PathName};
use crate::history::{Epoch, Position, Since};
use crate::home::{HomeNotice, Kept, Read};
use crate::wire::Refusal;

/// Which of the messages.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// Messages that the answer may have: the last ones. Without it: as many as a client would be handed, which is
    /// half of what may wait for a connection (`limits.outbox_bytes_max`, `limits.outbox_messages_max`).
    limit: Option<usize>,
    /// With `epoch`: only those behind this place.
    offset: Option<u64>,
    /// The count that `offset` belongs to.
    epoch: Option<String>,
    /// Only those from this time on, in milliseconds since the Unix epoch.
    since: Option<u64>,
}

impl Part {
    fn since(&self) -> Result<Since, ApiError> {
        match (self.offset, &self.epoch, self.since) {
            (None, None, None) => Ok(Since::Kept),
            (None, None, Some(since_ms)) => Ok(Since::Time(since_ms)),
            (Some(offset), Some(epoch), None) => {
                Ok(Since::Position(Position { epoch: epoch.parse().unwrap_or(Epoch::NONE), offset }))
            }
            _ => Err(ApiError::Invalid("say `offset` and `epoch` together, or `since`, or neither".to_owned())),
        }
    }
}

/// What is kept of a channel.
#[derive(Serialize, ToSchema)]
pub(super) struct History {
    /// The channel's name.
    channel: String,
    /// As their receivers have got them, the oldest first.
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Box<RawValue>>,
    /// Whether nothing is missing of what was asked for.
    complete: bool,
    /// The place of the last message that was published; 0 if there was none.
    offset: u64,
    /// The count that it belongs to; absent where nothing is known of the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    epoch: Option<String>,
}

/// Read a channel's history
///
/// Messages carry `offset` and `epoch`; the ones of the last message that was seen lead to those behind it.
#[utoipa::path(
    get,
    path = "/api/channels/{channel}/history",
    operation_id = "read_history",
    tag = "channels",
    params(("channel" = String, Path, description = "The channel's name"), Part),
    responses(
        (status = 200, description = "What is kept.", body = History),
        (status = 404, description = "The channel has no history.", body = crate::control::error::ErrorBody),
    ),
    security(("bearer" = [])),
)]
pub(super) async fn show(
    State(api): State<ApiState>,
    PathName(channel): PathName,
    Parameters(part): Parameters<Part>,
) -> Result<Json<History>, ApiError> {
    let shared = api.shared()?;
    if shared.policy().channels.options(&channel).history.is_none() {
        return Err(Refusal::NoHistory.into());
    }
    let (since, count) = (part.since()?, part.limit.unwrap_or(usize::MAX));
    let name = channel.as_str().into();
    let home = shared.home_of(&channel);
    let read = |asker| HomeNotice::Read(Read { asker, channel: name, since, count });
    let Kept { position, caught } = ask::home(&api.engine, home, read).await?;
    let raw = |message: &Arc<str>| RawValue::from_string(message.to_string()).expect("the server writes JSON");
    Ok(Json(History {
        channel,
        messages: caught.messages.iter().map(raw).collect(),
        complete: caught.complete,
        offset: position.map_or(0, |position| position.offset),
        epoch: position.map(|position| position.epoch.to_string()),
    }))
}
