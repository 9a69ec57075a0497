//! Deflate of small messages (RFC 7692): which implementation, which memory level, and what it costs to keep
//! only the window of a connection instead of its compressor.
//!
//! Five implementations were measured here: zlib-rs 0.6.8, zlib 1.3.2 and zlib-ng 2.3.3 (`libz-sys` and `libz-ng-sys`
//! 1.1.31), libdeflate 1.26 and miniz_oxide 0.9.1. Medians of 21 interleaved rounds on one core of a Xeon
//! (2 MiB L2), level 6, window 15, memory level 8, a context that is reset and reused, messages
//! of the shape below, in µs:
//!
//! | message | | zlib-rs | zlib | zlib-ng | libdeflate | miniz_oxide |
//! |---|---|---|---|---|---|---|
//! | 200 B | compress | 9.8 | 9.0 | 9.3 | 6.8 | 10.1 |
//! | 1 KiB | compress | 17.8 | 21.8 | 21.2 | 12.5 | 20.2 |
//! | 4 KiB | compress | 42.6 | 63.9 | 50.7 | 35.5 | 57.9 |
//! | 64 KiB | compress | 751 | 1704 | 792 | 698 | 1698 |
//! | 1 KiB | decompress | 4.2 | 5.8 | 4.9 | 3.3 | 6.1 |
//! | 4 KiB | decompress | 9.6 | 14.6 | 11.2 | 6.8 | 12.8 |
//! | 64 KiB | decompress | 79 | 147 | 95 | 56 | 124 |
//!
//! The sizes are within 2 % of each other. From 1 KiB on, where compression begins to pay, zlib-rs is the
//! fastest that is a stream; memory level 6 takes about 1 µs off every message, as zlib-rs clears its symbol
//! buffer with every block. libdeflate knows neither a sync flush nor a dictionary nor a window below 15 bits,
//! and wants a whole message in one piece; it stays here as the mark of what there is to gain. The others are
//! not worth the time that it takes to compile them.

use std::alloc::System;
use std::any::Any;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fastrand::Rng;
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Inflate, InflateFlush};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Messages of one size, so that no branch is learned by heart.
const MESSAGES: usize = 64;

/// More than any of the messages takes, compressed or not.
const OUT_BYTES: usize = 128 * 1024;

/// How a stored final block follows a sync flush, for a decompressor that must see an end.
const FINAL_BLOCK: [u8; 5] = [1, 0, 0, 0xFF, 0xFF];

const WORDS: [&str; 48] = [
    "the", "of", "and", "to", "a", "in", "is", "you", "that", "it", "he", "was", "for", "on", "are", "as", "with",
    "they", "at", "be", "this", "have", "from", "or", "one", "had", "by", "word", "but", "not", "what", "all", "were",
    "we", "when", "your", "can", "meeting", "tomorrow", "deploy", "server", "thanks", "lunch", "release", "branch",
    "sorry", "question", "coffee",
];

const NAMES: [&str; 8] = [
    "Aisha Khan",
    "Bob Miller",
    "Carla Rossi",
    "Dmitri Petrov",
    "Élodie Martin",
    "José Álvarez",
    "Mei Ling",
    "Priya Nair",
];

