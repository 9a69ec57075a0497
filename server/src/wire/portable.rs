//! What every reader of JSON takes for the same (RFC 7493): whole characters, and numbers that a double can hold.
//!
//! The grammar of JSON has more, and the parser here skips over it: half a surrogate pair (RFC 8259, section 8.2) and a
//! number of any size (section 6). Handed on, either makes a backend or another client fail that builds values of it.

use super::Refusal;

/// Digits without an exponent that a double holds, whatever they are: the largest is nearly 1.8e308.
const DIGITS_MAX: usize = 308;

/// Between two looks for a long number: none that is too large lies between them.
const LOOK_BYTES: usize = 256;

const _: () = assert!(LOOK_BYTES <= DIGITS_MAX);

/// Checks a text that is JSON. One without an escape of a surrogate, an exponent or a very long number, as nearly all
/// are, is not looked at again.
pub(crate) fn check(json: &str) -> Result<(), Refusal> {
    let is_suspect = has_surrogate(json) || has_exponent(json.as_bytes()) || has_long_number(json.as_bytes());
    if is_suspect { walk(json) } else { Ok(()) }
}

fn has_surrogate(json: &str) -> bool {
    json.contains("\\ud") || json.contains("\\uD")
}

/// Whether an `e` follows a digit anywhere. Without a branch for each byte, so that many are compared at once.
fn has_exponent(json: &[u8]) -> bool {
    let behind = json.get(1..).unwrap_or_default();
    json.iter().zip(behind).fold(false, |found, (one, next)| found | (one.is_ascii_digit() & (next | 0x20 == b'e')))
}

fn has_long_number(json: &[u8]) -> bool {
    let is_long = |at: usize| {
        let (before, behind) = json.split_at(at);
        let digits = |byte: &&u8| byte.is_ascii_digit();
        before.iter().rev().take_while(digits).count() + behind.iter().take_while(digits).count() > DIGITS_MAX
    };
    (LOOK_BYTES..json.len()).step_by(LOOK_BYTES).any(|at| json[at].is_ascii_digit() && is_long(at))
}

fn walk(json: &str) -> Result<(), Refusal> {
    let bytes = json.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at = match byte {
            b'"' => behind_text(bytes, at + 1)?,
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let end = at + bytes[at..].iter().take_while(is_part).count();
                if !json[at..end].parse::<f64>().is_ok_and(f64::is_finite) {
                    return Err(Refusal::Unportable(
                        "a number is larger than a double can hold (RFC 7493, section 2.2)",
                    ));
                }
                end
            }
            _ => at + 1,
        };
    }
    Ok(())
}

/// Where a string ends whose inside begins at a place.
fn behind_text(bytes: &[u8], mut at: usize) -> Result<usize, Refusal> {
    loop {
        at += match &bytes[at..] {
            [] => return Ok(at),
            [b'"', ..] => return Ok(at + 1),
            [b'\\', b'u', rest @ ..] => {
                match (unit(rest), rest.get(4..).and_then(|rest| unit(rest.strip_prefix(b"\\u")?))) {
                    (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
                    (Some(0xD800..=0xDFFF), _) => {
                        return Err(Refusal::Unportable("a text has half a surrogate pair (RFC 8259, section 8.2)"));
                    }
                    _ => 6,
                }
            }
            [b'\\', _, ..] => 2,
            _ => 1,
        };
    }
}

/// The code unit that four hexadecimal digits stand for.
fn unit(bytes: &[u8]) -> Option<u16> {
    u16::from_str_radix(std::str::from_utf8(bytes.get(..4)?).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::random::index_below;

    // capability: 46
    #[test]
    fn half_a_surrogate_pair_is_found_wherever_it_is() {
        for good in [r#""\ud83d\ude00""#, r#""\\ud800""#, r#""\u0041\uD83D\uDE00\u00e9""#, r#"["\uD7ff", "\ue000"]"#] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for half in [
            r#""\ud800""#,
            r#""\udFFF""#,
            r#""\ud83d\u0041""#,
            r#""\ud83d\ud83d\ude00""#,
            r#""\ud83d\\ude00""#,
            r#""a\ud83d""#,
            r#"{"\uDC00":1}"#,
            r#"["\"", "\\\ud800"]"#,
        ] {
            assert!(matches!(check(half), Err(Refusal::Unportable(text)) if text.contains("surrogate")), "{half}");
        }
    }

    // capability: 46
    #[test]
    fn a_number_is_one_that_a_double_holds() {
        let long = |digits: usize| format!("[0,{}]", "9".repeat(digits));
        for good in ["1e308", "-1.7976931348623157E+308", "1e-999", "-0", "\"1e999\"", "[\"9e9\", 1.5]", &long(308)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for large in ["1e999", "-1E400", "{\"a\":[1,1.8e308]}", "1e99999999999999999999", &long(309), &long(9999)] {
            assert!(matches!(check(large), Err(Refusal::Unportable(text)) if text.contains("double")), "{large}");
        }
        assert_eq!(check(&format!("\"{}\"", "9".repeat(9999))), Ok(()), "that is a text");
    }

    /// Whatever is found good here, a reader that builds values can read.
    #[test]
    fn what_passes_can_be_read() {
        let mut below = index_below();
        let pieces = ["\"", "\"", "\\", "\\ud800", "\\udc00", "\\u0041", "1", "e9", "e999", "-", ",", "[", "]", "é"];
        let (mut passed, mut refused) = (0, 0);
        while passed < 2_000 || refused < 200 {
            let text: String = (0..1 + below(8)).map(|_| pieces[below(pieces.len())]).collect();
            if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err() {
                continue;
            }
            let is_good = check(&text).is_ok();
            assert_eq!(is_good, serde_json::from_str::<Value>(&text).is_ok(), "{text}");
            passed += usize::from(is_good);
            refused += usize::from(!is_good);
        }
    }
}
