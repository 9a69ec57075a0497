//! Who a connection is: tokens (JWT, RFC 7519), where they come from, the keys that they are checked with, and which
//! origins and subprotocols a client may have.
//!
//! A token is checked once, on the connection's own core, when it is shown: with the request or in a message. What is
//! kept of it is the user's name and the time at which it ends. `auth.mode` says whether there must be one.
//!
//! | | |
//! |---|---|
//! | `source` | where in a request a token may be |
//! | `verify` | from a token to a user |
//! | `keys`, `store`, `fetch` | the keys, the thread that reads and fetches them, its HTTP client |
//! | `origin` | the allow-list of origins |
//! | `door` | what a request goes through |
//! | `login` | what a connection goes through: the first message, a refresh, the end of a token |
//! | `subscription` | tokens for channels |
//! | `loss` | what a token takes away that is shown after another one |
//! | `permits` | what a connection has shown of them: from the first one over refreshes to the end |
//! | `command` | `crore gen-token` and `crore check-token` |

mod command;
mod door;
mod failure;
mod fetch;
mod keys;
mod login;
mod loss;
#[cfg(test)]
mod mutation;
mod origin;
mod permits;
mod source;
mod store;
mod subscription;
mod verify;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crore_engine::Request;

pub(crate) use self::command::{CheckToken, GenToken};
pub(crate) use self::door::Door;
pub(crate) use self::failure::{AUTHENTICATION_FAILED, CODE_AUTHENTICATION_FAILED};
pub(crate) use self::fetch::check_url;
pub(crate) use self::login::{Login, authenticate, on_wake, start};
pub(crate) use self::permits::{Admission, Permits, admit, give_up, wake_permits};
pub(crate) use self::subscription::SubscriptionTokens;

pub(crate) use self::source::SUBPROTOCOL_PREFIX;
pub(crate) use self::verify::{CHANNEL_CLAIM, SUBJECT_CLAIM};

pub use self::failure::AuthFailure;
pub use self::keys::KeyError;
pub use self::origin::{OriginPattern, OriginRejection};
pub use self::source::TokenSource;

use self::failure::Rejection;
use self::store::{KEY_SETTINGS, KeyStore, Waiting};
use self::verify::{Verified, Verifier, is_by_public_key};
use crate::config::{AuthConfig, AuthMode};

/// Type of the message that brings a token.
pub(crate) const LOGIN_TYPE: &str = "auth";

/// Bytes of a message with a token beside the token.
const ENVELOPE_BYTES_MAX: usize = 512;

/// Authentication as it is configured; there is none where `auth.mode` is `off`.
#[derive(Debug)]
pub(crate) struct Auth {
    verifier: Verifier,
    store: Arc<KeyStore>,
    sources: Vec<TokenSource>,
    cookie: String,
    pub(crate) required: bool,
    timeout: Duration,
    leeway_s: u64,
    token_bytes_max: usize,
}

/// What can be said of a token at once.
#[derive(Debug)]
enum Judgement<T> {
    Good(T),
    Bad(AuthFailure),
    /// Its key is not known, and may be among those that are fetched next.
    Unknown(Waiting),
}

impl Auth {
    /// Reads the keys.
    pub(crate) fn open(config: &AuthConfig) -> Result<Option<Self>, KeyError> {
        if config.mode == AuthMode::Off {
            return Ok(None);
        }
        Ok(Some(Self {
            verifier: Verifier::new(config),
            store: KeyStore::open(config, &KEY_SETTINGS)?,
            sources: config.sources.clone(),
            cookie: config.cookie.clone(),
            required: config.mode == AuthMode::Required,
            timeout: config.timeout,
            leeway_s: config.leeway.as_secs(),
            token_bytes_max: config.token_bytes_max,
        }))
    }

    /// Bytes of a message that somebody may send who has not shown a token.
    pub(crate) const fn message_bytes_max(&self) -> usize {
        self.token_bytes_max.saturating_add(ENVELOPE_BYTES_MAX)
    }

    /// Tokens that were refused because as many waited for keys as may.
    pub(crate) fn crowded_out(&self) -> u64 {
        self.store.crowded_out()
    }

    /// Whether a token may come in a message.
    fn takes_messages(&self) -> bool {
        self.sources.contains(&TokenSource::Message)
    }

    fn token<'r>(&self, request: &Request<'r>) -> Option<Cow<'r, str>> {
        source::find(request, &self.sources, &self.cookie)
    }

    /// Checks a token; `last` if it has waited for keys already.
    fn judge(&self, token: &str, last: bool) -> Judgement<Verified> {
        Judgement::of(self.verifier.verify(&self.store.keys(), token), token, &self.store, last)
    }
}

impl<T> Judgement<T> {
    fn of(outcome: Result<T, Rejection>, token: &str, store: &KeyStore, last: bool) -> Self {
        let rejection = match outcome {
            Ok(verified) => return Self::Good(verified),
            Err(rejection) => rejection,
        };
        // An issuer may name its keys by nothing, or the next one as the last.
        if matches!(rejection, Rejection::UnknownKey | Rejection::Signature)
            && !last
            && is_by_public_key(token)
            && let Some(waiting) = store.wait()
        {
            return Self::Unknown(waiting);
        }
        tracing::debug!(reason = %rejection, "token refused");
        Self::Bad(rejection.failure())
    }
}
