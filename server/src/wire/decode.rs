//! From the text of a message to its parts, which still lie in that text.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::fields::{Field, Fields};
use super::{ID_BYTES_MAX, NAME_BYTES_MAX, RECEIPT_IDS_MAX, Refusal, portable};
use crate::channel::ChannelName;
use crate::history::{Epoch, Position, Since};

/// Reads messages within bounds.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// Levels of nested objects and lists.
    pub json_depth_max: usize,
    /// Bytes of a channel's name.
    pub channel_bytes_max: usize,
    /// Messages of one batch.
    pub batch_messages_max: usize,
}

/// A message of a client. What its type does not need is not looked at.
#[derive(Clone, Debug)]
pub struct Incoming<'a> {
    text: &'a str,
    kind: Cow<'a, str>,
    fields: Fields<'a>,
    bounds: Decoder,
}

/// A message that can't be read, with its `id` if that much could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected<'a> {
    /// The `id`, as JSON.
    pub id: Option<&'a str>,
    /// What is wrong.
    pub refusal: Refusal,
}

/// `recover`: `offset` and `epoch` of the last message that was seen, or `since`, a `timestamp`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recover<'a> {
    offset: Option<u64>,
    #[serde(borrow)]
    epoch: Option<Cow<'a, str>>,
    since: Option<u64>,
}

impl Decoder {
    /// Reads a message.
    ///
    /// # Errors
    /// It is not JSON that everyone can read, not an object, nested too deeply, or has no usable `type` or `id`.
    pub fn decode<'a>(&self, text: &'a str) -> Result<Incoming<'a>, Rejected<'a>> {
        let mut message = Incoming::unread(text, *self);
        message.read()?;
        Ok(message)
    }

    /// The fields of any message, right or wrong.
    #[cold]
    fn read<'a>(&self, text: &'a str) -> Result<Fields<'a>, Refusal> {
        // Read as a list the fields would go by position.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(not_a_message(text, "a message is an object"));
        }
        if is_deeper(text.as_bytes(), self.json_depth_max) {
            return Err(Refusal::InvalidMessage("it is nested deeper than `limits.json_depth_max`"));
        }
        Fields::read(text).map_err(|error| match error.classify() {
            Category::Data => not_a_message(text, "a field comes twice"),
            Category::Io | Category::Syntax | Category::Eof => Refusal::InvalidJson,
        })
    }
}

impl<'a> Incoming<'a> {
    /// A message that is to be [read](Self::read) where it lies: it is large, and would be moved with every message.
    pub(crate) const fn unread(text: &'a str, bounds: Decoder) -> Self {
        Self { text, kind: Cow::Borrowed(""), fields: Fields::new(text), bounds }
    }

