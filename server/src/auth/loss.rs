//! What a token takes away that is shown after another one: subscriptions that only the earlier one allowed.
//!
//! Looked at once, when the token is shown, for as many channels as a connection may have. A subscription that neither
//! of the two allows is not theirs to end: rules that have changed since, or the backend, let it begin.

use crore_engine::Context;
use crore_engine::clock::unix_ms;

use super::Permits;
use crate::channel::{Action, Grants, Identity};
use crate::handlers;
use crate::inbound::refuse;
use crate::session::{Connection, House};
use crate::wire::{Envelope, Refusal};

/// Ends the subscriptions that the grants of `before` allowed and those of now do not, and says so.
pub(super) fn end_lost_subscriptions(
    house: House<'_>,
    context: &mut Context<'_>,
    connection: &mut Connection,
    text: &mut String,
    before: Option<&Grants>,
) {
    if connection.permits().and_then(Permits::grants) == before || !house.policy.channels.any_access() {
        return;
    }
    let counters = house.shared.metrics.core(context.id().core().index());
    let forbidden = Refusal::Forbidden(Action::Subscribe.refusal());
    let now_ms = unix_ms();
    for channel in lost(house, context, connection, before) {
        for id in connection.give_up_pending(&channel) {
            counters.count_refused(&forbidden);
            refuse(context, connection, text, id.as_deref(), &forbidden, now_ms);
        }
        connection.drop_permit(&channel);
        if context.is_subscribed(&channel) {
            let (shared, rules) = (house.shared, &house.policy.channels);
            handlers::end_subscription(shared, context, connection, rules, &channel, text, now_ms);
            counters.subscriptions_revoked.add(1);
            let ended = Envelope::start(text, "unsubscribed").text("channel", &channel);
            context.send(ended.text("code", forbidden.code()).text("error", &forbidden).finish(now_ms));
        }
    }
}

/// Channels that the connection may not subscribe to any more, of those to which it is subscribed or about to be.
fn lost(house: House<'_>, context: &Context<'_>, connection: &Connection, before: Option<&Grants>) -> Vec<Box<str>> {
    let is_lost = |channel: &&str| {
        let now = connection.identity(channel, false);
        let may = |identity| house.policy.channels.may(Action::Subscribe, &identity, channel);
        may(Identity { grants: before, ..now }) && !may(now)
    };
    let mut lost: Vec<Box<str>> =
        context.subscriptions().chain(connection.pending_channels()).filter(is_lost).map(Into::into).collect();
    lost.sort_unstable();
    lost.dedup();
    lost
}
