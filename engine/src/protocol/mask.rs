//! Masking (RFC 6455, section 5.3): byte `i` of the payload is XORed with byte `i mod 4` of the key.
//!
//! The code is plain Rust in a shape that the compiler turns into vector instructions; every line is
//! there for that reason, so measure before you change one.

/// A 64-bit word with the highest bit of every byte set: the bits that ASCII leaves clear.
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

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
        let source = random.bytes(400);
        for length in 0..300 {
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

    #[test]
    fn one_byte_beyond_ascii_is_seen_wherever_it_is() {
        let mask = [0x80, 0x7f, 0xff, 0x01];
        for length in 0..200 {
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