    /// What [`Decoder::decode`] does.
    pub(crate) fn read(&mut self) -> Result<(), Rejected<'a>> {
        let Self { text, kind, fields, bounds } = self;
        let reject = |id, refusal| Rejected { id, refusal };
        let is_plain = fields.read_plain(bounds.json_depth_max).is_some();
        if !is_plain {
            *fields = bounds.read(text).map_err(|refusal| reject(None, refusal))?;
        }
        let id = fields.get(Field::Id);
        if id.is_some_and(|id| !is_id(id)) {
            return Err(reject(None, Refusal::InvalidMessage("`id` is a number or a string of at most 128 bytes")));
        }
        if !is_plain {
            portable::check(text).map_err(|refusal| reject(id.filter(|id| portable::check(id).is_ok()), refusal))?;
        }
        let plain_kind = fields.plain_text(Field::Kind).filter(|kind| kind.len() <= NAME_BYTES_MAX);
        let found = plain_kind.map(Cow::Borrowed).or_else(|| fields.get(Field::Kind).and_then(short_text));
        *kind = found.ok_or_else(|| reject(id, Refusal::InvalidMessage("`type` is a string of at most 64 bytes")))?;
        Ok(())
    }

    /// The message as the client wrote it.
    #[must_use]
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// `type`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// `id` as the client wrote it, a JSON number or string.
    #[must_use]
    pub fn id(&self) -> Option<&'a str> {
        self.fields.get(Field::Id)
    }

    /// `data` as the client wrote it; `null` if there is none.
    #[must_use]
    pub fn data(&self) -> &'a str {
        self.fields.get(Field::Data).unwrap_or("null")
    }

    /// Where `data` lies in the text, if there is one.
    pub(crate) fn data_place(&self) -> Option<Range<usize>> {
        self.fields.place(Field::Data)
    }

    /// `channel`, or `room`.
    ///
    /// # Errors
    /// There is neither, or it is no name.
    pub fn channel(&self) -> Result<ChannelName<'a>, Refusal> {
        let (field, json) = [Field::Channel, Field::Room]
            .into_iter()
            .find_map(|field| Some((field, self.fields.get(field)?)))
            .ok_or(Refusal::InvalidMessage("`channel` is missing"))?;
        let bytes_max = self.bounds.channel_bytes_max;
        Ok(match self.fields.plain_text(field) {
            Some(name) => ChannelName::named(Cow::Borrowed(name), json, bytes_max)?,
            None => ChannelName::parse(json, bytes_max)?,
        })
    }

    /// `to`: the name of a user.
    ///
    /// # Errors
    /// There is none, or it is not a string.
    pub fn to(&self) -> Result<Cow<'a, str>, Refusal> {
        let json = self.fields.get(Field::To).ok_or(Refusal::InvalidMessage("`to` is missing"))?;
        text(json).ok_or(Refusal::InvalidMessage("`to` is a string"))
    }

    /// `recover`: from where on publications are wanted, if the client says so.
    ///
    /// # Errors
    /// It is neither a place nor a time.
    pub(crate) fn recover(&self) -> Result<Option<Since>, Refusal> {
        let Some(json) = self.fields.get(Field::Recover) else { return Ok(None) };
        let refusal = Refusal::InvalidMessage(
            "`recover` is {\"offset\":…,\"epoch\":…} of the last message, or {\"since\":timestamp}",
        );
        match serde_json::from_str::<Recover<'_>>(json) {
            Ok(Recover { offset: Some(offset), epoch: Some(epoch), since: None }) => {
                // An epoch that is none was never given out: like one that has gone.
                let epoch = epoch.parse().unwrap_or(Epoch::NONE);
                Ok(Some(Since::Position(Position { epoch, offset })))
            }
            Ok(Recover { offset: None, epoch: None, since: Some(since) }) => Ok(Some(Since::Time(since))),
            _ => Err(refusal),
        }
    }

    /// `limit`: how many are wanted at most, if the client says so.
    ///
    /// # Errors
    /// It is no number.
    pub(crate) fn limit(&self) -> Result<Option<usize>, Refusal> {
        let Some(json) = self.fields.get(Field::Limit) else { return Ok(None) };
        let limit = json.parse().map_err(|_| Refusal::InvalidMessage("`limit` is a whole number"))?;
        Ok(Some(limit))
    }

    /// `before`: the offset that all messages of an excerpt are before, if the client says so.
    ///
    /// # Errors
    /// It is no number.
    pub(crate) fn before(&self) -> Result<Option<u64>, Refusal> {
        let Some(json) = self.fields.get(Field::Before) else { return Ok(None) };
        json.parse().map(Some).map_err(|_| Refusal::InvalidMessage("`before` is the `offset` of a message"))
    }

    /// `after`: the name behind which a list goes on, if the client says so.
    ///
    /// # Errors
    /// It is not a string.
    pub(crate) fn after(&self) -> Result<Option<Cow<'a, str>>, Refusal> {
        let Some(json) = self.fields.get(Field::After) else { return Ok(None) };
        text(json).map(Some).ok_or(Refusal::InvalidMessage("`after` is a string"))
    }

    /// `metadata`: what the client says of itself, any JSON value, as it was written.
    ///
    /// # Errors
    /// It has more bytes than it may.
    pub(crate) fn metadata(&self, bytes_max: usize) -> Result<Option<&'a str>, Refusal> {
        let metadata = self.fields.get(Field::Metadata);
        if metadata.is_some_and(|metadata| metadata.len() > bytes_max) {
            return Err(Refusal::MetadataTooLong(bytes_max));
        }
        Ok(metadata)
    }

    /// `method` of a request.
    ///
    /// # Errors
    /// There is none, or it is not a short string.
    pub fn method(&self) -> Result<Cow<'a, str>, Refusal> {
        let json = self.fields.get(Field::Method).ok_or(Refusal::InvalidMessage("`method` is missing"))?;
        short_text(json).ok_or(Refusal::InvalidMessage("`method` is a string of at most 64 bytes"))
    }

    /// `token` of an `auth`, a `refresh`, a `subscribe` or a `join`, if there is one and it is not empty.
    ///
    /// # Errors
    /// It is not a string.
    pub fn token(&self) -> Result<Option<Cow<'a, str>>, Refusal> {
        let Some(json) = self.fields.get(Field::Token) else { return Ok(None) };
        let token = text(json).ok_or(Refusal::InvalidMessage("`token` is a string"))?;
        Ok(Some(token).filter(|token| !token.is_empty()))
    }

    /// `echo`, if the client says anything about it.
    ///
    /// # Errors
    /// It is neither true nor false.
    pub fn echo(&self) -> Result<Option<bool>, Refusal> {
        match self.fields.get(Field::Echo) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(Refusal::InvalidMessage("`echo` is true or false")),
        }
    }

    /// `isTyping`.
    ///
    /// # Errors
    /// It is missing, or neither true nor false.
    pub(crate) fn is_typing(&self) -> Result<bool, Refusal> {
        match self.fields.get(Field::IsTyping) {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err(Refusal::InvalidMessage("`isTyping` is true or false")),
        }
    }

    /// `ids`: a list of identifiers of messages, as the client wrote it.
    ///
    /// # Errors
    /// It is missing, empty, too long, or something else is in it.
    pub(crate) fn ids(&self) -> Result<&'a str, Refusal> {
        let json = self.fields.get(Field::Ids).ok_or(Refusal::InvalidMessage("`ids` is missing"))?;
        let ids = serde_json::Deserializer::from_str(json).deserialize_seq(AtMost(RECEIPT_IDS_MAX));
        match ids {
            Ok(Some(ids)) if !ids.is_empty() && ids.iter().all(|id| is_id(id.get())) => Ok(json),
            _ => Err(Refusal::InvalidMessage("`ids` is a list of 1 to 100 numbers or strings of at most 128 bytes")),
        }
    }

    /// `enabled` of a `batch`, if the client says anything about what it is sent.
    ///
    /// # Errors
    /// It is neither true nor false, or it comes with `messages`.
    pub fn enabled(&self) -> Result<Option<bool>, Refusal> {
        match self.fields.get(Field::Enabled) {
            None => Ok(None),
            Some(_) if self.fields.get(Field::Messages).is_some() => {
                Err(Refusal::InvalidMessage("`enabled` and `messages` are two batches: send them apart"))
            }
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(Refusal::InvalidMessage("`enabled` is true or false")),
        }
    }

    /// `messages` of a batch, each as the client wrote it; never none.
    ///
    /// # Errors
    /// It is missing, not a list, empty, or too long.
    pub fn messages(&self) -> Result<Vec<&'a RawValue>, Refusal> {
        let most = self.bounds.batch_messages_max;
        let json = self.fields.get(Field::Messages).ok_or(Refusal::InvalidMessage("`messages` is missing"))?;
        let mut reader = serde_json::Deserializer::from_str(json);
        match reader.deserialize_seq(AtMost(most)) {
            Err(_) => Err(Refusal::InvalidMessage("`messages` is a list")),
            Ok(None) => Err(Refusal::BatchTooLong(most)),
            Ok(Some(messages)) if messages.is_empty() => Err(Refusal::InvalidMessage("`messages` is empty")),
            Ok(Some(messages)) => Ok(messages),
        }
    }
}

