//! Section `webhook`.

use crate::config::Config;
use crate::config::setting::Reload::Restart;
use crate::config::setting::{self, Section, place};
use crate::control::QUESTIONS_MAX;

type Setting = setting::Setting<Config>;

const _: () = assert!(QUESTIONS_MAX == 512, "a text below names it");

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
            "Questions about one event that are out at one time, 512 at most; the others wait, 512 of one event with those \
             that are out, and more are answered with `busy`. As many connections to a host are kept open.",
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
            "What becomes of a connection while the backend can't be asked, because there is no connection to it or the \
             circuit breaker is open: `refuse` closes it with 1013, `allow` lets it stay without a word of the backend's. \
             One whose own question fails (no answer in time, 429, 5xx) is always refused.",
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
            "Circuit breaker, one for each event: if so many questions within `webhook.breaker_window` have failed, the backend \
             is not asked any more. Those of one user, or without a user of one address, count as one, unless there was \
             no connection to the backend at all: nobody opens it alone. Set it well below the number of your users.",
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
            "How long it is left alone. Then one question goes out, and another one after each further pause, until one is \
             answered.",
        ),
    ],
};
