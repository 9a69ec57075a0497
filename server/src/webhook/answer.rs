//! What a backend answers: from the bytes of a body to an [`Outcome`]. Whatever is in them, nothing but that comes of it.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Event, META_BYTES_MAX};
use crate::users::{USER_NAME_RULE, is_user_name};
use crate::wire::{Decoder, NAME_BYTES_MAX, check_portable, is_deeper};

/// Bytes of an error's text.
const ERROR_BYTES_MAX: usize = 256;

/// Bytes of the reason in a close frame (RFC 6455, section 5.5: 125 with the code).
const REASON_BYTES_MAX: usize = 123;

/// What becomes of what was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done, as the grant says.
    Granted(Grant),
    /// The client is told this error.
    Refused { code: Box<str>, message: Box<str> },
    /// The connection is closed.
    Disconnect { code: u16, reason: Box<str> },
    /// Nobody knows: it is not done, and the client may try again.
    Unavailable,
    /// So many were asked before that its turn has not come.
    Busy,
}

/// What a backend adds to its consent.
#[derive(Debug, Default)]
pub(crate) struct Grant {
    /// Takes the place of what is published, or answers a request.
    pub(crate) data: Option<Box<RawValue>>,
    /// Whose the connection is.
    pub(super) user: Option<Box<str>>,
    /// What the backend wants to be told of the connection with every question about it.
    pub(super) meta: Option<Box<RawValue>>,
    /// Channels that the connection subscribes to.
    pub(super) channels: Vec<Box<str>>,
}

impl PartialEq for Grant {
    fn eq(&self, other: &Self) -> bool {
        let text = |raw: &Option<Box<RawValue>>| raw.as_deref().map(|raw| raw.get().to_owned());
        (&self.user, &self.channels) == (&other.user, &other.channels)
            && text(&self.data) == text(&other.data)
            && text(&self.meta) == text(&other.meta)
    }
}

impl Eq for Grant {}

/// An answer that can't be used. It says nothing of what stands in it, since logs say this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("the body is not JSON, or a field has another type than it should")]
    NotJson,
    #[error("a text of the body has half a surrogate pair, or a number is larger than a double can hold")]
    Unportable,
    #[error("the body is nested deeper than `limits.json_depth_max`")]
    TooDeep,
    #[error("the body is an object with one of `result`, `error` and `disconnect`")]
    NotOne,
    #[error("`error` has a `code` of 1 to 64 letters, digits and underscores, and a `message` of 1 to 256 bytes")]
    Error,
    #[error("`disconnect` has a `code`, 1000, 1008, 1011 to 1013 or 4000 to 4999, and a `reason` of at most 123 bytes")]
    Disconnect,
    #[error("`result.user_id` has {USER_NAME_RULE}")]
    User,
    #[error("`result.meta` has at most 4096 bytes")]
    Meta,
    #[error("`result.channels` has names, as many and as long as `limits` allows")]
    Channels,
}

const _: () = assert!(META_BYTES_MAX == 4096, "a text above names it");

/// What a usable answer is bounded by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) decoder: Decoder,
    pub(super) subscriptions_max: u32,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<ErrorBody>,
    disconnect: Option<DisconnectBody>,
}

#[derive(Deserialize)]
struct ErrorBody {
    code: Box<str>,
    message: Box<str>,
}

#[derive(Deserialize)]
struct DisconnectBody {
    code: u16,
    #[serde(default)]
    reason: Box<str>,
}

/// What stands in a `result` and is not meant for the event is not looked at.
#[derive(Deserialize)]
struct ResultBody {
    #[serde(default, deserialize_with = "given")]
    data: Option<Box<RawValue>>,
    user_id: Option<Box<str>>,
    meta: Option<Box<RawValue>>,
    #[serde(default)]
    channels: Vec<Box<str>>,
}

/// Also `null`, which is not nothing.
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::deserialize(value).map(Some)
}

