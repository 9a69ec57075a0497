//! Why nobody is let in, in the words that clients know.

use crate::users::USER_NAME_RULE;

/// Close code of a connection whose authentication has failed, or has come to its end.
pub(crate) const CODE_AUTHENTICATION_FAILED: u16 = 4001;

/// The reason in that close frame.
pub(crate) const AUTHENTICATION_FAILED: &str = "Authentication failed";

/// What a client is told when its authentication has failed. It is told no more than this: what exactly is wrong with a
/// token stands in the log at level debug, and `crore check-token` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthFailure {
    /// `no_token`: there is no token where one may be.
    #[error("No authentication token provided")]
    NoToken,
    /// `invalid_token`: the token is not one of ours, or not for us.
    #[error("Invalid token")]
    Invalid,
    /// `token_expired`: the token was good until its `exp`.
    #[error("Token expired")]
    Expired,
    /// `auth_timeout`: no token has come within `auth.timeout`.
    #[error("Authentication timeout")]
    Timeout,
}

impl AuthFailure {
    /// The stable name of the reason.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::Invalid => "invalid_token",
            Self::Expired => "token_expired",
            Self::Timeout => "auth_timeout",
        }
    }
}

/// What is wrong with a token, for operators. It never holds a part of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("it has {bytes} bytes, more than `auth.token_bytes_max` = {most}")]
    TooLong { bytes: usize, most: usize },
    #[error("it is not three parts of base64url joined by dots, the first two of them JSON (RFC 7519, section 7.2)")]
    Malformed,
    #[error("its header marks fields as critical (`crit`), and none is understood here")]
    Critical,
    #[error("its algorithm is not one that `auth.algorithms` and the configured keys allow")]
    Algorithm,
    #[error("no key of its algorithm has its key identifier (`kid`)")]
    UnknownKey,
    #[error("its signature is not by one of the configured keys")]
    Signature,
    #[error("it has expired (`exp`)")]
    Expired,
    #[error("it is not valid yet (`nbf`); is a clock wrong?")]
    NotYet,
    #[error("its issuer (`iss`) is not one of `auth.issuers`")]
    Issuer,
    #[error("its audience (`aud`) is not one of `auth.audiences`")]
    Audience,
    #[error("its claim `{0}` is missing")]
    MissingClaim(String),
    #[error("its claim `{0}` has another form than it should")]
    ClaimForm(String),
    #[error("it names no user: its claim `{0}`, or `sub` if it has none, must be a whole number or {USER_NAME_RULE}")]
    NoUser(String),
    #[error("it is a token for a channel (`channel`), which says nothing of a connection")]
    ForChannel,
    #[error("it is no token for a channel: its claim `channel`, a text, is missing")]
    NoChannel,
    #[error("it is a token for another channel")]
    AnotherChannel,
    #[error("it is a token for another user")]
    AnotherUser,
}

impl Rejection {
    pub(crate) const fn failure(&self) -> AuthFailure {
        match self {
            Self::Expired => AuthFailure::Expired,
            _ => AuthFailure::Invalid,
        }
    }
}
