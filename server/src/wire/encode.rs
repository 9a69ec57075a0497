//! Messages of the server, written straight into a reused text.

use std::fmt::{self, Write};

use crore_engine::ConnectionId;

use super::Refusal;
use crate::channel::ChannelName;
use crate::history::Position;
use crate::home::Caught;

/// Bytes that the home of a channel adds to a message that was left open, at most: its place and its time.
pub(crate) const PLACE_BYTES_MAX: usize = {
    let (number, epoch) = (u64::MAX.ilog10() as usize + 1, u64::BITS as usize / 4);
    ",\"offset\":,\"epoch\":\"\",\"timestamp\":}".len() + 2 * number + epoch
};

/// Who a message comes from.
#[derive(Clone, Copy, Debug)]
pub enum Sender<'a> {
    /// A connection without a user: its identifier stands for one.
    Connection(ConnectionId),
    /// A user, as a JSON string.
    User(&'a str),
}

/// A message being written. Fields come out in the order of the calls.
#[derive(Debug)]
pub struct Envelope<'t> {
    text: &'t mut String,
}

impl<'t> Envelope<'t> {
    /// Begins a message of a type. `kind` is written as it is: a word without quotes or escapes.
    #[inline]
    pub fn start(text: &'t mut String, kind: &str) -> Self {
        text.clear();
        text.push_str("{\"type\":\"");
        text.push_str(kind);
        text.push('"');
        Self { text }
    }

    /// Goes on with a message that was [left open](Self::leave_open).
    pub(crate) fn resume(text: &'t mut String, opened: &str) -> Self {
        text.clear();
        text.push_str(opened);
        Self { text }
    }

