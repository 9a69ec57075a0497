//! Tokens for channels: JWTs with the claims `sub`, `channel` and `exp`, and `info` if there is more to say.
//!
//! Whoever decides about a channel signs such a token for one user and hands it to that user's client, which shows it
//! when it subscribes. The server asks nobody.

use std::sync::Arc;
use std::time::Duration;

use super::failure::Rejection;
use super::keys::KeyError;
use super::store::{KEY_SETTINGS, KeySettings, KeyStore, SUBSCRIPTION_KEY_SETTINGS, Waiting};
use super::verify::{VerifiedSubscription, Verifier};
use super::{Auth, Judgement};
use crate::config::AuthConfig;

/// What such tokens are checked by.
#[derive(Debug)]
pub(crate) struct SubscriptionTokens {
    verifier: Verifier,
    store: Arc<KeyStore>,
    pub(super) leeway_s: u64,
    /// How long before the end of a subscription its client is told.
    pub(super) notice_ms: u64,
    /// How long one may wait for its key.
    pub(super) timeout: Duration,
}

impl SubscriptionTokens {
    /// Reads their own keys, if they have any; else those count that connections are checked with. None: there are no keys.
    pub(crate) fn open(config: &AuthConfig, auth: Option<&Auth>) -> Result<Option<Self>, KeyError> {
        let (verifier, store) = if config.has_own_subscription_keys() {
            let own = config.of_subscriptions();
            (Verifier::new(&own), KeyStore::open(&own, &SUBSCRIPTION_KEY_SETTINGS)?)
        } else if let Some(auth) = auth {
            (auth.verifier.clone(), Arc::clone(&auth.store))
        } else {
            return Ok(None);
        };
        Ok(Some(Self {
            verifier,
            store,
            leeway_s: config.leeway.as_secs(),
            notice_ms: u64::try_from(config.subscription_notice.as_millis()).unwrap_or(u64::MAX),
            timeout: config.timeout,
        }))
    }

    /// Checks a token of a user for a channel; `last` if it has waited for keys already.
    pub(super) fn judge(&self, token: &str, user: &str, channel: &str, last: bool) -> Judgement<VerifiedSubscription> {
        let outcome = self.verifier.verify_subscription(&self.store.keys(), token);
        Judgement::of(outcome.and_then(|verified| for_both(verified, user, channel)), token, &self.store, last)
    }

    pub(super) fn is_over(&self, waiting: &Waiting) -> bool {
        self.store.is_over(waiting)
    }
}

/// A token is good for one user and one channel.
fn for_both(verified: VerifiedSubscription, user: &str, channel: &str) -> Result<VerifiedSubscription, Rejection> {
    if verified.channel != channel {
        Err(Rejection::AnotherChannel)
    } else if verified.user != user {
        Err(Rejection::AnotherUser)
    } else {
        Ok(verified)
    }
}

/// The settings that name the keys of such tokens, and the configuration that has the keys.
pub(super) fn key_settings(config: &AuthConfig) -> (AuthConfig, &'static KeySettings) {
    if config.has_own_subscription_keys() {
        (config.of_subscriptions(), &SUBSCRIPTION_KEY_SETTINGS)
    } else {
        (config.clone(), &KEY_SETTINGS)
    }
}

#[cfg(test)]
mod tests;
