//! Unmasking (RFC 6455, section 5.3): what every byte from a client pays.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crore_engine::protocol::mask::{apply_mask, unmask_is_ascii};

const MASK: [u8; 4] = [0x5A, 0x13, 0xC4, 0x77];

fn mask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mask");
    for bytes in [16, 64, 1024, 16 * 1024] {
        let mut payload = vec![b'x'; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("apply_mask", bytes), |bencher| {
            bencher.iter(|| apply_mask(std::hint::black_box(&mut payload), MASK, 0));
        });
        // A key stream that is not at its start, as behind the first part of a frame.
        group.bench_function(BenchmarkId::new("apply_mask, offset 3", bytes), |bencher| {
            bencher.iter(|| apply_mask(std::hint::black_box(&mut payload), MASK, 3));
        });
        group.bench_function(BenchmarkId::new("unmask_is_ascii", bytes), |bencher| {
            bencher.iter(|| unmask_is_ascii(std::hint::black_box(&mut payload), MASK));
        });
    }
    group.finish();
}

criterion_group!(benches, mask);
criterion_main!(benches);