    /// Leaves the message as it is, to be gone on with elsewhere.
    pub(crate) fn leave_open(self) -> &'t str {
        self.text
    }

    /// Begins an error.
    pub fn error(text: &'t mut String, id: Option<&str>, refusal: &Refusal) -> Self {
        let mut envelope = Self::start(text, "error").id(id).text("code", refusal.code()).text("error", refusal);
        if let Some(detail) = refusal.detail() {
            envelope = envelope.text("detail", detail);
        }
        envelope
    }

    /// Begins the announcement that messages were dropped, of a channel or of all that the client is sent.
    pub fn gap(text: &'t mut String, channel: Option<&str>, dropped: u32) -> Self {
        let envelope = Self::start(text, "gap");
        let envelope = match channel {
            Some(channel) => envelope.text("channel", channel),
            None => envelope,
        };
        envelope.json("dropped", itoa::Buffer::new().format(dropped))
    }

    /// `id`, as the client wrote it.
    #[must_use]
    pub fn id(self, id: Option<&str>) -> Self {
        match id {
            Some(id) => self.json("id", id),
            None => self,
        }
    }

    /// `channel`.
    #[must_use]
    pub fn channel(self, channel: &ChannelName<'_>) -> Self {
        self.json("channel", channel.json())
    }

    /// `from`.
    #[must_use]
    pub fn from(self, sender: Sender<'_>) -> Self {
        let envelope = self.json("from", "");
        push_sender(envelope.text, sender);
        envelope
    }

    /// `connection_id` and `user_id`.
    #[must_use]
    pub fn identity(self, id: ConnectionId, sender: Sender<'_>) -> Self {
        self.text.push(',');
        push_identity(self.text, id, sender);
        self
    }

    /// `user_id`.
    #[must_use]
    pub fn user_id(self, user: Sender<'_>) -> Self {
        let envelope = self.json("user_id", "");
        push_sender(envelope.text, user);
        envelope
    }

    /// `data` with `connection_id` and `user_id`.
    #[must_use]
    pub fn data_identity(self, id: ConnectionId, sender: Sender<'_>) -> Self {
        let envelope = self.json("data", "{");
        push_identity(envelope.text, id, sender);
        envelope.text.push('}');
        envelope
    }

    /// `expires_at`, in milliseconds since the Unix epoch, if there is an end.
    #[must_use]
    pub fn expires_at(self, end_ms: Option<u64>) -> Self {
        match end_ms {
            Some(end_ms) => self.json("expires_at", itoa::Buffer::new().format(end_ms)),
            None => self,
        }
    }

    /// `data`, any JSON value.
    #[must_use]
    pub fn data(self, json: &str) -> Self {
        self.json("data", json)
    }

    /// `data` with one field, whose value is any JSON value.
    #[must_use]
    pub fn data_field(self, key: &str, json: &str) -> Self {
        let envelope = self.json("data", "{\"");
        for part in [key, "\":", json, "}"] {
            envelope.text.push_str(part);
        }
        envelope
    }

    /// `offset` and `epoch`: the place of a publication in its channel.
    #[must_use]
    pub(crate) fn position(self, position: Position) -> Self {
        self.text.push(',');
        push_position(self.text, position);
        self
    }

    /// `data` of the answer to a publication that was kept at a place.
    #[must_use]
    pub(crate) fn data_published(self, position: Position) -> Self {
        let envelope = self.json("data", "{\"published\":true,");
        push_position(envelope.text, position);
        envelope.text.push('}');
        envelope
    }

    /// `data` of the answer to a subscription that begins behind a place: with `key` the channel's name, and whether
    /// what was missed follows in full, if the client wanted that.
    #[must_use]
    pub(crate) fn data_followed(self, key: &str, channel: &str, position: Position, recovered: Option<bool>) -> Self {
        let mut envelope = self.json("data", "{\"");
        envelope.text.push_str(key);
        envelope.text.push_str("\":");
        envelope = envelope.quoted(channel);
        envelope.text.push(',');
        push_position(envelope.text, position);
        if let Some(recovered) = recovered {
            envelope.text.push_str(if recovered { ",\"recovered\":true" } else { ",\"recovered\":false" });
        }
        envelope.text.push('}');
        envelope
    }

    /// `data` of the answer to a question for what is kept.
    #[must_use]
    pub(crate) fn data_history(self, caught: &Caught, position: Position) -> Self {
        let envelope = self.json("data", "{\"messages\":[");
        for (index, message) in caught.messages.iter().enumerate() {
            if index > 0 {
                envelope.text.push(',');
            }
            envelope.text.push_str(message);
        }
        envelope.text.push_str(if caught.complete { "],\"complete\":true," } else { "],\"complete\":false," });
        push_position(envelope.text, position);
        envelope.text.push('}');
        envelope
    }

    /// A field whose value is JSON already. Inlined, so that what is around the value is written by a few stores.
    #[inline(always)]
    #[must_use]
    pub fn json(self, key: &str, json: &str) -> Self {
        self.text.push_str(",\"");
        self.text.push_str(key);
        self.text.push_str("\":");
        self.text.push_str(json);
        self
    }

    /// A field whose value is a text that still has to be quoted.
    #[must_use]
    pub fn text(self, key: &str, text: impl fmt::Display) -> Self {
        self.json(key, "").quoted(text)
    }

    fn quoted(self, text: impl fmt::Display) -> Self {
        self.text.push('"');
        write!(Escape(self.text), "{text}").expect("a string takes all that is written to it");
        self.text.push('"');
        self
    }

    /// Ends the message with its `timestamp`, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn finish(self, now_ms: u64) -> &'t str {
        let envelope = self.json("timestamp", itoa::Buffer::new().format(now_ms));
        envelope.text.push('}');
        envelope.text
    }
}

/// Writes text into the inside of a JSON string (RFC 8259, section 7).
struct Escape<'t>(&'t mut String);

impl Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '"' | '\\' => self.0.extend(['\\', character]),
                '\0'..='\x1f' => write!(self.0, "\\u{:04x}", u32::from(character))?,
                _ => self.0.push(character),
            }
        }
        Ok(())
    }
}

fn push_position(text: &mut String, Position { epoch, offset }: Position) {
    text.push_str("\"offset\":");
    text.push_str(itoa::Buffer::new().format(offset));
    text.push_str(",\"epoch\":\"");
    write!(text, "{epoch}").expect("a string takes all that is written to it");
    text.push('"');
}

fn push_identity(text: &mut String, id: ConnectionId, sender: Sender<'_>) {
    text.push_str("\"connection_id\":");
    push_sender(text, Sender::Connection(id));
    text.push_str(",\"user_id\":");
    push_sender(text, sender);
}

