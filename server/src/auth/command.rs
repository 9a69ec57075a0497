//! `crore gen-token` and `crore check-token`: tokens by the server's own configuration.

use std::fs;
use std::io::{Read as _, stdin};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use crore_engine::clock::unix_ms;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header, encode};
use serde_json::{Map, Value};

use super::failure::Rejection;
use super::fetch::Fetcher;
use super::keys::{KeyError, KeySet};
use super::store::{Files, KEY_SETTINGS, KeySettings};
use super::subscription::key_settings;
use super::verify::{CHANNEL_CLAIM, Verifier};
use crate::config::AuthConfig;
use crate::users::{USER_NAME_RULE, is_name, is_user_name};

/// Bytes of a token that is read from the standard input, whatever the configuration says of its length.
const INPUT_BYTES_MAX: u64 = 1024 * 1024;

/// Prints a token that the server accepts.
#[derive(Clone, Debug, Args)]
pub(crate) struct GenToken {
    /// The user
    #[arg(long, value_name = "NAME")]
    user: String,
    /// How long the token is good
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    expires: Duration,
    /// Makes it a token for a channel, which lets the user subscribe where `may_subscribe` says `token`; it does not say
    /// who a connection is
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// Another claim, as often as needed; a value that is JSON is taken as it is, any other as a text
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = parse_claim)]
    claims: Vec<(String, Value)>,
    /// File with a private key in PEM (PKCS #8), for keys of which the server has the public half [default: the secret
    /// of the configuration]
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// Algorithm [default: the first that fits the key]
    #[arg(long, value_name = "NAME", value_parser = parse_algorithm)]
    algorithm: Option<Algorithm>,
    /// Key identifier, for the header
    #[arg(long, value_name = "KID")]
    key_id: Option<String>,
}

/// Says whether the server would accept a token, and if not, why.
///
/// Exit code: 0 if it would, 1 if not, 2 if the configuration has no usable keys.
#[derive(Clone, Debug, Args)]
pub(crate) struct CheckToken {
    /// The token; without one, or with `-`, it is read from the standard input, where no other user can see it
    #[arg(value_name = "TOKEN", default_value = "-", hide_default_value = true)]
    token: String,
}

impl GenToken {
    pub(crate) fn run(self, config: &AuthConfig) -> ExitCode {
        match self.token(config) {
            Ok(token) => {
                println!("{token}");
                ExitCode::SUCCESS
            }
            Err(problem) => fail(&problem),
        }
    }

    fn token(self, config: &AuthConfig) -> Result<String, String> {
        // A connection without a user, which its identifier names, may have a token for a channel.
        let is_usable = if self.channel.is_some() { is_name } else { is_user_name };
        if !is_usable(&self.user) {
            return Err(format!("--user: a name has {USER_NAME_RULE}"));
        }
        let keys = if self.channel.is_some() { key_settings(config) } else { (config.clone(), &KEY_SETTINGS) };
        let (key, algorithm) = self.key(&keys.0, keys.1)?;
        let now_s = unix_ms() / 1000;
        let mut claims = Map::new();
        match self.channel {
            Some(channel) => {
                claims.insert("sub".to_owned(), self.user.into());
                claims.insert(CHANNEL_CLAIM.to_owned(), channel.into());
            }
            None => _ = claims.insert(config.user_claim.clone(), self.user.into()),
        }
        claims.insert("iat".to_owned(), now_s.into());
        claims.insert("exp".to_owned(), now_s.saturating_add(self.expires.as_secs()).into());
        for (claim, values) in [("iss", &config.issuers), ("aud", &config.audiences)] {
            if let Some(value) = values.first() {
                claims.insert(claim.to_owned(), value.clone().into());
            }
        }
        claims.extend(self.claims);
        let mut header = Header::new(algorithm);
        header.kid = self.key_id;
        encode(&header, &claims, &key).map_err(|error| format!("the key can't sign: {error}"))
    }

    fn key(&self, config: &AuthConfig, settings: &'static KeySettings) -> Result<(EncodingKey, Algorithm), String> {
        let key = match &self.private_key {
            Some(path) => {
                let pem = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
                private_key(&pem).ok_or_else(|| {
                    let path = path.display();
                    format!("{path}: no RSA, P-256 or Ed25519 key in PKCS #8; `openssl pkcs8 -topk8 -nodes -in {path}` makes that of others")
                })?
            }
            None => {
                // Judged by the server's own rules.
                let mut files = Files::new(config, settings);
                let secret = files.load().and_then(|_| files.secret()).map_err(|error| error.to_string())?;
                let secret = secret.ok_or_else(|| settings.missing_secret())?;
                EncodingKey::from_secret(secret.as_bytes())
            }
        };
        let fits = |algorithm: &Algorithm| algorithm.family() == key.family();
        let algorithm = match self.algorithm {
            Some(algorithm) => {
                Some(algorithm).filter(fits).ok_or_else(|| format!("--algorithm: the key is not for {algorithm:?}"))?
            }
            None => config.algorithms.iter().copied().find(fits).ok_or("`auth.algorithms` has none for this key")?,
        };
        Ok((key, algorithm))
    }
}

