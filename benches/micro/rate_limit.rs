//! What a limited message costs beside one that is not: the algorithms alone, and with the reading of a message.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crore_server::rate_limit::{Algorithm, FixedWindow, SlidingWindow, State, TokenBucket};
use crore_server::wire::Decoder;

const DECODER: Decoder = Decoder { json_depth_max: 64, channel_bytes_max: 256, batch_messages_max: 100 };

/// As a chat sends it.
const MESSAGE: &str = r#"{"type":"publish","channel":"chat:room1","data":{"text":"Hello, everyone!","n":17}}"#;

/// Between two messages of all senders together: each sends twenty a second, some of which are too much.
const STEP: Duration = Duration::from_micros(49);

/// Senders whose states lie apart, as those of connections do; few enough for the second level of the cache.
const SENDERS: usize = 1024;

fn algorithms() -> [(&'static str, Algorithm); 3] {
    let minute = Duration::from_secs(60);
    [
        ("token bucket", Algorithm::TokenBucket(TokenBucket { messages_per_second: 10, burst: 20 })),
        ("sliding window", Algorithm::SlidingWindow(SlidingWindow { messages: 100, length: minute })),
        ("fixed window", Algorithm::FixedWindow(FixedWindow { messages: 10, length: Duration::from_secs(1) })),
    ]
}

fn rate_limit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rate limit");
    group.throughput(Throughput::Elements(1));
    for (name, algorithm) in algorithms() {
        let mut states: Vec<Box<State>> = (0..SENDERS).map(|_| Box::default()).collect();
        let (mut now, mut sender) = (Duration::ZERO, 0);
        group.bench_function(format!("{name}, alone"), |bencher| {
            bencher.iter(|| {
                (now, sender) = (now + STEP, (sender + 1) % SENDERS);
                black_box(algorithm).admit(&mut states[sender], black_box(now))
            });
        });
    }
    group.bench_function("none, with the reading", |bencher| {
        bencher.iter(|| DECODER.decode(black_box(MESSAGE)).expect("a message").data().len());
    });
    for (name, algorithm) in algorithms() {
        let mut states: Vec<Box<State>> = (0..SENDERS).map(|_| Box::default()).collect();
        let (mut now, mut sender) = (Duration::ZERO, 0);
        group.bench_function(format!("{name}, with the reading"), |bencher| {
            bencher.iter(|| {
                let message = DECODER.decode(black_box(MESSAGE)).expect("a message");
                (now, sender) = (now + STEP, (sender + 1) % SENDERS);
                algorithm.admit(&mut states[sender], black_box(now)).then(|| message.data().len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, rate_limit);
criterion_main!(benches);
