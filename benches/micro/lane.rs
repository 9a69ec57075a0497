//! Lanes from core to core: the cost of an entry on one core, and between two; beside them
//! crossbeam's array channel, which they have to beat to be worth having.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crore_engine::limits::LANE_ENTRIES;
use crore_engine::mesh::lane;

/// As large as what a worker sends: a pointer to a batch.
type Entry = Box<u64>;

fn one_core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lane/one core");
    group.throughput(Throughput::Elements(1));
    let (mut sender, mut receiver) = lane::<u64>(LANE_ENTRIES);
    group.bench_function("lane", |bencher| {
        bencher.iter(|| {
            sender.try_send(std::hint::black_box(1)).expect("there is room");
            receiver.try_recv()
        });
    });
    let (sender, receiver) = crossbeam_channel::bounded::<u64>(LANE_ENTRIES);
    group.bench_function("crossbeam", |bencher| {
        bencher.iter(|| {
            sender.try_send(std::hint::black_box(1)).expect("there is room");
            receiver.try_recv()
        });
    });
    group.finish();
}

/// Time for `count` entries to go through, with a receiver on another thread that takes whatever is there.
fn through(
    count: u64,
    mut send: impl FnMut(Entry) -> Result<(), Entry>,
    mut receive: impl FnMut() -> Option<Entry> + Send,
) -> Duration {
    let ready = AtomicBool::new(false);
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            ready.store(true, Ordering::Release);
            let mut left = count;
            while left > 0 {
                match receive() {
                    Some(_) => left -= 1,
                    None => spin_loop(),
                }
            }
        });
        while !ready.load(Ordering::Acquire) {
            spin_loop();
        }
        let begin = Instant::now();
        for number in 0..count {
            let mut entry = Box::new(number);
            while let Err(back) = send(entry) {
                entry = back;
                spin_loop();
            }
        }
        receiver.join().expect("the receiver does not panic");
        begin.elapsed()
    })
}

fn two_cores(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lane/two cores");
    group.throughput(Throughput::Elements(1));
    group.bench_function("lane", |bencher| {
        bencher.iter_custom(|count| {
            let (mut sender, mut receiver) = lane::<Entry>(LANE_ENTRIES);
            through(count, |entry| sender.try_send(entry), move || receiver.try_recv())
        });
    });
    group.bench_function("crossbeam", |bencher| {
        bencher.iter_custom(|count| {
            let (sender, receiver) = crossbeam_channel::bounded::<Entry>(LANE_ENTRIES);
            let send = |entry| sender.try_send(entry).map_err(crossbeam_channel::TrySendError::into_inner);
            through(count, send, move || receiver.try_recv().ok())
        });
    });
    group.finish();
}

criterion_group!(benches, one_core, two_cores);
criterion_main!(benches);
