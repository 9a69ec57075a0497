//! Messages of any size, whole and in pieces. The allocator counts what they take, and it counts the whole
//! process, so the tests of this file run one at a time.

use std::sync::mpsc::channel;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crore_engine::protocol::Opcode;
use crore_engine::protocol::deflate::{Deflater, Direction, Window};
use crore_engine::{
    CloseCause, Closed, Compression, Context, Delivery, Engine, Handler, Limits, Message, MessageKind, MessageStart,
    Piece,
};
use crore_tests::client::REQUEST;
use crore_tests::frame::{self, BINARY, CLOSE, PING, PONG, TEXT, fragment, header, masked};
use crore_tests::server::Reports;
use crore_tests::system::allocated_bytes;
use crore_tests::{Client, Event, Frame, Server, Setup, on_each_kind, wait_until};

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that are allocated in addition to those `before`.
fn grown(before: usize) -> usize {
    allocated_bytes().saturating_sub(before)
}

/// What large messages are made of: 16 bytes, in characters of one to four.
const PATTERN: &[u8; 16] = "aß€𝄞bcdefg".as_bytes().first_chunk().expect("sixteen bytes");

/// The large message of these tests.
const LARGE_BYTES: usize = 64 << 20;

/// A fragment just below 64 KiB that is cut within characters: each one starts a byte further in the pattern.
const FRAGMENT_BYTES: usize = 65_521;

/// So many bytes of the pattern.
fn pattern(start: usize, length: usize) -> Vec<u8> {
    PATTERN.iter().copied().cycle().skip(start % PATTERN.len()).take(length).collect()
}

/// What has come of a message.
#[derive(Default)]
struct Seen {
    bytes: usize,
    pieces: usize,
    wrong: bool,
}

impl Seen {
    fn take(&mut self, bytes: &[u8]) {
        let (offset, length) = (self.bytes % PATTERN.len(), bytes.len());
        // Periodic, and begun at the right place: that is quicker to see than each byte for itself.
        let period = PATTERN.len().min(length);
        let begun = bytes[..period].iter().zip(PATTERN.iter().cycle().skip(offset)).all(|(byte, right)| byte == right);
        self.wrong |= !begun || bytes[period..] != bytes[..length - period];
        self.bytes += length;
        self.pieces += 1;
    }

    fn report(&mut self, kind: MessageKind) -> String {
        let Self { bytes, wrong, .. } = std::mem::take(self);
        format!("{kind:?} {bytes} {}", if wrong { "wrong" } else { "right" })
    }
}

/// Says of each message how long it was, and whether it was made of the pattern.
struct Judge {
    delivery: Delivery,
    reports: Reports,
}

impl Handler for Judge {
    type Connection = Seen;

    fn on_begin(&mut self, _: &mut Context<'_>, _: &mut Seen, _: MessageStart) -> Delivery {
        self.delivery
    }

    fn on_piece(&mut self, context: &mut Context<'_>, seen: &mut Seen, piece: Piece<'_>) {
        assert_eq!(self.delivery, Delivery::Pieces);
        seen.take(piece.bytes);
        if piece.last {
            context.send(&seen.report(piece.kind));
        }
    }

    fn on_message(&mut self, context: &mut Context<'_>, seen: &mut Seen, message: Message<'_>) {
        assert_eq!(seen.pieces, 0, "a message within a message");
        seen.take(message.payload());
        context.send(&seen.report(message.kind()));
    }

    fn on_close(&mut self, context: &mut Context<'_>, _: &mut Seen, closed: Closed<'_>) {
        let Closed { code, reason, cause, .. } = closed;
        let _ = self.reports.send(Event::Closed { id: context.id(), code, reason: reason.to_owned(), cause });
    }
}

/// The usual limits, and pieces for whoever wants them.
fn limits() -> Limits {
    Limits { pieces_bytes_max: 1 << 30, ..crore_tests::limits() }
}

fn start(setup: Setup, delivery: Delivery, limits: Limits) -> Server {
    let (reports, events) = channel();
    setup.start_handler(1, limits, events, move |_| Judge { delivery, reports: reports.clone() })
}

/// Each kind with the opcode of its first fragment.
const KINDS: [(MessageKind, u8); 2] = [(MessageKind::Text, fragment::TEXT), (MessageKind::Binary, fragment::BINARY)];