fn push_sender(text: &mut String, sender: Sender<'_>) {
    match sender {
        Sender::User(json) => text.push_str(json),
        Sender::Connection(id) => {
            text.push('"');
            push_connection_id(text, id);
            text.push('"');
        }
    }
}

/// Writes an identifier as its `Display` does. It stands in every message that is published, where
/// the machinery of `fmt` would cost more than all the rest of the envelope.
fn push_connection_id(text: &mut String, id: ConnectionId) {
    let push_number = |text: &mut String, number: u32| {
        for digit in (0..=(number | 1).ilog2() / 4).rev() {
            text.push(char::from_digit(number >> (4 * digit) & 0xf, 16).expect("four bits"));
        }
    };
    push_number(text, id.core().0.into());
    text.push('-');
    push_number(text, id.slot());
    text.push('-');
    push_number(text, id.generation());
}

#[cfg(test)]
mod tests {
    use crore_engine::CoreId;

    use super::*;

    fn channel() -> ChannelName<'static> {
        ChannelName::parse("\"chat:room1\"", 64).unwrap()
    }

    #[test]
    fn replies_have_the_documented_form() {
        let mut text = String::new();
        let subscribed = Envelope::start(&mut text, "subscribed").id(Some("1")).channel(&channel());
        assert_eq!(
            subscribed.data_field("subscribed", channel().json()).finish(1_700_000_000_123),
            r#"{"type":"subscribed","id":1,"channel":"chat:room1","data":{"subscribed":"chat:room1"},"timestamp":1700000000123}"#
        );
        assert_eq!(Envelope::start(&mut text, "pong").id(None).finish(5), r#"{"type":"pong","timestamp":5}"#);
        let message = Envelope::start(&mut text, "message").channel(&channel()).from(Sender::User("\"ann\""));
        assert_eq!(
            message.data(r#"{"text":"hi"}"#).finish(6),
            r#"{"type":"message","channel":"chat:room1","from":"ann","data":{"text":"hi"},"timestamp":6}"#
        );
    }

    #[test]
    fn a_gap_names_its_channel_if_it_has_one() {
        let mut text = String::new();
        assert_eq!(
            Envelope::gap(&mut text, Some("a\"b"), 17).finish(5),
            r#"{"type":"gap","channel":"a\"b","dropped":17,"timestamp":5}"#
        );
        assert_eq!(Envelope::gap(&mut text, None, 1).finish(5), r#"{"type":"gap","dropped":1,"timestamp":5}"#);
    }

    #[test]
    fn errors_have_a_code_a_text_and_perhaps_a_detail() {
        let mut text = String::new();
        let unknown = Refusal::UnknownType("a\"\n\\é".to_owned());
        let error = Envelope::error(&mut text, Some("\"x\""), &unknown).finish(7);
        assert_eq!(
            error,
            r#"{"type":"error","id":"x","code":"unknown_type","error":"Unknown message type: a\"\u000a\\é","timestamp":7}"#
        );
        let value: serde_json::Value = serde_json::from_str(error).unwrap();
        assert_eq!(value["error"], "Unknown message type: a\"\n\\é");
        let error = Envelope::error(&mut text, None, &Refusal::InvalidMessage("`type` is missing")).finish(7);
        assert_eq!(
            error,
            r#"{"type":"error","code":"invalid_message","error":"Invalid message","detail":"`type` is missing","timestamp":7}"#
        );
    }

    #[test]
    fn a_place_and_a_time_have_their_room() {
        let mut text = String::new();
        let position = Position { epoch: "ffffffffffffffff".parse().unwrap(), offset: u64::MAX };
        let opened = Envelope::start(&mut text, "message").leave_open().to_owned();
        let finished = Envelope::resume(&mut text, &opened).position(position).finish(u64::MAX);
        assert_eq!(finished.len(), opened.len() + PLACE_BYTES_MAX);
    }

    #[test]
    fn identifiers_are_written_as_they_display() {
        for (core, slot, generation) in [(0, 0, 0), (513, 0xab_cdef, 0x12_3456), (u16::MAX, 0xff_ffff, 1), (1, 16, 255)]
        {
            let id = ConnectionId::new(CoreId(core), slot, generation);
            let mut text = String::new();
            push_connection_id(&mut text, id);
            assert_eq!(text, id.to_string());
        }
    }
}
