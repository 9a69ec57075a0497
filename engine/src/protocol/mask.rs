//! Masking (RFC 6455, section 5.3): byte `i` of the payload is XORed with byte `i mod 4` of the key.
//!
//! The code is plain Rust in a shape that the compiler turns into vector instructions; every line is
//! there for that reason, so measure before you change one. What is long enough is done with the widest
//! vectors that the processor has, by code of which there is one copy for each width.

use fearless_simd::{Level, Simd, SimdBase, dispatch};

/// A 64-bit word with the highest bit of every byte set: the bits that ASCII leaves clear.
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// From here on wide vectors gain more than it costs to choose them, in bytes.
const LONG_BYTES: usize = 512;

/// The widest vector of any processor, in bytes.
const WIDEST_VECTOR_BYTES: usize = 64;

/// Masks or unmasks in place. `offset` is the position of `bytes` within the frame's payload.
#[inline]
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    xor(bytes, rotate(mask, offset));
}

/// Unmasks a whole payload in place and says whether the result is pure ASCII.
///
/// One pass does both: text is mostly ASCII, and then needs no look at its UTF-8 structure.
#[inline]
pub fn unmask_is_ascii(bytes: &mut [u8], mask: [u8; 4]) -> bool {
    xor(bytes, mask) & HIGH_BITS == 0
}

/// Appends the unmasked bytes to `out` and says whether they are pure ASCII: one pass instead of two, for bytes that
/// are to be copied anyway.
pub(super) fn append_unmasked(out: &mut Vec<u8>, bytes: &[u8], mask: [u8; 4]) -> bool {
    out.reserve(bytes.len());
    let head_bytes = out.as_ptr().wrapping_add(out.len()).align_offset(WIDEST_VECTOR_BYTES).min(bytes.len());
    let (head, rest) = bytes.split_at(head_bytes);
    let start = out.len();
    out.extend_from_slice(head);
    let seen = xor_short(&mut out[start..], mask);
    let mask = rotate(mask, head_bytes);
    let seen_in_rest = dispatch!(Level::new(), simd => append_with(simd, out, rest, mask));
    (seen | seen_in_rest) & HIGH_BITS == 0
}

/// Eight vectors at a time: they fit the registers, so that bytes go from memory to memory without a stop.
#[inline(always)]
fn append_with<S: Simd>(_: S, out: &mut Vec<u8>, bytes: &[u8], mask: [u8; 4]) -> u64 {
    match <S::u8s as SimdBase<S>>::LEN {
        64.. => append_blocks::<512>(out, bytes, mask),
        32.. => append_blocks::<256>(out, bytes, mask),
        _ => append_blocks::<128>(out, bytes, mask),
    }
}

#[inline(always)]
fn append_blocks<const BLOCK_BYTES: usize>(out: &mut Vec<u8>, bytes: &[u8], mask: [u8; 4]) -> u64 {
    let key: [u8; BLOCK_BYTES] = std::array::from_fn(|at| mask[at % 4]);
    let mut seen = [0; BLOCK_BYTES];
    let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
    for block in blocks {
        let mut plain = *block;
        for at in 0..BLOCK_BYTES {
            plain[at] ^= key[at];
            seen[at] |= plain[at];
        }
        out.extend_from_slice(&plain);
    }
    let start = out.len();
    out.extend_from_slice(rest);
    xor_short(&mut out[start..], mask) | u64::from(seen.into_iter().fold(0, std::ops::BitOr::bitor))
}

/// The key as it applies from `offset` on.
#[inline]
pub(super) fn rotate(mut mask: [u8; 4], offset: usize) -> [u8; 4] {
    mask.rotate_left(offset % 4);
    mask
}

/// XORs the bytes with the repeated key and returns the OR of the results, folded into one word;
/// where that is not used, the compiler leaves it out.
#[inline(always)]
fn xor(bytes: &mut [u8], mask: [u8; 4]) -> u64 {
    if bytes.len() < LONG_BYTES { xor_short(bytes, mask) } else { xor_long(bytes, mask) }
}

#[inline(never)]
fn xor_long(bytes: &mut [u8], mask: [u8; 4]) -> u64 {
    // A vector that lies across two cache lines costs twice.
    let head_bytes = bytes.as_ptr().align_offset(WIDEST_VECTOR_BYTES).min(bytes.len());
    let (head, rest) = bytes.split_at_mut(head_bytes);
    let seen = xor_short(head, mask);
    let mask = rotate(mask, head_bytes);
    seen | dispatch!(Level::new(), simd => xor_with(simd, rest, mask))
}

#[inline(always)]
fn xor_with<S: Simd>(_: S, bytes: &mut [u8], mask: [u8; 4]) -> u64 {
    xor_short(bytes, mask)
}

