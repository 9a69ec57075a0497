//! The fields of a message, each as the client wrote it.
//!
//! What nearly all clients send is taken apart at one look, with one small piece of code: a message finds little of the
//! server in the processor's caches, and a general parser is the larger part of what one costs. That look does not judge:
//! where a message is unusual in any way or wrong, it gives up, and `serde_json` reads it and says what is wrong. A
//! test and the fuzzer hold that both read the same.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, u8x16};
use serde::Deserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Levels that the one look follows. It calls itself for each.
const LEVELS_MAX: usize = 32;

/// Bytes of a number at which the one look gives up: a double holds all that are shorter and have no exponent.
const NUMBER_BYTES_MAX: usize = 32;

/// The fields that any message has, and how they are called.
macro_rules! fields {
    ($($field:ident $name:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Field {
            $($field,)*
        }

        impl Field {
            const COUNT: usize = [$(Self::$field),*].len();

            #[inline(always)]
            fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$field),)*
                    _ => None,
                }
            }
        }
    };
}

fields! {
    Kind "type",
    Id "id",
    Channel "channel",
    Room "room",
    To "to",
    Method "method",
    Echo "echo",
    Token "token",
    IsTyping "isTyping",
    Ids "ids",
    Recover "recover",
    Limit "limit",
    After "after",
    Before "before",
    Metadata "metadata",
    Data "data",
    Messages "messages",
    Enabled "enabled",
}

/// The values of a message's fields: checked for form and nothing else. `null` counts as absent.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    text: &'a str,
    /// Where each value begins and ends: halves of the two texts that they would be, as all of it is moved with every
    /// message.
    places: [(u32, u32); Field::COUNT],
    /// Those that are known to be strings without escapes, a bit for each.
    plain: u32,
}

const _: () = assert!(Field::COUNT <= u32::BITS as usize);

/// The place of what is absent: no value is empty.
const ABSENT: (u32, u32) = (0, 0);

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.places.iter().map(|(start, end)| &self.text[*start as usize..*end as usize]);
        f.debug_list().entries(values).finish()
    }
}

impl PartialEq for Fields<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.text, self.places) == (other.text, other.places)
    }
}

impl<'a> Fields<'a> {
    /// None of them yet.
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, places: [ABSENT; Field::COUNT], plain: 0 }
    }

    /// The value of a field, as the client wrote it.
    #[inline]
    pub(super) fn get(&self, field: Field) -> Option<&'a str> {
        let (start, end) = self.places[field as usize];
        (end > 0).then(|| &self.text[start as usize..end as usize])
    }

    /// The text of a field, if it is known to be a string without escapes.
    #[inline]
    pub(super) fn plain_text(&self, field: Field) -> Option<&'a str> {
        let (start, end) = self.places[field as usize];
        (self.plain & 1 << field as u32 != 0).then(|| &self.text[start as usize + 1..end as usize - 1])
    }

    /// Where a value lies in the text.
    pub(super) fn place(&self, field: Field) -> Option<Range<usize>> {
        let (start, end) = self.places[field as usize];
        (end > 0).then_some(start as usize..end as usize)
    }

    /// Takes a message apart that is plain: one object, of no more levels than that, without surrogates, exponents, very long
    /// numbers, escapes in names, or a `null` or a second value of a field. `None` for all others, right or wrong, with
    /// some of their fields. There are none before.
    pub(super) fn read_plain(&mut self, levels_max: usize) -> Option<()> {
        let mut look = Look::new(self.text);
        let below = levels_max.min(LEVELS_MAX).checked_sub(1)?;
        look.white();
        look.eat(b'{')?;
        look.white();
        if look.eat(b'}').is_none() {
            loop {
                let field = Field::named(look.name()?);
                let (start, is_null) = (look.at, look.peek() == Some(b'n'));
                let is_plain = look.value(below)?;
                if let Some(field) = field {
                    let place = &mut self.places[field as usize];
                    if *place != ABSENT || is_null {
                        return None;
                    }
                    *place = (u32::try_from(start).ok()?, u32::try_from(look.at).ok()?);
                    self.plain |= u32::from(is_plain) << field as u32;
                }
                if !look.goes_on(b'}')? {
                    break;
                }
            }
        }
        look.white();
        (look.at == self.text.len()).then_some(())
    }

    /// Takes any message apart that is an object.
    ///
    /// # Errors
    /// It is not JSON, or a field comes twice.
    pub(super) fn read(text: &'a str) -> serde_json::Result<Self> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let fields = reader.deserialize_map(Members { fields: Self::new(text), seen: [false; Field::COUNT] })?;
        reader.end()?;
        Ok(fields)
    }
}

/// Collects the members of an object.
struct Members<'a> {
    fields: Fields<'a>,
    /// Those that have come: a `null` leaves no place.
    seen: [bool; Field::COUNT],
}

impl<'de> Visitor<'de> for Members<'de> {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Self::Value, A::Error> {
        while let Some((name, value)) = members.next_entry::<Cow<'_, str>, &RawValue>()? {
            let Some(field) = Field::named(&name) else { continue };
            if std::mem::replace(&mut self.seen[field as usize], true) {
                return Err(A::Error::custom("a field comes twice"));
            }
            let value = value.get();
            if value != "null" {
                let start = value.as_ptr().addr() - self.fields.text.as_ptr().addr();
                let offset = |at: usize| u32::try_from(at).map_err(|_| A::Error::custom("it is too long"));
                self.fields.places[field as usize] = (offset(start)?, offset(start + value.len())?);
            }
        }
        Ok(self.fields)
    }
}

