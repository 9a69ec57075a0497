//! Signatures by which a backend knows who asks (Standard Webhooks, "Signature scheme").

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a secret begins with.
const SECRET_PREFIX: &str = "whsec_";

/// Bytes of a secret: the standard's 192 to 512 bits.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A key for signatures.
pub(super) struct Signer(hmac::Key);

/// Whether a text is a secret.
///
/// # Errors
/// It is none; what it should be.
pub(crate) fn check_secret(text: &str) -> Result<(), String> {
    decode(text).map(drop).ok_or_else(|| {
        "expected `whsec_` and 24 to 64 random bytes in Base64: echo \"whsec_$(openssl rand -base64 32)\" makes one"
            .to_owned()
    })
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text.strip_prefix(SECRET_PREFIX)?).ok()?;
    SECRET_BYTES.contains(&bytes.len()).then_some(bytes)
}

impl Signer {
    /// `None` if the text is no secret.
    pub(super) fn new(secret: &str) -> Option<Self> {
        Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &decode(secret)?)))
    }

    /// The value of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp_s: u64, body: &[&[u8]]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        let mut timestamp = itoa::Buffer::new();
        let head: [&[u8]; 4] = [id.as_bytes(), b".", timestamp.format(timestamp_s).as_bytes(), b"."];
        for part in head.into_iter().chain(body.iter().copied()) {
            context.update(part);
        }
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the standard's own libraries.
    #[test]
    fn a_signature_is_the_one_that_others_make() {
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, &[b"{\"test\": ", b"2432232314}"]);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_long_enough_and_marked_as_one() {
        let secret = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for bytes in [24, 64] {
            assert_eq!(check_secret(&secret(bytes)), Ok(()));
        }
        for wrong in [&secret(23), &secret(65), "whsec_", "whsec_%%%", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", ""] {
            assert!(check_secret(wrong).unwrap_err().contains("openssl rand"), "{wrong}");
        }
    }
}
