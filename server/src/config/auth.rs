//! Section `auth`: tokens, where they come from, and the keys that they are checked with.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::HttpConfig;
use super::value::{SettingValue, Value, quoted};
use crate::auth::{CHANNEL_CLAIM, OriginPattern, SUBJECT_CLAIM, TokenSource, check_url};

/// The longest leeway: a token that has been good for an hour too long was never meant to have an end.
const LEEWAY_MAX: Duration = Duration::from_secs(3600);

/// Claims that mean the same in every token, and so nothing else: RFC 7519, section 4.1, and that of tokens for channels.
const RESERVED_CLAIMS: [(&str, &str); 6] = [
    (CHANNEL_CLAIM, "makes a token one for a channel, which says nothing of a connection"),
    ("exp", "is when a token ends"),
    ("nbf", "is when a token begins"),
    ("iat", "is when a token was made"),
    ("iss", "is who has made a token"),
    ("aud", "is whom a token is for"),
];

/// Algorithms that tokens are checked by.
const ALGORITHMS: [Algorithm; 6] =
    [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// Section `auth`.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Whether clients say who they are.
    pub mode: AuthMode,
    /// Where a token may be.
    pub sources: Vec<TokenSource>,
    /// The secret that tokens are signed with (HS256, HS384, HS512), 32 bytes or more.
    pub secret: Option<Secret>,
    /// A file with the secret, without the line feed at its end.
    pub secret_file: Option<PathBuf>,
    /// A file with public keys in PEM (RS256, ES256, EdDSA).
    pub public_key_file: Option<PathBuf>,
    /// A file with a JWK set (RFC 7517).
    pub jwks_file: Option<PathBuf>,
    /// Where a JWK set can be fetched, by HTTPS unless it is on this machine.
    pub jwks_url: Option<String>,
    /// How often it is fetched.
    pub jwks_refresh: Duration,
    /// How soon after a fetch a token that no key verifies, or a fetch that has failed, may cause another.
    pub jwks_refresh_min: Duration,
    /// Algorithms that are accepted; each key takes those only that it is for.
    pub algorithms: Vec<Algorithm>,
    /// Values of `iss` that are accepted.
    pub issuers: Vec<String>,
    /// Values of `aud` that are accepted.
    pub audiences: Vec<String>,
    /// The claim that names the user; `sub` where a token does not have it.
    pub user_claim: String,
    /// The claim that holds what presence shows beside the user, any JSON value.
    pub metadata_claim: Option<String>,
    /// Whether a token must have an end, `exp`.
    pub require_expiry: bool,
    /// How far clocks may differ: `exp` and `nbf` are stretched by it. Whole seconds.
    pub leeway: Duration,
    /// How long a connection may stay open without a token, where one is required.
    pub timeout: Duration,
    /// Bytes of a token.
    pub token_bytes_max: usize,
    /// The cookie that holds a token.
    pub cookie: String,
    /// The claim that lists channels of which the user is a member.
    pub channels_claim: String,
    /// The claim that lists the user's roles.
    pub roles_claim: String,
    /// The secret that tokens for channels are signed with, if they have keys of their own.
    pub subscription_secret: Option<Secret>,
    /// A file with that secret.
    pub subscription_secret_file: Option<PathBuf>,
    /// A file with public keys in PEM, for such tokens.
    pub subscription_public_key_file: Option<PathBuf>,
    /// How long before its end a client is told of a subscription that ends.
    pub subscription_notice: Duration,
}

/// Whether clients say who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Tokens are not looked at.
    Off,
    /// A client may show a token. A bad one is refused, none is not.
    Optional,
    /// Nothing can be done without a token.
    Required,
}

/// A text that no log and no debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        use TokenSource::{Bearer, Message, Query, Subprotocol};
        Self {
            mode: AuthMode::Off,
            sources: vec![Bearer, Query, Subprotocol, Message],
            secret: None,
            secret_file: None,
            public_key_file: None,
            jwks_file: None,
            jwks_url: None,
            jwks_refresh: Duration::from_secs(600),
            jwks_refresh_min: Duration::from_secs(3),
            algorithms: ALGORITHMS.to_vec(),
            issuers: Vec::new(),
            audiences: Vec::new(),
            user_claim: "user_id".to_owned(),
            metadata_claim: None,
            require_expiry: true,
            leeway: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            token_bytes_max: 4096,
            cookie: "token".to_owned(),
            channels_claim: "channels".to_owned(),
            roles_claim: "roles".to_owned(),
            subscription_secret: None,
            subscription_secret_file: None,
            subscription_public_key_file: None,
            subscription_notice: Duration::from_secs(10),
        }
    }
}

impl AuthConfig {
    pub(crate) const fn has_secret(&self) -> bool {
        self.secret.is_some() || self.secret_file.is_some()
    }

    pub(crate) const fn has_keys(&self) -> bool {
        self.has_secret() || self.public_key_file.is_some() || self.jwks_file.is_some() || self.jwks_url.is_some()
    }

