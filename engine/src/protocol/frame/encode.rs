//! Writing frames.

use super::{
    FIN_BIT, LENGTH_16, LENGTH_64, MASK_BIT, MASK_BYTES, OPCODE_BITS, Opcode, PAYLOAD_BYTES_MAX_7,
    PAYLOAD_BYTES_MAX_16, RSV1_BIT, SERVER_HEADER_BYTES_MAX,
};
use crate::protocol::mask::apply_mask;

/// The length of the header that a server writes before a payload of this length: 2, 4 or 10.
#[must_use]
#[inline]
pub const fn server_header_bytes(payload: usize) -> usize {
    if payload <= PAYLOAD_BYTES_MAX_7 {
        2
    } else if payload <= PAYLOAD_BYTES_MAX_16 {
        4
    } else {
        SERVER_HEADER_BYTES_MAX
    }
}

/// Writes an unmasked header at the start of `out` and returns its length, which is
/// [`server_header_bytes`].
///
/// # Panics
/// If `out` is shorter than the header.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "each cast stands behind its bound")]
pub fn encode_header(opcode: Opcode, fin: bool, payload: usize, out: &mut [u8]) -> usize {
    out[0] = if fin { FIN_BIT } else { 0 } | opcode as u8;
    if payload <= PAYLOAD_BYTES_MAX_7 {
        out[1] = payload as u8;
    } else if payload <= PAYLOAD_BYTES_MAX_16 {
        out[1] = LENGTH_16;
        out[2..4].copy_from_slice(&(payload as u16).to_be_bytes());
    } else {
        out[1] = LENGTH_64;
        out[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
    }
    server_header_bytes(payload)
}

/// Appends an unmasked, final frame.
pub fn append_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.reserve(server_header_bytes(payload.len()) + payload.len());
    append_frame_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends the header of an unmasked, final frame; its payload is for the caller to append.
pub fn append_frame_header(out: &mut Vec<u8>, opcode: Opcode, payload: usize) {
    let mut header = [0; SERVER_HEADER_BYTES_MAX];
    let header_bytes = encode_header(opcode, true, payload, &mut header);
    out.extend_from_slice(&header[..header_bytes]);
}

/// Appends the header of an unmasked, final frame whose payload is compressed (RFC 7692, section 6).
pub(in crate::protocol) fn append_compressed_header(out: &mut Vec<u8>, opcode: Opcode, payload: usize) {
    let start = out.len();
    append_frame_header(out, opcode, payload);
    out[start] |= RSV1_BIT;
}

/// A frame that we have written ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenFrame<'a> {
    /// The whole frame.
    pub bytes: &'a [u8],
    /// What it is.
    pub opcode: Opcode,
    /// Whether its payload is compressed.
    pub compressed: bool,
    /// The payload, without a mask.
    pub payload: &'a [u8],
}

/// The first of the unmasked frames that [`append_frame`] and its kin have written to `bytes`; `None`
/// at their end.
///
/// # Panics
/// If something else lies there.
#[must_use]
pub fn written_frame(bytes: &[u8]) -> Option<WrittenFrame<'_>> {
    if bytes.is_empty() {
        return None;
    }
    let opcode = Opcode::from_bits(bytes[0] & OPCODE_BITS).expect("we write no other");
    let (length, header_bytes) = match bytes[1] {
        LENGTH_16 => (u64::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
        LENGTH_64 => (u64::from_be_bytes(*bytes[2..].first_chunk().expect("a whole header")), SERVER_HEADER_BYTES_MAX),
        short => (u64::from(short), 2),
    };
    let end = header_bytes + usize::try_from(length).expect("what lies in memory has such a length");
    let (bytes, compressed) = (&bytes[..end], bytes[0] & RSV1_BIT != 0);
    Some(WrittenFrame { bytes, opcode, compressed, payload: &bytes[header_bytes..] })
}

/// Appends a masked, final frame, as a client sends it.
pub fn append_masked_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    append_masked_fragment(out, opcode, true, payload, mask);
}

/// Appends a masked frame that is final or not, as a client sends it.
pub fn append_masked_fragment(out: &mut Vec<u8>, opcode: Opcode, fin: bool, payload: &[u8], mask: [u8; 4]) {
    let mut header = [0; SERVER_HEADER_BYTES_MAX];
    let header_bytes = encode_header(opcode, fin, payload.len(), &mut header);
    header[1] |= MASK_BIT;
    out.reserve(header_bytes + MASK_BYTES + payload.len());
    out.extend_from_slice(&header[..header_bytes]);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask, 0);
}
