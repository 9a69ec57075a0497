use super::*;

/// A header with this version and command, family and transport, and block behind the length.
fn header(version_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[version_command, family], &length, block].concat()
}

const V4: [u8; V4_BYTES] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

fn v6() -> Vec<u8> {
    let ip: Ipv6Addr = "2001:db8::7".parse().unwrap();
    [&ip.octets()[..], &[0; 16], &[0x12, 0x34, 0, 80]].concat()
}

/// Parses it whole, and byte by byte: nothing is decided before it can be, and then for good.
fn parse(bytes: &[u8]) -> Result<Option<(Proxied, usize)>, ProxyError> {
    let whole = parse_proxy(bytes);
    let decided = (0..=bytes.len()).map(|end| parse_proxy(&bytes[..end])).find(|outcome| *outcome != Ok(None));
    assert_eq!(decided.unwrap_or(Ok(None)), whole);
    whole
}

#[test]
fn both_families_are_read_and_what_follows_is_left() {
    for (family, block, from) in [(0x11, V4.to_vec(), "192.0.2.7:4660"), (0x21, v6(), "[2001:db8::7]:4660")] {
        let from = Proxied::From(from.parse().unwrap());
        for extra in [0, 3, 500] {
            let mut bytes = header(0x21, family, &[&block[..], &vec![0xaa; extra]].concat());
            let length = bytes.len();
            bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
            assert_eq!(parse(&bytes), Ok(Some((from, length))), "with {extra} bytes of fields");
        }
    }
}

#[test]
fn who_speaks_for_itself_or_for_nobody_is_let_in() {
    for (version_command, family, block) in [
        (0x20, 0x00, vec![]),
        (0x20, 0x11, V4.to_vec()),
        (0x20, 0xff, vec![1]),
        (0x21, 0x00, vec![]),
        (0x21, 0x00, vec![1, 2, 3]),
        (0x21, 0x31, vec![0; 216]),
    ] {
        let bytes = header(version_command, family, &block);
        assert_eq!(parse(&bytes), Ok(Some((Proxied::Unnamed, bytes.len()))), "{version_command:#x} {family:#x}");
    }
}

#[test]
fn what_is_no_header_is_refused_at_the_first_byte_that_says_so() {
    assert_eq!(parse(b"G"), Err(ProxyError::Signature));
    assert_eq!(parse(b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\r\n"), Err(ProxyError::Signature));
    assert_eq!(parse(b"\r\n\r\n\0\r\nQUIP"), Err(ProxyError::Signature));
    assert_eq!(parse(&header(0x11, 0x11, &V4)[..13]), Err(ProxyError::Version(1)));
    assert_eq!(parse(&header(0x22, 0x11, &V4)[..13]), Err(ProxyError::Command(2)));
    for family in [0x12, 0x22, 0x32, 0x13, 0x41, 0xf1] {
        assert_eq!(parse(&header(0x21, family, &V4)[..14]), Err(ProxyError::Family(family)));
    }
    assert_eq!(parse(&header(0x21, 0x11, &V4[..11])[..16]), Err(ProxyError::TooShort(11)));
    assert_eq!(parse(&header(0x21, 0x21, &V4)[..16]), Err(ProxyError::TooShort(12)));
    let most = PROXY_HEADER_BYTES_MAX - FIXED_BYTES;
    assert!(parse_proxy(&header(0x21, 0x11, &vec![0; most])).unwrap().is_some());
    assert_eq!(parse_proxy(&header(0x21, 0x11, &vec![0; most + 1])[..16]), Err(ProxyError::TooLong(most + 17)));
}

#[test]
fn half_a_header_is_waited_for() {
    let bytes = header(0x21, 0x11, &V4);
    for end in 0..bytes.len() {
        assert_eq!(parse_proxy(&bytes[..end]), Ok(None), "after {end} bytes");
    }
}
