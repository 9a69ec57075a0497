//! The fields of a message, each as the client wrote it.
//!
//! What nearly all clients send is taken apart at one look, with one small piece of code: a message finds little of the
//! server in the processor's caches, and a general parser is the larger part of what one costs. That look does not judge:
//! where a message is unusual in any way or wrong, it gives up, and `serde_json` reads it and says what is wrong. A
//! test and the fuzzer hold that both read the same.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Levels that the one look follows. It calls itself for each.
const LEVELS_MAX: usize = 32;

/// Bytes of a number at which the one look gives up: a double holds all that are shorter and have no exponent.
const NUMBER_BYTES_MAX: usize = 32;

/// Checked for form and nothing else. `null` counts as absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "json", rename = "type")]
    pub(super) kind: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) id: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) channel: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) room: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) to: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) method: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) echo: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) token: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json", rename = "isTyping")]
    pub(super) is_typing: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) ids: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) recover: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) limit: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) after: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) metadata: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) data: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) messages: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "json")]
    pub(super) enabled: Option<&'a str>,
}

fn json<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de str>, D::Error> {
    Ok(Option::<&RawValue>::deserialize(value)?.map(RawValue::get))
}

impl<'a> Fields<'a> {
    /// Takes a message apart that is plain: one object, of no more levels than that, without surrogates, exponents, very long
    /// numbers, escapes in names, or a `null` or a second value of a field. `None` for all others, right or wrong, with
    /// some of their fields. There are none before.
    pub(super) fn read_plain(&mut self, text: &'a str, levels_max: usize) -> Option<()> {
        let mut look = Look { text, at: 0 };
        let below = levels_max.min(LEVELS_MAX).checked_sub(1)?;
        look.white();
        look.eat(b'{')?;
        look.white();
        if look.eat(b'}').is_none() {
            loop {
                let name = look.name()?;
                let value = look.value(below)?;
                if let Some(field) = self.named(name) {
                    if field.is_some() || value == "null" {
                        return None;
                    }
                    *field = Some(value);
                }
                if !look.goes_on(b'}')? {
                    break;
                }
            }
        }
        look.white();
        (look.at == text.len()).then_some(())
    }

    fn named(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        let field = match name {
            "type" => &mut self.kind,
            "id" => &mut self.id,
            "channel" => &mut self.channel,
            "room" => &mut self.room,
            "to" => &mut self.to,
            "method" => &mut self.method,
            "echo" => &mut self.echo,
            "token" => &mut self.token,
            "isTyping" => &mut self.is_typing,
            "ids" => &mut self.ids,
            "recover" => &mut self.recover,
            "limit" => &mut self.limit,
            "after" => &mut self.after,
            "metadata" => &mut self.metadata,
            "data" => &mut self.data,
            "messages" => &mut self.messages,
            "enabled" => &mut self.enabled,
            _ => return None,
        };
        Some(field)
    }
}