/// The fragments of a message, in order. They repeat, so that a large message takes little to send.
struct Fragments {
    middle: Vec<Vec<u8>>,
    first: u8,
    message_bytes: usize,
    fragment_bytes: usize,
}

impl Fragments {
    fn new(first: u8, message_bytes: usize, fragment_bytes: usize) -> Self {
        let middle = (0..PATTERN.len())
            .map(|index| masked(fragment::MIDDLE, &pattern(index * fragment_bytes, fragment_bytes)))
            .collect();
        Self { middle, first, message_bytes, fragment_bytes }
    }

    /// Hands each fragment to `send`, with the bytes of the message so far, its own among them.
    fn send(&self, mut send: impl FnMut(&[u8], usize)) {
        let mut sent = 0;
        for middle in self.middle.iter().cycle() {
            if sent == 0 {
                let mut frame = middle.clone();
                frame[0] = self.first;
                send(&frame, self.fragment_bytes);
            } else if sent + self.fragment_bytes < self.message_bytes {
                send(middle, sent + self.fragment_bytes);
            } else {
                send(&masked(fragment::LAST, &pattern(sent, self.message_bytes - sent)), self.message_bytes);
                break;
            }
            sent += self.fragment_bytes;
        }
    }
}

fn right(kind: MessageKind, bytes: usize) -> String {
    format!("{kind:?} {bytes} right")
}

/// Sends a message as a single frame, in parts; `between` is called behind each with the bytes so far.
fn send_frame(client: &mut Client, first: u8, message_bytes: usize, mut between: impl FnMut(usize)) {
    client.send(header(first, message_bytes as u64));
    // The mask's period divides the pattern's, so that each part looks alike.
    let part = masked(first, &pattern(0, 64 << 10)).split_off(8 + 6);
    for sent in (part.len()..=message_bytes).step_by(part.len()) {
        client.send(&part);
        between(sent);
    }
}

#[test]
fn a_message_in_pieces_takes_no_memory() {
    let _alone = alone();
    on_each_kind(|setup| {
        // Sixty-four times as large as what may come whole.
        let server = start(setup, Delivery::Pieces, limits());
        let (mut client, mut bystander) = (server.client(), server.client());
        let fragments = Fragments::new(fragment::TEXT, LARGE_BYTES, FRAGMENT_BYTES);
        let before = allocated_bytes();
        let bounded = |sent: usize| assert!(grown(before) < 1 << 20, "{} bytes more after {sent}", grown(before));
        fragments.send(|frame, sent| {
            client.send(frame);
            bounded(sent);
            if sent % (100 * FRAGMENT_BYTES) == 0 {
                assert_eq!(bystander.ask("aß"), right(MessageKind::Text, 3));
            }
        });
        assert_eq!(client.text(), right(MessageKind::Text, LARGE_BYTES));
        send_frame(&mut client, BINARY, LARGE_BYTES, bounded);
        assert_eq!(client.text(), right(MessageKind::Binary, LARGE_BYTES));
        assert_eq!(bystander.ask("aß"), right(MessageKind::Text, 3));
        client.close();
    });
}

#[test]
fn a_whole_message_takes_at_most_twice_what_has_come() {
    let _alone = alone();
    on_each_kind(|setup| {
        let server = start(setup, Delivery::Whole, Limits { message_bytes_max: LARGE_BYTES, ..limits() });
        let (mut client, mut bystander) = (server.client(), server.client());
        let fragments = Fragments::new(fragment::TEXT, LARGE_BYTES, FRAGMENT_BYTES);
        let before = allocated_bytes();
        let bounded = |sent: usize| {
            let bound = (2 * sent).min(LARGE_BYTES) + (1 << 20);
            assert!(grown(before) < bound, "{} bytes more after {sent}", grown(before));
        };
        fragments.send(|frame, sent| {
            client.send(frame);
            bounded(sent);
        });
        assert_eq!(client.text(), right(MessageKind::Text, LARGE_BYTES));
        wait_until("all is given back", || grown(before) < 1 << 20);
        send_frame(&mut client, BINARY, LARGE_BYTES, bounded);
        assert_eq!(client.text(), right(MessageKind::Binary, LARGE_BYTES));
        wait_until("all is given back", || grown(before) < 1 << 20);
        assert_eq!(bystander.ask("aß"), right(MessageKind::Text, 3));
    });
}

