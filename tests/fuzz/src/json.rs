//! Whatever a client of the server says is refused with a proper answer, or read as another reader of JSON
//! reads it, and what is handed on to others is JSON.

use crore_server::channel::ChannelName;
use crore_server::wire::{Decoder, Envelope, ID_BYTES_MAX, Incoming, NAME_BYTES_MAX, Refusal, Sender};
use serde_json::Value;

const DECODER: Decoder = Decoder { json_depth_max: 8, channel_bytes_max: 16, batch_messages_max: 4 };

/// The fields that the server reads.
const FIELDS: [&str; 10] = ["type", "id", "channel", "room", "to", "method", "echo", "data", "messages", "token"];

/// The input is the text of a message; what is not UTF-8 is never handed to the decoder.
///
/// # Panics
/// If the promise is broken.
pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let json = Json::check(text);
    match DECODER.decode(text) {
        Ok(message) => {
            let depth = json.expect("what is read is JSON");
            assert!(depth <= DECODER.json_depth_max, "{depth} levels");
            check_message(&message, &serde_json::from_str(text).expect("what is accepted, everyone can read"));
        }
        Err(rejected) => {
            match (&rejected.refusal, json) {
                (Refusal::InvalidJson, Some(_)) => assert!(may_have_half_a_pair(text), "it is JSON"),
                (Refusal::InvalidMessage(_), Some(depth)) => check_reason(text, depth),
                (Refusal::Unportable(_), Some(_)) => {
                    assert!(serde_json::from_str::<Value>(text).is_err(), "everyone can read it");
                }
                // What is nested too deeply is not looked at any further.
                (Refusal::InvalidJson, None) | (Refusal::InvalidMessage(_), None) => {}
                (other, _) => panic!("{other:?} of a whole message"),
            }
            check_error(rejected.id, &rejected.refusal);
        }
    }
}

/// Whether a name may have half a surrogate pair: the grammar allows that, and no text can hold it (RFC 8259,
/// section 8.2), so that a message with such a name is no JSON to the decoder.
fn may_have_half_a_pair(text: &str) -> bool {
    text.as_bytes().windows(3).any(|escape| escape.eq_ignore_ascii_case(b"\\ud"))
}

/// A JSON text that is no message: because of its form, its depth, a field that comes twice, its type or id.
fn check_reason(text: &str, depth: usize) {
    if depth > DECODER.json_depth_max {
        return;
    }
    // A number may be beyond what this reader takes, a text may have half a surrogate pair.
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else { return };
    let usable_id = match fields.get("id") {
        None | Some(Value::Null | Value::Number(_) | Value::String(_)) => true,
        Some(_) => false,
    };
    let usable_type = fields.get("type").and_then(Value::as_str).is_some_and(|kind| kind.len() <= NAME_BYTES_MAX);
    // This reader keeps the last of two fields; the text is searched for what can be the name of one of ours, or
    // of an identifier that is too long.
    let may_repeat = FIELDS.iter().any(|field| text.matches(field).count() > 1) || text.contains("\\u");
    assert!(!usable_id || !usable_type || may_repeat || text.len() > ID_BYTES_MAX, "it is a message");
}

fn check_message(message: &Incoming<'_>, value: &Value) {
    let field = |name: &str| &value[name];
    let same = |json: Option<&str>, name: &str| {
        let read: Value = json.map_or(Value::Null, |json| serde_json::from_str(json).expect("part of what was read"));
        assert_eq!(read, *field(name), "{name}");
    };
    assert!(message.kind().len() <= NAME_BYTES_MAX);
    assert_eq!(field("type"), message.kind());
    assert!(message.id().is_none_or(|id| id.len() <= ID_BYTES_MAX && Json::check(id) == Some(0)));
    assert!(Json::check(message.data()).is_some_and(|depth| depth < DECODER.json_depth_max));
    same(message.id(), "id");
    same(Some(message.data()), "data");
    if let Value::Bool(echo) = field("echo") {
        assert_eq!(message.echo(), Ok(Some(*echo)));
    }
    if let Ok(to) = message.to() {
        assert_eq!(field("to"), to.as_ref());
    }
    if let Ok(method) = message.method() {
        assert_eq!(field("method"), method.as_ref());
    }
    if let Ok(token) = message.token() {
        assert_eq!(field("token").as_str().filter(|token| !token.is_empty()), token.as_deref());
    }
    let messages = message.messages();
    for part in messages.iter().flatten() {
        assert!(Json::check(part.get()).is_some_and(|depth| depth + 2 <= DECODER.json_depth_max));
    }
    if let Ok(parts) = &messages {
        let expected = field("messages").as_array().expect("a list");
        assert!(!parts.is_empty() && parts.len() <= DECODER.batch_messages_max && parts.len() == expected.len());
    }
    let (to, token) = (message.to().err(), message.token().err());
    let refusals = [to, token, message.method().err(), message.echo().err(), messages.err()];
    for refusal in refusals.iter().flatten() {
        check_error(message.id(), refusal);
    }
    match message.channel() {
        Ok(channel) => {
            let name = channel.name();
            assert!(!name.is_empty() && name.len() <= DECODER.channel_bytes_max && !name.contains(char::is_control));
            let named = if field("channel").is_null() { field("room") } else { field("channel") };
            assert_eq!(named, name);
            check_reply(message, &channel);
        }
        Err(refusal) => check_error(message.id(), &refusal),
    }
    check_error(message.id(), &Refusal::UnknownType(message.kind().to_owned()));
}

