//! What a connection knows of its own presence.

use std::sync::Arc;

use crore_engine::clock::unix_ms;
use crore_engine::{ConnectionId, Context};
use tokio::sync::oneshot::Sender;

use super::table::Metadata;
use super::{Arrival, PresenceNotice};
use crate::session::{Connection, Shared, names_bytes};

/// Where a connection is present, and as what. Only those have it that opened where a channel has a presence, or that
/// are in one.
#[derive(Debug, Default)]
pub(crate) struct Present {
    /// In milliseconds since the Unix epoch; 0 if no channel had a presence then.
    connected_ms: u64,
    /// What its token says of it.
    metadata: Option<Arc<str>>,
    /// Channels, in order.
    channels: Vec<Box<str>>,
}

impl Present {
    pub(crate) fn heap_bytes(&self) -> usize {
        names_bytes(&self.channels) + self.metadata.as_ref().map_or(0, |metadata| metadata.len())
    }

    /// The connection has opened.
    pub(crate) fn opened(&mut self) {
        self.connected_ms = unix_ms();
    }

    /// Takes note of a channel.
    fn add(&mut self, channel: &str) {
        if let Err(place) = self.place(channel) {
            self.channels.insert(place, channel.into());
        }
    }

    fn remove(&mut self, channel: &str) -> bool {
        let Ok(place) = self.place(channel) else { return false };
        self.channels.remove(place);
        if self.channels.len() * 4 < self.channels.capacity() {
            self.channels.shrink_to(self.channels.len() * 2);
        }
        true
    }

    fn place(&self, channel: &str) -> Result<usize, usize> {
        self.channels.binary_search_by(|other| (**other).cmp(channel))
    }
}

/// A connection subscribes to a channel with a presence, perhaps again: the home is told each time, since it may have had
/// no room before. What its tokens say of it outranks the `metadata` that it gives.
pub(crate) fn enter(
    shared: &Shared,
    context: &mut Context<'_>,
    connection: &mut Connection,
    channel: &str,
    metadata: Option<Arc<str>>,
) {
    let present = connection.present_mut();
    present.add(channel);
    if present.connected_ms == 0 {
        present.opened();
    }
    let metadata = by_tokens(shared, connection, channel).or(metadata);
    announce(shared, context, connection, channel.into(), metadata.map_or(Metadata::Keep, Metadata::Set));
}

/// Takes note of what a token says of a connection, and returns what the one before it has said.
pub(crate) fn describe(connection: &mut Connection, metadata: Option<Arc<str>>) -> Option<Arc<str>> {
    if metadata.is_none() && connection.present().is_none() {
        return None;
    }
    std::mem::replace(&mut connection.present_mut().metadata, metadata)
}

/// A connection has another name than before, by its first token.
pub(crate) fn identify(shared: &Shared, context: &mut Context<'_>, connection: &Connection) {
    let channels = connection.present().map(|present| present.channels.clone()).unwrap_or_default();
    for channel in channels {
        let metadata = by_tokens(shared, connection, &channel);
        announce(shared, context, connection, channel, metadata.map_or(Metadata::Keep, Metadata::Set));
    }
}

/// A token says something of a connection in place of what the one before it has said.
pub(crate) fn retell_all(
    shared: &Shared,
    context: &mut Context<'_>,
    connection: &Connection,
    before: Option<&Arc<str>>,
) {
    let Some(present) = connection.present().filter(|present| present.metadata.as_ref() != before) else { return };
    for channel in present.channels.clone() {
        let before = highest(shared, info(connection, &channel), before);
        tell_change(shared, context, connection, channel, before);
    }
}

/// A token for a channel says something in place of what the one before it has said of a connection, or that one has
/// ended.
pub(crate) fn retell(
    shared: &Shared,
    context: &mut Context<'_>,
    connection: &Connection,
    channel: &str,
    before: Option<&str>,
) {
    let Some(present) = connection.present().filter(|present| present.place(channel).is_ok()) else { return };
    let before = highest(shared, before, present.metadata.as_ref());
    tell_change(shared, context, connection, channel.into(), before);
}