/// A message in fragments of one byte; a thousand of them leave at once.
fn send_byte_by_byte(client: &mut Client, first: u8, message_bytes: usize) {
    let mut together = Vec::new();
    Fragments::new(first, message_bytes, 1).send(|frame, sent| {
        together.extend_from_slice(frame);
        if sent % 1024 == 0 || sent == message_bytes {
            client.send(&together);
            together.clear();
        }
    });
}

#[test]
fn fragments_of_one_byte_are_a_message() {
    const BYTES: usize = 400_000;
    let _alone = alone();
    on_each_kind(|setup| {
        for delivery in [Delivery::Pieces, Delivery::Whole] {
            let server = start(setup, delivery, Limits { fragments_max: 400_000, ..limits() });
            let mut client = server.client();
            for (kind, first) in KINDS {
                send_byte_by_byte(&mut client, first, BYTES);
                assert_eq!(client.text(), right(kind, BYTES));
            }
            send_byte_by_byte(&mut client, fragment::TEXT, BYTES + 16);
            assert_eq!(client.closed(), Some(1009), "one fragment too many, at the least");
        }
    });
}

/// `cargo test --release -p crore-tests --test streams -- --ignored --nocapture`
#[test]
#[ignore = "sixty-seven million fragments take minutes without optimization"]
fn sixty_four_mebibytes_in_fragments_of_one_byte() {
    let _alone = alone();
    on_each_kind(|setup| {
        for delivery in [Delivery::Pieces, Delivery::Whole] {
            let fragments_max = u32::try_from(LARGE_BYTES).expect("it fits");
            let limits = Limits { message_bytes_max: LARGE_BYTES, fragments_max, ..limits() };
            let server = start(setup, delivery, limits);
            let mut client = server.client();
            for (kind, first) in KINDS {
                let (before, started) = (allocated_bytes(), Instant::now());
                let sender = std::thread::spawn(move || {
                    send_byte_by_byte(&mut client, first, LARGE_BYTES);
                    client
                });
                let mut peak = 0;
                while !sender.is_finished() {
                    peak = peak.max(grown(before));
                }
                client = sender.join().expect("all of it is sent");
                assert_eq!(client.text(), right(kind, LARGE_BYTES));
                println!("{delivery:?} {kind:?}: {:?}, at most {peak} bytes", started.elapsed());
                let bound = if delivery == Delivery::Whole { LARGE_BYTES } else { 0 };
                assert!(peak < bound + (1 << 20), "{peak} bytes");
            }
        }
    });
}

#[test]
fn control_frames_pass_between_fragments_and_within_pieces() {
    let _alone = alone();
    on_each_kind(|setup| {
        for delivery in [Delivery::Pieces, Delivery::Whole] {
            let server = start(setup, delivery, limits());
            let mut client = server.client();
            let pong = |payload: &[u8]| Frame { first: PONG, payload: payload.to_vec() };
            for _ in 0..3 {
                Fragments::new(fragment::TEXT, 500_000, 50_000).send(|frame, sent| {
                    client.send(frame);
                    if sent < 500_000 {
                        let payload = sent.to_string().into_bytes();
                        client.send(masked(PING, &payload));
                        assert_eq!(client.frame(), pong(&payload));
                    }
                });
                assert_eq!(client.text(), right(MessageKind::Text, 500_000));
            }
        }
    });
}

#[test]
fn text_that_breaks_late_is_refused_at_once() {
    let _alone = alone();
    on_each_kind(|setup| {
        for delivery in [Delivery::Pieces, Delivery::Whole] {
            let server = start(setup, delivery, limits());
            let mut client = server.client();
            Fragments::new(fragment::TEXT, 900_000, 30_000).send(|frame, sent| {
                if sent < 900_000 {
                    client.send(frame);
                }
            });
            // The frame announces more than comes, and the message goes on after it.
            client.send(header(fragment::MIDDLE, 1000));
            client.send(masked(fragment::MIDDLE, b"\xed\xa0").split_off(6));
            assert_eq!(client.closed(), Some(1007));
            let (code, _, cause) = server.closed();
            assert_eq!((code, cause), (1007, CloseCause::Protocol));
        }
    });
}