    /// Whether tokens for channels have keys of their own.
    pub(crate) const fn has_own_subscription_keys(&self) -> bool {
        self.subscription_secret.is_some()
            || self.subscription_secret_file.is_some()
            || self.subscription_public_key_file.is_some()
    }

    /// Whether tokens for channels can be checked: with keys of their own, or with the others.
    pub(crate) fn has_subscription_keys(&self) -> bool {
        self.has_own_subscription_keys() || self.mode != AuthMode::Off
    }

    /// What tokens for channels are checked by that have keys of their own: all the same but the keys.
    pub(crate) fn of_subscriptions(&self) -> Self {
        Self {
            secret: self.subscription_secret.clone(),
            secret_file: self.subscription_secret_file.clone(),
            public_key_file: self.subscription_public_key_file.clone(),
            jwks_file: None,
            jwks_url: None,
            ..self.clone()
        }
    }

    /// Whether the settings go together, as far as that can be said without reading a key.
    ///
    /// # Errors
    /// The setting that is wrong and what to do about it.
    pub(crate) fn check(&self, http: &HttpConfig, trust_user_header: bool) -> Result<(), (&'static str, String)> {
        let problem = |setting, problem: &str| Err((setting, problem.to_owned()));
        if let Some(url) = &self.jwks_url {
            check_url(url).map_err(|problem| ("auth.jwks_url", problem))?;
        }
        if self.leeway > LEEWAY_MAX {
            return problem("auth.leeway", "more than an hour makes `exp` meaningless; a few seconds do");
        }
        if self.jwks_refresh_min > self.jwks_refresh {
            return problem("auth.jwks_refresh_min", "must not be longer than `auth.jwks_refresh`");
        }
        self.check_claims()?;
        if self.mode == AuthMode::Off {
            return Ok(());
        }
        if !self.has_keys() {
            return problem(
                "auth.mode",
                "there is no key to check tokens with: set `auth.secret`, `auth.secret_file`, `auth.public_key_file`, \
                 `auth.jwks_file` or `auth.jwks_url`",
            );
        }
        if self.sources.is_empty() {
            return problem(
                "auth.sources",
                "a token can't come from nowhere: name bearer, query, subprotocol, cookie or message",
            );
        }
        if self.algorithms.is_empty() {
            return problem("auth.algorithms", "name at least one");
        }
        if trust_user_header {
            return problem(
                "identity.trust_user_header",
                "who the user is comes from the header or from a token, not from both: set it to false, or `auth.mode` to \"off\"",
            );
        }
        let lists_origins = !http.allowed_origins.is_empty() && !http.allowed_origins.contains(&OriginPattern::Any);
        if self.sources.contains(&TokenSource::Cookie) && !lists_origins {
            return problem(
                "auth.sources",
                "a browser sends cookies whatever page asks, so that any page could act for its visitor: list your own \
                 in `http.allowed_origins`, without \"*\", or leave out \"cookie\"",
            );
        }
        Ok(())
    }
}

impl AuthConfig {
    /// What is allowed and may still not be meant.
    pub(super) fn doubts(&self) -> Option<String> {
        let is_late = self.mode != AuthMode::Off && self.jwks_url.is_some() && self.jwks_refresh_min >= self.timeout;
        is_late.then(|| {
            "`auth.jwks_refresh_min`: a token whose key is new waits no longer than `auth.timeout` for the next fetch, and \
             this may be later: make it shorter"
                .to_owned()
        })
    }

    /// Whether the claims that are named here mean nothing else already, each of them one thing.
    fn check_claims(&self) -> Result<(), (&'static str, String)> {
        let named = [
            ("auth.user_claim", Some(&self.user_claim)),
            ("auth.channels_claim", Some(&self.channels_claim)),
            ("auth.roles_claim", Some(&self.roles_claim)),
            ("auth.metadata_claim", self.metadata_claim.as_ref()),
        ];
        for (setting, claim) in named {
            let Some(claim) = claim else { continue };
            if let Some((_, meaning)) = RESERVED_CLAIMS.iter().find(|(reserved, _)| reserved == claim) {
                return Err((setting, format!("`{claim}` {meaning}: name another claim")));
            }
        }
        // What presence shows of a token gives nobody a right.
        let [user, channels, roles, _] = named;
        for (one, other) in [(channels, user), (roles, user), (roles, channels)] {
            if one.1 == other.1 {
                return Err((one.0, format!("is the same as `{}`: name another claim", other.0)));
            }
        }
        for (setting, claim) in [channels, roles] {
            if claim.is_some_and(|claim| claim == SUBJECT_CLAIM) {
                let problem = "`sub` names the user where a token has no `auth.user_claim`: name another claim";
                return Err((setting, problem.to_owned()));
            }
        }
        Ok(())
    }
}

impl SettingValue for Secret {
    fn expected() -> Cow<'static, str> {
        "a string".into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        String::from_value(value).map(Self)
    }

    /// Two secrets can be told apart by it, and nothing else.
    fn to_toml(&self) -> Option<String> {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Some(quoted(&format!("hidden, {:016x}", HASHER.hash_one(&self.0))))
    }
}

