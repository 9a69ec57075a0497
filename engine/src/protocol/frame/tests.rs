use super::*;
use crate::protocol::random::Random;

const LIMIT: usize = 1 << 40;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn server(bytes: &[u8]) -> Result<Option<FrameHeader>, ProtocolError> {
    decode_header(bytes, Role::Server, &FrameContext::between_messages(LIMIT))
}

fn client(bytes: &[u8]) -> Result<Option<FrameHeader>, ProtocolError> {
    decode_header(bytes, Role::Client, &FrameContext::between_messages(LIMIT))
}

#[test]
fn the_examples_of_the_rfc() {
    let mut out = Vec::new();
    append_frame(&mut out, Opcode::Text, b"Hello");
    assert_eq!(out, b"\x81\x05Hello");

    out.clear();
    append_masked_frame(&mut out, Opcode::Text, b"Hello", MASK);
    assert_eq!(out, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");

    out.clear();
    append_frame(&mut out, Opcode::Binary, &[0; 256]);
    assert_eq!(out[..4], *b"\x82\x7e\x01\x00");

    out.clear();
    append_frame(&mut out, Opcode::Binary, &[0; 65_536]);
    assert_eq!(out[..10], *b"\x82\x7f\0\0\0\0\0\x01\0\0");
}

#[test]
fn a_header_that_was_written_is_read_again_and_needs_all_its_bytes() {
    for payload in [0, 1, 125, 126, 127, 255, 65_535, 65_536, 1 << 31, 1 << 33] {
        for (opcode, fin) in [(Opcode::Text, false), (Opcode::Text, true), (Opcode::Binary, true)] {
            let mut header = [0; HEADER_BYTES_MAX];
            let header_bytes = encode_header(opcode, fin, payload, &mut header);
            assert_eq!(header_bytes, server_header_bytes(payload));
            let payload_bytes = payload as u64;
            let expected = FrameHeader { fin, rsv1: false, opcode, mask: None, payload_bytes, header_bytes };
            assert_eq!(client(&header), Ok(Some(expected)));

            header[1] |= MASK_BIT;
            let end = header_bytes + MASK_BYTES;
            header[header_bytes..end].copy_from_slice(&MASK);
            let expected = FrameHeader { mask: Some(MASK), header_bytes: end, ..expected };
            assert_eq!(server(&header), Ok(Some(expected)));
            for cut in 0..end {
                assert_eq!(server(&header[..cut]), Ok(None), "{cut} bytes of {header:x?}");
            }
        }
    }
}

#[test]
fn the_first_byte_alone_is_judged() {
    for byte in 0..=u8::MAX {
        let opcode = byte & 0xf;
        let expected = match byte {
            _ if matches!(opcode, 3..=7 | 11..) => Err(ProtocolError::ReservedOpcode(opcode)),
            _ if byte & 0x70 != 0 => Err(ProtocolError::ReservedBit),
            0x00 | 0x80 => Err(ProtocolError::ContinuationWithoutStart),
            0x08..=0x0a => Err(ProtocolError::ControlFragmented),
            _ => Ok(None),
        };
        assert_eq!(server(&[byte]), expected, "{byte:#x}");
        assert_eq!(client(&[byte]), expected, "{byte:#x}");
    }
}

#[test]
fn within_a_message_only_continuations_and_control_frames_may_come() {
    let context = FrameContext { within_message: true, ..FrameContext::between_messages(LIMIT) };
    let judged = |byte: u8| decode_header(&[byte], Role::Server, &context);
    for byte in [0x00, 0x80, 0x88, 0x89, 0x8a] {
        assert_eq!(judged(byte), Ok(None));
    }
    for byte in [0x01, 0x02, 0x81, 0x82] {
        assert_eq!(judged(byte), Err(ProtocolError::MessageInsideMessage));
    }
}

#[test]
fn an_extension_allows_rsv1_on_the_first_frame_of_a_message_only() {
    let first = FrameContext { rsv1_allowed: true, ..FrameContext::between_messages(LIMIT) };
    let header = decode_header(&[0xc1, 0x80, 0, 0, 0, 0], Role::Server, &first);
    assert!(header.is_ok_and(|header| header.is_some_and(|header| header.rsv1)));
    let later = FrameContext { within_message: true, ..first };
    for (byte, context) in [(0xc0, &later), (0xc9, &first), (0xa1, &first), (0x91, &first)] {
        let refused = decode_header(&[byte], Role::Server, context);
        assert_eq!(refused, Err(ProtocolError::ReservedBit), "{byte:#x}");
    }
}

#[test]
fn the_second_byte_is_judged_without_a_third() {
    assert_eq!(server(&[0x81, 0x05]), Err(ProtocolError::Unmasked));
    assert_eq!(client(&[0x81, 0x85]), Err(ProtocolError::Masked));
    for first in [0x88, 0x89, 0x8a] {
        assert_eq!(server(&[first, 0x80 | 125]), Ok(None));
        assert_eq!(server(&[first, 0x80 | 126]), Err(ProtocolError::ControlTooLong));
        assert_eq!(client(&[first, 127]), Err(ProtocolError::ControlTooLong));
    }
}

#[test]
fn a_length_is_minimal_and_has_63_bits() {
    let long = |length: u64| [b"\x82\xff".as_slice(), &length.to_be_bytes()].concat();
    let short = |length: u16| [b"\x82\xfe".as_slice(), &length.to_be_bytes()].concat();
    assert_eq!(server(&short(125)), Err(ProtocolError::LengthNotMinimal));
    assert_eq!(server(&short(126)), Ok(None));
    assert_eq!(server(&long(65_535)), Err(ProtocolError::LengthNotMinimal));
    assert_eq!(server(&long(65_536)), Ok(None));
    assert_eq!(server(b"\x82\xff\x80"), Err(ProtocolError::LengthOver63Bits));
    // Six bytes of eight are zero: whatever the last two are, 16 bits are enough.
    assert_eq!(server(&long(0)[..7]), Ok(None));
    assert_eq!(server(&long(0)[..8]), Err(ProtocolError::LengthNotMinimal));
    assert_eq!(server(&short(0)[..3]), Ok(None), "it may become 126");
    assert_eq!(server(&long(u64::MAX)), Err(ProtocolError::LengthOver63Bits));
}

#[test]
fn a_length_over_the_limit_is_refused_before_the_key_comes() {
    let limited = |bytes: &[u8], limit| decode_header(bytes, Role::Server, &FrameContext::between_messages(limit));
    let too_big = |bytes_max| Err(ProtocolError::MessageTooBig { bytes_max });
    assert_eq!(limited(b"\x82\x8b", 10), too_big(10));
    assert_eq!(limited(b"\x82\x8a", 10), Ok(None));
    assert_eq!(limited(b"\x82\xfe\x01\x01", 256), too_big(256));
    assert_eq!(limited(b"\x82\xfe\x01\x00", 256), Ok(None));
    assert_eq!(limited(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 1 << 20), too_big(1 << 20));
    // The first bytes alone are over it.
    assert_eq!(limited(b"\x82\xff\x00\x00\x00\x00\x00\x10", 1 << 20), Ok(None));
    assert_eq!(limited(b"\x82\xff\x00\x00\x00\x00\x00\x11", 1 << 20), too_big(1 << 20));
    assert_eq!(limited(b"\x82\xff\x00\x01", 1 << 20), too_big(1 << 20));
    assert_eq!(limited(b"\x82\xfe\x02", 256), too_big(256));
    assert_eq!(limited(b"\x82\xfe\x01", 256), Ok(None));
    assert_eq!(limited(b"\x89\x8b", 10), Ok(None), "control frames have their own limit");
}

#[test]
fn the_short_cut_finds_what_the_decoder_finds() {
    let mut random = Random::from_environment();
    let context = FrameContext::between_messages(70_000);
    let payload = random.bytes(70_001);
    for role in [Role::Server, Role::Client] {
        for length in [0, 1, 125, 126, 127, 200, 65_535, 65_536, 70_000, 70_001] {
            for first in [0x01, 0x02, 0x81, 0x82, 0x89, 0xc1, 0x80] {
                let mut frame = Vec::new();
                match role {
                    Role::Server => {
                        append_masked_frame(&mut frame, Opcode::Text, &payload[..length], MASK);
                    }
                    Role::Client => append_frame(&mut frame, Opcode::Text, &payload[..length]),
                }
                frame[0] = first;
                let decoded = decode_header(&frame, role, &context).ok().flatten();
                let alone = decoded.filter(|header| header.fin && header.opcode.message_kind().is_some());
                let found = WholeMessage::find(&frame, role, 70_000);
                assert_eq!(
                    found.map(|found| (Opcode::from(found.kind), found.header_bytes)),
                    alone.map(|header| (header.opcode, header.header_bytes)),
                    "{role:?}, {length} bytes, {first:#x}"
                );
                assert!(found.is_none_or(|found| found.payload_bytes == length));
                frame.pop();
                assert!(WholeMessage::find(&frame, role, 70_000).is_none());
            }
        }
    }
    for frame in [b"\x81\xfe\0\x7d\0\0\0\0".as_slice(), b"\x81\xff\0\0\0\0\0\0\xff\xff"] {
        let frame = [frame, &payload].concat();
        assert!(WholeMessage::find(&frame, Role::Server, LIMIT).is_none(), "not minimal");
    }
}
