//! UTF-8 validation (RFC 3629): of a whole text at once, or piece by piece as a message arrives.

/// Bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

/// The longest sequence; one of its bytes at least has come when it is cut.
const SEQUENCE_BYTES_MAX: usize = 4;

/// Validates a whole text.
///
/// # Errors
/// [`InvalidUtf8`], also if the text ends within a sequence.
#[inline]
pub fn validate(bytes: &[u8]) -> Result<(), InvalidUtf8> {
    simdutf8::basic::from_utf8(bytes).map(drop).map_err(|_| InvalidUtf8)
}

/// Validates a text that comes in pieces, cut anywhere, and fails at the first byte that cannot
/// belong to UTF-8.
///
/// A sequence that is cut by the end of a piece is judged by what has come of it: after `E0`, for
/// example, only `A0` to `BF` may follow, so a `80` fails at once and not when the sequence is full.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8Validator {
    /// Continuation bytes that the unfinished sequence still needs.
    missing: u8,
    /// The lowest and the highest value that the next one may have.
    low: u8,
    high: u8,
}

impl Utf8Validator {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`InvalidUtf8`] if some byte fits no text; the validator must not be used after that.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), InvalidUtf8> {
        while self.missing > 0 {
            let Some((&first, rest)) = bytes.split_first() else {
                return Ok(());
            };
            self.step(first)?;
            bytes = rest;
        }
        let (whole, cut) = bytes.split_at(bytes.len() - cut_sequence_bytes(bytes));
        validate(whole)?;
        cut.iter().try_for_each(|&byte| self.step(byte))
    }

    /// Whether what has come ends between two letters: then ASCII can follow without being looked at.
    #[inline]
    pub(super) const fn is_between_letters(&self) -> bool {
        self.missing == 0
    }

    /// Ends the text; the validator is then ready for another one.
    ///
    /// # Errors
    /// [`InvalidUtf8`] if a sequence is unfinished.
    pub fn finish(&mut self) -> Result<(), InvalidUtf8> {
        if self.missing > 0 {
            return Err(InvalidUtf8);
        }
        Ok(())
    }

    /// Takes one byte. The ranges are those of RFC 3629, section 4: they leave out over-long forms,
    /// surrogates, and all beyond U+10FFFF.
    fn step(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        let (missing, low, high) = if self.missing > 0 {
            if byte < self.low || byte > self.high {
                return Err(InvalidUtf8);
            }
            (self.missing - 1, 0x80, 0xbf)
        } else {
            match byte {
                0x00..=0x7f => (0, 0, 0),
                0xc2..=0xdf => (1, 0x80, 0xbf),
                0xe0 => (2, 0xa0, 0xbf),
                0xed => (2, 0x80, 0x9f),
                0xe1..=0xef => (2, 0x80, 0xbf),
                0xf0 => (3, 0x90, 0xbf),
                0xf1..=0xf3 => (3, 0x80, 0xbf),
                0xf4 => (3, 0x80, 0x8f),
                _ => return Err(InvalidUtf8),
            }
        };
        *self = Self { missing, low, high };
        Ok(())
    }
}

/// How many bytes at the end begin a sequence that goes on beyond the end (0 to 3).
fn cut_sequence_bytes(bytes: &[u8]) -> usize {
    for (distance, &byte) in (1..SEQUENCE_BYTES_MAX).zip(bytes.iter().rev()) {
        let sequence_bytes = match byte {
            0x80..=0xbf => continue,
            0x00..=0x7f => 1,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
        };
        return if distance < sequence_bytes { distance } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts and broken texts around every border of the encoding.
    fn tricky() -> Vec<Vec<u8>> {
        let sequences: [&[u8]; 26] = [
            b"",
            b"a",
            b"\x7f",
            b"\x80",
            b"\xbf",
            b"\xc0\x80",
            b"\xc1\xbf",
            b"\xc2\x80",
            b"\xdf\xbf",
            b"\xe0\x80\x80",
            b"\xe0\x9f\xbf",
            b"\xe0\xa0\x80",
            b"\xed\x9f\xbf",
            b"\xed\xa0\x80",
            b"\xed\xbf\xbf",
            b"\xee\x80\x80",
            b"\xef\xbf\xbf",
            b"\xf0\x80\x80\x80",
            b"\xf0\x8f\xbf\xbf",
            b"\xf0\x90\x80\x80",
            b"\xf4\x8f\xbf\xbf",
            b"\xf4\x90\x80\x80",
            b"\xf5\x80\x80\x80",
            b"\xf8\x88\x80\x80\x80",
            b"\xfe",
            b"\xff",
        ];
        let mut all = Vec::new();
        for first in sequences {
            for end in 0..=first.len() {
                for second in sequences {
                    for padding in [0, 63] {
                        let text = [&vec![b'.'; padding], &first[..end], second].concat();
                        all.push(text);
                    }
                }
            }
        }
        all
    }

    /// Where std says that the first wrong byte is; the length if the text only lacks its end.
    fn first_wrong_byte(bytes: &[u8]) -> Option<usize> {
        let error = str::from_utf8(bytes).err()?;
        // std gives the length of the longest prefix of a sequence, so the byte after it is wrong.
        Some(error.error_len().map_or(bytes.len(), |_| {
            let start = error.valid_up_to();
            (start..bytes.len())
                .find(|&end| {
                    let cut = str::from_utf8(&bytes[start..=end]).err();
                    cut.is_some_and(|error| error.error_len().is_some())
                })
                .expect("an error that is not at the end has a wrong byte")
        }))
    }

    #[test]
    fn a_text_in_two_pieces_is_judged_as_std_judges_the_whole() {
        for text in tricky() {
            let valid = str::from_utf8(&text).is_ok();
            assert_eq!(validate(&text).is_ok(), valid, "{text:x?}");
            for split in 0..=text.len() {
                let mut validator = Utf8Validator::default();
                let judged = validator
                    .feed(&text[..split])
                    .and_then(|()| validator.feed(&text[split..]))
                    .and_then(|()| validator.finish());
                assert_eq!(judged.is_ok(), valid, "{text:x?} cut at {split}");
            }
        }
    }

    #[test]
    fn the_first_wrong_byte_fails_when_bytes_come_one_by_one() {
        for text in tricky() {
            let mut validator = Utf8Validator::default();
            let failed = text.iter().position(|&byte| validator.feed(&[byte]).is_err());
            let failed = failed.or_else(|| validator.finish().err().map(|_| text.len()));
            assert_eq!(failed, first_wrong_byte(&text), "{text:x?}");
        }
    }

    #[test]
    fn a_piece_that_ends_in_a_wrong_byte_fails_without_waiting_for_the_next() {
        for piece in [b"a\xe0\x80".as_slice(), b"\xed\xa0", b"\xf4\x90", b"\xf0\x8f", b"\xc1"] {
            assert_eq!(Utf8Validator::default().feed(piece), Err(InvalidUtf8), "{piece:x?}");
        }
    }
}