/// A duration that may be no time at all.
pub(super) struct MaybeZero(pub(super) Duration);

impl SettingValue for MaybeZero {
    fn expected() -> Cow<'static, str> {
        "a duration with its unit, such as \"5s\", or \"0s\"".into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let expected = Self::expected();
        let duration = humantime::parse_duration(value.text(&expected)?);
        duration.map(Self).map_err(|error| format!("expected {expected}: {error}"))
    }

    fn to_toml(&self) -> Option<String> {
        Some(quoted(&humantime::format_duration(self.0).to_string()))
    }
}

impl SettingValue for OriginPattern {
    fn expected() -> Cow<'static, str> {
        "an origin such as \"https://example.com\" or \"https://*.example.com\", or \"*\"".into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        value.text(&Self::expected())?.parse()
    }

    fn to_toml(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn required() -> Config {
        let mut config = Config::default();
        config.auth.mode = AuthMode::Required;
        config.auth.secret = Some(Secret::new("s".repeat(32)));
        config
    }

    fn problem(config: &Config) -> (&'static str, String) {
        config.auth.check(&config.http, config.identity.trust_user_header).unwrap_err()
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_what_to_do() {
        let fine = required();
        assert_eq!(fine.auth.check(&fine.http, false), Ok(()));
        let mut config = required();
        config.auth.secret = None;
        assert!(problem(&config).1.contains("`auth.jwks_url`"));
        let mut config = required();
        config.identity.trust_user_header = true;
        assert_eq!(problem(&config).0, "identity.trust_user_header");
        let mut config = required();
        config.auth.jwks_url = Some("http://example.com/".to_owned());
        assert!(problem(&config).1.contains("https://"));
        let mut config = required();
        config.auth.leeway = Duration::from_secs(4000);
        assert_eq!(problem(&config).0, "auth.leeway");
        let mut config = required();
        config.auth.sources.clear();
        assert_eq!(problem(&config).0, "auth.sources");
    }

    // capability: 53 64
    #[test]
    fn a_claim_means_one_thing() {
        type Put = fn(&mut AuthConfig, &str);
        let puts: [(&str, Put); 4] = [
            ("auth.user_claim", |auth, claim| auth.user_claim = claim.to_owned()),
            ("auth.channels_claim", |auth, claim| auth.channels_claim = claim.to_owned()),
            ("auth.roles_claim", |auth, claim| auth.roles_claim = claim.to_owned()),
            ("auth.metadata_claim", |auth, claim| auth.metadata_claim = Some(claim.to_owned())),
        ];
        let with = |put: Put, claim: &str| {
            let mut config = required();
            put(&mut config.auth, claim);
            config
        };
        for (setting, put) in puts {
            for reserved in ["channel", "exp", "nbf", "iat", "iss", "aud"] {
                let (key, text) = problem(&with(put, reserved));
                assert_eq!(key, setting);
                assert!(text.starts_with(&format!("`{reserved}` ")) && text.ends_with("name another claim"), "{text}");
            }
            let other = with(put, "other");
            assert_eq!(other.auth.check(&other.http, false), Ok(()));
            // Nor where tokens for channels are all that is looked at.
            let mut config = with(put, "channel");
            config.auth.mode = AuthMode::Off;
            assert_eq!(problem(&config).0, setting);
        }
        let [(_, user), (_, channels), (_, roles), (_, metadata)] = puts;
        assert_eq!(problem(&with(channels, "user_id")).0, "auth.channels_claim");
        assert_eq!(problem(&with(roles, "user_id")).0, "auth.roles_claim");
        assert!(problem(&with(user, "roles")).1.contains("`auth.user_claim`"));
        assert!(problem(&with(roles, "channels")).1.contains("`auth.channels_claim`"));
        assert!(problem(&with(roles, "sub")).1.contains("`sub` names the user"));
        for fine in [with(user, "sub"), with(metadata, "roles"), with(metadata, "sub")] {
            assert_eq!(fine.auth.check(&fine.http, false), Ok(()));
        }
    }

    // capability: 56 63
    #[test]
    fn a_cookie_needs_a_list_of_origins() {
        let mut config = required();
        config.auth.sources = vec![TokenSource::Cookie];
        assert!(problem(&config).1.contains("`http.allowed_origins`"));
        config.http.allowed_origins = vec![OriginPattern::Any];
        assert!(problem(&config).1.contains("`http.allowed_origins`"));
        config.http.allowed_origins = vec!["https://example.com".parse().unwrap()];
        assert_eq!(config.auth.check(&config.http, false), Ok(()));
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert!(!format!("{:?}", required()).contains("sss"));
        let toml = |secret: &str| Secret::new(secret.to_owned()).to_toml();
        assert!(!toml("hunter2").unwrap().contains("hunter"));
        assert!(toml("a") == toml("a") && toml("a") != toml("b"), "a change is seen");
    }
}