/// What is written from the parts of a message is JSON with the same parts.
fn check_reply(message: &Incoming<'_>, channel: &ChannelName<'_>) {
    let mut text = String::new();
    let from = Sender::User(channel.json());
    let reply = Envelope::start(&mut text, "message").id(message.id()).channel(channel).from(from);
    let written = reply.data(message.data()).finish(1_700_000_000_000);
    // The envelope is one level around the data.
    assert!(Json::check(written).is_some_and(|depth| depth <= DECODER.json_depth_max), "{written}");
    let wide = Decoder { channel_bytes_max: usize::MAX, ..DECODER };
    let again = wide.decode(written).expect("what the server writes, it reads");
    assert_eq!((again.kind(), again.id(), again.data()), ("message", message.id(), message.data()));
    assert_eq!(again.channel().as_ref(), Ok(channel));
}

fn check_error(id: Option<&str>, refusal: &Refusal) {
    let mut text = String::new();
    let written = Envelope::error(&mut text, id, refusal).finish(u64::MAX);
    assert!(Json::check(written).is_some(), "{written}");
    // An identifier may be a number or a text that this reader does not take.
    let Ok(value) = serde_json::from_str::<Value>(written) else { return };
    assert_eq!(value["type"], "error");
    assert_eq!(value["code"], refusal.code());
    assert_eq!(value["error"], refusal.to_string());
    assert_eq!(value.get("detail").and_then(Value::as_str), refusal.detail().as_deref());
}

/// A reader of JSON's grammar (RFC 8259) and of nothing else, written as the grammar is.
struct Json<'t> {
    rest: &'t [u8],
}

impl<'t> Json<'t> {
    /// The levels of a JSON text; `None` if it is none.
    fn check(text: &'t str) -> Option<usize> {
        let mut json = Self { rest: text.as_bytes() };
        let depth = json.value()?;
        json.rest.is_empty().then_some(depth)
    }

    fn white(&mut self) {
        let white = self.rest.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.rest = &self.rest[white..];
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.rest.split_off_first()? == &byte).then_some(())
    }

    /// A value with the white space around it. What is open is kept in a list, since an input may be nested
    /// more deeply than the stack is.
    fn value(&mut self) -> Option<usize> {
        let (mut open, mut deepest) = (Vec::new(), 0);
        loop {
            self.white();
            match *self.rest.first()? {
                byte @ (b'{' | b'[') => {
                    self.rest.split_off_first();
                    open.push(byte);
                    deepest = deepest.max(open.len());
                    self.white();
                    let closes = self.rest.first() == Some(&(byte + 2));
                    if !closes {
                        if byte == b'{' {
                            self.name()?;
                        }
                        continue;
                    }
                }
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                _ => self.word()?,
            }
            loop {
                self.white();
                let Some(&opened) = open.last() else { return Some(deepest) };
                match *self.rest.split_off_first()? {
                    b',' => {
                        if opened == b'{' {
                            self.name()?;
                        }
                        break;
                    }
                    byte if byte == opened + 2 => {
                        open.pop();
                    }
                    _ => return None,
                }
            }
        }
    }

    fn name(&mut self) -> Option<()> {
        self.white();
        self.string()?;
        self.white();
        self.eat(b':')
    }

    fn word(&mut self) -> Option<()> {
        let word = [b"true".as_slice(), b"false", b"null"].into_iter().find(|word| self.rest.starts_with(word))?;
        self.rest.split_off(..word.len()).map(drop)
    }

    fn string(&mut self) -> Option<()> {
        self.eat(b'"')?;
        loop {
            match self.rest.split_off_first()? {
                b'"' => return Some(()),
                b'\\' => match self.rest.split_off_first()? {
                    b'u' => {
                        let digits = self.rest.split_off(..4)?;
                        digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                    }
                    escape => b"\"\\/bfnrt".contains(escape).then_some(())?,
                },
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn digits(&mut self) -> usize {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.rest = &self.rest[count..];
        count
    }

    fn number(&mut self) -> Option<()> {
        if self.rest.first() == Some(&b'-') {
            self.rest.split_off_first();
        }
        let zero = self.rest.first() == Some(&b'0');
        let whole = self.digits();
        (whole == 1 || (whole > 1 && !zero)).then_some(())?;
        if self.rest.first() == Some(&b'.') {
            self.rest.split_off_first();
            (self.digits() > 0).then_some(())?;
        }
        if matches!(self.rest.first(), Some(b'e' | b'E')) {
            self.rest.split_off_first();
            if matches!(self.rest.first(), Some(b'+' | b'-')) {
                self.rest.split_off_first();
            }
            (self.digits() > 0).then_some(())?;
        }
        Some(())
    }
}
