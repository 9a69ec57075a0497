//! Decoding what a client sends, and encoding what a server answers.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crore_engine::protocol::deflate::DeflateAgreement;
use crore_engine::protocol::frame::{append_frame, append_masked_frame, encode_header};
use crore_engine::protocol::{Decoder, DecoderConfig, Event, Input, Opcode, PartialPool, Role};

const MASK: [u8; 4] = [0x5A, 0x13, 0xC4, 0x77];
const CONFIG: DecoderConfig = DecoderConfig {
    role: Role::Server,
    message_bytes_max: 1 << 20,
    pieces_bytes_max: 1 << 30,
    fragments_max: 1024,
    deflate: DeflateAgreement::NONE,
};

/// Frames in one buffer, as a busy connection or a pipelining one fills it.
const FRAMES: usize = 16;

/// How many messages `bytes` hold.
fn decode(decoder: &mut Decoder, pool: &mut PartialPool, bytes: &mut [u8]) -> usize {
    let mut input = Input::new(bytes);
    let mut messages = 0;
    while let Some(event) = decoder.next(&CONFIG, pool, &mut input).expect("proper frames") {
        messages += usize::from(matches!(event, Event::Message { .. }));
    }
    messages
}

fn frames(opcode: Opcode, payload_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..FRAMES {
        append_masked_frame(&mut bytes, opcode, &vec![b'x'; payload_bytes], MASK);
    }
    bytes
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/decode");
    for (name, opcode) in [("binary", Opcode::Binary), ("text", Opcode::Text)] {
        for payload_bytes in [16, 64, 1000] {
            let bytes = frames(opcode, payload_bytes);
            let (mut decoder, mut pool) = (Decoder::default(), PartialPool::new());
            group.throughput(Throughput::Elements(FRAMES as u64));
            // Decoding unmasks in place, so each time takes a fresh copy.
            group.bench_function(BenchmarkId::new(name, payload_bytes), |bencher| {
                bencher.iter_batched_ref(
                    || bytes.clone(),
                    |bytes| decode(&mut decoder, &mut pool, bytes),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    let bytes = frames(Opcode::Binary, 64);
    let (mut decoder, mut pool) = (Decoder::default(), PartialPool::new());
    // Each frame is cut within its payload, as by the ends of receive buffers.
    group.bench_function(BenchmarkId::new("binary, cut", 64), |bencher| {
        bencher.iter_batched_ref(
            || bytes.clone(),
            |bytes| bytes.chunks_mut(40).map(|part| decode(&mut decoder, &mut pool, part)).sum::<usize>(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/encode");
    let mut header = [0; 14];
    group.bench_function("header", |bencher| {
        bencher.iter(|| encode_header(Opcode::Binary, true, std::hint::black_box(64), &mut header));
    });
    for payload_bytes in [16, 64, 1000] {
        let payload = vec![b'x'; payload_bytes];
        let mut out = Vec::with_capacity(2 * payload_bytes + 16);
        group.bench_function(BenchmarkId::new("frame", payload_bytes), |bencher| {
            bencher.iter(|| {
                out.clear();
                append_frame(&mut out, Opcode::Binary, std::hint::black_box(&payload));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decoding, encoding);
criterion_main!(benches);
