//! Keys, each with the algorithms that it is for: a public key is never taken for a secret.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Bytes of a secret: fewer can be guessed (RFC 7518, section 3.2).
pub(crate) const SECRET_BYTES_MIN: usize = 32;

/// Bytes of a file or an answer with keys.
pub(crate) const KEYS_BYTES_MAX: u64 = 256 * 1024;

/// Keys of one set: a token without a key identifier is tried with each of its algorithm.
const KEYS_MAX: usize = 32;

/// Bits of an RSA modulus, the least that the library of ciphers takes.
const RSA_BITS_MIN: usize = 2048;

/// Bytes of a point of P-256, uncompressed; a longer one is of another curve.
const P256_POINT_BYTES: usize = 65;

/// Why keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file can't be read.
    #[error("`{setting}`: {} can't be read: {error}", path.display())]
    Unreadable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The content is no key.
    #[error("`{setting}`: {problem}")]
    Unusable {
        /// The setting.
        setting: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// A key and what it is for.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    id: Option<String>,
    family: AlgorithmFamily,
    /// The only algorithm, if its issuer says so.
    only: Option<Algorithm>,
    key: DecodingKey,
}

/// Keys to check tokens with.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeySet(Vec<Key>);

/// Where a set of keys comes from: one that was fetched is public, and holds no secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Publicity {
    Secret,
    Public,
}

impl KeySet {
    /// Keys of an algorithm. If both the token and the key have an identifier, they must be the same.
    pub(crate) fn candidates<'k>(
        &'k self,
        algorithm: Algorithm,
        id: Option<&'k str>,
    ) -> impl Iterator<Item = &'k DecodingKey> {
        let fits = move |key: &&Key| {
            key.family == algorithm.family()
                && key.only.is_none_or(|only| only == algorithm)
                && (id.is_none() || key.id.is_none() || key.id.as_deref() == id)
        };
        self.0.iter().filter(fits).map(|key| &key.key)
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Both sets.
    pub(crate) fn joined(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }

    pub(crate) fn secret(setting: &'static str, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < SECRET_BYTES_MIN {
            let problem = format!(
                "a secret of {} bytes can be guessed: take {SECRET_BYTES_MIN} or more, for example of `openssl rand \
                 -base64 48`",
                secret.len()
            );
            return Err(KeyError::Unusable { setting, problem });
        }
        Ok(Self(vec![Key::new(DecodingKey::from_secret(secret))]))
    }

    /// One or more public keys in PEM.
    pub(crate) fn pem(setting: &'static str, text: &str) -> Result<Self, KeyError> {
        let unusable = |problem: &str| KeyError::Unusable { setting, problem: problem.to_owned() };
        if text.contains("PRIVATE KEY-----") {
            return Err(unusable(
                "this is a private key, which belongs to whoever issues tokens: `openssl pkey -in KEY -pubout` makes \
                 the public one",
            ));
        }
        let blocks = text.match_indices("-----BEGIN ").map(|(start, _)| start).collect::<Vec<_>>();
        let ends = blocks.iter().skip(1).copied().chain([text.len()]);
        let keys: Option<Vec<_>> = blocks.iter().zip(ends).map(|(start, end)| public_pem(&text[*start..end])).collect();
        match keys {
            Some(keys) if !keys.is_empty() && keys.len() <= KEYS_MAX => Ok(Self(keys)),
            _ => Err(unusable(
                "expected PEM blocks `PUBLIC KEY` with an RSA key of 2048 bits or more, a P-256 key or an Ed25519 key",
            )),
        }
    }

    /// A JWK set (RFC 7517, section 5). Keys that can't be used here are passed over, as section 5 wants it; a set of
    /// them alone is an error.
    pub(crate) fn jwks(setting: &'static str, text: &str, publicity: Publicity) -> Result<Self, KeyError> {
        #[derive(Deserialize)]
        struct Jwks {
            keys: Vec<Value>,
        }
        let unusable = |problem: String| KeyError::Unusable { setting, problem };
        let set: Jwks = serde_json::from_str(text)
            .map_err(|_| unusable("expected a JWK set, {\"keys\":[…]} (RFC 7517, section 5)".to_owned()))?;
        let found = set.keys.len();
        let keys: Vec<_> =
            set.keys.into_iter().filter_map(|jwk| public_jwk(jwk, publicity)).take(KEYS_MAX + 1).collect();
        match keys.len() {
            0 => Err(unusable(format!(
                "none of the {found} keys can be used: they are for signatures by RSA (2048 bits or more), P-256 or \
                 Ed25519{}",
                if publicity == Publicity::Secret { ", or secrets of 32 bytes or more" } else { "" }
            ))),
            count if count > KEYS_MAX => {
                Err(unusable(format!("there are more than {KEYS_MAX} keys: leave out old ones")))
            }
            _ => Ok(Self(keys)),
        }
    }
}

impl Key {
    fn new(key: DecodingKey) -> Self {
        Self { id: None, family: key.family(), only: None, key }
    }
}

/// Reads a file of at most [`KEYS_BYTES_MAX`] bytes.
pub(crate) fn read(setting: &'static str, path: &Path) -> Result<String, KeyError> {
    let unreadable = |error| KeyError::Unreadable { setting, path: path.to_owned(), error };
    let length = fs::metadata(path).map_err(unreadable)?.len();
    if length > KEYS_BYTES_MAX {
        let problem = format!("{} has {length} bytes, and keys have at most {KEYS_BYTES_MAX}", path.display());
        return Err(KeyError::Unusable { setting, problem });
    }
    fs::read_to_string(path).map_err(unreadable)
}

fn public_pem(block: &str) -> Option<Key> {
    let bytes = block.as_bytes();
    if !block.contains(" PUBLIC KEY-----") && !block.contains("BEGIN PUBLIC KEY-----") {
        return None;
    }
    if let Ok(key) = DecodingKey::from_rsa_pem(bytes) {
        // The DER of a key is a little longer than its modulus.
        let long_enough = key.try_get_as_bytes().is_ok_and(|der| der.len() * 8 > RSA_BITS_MIN);
        return long_enough.then(|| Key::new(key));
    }
    if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
        return key.try_get_as_bytes().is_ok_and(|point| point.len() == P256_POINT_BYTES).then(|| Key::new(key));
    }
    DecodingKey::from_ed_pem(bytes).ok().map(Key::new)
}

/// A key of a set, if it is for checking signatures, by an algorithm that is known here.
fn public_jwk(jwk: Value, publicity: Publicity) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(jwk).ok()?;
    let common = &jwk.common;
    let for_signatures = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let strong = match &jwk.algorithm {
        AlgorithmParameters::RSA(key) => key.n.len() * 6 >= RSA_BITS_MIN,
        AlgorithmParameters::EllipticCurve(key) => key.curve == EllipticCurve::P256,
        AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519,
        AlgorithmParameters::OctetKey(key) => {
            publicity == Publicity::Secret && key.value.len() * 6 / 8 >= SECRET_BYTES_MIN
        }
        _ => false,
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let only = match common.key_algorithm {
        Some(algorithm) => Some(Algorithm::try_from(algorithm).ok().filter(|only| only.family() == key.family())?),
        None => None,
    };
    (for_signatures && strong).then(|| Key { id: common.key_id.clone(), family: key.family(), only, key })
}

#[cfg(test)]
mod tests;
