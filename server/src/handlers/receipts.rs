//! Read receipts: who has read what, for those who are there. Nothing of it is kept.

use super::rooms;
use crate::call::Call;
use crate::channel::Action;
use crate::wire::{Envelope, Refusal};

/// To all other subscribers; acknowledged if the client asks by an `id`.
pub(super) fn read(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    let ids = call.message().ids()?;
    call.require_subscription(&channel)?;
    call.require(Action::Publish, &channel)?;
    let sender = call.connection.sender(call.context.id());
    let receipt = Envelope::start(call.text, "read").channel(&channel).from(sender).json("ids", ids);
    rooms::tell_others(call.context, &call.policy.channels, channel.name(), receipt.finish(call.now_ms));
    call.counters.receipts.add(1);
    if call.message().id().is_some() {
        call.reply("response", |reply| reply.data_field("read", "true"));
    }
    Ok(())
}