#[test]
fn what_is_too_large_is_refused_by_its_header() {
    let _alone = alone();
    on_each_kind(|setup| {
        for (delivery, bytes_max) in [(Delivery::Pieces, 3_000_000), (Delivery::Whole, 1_000_000)] {
            let own = Limits { message_bytes_max: 1_000_000, pieces_bytes_max: 3_000_000, ..limits() };
            let server = start(setup, delivery, own);
            let mut single = server.client();
            single.send(header(BINARY, bytes_max + 1));
            assert_eq!(single.closed(), Some(1009));
            let mut fragmented = server.client();
            let fragment_bytes = usize::try_from(bytes_max).expect("it fits") / 2;
            fragmented.send(masked(fragment::BINARY, &vec![1; fragment_bytes]));
            fragmented.send(header(fragment::LAST, bytes_max / 2 + 1));
            assert_eq!(fragmented.closed(), Some(1009));
        }
        // Nobody is asked, so that nothing larger than a whole message can come.
        let server = start(setup, Delivery::Pieces, Limits { pieces_bytes_max: 0, ..limits() });
        let mut client = server.client();
        client.send(&header(BINARY, (1 << 20) + 1)[..10]);
        assert_eq!(client.closed(), Some(1009), "without the key");
    });
}

#[test]
fn a_reset_within_a_message_gives_everything_back() {
    let _alone = alone();
    on_each_kind(|setup| {
        for delivery in [Delivery::Pieces, Delivery::Whole] {
            let server = start(setup, delivery, Limits { message_bytes_max: LARGE_BYTES, ..limits() });
            let mut bystander = server.client();
            let before = allocated_bytes();
            for _ in 0..5 {
                let mut client = server.client();
                client.send(masked(fragment::TEXT, &pattern(0, 3_000_000)));
                client.send(header(fragment::LAST, 60_000_000));
                client.send(masked(TEXT, &pattern(0, 100_000)).split_off(14));
                client.reset();
                assert_eq!(server.closed(), (1006, String::new(), CloseCause::Lost));
            }
            server.wait_for("they have gone", |stats| stats.connections == 1);
            wait_until("all is given back", || grown(before) < 1 << 20);
            assert_eq!(bystander.ask("aß"), right(MessageKind::Text, 3));
        }
    });
}

#[test]
fn what_is_announced_costs_nothing() {
    let _alone = alone();
    on_each_kind(|setup| {
        for delivery in [Delivery::Pieces, Delivery::Whole] {
            let server = start(setup, delivery, Limits { message_bytes_max: LARGE_BYTES, ..limits() });
            let mut bystander = server.client();
            let before = allocated_bytes();
            let clients: Vec<Client> = (0..100)
                .map(|_| {
                    let mut client = server.client();
                    client.send(header(BINARY, LARGE_BYTES as u64));
                    client
                })
                .collect();
            assert_eq!(bystander.ask("aß"), right(MessageKind::Text, 3));
            assert!(grown(before) < 200_000, "{} bytes more", grown(before));
            drop(clients);
        }
    });
}

/// Sends each piece back as a message.
struct Mirror;

impl Handler for Mirror {
    type Connection = ();

    fn on_begin(&mut self, context: &mut Context<'_>, _: &mut (), start: MessageStart) -> Delivery {
        context.send(&format!("{} {}", start.frame_bytes, start.only_frame));
        Delivery::Pieces
    }

    fn on_piece(&mut self, context: &mut Context<'_>, _: &mut (), piece: Piece<'_>) {
        context.send(piece.bytes);
        if piece.last {
            context.close(1000, "seen");
        }
    }

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        context.send(message);
    }
}