impl Bounds {
    /// Reads the answer to a question about an event.
    pub(super) fn read(&self, event: Event, body: &[u8]) -> Result<Outcome, Unusable> {
        let text = std::str::from_utf8(body).map_err(|_| Unusable::NotJson)?;
        // Read as a list the fields would go by position.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(if text.trim_ascii().is_empty() { Unusable::NotJson } else { Unusable::NotOne });
        }
        // What a client receives of it has the levels that a client's own message may have.
        if is_deeper(body, self.decoder.json_depth_max) {
            return Err(Unusable::TooDeep);
        }
        let body: Body<'_> = serde_json::from_str(text).map_err(|_| Unusable::NotJson)?;
        check_portable(text).map_err(|_| Unusable::Unportable)?;
        match body {
            Body { result: Some(result), error: None, disconnect: None } => {
                self.grant(event, result.get()).map(Outcome::Granted)
            }
            Body { result: None, error: Some(error), disconnect: None } => refusal(error),
            Body { result: None, error: None, disconnect: Some(disconnect) } => close(disconnect),
            _ => Err(Unusable::NotOne),
        }
    }

    fn grant(&self, event: Event, result: &str) -> Result<Grant, Unusable> {
        if !result.starts_with('{') {
            return Err(Unusable::NotOne);
        }
        let ResultBody { data, user_id, meta, channels } =
            serde_json::from_str(result).map_err(|_| Unusable::NotJson)?;
        match event {
            Event::Subscribe => Ok(Grant::default()),
            Event::Publish | Event::Rpc => Ok(Grant { data, ..Grant::default() }),
            Event::Connect => {
                if user_id.as_deref().is_some_and(|user| !is_user_name(user)) {
                    return Err(Unusable::User);
                }
                if meta.as_deref().is_some_and(|meta| meta.get().len() > META_BYTES_MAX) {
                    return Err(Unusable::Meta);
                }
                if channels.len() > self.subscriptions_max as usize || !channels.iter().all(|name| self.is_name(name)) {
                    return Err(Unusable::Channels);
                }
                Ok(Grant { data: None, user: user_id, meta, channels })
            }
        }
    }

    fn is_name(&self, channel: &str) -> bool {
        (1..=self.decoder.channel_bytes_max).contains(&channel.len()) && !channel.chars().any(char::is_control)
    }
}

fn refusal(ErrorBody { code, message }: ErrorBody) -> Result<Outcome, Unusable> {
    let is_code = (1..=NAME_BYTES_MAX).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_code || !(1..=ERROR_BYTES_MAX).contains(&message.len()) {
        return Err(Unusable::Error);
    }
    Ok(Outcome::Refused { code, message })
}

