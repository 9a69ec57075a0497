//! Back on the data core: what follows from an answer.

use super::answer::{Grant, Outcome};
use crate::call::Call;
use crate::inbound::Inbound;
use crate::session::{CODE_TRY_AGAIN_LATER, House};
use crate::wire::{Envelope, Refusal};
use crate::{chat, handlers};

/// Close code of a connection that the backend has refused (RFC 6455, section 7.4.1).
const CODE_POLICY_VIOLATION: u16 = 1008;

/// A message that the backend was asked about is handled again, or refused.
pub(super) fn conclude(call: &mut Call<'_, '_>, outcome: Outcome) -> Result<(), Refusal> {
    match outcome {
        Outcome::Granted(grant) => return call.again(&grant),
        Outcome::Disconnect { code, reason } => call.context.close(code, &reason),
        // An error in the backend's words.
        Outcome::Refused { code, message } => {
            call.counters.errors.add(1);
            tracing::debug!(connection = %call.context.id(), code, "refused by the webhook's backend");
            call.reply("error", |error| error.text("code", &code).text("error", &message));
        }
        Outcome::Unavailable => return Err(Refusal::Unavailable),
        Outcome::Busy => return Err(Refusal::Busy),
    }
    Ok(())
}

impl Inbound<'_, '_> {
    /// The backend has said whether the connection may be here.
    pub(super) fn conclude_connect(&mut self, outcome: Result<Outcome, Refusal>) {
        if let Some(grant) = self.consent(outcome, None) {
            self.admit(grant);
        }
    }

    /// The backend has said whether a connection that is open without a user may become this one's.
    pub(super) fn conclude_login(
        &mut self,
        outcome: Result<Outcome, Refusal>,
        user: &str,
        id: Option<&str>,
        log_in: impl FnOnce(&mut Self, Option<&str>) -> bool,
    ) {
        let Some(grant) = self.consent(outcome, id) else { return };
        if grant.user.as_deref().is_some_and(|named| named != user) {
            return self.contradicted(id);
        }
        if log_in(self, id) {
            self.accept(grant);
        }
    }

    /// What the backend grants; a connection to which it grants nothing is closed.
    fn consent(&mut self, outcome: Result<Outcome, Refusal>, id: Option<&str>) -> Option<Grant> {
        match outcome {
            Ok(Outcome::Granted(grant)) => return Some(grant),
            Ok(Outcome::Disconnect { code, reason }) => self.context.close(code, &reason),
            Ok(Outcome::Refused { code, message }) => {
                self.counters.errors.add(1);
                tracing::debug!(connection = %self.context.id(), code, "refused by the webhook's backend");
                if let Some(member) = self.connection.chat() {
                    chat::refuse(self.context, member, &message, self.now_ms);
                } else {
                    let error = Envelope::start(self.text, "error").id(id);
                    let error = error.text("code", &code).text("error", &message);
                    self.context.send(error.finish(self.now_ms));
                }
                self.context.close(CODE_POLICY_VIOLATION, &message);
            }
            Ok(Outcome::Unavailable) => self.turn_away(id, Refusal::Unavailable),
            Ok(Outcome::Busy) => self.turn_away(id, Refusal::Busy),
            Err(refusal) => self.turn_away(id, refusal),
        }
        None
    }

    /// The connection becomes one that others can reach.
    fn admit(&mut self, grant: Grant) {
        match (self.connection.name(), &grant.user) {
            (Some(name), Some(user)) if *name != **user => return self.contradicted(None),
            (None, Some(user)) => self.connection.set_user(user),
            _ => {}
        }
        let house = House { shared: self.shared, policy: self.policy };
        if !house.enter(self.context, self.connection, self.text) {
            return;
        }
        self.context.hear_broadcasts(true);
        house.greet(self.context, self.connection, self.text);
        self.accept(grant);
    }

    /// Does for a connection what else the backend wants.
    fn accept(&mut self, grant: Grant) {
        if grant.meta.is_some() {
            self.connection.hook_mut().meta = grant.meta;
        }
        // The plain chat knows no channels.
        if self.connection.chat().is_some() {
            return;
        }
        for channel in grant.channels {
            // As if the client had asked for it, so that it is told of one kind of subscription only.
            let subscribe = serde_json::json!({ "type": "subscribe", "channel": channel }).to_string();
            self.decode(&subscribe, |inbound, message| handlers::enroll(&mut inbound.call(message)));
        }
    }

    fn contradicted(&mut self, id: Option<&str>) {
        tracing::warn!("the webhook's backend names a user where a token, or a trusted header, names another");
        self.turn_away(id, Refusal::Unavailable);
    }

    /// A connection that nobody has decided about.
    fn turn_away(&mut self, id: Option<&str>, refusal: Refusal) {
        self.answer(id, Err(refusal));
        self.context.close(CODE_TRY_AGAIN_LATER, "Try again later");
    }
}