/// Tells the home of a channel what a connection's tokens say of it by now, if that is something else.
fn tell_change(
    shared: &Shared,
    context: &mut Context<'_>,
    connection: &Connection,
    channel: Box<str>,
    before: Option<Arc<str>>,
) {
    let metadata = by_tokens(shared, connection, &channel);
    if metadata != before {
        announce(shared, context, connection, channel, metadata.map_or(Metadata::Clear, Metadata::Set));
    }
}

/// What a connection's token for a channel says of it.
fn info<'c>(connection: &'c Connection, channel: &str) -> Option<&'c str> {
    connection.permits()?.info(channel)
}

/// What a connection's tokens say of it in a channel.
fn by_tokens(shared: &Shared, connection: &Connection, channel: &str) -> Option<Arc<str>> {
    let metadata = connection.present().and_then(|present| present.metadata.as_ref());
    highest(shared, info(connection, channel), metadata)
}

/// What a token for the channel says outranks what its user's token says. Whatever is too long is as if it were not said.
fn highest(shared: &Shared, info: Option<&str>, metadata: Option<&Arc<str>>) -> Option<Arc<str>> {
    let fits = |text: &str| text.len() <= shared.presence.metadata_bytes_max();
    let info = info.filter(|info| fits(info)).map(Arc::from);
    info.or_else(|| metadata.filter(|metadata| fits(metadata)).cloned())
}

fn announce(
    shared: &Shared,
    context: &mut Context<'_>,
    connection: &Connection,
    channel: Box<str>,
    metadata: Metadata,
) {
    let id = context.id();
    let user = connection.name().map_or_else(|| id.to_string(), str::to_owned).into();
    let connected_ms = connection.present().map_or(0, |present| present.connected_ms);
    let home = shared.home_of(&channel);
    let arrival = Arrival { connection: id, user, connected_ms, metadata };
    context.tell_core(home, Box::new(PresenceNotice::Enter { channel, arrival }));
}

/// A connection unsubscribes from a channel.
pub(crate) fn leave(shared: &Shared, context: &mut Context<'_>, connection: &mut Connection, channel: &str) {
    if connection.present().is_some() && connection.present_mut().remove(channel) {
        tell_leave(shared, context, channel.into());
    }
}

/// A connection has closed.
pub(crate) fn leave_all(shared: &Shared, context: &mut Context<'_>, connection: &mut Connection) {
    if connection.present().is_none() {
        return;
    }
    for channel in std::mem::take(&mut connection.present_mut().channels) {
        tell_leave(shared, context, channel);
    }
}

fn tell_leave(shared: &Shared, context: &mut Context<'_>, channel: Box<str>) {
    let (home, connection) = (shared.home_of(&channel), context.id());
    context.tell_core(home, Box::new(PresenceNotice::Leave { channel, connection }));
}

/// To a connection: where is it present?
pub(crate) struct Whereabouts(pub(crate) Sender<WhereaboutsReport>);

/// The answer to that.
#[derive(Debug)]
pub(crate) struct WhereaboutsReport {
    pub(crate) connection: ConnectionId,
    /// In milliseconds since the Unix epoch, if that is known.
    pub(crate) connected_ms: Option<u64>,
    pub(crate) channels: Vec<Box<str>>,
}

impl Whereabouts {
    /// Answers, on the connection's core.
    pub(crate) fn answer(self, context: &Context<'_>, connection: &Connection) {
        let present = connection.present();
        let connected_ms = present.map(|present| present.connected_ms).filter(|connected_ms| *connected_ms > 0);
        let channels = present.map(|present| present.channels.clone()).unwrap_or_default();
        // Whoever has asked may have given up.
        let _ = self.0.send(WhereaboutsReport { connection: context.id(), connected_ms, channels });
    }
}
