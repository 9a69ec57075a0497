//! Single connections: how they are ended.

use axum::Json;
use axum::extract::State;
use crore_engine::protocol::close::{CLOSE_REASON_BYTES_MAX, code, may_be_sent};
use crore_engine::{ConnectionId, EngineHandle};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};

use crate::control::api::{Api, ApiState};
use crate::control::ask;
use crate::control::error::ApiError;
use crate::control::extract::{Body, PathName};
use crate::users::connection_id;

/// How connections are closed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Disconnect {
    #[schema(schema_with = close_code, required = false)]
    #[serde(default = "normal", deserialize_with = "whole")]
    code: u16,
    /// Reason in the close frame, cut to 123 bytes of UTF-8.
    #[schema(max_length = 123, default = "")]
    #[serde(default)]
    reason: String,
}

const fn normal() -> u16 {
    code::NORMAL
}

/// A code as a schema has it, where 1000 and 1000.0 are the same integer (JSON Schema 2020-12, section 4.2.3).
fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    let number = f64::deserialize(from)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is cut off does not compare equal"
    )]
    let code = number as u16;
    let same = f64::from(code) == number;
    same.then_some(code).ok_or_else(|| D::Error::custom("`code` is a whole number"))
}

/// The codes that an endpoint may send (RFC 6455, section 7.4).
fn close_code() -> Schema {
    let range = |least: u16, most: u16| {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).maximum(Some(most)).build()
    };
    let codes = OneOfBuilder::new().description(Some("Close code (RFC 6455, section 7.4); 1000 if absent."));
    let ranges = [(1000, 1003), (1007, 1014), (3000, 4999)];
    ranges.into_iter().fold(codes, |codes, (least, most)| codes.item(range(least, most))).build().into()
}

/// What has come of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Disconnected {
    /// Connections that are closed.
    disconnected: usize,
}

impl Disconnect {
    /// Sends close frames.
    pub(super) fn send(&self, engine: &EngineHandle, to: &[ConnectionId]) -> Result<Disconnected, ApiError> {
        if !may_be_sent(self.code) {
            return Err(ApiError::Invalid(format!(
                "close code {} must not be sent (RFC 6455, section 7.4)",
                self.code
            )));
        }
        if self.reason.chars().count() > CLOSE_REASON_BYTES_MAX {
            return Err(ApiError::Invalid(format!("`reason` has more than {CLOSE_REASON_BYTES_MAX} characters")));
        }
        for connection in to {
            engine.close(*connection, self.code, &self.reason)?;
        }
        Ok(Disconnected { disconnected: to.len() })
    }
}

/// Close a connection
///
/// It gets a close frame. Before that leaves, the connection is its user's no more, as when all of a user's are closed.
#[utoipa::path(
    post,
    path = "/api/connections/{id}/disconnect",
    operation_id = "disconnect_connection",
    tag = "connections",
    params(("id" = String, Path, description = "The connection's identifier", example = "0-1-a2")),
    request_body = Disconnect,
    responses(
        (status = 200, description = "A close frame is on its way.", body = Disconnected),
        (status = 404, description = "There is no such connection.", body = crate::control::error::ErrorBody),
    ),
    security(("bearer" = [])),
)]
pub(super) async fn disconnect(
    State(api): State<ApiState>,
    PathName(id): PathName,
    Body(disconnect): Body<Disconnect>,
) -> Result<Json<Disconnected>, ApiError> {
    let id = find(&api, &id).await?;
    disconnect.send(&api.engine, &[id]).map(Json)
}

/// What has come of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Terminated {
    /// Connections that are ended.
    terminated: usize,
}

/// Ends connections at once.
pub(super) fn end(engine: &EngineHandle, connections: &[ConnectionId]) -> Result<Terminated, ApiError> {
    for connection in connections {
        engine.terminate(*connection)?;
    }
    Ok(Terminated { terminated: connections.len() })
}

/// Terminate a connection
///
/// Its TCP connection ends at once, without a close frame: what waits for it is dropped, and its client sees 1006. One that
/// has been disconnected and does not react ends by itself after `limits.close_timeout`.
#[utoipa::path(
    post,
    path = "/api/connections/{id}/terminate",
    operation_id = "terminate_connection",
    tag = "connections",
    params(("id" = String, Path, description = "The connection's identifier", example = "0-1-a2")),
    responses(
        (status = 200, description = "It ends.", body = Terminated),
        (status = 404, description = "There is no such connection.", body = crate::control::error::ErrorBody),
    ),
    security(("bearer" = [])),
)]
pub(super) async fn terminate(
    State(api): State<ApiState>,
    PathName(id): PathName,
) -> Result<Json<Terminated>, ApiError> {
    let id = find(&api, &id).await?;
    end(&api.engine, &[id]).map(Json)
}

/// The open connection of an identifier.
async fn find(api: &Api, id: &str) -> Result<ConnectionId, ApiError> {
    let id = connection_id(id).ok_or(ApiError::NoSuchConnection)?;
    let found = ask::summaries(&api.engine, &[id]).await?;
    if found.is_empty() { Err(ApiError::NoSuchConnection) } else { Ok(id) }
}
