//! One worker on a kernel that a seed drives. See the modules for what it does; what it checks is that no
//! message is lost, doubled or overtaken for a connection that stays, that everything comes back, and that one
//! seed has one outcome.
#![allow(missing_docs, reason = "a test has no users")]

#[path = "simulation/app.rs"]
mod app;
#[path = "simulation/checks.rs"]
mod checks;
#[path = "simulation/deeds.rs"]
mod deeds;
#[path = "simulation/driver.rs"]
mod driver;
#[path = "simulation/kernel.rs"]
mod kernel;
#[path = "simulation/message.rs"]
mod message;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/outsiders.rs"]
mod outsiders;
#[path = "simulation/peer.rs"]
mod peer;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/run.rs"]
mod run;
#[path = "simulation/socket.rs"]
mod socket;
#[path = "simulation/trace.rs"]
mod trace;
#[path = "simulation/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use run::run;

/// Seeds that one test run tries if `CRORE_TEST_SEEDS` does not say how many.
const SEEDS: u64 = 1000;

/// Of so many seeds one is run twice, to compare the traces.
const TWICE_EVERY: u64 = 16;

/// Seeds that a thread takes at a time.
const CHUNK: u64 = 16;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not `{text}`")))
}

#[test]
fn nothing_is_lost_doubled_overtaken_or_kept() {
    let first = number("CRORE_TEST_SEED");
    let count = number("CRORE_TEST_SEEDS").unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let first = first.unwrap_or_else(|| fastrand::u64(..1 << 48));
    println!("CRORE_TEST_SEED={first} CRORE_TEST_SEEDS={count}");
    if count == 1 {
        let outcome = run(first, std::env::var_os("CRORE_TEST_TRACE").is_some());
        assert_eq!(outcome, run(first, false), "seed {first} has two outcomes");
        return;
    }
    let (next, events, heard, failed) =
        (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let from = next.fetch_add(CHUNK, Ordering::Relaxed);
            if from >= count {
                return;
            }
            for seed in (from..count.min(from + CHUNK)).map(|index| first + index) {
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    let outcome = run(seed, false);
                    if seed % TWICE_EVERY == 0 {
                        assert_eq!(outcome, run(seed, false), "one seed has two outcomes");
                    }
                    outcome
                }));
                match outcome {
                    Ok(outcome) => {
                        events.fetch_add(outcome.events, Ordering::Relaxed);
                        heard.fetch_add(outcome.heard, Ordering::Relaxed);
                    }
                    Err(panic) => {
                        failed.store(true, Ordering::Relaxed);
                        println!("seed {seed} has failed: CRORE_TEST_SEED={seed} CRORE_TEST_TRACE=1 repeats it");
                        resume_unwind(panic);
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work)).collect();
        let mut shown = Instant::now();
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(20));
            if shown.elapsed() > Duration::from_secs(10) {
                shown = Instant::now();
                let done = next.load(Ordering::Relaxed).min(count);
                println!("{done} seeds, {:.0} a second", done as f64 / started.elapsed().as_secs_f64());
            }
        }
    });
    println!(
        "{count} seeds from {first} to {} have passed, {:.0} a second: {} events, {} messages heard",
        first + count - 1,
        count as f64 / started.elapsed().as_secs_f64(),
        events.into_inner(),
        heard.into_inner()
    );
}
