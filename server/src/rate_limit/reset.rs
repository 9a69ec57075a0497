//! Forgiveness: a sender that may begin anew.

use crore_engine::{CoreId, EngineHandle, Untold};

/// A core is told: who may begin anew.
pub(crate) struct ResetUser(pub(crate) Box<str>);

/// A connection is told: it may begin anew.
pub(crate) struct Reset;

/// Lets a user, or a connection that is named by its identifier, begin anew, as if it had sent nothing: from any
/// thread, soon after the call. Where nothing is limited, nothing happens.
///
/// # Errors
/// The engine takes no more commands; try again later.
pub fn reset(engine: &EngineHandle, user: &str) -> Result<(), Untold> {
    engine.tell_core(CoreId(0), Box::new(ResetUser(user.into())))
}
