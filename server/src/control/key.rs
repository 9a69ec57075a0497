//! The key of the server API.

use std::fmt;
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use subtle::ConstantTimeEq;

/// Bytes of the shortest key.
pub const KEY_BYTES_MIN: usize = 16;

/// The header that carries the key where `Authorization` has another use.
const KEY_HEADER: &str = "X-API-Key";

/// The scheme of the other one.
const SCHEME: &str = "Bearer";

/// A secret: it is compared in constant time, and never shown.
#[derive(Clone)]
pub struct ApiKey(Box<str>);

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It could be guessed.
    #[error("a key has at least {KEY_BYTES_MIN} characters: `openssl rand -hex 32` makes one")]
    Short,
    /// It can't be sent in a header.
    #[error("a key has visible ASCII characters and no spaces: `openssl rand -hex 32` makes one")]
    Unprintable,
}

impl FromStr for ApiKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Err(KeyError::Unprintable)
        } else if text.len() < KEY_BYTES_MIN {
            Err(KeyError::Short)
        } else {
            Ok(Self(text.into()))
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl ApiKey {
    /// The key itself, for the configuration alone.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a request carries the key: `Authorization: Bearer KEY` (RFC 6750, section 2.1), or `X-API-Key: KEY`,
    /// which counts beside whatever else `Authorization` is used for.
    pub(super) fn opens(&self, headers: &HeaderMap) -> bool {
        let bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| bearer(value.as_bytes()));
        let plain = headers.get_all(KEY_HEADER).iter().map(HeaderValue::as_bytes);
        bearer.chain(plain).any(|given| self.0.as_bytes().ct_eq(given).into())
    }
}

/// What stands behind the scheme and one space or more (RFC 9110, section 11.4).
fn bearer(credentials: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = credentials.split_at_checked(SCHEME.len())?;
    let spaces = key.iter().take_while(|byte| **byte == b' ').count();
    (scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) && spaces > 0).then(|| &key[spaces..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    fn opens(name: &'static str, value: &'static str) -> bool {
        let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        KEY.parse::<ApiKey>().unwrap().opens(&headers)
    }

    #[test]
    fn the_key_opens_in_either_header() {
        assert!(opens("authorization", "Bearer 0123456789abcdef"));
        assert!(opens("authorization", "bearer 0123456789abcdef"));
        assert!(opens("authorization", "Bearer   0123456789abcdef"));
        assert!(opens("x-api-key", KEY));
    }

    // capability: 80
    #[test]
    fn another_use_of_authorization_takes_nothing_from_the_key() {
        let key: ApiKey = KEY.parse().unwrap();
        for authorization in ["Bearer of-the-gateway-itself", "Basic eDp5", "Bearer"] {
            let mut headers = HeaderMap::new();
            headers.append("authorization", authorization.parse().unwrap());
            assert!(!key.opens(&headers), "{authorization}");
            headers.append("x-api-key", KEY.parse().unwrap());
            assert!(key.opens(&headers), "{authorization}");
        }
    }

    #[test]
    fn anything_else_does_not() {
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer0123456789abcdef",
            "Bearer\t0123456789abcdef",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Basic 0123456789abcdef",
            KEY,
        ] {
            assert!(!opens("authorization", value), "{value}");
        }
        assert!(!opens("x-api-key", "0123456789abcdeg"));
        assert!(!opens("cookie", KEY));
    }

    #[test]
    fn a_key_is_long_printable_and_never_shown() {
        assert_eq!("0123456789abcde".parse::<ApiKey>().unwrap_err(), KeyError::Short);
        assert_eq!("0123456789 abcdef".parse::<ApiKey>().unwrap_err(), KeyError::Unprintable);
        assert_eq!("0123456789äbcdef".parse::<ApiKey>().unwrap_err(), KeyError::Unprintable);
        assert!(!format!("{:?}", KEY.parse::<ApiKey>().unwrap()).contains(KEY));
    }
}
