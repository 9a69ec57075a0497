//! What the server API does not do: a status, and the same body as on the WebSocket.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use crore_engine::Overloaded;
use serde::Serialize;
use utoipa::ToSchema;

use crate::wire::Refusal;

/// Seconds after which to try again what was refused for want of room.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// Why a request is answered with an error.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// As on the WebSocket.
    #[error("{0}")]
    Refused(Refusal),
    /// `invalid_message`: the request does not have the form that the OpenAPI document describes.
    #[error("Invalid message")]
    Invalid(String),
    /// `unauthorized`: the key is missing or another one.
    #[error("Unauthorized")]
    Unauthorized,
    /// `not_found`: nothing is at this path.
    #[error("Not found")]
    NotFound,
    /// `no_such_connection`: there is no open connection of this identifier.
    #[error("No such connection")]
    NoSuchConnection,
    /// `method_not_allowed`: the path has other methods, named in `Allow`.
    #[error("Method not allowed")]
    MethodNotAllowed,
    /// `timeout`: the request did not come in time.
    #[error("Timeout")]
    Timeout,
    /// `too_large`: the body is longer than a message may be.
    #[error("Body too large")]
    TooLarge(usize),
    /// `unsupported_media_type`: the body is not declared as JSON.
    #[error("Unsupported media type")]
    UnsupportedMediaType,
    /// `stopping`: the server has nearly ended.
    #[error("Server is stopping")]
    Stopping,
}

/// The body of an error.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorBody {
    /// Stable, for programs.
    #[schema(example = "invalid_channel")]
    code: &'static str,
    /// For people.
    #[schema(example = "Invalid message")]
    error: String,
    /// What to do about it, where that is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
}

impl ApiError {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Refused(Refusal::Busy | Refusal::Overloaded | Refusal::Unavailable) | Self::Stopping => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Refused(Refusal::NotOnline | Refusal::NoHistory | Refusal::NoPresence)
            | Self::NotFound
            | Self::NoSuchConnection => StatusCode::NOT_FOUND,
            Self::Refused(Refusal::Forbidden(_)) => StatusCode::FORBIDDEN,
            Self::Refused(Refusal::MessageTooLong(_)) | Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Refused(_) | Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Invalid(_) => "invalid_message",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::NoSuchConnection => "no_such_connection",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Timeout => "timeout",
            Self::TooLarge(_) => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Stopping => "stopping",
        }
    }

    fn detail(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Refused(refusal) => return refusal.detail(),
            Self::Invalid(detail) => Cow::Borrowed(detail),
            Self::Unauthorized => {
                Cow::Borrowed("send `Authorization: Bearer KEY` or `X-API-Key: KEY`, the key of `api.key`")
            }
            Self::NotFound => Cow::Borrowed("GET /api/openapi.json says what there is"),
            Self::TooLarge(most) => Cow::Owned(format!("a body may have {most} bytes (`limits.message_bytes_max`)")),
            Self::UnsupportedMediaType => Cow::Borrowed("send JSON with `Content-Type: application/json`"),
            Self::NoSuchConnection | Self::MethodNotAllowed | Self::Timeout | Self::Stopping => return None,
        })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let detail = self.detail().map(Cow::into_owned);
        let body = ErrorBody { code: self.code(), error: self.to_string(), detail };
        let status = self.status();
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER_S);
            }
            _ => {}
        }
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A core does not take what it is told: the others have it.
impl From<Overloaded> for ApiError {
    fn from(_: Overloaded) -> Self {
        Self::Refused(Refusal::Busy)
    }
}
