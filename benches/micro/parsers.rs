//! Three parsers over the same bytes: the engine's, and those of fastwebsockets and tungstenite.
//!
//! What is measured is what all three do between a socket and an application, at the server's end: take what one
//! receive has brought into a buffer (one copy, which stands for the kernel's), read each header, unmask, check
//! text for UTF-8, and hand the payload out. Nothing is answered, and no payload is kept.
//!
//! Each rival runs in the fastest of its honest forms: tungstenite's blocking `WebSocket::read` with the read
//! buffer that suits it best here, and fastwebsockets' `WebSocket::read_frame` (not its slower
//! `FragmentCollector`) with simdutf8 on, polled by hand, as a stream in memory is always ready. Both allocate, so
//! the allocator is a fast one. The group `in place` leaves the copy out where a parser lets bytes be put
//! into its buffer beforehand, which fastwebsockets does not.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use crore_engine::limits::RECEIVE_BUFFER_BYTES;
use crore_engine::protocol::deflate::DeflateAgreement;
use crore_engine::protocol::frame::append_masked_frame;
use crore_engine::protocol::{Decoder, DecoderConfig, Event, Input, Opcode, PartialPool, Role};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::WebSocketConfig;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONFIG: DecoderConfig = DecoderConfig {
    role: Role::Server,
    message_bytes_max: 1 << 20,
    pieces_bytes_max: 0,
    fragments_max: 1024,
    deflate: DeflateAgreement::NONE,
};

/// Letters of one, two, three and four bytes.
const MIXED: &str = "Chat, ночь, 会話, 🚀 ";

/// What one receive brings: frames of one size.
struct Traffic {
    name: &'static str,
    bytes: Vec<u8>,
    frames: usize,
    payload_bytes: usize,
}

impl Traffic {
    fn new(name: &'static str, opcode: Opcode, payload: &[u8], frames: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(6455);
        let mut bytes = Vec::new();
        for _ in 0..frames {
            append_masked_frame(&mut bytes, opcode, payload, random.u32(..).to_ne_bytes());
        }
        Self { name, bytes, frames, payload_bytes: payload.len() }
    }

    /// Small messages of which a receive brings many, so that a rival's cost of a receive is spread; and large
    /// ones that come alone.
    fn all() -> Vec<Self> {
        let sizes = [(64, 64), (64 * 1024, 1)];
        let traffics = sizes.into_iter().flat_map(|(payload_bytes, frames)| {
            let ascii = "x".repeat(payload_bytes);
            let mut mixed = MIXED.repeat(payload_bytes / MIXED.len());
            mixed.push_str(&ascii[mixed.len()..]);
            [
                Self::new("binary", Opcode::Binary, ascii.as_bytes(), frames),
                Self::new("ascii text", Opcode::Text, ascii.as_bytes(), frames),
                Self::new("mixed text", Opcode::Text, mixed.as_bytes(), frames),
            ]
        });
        traffics.collect()
    }
}

/// A connection on which the same receive comes again and again.
struct Endless<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Endless<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    fn next(&mut self, room: usize) -> &'a [u8] {
        let end = self.bytes.len().min(self.position + room);
        let part = &self.bytes[self.position..end];
        self.position = if end == self.bytes.len() { 0 } else { end };
        part
    }
}

impl Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = self.next(buffer.len());
        buffer[..part.len()].copy_from_slice(part);
        Ok(part.len())
    }
}