/// The codes that mean something from a server (RFC 6455, section 7.4), and those of applications.
fn close(DisconnectBody { code, reason }: DisconnectBody) -> Result<Outcome, Unusable> {
    if !matches!(code, 1000 | 1008 | 1011..=1013 | 4000..=4999) || reason.len() > REASON_BYTES_MAX {
        return Err(Unusable::Disconnect);
    }
    Ok(Outcome::Disconnect { code, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::index_below;

    const BOUNDS: Bounds = Bounds {
        decoder: Decoder { json_depth_max: 6, channel_bytes_max: 16, batch_messages_max: 3 },
        subscriptions_max: 2,
    };

    fn read(event: Event, body: &str) -> Result<Outcome, Unusable> {
        BOUNDS.read(event, body.as_bytes())
    }

    fn raw(json: &str) -> Option<Box<RawValue>> {
        Some(RawValue::from_string(json.to_owned()).unwrap())
    }

    // capability: 39 64
    #[test]
    fn a_result_grants_what_the_event_is_about() {
        let body =
            r#" {"result":{"data":{"a": [1]},"user_id":"ann","meta":{"plan":7},"channels":["a","b"]},"more":1} "#;
        let grant = |event| match read(event, body) {
            Ok(Outcome::Granted(grant)) => grant,
            other => panic!("{other:?}"),
        };
        assert_eq!(grant(Event::Subscribe), Grant::default());
        assert_eq!(grant(Event::Publish), Grant { data: raw(r#"{"a": [1]}"#), ..Grant::default() });
        assert_eq!(grant(Event::Rpc), grant(Event::Publish));
        let connect = Grant {
            user: Some("ann".into()),
            meta: raw(r#"{"plan":7}"#),
            channels: vec!["a".into(), "b".into()],
            data: None,
        };
        assert_eq!(grant(Event::Connect), connect);
        assert_eq!(read(Event::Connect, r#"{"result":{}}"#), Ok(Outcome::Granted(Grant::default())));
        assert_eq!(read(Event::Rpc, r#"{"result":{}}"#), Ok(Outcome::Granted(Grant::default())));
        let null = Grant { data: raw("null"), ..Grant::default() };
        assert_eq!(read(Event::Publish, r#"{"result":{"data":null}}"#), Ok(Outcome::Granted(null)));
    }

    // capability: 39 64
    #[test]
    fn an_error_and_a_disconnect_are_taken_within_bounds() {
        let refused = Outcome::Refused { code: "no_4".into(), message: "Not you".into() };
        assert_eq!(read(Event::Rpc, r#"{"error":{"code":"no_4","message":"Not you"}}"#), Ok(refused));
        for (code, message) in
            [("", "m"), ("a b", "m"), ("é", "m"), (&*"x".repeat(65), "m"), ("a", ""), ("a", &"x".repeat(257))]
        {
            let body = format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#);
            assert_eq!(read(Event::Rpc, &body), Err(Unusable::Error), "{body}");
        }
        let closed = Outcome::Disconnect { code: 4003, reason: "bye".into() };
        assert_eq!(read(Event::Publish, r#"{"disconnect":{"code":4003,"reason":"bye"}}"#), Ok(closed));
        let silent = Outcome::Disconnect { code: 1008, reason: "".into() };
        assert_eq!(read(Event::Publish, r#"{"disconnect":{"code":1008}}"#), Ok(silent));
        for code in [0, 999, 1001, 1005, 1006, 1010, 1014, 1015, 3999, 5000] {
            let body = format!(r#"{{"disconnect":{{"code":{code}}}}}"#);
            assert_eq!(read(Event::Publish, &body), Err(Unusable::Disconnect), "{code}");
        }
        let long = format!(r#"{{"disconnect":{{"code":4000,"reason":"{}"}}}}"#, "x".repeat(124));
        assert_eq!(read(Event::Publish, &long), Err(Unusable::Disconnect));
    }

    #[test]
    fn everything_else_is_told_apart_and_refused() {
        for body in [
            "",
            " ",
            "{",
            r#"{"result":{}"#,
            r#"{"result":{}}x"#,
            r#"{"error":{"code":7,"message":"m"}}"#,
            r#"{"error":{"code":"a"}}"#,
            r#"{"disconnect":{"code":"4000"}}"#,
            r#"{"disconnect":{"code":-1}}"#,
            r#"{"result":{"channels":"a"}}"#,
            r#"{"result":{},"result":{}}"#,
        ] {
            assert_eq!(read(Event::Connect, body), Err(Unusable::NotJson), "{body}");
        }
        assert_eq!(BOUNDS.read(Event::Rpc, b"{\"result\":{\"data\":\"\xff\"}}"), Err(Unusable::NotJson));
        for body in [
            "[]",
            "null",
            "true",
            "<html>",
            "{}",
            r#"{"result":null}"#,
            r#"{"result":[]}"#,
            r#"{"result":true}"#,
            r#"{"result":{},"error":{"code":"a","message":"m"}}"#,
            r#"[{}, null, null]"#,
            r#"{"result":{},"disconnect":{"code":4000}}"#,
        ] {
            assert_eq!(read(Event::Connect, body), Err(Unusable::NotOne), "{body}");
        }
        for data in [r#""\ud800""#, "1e999"] {
            assert_eq!(read(Event::Rpc, &format!(r#"{{"result":{{"data":{data}}}}}"#)), Err(Unusable::Unportable));
        }
        assert_eq!(read(Event::Rpc, r#"{"result":{"data":[[[[]]]]}}"#).map(drop), Ok(()));
        assert_eq!(read(Event::Rpc, r#"{"result":{"data":[[[[[]]]]]}}"#), Err(Unusable::TooDeep));
    }

    #[test]
    fn who_connects_and_to_what_is_bounded() {
        let connect = |result: &str| read(Event::Connect, &format!(r#"{{"result":{result}}}"#));
        let long = "x".repeat(129);
        for user in ["", "a\\nb", &long] {
            assert_eq!(connect(&format!(r#"{{"user_id":"{user}"}}"#)), Err(Unusable::User), "{user}");
        }
        for channels in [r#"["a","b","c"]"#, r#"[""]"#, r#"["a\u0000"]"#, &format!("[\"{}\"]", "c".repeat(17))] {
            assert_eq!(connect(&format!(r#"{{"channels":{channels}}}"#)), Err(Unusable::Channels), "{channels}");
        }
        let meta = |bytes: usize| connect(&format!(r#"{{"meta":"{}"}}"#, "m".repeat(bytes - 2)));
        assert!(meta(META_BYTES_MAX).is_ok());
        assert_eq!(meta(META_BYTES_MAX + 1), Err(Unusable::Meta));
    }

    #[test]
    fn damaged_answers_are_never_granted_with_what_is_not_json() {
        let mut below = index_below();
        let whole = r#"{"result":{"data":{"k":[1,-2.5e3,"\n"]},"user_id":"é","meta":[{}],"channels":["a","b"]}}"#;
        let pieces = ["{", "}", "[", "]", "\"", "\\", ",", ":", "null", "\\ud800", "\n", "1e", "é", "\"result\":{}"];
        for _ in 0..20_000 {
            let mut characters: Vec<char> = whole.chars().collect();
            for _ in 0..=below(3) {
                let at = below(characters.len());
                let removed = below(characters.len() - at).min(below(6));
                characters.splice(at..at + removed, pieces[below(pieces.len())].chars());
            }
            let text: String = characters.iter().collect();
            for event in Event::ALL {
                let Ok(Outcome::Granted(grant)) = read(event, &text) else { continue };
                for json in [grant.data, grant.meta].into_iter().flatten() {
                    assert!(serde_json::from_str::<serde_json::Value>(json.get()).is_ok(), "{text}");
                }
            }
        }
    }
}
