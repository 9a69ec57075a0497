//! How a connection becomes one that others can reach.

use crore_engine::Context;
use crore_engine::clock::unix_ms;

use super::{Connection, Shared};
use crate::chat;
use crate::inbound::refuse;
use crate::policy::Policy;
use crate::users::TooManyConnections;
use crate::webhook::{Event, ask_to_connect};
use crate::wire::{Envelope, Refusal};

/// Close code of a user's connection too many.
const CODE_TOO_MANY_CONNECTIONS: u16 = 4029;

/// Close code of a connection in whose place its user has opened another one.
const CODE_REPLACED: u16 = 4030;

/// Close code of a connection that may come back (RFC 6455's registry, section 11.7).
pub(crate) const CODE_TRY_AGAIN_LATER: u16 = 1013;

/// What a core serves by.
#[derive(Clone, Copy)]
pub(crate) struct House<'h> {
    pub(crate) shared: &'h Shared,
    pub(crate) policy: &'h Policy,
}

impl House<'_> {
    /// A connection is one that may be here, as far as its token goes: it enters and is greeted, at once or when the
    /// backend has agreed. `hears` says whether it receives what is broadcast already.
    pub(crate) fn open(self, context: &mut Context<'_>, connection: &mut Connection, text: &mut String, hears: bool) {
        if let Some(webhook) = self.shared.webhook.as_ref().filter(|webhook| webhook.decides(Event::Connect)) {
            if hears {
                context.hear_broadcasts(false);
            }
            if let Err(refusal) = ask_to_connect(self, webhook, context, connection) {
                self.shared.metrics.core(context.id().core().index()).count_refused(&refusal);
                refuse(context, connection, text, None, &refusal, unix_ms());
                context.close(CODE_TRY_AGAIN_LATER, "Try again later");
            }
            return;
        }
        if self.enter(context, connection, text) {
            if !hears {
                context.hear_broadcasts(true);
            }
            self.greet(context, connection, text);
        }
    }

    /// A connection becomes one that others can reach, perhaps in place of another one; `false` if its user has too many.
    pub(crate) fn enter(self, context: &mut Context<'_>, connection: &Connection, text: &mut String) -> bool {
        let Policy { connections_per_user_max: most, connections_per_user_excess: excess, .. } = *self.policy;
        let counters = self.shared.metrics.core(context.id().core().index());
        let TooManyConnections(most) = match self.shared.users.enter(context.id(), connection.name(), most, excess) {
            Ok(replaced) => {
                for other in replaced {
                    counters.replaced.add(1);
                    context.close_connection(other, CODE_REPLACED, "Replaced by another connection");
                }
                return true;
            }
            Err(too_many) => too_many,
        };
        let refusal = Refusal::TooManyConnections(most);
        counters.count_refused(&refusal);
        refuse(context, connection, text, None, &refusal, unix_ms());
        context.close(CODE_TOO_MANY_CONNECTIONS, "Too many connections");
        false
    }

    pub(crate) fn greet(self, context: &mut Context<'_>, connection: &Connection, text: &mut String) {
        if let Some(member) = connection.chat() {
            return chat::greet(context, member, unix_ms());
        }
        let Some(message) = &self.policy.welcome else { return };
        let id = context.id();
        let envelope = Envelope::start(text, "welcome").text("message", message);
        context.send(envelope.identity(id, connection.sender(id)).finish(unix_ms()));
    }
}
