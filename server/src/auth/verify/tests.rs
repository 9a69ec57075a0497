use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use super::*;
use crate::auth::AuthFailure;
use crate::auth::keys::Publicity;
use crate::auth::mutation::mutated;
use crate::config::Secret;
use crate::random::index_below;

const SECRET: &str = "a secret of more than thirty-two bytes";
const RSA: &str = include_str!("../../../tests/keys/rsa.pem");
const RSA_PUBLIC: &str = include_str!("../../../tests/keys/rsa.public.pem");
const P256: &str = include_str!("../../../tests/keys/p256.pem");
const P256_PUBLIC: &str = include_str!("../../../tests/keys/p256.public.pem");
const ED25519: &str = include_str!("../../../tests/keys/ed25519.pem");
const ED25519_PUBLIC: &str = include_str!("../../../tests/keys/ed25519.public.pem");
const ED25519_OTHER: &str = include_str!("../../../tests/keys/ed25519-other.pem");

fn now_s() -> i64 {
    i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap()
}

fn claims(exp: i64) -> Value {
    json!({"user_id": "ann", "exp": now_s() + exp})
}

fn signed_by(key: &EncodingKey, algorithm: Algorithm, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, key).unwrap()
}

fn hs256(claims: &Value) -> String {
    signed_by(&EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS256, claims)
}

fn config() -> AuthConfig {
    AuthConfig { secret: Some(Secret::new(SECRET.to_owned())), leeway: Duration::from_secs(2), ..AuthConfig::default() }
}

fn secret_keys() -> KeySet {
    KeySet::secret("auth.secret", SECRET.as_bytes()).unwrap()
}

fn verify(config: &AuthConfig, token: &str) -> Result<Verified, Rejection> {
    Verifier::new(config).verify(&secret_keys(), token)
}

fn user(outcome: Result<Verified, Rejection>) -> String {
    outcome.unwrap().user
}

/// A server with public keys alone.
fn public() -> (Verifier, KeySet) {
    let config = AuthConfig { public_key_file: Some("keys.pem".into()), ..AuthConfig::default() };
    let keys = [RSA_PUBLIC, P256_PUBLIC, ED25519_PUBLIC].concat();
    (Verifier::new(&config), KeySet::pem("auth.public_key_file", &keys).unwrap())
}

// capability: 53 59
#[test]
fn every_algorithm_verifies_what_its_key_has_signed() {
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        assert_eq!(user(verify(&config(), &signed_by(&secret, algorithm, &claims(60)))), "ann");
    }
    let (verifier, keys) = public();
    for (key, algorithm) in [
        (EncodingKey::from_rsa_pem(RSA.as_bytes()), Algorithm::RS256),
        (EncodingKey::from_ec_pem(P256.as_bytes()), Algorithm::ES256),
        (EncodingKey::from_ed_pem(ED25519.as_bytes()), Algorithm::EdDSA),
    ] {
        assert_eq!(user(verifier.verify(&keys, &signed_by(&key.unwrap(), algorithm, &claims(60)))), "ann");
    }
    let other = EncodingKey::from_ed_pem(ED25519_OTHER.as_bytes()).unwrap();
    let forged = signed_by(&other, Algorithm::EdDSA, &claims(60));
    assert_eq!(verifier.verify(&keys, &forged), Err(Rejection::Signature));
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let (verifier, keys) = public();
    for public in [RSA_PUBLIC, P256_PUBLIC, ED25519_PUBLIC] {
        for secret in [public, public.trim_end()] {
            let forged = signed_by(&EncodingKey::from_secret(secret.as_bytes()), Algorithm::HS256, &claims(60));
            assert_eq!(verifier.verify(&keys, &forged), Err(Rejection::Algorithm));
            // Neither where there is a secret, too.
            let both = Verifier::new(&AuthConfig { public_key_file: Some("keys.pem".into()), ..config() });
            assert_eq!(both.verify(&secret_keys().joined(&keys), &forged), Err(Rejection::Signature));
        }
    }
}