/// The same with the vectors that every processor has, or with those of the caller into which it is inlined.
#[inline(always)]
fn xor_short(bytes: &mut [u8], mask: [u8; 4]) -> u64 {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut seen = 0;
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        let plain = u64::from_ne_bytes(*word) ^ wide;
        seen |= plain;
        *word = plain.to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= key;
        seen |= u64::from(*byte);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::random::Random;

    fn masked_bytewise(bytes: &[u8], mask: [u8; 4], offset: usize) -> Vec<u8> {
        let masked = |(i, byte): (usize, &u8)| byte ^ mask[(offset + i) % 4];
        bytes.iter().enumerate().map(masked).collect()
    }

    #[test]
    fn the_example_of_the_rfc() {
        let mut bytes = *b"\x7f\x9f\x4d\x51\x58";
        apply_mask(&mut bytes, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&bytes, b"Hello");
    }

    #[test]
    fn every_length_alignment_and_offset_agrees_with_the_definition() {
        let mut random = Random::from_environment();
        let source = random.bytes(2000);
        for length in (0..300).chain(LONG_BYTES - 5..LONG_BYTES + 150) {
            for alignment in 0..16 {
                let mask = random.mask();
                let offset = random.below(9);
                let mut bytes = source.clone();
                let part = alignment..alignment + length;
                apply_mask(&mut bytes[part.clone()], mask, offset);
                let expected = masked_bytewise(&source[part.clone()], mask, offset);
                assert_eq!(bytes[part.clone()], expected, "{length} bytes at {alignment}");
                assert_eq!(bytes[..alignment], source[..alignment]);
                assert_eq!(bytes[part.end..], source[part.end..]);
            }
        }
    }

    /// Pieces of any length, at any alignment and in any order of lengths, are unmasked as the whole is.
    #[test]
    fn a_payload_in_pieces_is_unmasked_as_a_whole_is() {
        let mut random = Random::from_environment();
        for _ in 0..300 {
            let alignment = random.below(64);
            let length = random.below(5000);
            let source = random.bytes(alignment + length);
            let mask = random.mask();
            let mut bytes = source.clone();
            let (mut rest, mut offset) = (&mut bytes[alignment..], 0);
            while !rest.is_empty() {
                let scale = *random.choose(&[1, 8, 70, 3000]);
                let piece = rest.split_off_mut(..rest.len().min(1 + random.below(scale))).expect("not longer");
                apply_mask(piece, mask, offset);
                offset += piece.len();
            }
            assert_eq!(bytes[alignment..], masked_bytewise(&source[alignment..], mask, 0));
            assert_eq!(bytes[..alignment], source[..alignment]);
        }
    }

    #[test]
    fn ascii_is_told_from_other_text_at_every_alignment() {
        let mut random = Random::from_environment();
        for length in (0..130).chain([1000, 4099]) {
            for alignment in 0..16 {
                let mask = random.mask();
                let mut plain = random.bytes(length);
                if random.below(2) == 0 {
                    plain.iter_mut().for_each(|byte| *byte &= 0x7f);
                }
                let mut bytes = vec![0xa5; alignment];
                bytes.extend_from_slice(&masked_bytewise(&plain, mask, 0));
                bytes.push(0xa5);
                let end = alignment + length;
                assert_eq!(unmask_is_ascii(&mut bytes[alignment..end], mask), plain.is_ascii());
                assert_eq!(bytes[alignment..end], plain, "{length} bytes at {alignment}");
                assert!(bytes[..alignment].iter().chain(&bytes[end..]).all(|&byte| byte == 0xa5));
            }
        }
    }

    #[test]
    fn appending_agrees_with_the_definition() {
        let mut random = Random::from_environment();
        for length in (0..300).chain(1000..1020) {
            let mask = random.mask();
            let plain: Vec<u8> = random.bytes(length).iter().map(|byte| byte & 0x7f).collect();
            let mut out = b"before".to_vec();
            assert!(append_unmasked(&mut out, &masked_bytewise(&plain, mask, 0), mask));
            assert_eq!(out, [b"before", &plain[..]].concat());
            for position in 0..length {
                let mut plain = plain.clone();
                plain[position] |= 0x80;
                out.clear();
                assert!(!append_unmasked(&mut out, &masked_bytewise(&plain, mask, 0), mask), "{position} of {length}");
                assert_eq!(out, plain);
            }
        }
    }

    #[test]
    fn one_byte_beyond_ascii_is_seen_wherever_it_is() {
        let mask = [0x80, 0x7f, 0xff, 0x01];
        for length in (0..200).chain(LONG_BYTES..LONG_BYTES + 70) {
            let plain = vec![0x7f; length];
            let mut bytes = masked_bytewise(&plain, mask, 0);
            assert!(unmask_is_ascii(&mut bytes, mask));
            assert_eq!(bytes, plain);
            for position in 0..length {
                let mut plain = plain.clone();
                plain[position] = 0x80;
                let mut bytes = masked_bytewise(&plain, mask, 0);
                assert!(!unmask_is_ascii(&mut bytes, mask), "{position} of {length}");
                assert_eq!(bytes, plain);
            }
        }
    }
}
