//! Topics on one core: subscribing, leaving, finding by name, and the walk over all subscribers that every
//! publication is.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crore_engine::topics::{TopicHash, Topics};

/// What a publication does with a subscriber, as far as the topic is concerned: look at its connection.
fn visit(connections: &[[u64; 16]], slots: &[u32]) -> u64 {
    slots.iter().fold(0, |sum, &slot| sum.wrapping_add(connections[slot as usize][0]))
}

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("topics/fan-out");
    for subscribers in [10, 500, 100_000_u32] {
        let mut topics = Topics::new(TopicHash::new());
        // Slots are handed out in an order that is not that of memory.
        let slots: Vec<u32> = (0..subscribers).map(|index| index.wrapping_mul(7919) % subscribers).collect();
        for &slot in &slots {
            topics.subscribe("prices", slot);
        }
        // As large as a connection of the engine: 128 bytes.
        let connections = vec![[1_u64; 16]; subscribers as usize];
        group.throughput(Throughput::Elements(u64::from(subscribers)));
        group.bench_function(BenchmarkId::from_parameter(subscribers), |bencher| {
            bencher.iter(|| {
                let topic = topics.find(std::hint::black_box("prices")).expect("it has subscribers");
                visit(&connections, topics.subscribers(topic))
            });
        });
    }
    group.finish();
}

fn membership(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("topics/membership");
    for subscribers in [10, 500, 100_000_u32] {
        let mut topics = Topics::new(TopicHash::new());
        for slot in 0..subscribers {
            topics.subscribe("prices", slot);
        }
        group.bench_function(BenchmarkId::new("subscribe and leave", subscribers), |bencher| {
            bencher.iter(|| {
                let subscription = topics.subscribe(std::hint::black_box("prices"), subscribers);
                topics.unsubscribe(subscription.topic, subscribers)
            });
        });
    }
    // Every connection has a topic of its own: its user, or a private channel.
    let names: Vec<String> = (0..1000).map(|user| format!("user:{user}")).collect();
    group.throughput(Throughput::Elements(names.len() as u64));
    group.bench_function("1000 topics of one", |bencher| {
        bencher.iter_batched_ref(
            || Topics::new(TopicHash::new()),
            |topics| {
                for (slot, name) in (0..).zip(&names) {
                    topics.subscribe(name, slot);
                }
                topics.len()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, fan_out, membership);
criterion_main!(benches);