/// One entry of a chat as JSON, of `bytes` in all, or as long as an entry without text.
fn entry(rng: &mut Rng, bytes: usize) -> String {
    let user = rng.usize(..NAMES.len());
    let mut json = format!(
        r#"{{"type":"message","id":"{:016x}","room":"room-{}","at":"2026-11-21T{:02}:{:02}:{:02}.{:03}Z","from":{{"id":{},"name":"{}"}},"text":""#,
        rng.u64(..),
        rng.u32(1..40),
        rng.u32(..24),
        rng.u32(..60),
        rng.u32(..60),
        rng.u32(..1000),
        10_000 + 7919 * user,
        NAMES[user],
    );
    let text_ends = bytes.saturating_sub(2).max(json.len());
    while json.len() < text_ends {
        // Few words are said often.
        json.push_str(WORDS[rng.usize(..WORDS.len()).min(rng.usize(..WORDS.len()))]);
        json.push(' ');
    }
    json.truncate(text_ends);
    json.push_str(r#""}"#);
    json
}

/// A chat message, or several as one history.
fn message(rng: &mut Rng, bytes: usize) -> Vec<u8> {
    if bytes < 500 {
        return entry(rng, bytes).into_bytes();
    }
    let mut json = String::from(r#"{"type":"history","messages":["#);
    loop {
        let left = bytes - json.len() - 2;
        if left < 500 {
            json.push_str(&entry(rng, left));
            json.push_str("]}");
            return json.into_bytes();
        }
        let length = rng.usize(180..300);
        json.push_str(&entry(rng, length));
        json.push(',');
    }
}

fn messages(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    let mut rng = Rng::with_seed(7);
    (0..count).map(|_| message(&mut rng, bytes)).collect()
}

/// All inputs by name.
fn inputs() -> Vec<(String, Vec<Vec<u8>>)> {
    let mut inputs: Vec<_> =
        [200, 1024, 4096, 65_536].map(|bytes| (format!("JSON, {bytes}"), messages(MESSAGES, bytes))).into();
    let mut rng = Rng::with_seed(7);
    let noise = (0..MESSAGES).map(|_| (0..4096).map(|_| rng.u8(..)).collect()).collect();
    inputs.push(("noise, 4096".to_owned(), noise));
    inputs
}

fn deflater(level: i32, window_bits: i32, mem_level: i32) -> Deflate {
    Deflate::new_with_config(DeflateConfig { level, window_bits: -window_bits, mem_level, ..DeflateConfig::default() })
}

/// Compresses one message and flushes; how many bytes of `out` it takes.
fn compress(deflate: &mut Deflate, message: &[u8], out: &mut [u8]) -> usize {
    let before = deflate.total_out();
    deflate.compress(message, out, DeflateFlush::SyncFlush).expect("the context is sound");
    usize::try_from(deflate.total_out() - before).expect("it fits into the buffer")
}

fn decompress(inflate: &mut Inflate, compressed: &[u8], out: &mut [u8]) -> usize {
    let before = inflate.total_out();
    inflate.decompress(compressed, out, InflateFlush::SyncFlush).expect("it was compressed properly");
    usize::try_from(inflate.total_out() - before).expect("it fits into the buffer")
}

/// Compresses every message, each as if it were the first.
fn all_compressed(deflate: &mut Deflate, messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut out = vec![0; OUT_BYTES];
    let each = messages.iter().map(|message| {
        deflate.reset();
        let bytes = compress(deflate, message, &mut out);
        out[..bytes].to_vec()
    });
    each.collect()
}

fn mean_bytes(messages: &[Vec<u8>]) -> usize {
    messages.iter().map(Vec::len).sum::<usize>() / messages.len()
}

/// What no clock shows: bytes of a context, and of what it makes.
fn sizes(_: &mut Criterion) {
    let held = |name: &str, make: &mut dyn FnMut() -> Box<dyn Any>| {
        let region = Region::new(ALLOCATOR);
        let _context = make();
        let change = region.change();
        println!("{name}: {} bytes", change.bytes_allocated - change.bytes_deallocated);
    };
    for (window_bits, mem_level) in [(15, 8), (15, 6), (12, 8), (12, 6), (11, 6), (9, 6), (9, 1)] {
        let name = format!("deflate context, window {window_bits}, memory level {mem_level}");
        held(&name, &mut || Box::new(deflater(6, window_bits, mem_level)));
    }
    held("inflate context, any window", &mut || Box::new(Inflate::new(false, 15)));
    for (name, messages) in inputs() {
        for level in [1, 6] {
            let compressed = mean_bytes(&all_compressed(&mut deflater(level, 15, 6), &messages));
            println!("{name}, level {level}: {} bytes become {compressed}", mean_bytes(&messages));
        }
    }
}

/// Every message alone, as without context takeover.
fn alone(criterion: &mut Criterion) {
    let mut out = vec![0; OUT_BYTES];
    let mut group = criterion.benchmark_group("deflate/compress");
    for (name, messages) in inputs() {
        group.throughput(Throughput::Bytes(mean_bytes(&messages) as u64));
        for level in [1, 6] {
            for mem_level in [6, 8] {
                let mut deflate = deflater(level, 15, mem_level);
                let mut turn = messages.iter().cycle();
                let id = BenchmarkId::new(format!("zlib-rs, level {level}, memory {mem_level}"), &name);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| {
                        deflate.reset();
                        compress(&mut deflate, black_box(turn.next().expect("it cycles")), &mut out)
                    });
                });
            }
            let mut one_shot = Compressor::new(CompressionLvl::new(level).expect("a level of libdeflate"));
            let mut turn = messages.iter().cycle();
            group.bench_function(BenchmarkId::new(format!("libdeflate, level {level}"), &name), |bencher| {
                bencher.iter(|| one_shot.deflate_compress(black_box(turn.next().expect("it cycles")), &mut out));
            });
        }
    }
    group.finish();

    let mut group = criterion.benchmark_group("deflate/decompress");
    for (name, messages) in inputs() {
        group.throughput(Throughput::Bytes(mean_bytes(&messages) as u64));
        let mut compressed = all_compressed(&mut deflater(6, 15, 6), &messages);
        let mut inflate = Inflate::new(false, 15);
        let mut turn = compressed.iter().cycle();
        group.bench_function(BenchmarkId::new("zlib-rs", &name), |bencher| {
            bencher.iter(|| {
                inflate.reset(false);
                decompress(&mut inflate, black_box(turn.next().expect("it cycles")), &mut out)
            });
        });
        compressed.iter_mut().for_each(|bytes| bytes.extend_from_slice(&FINAL_BLOCK));
        let mut one_shot = Decompressor::new();
        let mut turn = compressed.iter().cycle();
        group.bench_function(BenchmarkId::new("libdeflate", &name), |bencher| {
            bencher.iter(|| one_shot.deflate_decompress(black_box(turn.next().expect("it cycles")), &mut out));
        });
    }
    group.finish();
}

