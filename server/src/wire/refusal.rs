//! What the server does not do, with a stable code and a text for each.

use std::borrow::Cow;

use crore_engine::SubscribeError;

use crate::auth::AuthFailure;
use crate::channel::ChannelError;
use crate::control::Busy;

/// Why a message is answered with an error. The doc line's code is stable; clients may rely on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `invalid_json`: the text is not JSON.
    #[error("Invalid JSON")]
    InvalidJson,
    /// `invalid_json`: it is JSON by its grammar, and not all can read it: half a surrogate pair, or too large a number.
    #[error("Invalid JSON")]
    Unportable(&'static str),
    /// `invalid_message`: it is JSON, and no message.
    #[error("Invalid message")]
    InvalidMessage(&'static str),
    /// `invalid_channel`: the channel's name can't be used.
    #[error("Invalid message")]
    InvalidChannel(ChannelError),
    /// `batch_too_long`: the batch has more messages than it may; none of them is done.
    #[error("Invalid message")]
    BatchTooLong(usize),
    /// `message_too_long`: with what the server adds to it the message would be longer than its receivers have to take;
    /// nobody has been sent it.
    #[error("Message too long")]
    MessageTooLong(usize),
    /// `binary_unsupported`: the message is binary.
    #[error("Invalid message")]
    BinaryUnsupported,
    /// `unknown_type`: no handler is registered for the type.
    #[error("Unknown message type: {0}")]
    UnknownType(String),
    /// `unknown_method`: a request names a method that there is not.
    #[error("Unknown method: {0}")]
    UnknownMethod(String),
    /// `too_many_subscriptions`: the connection has as many as it may.
    #[error("Too many subscriptions")]
    TooManySubscriptions(u32),
    /// `too_many_connections`: the user has as many as it may; the connection is closed with 4029.
    #[error("Too many connections")]
    TooManyConnections(usize),
    /// `unauthenticated`: nothing is done before the client has shown a token.
    #[error("No authentication token provided")]
    Unauthenticated,
    /// `no_token`, `invalid_token`, `token_expired`, `auth_timeout`: the token is not accepted; one for a channel is
    /// `invalid_token` also where it is for another channel or another user.
    #[error("{0}")]
    Authentication(AuthFailure),
    /// `invalid_token`: the token is good, and another user's than the one whom the connection belongs to.
    #[error("Invalid token")]
    AnotherUser,
    /// `rate_limited`: the sender has sent too much of late; the connection may be closed with 4008.
    #[error("Rate limit exceeded")]
    RateLimited,
    /// `not_online`: the user has no open connection.
    #[error("User is not online")]
    NotOnline,
    /// `forbidden`: the configuration does not let clients do it, or not this one in this channel; `detail` names the
    /// setting.
    #[error("Forbidden")]
    Forbidden(&'static str),
    /// `busy`: the server has as much to do as it may; nothing has been done.
    #[error("Server busy, try again later")]
    Busy,
    /// `no_history`: nothing is kept of the channel.
    #[error("The channel has no history")]
    NoHistory,
    /// `no_presence`: it is not known who is in the channel.
    #[error("The channel has no presence")]
    NoPresence,
    /// `metadata_too_long`: what the client says of itself has more bytes than it may; it is not subscribed.
    #[error("Invalid message")]
    MetadataTooLong(usize),
    /// `cancelled`: the client has unsubscribed before the subscription began.
    #[error("Subscription was cancelled")]
    Cancelled,
    /// `overloaded`: as many messages of the connection wait as may, or as many bytes of messages on its core; this one
    /// is dropped.
    #[error("Server overloaded, please slow down")]
    Overloaded,
    /// `unavailable`: the backend that decides about it can't be asked, or gives no usable answer; nothing has been done.
    #[error("Service unavailable, try again later")]
    Unavailable,
    /// An error of a handler of your own.
    #[error("{error}")]
    Custom {
        /// Stable, in lower case with underscores.
        code: &'static str,
        /// For people.
        error: Cow<'static, str>,
    },
}

impl Refusal {
    /// The stable name of the reason.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidJson | Self::Unportable(_) => "invalid_json",
            Self::InvalidMessage(_) => "invalid_message",
            Self::InvalidChannel(_) => "invalid_channel",
            Self::BatchTooLong(_) => "batch_too_long",
            Self::MessageTooLong(_) => "message_too_long",
            Self::BinaryUnsupported => "binary_unsupported",
            Self::UnknownType(_) => "unknown_type",
            Self::UnknownMethod(_) => "unknown_method",
            Self::TooManySubscriptions(_) => "too_many_subscriptions",
            Self::TooManyConnections(_) => "too_many_connections",
            Self::Unauthenticated => "unauthenticated",
            Self::Authentication(failure) => failure.code(),
            Self::AnotherUser => "invalid_token",
            Self::RateLimited => "rate_limited",
            Self::NotOnline => "not_online",
            Self::Forbidden(_) => "forbidden",
            Self::Busy => "busy",
            Self::NoHistory => "no_history",
            Self::NoPresence => "no_presence",
            Self::MetadataTooLong(_) => "metadata_too_long",
            Self::Cancelled => "cancelled",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Custom { code, .. } => code,
        }
    }

    /// What to do about it, where the text does not say.
    #[must_use]
    pub fn detail(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::InvalidMessage(detail) | Self::Unportable(detail) | Self::Forbidden(detail) => Cow::Borrowed(detail),
            Self::InvalidChannel(error) => Cow::Owned(error.to_string()),
            Self::BinaryUnsupported => Cow::Borrowed("send JSON in a text message"),
            Self::BatchTooLong(most) => {
                Cow::Owned(format!("a batch may have {most} messages (`limits.batch_messages_max`)"))
            }
            Self::MessageTooLong(most) => Cow::Owned(format!(
                "what others are sent may have {most} bytes (`limits.message_bytes_max`), with `from`, `timestamp` and so on"
            )),
            Self::TooManySubscriptions(most) => {
                Cow::Owned(format!("a connection may have {most} (`limits.subscriptions_max`)"))
            }
            Self::TooManyConnections(most) => {
                Cow::Owned(format!("a user may have {most} connections (`limits.connections_per_user_max`)"))
            }
            Self::NoHistory => Cow::Borrowed("`history` in the rule of a channel (`[[channels]]`) gives it one"),
            Self::NoPresence => Cow::Borrowed("`presence` in the rule of a channel (`[[channels]]`) gives it one"),
            Self::MetadataTooLong(most) => {
                Cow::Owned(format!("`metadata` may have {most} bytes of JSON (`presence.metadata_bytes_max`)"))
            }
            Self::Unauthenticated => Cow::Borrowed("send {\"type\":\"auth\",\"token\":…} first"),
            Self::AnotherUser => Cow::Borrowed("a connection keeps its user: open another one"),
            _ => return None,
        })
    }
}

impl From<ChannelError> for Refusal {
    fn from(error: ChannelError) -> Self {
        Self::InvalidChannel(error)
    }
}

impl From<Busy> for Refusal {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

impl From<SubscribeError> for Refusal {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::TooMany(most) => Self::TooManySubscriptions(most),
            SubscribeError::NameTooLong(most) => Self::InvalidChannel(ChannelError::TooLong(most)),
        }
    }
}