#[test]
fn the_token_does_not_choose_its_algorithm() {
    let none = |header: Value| {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}.", part(&header), part(&claims(60)))
    };
    for name in ["none", "None", "NONE", "nOnE", ""] {
        assert_eq!(verify(&config(), &none(json!({"alg": name, "typ": "JWT"}))), Err(Rejection::Malformed), "{name}");
    }
    assert_eq!(verify(&config(), &none(json!({"alg": "HS256"}))), Err(Rejection::Signature));
    // Known to the library, and in nobody's configuration.
    let rs512 = signed_by(&EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap(), Algorithm::RS512, &claims(60));
    let (verifier, keys) = public();
    assert_eq!(verifier.verify(&keys, &rs512), Err(Rejection::Algorithm));
    let narrow = AuthConfig { algorithms: vec![Algorithm::HS512], ..config() };
    assert_eq!(verify(&narrow, &hs256(&claims(60))), Err(Rejection::Algorithm));
    // A key that comes with the token is nobody's key.
    let mut header = Header::new(Algorithm::EdDSA);
    header.jwk = serde_json::from_value(json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"})).ok();
    header.jku = Some("https://evil.example/keys".to_owned());
    let other = EncodingKey::from_ed_pem(ED25519_OTHER.as_bytes()).unwrap();
    assert_eq!(verifier.verify(&keys, &encode(&header, &claims(60), &other).unwrap()), Err(Rejection::Signature));
}