/// A place in a text. Every step of it is `None` where the text is not plain.
struct Look<'a> {
    text: &'a str,
    at: usize,
    /// The marks of one block of the text, the lowest bit that of its first byte.
    marks: u64,
    block: usize,
}

impl<'a> Look<'a> {
    const fn new(text: &'a str) -> Self {
        // No block yet: there is none of that number.
        Self { text, at: 0, marks: 0, block: usize::MAX }
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline(always)]
    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    #[inline(always)]
    fn white(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The name of a member, and what stands between it and its value.
    #[inline(always)]
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
    #[inline(always)]
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

    /// A value that has no more levels than that; whether it is a string without escapes.
    #[inline(always)]
    fn value(&mut self, levels_max: usize) -> Option<bool> {
        if self.peek()? == b'"' { self.string() } else { self.other_value(levels_max).map(|()| false) }
    }

    /// One that is not a string.
    fn other_value(&mut self, levels_max: usize) -> Option<()> {
        match self.peek()? {
            open @ (b'{' | b'[') => self.container(open, levels_max.checked_sub(1)?),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            _ => self.word("null"),
        }
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
    #[inline(always)]
    fn string(&mut self) -> Option<bool> {
        self.eat(b'"')?;
        self.seek_mark();
        if self.eat(b'"').is_some() { Some(true) } else { self.rest_of_string() }
    }

    /// The rest of a string from its first mark on, which is not its end.
    fn rest_of_string(&mut self) -> Option<bool> {
        while self.eat(b'"').is_none() {
            self.eat(b'\\')?;
            self.escape()?;
            self.seek_mark();
        }
        Some(false)
    }

    /// Goes on to the next mark, or to the end.
    #[inline(always)]
    fn seek_mark(&mut self) {
        loop {
            let block = self.at / BLOCK_BYTES;
            if block != self.block {
                self.block = block;
                self.marks = marks_from(self.text.as_bytes(), block * BLOCK_BYTES);
            }
            let marks = self.marks >> (self.at % BLOCK_BYTES);
            if marks != 0 {
                self.at += marks.trailing_zeros() as usize;
                return;
            }
            self.at = (block + 1) * BLOCK_BYTES;
            if self.at >= self.text.len() {
                self.at = self.text.len();
                return;
            }
        }
    }
}

/// Bytes that are looked at together: one bit for each.
const BLOCK_BYTES: usize = u64::BITS as usize;

/// Which of the bytes from one on are marks: quotes, backslashes, and control characters, which no string may have.
fn marks_from(bytes: &[u8], at: usize) -> u64 {
    if let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        return marks(block);
    }
    if at >= bytes.len() {
        return 0;
    }
    // At the end, a block that reaches back; a text that is shorter than one is filled up.
    let over = at + BLOCK_BYTES - bytes.len();
    if let Some(block) = bytes.last_chunk() {
        return marks(block) >> over;
    }
    let mut block = [b' '; BLOCK_BYTES];
    block[..bytes.len()].copy_from_slice(bytes);
    marks(&block)
}

/// By the vectors that every processor of the architecture has, so that nothing has to be chosen.
#[inline]
fn marks(block: &[u8; BLOCK_BYTES]) -> u64 {
    dispatch!(Level::baseline(), simd => {
        let (vectors, _) = block.as_chunks::<16>();
        vectors.iter().rev().fold(0, |marks, vector| {
            let vector = u8x16::from_slice(simd, vector);
            let is_control = vector.min(0x1F).simd_eq(vector);
            let is_mark = vector.simd_eq(b'"') | vector.simd_eq(b'\\') | is_control;
            marks << 16 | is_mark.to_bitmask()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::index_below;
    use crate::wire::portable;

    fn plain(text: &str, levels_max: usize) -> Option<Fields<'_>> {
        let mut fields = Fields::new(text);
        fields.read_plain(levels_max).map(|()| fields)
    }

    fn read(text: &str) -> Option<Fields<'_>> {
        Fields::read(text).ok()
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
    fn a_field_that_comes_twice_is_refused_even_as_null() {
        for text in [r#"{"id":1,"id":2}"#, r#"{"id":null,"id":2}"#, r#"{"i\u0064":1,"id":null}"#] {
            assert!(Fields::read(text).is_err(), "{text}");
        }
        let fields = Fields::read(r#"{"other":1,"other":2,"id":null,"t\u006f":"x"}"#).expect("right");
        assert_eq!((fields.get(Field::Id), fields.get(Field::To)), (None, Some("\"x\"")));
    }

    #[test]
    fn a_mark_is_found_wherever_it_is() {
        for mark in [b'"', b'\\', 0, 0x1f] {
            for length in 0..200 {
                for at in 0..length {
                    let mut bytes = vec![[b'a', 0x7f, b' ', b'!', b'#', b'[', b']'][at % 7]; length];
                    bytes[at] = mark;
                    bytes[length - 1] = if at + 1 == length { mark } else { b'"' };
                    let mut look = Look::new(str::from_utf8(&bytes).expect("ASCII"));
                    look.seek_mark();
                    assert_eq!(look.at, at, "{bytes:?}");
                    look.at += 1;
                    look.seek_mark();
                    assert_eq!(look.at, (at + 1).max(length - 1), "{bytes:?}");
                    let mut before = Look::new(&look.text[..at]);
                    before.seek_mark();
                    assert_eq!(before.at, at);
                }
            }
        }
    }
}
