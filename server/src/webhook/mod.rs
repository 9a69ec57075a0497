//! The webhook: a backend of the user's decides, over HTTP, who connects, who subscribes and publishes to which channel,
//! and answers requests by their method.
//!
//! ```text
//! data core ── Question ──► control thread: turn ─► breaker ─► POST ─► answer ── Outcome ──► data core
//!   what comes of this connection meanwhile waits in order; all other connections go on
//! ```
//!
//! # What the backend is sent
//!
//! A POST with a JSON body to the URL of the event (`webhook.connect_url` and so on):
//!
//! | field | of | |
//! |---|---|---|
//! | `event` | all | `connect`, `subscribe`, `publish` or `rpc` |
//! | `connection_id` | all | the connection's identifier, a string |
//! | `user_id` | all | the user's name; absent if the connection has none yet |
//! | `address` | all | the client's address; absent if it is not known |
//! | `timestamp` | all | milliseconds since the Unix epoch |
//! | `meta` | all but `connect` | what the answer to `connect` has given as `meta` |
//! | `type` | `subscribe`, `publish` | the message's type: `subscribe` or `join`, `publish` or `message` |
//! | `channel` | `subscribe`, `publish` | the channel's name |
//! | `method` | `rpc` | the method's name |
//! | `data` | `subscribe`, `publish`, `rpc` | the message's `data`; absent if it has none |
//!
//! `connect` is asked once for each connection, when it is open and, where `auth.mode` is `required`, its token has been
//! checked: `user_id` is the token's then. Where it is `optional`, it is asked once more when a connection that has no
//! user shows a token in a message: with that token's `user_id`, before the connection is its user's and is told
//! `authenticated`. What follows from the answer is the same: a `meta` replaces the one from before, `channels` are added,
//! and who is refused is closed. `subscribe` and `publish` are asked for the channels whose rule says so
//! (`subscribe_webhook`, `publish_webhook` in `[[channels]]`) and where the client may do it by the other rules; `rpc` for
//! every `request` whose method the server does not have itself. `join` subscribes, and `message` publishes. Nobody is
//! asked about what the server API publishes, nor about who types or has read what; about the plain chat (`chat.path`) nothing but `connect`, which
//! subscribes nobody there to channels.
//!
//! The headers are those of [Standard Webhooks](https://www.standardwebhooks.com/): `webhook-id`, 32 hexadecimal digits
//! that no other request has; `webhook-timestamp`, seconds since the Unix epoch; and with `webhook.secret`
//! `webhook-signature`, `v1,` and the HMAC-SHA256 of `ID.TIMESTAMP.BODY` in Base64. Libraries for most languages check
//! it. The headers that `webhook.forward_headers` lists come along as the client sent them with its upgrade.
//!
//! # What it answers
//!
//! Status 200 and a JSON object with one of three fields:
//!
//! | answer | what follows |
//! |---|---|
//! | `{"result":{}}` | it is done. `connect` takes `user_id`, whose the connection is unless a token has said so; `meta`, any JSON of at most 4096 bytes; and `channels`, a list of names that it subscribes to, whatever their rules say: each is announced by `subscribed` after the welcome, for a channel with a history with where that stands. `publish` takes `data`, which is published in place of the client's. The `data` of `rpc` is that of the `response`. |
//! | `{"error":{"code":"…","message":"…"}}` | the client receives `{"type":"error","code":…,"error":message}`, and it is not done. A connection is closed with 1008 and the message as the reason, if it was `connect`. |
//! | `{"disconnect":{"code":4000,"reason":"…"}}` | the connection is closed. The code is 1000, 1008, 1011 to 1013, or 4000 to 4999. |
//!
//! The error's `code` has 1 to 64 letters, digits and underscores, its `message` 1 to 256 bytes, and a `reason` 123 bytes
//! at most. Fields that are not listed here count for nothing. An answer that is none of the three, too long
//! (`webhook.answer_bytes_max`) or has another status is unusable: what was asked for is not done, and the client is told
//! `unavailable`.
//!
//! # When it does not answer
//!
//! A backend is down that can't be reached, takes longer than `webhook.timeout`, or answers with 429 or 5xx. Then, as
//! `webhook.connect_when_down` and so on say, the client is told `unavailable` (the default; `connect` is closed with
//! 1013), or what was asked for is done as if the answer were `{"result":{}}`. So many failures within a window
//! (`webhook.breaker_failures`, `webhook.breaker_window`) open the circuit breaker of the event: the backend is not asked
//! for `webhook.breaker_pause`, and counts as down at once. Then one question goes out, and its answer decides.
//!
//! At most `webhook.concurrency_max` questions are out at one time, the rest take their turn; one whose turn does not come
//! within `webhook.timeout`, or for which the control thread has no room ([`JOBS_MAX`](crate::control::JOBS_MAX)), is
//! answered with `busy`. A connection has one question out at most. What it sends meanwhile is handled afterwards, in
//! order: it stays in the socket, or waits within bounds (`limits.inbound_overload`). A subscription whose token waits for
//! its key is asked about when that has come, and lets others pass until then. An answer for a connection that has ended
//! is dropped.
//!
//! # What is counted
//!
//! `crore_webhook_answers_total{event,outcome}`, `crore_webhook_answer_seconds`, `crore_webhook_in_flight`,
//! `crore_webhook_breaker_state{event}` (0 closed, 1 half-open, 2 open) and `crore_webhook_breaker_opened_total{event}`;
//! of what waits behind a question `crore_inbound_pauses_total` and `crore_messages_overloaded_total`. The log has a line for each change of a breaker's state, and one a second at most
//! for answers that can't be used; neither has anything of what was asked or answered.

