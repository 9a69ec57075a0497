//! What becomes of a message that has come: it is read, counted, and handed to whoever answers its type.

mod queue;
mod waiting;

use crore_engine::{ConnectionId, Context};

use crate::auth::{self, Auth};
use crate::call::Call;
use crate::chat;
use crate::metrics::CoreCounters;
use crate::policy::Policy;
use crate::router::HandlerFn;
use crate::session::{Connection, House, Shared};
use crate::wire::{Envelope, Incoming, Refusal};

pub(crate) use self::queue::{Answer, GoOn, Queue, QueueBounds, WAIT_MAX, answer, give_up, keep};
pub(crate) use self::waiting::{Charge, WaitingBytes, WaitingText};

/// The type that is answered always, whatever the limit.
pub(crate) const PING: &str = "ping";

/// The type of several messages in one, unless another handler answers it.
const BATCH: &str = "batch";

/// The reason in the close frame of a connection that has sent too much.
const REASON_RATE_LIMITED: &str = "Rate limit exceeded";

/// A message of the engine on its way in, and what its answers take.
pub(crate) struct Inbound<'a, 'c> {
    pub(crate) context: &'a mut Context<'c>,
    pub(crate) connection: &'a mut Connection,
    pub(crate) shared: &'a Shared,
    pub(crate) policy: &'a Policy,
    pub(crate) counters: &'a CoreCounters,
    pub(crate) text: &'a mut String,
    pub(crate) recipients: &'a mut Vec<ConnectionId>,
    pub(crate) now_ms: u64,
    pub(crate) in_batch: bool,
    /// It has waited, and was counted when it came.
    pub(crate) from_queue: bool,
}