#[test]
fn what_is_critical_and_not_understood_invalidates() {
    let mut header = Header::new(Algorithm::HS256);
    header.crit = Some(vec!["b64".to_owned()]);
    let token = encode(&header, &claims(60), &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    assert_eq!(verify(&config(), &token), Err(Rejection::Critical));
}

// capability: 58 59
#[test]
fn time_is_checked_with_leeway() {
    assert_eq!(verify(&config(), &hs256(&claims(-10))), Err(Rejection::Expired));
    assert_eq!(Rejection::Expired.failure(), AuthFailure::Expired);
    assert!(verify(&config(), &hs256(&claims(-1))).is_ok());
    let nbf = |seconds: i64| hs256(&json!({"user_id": "ann", "exp": now_s() + 60, "nbf": now_s() + seconds}));
    assert_eq!(verify(&config(), &nbf(10)), Err(Rejection::NotYet));
    assert!(verify(&config(), &nbf(1)).is_ok());
    let endless = hs256(&json!({"user_id": "ann"}));
    assert_eq!(verify(&config(), &endless), Err(Rejection::MissingClaim("exp".to_owned())));
    let lenient = AuthConfig { require_expiry: false, ..config() };
    assert_eq!(verify(&lenient, &endless).unwrap().expires_s, None);
    assert_eq!(verify(&lenient, &hs256(&claims(-10))), Err(Rejection::Expired), "an end that is there counts");
    for end in [json!("soon"), json!(-5), json!(null), json!([1])] {
        assert!(verify(&config(), &hs256(&json!({"user_id": "ann", "exp": end}))).is_err(), "{end}");
    }
    // The year 2242, and a fraction.
    let far = verify(&config(), &hs256(&json!({"user_id": "ann", "exp": 8_600_000_000_u64}))).unwrap();
    assert_eq!(far.expires_s.map(NonZeroU32::get), Some(u32::MAX));
    #[expect(clippy::cast_precision_loss, reason = "seconds have far fewer bits")]
    let fraction = hs256(&json!({"user_id": "ann", "exp": now_s() as f64 + 60.5}));
    assert_eq!(i64::from(verify(&config(), &fraction).unwrap().expires_s.unwrap().get()), now_s() + 60);
}

#[test]
fn an_expired_forgery_is_invalid_and_not_expired() {
    let forged = signed_by(&EncodingKey::from_secret(&[7; 40]), Algorithm::HS256, &claims(-10));
    assert_eq!(verify(&config(), &forged).unwrap_err().failure(), AuthFailure::Invalid);
}

#[test]
fn issuer_and_audience_must_match_where_they_are_configured() {
    let strict = AuthConfig { issuers: vec!["us".to_owned()], audiences: vec!["chat".to_owned()], ..config() };
    let token = |more: Value| {
        let mut all = claims(60);
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        hs256(&all)
    };
    assert!(verify(&strict, &token(json!({"iss": "us", "aud": "chat"}))).is_ok());
    assert!(verify(&strict, &token(json!({"iss": "us", "aud": ["mail", "chat"]}))).is_ok());
    assert_eq!(verify(&strict, &token(json!({"iss": "them", "aud": "chat"}))), Err(Rejection::Issuer));
    assert_eq!(verify(&strict, &token(json!({"iss": "us", "aud": "mail"}))), Err(Rejection::Audience));
    for (missing, rest) in [("iss", json!({"aud": "chat"})), ("aud", json!({"iss": "us"}))] {
        assert_eq!(verify(&strict, &token(rest)), Err(Rejection::MissingClaim(missing.to_owned())));
    }
    assert!(verify(&config(), &token(json!({"iss": "them", "aud": "mail"}))).is_ok(), "nothing is configured");
}

#[test]
fn the_user_is_in_the_configured_claim_or_in_sub() {
    let token = |claims: Value| {
        let mut all = claims;
        all["exp"] = json!(now_s() + 60);
        verify(&config(), &hs256(&all)).map(|verified| verified.user)
    };
    assert_eq!(token(json!({"sub": "bob"})).unwrap(), "bob");
    assert_eq!(token(json!({"sub": "bob", "user_id": 42})).unwrap(), "42");
    assert_eq!(token(json!({"user_id": "a\u{e9} \"b\""})).unwrap(), "a\u{e9} \"b\"");
    for nobody in [
        json!({}),
        json!({"user_id": ""}),
        json!({"user_id": {}}),
        json!({"user_id": "a\nb"}),
        json!({"user_id": "", "sub": "admin"}),
        json!({"user_id": null, "sub": "admin"}),
        json!({"user_id": {"id": 1}, "sub": "admin"}),
        json!({"user_id": 1.5, "sub": "admin"}),
        json!({"user_id": "x".repeat(129), "sub": "admin"}),
        json!({"sub": "x".repeat(129)}),
        // Whoever is sent what is for that connection.
        json!({"sub": "0-1-a2"}),
        json!({"user_id": "0-0-0", "sub": "7-1-1"}),
    ] {
        assert_eq!(token(nobody), Err(Rejection::NoUser("user_id".to_owned())));
    }
    // That connection's own, which has no user.
    let for_channel = json!({"sub": "0-1-a2", "channel": "a", "exp": now_s() + 60});
    let verifier = Verifier::new(&config());
    assert_eq!(verifier.verify_subscription(&secret_keys(), &hs256(&for_channel)).unwrap().user, "0-1-a2");
    let named = AuthConfig { user_claim: "name".to_owned(), ..config() };
    assert_eq!(user(verify(&named, &hs256(&json!({"name": "eve", "sub": "x", "exp": now_s() + 60})))), "eve");
}

#[test]
fn garbage_is_refused_and_a_megabyte_not_even_read() {
    let whole = hs256(&claims(60));
    let padded = format!("{whole}=");
    let doubled = format!("{whole}.{whole}");
    for garbage in
        ["", ".", "..", "...", "a.b.c", "\u{0}", "e30.e30.", &whole[1..], &padded, &doubled, &format!(" {whole}")]
    {
        let outcome = verify(&config(), garbage);
        assert!(matches!(outcome, Err(Rejection::Malformed | Rejection::Signature)), "{garbage}: {outcome:?}");
    }
    let megabyte = format!("{}.{}.{}", "A".repeat(500_000), "A".repeat(500_000), "A".repeat(48_000));
    let started = Instant::now();
    for _ in 0..1000 {
        assert!(matches!(verify(&config(), &megabyte), Err(Rejection::TooLong { .. })));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "its length is all that is looked at");
    // Nested deeper than a parser should go.
    let deep = format!(r#"{{"user_id":"ann","exp":9999999999,"x":{}{}}}"#, "[".repeat(1200), "]".repeat(1200));
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(deep));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    let config = AuthConfig { token_bytes_max: 100_000, ..config() };
    assert_eq!(verify(&config, &format!("{message}.{signature}")), Err(Rejection::Malformed));
}

#[test]
fn keys_are_found_by_their_identifiers() {
    let jwks = |id: &str, byte: char| {
        let k = URL_SAFE_NO_PAD.encode(byte.to_string().repeat(40));
        json!({"kty": "oct", "kid": id, "alg": "HS256", "k": k})
    };
    let text = json!({"keys": [jwks("one", 'a'), jwks("two", 'b')]}).to_string();
    let keys = KeySet::jwks("auth.jwks_file", &text, Publicity::Secret).unwrap();
    let verifier = Verifier::new(&AuthConfig { jwks_file: Some("keys.json".into()), ..AuthConfig::default() });
    let token = |id: Option<&str>, byte: char, algorithm| {
        let mut header = Header::new(algorithm);
        header.kid = id.map(str::to_owned);
        let secret = byte.to_string().repeat(40);
        encode(&header, &claims(60), &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    };
    let check = |token: String| verifier.verify(&keys, &token).map(|verified| verified.user);
    assert!(check(token(Some("two"), 'b', Algorithm::HS256)).is_ok());
    assert!(check(token(None, 'b', Algorithm::HS256)).is_ok(), "without one, each is tried");
    assert_eq!(check(token(Some("one"), 'b', Algorithm::HS256)), Err(Rejection::Signature));
    assert_eq!(check(token(Some("three"), 'b', Algorithm::HS256)), Err(Rejection::UnknownKey));
    assert_eq!(check(token(Some("two"), 'b', Algorithm::HS512)), Err(Rejection::UnknownKey), "the key is for HS256");
}

/// Nothing that differs from a good token is one, and nothing makes the verifier panic.
#[test]
fn mutated_tokens_are_never_accepted() {
    let mut below = index_below();
    let (verifier, public_keys) = public();
    let both = Verifier::new(&AuthConfig { public_key_file: Some("keys.pem".into()), ..config() });
    let keys = secret_keys().joined(&public_keys);
    let ed25519 = EncodingKey::from_ed_pem(ED25519.as_bytes()).unwrap();
    let p256 = EncodingKey::from_ec_pem(P256.as_bytes()).unwrap();
    let whole = [
        hs256(&claims(600)),
        signed_by(&ed25519, Algorithm::EdDSA, &claims(600)),
        signed_by(&p256, Algorithm::ES256, &claims(600)),
    ];
    for token in &whole {
        assert!(both.verify(&keys, token).is_ok());
    }
    for round in 0..6_000 {
        let mutated = mutated(&mut below, &whole);
        if whole.contains(&mutated) {
            continue;
        }
        assert!(both.verify(&keys, &mutated).is_err(), "round {round}: {mutated}");
        assert!(verifier.verify(&public_keys, &mutated).is_err(), "round {round}: {mutated}");
    }
}

/// What one token costs; `cargo test --release -p crore-server cost_of -- --ignored --nocapture` shows it.
#[test]
#[ignore = "a measurement, which asserts nothing of a machine that has other things to do"]
fn cost_of_a_token() {
    const ROUNDS: u32 = 2000;
    let (verifier, keys) = public();
    let secret = Verifier::new(&config());
    let rsa = signed_by(&EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap(), Algorithm::RS256, &claims(600));
    let p256 = signed_by(&EncodingKey::from_ec_pem(P256.as_bytes()).unwrap(), Algorithm::ES256, &claims(600));
    let ed25519 = signed_by(&EncodingKey::from_ed_pem(ED25519.as_bytes()).unwrap(), Algorithm::EdDSA, &claims(600));
    let secret_keys = secret_keys();
    for (name, verifier, keys, token) in [
        ("HS256", &secret, &secret_keys, hs256(&claims(600))),
        ("RS256", &verifier, &keys, rsa),
        ("ES256", &verifier, &keys, p256),
        ("EdDSA", &verifier, &keys, ed25519),
    ] {
        let best = (0..5).map(|_| {
            let started = Instant::now();
            for _ in 0..ROUNDS {
                assert!(verifier.verify(keys, &token).is_ok());
            }
            started.elapsed() / ROUNDS
        });
        println!("{name}: {:?} a token", best.min().unwrap());
    }
}

// capability: 64
#[test]
fn roles_and_channels_are_lists_or_one() {
    let grants = |more: Value| {
        let mut all = claims(60);
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        verify(&config(), &hs256(&all)).unwrap().grants
    };
    assert_eq!(grants(json!({})), None);
    let some =
        grants(json!({"roles": ["admin", 7, "editor"], "channels": ["chat:*", "news", "{user}", "a*b"]})).unwrap();
    assert_eq!(*some.roles, ["admin".into(), "editor".into()]);
    assert_eq!(*some.channels, ["chat:*".parse().unwrap(), "news".parse().unwrap()]);
    assert_eq!(*grants(json!({"roles": "admin"})).unwrap().roles, ["admin".into()]);
    for nothing in [json!({"roles": 7, "channels": {"a": 1}}), json!({"roles": null}), json!({"channels": [""]})] {
        assert_eq!(grants(nothing), None);
    }
    let named = AuthConfig { roles_claim: "groups".to_owned(), ..config() };
    let token = hs256(&json!({"sub": "ann", "exp": now_s() + 60, "groups": ["a"], "roles": ["b"]}));
    assert_eq!(*verify(&named, &token).unwrap().grants.unwrap().roles, ["a".into()]);
}
