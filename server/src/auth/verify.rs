//! From a token to a user, or to a subscription: signature, time, issuer and audience.

use std::num::NonZeroU32;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, AlgorithmFamily, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::failure::Rejection;
use super::keys::KeySet;
use crate::channel::{Grants, Pattern};
use crate::config::AuthConfig;
use crate::users::{is_name, is_user_name};

/// The claim that makes a token one for a channel.
pub(crate) const CHANNEL_CLAIM: &str = "channel";

/// The claim that names the user where a token has no other one for it (RFC 7519, section 4.1.2).
pub(crate) const SUBJECT_CLAIM: &str = "sub";

/// The claim of such a token whose value goes with the subscription.
const INFO_CLAIM: &str = "info";

/// The rules that tokens are checked by.
#[derive(Clone, Debug)]
pub(crate) struct Verifier {
    /// For each algorithm that the configured keys can have: the library wants to be told one at a time.
    rules: Vec<(Algorithm, Validation)>,
    user_claim: String,
    channels_claim: String,
    roles_claim: String,
    metadata_claim: Option<String>,
    token_bytes_max: usize,
}

/// Who has shown a good token, and for how long it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) user: String,
    /// `exp`, in seconds since the Unix epoch; `None` for a token without an end.
    pub(crate) expires_s: Option<NonZeroU32>,
    /// What it says of channels, if anything.
    pub(crate) grants: Option<Box<Grants>>,
    /// What presence shows of it, as JSON.
    pub(crate) metadata: Option<Arc<str>>,
}

/// What a good token for a channel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VerifiedSubscription {
    pub(crate) user: String,
    pub(crate) channel: String,
    /// `exp`, in seconds since the Unix epoch; `None` for a token without an end.
    pub(crate) expires_s: Option<NonZeroU32>,
    /// `info` as JSON, if there is any.
    pub(crate) info: Option<Box<str>>,
}

impl Verifier {
    pub(crate) fn new(config: &AuthConfig) -> Self {
        let takes = |algorithm: &Algorithm| match algorithm.family() {
            AlgorithmFamily::Hmac => config.has_secret() || config.jwks_file.is_some(),
            _ => config.public_key_file.is_some() || config.jwks_file.is_some() || config.jwks_url.is_some(),
        };
        let rules = config.algorithms.iter().copied().filter(takes);
        Self {
            rules: rules.map(|algorithm| (algorithm, validation(config, algorithm))).collect(),
            user_claim: config.user_claim.clone(),
            channels_claim: config.channels_claim.clone(),
            roles_claim: config.roles_claim.clone(),
            metadata_claim: config.metadata_claim.clone(),
            token_bytes_max: config.token_bytes_max,
        }
    }

    /// The user of a token, if it is good.
    ///
    /// # Errors
    /// The first thing that is wrong. [`Rejection::Expired`] is said of genuine tokens alone.
    pub(crate) fn verify(&self, keys: &KeySet, token: &str) -> Result<Verified, Rejection> {
        let claims = self.claims(keys, token)?;
        // Else whoever is given a token for one channel could do all that its user may.
        if claims.contains_key(CHANNEL_CLAIM) {
            return Err(Rejection::ForChannel);
        }
        let metadata = self.metadata_claim.as_ref().and_then(|claim| claims.get(claim));
        Ok(Verified {
            user: self.user(&claims, is_user_name)?,
            expires_s: end(&claims),
            grants: self.grants(&claims),
            metadata: metadata.map(|metadata| metadata.to_string().into()),
        })
    }

