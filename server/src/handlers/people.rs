//! Messages to one user, and to everyone.

use crate::call::Call;
use crate::wire::Refusal;

/// To every connection of the user in `to`.
pub(super) fn private(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    if !call.policy.clients.private {
        return Err(Refusal::Forbidden("`clients.private` is off"));
    }
    let user = call.message().to()?;
    let delivered = call.send_to_user(&user, "private")?;
    let delivered = u64::try_from(delivered).unwrap_or(u64::MAX);
    call.reply("response", |reply| reply.data_field("delivered", itoa::Buffer::new().format(delivered)));
    Ok(())
}

/// To every open connection, the sender's among them unless it asks otherwise.
pub(super) fn broadcast(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    if !call.policy.clients.broadcast {
        return Err(Refusal::Forbidden("`clients.broadcast` is off"));
    }
    let echo = call.message().echo()?.unwrap_or(true);
    call.broadcast("broadcast", echo)?;
    if call.message().id().is_some() {
        call.reply("response", |reply| reply.data_field("broadcast", "true"));
    }
    Ok(())
}