/// Takes a list apart that has no more items than that; `None` if it has.
struct AtMost(usize);

impl<'de> Visitor<'de> for AtMost {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            if items.len() == self.0 {
                // Read to its end, as the parser wants it, and kept no more.
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            items.push(item);
        }
        Ok(Some(items))
    }
}

/// Whether a JSON value can be an `id`.
fn is_id(json: &str) -> bool {
    json.len() <= ID_BYTES_MAX && json.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit())
}

/// What to say about a text that is no message: that it is not even JSON, if so.
#[cold]
fn not_a_message(text: &str, detail: &'static str) -> Refusal {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Refusal::InvalidMessage(detail),
        Err(_) => Refusal::InvalidJson,
    }
}

fn short_text(json: &str) -> Option<Cow<'_, str>> {
    text(json).filter(|text| text.len() <= NAME_BYTES_MAX)
}

/// The text of a JSON string; `None` if the value is another one or has half a surrogate pair.
fn text(json: &str) -> Option<Cow<'_, str>> {
    let quoted = json.strip_prefix('"')?.strip_suffix('"')?;
    if quoted.contains('\\') { serde_json::from_str(json).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(quoted)) }
}

/// Whether a text has more levels than `most`. The parser keeps no stack for what it only skips, so
/// that it has no bound of its own; receivers build values, and have one.
pub(crate) fn is_deeper(text: &[u8], most: usize) -> bool {
    // `[` and `{` differ in one bit. Nearly always there are too few of them to matter.
    if text.len() <= 2 * most || text.iter().filter(|&&byte| byte | 0x20 == b'{').count() <= most {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ChannelError;
    use crate::random::index_below;

    const DECODER: Decoder = Decoder { json_depth_max: 8, channel_bytes_max: 16, batch_messages_max: 3 };

    fn decode(text: &str) -> Incoming<'_> {
        DECODER.decode(text).unwrap()
    }

    fn refusal(text: &str) -> Refusal {
        DECODER.decode(text).unwrap_err().refusal
    }

    #[test]
    fn every_field_is_found_where_it_lies() {
        let text = r#" {"type":"publish","id":17,"channel":"a","echo":false,"data":{"x": [1, "é"]},"other":0} "#;
        let message = decode(text);
        assert_eq!((message.kind(), message.id(), message.data()), ("publish", Some("17"), r#"{"x": [1, "é"]}"#));
        assert_eq!(message.channel().unwrap().name(), "a");
        assert_eq!(message.echo(), Ok(Some(false)));
        assert!(text.as_bytes().as_ptr_range().contains(&message.data().as_ptr()));
        let message = decode(r#"{"type":"private","to":"b\u0062","room":"r","method":"time"}"#);
        assert_eq!((message.to().as_deref(), message.method().as_deref()), (Ok("bb"), Ok("time")));
        assert_eq!(message.channel().unwrap().json(), "\"r\"");
        assert_eq!((message.id(), message.data(), message.echo()), (None, "null", Ok(None)));
    }

    #[test]
    fn an_id_is_a_number_or_a_string_and_stays_as_it_is() {
        for id in ["1", "-2", "1.50", "1e3", "\"a\\u0041\"", "\"\""] {
            assert_eq!(decode(&format!(r#"{{"type":"ping","id":{id}}}"#)).id(), Some(id));
        }
        assert_eq!(decode(r#"{"type":"ping","id":null}"#).id(), None);
        let long = format!("\"{}\"", "x".repeat(ID_BYTES_MAX));
        for id in ["true", "{}", "[1]", &long] {
            assert!(matches!(refusal(&format!(r#"{{"type":"ping","id":{id}}}"#)), Refusal::InvalidMessage(_)), "{id}");
        }
    }

    #[test]
    fn what_is_not_json_is_told_from_what_is_no_message() {
        for text in
            ["", "{", "Hello Server!", "{\"type\":\"ping\"", "{\"type\":\"ping\"}}", "{'a':1}", "[1,", "{\"data\":01}"]
        {
            assert_eq!(refusal(text), Refusal::InvalidJson, "{text}");
        }
        for text in ["[]", "[\"ping\",1]", "1", "\"ping\"", "null", "{}", r#"{"type":7}"#, r#"{"type":null}"#] {
            assert!(matches!(refusal(text), Refusal::InvalidMessage(_)), "{text}");
        }
        assert!(matches!(refusal(r#"{"type":"ping","type":"ping"}"#), Refusal::InvalidMessage(_)));
        assert_eq!(refusal(r#"{"type":"a","type":"b",}"#), Refusal::InvalidJson);
    }

    // capability: 46
    #[test]
    fn what_others_could_not_read_is_refused_with_its_id() {
        for text in [
            r#"{"type":"publish","id":7,"data":"\ud800"}"#,
            r#"{"type":"publish","id":7,"data":[1e999]}"#,
            r#"{"type":"subscribe","id":7,"metadata":{"\udfff":1}}"#,
            r#"{"type":"\ud800","id":7}"#,
            r#"{"type":"batch","id":7,"messages":[{"data":"\ud800"}]}"#,
        ] {
            let rejected = DECODER.decode(text).unwrap_err();
            assert_eq!((rejected.id, rejected.refusal.code()), (Some("7"), "invalid_json"), "{text}");
        }
        for id in [r#""\ud800""#, "1e999"] {
            let text = format!(r#"{{"type":"ping","id":{id}}}"#);
            let rejected = DECODER.decode(&text).unwrap_err();
            assert_eq!((rejected.id, rejected.refusal.code()), (None, "invalid_json"), "{text}");
        }
        assert_eq!(decode(r#"{"type":"publish","data":"\ud83d\ude00 1e999"}"#).data(), r#""\ud83d\ude00 1e999""#);
    }

    #[test]
    fn a_rejected_message_keeps_its_id() {
        let rejected = DECODER.decode(r#"{"id":"a","type":1}"#).unwrap_err();
        assert_eq!(rejected.id, Some("\"a\""));
        let long = format!(r#"{{"id":1,"type":"{}"}}"#, "x".repeat(NAME_BYTES_MAX + 1));
        assert_eq!(DECODER.decode(&long).unwrap_err().id, Some("1"));
    }

    #[test]
    fn fields_are_judged_when_they_are_needed() {
        let message = decode(r#"{"type":"ping","channel":5,"to":1,"method":[],"echo":"no"}"#);
        assert_eq!(message.channel(), Err(Refusal::InvalidChannel(ChannelError::NotText)));
        assert!(matches!(message.to(), Err(Refusal::InvalidMessage(_))));
        assert!(matches!(message.method(), Err(Refusal::InvalidMessage(_))));
        assert!(matches!(message.echo(), Err(Refusal::InvalidMessage(_))));
        assert!(matches!(decode(r#"{"type":"ping"}"#).channel(), Err(Refusal::InvalidMessage(_))));
        let long = format!(r#"{{"type":"ping","channel":"{}"}}"#, "c".repeat(17));
        assert_eq!(decode(&long).channel(), Err(Refusal::InvalidChannel(ChannelError::TooLong(16))));
    }

    // capability: 47
    #[test]
    fn a_batch_is_taken_apart_where_it_lies() {
        let text = r#"{"type":"batch","messages":[{"type":"ping"}, 7 ,"x"]}"#;
        let messages = decode(text).messages().unwrap();
        let parts: Vec<&str> = messages.iter().map(|message| message.get()).collect();
        assert_eq!(parts, [r#"{"type":"ping"}"#, "7", "\"x\""]);
        assert!(parts.iter().all(|part| text.as_bytes().as_ptr_range().contains(&part.as_ptr())));
        let refusal = |messages: &str| decode(&format!(r#"{{"type":"batch"{messages}}}"#)).messages().unwrap_err();
        for (messages, detail) in [
            ("", "`messages` is missing"),
            (r#","messages":null"#, "`messages` is missing"),
            (r#","messages":{}"#, "`messages` is a list"),
            (r#","messages":"[]""#, "`messages` is a list"),
            (r#","messages":[ ]"#, "`messages` is empty"),
        ] {
            assert_eq!(refusal(messages), Refusal::InvalidMessage(detail), "{messages}");
        }
        assert_eq!(refusal(r#","messages":[1,2,3,4]"#), Refusal::BatchTooLong(3));
        assert_eq!(refusal(r#","messages":[1,2,3,4,{"a":[]}]"#), Refusal::BatchTooLong(3));
    }

    // capability: 50 51
    #[test]
    fn what_is_typed_and_read_is_checked() {
        assert_eq!(decode(r#"{"type":"typing","isTyping":true}"#).is_typing(), Ok(true));
        assert_eq!(decode(r#"{"type":"typing","isTyping":false}"#).is_typing(), Ok(false));
        for wrong in [r#"{"type":"typing"}"#, r#"{"type":"typing","isTyping":"yes"}"#] {
            assert!(matches!(decode(wrong).is_typing(), Err(Refusal::InvalidMessage(_))), "{wrong}");
        }
        let ids = |json: &str| decode(&format!(r#"{{"type":"read","ids":{json}}}"#)).ids().map(str::to_owned);
        for good in ["[1]", r#"[ "a", -2, 3.5 ]"#] {
            assert_eq!(ids(good).as_deref(), Ok(good));
        }
        let list = |count: usize| format!("[{}]", vec!["7"; count].join(","));
        assert!(ids(&list(RECEIPT_IDS_MAX)).is_ok());
        let long = format!("[\"{}\"]", "x".repeat(ID_BYTES_MAX));
        for wrong in ["[]", "1", "null", "[[1]]", "[{}]", "[true]", "[null]", &list(RECEIPT_IDS_MAX + 1), &long] {
            assert!(matches!(ids(wrong), Err(Refusal::InvalidMessage(_))), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_a_text_or_absent() {
        assert_eq!(decode(r#"{"type":"auth","token":"a.b.c"}"#).token().unwrap().as_deref(), Some("a.b.c"));
        for absent in [r#"{"type":"auth"}"#, r#"{"type":"auth","token":null}"#, r#"{"type":"auth","token":""}"#] {
            assert_eq!(decode(absent).token(), Ok(None), "{absent}");
        }
        assert!(matches!(decode(r#"{"type":"auth","token":7}"#).token(), Err(Refusal::InvalidMessage(_))));
    }

    #[test]
    fn depth_is_bounded() {
        let nested =
            |levels: usize| format!(r#"{{"type":"ping","data":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert!(DECODER.decode(&nested(7)).is_ok());
        assert!(matches!(refusal(&nested(8)), Refusal::InvalidMessage(_)));
        let many = format!(r#"{{"type":"ping","data":[{}"\"[[[[[[[[["]}}"#, "{},".repeat(100));
        assert!(DECODER.decode(&many).is_ok());
        assert!(matches!(refusal(&"[".repeat(100_000)), Refusal::InvalidJson));
    }

    /// Whatever a peer sends, what is handed on is JSON that values can be built of.
    #[test]
    fn damaged_messages_never_get_through() {
        let mut below = index_below();
        let whole =
            r#"{"type":"publish","id":"a\u00e9","channel":"c\"x","echo":true,"to":"é","data":{"k":[1,-2.5e3,"\n"]}}"#;
        let pieces = ["{", "}", "[", "]", "\"", "\\", ",", ":", "null", "\\ud800", "\n", "1e", "é", "\"data\":1,"];
        for _ in 0..20_000 {
            let mut characters: Vec<char> = whole.chars().collect();
            for _ in 0..=below(3) {
                let at = below(characters.len());
                let removed = below(characters.len() - at).min(below(6));
                let piece = pieces[below(pieces.len())].chars();
                characters.splice(at..at + removed, piece);
            }
            let text: String = characters.iter().collect();
            let Ok(message) = DECODER.decode(&text) else { continue };
            for json in [Some(message.data()), message.id()].into_iter().flatten() {
                assert!(serde_json::from_str::<serde_json::Value>(json).is_ok(), "{text}");
            }
            if let Ok(channel) = message.channel() {
                assert!(!channel.name().is_empty() && serde_json::from_str::<String>(channel.json()).is_ok(), "{text}");
            }
            let _ = (message.to(), message.method(), message.echo(), message.token());
        }
    }
}
