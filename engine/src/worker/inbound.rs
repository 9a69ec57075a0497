//! Bytes that have come: through the decoder to the handler, and what it echoes straight back out.

use std::ops::Range;

use bytes::BytesMut;

use super::coalesce::Output;
use super::connection::{NONE, Phase, Watch, subscriptions};
use super::corks::Parcel;
use super::{Worker, context};
use crate::driver::{BufferId, Driver, Outgoing};
use crate::handler::{CloseCause, Context, CoreContext, Delivery, Handler};
use crate::limits::RECEIVE_BUFFER_BYTES;
use crate::message::{Message, Piece};
use crate::protocol::frame::{SERVER_HEADER_BYTES_MAX, append_frame, encode_header, server_header_bytes};
use crate::protocol::{DecoderConfig, Event, Input, Opcode};

/// Bytes of a heartbeat's payload: the worker's clock in nanoseconds, which comes back in the pong.
pub(super) const HEARTBEAT_BYTES: usize = 8;

/// Where bytes lie while they are handled.
pub(super) enum Source {
    /// In a receive buffer.
    Buffer(BufferId),
    /// Behind a request head.
    Head(Vec<u8>),
    /// In what was held for a connection that was paused.
    Held(BytesMut),
}

/// The frames at the front of a receive buffer that are to be sent from there.
///
/// An echo needs no more room than the message took: the header that we write is at least 4 bytes
/// shorter than the peer's, which carries a mask. So echoes of one buffer are moved together at its
/// front and never reach what has not been decoded yet.
#[derive(Default)]
pub(super) struct EchoRegion {
    start: usize,
    end: usize,
    messages: u32,
}

/// A message at hand that lies in place.
pub(super) struct InPlace<'r> {
    pub(super) source: &'r mut Source,
    pub(super) echo: &'r mut EchoRegion,
    pub(super) payload_start: usize,
    pub(super) payload_bytes: usize,
    pub(super) opcode: Opcode,
}

impl<D: Driver, H: Handler> Worker<D, H> {
    pub(super) fn on_received(&mut self, slot: u32, buffer: BufferId, bytes: usize, nonempty: bool, armed: bool) {
        self.stats.bytes_received += bytes as u64;
        let connection = self.connections.at(slot);
        connection.heard = true;
        let phase = connection.phase;
        if !armed {
            self.stop_watching(slot);
        }
        match phase {
            Phase::Open | Phase::Closing if self.is_behind(slot) => self.hold(slot, buffer, bytes),
            Phase::Open | Phase::Closing => self.on_bytes(slot, Source::Buffer(buffer), 0..bytes, false),
            Phase::Proxied | Phase::Handshake => self.on_head(slot, buffer, bytes),
            Phase::Finishing { .. } => self.driver.release(buffer),
            Phase::Ended => {
                self.driver.release(buffer);
                self.ended.push(slot);
                return;
            }
        }
        if armed {
            self.end_if_paused(slot);
            return;
        }
        let connection = self.connections.at(slot);
        let over = matches!(connection.phase, Phase::Ended | Phase::Finishing { linger: false });
        if over || connection.watch != Watch::Nothing || connection.is_paused() {
            return;
        }
        let hot = connection.messages >= crate::limits::HOT_MESSAGES;
        if !hot && (nonempty || bytes == RECEIVE_BUFFER_BYTES) {
            self.receive(slot);
        } else {
            self.watch(slot);
        }
    }