mod answer;
mod ask;
mod breaker;
mod client;
mod endpoint;
mod hook;
mod meter;
mod request;
mod settle;
mod sign;

use std::fmt::Display;
use std::time::{Duration, Instant};

use crore_engine::Request;
use tokio::sync::Semaphore;

pub(crate) use self::answer::Grant;
pub(crate) use self::ask::{ask_about, ask_to_connect, ask_to_log_in};
pub(crate) use self::hook::{Forwarded, Hook};
pub(crate) use self::meter::{ANSWER_US, Answer, EventReport, Report};
pub(crate) use self::sign::check_secret;

use self::answer::{Bounds, Outcome};
use self::breaker::BreakerSettings;
use self::client::Client;
use self::endpoint::Endpoint;
use self::hook::HeaderNames;
use self::meter::Meter;
use self::request::Sealer;
use crate::config::Config;
use crate::wire::Decoder;

/// Bytes of a connection's `meta`.
pub const META_BYTES_MAX: usize = 4096;

/// There is no client for the webhook.
#[derive(Debug, thiserror::Error)]
#[error("the webhook can't speak TLS: {0}; install certificates (Debian: ca-certificates), or use http://")]
pub struct WebhookError(String);

/// What a backend is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Connect,
    Subscribe,
    Publish,
    Rpc,
}

impl Event {
    pub(crate) const ALL: [Self; 4] = [Self::Connect, Self::Subscribe, Self::Publish, Self::Rpc];

    /// As it stands in bodies, metrics and logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Rpc => "rpc",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// The backend as the server sees it: where it is, and how it does.
#[derive(Debug)]
pub(crate) struct Webhook {
    events: [Option<Endpoint>; Event::ALL.len()],
    client: Client,
    sealer: Sealer,
    headers: HeaderNames,
    bounds: Bounds,
    turns: Semaphore,
    turns_max: usize,
    timeout: Duration,
    since: Instant,
    meter: Meter,
}

impl Webhook {
    /// None where no URL is set.
    pub(crate) fn open(config: &Config) -> Result<Option<Self>, WebhookError> {
        let settings = &config.webhook;
        if !settings.is_on() {
            return Ok(None);
        }
        let breaker = BreakerSettings {
            failures: settings.breaker_failures,
            window: settings.breaker_window,
            pause: settings.breaker_pause,
        };
        let endpoint = |event| {
            let (url, when_down) = settings.endpoint(event);
            let uri = url?.parse().expect("the configuration has been checked");
            Some(Endpoint::new(event, uri, when_down, breaker))
        };
        Ok(Some(Self {
            events: Event::ALL.map(endpoint),
            client: Client::new(settings)?,
            sealer: Sealer::new(settings.secret.as_ref()),
            headers: HeaderNames::new(&settings.forward_headers),
            bounds: Bounds {
                decoder: Decoder {
                    json_depth_max: config.limits.json_depth_max,
                    channel_bytes_max: config.engine.topic_bytes_max,
                    batch_messages_max: config.limits.batch_messages_max,
                },
                subscriptions_max: config.engine.subscriptions_max,
            },
            turns: Semaphore::new(settings.concurrency_max),
            turns_max: settings.concurrency_max,
            timeout: settings.timeout,
            since: Instant::now(),
            meter: Meter::default(),
        }))
    }

    /// Whether there is a backend for an event.
    pub(crate) fn decides(&self, event: Event) -> bool {
        self.events[event.index()].is_some()
    }

    /// What of a request goes on to the backend, if anything does.
    pub(crate) fn forwarded(&self, request: &Request<'_>) -> Option<Forwarded> {
        self.headers.pick(request)
    }

    /// Asks the backend, and says what becomes of it. Never longer than two time-outs: one for the turn, one for the answer.
    async fn decide(&self, event: Event, body: Vec<u8>, forwarded: Option<Forwarded>) -> Outcome {
        let Some(endpoint) = &self.events[event.index()] else { return Outcome::Unavailable };
        let Ok(Ok(turn)) = tokio::time::timeout(self.timeout, self.turns.acquire()).await else {
            self.meter.count(event, Answer::Waited);
            return Outcome::Busy;
        };
        let Some(ticket) = endpoint.admit(&self.meter, self.since.elapsed()) else {
            self.meter.count(event, Answer::BreakerOpen);
            return endpoint.down();
        };
        let request = self.sealer.seal(&endpoint.uri, body, forwarded.as_ref());
        let asked = Instant::now();
        let answered = self.client.post(request).await;
        self.meter.observe(asked.elapsed());
        drop(turn);
        let failed = answered.as_ref().is_err_and(|fault| fault.is_down());
        endpoint.record(&self.meter, ticket, failed, self.since.elapsed());
        match answered {
            Ok(body) => match self.bounds.read(event, &body) {
                Ok(outcome) => {
                    self.meter.count(event, Answer::of(&outcome));
                    outcome
                }
                Err(unusable) => self.unusable(event, endpoint, &unusable),
            },
            Err(fault) if fault.is_down() => {
                tracing::debug!(event = event.name(), %fault, "the webhook's backend is down");
                self.meter.count(event, fault.answer());
                endpoint.down()
            }
            Err(fault) => self.unusable(event, endpoint, &fault),
        }
    }

    fn unusable(&self, event: Event, endpoint: &Endpoint, reason: &dyn Display) -> Outcome {
        self.meter.count(event, Answer::Unusable);
        endpoint.complain(reason, self.since.elapsed());
        Outcome::Unavailable
    }
}
