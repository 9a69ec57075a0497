//! Section `auth`.

use crate::auth::SUBPROTOCOL_PREFIX;
use crate::config::Config;
use crate::config::auth::MaybeZero;
use crate::config::setting::Reload::Restart;
use crate::config::setting::{self, Place, Section, Shown, place};
use crate::config::value::SettingValue as _;

/// Whether a text is a token (RFC 9110, section 5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// Whether a text can be a subprotocol: a token that is not one of ours.
pub(super) fn is_subprotocol(text: &str) -> bool {
    is_token(text) && !text.starts_with(SUBPROTOCOL_PREFIX)
}

type Setting = setting::Setting<Config>;

/// Its settings.
pub(super) const SECTION: Section = Section {
    name: "auth",
    about: "Who a connection is, by tokens (JWT, RFC 7519). A token is checked once, when it is shown; its connection is \
            closed with 4001 when it ends, unless another token of the same user has come in a message `auth` before. \
            `crore gen-token` makes tokens, `crore check-token` says what is wrong with one. Files with keys are read \
            again when they change.",
    settings: &[
        Setting::new(
            "auth.mode",
            Restart,
            place!(auth.mode),
            "`off`: tokens are not looked at. `optional`: a client may show one; a bad one is refused. `required`: nothing \
             is done for a connection that has shown none, and after `auth.timeout` it is closed with 4001.",
        ),
        Setting::new(
            "auth.sources",
            Restart,
            place!(auth.sources),
            "Where a token may be; the first of these that has one counts, in this order. `bearer`: the header \
             `Authorization: Bearer TOKEN`. `query`: `?token=TOKEN`. `subprotocol`: `auth.TOKEN` among the subprotocols, \
             beside one that the server has (`http.subprotocols`), without which browsers give up. `cookie`: only with \
             `http.allowed_origins`. `message`: `{\"type\":\"auth\",\"token\":TOKEN}`.",
        ),
        Setting::new(
            "auth.secret",
            Restart,
            place!(auth.secret),
            "Secret of tokens by HS256, HS384 and HS512, 32 bytes or more. Better kept in the environment \
             (CRORE_AUTH_SECRET) or in a file of its own than here.",
        )
        .example("\"the output of: openssl rand -base64 48\""),
        Setting::new(
            "auth.secret_file",
            Restart,
            place!(auth.secret_file),
            "File with such a secret, without the line feed at its end.",
        )
        .example("\"jwt.secret\""),
        Setting::new(
            "auth.public_key_file",
            Restart,
            place!(auth.public_key_file),
            "File with one or more public keys in PEM, for tokens by RS256 (2048 bits or more), ES256 and EdDSA (Ed25519).",
        )
        .example("\"jwt.public.pem\""),
        Setting::new("auth.jwks_file", Restart, place!(auth.jwks_file), "File with a JWK set (RFC 7517, section 5).")
            .example("\"jwks.json\""),
        Setting::new(
            "auth.jwks_url",
            Restart,
            place!(auth.jwks_url),
            "Address of a JWK set. It is fetched at the start, regularly, and when no key verifies a token by a public key, \
             which waits for it up to `auth.timeout`; 1024 tokens may wait, and more are refused. While it can't be fetched, \
             the last good one counts. Plain HTTP is for this machine alone.",
        )
        .example("\"https://id.example.com/.well-known/jwks.json\""),
        Setting::new("auth.jwks_refresh", Restart, place!(auth.jwks_refresh), "How often that is fetched."),
        Setting::new(
            "auth.jwks_refresh_min",
            Restart,
            place!(auth.jwks_refresh_min),
            "How soon after a fetch a token that no key verifies, or the failure of the fetch, may cause the next one. Shorter \
             than `auth.timeout`: else a good token by a new key is refused where others have caused a fetch before it.",
        ),
        Setting::new(
            "auth.algorithms",
            Restart,
            place!(auth.algorithms),
            "Algorithms that are accepted. A key takes those only that it is for, whatever a token says.",
        ),
        Setting::new(
            "auth.issuers",
            Restart,
            place!(auth.issuers),
            "Issuers (`iss`) that are accepted. If none is listed, the claim is not looked at.",
        ),
        Setting::new(
            "auth.audiences",
            Restart,
            place!(auth.audiences),
            "Audiences (`aud`) that are accepted: a token has to be for one of them. If none is listed, the claim is not \
             looked at.",
        ),
        Setting::new(
            "auth.user_claim",
            Restart,
            place!(auth.user_claim),
            "Claim that names the user: 1 to 128 bytes of text, or a whole number. In its absence `sub` does; a \
             token whose claim is anything else is refused, as is a name of the form of a connection's identifier, \
             `0-1-a2`.",
        ),
        Setting::new(
            "auth.metadata_claim",
            Restart,
            place!(auth.metadata_claim),
            "The claim whose value, any JSON, presence shows as the `metadata` of the connection; it outranks what a client \
             says of itself. Without it: tokens say no more than who it is.",
        )
        .example("\"profile\""),
        Setting::new(
            "auth.require_expiry",
            Restart,
            place!(auth.require_expiry),
            "Whether a token must have an end (`exp`). One that has none can't be taken back but with its key.",
        ),
        Setting::new(
            "auth.leeway",
            Restart,
            Place {
                put: |config, value| {
                    config.auth.leeway = MaybeZero::from_value(value)?.0;
                    Ok(())
                },
                show: |config| Shown::of(&MaybeZero(config.auth.leeway)),
                copy: |config, other| config.auth.leeway = other.auth.leeway,
            },
            "How far the clock of whoever issues tokens may differ from this one, in whole seconds: a token counts so much \
             earlier (`nbf`) and longer (`exp`).",
        ),
        Setting::new(
            "auth.timeout",
            Restart,
            place!(auth.timeout),
            "How long a connection may take to show a token in a message, where one is required.",
        ),
        Setting::new(
            "auth.token_bytes_max",
            Restart,
            place!(auth.token_bytes_max),
            "Bytes of a token. In a request it shares `limits.head_bytes_max` with the rest of the head.",
        ),
        Setting::new("auth.cookie", Restart, place!(auth.cookie), "Name of the cookie that holds a token."),
        Setting::new(
            "auth.channels_claim",
            Restart,
            place!(auth.channels_claim),
            "Claim that lists channels of which the user is a member, by names and patterns: what `granted` means in the \
             rules of channels.",
        ),
        Setting::new(
            "auth.roles_claim",
            Restart,
            place!(auth.roles_claim),
            "Claim that lists the user's roles: what `role:NAME` means in the rules of channels.",
        ),
        Setting::new(
            "auth.subscription_secret",
            Restart,
            place!(auth.subscription_secret),
            "Secret of tokens for channels (`token` in their rules), where these have keys of their own, with any \
             `auth.mode`. Without one of these three settings they are checked with the keys above. All else holds for \
             them, too: algorithms, issuers, audiences, expiry, leeway, length.",
        )
        .example("\"the output of: openssl rand -base64 48\""),
        Setting::new(
            "auth.subscription_secret_file",
            Restart,
            place!(auth.subscription_secret_file),
            "File with such a secret.",
        )
        .example("\"subscriptions.secret\""),
        Setting::new(
            "auth.subscription_public_key_file",
            Restart,
            place!(auth.subscription_public_key_file),
            "File with public keys in PEM, for tokens for channels.",
        )
        .example("\"subscriptions.public.pem\""),
        Setting::new(
            "auth.subscription_notice",
            Restart,
            place!(auth.subscription_notice),
            "How long before the end of a subscription by a token its client is told (`expiring`), so that it can \
             subscribe with another one.",
        ),
    ],
};