    /// Decodes the bytes of `source` in `range`, which come behind everything decoded before: as long as there
    /// is room for what they cause, or all of them. What does not find room is held.
    pub(super) fn on_bytes(&mut self, slot: u32, mut source: Source, range: Range<usize>, all: bool) {
        let Range { start: mut position, end: length } = range;
        let mut echo = EchoRegion::default();
        let deflate = self.connections.at(slot).deflate;
        let decoding = DecoderConfig { deflate, ..self.decoding };
        loop {
            let id = self.connections.id_at(slot);
            let connection = self.connections.at(slot);
            let open = match connection.phase {
                Phase::Open => true,
                Phase::Closing => false,
                _ => break,
            };
            if connection.stopped && !all {
                connection.decoder.take_back(&mut self.partials);
                if position < length {
                    self.hold_rest(slot, &mut source, position..length);
                }
                break;
            }
            let bytes = match &mut source {
                Source::Buffer(buffer) => &mut self.driver.bytes(buffer)[position..length],
                Source::Head(bytes) => &mut bytes[position..length],
                Source::Held(bytes) => &mut bytes[position..length],
            };
            let outbox_bytes = connection.outbox_bytes();
            let mut input = Input::new(bytes);
            let event = match connection.decoder.next(&decoding, &mut self.partials, &mut input) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    self.flush_echo(slot, &mut source, &mut echo);
                    self.on_protocol_error(slot, &error);
                    break;
                }
            };
            // Whether the payload lies in the input, so that there is no more of it than was received.
            let mut lies_here = true;
            match event {
                Event::Message { kind, payload, at } => {
                    let message = Message::received(kind, payload);
                    let (payload_bytes, opcode) = (payload.len(), Opcode::from(kind));
                    if open {
                        self.stats.messages_received += 1;
                        connection.messages = connection.messages.saturating_add(1);
                        // Only a message in place can be echoed there; another one is copied, compressed, or joined.
                        let as_it_is = !deflate.is_agreed()
                            || self.deflating.as_ref().is_none_or(|deflating| !deflating.is_worth(payload_bytes));
                        let as_it_is = as_it_is && !connection.coalesces;
                        self.actions.set_current(at.filter(|_| as_it_is).and(Some(message)));
                        let mut context = context!(self, id, connection, outbox_bytes);
                        self.handler.on_message(&mut context, &mut connection.state, message);
                    }
                    let start = position;
                    position += input.position();
                    if open {
                        if at.is_none() {
                            // What it causes follows the echoes so far.
                            self.flush_echo(slot, &mut source, &mut echo);
                        }
                        let in_place = at.map(|at| InPlace {
                            source: &mut source,
                            echo: &mut echo,
                            payload_start: start + at,
                            payload_bytes,
                            opcode,
                        });
                        self.apply(slot, in_place);
                    }
                    lies_here = at.is_some();
                }
                Event::Begin(start) => {
                    position += input.position();
                    // What nobody will be told of need not be kept either.
                    let mut delivery = Delivery::Pieces;
                    if open {
                        delivery = self.ask(slot, |handler, context, state| handler.on_begin(context, state, start));
                    }
                    if delivery == Delivery::Pieces {
                        self.connections.at(slot).decoder.deliver_in_pieces();
                    }
                    self.apply_behind(slot, &mut source, &mut echo);
                }
                Event::Piece { kind, bytes, last } => {
                    if open {
                        self.stats.messages_received += u64::from(last);
                        connection.messages = connection.messages.saturating_add(u16::from(last));
                        self.actions.set_current(None);
                        let mut context = context!(self, id, connection, outbox_bytes);
                        self.handler.on_piece(&mut context, &mut connection.state, Piece { kind, bytes, last });
                    }
                    position += input.position();
                    self.apply_behind(slot, &mut source, &mut echo);
                    lies_here = false;
                }
                Event::Ping(payload) => {
                    let mut pong = self.corks.buffer();
                    append_frame(&mut pong, Opcode::Pong, payload);
                    let payload_bytes = payload.len();
                    position += input.position();
                    if open {
                        self.flush_echo(slot, &mut source, &mut echo);
                        self.append(slot, &pong, 0);
                        let header = pong.len() - payload_bytes;
                        self.call(slot, |handler, context, state| handler.on_ping(context, state, &pong[header..]));
                    }
                    self.corks.recycle(pong);
                }
                Event::Pong(payload) => {
                    let sent = <[u8; HEARTBEAT_BYTES]>::try_from(payload).ok().map(u64::from_be_bytes);
                    position += input.position();
                    // One answer to each ping: what comes unasked is a sign of life and no more.
                    if open
                        && let Some(round_trip) = sent.and_then(|sent| self.round_trip(sent))
                        && std::mem::take(&mut self.connections.at(slot).pinged)
                    {
                        self.flush_echo(slot, &mut source, &mut echo);
                        self.call(slot, |handler, context, state| handler.on_pong(context, state, round_trip));
                    }
                }
                Event::Close(frame) => {
                    let (code, reason) = (frame.code, frame.reason.to_owned());
                    self.flush_echo(slot, &mut source, &mut echo);
                    self.on_close_frame(slot, code, &reason);
                    break;
                }
            }
            // A few bytes may be decompressed to megabytes: what they cause has to find room as they come.
            if !lies_here && !all && self.is_behind(slot) {
                self.connections.at(slot).decoder.take_back(&mut self.partials);
                self.hold_rest(slot, &mut source, position..length);
                break;
            }
        }
        self.finish_echo(slot, source, &echo);
    }

    /// Applies what the handler has asked for, if anything, behind the echoes so far.
    fn apply_behind(&mut self, slot: u32, source: &mut Source, echo: &mut EchoRegion) {
        if !self.actions.is_empty() {
            self.flush_echo(slot, source, echo);
            self.apply(slot, None);
        }
    }

    /// Moves the message at hand behind the echoes before it, with our header.
    pub(super) fn echo(&mut self, slot: u32, in_place: &mut InPlace<'_>) {
        if self.is_joined_for(slot) {
            self.flush_echo(slot, in_place.source, in_place.echo);
            self.deliver_ahead(slot);
            // Messages may be joined since the one at hand has come.
            self.flush_joined(slot);
        }
        let InPlace { source, echo, payload_start, payload_bytes, opcode } = in_place;
        let bytes = match source {
            Source::Buffer(buffer) => self.driver.bytes(buffer),
            Source::Head(bytes) => bytes,
            Source::Held(bytes) => bytes,
        };
        let header_bytes = server_header_bytes(*payload_bytes);
        let frame_start = if echo.messages == 0 { *payload_start - header_bytes } else { echo.end };
        let mut header = [0; SERVER_HEADER_BYTES_MAX];
        encode_header(*opcode, true, *payload_bytes, &mut header);
        let payload_target = frame_start + header_bytes;
        if payload_target != *payload_start {
            bytes.copy_within(*payload_start..*payload_start + *payload_bytes, payload_target);
        }
        bytes[frame_start..payload_target].copy_from_slice(&header[..header_bytes]);
        if echo.messages == 0 {
            echo.start = frame_start;
        }
        echo.end = payload_target + *payload_bytes;
        echo.messages += 1;
    }

    /// Copies the echoes so far into the connection's cork, for something else follows them.
    pub(super) fn flush_echo(&mut self, slot: u32, source: &mut Source, echo: &mut EchoRegion) {
        if echo.messages == 0 {
            return;
        }
        let EchoRegion { start, end, messages } = std::mem::take(echo);
        let bytes = match source {
            Source::Buffer(buffer) => &self.driver.bytes(buffer)[start..end],
            Source::Head(bytes) => &bytes[start..end],
            Source::Held(bytes) => &bytes[start..end],
        };
        let connection = self.connections.at(slot);
        self.stats.messages_sent += u64::from(messages);
        self.corks.append(slot, connection, bytes, messages);
    }

    /// Sends the echoes from the receive buffer itself if nothing is in their way, and releases it.
    fn finish_echo(&mut self, slot: u32, mut source: Source, echo: &EchoRegion) {
        let can_pin = self.can_pin_buffer();
        let connection = self.connections.at(slot);
        let direct = can_pin && echo.messages > 0 && connection.cork == NONE && !connection.sending;
        match source {
            #[expect(clippy::cast_possible_truncation, reason = "offsets within a receive buffer")]
            Source::Buffer(buffer) if direct => {
                self.stats.messages_sent += u64::from(echo.messages);
                let outgoing = Outgoing::Received { buffer, start: echo.start as u32, end: echo.end as u32 };
                self.corks.push(slot, connection, Parcel::new(outgoing, echo.messages));
            }
            _ => {
                let mut echo = EchoRegion { start: echo.start, end: echo.end, messages: echo.messages };
                self.flush_echo(slot, &mut source, &mut echo);
                if let Source::Buffer(buffer) = source {
                    self.driver.release(buffer);
                }
            }
        }
    }

    fn on_protocol_error(&mut self, slot: u32, error: &crate::protocol::ProtocolError) {
        self.stats.closed_protocol += 1;
        tracing::debug!(connection = %self.connections.id_at(slot), %error, "protocol error");
        self.fail(slot, error.close_code(), &error.to_string(), CloseCause::Protocol);
    }

    /// Appends encoded frames to what this turn has for the connection.
    pub(super) fn append(&mut self, slot: u32, frames: &[u8], messages: u32) {
        self.flush_joined(slot);
        let connection = self.connections.at(slot);
        self.stats.messages_sent += u64::from(messages);
        self.corks.append(slot, connection, frames, messages);
    }

    /// Appends an encoded message: compressed if that was agreed on, joined if that was asked for.
    pub(super) fn append_message(&mut self, slot: u32, frame: &[u8]) {
        self.deliver_ahead(slot);
        self.stats.messages_sent += 1;
        if self.connections.at(slot).coalesces {
            return self.join(slot, frame);
        }
        let Self { connections, corks, deflating, held, stats, .. } = self;
        let mut output = Output { corks, deflating: deflating.as_mut(), held, stats };
        output.append(slot, connections.at(slot), frame, 1);
    }

    fn round_trip(&self, sent: u64) -> Option<std::time::Duration> {
        self.clock.now().checked_sub(std::time::Duration::from_nanos(sent))
    }
}
