use serde_json::json;

use super::*;

const RSA: &str = include_str!("../../../tests/keys/rsa.pem");
const RSA_PUBLIC: &str = include_str!("../../../tests/keys/rsa.public.pem");
const RSA_1024_PUBLIC: &str = include_str!("../../../tests/keys/rsa1024.public.pem");
const P256_PUBLIC: &str = include_str!("../../../tests/keys/p256.public.pem");
const P384_PUBLIC: &str = include_str!("../../../tests/keys/p384.public.pem");
const ED25519_PUBLIC: &str = include_str!("../../../tests/keys/ed25519.public.pem");

const SETTING: &str = "auth.jwks_url";

fn problem(outcome: Result<KeySet, KeyError>) -> String {
    outcome.unwrap_err().to_string()
}

fn ed25519(more: &Value) -> Value {
    let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    key
}

fn jwks(keys: &[Value]) -> Result<KeySet, KeyError> {
    KeySet::jwks(SETTING, &json!({"keys": keys}).to_string(), Publicity::Public)
}

#[test]
fn a_secret_has_its_length() {
    assert!(problem(KeySet::secret("auth.secret", &[b's'; 31])).contains("openssl rand"));
    assert!(KeySet::secret("auth.secret", &[b's'; 32]).is_ok());
}

#[test]
fn public_keys_are_read_one_or_several_to_a_file() {
    let all = [RSA_PUBLIC, P256_PUBLIC, "a comment\n", ED25519_PUBLIC].concat();
    let keys = KeySet::pem("auth.public_key_file", &all).unwrap();
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        assert_eq!(keys.candidates(algorithm, Some("any")).count(), 1, "{algorithm:?}");
    }
    assert_eq!(keys.candidates(Algorithm::HS256, None).count(), 0);
}

#[test]
fn other_keys_are_refused_with_what_to_do() {
    let pem = |text: &str| problem(KeySet::pem("auth.public_key_file", text));
    assert!(pem(RSA).contains("openssl pkey -in KEY -pubout"));
    assert!(pem(&[RSA_PUBLIC, RSA].concat()).contains("private key"));
    for bad in
        ["", "nothing", RSA_1024_PUBLIC, P384_PUBLIC, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
    {
        assert!(pem(bad).contains("P-256"), "{bad}");
    }
}

#[test]
fn a_set_holds_what_can_be_used() {
    let foreign = [
        json!({"kty": "EC", "crv": "P-384", "x": "AAAA", "y": "AAAA"}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "unheard of"}),
        json!(7),
        ed25519(&json!({"use": "enc"})),
        ed25519(&json!({"key_ops": ["sign"]})),
        ed25519(&json!({"alg": "RS256"})),
        ed25519(&json!({"alg": "RSA-OAEP"})),
    ];
    assert!(problem(jwks(&foreign)).contains("none of the 8 keys"));
    let mut keys = foreign.to_vec();
    keys.push(ed25519(&json!({"use": "sig", "kid": "a", "alg": "EdDSA"})));
    keys.push(ed25519(&json!({"key_ops": ["verify"], "kid": "b"})));
    let set = jwks(&keys).unwrap();
    assert_eq!(set.len(), 2);
    assert_eq!(set.candidates(Algorithm::EdDSA, Some("b")).count(), 1);
    assert_eq!(set.candidates(Algorithm::EdDSA, None).count(), 2);
    assert_eq!(set.candidates(Algorithm::EdDSA, Some("c")).count(), 0);
}

#[test]
fn a_secret_that_anyone_can_fetch_is_none() {
    let secret = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA"}]}).to_string();
    assert!(KeySet::jwks(SETTING, &secret, Publicity::Secret).is_ok());
    assert!(KeySet::jwks(SETTING, &secret, Publicity::Public).is_err());
    let short = json!({"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}).to_string();
    assert!(KeySet::jwks(SETTING, &short, Publicity::Secret).is_err());
}

#[test]
fn a_set_is_bounded_and_is_a_set() {
    let many = vec![ed25519(&json!({})); KEYS_MAX + 1];
    assert!(problem(jwks(&many)).contains("more than 32"));
    assert!(jwks(&many[1..]).is_ok());
    for text in ["", "[]", "{}", "{\"keys\":{}}", "<html>"] {
        assert!(problem(KeySet::jwks(SETTING, text, Publicity::Public)).contains("JWK set"), "{text}");
    }
}
