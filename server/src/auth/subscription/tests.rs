use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;
use crate::auth::mutation::mutated;
use crate::auth::{AuthFailure, Judgement};
use crate::config::{AuthMode, Secret};
use crate::random::index_below;

const SECRET: &str = "a secret of more than thirty-two bytes";
const OTHER_SECRET: &str = "another secret, of thirty-two bytes too";
const ED25519: &str = include_str!("../../../tests/keys/ed25519.pem");
const ED25519_PUBLIC: &str = include_str!("../../../tests/keys/ed25519.public.pem");

fn now_s() -> i64 {
    i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap()
}

fn claims(user: &str, channel: &str) -> Value {
    json!({"sub": user, "channel": channel, "exp": now_s() + 60})
}

fn signed(secret: &str, claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn config() -> AuthConfig {
    AuthConfig {
        subscription_secret: Some(Secret::new(SECRET.to_owned())),
        leeway: Duration::from_secs(2),
        ..AuthConfig::default()
    }
}

fn open(config: &AuthConfig) -> SubscriptionTokens {
    let auth = Auth::open(config).unwrap();
    SubscriptionTokens::open(config, auth.as_ref()).unwrap().unwrap()
}

/// Ann shows a token for the channel `private:1`.
fn show(tokens: &SubscriptionTokens, token: &str) -> Result<VerifiedSubscription, AuthFailure> {
    match tokens.judge(token, "ann", "private:1", false) {
        Judgement::Good(verified) => Ok(verified),
        Judgement::Bad(failure) => Err(failure),
        Judgement::Unknown(_) => panic!("nothing is fetched"),
    }
}

// capability: 64
#[test]
fn a_token_is_good_for_its_user_and_its_channel() {
    let tokens = open(&config());
    let good = show(&tokens, &signed(SECRET, &claims("ann", "private:1"))).unwrap();
    assert_eq!(good.expires_s.map(|end| i64::from(end.get()) > now_s()), Some(true));
    assert_eq!(good.info, None);
    for (user, channel) in [
        ("eve", "private:1"),
        ("ann ", "private:1"),
        ("ann", "private:2"),
        ("ann", "private:*"),
        ("ann", "*"),
        ("ann", "private:1 "),
        ("ann", "Private:1"),
        ("ann", ""),
        ("", "private:1"),
    ] {
        let token = signed(SECRET, &claims(user, channel));
        assert_eq!(show(&tokens, &token), Err(AuthFailure::Invalid), "{user}, {channel}");
    }
    let exp = now_s() + 60;
    for claims in [
        json!({"sub": "ann", "exp": exp}),
        json!({"channel": "private:1", "exp": exp}),
        json!({"sub": "ann", "channel": ["private:1"], "exp": exp}),
        json!({"sub": "ann", "channel": null, "exp": exp}),
        json!({"sub": "ann", "channel": "private:1"}),
        json!({"sub": "ann", "channel": "private:1", "exp": exp, "nbf": exp}),
    ] {
        assert_eq!(show(&tokens, &signed(SECRET, &claims)), Err(AuthFailure::Invalid), "{claims}");
    }
    let ended = json!({"sub": "ann", "channel": "private:1", "exp": now_s() - 10});
    assert_eq!(show(&tokens, &signed(SECRET, &ended)), Err(AuthFailure::Expired));
}

#[test]
fn info_is_any_value() {
    let tokens = open(&config());
    for (info, kept) in [(json!({"a": [1]}), Some("{\"a\":[1]}")), (json!(0), Some("0")), (json!(null), None)] {
        let mut claims = claims("ann", "private:1");
        claims["info"] = info;
        assert_eq!(show(&tokens, &signed(SECRET, &claims)).unwrap().info.as_deref(), kept);
    }
}

// capability: 64
#[test]
fn a_token_of_another_key_or_of_none_is_invalid() {
    let tokens = open(&config());
    let invalid = |token: &str| assert_eq!(show(&tokens, token), Err(AuthFailure::Invalid), "{token}");
    let claims = claims("ann", "private:1");
    invalid(&signed(OTHER_SECRET, &claims));
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    for algorithm in ["none", "None", "", "HS256"] {
        invalid(&format!("{}.{}.", part(&json!({"alg": algorithm})), part(&claims)));
    }
    let ed25519 = EncodingKey::from_ed_pem(ED25519.as_bytes()).unwrap();
    invalid(&encode(&Header::new(Algorithm::EdDSA), &claims, &ed25519).unwrap());
    invalid(&"x".repeat(5000));
    invalid("");
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let path = std::env::temp_dir().join(format!("crore-subscriptions-{}.pem", std::process::id()));
    std::fs::write(&path, ED25519_PUBLIC).unwrap();
    let public = AuthConfig { subscription_public_key_file: Some(path.clone()), ..AuthConfig::default() };
    let tokens = open(&public);
    let claims = claims("ann", "private:1");
    let key = EncodingKey::from_ed_pem(ED25519.as_bytes()).unwrap();
    assert!(show(&tokens, &encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap()).is_ok());
    for forged in [signed(ED25519_PUBLIC, &claims), signed(ED25519_PUBLIC.trim_end(), &claims)] {
        assert_eq!(show(&tokens, &forged), Err(AuthFailure::Invalid));
        let both = open(&AuthConfig { subscription_public_key_file: Some(path.clone()), ..config() });
        assert_eq!(show(&both, &forged), Err(AuthFailure::Invalid));
    }
    std::fs::remove_file(path).unwrap();
}

/// Neither kind of token is good for what the other one is for, though their keys are the same.
#[test]
fn a_token_for_a_channel_is_none_for_a_connection() {
    let shared = AuthConfig { mode: AuthMode::Required, secret: Some(Secret::new(SECRET.to_owned())), ..config() };
    let shared = AuthConfig { subscription_secret: None, ..shared };
    let tokens = open(&shared);
    let for_channel = signed(SECRET, &claims("ann", "private:1"));
    let for_connection = signed(SECRET, &json!({"sub": "ann", "exp": now_s() + 60}));
    assert!(show(&tokens, &for_channel).is_ok());
    assert_eq!(show(&tokens, &for_connection), Err(AuthFailure::Invalid));
    let keys = tokens.store.keys();
    assert_eq!(tokens.verifier.verify(&keys, &for_channel), Err(Rejection::ForChannel));
    assert!(tokens.verifier.verify(&keys, &for_connection).is_ok());
    // With keys of their own those of connections are no good.
    let own = AuthConfig { subscription_secret: Some(Secret::new(OTHER_SECRET.to_owned())), ..shared };
    assert_eq!(show(&open(&own), &for_channel), Err(AuthFailure::Invalid));
    assert!(show(&open(&own), &signed(OTHER_SECRET, &claims("ann", "private:1"))).is_ok());
}

#[test]
fn without_keys_there_are_no_such_tokens() {
    assert!(SubscriptionTokens::open(&AuthConfig::default(), None).unwrap().is_none());
    let unused = AuthConfig { secret: Some(Secret::new(SECRET.to_owned())), ..AuthConfig::default() };
    assert!(SubscriptionTokens::open(&unused, None).unwrap().is_none());
}

// capability: 64
#[test]
fn mutated_tokens_are_never_accepted() {
    let mut below = index_below();
    let tokens = open(&config());
    let good = |exp: i64| signed(SECRET, &json!({"sub": "ann", "channel": "private:1", "exp": now_s() + exp}));
    let whole = [
        good(600),
        good(700),
        signed(SECRET, &claims("ann", "private:2")),
        signed(SECRET, &claims("eve", "private:1")),
    ];
    for round in 0..6_000 {
        let mutated = mutated(&mut below, &whole);
        if whole[..2].contains(&mutated) {
            continue;
        }
        assert_eq!(show(&tokens, &mutated), Err(AuthFailure::Invalid), "round {round}: {mutated}");
    }
}