    /// The subscription that a token is for, if it is good.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub(crate) fn verify_subscription(&self, keys: &KeySet, token: &str) -> Result<VerifiedSubscription, Rejection> {
        let claims = self.claims(keys, token)?;
        let channel = claims.get(CHANNEL_CLAIM).and_then(Value::as_str).ok_or(Rejection::NoChannel)?;
        let info = claims.get(INFO_CLAIM).filter(|info| !info.is_null());
        Ok(VerifiedSubscription {
            // A connection without a user may have one as well, and is called by its identifier.
            user: self.user(&claims, is_name)?,
            channel: channel.to_owned(),
            expires_s: end(&claims),
            info: info.map(|info| info.to_string().into()),
        })
    }

    fn claims(&self, keys: &KeySet, token: &str) -> Result<Map<String, Value>, Rejection> {
        if token.len() > self.token_bytes_max {
            return Err(Rejection::TooLong { bytes: token.len(), most: self.token_bytes_max });
        }
        let header = decode_header(token).map_err(|_| Rejection::Malformed)?;
        // RFC 7515, section 4.1.11: what is critical and not understood invalidates the token.
        if header.crit.is_some() {
            return Err(Rejection::Critical);
        }
        let rule = self.rules.iter().find(|(algorithm, _)| *algorithm == header.alg);
        let (algorithm, validation) = rule.ok_or(Rejection::Algorithm)?;
        let mut outcome = Err(Rejection::UnknownKey);
        for key in keys.candidates(*algorithm, header.kid.as_deref()) {
            outcome = match decode::<Map<String, Value>>(token, key, validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) => Err(rejection(error.into_kind())),
            };
            if !matches!(outcome, Err(Rejection::Signature)) {
                return outcome;
            }
        }
        outcome
    }

    fn user(&self, claims: &Map<String, Value>, is_usable: fn(&str) -> bool) -> Result<String, Rejection> {
        // A claim that is there and names nobody must not make somebody else the user.
        let claim = claims.get(&self.user_claim).or_else(|| claims.get(SUBJECT_CLAIM));
        let name = claim.and_then(name).filter(|name| is_usable(name));
        name.ok_or_else(|| Rejection::NoUser(self.user_claim.clone()))
    }

    /// What is no list of texts, or no pattern, grants nothing.
    fn grants(&self, claims: &Map<String, Value>) -> Option<Box<Grants>> {
        let channels = texts(claims.get(&self.channels_claim)).filter_map(|text| text.parse::<Pattern>().ok());
        let grants = Grants {
            channels: channels.filter(|pattern| !pattern.names_user()).collect(),
            roles: texts(claims.get(&self.roles_claim)).map(Into::into).collect(),
        };
        (grants != Grants::default()).then(|| Box::new(grants))
    }
}

/// The texts of a list, or the one that stands in its place.
fn texts(claim: Option<&Value>) -> impl Iterator<Item = &str> {
    let items = match claim {
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    items.iter().filter_map(Value::as_str)
}

/// Whether a token is, by what it says, signed by a key whose other half is public, as those of fetched sets are.
pub(super) fn is_by_public_key(token: &str) -> bool {
    decode_header(token).is_ok_and(|header| header.alg.family() != AlgorithmFamily::Hmac)
}

fn end(claims: &Map<String, Value>) -> Option<NonZeroU32> {
    claims.get("exp").and_then(whole_seconds)
}

fn validation(config: &AuthConfig, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = config.leeway.as_secs();
    validation.validate_nbf = true;
    // By itself the library lets a token pass that lacks what it would have to match.
    let mut required = Vec::new();
    if config.require_expiry {
        required.push("exp");
    }
    if !config.issuers.is_empty() {
        required.push("iss");
        validation.set_issuer(&config.issuers);
    }
    validation.validate_aud = !config.audiences.is_empty();
    if !config.audiences.is_empty() {
        required.push("aud");
        validation.set_audience(&config.audiences);
    }
    validation.required_spec_claims = required.into_iter().map(str::to_owned).collect();
    validation
}

fn rejection(kind: ErrorKind) -> Rejection {
    match kind {
        ErrorKind::InvalidSignature => Rejection::Signature,
        ErrorKind::ExpiredSignature => Rejection::Expired,
        ErrorKind::ImmatureSignature => Rejection::NotYet,
        ErrorKind::InvalidIssuer => Rejection::Issuer,
        ErrorKind::InvalidAudience => Rejection::Audience,
        ErrorKind::InvalidAlgorithm => Rejection::Algorithm,
        ErrorKind::MissingRequiredClaim(claim) => Rejection::MissingClaim(claim),
        ErrorKind::InvalidClaimFormat(claim) => Rejection::ClaimForm(claim),
        // A signature that is not base64, or claims that are not JSON.
        ErrorKind::Base64(_) | ErrorKind::Json(_) | ErrorKind::Utf8(_) | ErrorKind::InvalidToken => {
            Rejection::Malformed
        }
        // A key that the library can't use verifies nothing.
        _ => Rejection::Signature,
    }
}

/// Identity providers number their users as often as they name them.
fn name(claim: &Value) -> Option<String> {
    match claim {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
        _ => None,
    }
}

/// A `NumericDate` may have a fraction (RFC 7519, section 2). What lies beyond the year 2106 is held there.
fn whole_seconds(date: &Value) -> Option<NonZeroU32> {
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what is meant")]
    let seconds = date.as_f64()? as u32;
    Some(NonZeroU32::new(seconds).unwrap_or(NonZeroU32::MIN))
}

#[cfg(test)]
mod tests;
