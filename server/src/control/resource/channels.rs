//! Channels: who listens to what.
//!
//! Each core has a table of its own. A list is made a part at a time: the channels of a part of one core's table, each
//! with its subscribers on all cores, which are asked for just these names. So no core does more for a request than a
//! bounded look at its table, however many channels there are.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::part::{Part, Top, age_ms, cursor};
use crate::control::api::ApiState;
use crate::control::ask;
use crate::control::error::ApiError;
use crate::control::extract::{Parameters, PathName};

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
    let listed = ask::channel_part(&api.engine, core, from, limit).await;
    let listing = ask::unless_ended(&api.engine, listed)?.unwrap_or_default();
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
    Ok(Json(Channels { channels, next: cursor(&api.engine, core, listing.next) }))
}

/// The largest channels.
#[derive(Serialize, ToSchema)]
pub(super) struct TopChannels {
    /// The one with the most subscribers first.
    channels: Vec<Channel>,
    /// Milliseconds since they were counted.
    age_ms: u64,
}

/// List the channels with the most subscribers
///
/// All channels are looked at, a part at a time and at most once a second, and less often where that takes long. They
/// are found among those 100 of each core that have the most subscribers there, and counted on all cores.
#[utoipa::path(
    get,
    path = "/api/top-channels",
    operation_id = "list_top_channels",
    tag = "channels",
    params(Top),
    responses((status = 200, description = "The largest of them.", body = TopChannels)),
    security(("bearer" = [])),
)]
pub(super) async fn top(
    State(api): State<ApiState>,
    Parameters(top): Parameters<Top>,
) -> Result<Json<TopChannels>, ApiError> {
    let limit = top.limit()?;
    let (found, age) = api.surveys.top_channels(&api.engine).await?;
    let named = found.0.iter().take(limit);
    let channels = named.map(|(name, subscribers)| Channel { channel: name.clone(), subscribers: *subscribers });
    Ok(Json(TopChannels { channels: channels.collect(), age_ms: age_ms(age) }))
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