#[test]
fn who_does_not_read_what_pieces_cause_is_not_read_from() {
    const BYTES: usize = 30_000_000;
    let _alone = alone();
    on_each_kind(|setup| {
        let server = setup.start_handler(1, limits(), channel().1, |_| Mirror);
        let mut client = Client::tcp_with_window(server.address(), 4096).upgraded();
        // Echoes before it keep their place before the answer to its beginning.
        let mut all = [masked(BINARY, b"one"), masked(BINARY, b"two"), header(fragment::BINARY, BYTES as u64)].concat();
        all.resize(all.len() + BYTES, 0);
        all.extend_from_slice(&masked(fragment::LAST, b""));
        let before = allocated_bytes();
        let sender = client.send_aside(all);
        let mut received = 0;
        wait_until("the server reads no more", || {
            std::thread::sleep(Duration::from_millis(100));
            std::mem::replace(&mut received, server.stats().bytes_received) == received
        });
        assert!(received < BYTES as u64, "the server does not read on for ever");
        assert!(grown(before) < 3 << 20, "{} bytes more", grown(before));
        assert_eq!(client.frame().payload, b"one");
        assert_eq!(client.frame().payload, b"two");
        assert_eq!(client.text(), "30000000 false");
        let (mut received, mut offset) = (0, 0);
        let code = loop {
            let frame = client.frame();
            if frame.first == CLOSE {
                break frame.close().0;
            }
            let right = frame.payload.iter().zip(offset..).all(|(byte, index)| *byte == frame::MASK[index % 4]);
            assert!(right, "a piece is lost or out of order");
            received += frame.payload.len();
            offset = received % 4;
        };
        sender.join().expect("the server reads all of it");
        assert_eq!((received, code), (BYTES, Some(1000)));
        client.send(frame::close(1000, ""));
        client.ended();
    });
}

/// Answers each piece, and each message, with noise of the same length.
struct Noise;

/// Bytes of a message that is taken whole by [`Noise`].
const WHOLE_BYTES: usize = 80_000;

/// What no compression shortens.
fn noise() -> &'static [u8] {
    static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut noise = vec![0; WHOLE_BYTES];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        noise
    });
    &NOISE
}

impl Handler for Noise {
    type Connection = ();

    fn on_begin(&mut self, _: &mut Context<'_>, _: &mut (), start: MessageStart) -> Delivery {
        assert!(start.compressed);
        if start.kind == MessageKind::Text { Delivery::Pieces } else { Delivery::Whole }
    }

    fn on_piece(&mut self, context: &mut Context<'_>, _: &mut (), piece: Piece<'_>) {
        context.send(&noise()[..piece.bytes.len()]);
    }

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        context.send(&noise()[..message.payload().len()]);
    }
}

/// A masked frame with a compressed message.
fn compressed(opcode: Opcode, message: &[u8]) -> Vec<u8> {
    let direction = Direction { context_takeover: false, window_bits: 15 };
    let mut frame = Vec::new();
    let mut deflater = Deflater::new(&Compression::default());
    assert!(deflater.append_message(&mut frame, opcode, message, direction, &mut Window::new()));
    let Frame { first, payload } = Frame::take(&mut frame).expect("a whole frame");
    masked(first, &payload)
}

#[test]
fn what_decompresses_to_much_causes_no_more_than_finds_room() {
    const BYTES: usize = 24_000_000;
    let _alone = alone();
    on_each_kind(|setup| {
        let engine = Engine::bind("127.0.0.1:0").expect("an address").cores(1).limits(limits());
        let engine = engine.descriptors(setup.descriptors).compression(Some(Compression::default()));
        let running = engine.start(|_| Noise).expect("the engine starts");
        let request = REQUEST.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
        // One message of which every piece is answered, or very many of which each is, in little more than one buffer.
        let one = compressed(Opcode::Text, &vec![b'a'; BYTES]);
        let many = compressed(Opcode::Binary, &[0; WHOLE_BYTES]).repeat(BYTES / WHOLE_BYTES);
        assert!(one.len() + many.len() < 100_000);
        for (name, bytes) in [("one", one), ("many", many)] {
            let mut client = Client::tcp_with_window(running.address(), 4096);
            client.send(&request);
            assert!(client.head().contains("permessage-deflate"));
            let before = allocated_bytes();
            client.send(&bytes);
            // Nothing more of it happens before some is read.
            let mut sent = 0;
            wait_until("the server waits", || {
                std::thread::sleep(Duration::from_millis(100));
                std::mem::replace(&mut sent, running.handle().stats().messages_sent) == sent && sent > 0
            });
            assert!(grown(before) < 3 << 20, "{} bytes more for {name}", grown(before));
            let mut received = 0;
            while received < BYTES {
                let frame = client.frame();
                assert_eq!(frame.first, BINARY, "{frame:?} after {received} bytes of {name}");
                received += frame.payload.len();
            }
            assert_eq!(received, BYTES);
            client.close();
        }
        let stats = running.handle().stats();
        assert_eq!((stats.messages_dropped, stats.closed_slow), (0, 0));
        running.handle().drain(Duration::ZERO);
        running.join().expect("every worker ends in peace");
    });
}