/// A place in a text. Every step of it is `None` where the text is not plain.
struct Look<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Look<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn white(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The name of a member, and what stands between it and its value.
    fn name(&mut self) -> Option<&'a str> {
        let start = self.at + 1;
        let is_plain = self.string()?;
        let name = &self.text[start..self.at - 1];
        self.white();
        self.eat(b':')?;
        self.white();
        is_plain.then_some(name)
    }

    /// Whether another member or item follows, and not the end. White space around that is passed over.
    fn goes_on(&mut self, end: u8) -> Option<bool> {
        self.white();
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => {
                self.white();
                Some(true)
            }
            byte if byte == end => Some(false),
            _ => None,
        }
    }

    /// A value that has no more levels than that.
    fn value(&mut self, levels_max: usize) -> Option<&'a str> {
        let start = self.at;
        match self.peek()? {
            b'"' => drop(self.string()?),
            open @ (b'{' | b'[') => self.container(open, levels_max.checked_sub(1)?)?,
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            _ => self.word("null")?,
        }
        Some(&self.text[start..self.at])
    }

    fn container(&mut self, open: u8, levels_max: usize) -> Option<()> {
        // The brackets of ASCII.
        let end = open + 2;
        self.at += 1;
        self.white();
        if self.eat(end).is_some() {
            return Some(());
        }
        loop {
            if open == b'{' {
                self.name()?;
            }
            self.value(levels_max)?;
            if !self.goes_on(end)? {
                return Some(());
            }
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text.as_bytes()[self.at..].starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    /// Without an exponent.
    fn number(&mut self) -> Option<()> {
        let start = self.at;
        self.eat(b'-');
        if self.eat(b'0').is_none() {
            self.digits()?;
        }
        if self.eat(b'.').is_some() {
            self.digits()?;
        }
        let ends = !matches!(self.peek(), Some(b'0'..=b'9' | b'e' | b'E'));
        (ends && self.at - start <= NUMBER_BYTES_MAX).then_some(())
    }

    /// An escape, behind its backslash. A surrogate wants another one beside it: that is not plain.
    fn escape(&mut self) -> Option<()> {
        match &self.text.as_bytes()[self.at..] {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 1,
            [b'u', unit @ ..] => {
                let (unit, _) = unit.split_first_chunk::<4>()?;
                let is_surrogate = matches!(unit, [b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', ..]);
                (unit.iter().all(u8::is_ascii_hexdigit) && !is_surrogate).then(|| self.at += 5)?;
            }
            _ => return None,
        }
        Some(())
    }

    /// A string; whether it is without escapes.
    fn string(&mut self) -> Option<bool> {
        self.eat(b'"')?;
        let mut is_plain = true;
        loop {
            self.at = next_mark(self.text.as_bytes(), self.at);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(is_plain);
                }
                b'\\' => {
                    is_plain = false;
                    self.at += 1;
                    self.escape()?;
                }
                _ => return None,
            }
        }
    }
}

/// Where the next quote, backslash or control character is, or the end. Eight bytes are looked at together.
fn next_mark(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 0xFF;
    const HIGHS: u64 = ONES << 7;
    // The highest bit of each byte that is less than `less`, of which the lowest is right: only behind a byte that is
    // less can one seem to be.
    let below = |word: u64, less: u64| word.wrapping_sub(ONES * less) & !word & HIGHS;
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*eight);
        let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
        let marks = below(word, 0x20) | is(b'"') | is(b'\\');
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let is_mark = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\');
    bytes[at..].iter().position(is_mark).map_or(bytes.len(), |more| at + more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::index_below;
    use crate::wire::portable;

    fn plain(text: &str, levels_max: usize) -> Option<Fields<'_>> {
        let mut fields = Fields::default();
        fields.read_plain(text, levels_max).map(|()| fields)
    }

    fn read(text: &str) -> Option<Fields<'_>> {
        serde_json::from_str(text).ok()
    }

    #[test]
    fn what_is_plain_is_read_at_one_look() {
        for text in [
            r#"{"type":"message","channel":"news","data":{"a":[1,-2.5,"x\n\"y\" \u00e9\ud7FF",true,false,null,{}],"b":[]},"id":7}"#,
            " { \"type\" : \"ping\" ,\r\n\t\"id\" : \"1\" } ",
            r#"{"type":"typing","isTyping":true,"other":null,"é":"ü","room":"café, a long name of a room"}"#,
            "{}",
        ] {
            assert_eq!(plain(text, 8), Some(read(text).expect(text)), "{text}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_parser() {
        for text in [
            r#"{"type":"a","id":null}"#,
            r#"{"t\u0079pe":"a"}"#,
            r#"{"\/":1}"#,
            r#"{"data":"\ud83d\ude00"}"#,
            r#"{"data":"\u004"}"#,
            r#"{"data":1e3}"#,
            r#"{"type":"a","type":"b"}"#,
            &format!(r#"{{"data":{}}}"#, "1".repeat(NUMBER_BYTES_MAX + 1)),
            &format!(r#"{{"data":{}{}}}"#, "[".repeat(8), "]".repeat(8)),
        ] {
            assert_eq!(plain(text, 8), None, "{text}");
        }
        let deepest = format!(r#"{{"data":{}{}}}"#, "[".repeat(7), "]".repeat(7));
        assert_eq!(plain(&deepest, 8), read(&deepest));
        assert_eq!(plain(&deepest, 0), None);
    }

    /// Texts near to what is right, so that many are and many are not.
    #[test]
    fn what_one_look_takes_the_parser_takes_for_the_same() {
        let mut below = index_below();
        let values = [
            "1",
            "-0",
            "01",
            "1.",
            "-",
            "2.5",
            "1e5",
            "\"\"",
            "\"a\\\"b\"",
            "\"\\x\"",
            "\"\u{1}\"",
            "\"\\ud800\"",
            "\"\\u00aF\"",
        ];
        let more = [
            "true",
            "nul",
            "null",
            "[]",
            "[1,]",
            "[1 2]",
            "{\"a\":{}}",
            "{\"a\"}",
            "{,}",
            "[[\"]\"]]",
            "\"é\\\\\"",
            "",
        ];
        let names = ["\"type\"", "\"id\"", "\"data\"", "\"none\"", "\"t\\u0079pe\"", "type", "\"\""];
        let between = ["", "", "", " ", "\n\t", ",", "\u{b}"];
        let (mut taken, mut left) = (0, 0);
        while taken < 3_000 || left < 3_000 {
            let mut text = String::from("{");
            for member in 0..below(4) {
                let value = if below(3) > 0 { values[below(values.len())] } else { more[below(more.len())] };
                let gap = |at: usize| between[at];
                let comma = if member > 0 { "," } else { "" };
                let (one, two) = (gap(below(between.len())), gap(below(between.len())));
                text += &format!("{comma}{one}{}:{two}{value}", names[below(names.len())]);
            }
            text += ["}", "}", "}", "} ", "}}", ""][below(6)];
            match plain(&text, 8) {
                Some(fields) => {
                    assert_eq!(Some(fields), read(&text), "{text}");
                    assert_eq!(portable::check(&text), Ok(()), "{text}");
                    taken += 1;
                }
                None => left += 1,
            }
        }
    }

    #[test]
    fn a_mark_is_found_wherever_it_is() {
        for mark in [b'"', b'\\', 0, 0x1f] {
            for length in 0..40 {
                for at in 0..length {
                    let mut bytes = vec![[b'a', 0x80, 0xff, b' ', b'!', b'#', b'[', b']'][at % 8]; length];
                    bytes[at] = mark;
                    bytes[length - 1] = if at + 1 == length { mark } else { b'"' };
                    assert_eq!(next_mark(&bytes, 0), at, "{bytes:?}");
                    assert_eq!(next_mark(&bytes[..at], 0), at);
                }
            }
        }
    }
}