/// Context takeover: a context of its own for each connection, or one for all that is given the last bytes of
/// a connection as its dictionary.
fn takeover(criterion: &mut Criterion) {
    const WINDOW_BYTES: usize = 32 * 1024;
    let mut out = vec![0; OUT_BYTES];
    let mut group = criterion.benchmark_group("deflate/takeover");
    for bytes in [200, 1024] {
        // The window holds none of the messages that are still to come, also when they come again.
        let mut messages = messages(4 * WINDOW_BYTES / bytes, bytes);
        let fresh = messages.split_off(messages.len() / 2);
        let history = messages.concat();
        let mut own = deflater(6, 15, 6);
        compress(&mut own, &history, &mut out);
        let mut turn = fresh.iter().cycle();
        group.bench_function(BenchmarkId::new("compress, own context", bytes), |bencher| {
            bencher.iter(|| compress(&mut own, black_box(turn.next().expect("it cycles")), &mut out));
        });
        for dictionary_bytes in [512, 4096, WINDOW_BYTES] {
            let dictionary = &history[history.len() - dictionary_bytes..];
            let (mut deflate, mut inflate) = (deflater(6, 15, 6), Inflate::new(false, 15));
            let mut with_dictionary = |message: &[u8], out: &mut [u8]| {
                deflate.reset();
                deflate.set_dictionary(dictionary).expect("a raw stream takes one at its start");
                compress(&mut deflate, message, out)
            };
            let mut compressed = Vec::new();
            for message in fresh.iter().take(MESSAGES) {
                let length = with_dictionary(message, &mut out);
                compressed.push(out[..length].to_vec());
            }
            println!("{bytes} bytes, dictionary of {dictionary_bytes}: {} bytes", mean_bytes(&compressed));
            let mut turn = fresh.iter().cycle();
            let id = BenchmarkId::new(format!("compress, dictionary of {dictionary_bytes}"), bytes);
            group.bench_function(id, |bencher| {
                bencher.iter(|| with_dictionary(black_box(turn.next().expect("it cycles")), &mut out));
            });
            let mut turn = compressed.iter().cycle();
            let id = BenchmarkId::new(format!("decompress, dictionary of {dictionary_bytes}"), bytes);
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    inflate.reset(false);
                    inflate.set_dictionary(dictionary).expect("a raw stream takes one at its start");
                    decompress(&mut inflate, black_box(turn.next().expect("it cycles")), &mut out)
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    targets = sizes, alone, takeover
}
criterion_main!(benches);
