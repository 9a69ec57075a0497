//! UTF-8 of text messages: whole ones, and those that come in parts.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crore_engine::protocol::utf8::{Utf8Validator, validate};

/// Letters of one, two, three and four bytes.
const MIXED: &str = "Chat, ночь, 会話, 🚀 ";

fn texts(bytes: usize) -> [(&'static str, String); 2] {
    let mixed: String = MIXED
        .chars()
        .cycle()
        .scan(0, |length, letter| {
            *length += letter.len_utf8();
            (*length <= bytes).then_some(letter)
        })
        .collect();
    [("ascii", "x".repeat(bytes)), ("mixed", mixed)]
}

fn utf8(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("utf8");
    for bytes in [64, 1024, 16 * 1024] {
        for (name, text) in texts(bytes) {
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_function(BenchmarkId::new(format!("whole, {name}"), bytes), |bencher| {
                bencher.iter(|| validate(std::hint::black_box(text.as_bytes())));
            });
            // Parts that end within a letter here and there.
            group.bench_function(BenchmarkId::new(format!("in parts, {name}"), bytes), |bencher| {
                bencher.iter(|| {
                    let mut validator = Utf8Validator::default();
                    for part in std::hint::black_box(text.as_bytes()).chunks(61) {
                        validator.feed(part)?;
                    }
                    validator.finish()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, utf8);
criterion_main!(benches);
