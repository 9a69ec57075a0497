//! One worker on a kernel, with peers, threads and other cores, all driven by a seed.
//!
//! ```text
//!  plan    what a seed decides before the run: sizes, bounds, faults, how it ends
//!  run     a world, a worker in it, a host that gives it turns; to rest, and to its end
//!  deeds   what peers do in a step        outsiders  what other cores and threads do
//!  world   network, descriptors, clock    socket     one TCP connection
//!  kernel  io_uring on those sockets      driver     its verbs, and what a worker owes it
//!  app     the application: does what messages ask for
//!  oracle  what must be heard of it       checks     what must be true at rest and at the end
//!  trace   all that crosses between worker and world, as one number
//! ```
//!
//! # What happens
//!
//! | where | what |
//! |---|---|
//! | sends | end short, wait for room that a peer makes or never makes, fail with what the socket has to say |
//! | receives | find no buffer, nothing (a poll was wrong), a message in any pieces; a multishot one ends early |
//! | completions | come in any order across requests, few at a time, or late because their queue is full |
//! | submissions | fill their queue, so that completions arrive in the middle of a turn |
//! | accepts | end early, fail for want of descriptors or because the peer has gone; descriptors are used again |
//! | peers | reset, close half, close, break the protocol, stall, read slowly or not at all, speak before the answer, compress |
//! | others | threads and cores publish, send, close, terminate, into inboxes and lanes with room for little |
//! | time | stands still, runs, jumps by seconds and hours |
//! | the end | everyone leaves, or the worker is drained, at rest or in the middle, or its ring fails |
//!
//! # What is checked
//!
//! - Each peer hears each stream of messages in order, once each, and whole; and what is sent to it alone, to everyone
//!   and to a topic by one source in the order in which that has sent it, where nothing may be dropped. Who has not been given a reason to
//!   go is there at the end and has heard all. Where a policy drops messages, of a topic or of all, as many are missing as
//!   are counted and announced, and of a topic none is missing that was not announced before. Where messages of one key
//!   replace each other, those of each key are heard in order. Nothing else is ever dropped for a topic's sake.
//! - What a peer has said comes to the application in order and once, also what comes just before it leaves; and not while
//!   the application does not want to hear it.
//! - Messages that are joined are so for who has asked for it, and what is alone is not; joined or not, they keep their order.
//! - Before a close frame comes everything that was sent before it; behind it comes nothing. A close handshake
//!   ends, and a breach of the protocol is answered by its code.
//! - Nobody is cut who answers; every connection ends for a reason that there was, and that is announced once. Where this
//!   side begins it, that is announced before, once, and before the peer has the close frame.
//! - At rest nothing is held but slots and subscriptions; at the end those have come back, too, with every
//!   buffer, socket and deadline. The counters add up.
//! - No request is begun twice, none on a closed socket, and no socket is closed under a request.
//! - A worker that has nothing to do is idle; one that has something says so, and comes to rest.
//! - One seed has one trace.
//!
//! # How to run it
//!
//! A thousand seeds are part of `cargo test`. A failure prints its seed; `CRORE_TEST_SEED=… CRORE_TEST_TRACE=1`
//! with `--nocapture` repeats it and prints every event. More of them, with the engine's own assertions, at about
//! 2 ms of a CPU for each seed:
//!
//! ```text
//! CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CRORE_TEST_SEED=1000000 CRORE_TEST_SEEDS=1000000 \
//!   cargo test --release -p crore-tests --test simulation -- --nocapture
//! ```
//!
//! The million from 1,000,000 on has passed (21 November 2026, Linux 6.18, two cores that were busy with other things:
//! 3,674 seconds), after its first tries had found one fault, which is among the seeds below, and two of this test's.
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

/// Seeds that have found something, and what. A seed means another run once the world has changed; then the
/// thousand others have to find it again.
const FOUND: [Found; 7] = [
    Found::before(2, "`messages_sent` counts those too that `publish_to_others` leaves out"),
    Found::before(2, "`bytes_sent` does not count what leaves after the connection has ended"),
    Found::before(792, "a message is dropped and a close frame follows as if all had been sent"),
    Found::before(1_276_628, "who has ended its stream and still reads is answered without regard to the room for it"),
    Found::before(
        141_885_643_754_614,
        "a compressed message replaces one that is not, between two of which the later refers to the first",
    ),
    Found::since(25_738_397_111_257, "who pauses with the last piece of all that has come keeps room for nothing"),
    Found::since(
        140_267_421_270_773,
        "who is not read from until what is joined for it leaves is taken for one that does not answer pings",
    ),
];

struct Found {
    seed: u64,
    /// The world had what [`plan::Plan::add`] adds.
    with_additions: bool,
    found: &'static str,
}

impl Found {
    const fn before(seed: u64, found: &'static str) -> Self {
        Self { seed, with_additions: false, found }
    }

    const fn since(seed: u64, found: &'static str) -> Self {
        Self { seed, with_additions: true, found }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not `{text}`")))
}

#[test]
fn what_a_seed_has_found_stays_mended() {
    for Found { seed, found, .. } in FOUND {
        println!("seed {seed}: {found}");
        assert_eq!(run(seed, false), run(seed, false), "one seed has two outcomes");
    }
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
