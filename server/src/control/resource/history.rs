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
use crate::history::{Position, Since};
use crate::home::{Excerpt, HomeNotice, Kept, Read};
use crate::wire::Refusal;

/// Messages that an answer may be asked to have; it has fewer where they are long.
const MESSAGES_MAX: usize = 100_000;

/// The last millisecond, and the highest offset, that every JSON number can hold (RFC 8259, section 6).
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// Which of the messages.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// Messages that the answer may have: the last ones. At most it has as many as a client would be handed, which is half
    /// of what may wait for a connection (`limits.outbox_bytes_max`, `limits.outbox_messages_max`).
    #[param(minimum = 0, maximum = 100_000)]
    limit: Option<usize>,
    /// Only those behind a message: its `epoch`, a colon and its `offset`.
    #[param(pattern = "^[0-9a-f]{1,16}:[0-9]{1,19}$", example = "1f3b:17")]
    after: Option<String>,
    /// Only those with a lower offset: the first message of an answer that is not complete leads to those before it.
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    before: Option<u64>,
    /// Only those from this time on, in milliseconds since the Unix epoch; without effect beside `after`.
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    since: Option<u64>,
}

impl Part {
    fn count(&self) -> Result<usize, ApiError> {
        match self.limit {
            Some(limit) if limit > MESSAGES_MAX => {
                Err(ApiError::Invalid(format!("`limit` is a number from 0 to {MESSAGES_MAX}")))
            }
            limit => Ok(limit.unwrap_or(MESSAGES_MAX)),
        }
    }

    fn since(&self) -> Result<Since, ApiError> {
        within_bounds("since", self.since)?;
        let Some(after) = &self.after else { return Ok(self.since.map_or(Since::Kept, Since::Time)) };
        let place = after.split_once(':').and_then(|(epoch, offset)| place(epoch, offset));
        let place = place.ok_or_else(|| {
            ApiError::Invalid("`after` is the `epoch` of a message, a colon and its `offset`".to_owned())
        });
        place.map(Since::Position)
    }
}

fn within_bounds(name: &str, number: Option<u64>) -> Result<Option<u64>, ApiError> {
    if number.is_some_and(|number| number > NUMBER_MAX) {
        return Err(ApiError::Invalid(format!("`{name}` is a number from 0 to {NUMBER_MAX}")));
    }
    Ok(number)
}

/// A place, in the form that the document has for it.
fn place(epoch: &str, offset: &str) -> Option<Position> {
    let is_epoch =
        (1..=16).contains(&epoch.len()) && epoch.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_offset = (1..=19).contains(&offset.len()) && offset.bytes().all(|byte| byte.is_ascii_digit());
    if !is_epoch || !is_offset {
        return None;
    }
    Some(Position { epoch: epoch.parse().ok()?, offset: offset.parse().ok()? })
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
/// Messages carry `offset` and `epoch`: those of the last message that was seen lead, as `after`, to what is behind it. Where
/// there is more than the answer may have, the `offset` of its first message leads, as `before`, to the rest.
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
    let before = within_bounds("before", part.before)?;
    let excerpt = Excerpt { since: part.since()?, before, count: part.count()? };
    let name = channel.as_str().into();
    let home = shared.home_of(&channel);
    let read = |asker| HomeNotice::Read(Read { asker, channel: name, excerpt });
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
