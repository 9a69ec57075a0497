//! To the subscribers of a channel.

use axum::Json;
use axum::extract::State;
use crore_engine::Publication;
use crore_engine::clock::unix_ms;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::channel::ChannelName;
use crate::control::api::ApiState;
use crate::control::ask;
use crate::control::error::ApiError;
use crate::control::extract::Body;
use crate::history::Position;
use crate::home::{self, HomeNotice};
use crate::users::connection_id;
use crate::wire::{Envelope, PLACE_BYTES_MAX, Refusal};

/// What is published, and where.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Publish {
    /// Name of the channel: as a client writes it, at most `limits.channel_bytes_max` bytes of UTF-8.
    #[schema(value_type = String, min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$", example = "news")]
    channel: Box<RawValue>,
    #[schema(schema_with = super::any_value)]
    data: Box<RawValue>,
    /// A connection that does not receive it: that of the user whose request the backend works on, for example.
    #[schema(
        pattern = r"^(0|[1-9a-f][0-9a-f]{0,3})-(0|[1-9a-f][0-9a-f]{0,5})-(0|[1-9a-f][0-9a-f]{0,5})$",
        example = "0-1-a2"
    )]
    exclude: Option<String>,
}

/// What has come of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Published {
    /// True: it is on its way to whoever subscribes to the channel.
    published: bool,
    /// Where it is among the messages of the channel, from 1; absent where the channel has no history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    offset: Option<u64>,
    /// Names the count that `offset` belongs to; absent where the channel has no history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    epoch: Option<String>,
}

/// Publish to a channel
///
/// Every subscriber receives `{"type":"message","channel":…,"data":…,"timestamp":…}`, without `from`; with `offset` and
/// `epoch` where the channel has a history. That there are no subscribers is no error.
#[utoipa::path(
    post,
    path = "/api/publish",
    tag = "messages",
    request_body = Publish,
    responses((status = 200, description = "On its way.", body = Published)),
    security(("bearer" = [])),
)]
pub(super) async fn publish(
    State(api): State<ApiState>,
    Body(Publish { channel, data, exclude }): Body<Publish>,
) -> Result<Json<Published>, ApiError> {
    let shared = api.shared()?;
    let channel_bytes_max = shared.with_policy(|policy| policy.decoder.channel_bytes_max);
    let channel = ChannelName::parse(channel.get(), channel_bytes_max).map_err(Refusal::from)?;
    let except = exclude.map(|id| connection_id(&id).ok_or_else(no_identifier)).transpose()?;
    let mut text = String::new();
    let envelope = Envelope::start(&mut text, "message").channel(&channel).data(data.get());
    // What is not left to the home is published before the cores can agree on other rules.
    let for_home = shared.with_policy(|policy| -> Result<_, ApiError> {
        let overflow = policy.channels.overflow(channel.name(), Some(data.get()));
        let publication = Publication { except, overflow };
        if policy.has_home(channel.name(), &policy.channels.options(channel.name())) {
            let opened = envelope.leave_open();
            policy.fits(opened.len() + PLACE_BYTES_MAX)?;
            return Ok(Some((Box::from(opened), publication)));
        }
        let text = envelope.finish(unix_ms());
        policy.fits(text.len())?;
        api.engine.publish_with(channel.name(), text, publication)?;
        Ok(None)
    })?;
    let Some((opened, publication)) = for_home else {
        return Ok(Json(Published { published: true, offset: None, epoch: None }));
    };
    let name = channel.name().into();
    let publish = |asker| home::Publish { channel: name, opened, publication, acknowledge: Some(asker) };
    let home = shared.home_of(channel.name());
    let Position { offset, epoch } = ask::home(&api.engine, home, |asker| HomeNotice::Publish(publish(asker))).await?;
    Ok(Json(Published { published: true, offset: Some(offset), epoch: Some(epoch.to_string()) }))
}

fn no_identifier() -> ApiError {
    ApiError::Invalid("`exclude` is no identifier of a connection".to_owned())
}
