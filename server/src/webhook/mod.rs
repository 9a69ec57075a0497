//! The webhook: a backend of the user's decides, over HTTP, who connects, who subscribes and publishes to which channel,
//! and answers requests by their method.
//!
//! ```text
//! data core ── seat ──► control thread: turn ─► breaker ─► POST ─► answer ── Outcome ──► data core
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
//! A question fails that does not reach the backend, is not answered within `webhook.timeout`, loses its connection, or
//! is answered with 429 or 5xx; the client is told `unavailable` then, and a connection is closed with 1013. Where the
//! backend *can't be asked*, because there is no connection to it or the circuit breaker of the event is open, what was
//! asked for may be done as if the answer were `{"result":{}}`: `webhook.connect_when_down` and so on say so. It is
//! never done for one question that the backend has failed at, since a client may have made it so that it fails.
//!
//! So many failures within a window (`webhook.breaker_failures`, `webhook.breaker_window`) open the circuit breaker. Those
//! of one user count as one, and so do those of one address where there is no user, unless there was no connection to the
//! backend at all: nobody opens the breaker alone. (Behind a proxy that `trusted_proxies` does not name all have
//! one address.) The backend is not asked for `webhook.breaker_pause` then. After it one question goes out, and another one
//! after each further pause; the first that is answered closes the breaker. Whose question was the last one, and has
//! failed, lets others ask first for one pause.
//!
//! At most `webhook.concurrency_max` questions about one event are out at one time, the rest take their turn. One whose turn does
//! not come within `webhook.timeout`, or that finds
//! [`QUESTIONS_MAX`](crate::control::QUESTIONS_MAX) others about the same event before it, or for which the control thread has no room
//! ([`JOBS_MAX`](crate::control::JOBS_MAX)) or the core none (`limits.waiting_bytes_per_core_max`), is answered with `busy`. So a
//! slow answer to one event keeps none to another: not `rpc` those who connect. A message that waits is in memory once: what
//! the backend is sent of it lies in it. A connection has one question out at most. What it sends meanwhile is handled afterwards, in
//! order: it waits within bounds, beyond which it stays in the socket or is refused (`limits.inbound_overload`). A subscription whose token waits for
//! its key is asked about when that has come, and lets others pass until then. An answer for a connection that has ended
//! is dropped.
//!
//! # What is counted
//!
//! `crore_webhook_answers_total{event,outcome}`, `crore_webhook_answer_seconds`, `crore_webhook_in_flight{event}`,
//! `crore_webhook_waiting{event}` (for a turn), `crore_webhook_breaker_state{event}` (0 closed, 1 half-open, 2 open) and `crore_webhook_breaker_opened_total{event}`;
//! of what waits `crore_waiting_bytes` and `crore_waiting_refused_total`, and of what waits behind a question
//! `crore_inbound_pauses_total` and `crore_messages_overloaded_total`. The log has a line for each change of a breaker's state, and one a second at most
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

pub(crate) use self::answer::Grant;
pub(crate) use self::ask::{ask_about, ask_to_connect, ask_to_log_in};
pub(crate) use self::hook::{Forwarded, Hook};
pub(crate) use self::meter::{ANSWER_US, Answer, EventReport, Report};
pub(crate) use self::sign::check_secret;

use self::answer::{Bounds, Outcome};
use self::breaker::{Asker, Failure};
use self::client::{Client, Fault};
use self::endpoint::{Endpoint, Seat};
use self::hook::HeaderNames;
use self::meter::Meter;
use self::request::{Question, Sealer};
use crate::config::Config;
use crate::wire::{Decoder, Refusal};

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
        let endpoint = |event| {
            let (url, when_down) = settings.endpoint(event);
            let uri = url?.parse().expect("the configuration has been checked");
            Some(Endpoint::new(event, uri, when_down, settings))
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

    /// A seat for a question about an event.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: there are as many as there may be.
    fn seat(&self, event: Event) -> Result<Option<Seat>, Refusal> {
        let endpoint = self.events[event.index()].as_ref();
        endpoint.map(|endpoint| endpoint.seat().ok_or(Refusal::Busy)).transpose()
    }

    /// Asks the backend, and says what becomes of it. Never longer than two time-outs: one for the turn, one for the answer.
    async fn decide(&self, event: Event, asker: Asker, question: Question, forwarded: Option<Forwarded>) -> Outcome {
        let Some(endpoint) = &self.events[event.index()] else { return Outcome::Unavailable };
        let left_alone = || {
            self.meter.count(event, Answer::BreakerOpen);
            endpoint.down()
        };
        if endpoint.is_shut(self.since.elapsed()) {
            return left_alone();
        }
        let Some(turn) = endpoint.turn(self.timeout).await else {
            self.meter.count(event, Answer::Waited);
            return Outcome::Busy;
        };
        let Some(ticket) = endpoint.admit(&self.meter, &asker, self.since.elapsed()) else { return left_alone() };
        let request = self.sealer.seal(&endpoint.uri, question, forwarded.as_ref());
        let asked = Instant::now();
        let answered = self.client.post(request).await;
        self.meter.observe(asked.elapsed());
        drop(turn);
        let failure = answered.as_ref().err().filter(|fault| fault.is_failure()).map(|fault| match fault {
            Fault::Unreachable => Failure::Unreachable,
            _ => Failure::Of(asker),
        });
        endpoint.record(&self.meter, ticket, failure, self.since.elapsed());
        match answered {
            Ok(body) => match self.bounds.read(event, &body) {
                Ok(outcome) => {
                    self.meter.count(event, Answer::of(&outcome));
                    outcome
                }
                Err(unusable) => self.unusable(event, endpoint, &unusable),
            },
            Err(fault) if fault.is_failure() => {
                tracing::debug!(event = event.name(), %fault, "the webhook's backend has failed");
                self.meter.count(event, fault.answer());
                if fault == Fault::Unreachable { endpoint.down() } else { Outcome::Unavailable }
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
