//! Section `webhook`.

use crate::config::Config;
use crate::config::setting::Reload::Restart;
use crate::config::setting::{self, Section, place};

type Setting = setting::Setting<Config>;

/// Its settings.
pub(super) const SECTION: Section = Section {
    name: "webhook",
    about: "A backend that decides over HTTP: it is sent a POST with JSON for each event that has a URL here, and answers \
            {\"result\":{…}}, {\"error\":{\"code\":…,\"message\":…}} or {\"disconnect\":{\"code\":…,\"reason\":…}}. \
            The documentation of the module `webhook` has every field.",
    settings: &[
        Setting::new(
            "webhook.connect_url",
            Restart,
            place!(webhook.connect_url),
            "Who is asked whether a connection may stay. The answer may name its user and subscribe it to channels.",
        )
        .example("\"https://app.example.com/crore/connect\""),
        Setting::new(
            "webhook.subscribe_url",
            Restart,
            place!(webhook.subscribe_url),
            "Who is asked whether a client may subscribe, where `subscribe_webhook` in [[channels]] says so.",
        )
        .example("\"https://app.example.com/crore/subscribe\""),
        Setting::new(
            "webhook.publish_url",
            Restart,
            place!(webhook.publish_url),
            "Who is asked whether a client may publish, where `publish_webhook` in [[channels]] says so. The answer may \
             have other data than the client's.",
        )
        .example("\"https://app.example.com/crore/publish\""),
        Setting::new(
            "webhook.rpc_url",
            Restart,
            place!(webhook.rpc_url),
            "Who answers a `request` whose method the server does not have itself.",
        )
        .example("\"https://app.example.com/crore/rpc\""),
        Setting::new(
            "webhook.timeout",
            Restart,
            place!(webhook.timeout),
            "How long an answer may take, from the connection to its last byte; 30 seconds at most. A question waits as long for its turn, \
             and what a client sends meanwhile waits behind it.",
        ),
        Setting::new(
            "webhook.concurrency_max",
            Restart,
            place!(webhook.concurrency_max),
            "Questions that are out at one time, 1024 at most; as many connections to the backend are kept open.",
        ),
        Setting::new(
            "webhook.answer_bytes_max",
            Restart,
            place!(webhook.answer_bytes_max),
            "Bytes of an answer's body. A longer one can't be used.",
        ),
        Setting::new(
            "webhook.secret",
            Restart,
            place!(webhook.secret),
            "What questions are signed with (standardwebhooks.com), so that the backend knows who asks: `whsec_` and 24 to \
             64 random bytes in Base64. Better kept in the environment (CRORE_WEBHOOK_SECRET) than here.",
        )
        .example("\"the output of: echo whsec_$(openssl rand -base64 32)\""),
        Setting::new(
            "webhook.forward_headers",
            Restart,
            place!(webhook.forward_headers),
            "Headers of a client's upgrade that go along with every question about it, for example cookie or \
             authorization. They are kept for as long as the connection is open.",
        ),
        Setting::new(
            "webhook.connect_when_down",
            Restart,
            place!(webhook.connect_when_down),
            "What becomes of a connection while the backend is down: it can't be reached, takes too long, or answers with \
             429 or 5xx. `refuse` closes it with 1013, `allow` lets it stay without a word of the backend's.",
        ),
        Setting::new(
            "webhook.subscribe_when_down",
            Restart,
            place!(webhook.subscribe_when_down),
            "The same for a subscription, which is refused with the error `unavailable`.",
        ),
        Setting::new(
            "webhook.publish_when_down",
            Restart,
            place!(webhook.publish_when_down),
            "The same for what is published. A `request` is always refused then.",
        ),
        Setting::new(
            "webhook.breaker_failures",
            Restart,
            place!(webhook.breaker_failures),
            "Circuit breaker, one for each event: if the backend has been down for so many questions within \
             `webhook.breaker_window`, it is not asked any more, and counts as down at once.",
        ),
        Setting::new(
            "webhook.breaker_window",
            Restart,
            place!(webhook.breaker_window),
            "How far apart these failures may be.",
        ),
        Setting::new(
            "webhook.breaker_pause",
            Restart,
            place!(webhook.breaker_pause),
            "How long it is left alone. Then one question goes out, whose answer decides.",
        ),
    ],
};