impl Write for Endless<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Endless<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let part = self.next(buffer.remaining());
        buffer.put_slice(part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Decodes all of `bytes` and says how many messages they held.
fn decode(decoder: &mut Decoder, pool: &mut PartialPool, bytes: &mut [u8]) -> usize {
    let mut input = Input::new(bytes);
    let mut messages = 0;
    while let Some(event) = decoder.next(&CONFIG, pool, &mut input).expect("proper frames") {
        let Event::Message { payload, .. } = event else { continue };
        black_box(payload);
        messages += 1;
    }
    messages
}

/// Messages of one receive, by tungstenite.
fn read(socket: &mut tungstenite::WebSocket<Endless<'_>>, messages: usize) {
    for _ in 0..messages {
        black_box(socket.read().expect("proper frames"));
    }
}

/// Has the group count what one receive holds.
fn count(group: &mut BenchmarkGroup<'_, WallTime>, traffic: &Traffic) {
    group.throughput(match traffic.frames {
        1 => Throughput::Bytes(traffic.payload_bytes as u64),
        frames => Throughput::Elements(frames as u64),
    });
}

fn config(read_buffer_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(read_buffer_bytes)
}

/// The copy and all that follows.
fn received(criterion: &mut Criterion) {
    for traffic in Traffic::all() {
        let name = format!("received/{} of {} bytes", traffic.name, traffic.payload_bytes);
        let mut group = criterion.benchmark_group(name);
        count(&mut group, &traffic);

        let (mut decoder, mut pool) = (Decoder::default(), PartialPool::new());
        let mut buffer = vec![0; traffic.bytes.len()];
        group.bench_function("crore", |bencher| {
            bencher.iter(|| {
                buffer.copy_from_slice(black_box(&traffic.bytes));
                assert_eq!(decode(&mut decoder, &mut pool, &mut buffer), traffic.frames);
            });
        });
        // As it comes with the engine's own buffers: what does not fit into one is joined.
        if traffic.bytes.len() > RECEIVE_BUFFER_BYTES {
            group.bench_function("crore, in receive buffers", |bencher| {
                bencher.iter(|| {
                    let parts = black_box(&traffic.bytes).chunks(RECEIVE_BUFFER_BYTES);
                    let messages: usize = parts
                        .map(|part| {
                            let buffer = &mut buffer[..part.len()];
                            buffer.copy_from_slice(part);
                            decode(&mut decoder, &mut pool, buffer)
                        })
                        .sum();
                    assert_eq!(messages, traffic.frames);
                });
            });
        }

        for read_buffer_bytes in [8 * 1024, 16 * 1024, 128 * 1024] {
            let stream = Endless::new(&traffic.bytes);
            let role = tungstenite::protocol::Role::Server;
            let mut socket = tungstenite::WebSocket::from_raw_socket(stream, role, Some(config(read_buffer_bytes)));
            group.bench_function(format!("tungstenite, read buffer of {} KiB", read_buffer_bytes / 1024), |bencher| {
                bencher.iter(|| read(&mut socket, traffic.frames));
            });
        }

        let stream = Endless::new(&traffic.bytes);
        let mut socket = fastwebsockets::WebSocket::after_handshake(stream, fastwebsockets::Role::Server);
        group.bench_function("fastwebsockets", |bencher| {
            bencher.iter(|| {
                for _ in 0..traffic.frames {
                    let frame = pin!(socket.read_frame()).poll(&mut Context::from_waker(Waker::noop()));
                    let Poll::Ready(frame) = frame else { unreachable!("the stream is always ready") };
                    black_box(frame.expect("proper frames"));
                }
            });
        });
        group.finish();
    }
}

/// Parsing and unmasking alone.
fn in_place(criterion: &mut Criterion) {
    for traffic in Traffic::all() {
        let mut group =
            criterion.benchmark_group(format!("in place/{} of {} bytes", traffic.name, traffic.payload_bytes));
        count(&mut group, &traffic);
        let (mut decoder, mut pool) = (Decoder::default(), PartialPool::new());
        group.bench_function("crore", |bencher| {
            bencher.iter_batched_ref(
                || traffic.bytes.clone(),
                |bytes| decode(&mut decoder, &mut pool, bytes),
                BatchSize::SmallInput,
            );
        });
        group.bench_function("tungstenite", |bencher| {
            bencher.iter_batched_ref(
                || {
                    let part = traffic.bytes.clone();
                    let role = tungstenite::protocol::Role::Server;
                    tungstenite::WebSocket::from_partially_read(Endless::new(&[]), part, role, Some(config(8 * 1024)))
                },
                |socket| read(socket, traffic.frames),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = received, in_place
}
criterion_main!(benches);