impl CheckToken {
    pub(crate) fn run(self, config: &AuthConfig) -> ExitCode {
        let token = match self.token.as_str() {
            "-" => {
                let mut token = String::new();
                match stdin().take(INPUT_BYTES_MAX).read_to_string(&mut token) {
                    Ok(_) => token.trim().to_owned(),
                    Err(error) => return fail(&format!("the standard input: {error}")),
                }
            }
            token => token.to_owned(),
        };
        for (part, name) in token.split('.').zip(["header", "claims"]) {
            match decoded(part) {
                Some(json) => println!("{name}  {json}"),
                None => println!("{name}  not JSON in base64url"),
            }
        }
        // Which keys count follows from what it is for.
        let is_for_channel =
            token.split('.').nth(1).and_then(decoded).is_some_and(|claims| claims.get(CHANNEL_CLAIM).is_some());
        let (config, settings) = if is_for_channel { key_settings(config) } else { (config.clone(), &KEY_SETTINGS) };
        let keys = match keys(&config, settings) {
            Ok(keys) if keys.len() > 0 => keys,
            Ok(_) => return fail("there is no key to check tokens with: set `auth.secret` or another of `auth`"),
            Err(error) => return fail(&error.to_string()),
        };
        let verifier = Verifier::new(&config);
        match account(&verifier, &keys, &token, is_for_channel) {
            Ok(account) => {
                println!("valid   {account}");
                ExitCode::SUCCESS
            }
            Err(rejection) => {
                println!("invalid {rejection}");
                ExitCode::from(1)
            }
        }
    }
}

/// All keys, those behind a URL among them.
fn keys(config: &AuthConfig, settings: &'static KeySettings) -> Result<KeySet, KeyError> {
    let keys = Files::new(config, settings).load()?;
    match &config.jwks_url {
        Some(url) => Ok(keys.joined(&Fetcher::new(url).fetch()?)),
        None => Ok(keys),
    }
}

/// What a good token says.
fn account(verifier: &Verifier, keys: &KeySet, token: &str, is_for_channel: bool) -> Result<String, Rejection> {
    if is_for_channel {
        let verified = verifier.verify_subscription(keys, token)?;
        let (user, channel) = (verified.user, verified.channel);
        return Ok(format!("user {user:?} may subscribe to {channel:?}, {}", duration(verified.expires_s)));
    }
    let verified = verifier.verify(keys, token)?;
    let mut account = format!("user {:?}, {}", verified.user, duration(verified.expires_s));
    if let Some(grants) = verified.grants {
        let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
        let roles = list(&mut grants.roles.iter().map(|role| format!("{role:?}")));
        let channels = list(&mut grants.channels.iter().map(|pattern| format!("{:?}", pattern.to_string())));
        account += &format!("; roles: {roles}; channels: {channels}");
    }
    Ok(account)
}

fn duration(expires_s: Option<NonZeroU32>) -> String {
    let Some(expires_s) = expires_s.map(|seconds| u64::from(seconds.get())) else {
        return "for ever".to_owned();
    };
    let until = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(expires_s));
    let left = humantime::format_duration(Duration::from_secs(expires_s.saturating_sub(unix_ms() / 1000)));
    format!("until {until}, for {left}")
}

fn private_key(pem: &[u8]) -> Option<EncodingKey> {
    let readers = [EncodingKey::from_rsa_pem, EncodingKey::from_ec_pem, EncodingKey::from_ed_pem];
    let key = readers.into_iter().find_map(|read| read(pem).ok())?;
    debug_assert!(key.family() != AlgorithmFamily::Hmac, "PEM holds no secrets");
    Some(key)
}

fn parse_algorithm(text: &str) -> Result<Algorithm, String> {
    let known = AuthConfig::default().algorithms.into_iter().find(|algorithm| format!("{algorithm:?}") == text);
    known.ok_or_else(|| "expected HS256, HS384, HS512, RS256, ES256 or EdDSA".to_owned())
}

fn parse_claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

fn decoded(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// What clap exits with for a flag that does not exist.
fn fail(problem: &str) -> ExitCode {
    eprintln!("crore: {problem}");
    ExitCode::from(2)
}
