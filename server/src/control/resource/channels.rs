//! Channels: who listens to what.
//!
//! Each core has a table of its own. A list is made a part at a time: the channels of a part of one core's table, each
//! with its subscribers on all cores, which are asked for just these names. So no core does more for a request than a
//! bounded look at its table, however many channels there are.

use axum::Json;
use axum::extract::State;
use crore_engine::CoreId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::control::api::ApiState;
use crate::control::ask::{self, CHANNELS_MAX};
use crate::control::error::ApiError;
use crate::control::extract::{Parameters, PathName};

/// Channels in an answer, unless it is asked for another number.
const CHANNELS_DEFAULT: usize = 100;

/// A channel.
#[derive(Serialize, ToSchema)]
pub(super) struct Channel {
    /// Its name.
    channel: String,
    /// Connections that subscribe to it.
    subscribers: usize,
}

/// A part of the channels.
#[derive(Serialize, ToSchema)]
pub(super) struct Channels {
    /// In no order; perhaps none, though there are more.
    channels: Vec<Channel>,
    /// The `cursor` to go on with; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
}

/// Which part.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// Channels that the answer may have.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the answer before.
    #[param(pattern = "^[0-9]{1,5}-[0-9]{1,10}$")]
    cursor: Option<String>,
}

impl Part {
    fn limit(&self) -> Result<usize, ApiError> {
        let limit = self.limit.unwrap_or(CHANNELS_DEFAULT);
        let right = (1..=CHANNELS_MAX).contains(&limit);
        right.then_some(limit).ok_or_else(|| ApiError::Invalid(format!("`limit` is a number from 1 to {CHANNELS_MAX}")))
    }

    /// A core, and a place in its table.
    fn cursor(&self) -> Result<(usize, usize), ApiError> {
        let Some(cursor) = &self.cursor else { return Ok((0, 0)) };
        let parts = cursor.split_once('-').and_then(|(core, place)| Some((digits(core)?, digits(place)?)));
        parts.ok_or_else(|| ApiError::Invalid("`cursor` is not what an answer had as `next`".to_owned()))
    }
}

fn digits(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// List channels
///
/// Every channel that has a subscriber, a part at a time: go on with `next` until there is none. A channel that gains or
/// loses subscribers meanwhile may be missing or come twice.
#[utoipa::path(
    get,
    path = "/api/channels",
    operation_id = "list_channels",
    tag = "channels",
    params(Part),
    responses((status = 200, description = "A part of them.", body = Channels)),
    security(("bearer" = [])),
)]
pub(super) async fn list(
    State(api): State<ApiState>,
    Parameters(part): Parameters<Part>,
) -> Result<Json<Channels>, ApiError> {
    let (limit, (core, from)) = (part.limit()?, part.cursor()?);
    let Some(core) = ask::cores(&api.engine).nth(core) else {
        return Ok(Json(Channels { channels: Vec::new(), next: None }));
    };
    let listing = ask::channels(&api.engine, core, from, limit).await?;
    let names = listing.channels.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let counts = ask::counts(&api.engine, names.clone()).await?;
    let mut channels = Vec::new();
    for (index, channel) in names.into_iter().enumerate() {
        // One that a core before this one has too was listed there.
        let listed = counts[..core.index()].iter().any(|counts| counts[index] > 0);
        let subscribers = counts.iter().map(|counts| counts[index]).sum();
        if !listed && subscribers > 0 {
            channels.push(Channel { channel, subscribers });
        }
    }
    let next = match listing.next {
        Some(place) => Some(format!("{core}-{place}")),
        None => ask::cores(&api.engine).nth(core.index() + 1).map(|CoreId(core)| format!("{core}-0")),
    };
    Ok(Json(Channels { channels, next }))
}

/// Show a channel
///
/// One without subscribers has 0 of them: a channel is there for as long as somebody subscribes to it.
#[utoipa::path(
    get,
    path = "/api/channels/{channel}",
    operation_id = "show_channel",
    tag = "channels",
    params(("channel" = String, Path, description = "The channel's name")),
    responses((status = 200, description = "The channel.", body = Channel)),
    security(("bearer" = [])),
)]
pub(super) async fn show(State(api): State<ApiState>, PathName(channel): PathName) -> Result<Json<Channel>, ApiError> {
    let counts = ask::counts(&api.engine, vec![channel.clone()]).await?;
    Ok(Json(Channel { channel, subscribers: counts.iter().flatten().sum() }))
}