impl<'c> Inbound<'_, 'c> {
    /// A binary message, which nobody answers.
    pub(crate) fn binary(&mut self) {
        if self.connection.chat().is_some() {
            return self.chat(None);
        }
        let outcome = self.count().and(Err(Refusal::BinaryUnsupported));
        self.answer(None, outcome);
    }

    /// A text: the message of the engine, or one of a batch.
    pub(crate) fn text(&mut self, json: &str) {
        if self.gate().is_some_and(|auth| json.len() > auth.message_bytes_max()) {
            let outcome = self.count().and(Err(Refusal::Unauthenticated));
            return self.answer(None, outcome);
        }
        if self.connection.is_waiting() && !self.from_queue {
            return self.put_off(json);
        }
        if self.connection.chat().is_some() && self.gate().is_none() {
            return self.chat(Some(json));
        }
        self.decode(json, Self::message);
    }

    /// Does something with a message, and answers what can't be done.
    pub(crate) fn decode(&mut self, json: &str, act: impl FnOnce(&mut Self, &Incoming<'_>) -> Result<(), Refusal>) {
        let mut message = Incoming::unread(json, self.policy.decoder);
        match message.read() {
            Ok(()) => {
                let outcome = act(self, &message);
                self.answer(message.id(), outcome);
            }
            Err(rejected) => {
                let outcome = self.count().and(Err(rejected.refusal));
                self.answer(rejected.id, outcome);
            }
        }
        if self.connection.is_awaiting() {
            self.pace();
        }
    }

    fn message(&mut self, message: &Incoming<'_>) -> Result<(), Refusal> {
        let kind = message.kind();
        let is_refused = kind != auth::LOGIN_TYPE && self.gate().is_some();
        let handler = self.shared.router.find(kind);
        if kind == BATCH && handler.is_none() && !is_refused {
            return self.batch(message);
        }
        if kind != PING {
            self.count()?;
        }
        if is_refused {
            return Err(Refusal::Unauthenticated);
        }
        self.hand_over(handler, message)
    }

    /// A message that has been let in before, and had to wait.
    pub(crate) fn again(&mut self, json: &str) {
        match self.policy.decoder.decode(json) {
            Ok(message) => {
                let outcome = self.hand_over(self.shared.router.find(message.kind()), &message);
                self.answer(message.id(), outcome);
            }
            // The bounds are narrower by now.
            Err(rejected) => self.answer(rejected.id, Err(rejected.refusal)),
        }
        if self.connection.is_awaiting() {
            self.pace();
        }
    }

    fn hand_over(&mut self, handler: Option<&HandlerFn>, message: &Incoming<'_>) -> Result<(), Refusal> {
        let Some(handler) = handler else { return Err(Refusal::UnknownType(message.kind().to_owned())) };
        handler(&mut self.call(message))
    }

    pub(crate) fn call<'i>(&'i mut self, message: &'i Incoming<'i>) -> Call<'i, 'c> {
        let Self { context, connection, shared, policy, counters, text, recipients, now_ms, .. } = self;
        let (now_ms, grant) = (*now_ms, None);
        Call { message, context, connection, shared, policy, counters, text, recipients, now_ms, grant }
    }

    /// A message of a client of the plain chat; `None` if it is binary.
    fn chat(&mut self, json: Option<&str>) {
        let said = json.ok_or(Refusal::BinaryUnsupported).and_then(chat::read);
        if let (Ok(said), Some(member)) = (&said, self.connection.chat())
            && said.is_ping()
        {
            return chat::answer_ping(self.context, member, self.now_ms);
        }
        let outcome = self.count().and(said).and_then(|said| {
            let house = House { shared: self.shared, policy: self.policy };
            chat::hear(self.context, self.connection, house, said, self.now_ms)
        });
        self.answer(None, outcome);
    }

    /// What keeps the connection from all but showing who it is.
    fn gate(&self) -> Option<&Auth> {
        self.shared.auth.as_ref().filter(|auth| self.connection.is_gated(auth.required))
    }

    /// The client says whether it would like to be sent batches. The answer is not part of one.
    fn set_batches(&mut self, batch: &Incoming<'_>, enabled: bool) {
        if !enabled {
            self.context.coalesce(false);
        }
        let reply = Envelope::start(self.text, "response").id(batch.id());
        let reply = reply.data_field("batch", if enabled { "true" } else { "false" });
        self.context.send(reply.finish(self.now_ms));
        if enabled {
            self.context.coalesce(true);
        }
    }

    /// Each of its messages is answered as if it had come alone.
    fn batch(&mut self, batch: &Incoming<'_>) -> Result<(), Refusal> {
        match batch.enabled() {
            Ok(None) => {}
            enabled => {
                self.count()?;
                self.set_batches(batch, enabled? == Some(true));
                return Ok(());
            }
        }
        let messages = match batch.messages() {
            _ if self.in_batch => Err(Refusal::InvalidMessage("a batch can't be part of a batch")),
            messages => messages,
        };
        let messages = messages.or_else(|refusal| self.count().and(Err(refusal)))?;
        if self.from_queue {
            // It was to be refused when it came, and waited as a whole; the bounds are wider by now.
            self.put_in_front(&messages);
            return Ok(());
        }
        self.in_batch = true;
        for message in messages {
            // What comes behind the end of a connection is not read from a stream either.
            if self.context.is_closing() {
                break;
            }
            self.text(message.get());
        }
        self.in_batch = false;
        Ok(())
    }

    /// Counts a message against the limit of its sender.
    fn count(&mut self) -> Result<(), Refusal> {
        let Some(limiter) = self.shared.rate_limiter.as_ref().filter(|_| !self.from_queue) else { return Ok(()) };
        let now = self.context.now();
        let admitted = limiter.admit_user(self.connection.name());
        if admitted.unwrap_or_else(|| limiter.admit_connection(self.connection.rate_state(), now)) {
            return Ok(());
        }
        self.counters.rate_limited.add(1);
        Err(Refusal::RateLimited)
    }

    /// What can't be done is answered with an error.
    pub(crate) fn answer(&mut self, id: Option<&str>, outcome: Result<(), Refusal>) {
        let Err(refusal) = outcome else { return };
        self.counters.count_refused(&refusal);
        refuse(self.context, self.connection, self.text, id, &refusal, self.now_ms);
        if refusal == Refusal::RateLimited
            && let Some(code) = self.shared.rate_limiter.as_ref().and_then(|limiter| limiter.close_code())
        {
            self.context.close(code, REASON_RATE_LIMITED);
        }
    }
}

/// Tells a client what can't be done, in the form that it knows; the connection stays open.
#[cold]
pub(crate) fn refuse(
    context: &mut Context<'_>,
    connection: &Connection,
    text: &mut String,
    id: Option<&str>,
    refusal: &Refusal,
    now_ms: u64,
) {
    let detail = refusal.detail();
    tracing::debug!(connection = %context.id(), code = refusal.code(), ?detail, "refused");
    match connection.chat() {
        Some(member) => {
            let why = detail.unwrap_or_else(|| refusal.to_string().into());
            chat::refuse(context, member, &why, now_ms);
        }
        None => context.send(Envelope::error(text, id, refusal).finish(now_ms)),
    }
}
