//! From a token to a user: signature, time, issuer and audience.

use std::num::NonZeroU32;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, AlgorithmFamily, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::failure::Rejection;
use super::keys::KeySet;
use crate::config::AuthConfig;
use crate::users::is_user_name;

/// The rules that tokens are checked by.
#[derive(Clone, Debug)]
pub(crate) struct Verifier {
    /// For each algorithm that the configured keys can have: the library wants to be told one at a time.
    rules: Vec<(Algorithm, Validation)>,
    user_claim: String,
    token_bytes_max: usize,
}

/// Who has shown a good token, and for how long it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) user: String,
    /// `exp`, in seconds since the Unix epoch; `None` for a token without an end.
    pub(crate) expires_s: Option<NonZeroU32>,
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
            token_bytes_max: config.token_bytes_max,
        }
    }

    /// The user of a token, if it is good.
    ///
    /// # Errors
    /// The first thing that is wrong. [`Rejection::Expired`] is said of genuine tokens alone.
    pub(crate) fn verify(&self, keys: &KeySet, token: &str) -> Result<Verified, Rejection> {
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
                Ok(token) => return self.identify(&token.claims),
                Err(error) => Err(rejection(error.into_kind())),
            };
            if outcome != Err(Rejection::Signature) {
                return outcome;
            }
        }
        outcome
    }

    fn identify(&self, claims: &Map<String, Value>) -> Result<Verified, Rejection> {
        let user = [self.user_claim.as_str(), "sub"].into_iter().find_map(|claim| user_name(claims.get(claim)?));
        let user = user.ok_or_else(|| Rejection::NoUser(self.user_claim.clone()))?;
        Ok(Verified { user, expires_s: claims.get("exp").and_then(whole_seconds) })
    }
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
fn user_name(claim: &Value) -> Option<String> {
    let name = match claim {
        Value::String(name) => name.clone(),
        Value::Number(number) if number.is_u64() || number.is_i64() => number.to_string(),
        _ => return None,
    };
    is_user_name(&name).then_some(name)
}

/// A `NumericDate` may have a fraction (RFC 7519, section 2). What lies beyond the year 2106 is held there.
fn whole_seconds(date: &Value) -> Option<NonZeroU32> {
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what is meant")]
    let seconds = date.as_f64()? as u32;
    Some(NonZeroU32::new(seconds).unwrap_or(NonZeroU32::MIN))
}

#[cfg(test)]
mod tests;
