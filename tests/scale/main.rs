//! One worker with as many connections as a core may hold, on a kernel whose connections are numbers: what each of
//! them costs does not depend on how many there are.
//!
//! By hand, with five million (about two minutes of CPU time, 700 MB):
//!
//! ```text
//! CRORE_TEST_CONNECTIONS=5000000 cargo test --release --package crore-tests --test scale -- --nocapture
//! ```
//!
//! CPU time in nanoseconds for each time that a phase does its work, the fake kernel and the clients included, and bytes
//! that the worker has for each connection after it and at most (AMD EPYC, one of two shared cores, Linux 6.18;
//! release profile without LTO):
//!
//! | phase | 100,000 | 1,000,000 | 5,000,000 | bytes at 5,000,000 | at most |
//! |---|---|---|---|---|---|
//! | open | 1,802 | 2,264 | 1,706 | 61 | 61 |
//! | heartbeats | 764 | 1,508 | 2,161 | 61 | 61 |
//! | heartbeats again | 847 | 1,643 | 2,025 | 61 | 61 |
//! | a pause | 1,338 | 2,101 | 2,193 | 61 | 119 |
//! | heartbeats after that | 654 | 1,135 | 1,995 | 61 | 61 |
//! | subscribe | 563 | 399 | 444 | 77 | 77 |
//! | publish | 93 | 73 | 74 | 77 | 77 |
//! | broadcast | 157 | 127 | 140 | 77 | 184 |
//! | vanish | 252 | 173 | 208 | 62 | 77 |
//! | open again | 2,393 | 1,674 | 1,668 | 62 | 62 |
//! | drain | 748 | 532 | 544 | 66 | 66 |
//! | subscribe, own topic | 887 | 585 | 746 | 142 | 142 |
//!
//! What grows with the number is the time to reach memory that no cache holds: those who are pinged in one tick lie
//! far apart. `a pause` is half of a heartbeat interval in which the process stands still, so that half of all
//! connections are pinged in one turn; `heartbeats after that` are spread as before. `subscribe, own topic` is another
//! worker, with a fifth as many connections.

mod client;
mod kernel;
mod scene;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crore_engine::limits::{TICK_MS, TRIM_INTERVAL_MS};
use crore_engine::simulation::Turn;
use crore_engine::{CoreId, OwnedMessage};
use crore_tests::system::{allocated_bytes, allocations};

use client::{Says, TO_ALL};
use scene::{PING_TICKS, Scene, write_topic};

/// Connections of the worker; `CRORE_TEST_CONNECTIONS` sets another number.
const CONNECTIONS: u32 = 50_000;

/// One in so many connections subscribes to the same topic.
const NEWS_ONE_IN: u32 = 10;

/// The others subscribe to topics of a few: so many connections share one.
const ROOM: u32 = 100;

/// What a connection may cost, in bytes of user memory: idle, subscribed to a topic with others, subscribed to a
/// topic of its own.
const IDLE_BYTES_MAX: usize = 200;
const SUBSCRIBED_BYTES_MAX: usize = 400;
const OWN_TOPIC_BYTES_MAX: usize = 600;

/// What comes back of each when all have gone: its slot, and its place in the timer wheel.
const GONE_BYTES_MIN: usize = 58;

/// What the test harness may allocate meanwhile, for the thread of another test.
const HARNESS_BYTES_MAX: usize = 16 * 1024;

/// How often it may do so: it says when a test takes long.
const HARNESS_ALLOCATIONS_MAX: usize = 100;

/// The allocator counts the whole process, so the tests of this file run one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connections() -> u32 {
    let number = std::env::var("CRORE_TEST_CONNECTIONS");
    number.map_or(CONNECTIONS, |number| number.parse().expect("CRORE_TEST_CONNECTIONS is a number"))
}

/// The first topic is the one that a tenth has in common.
fn topic_of(connection: u32) -> u32 {
    if connection.is_multiple_of(NEWS_ONE_IN) { 0 } else { 1 + connection / ROOM }
}

#[test]
fn a_connection_costs_the_same_among_any_number() {
    let _alone = alone();
    let before = allocated_bytes();
    let mut scene = Scene::new(connections(), topic_of);
    scene.open("open");
    let idle = scene.bytes_each();
    assert!(idle <= IDLE_BYTES_MAX, "{idle} bytes for each idle connection");
    heartbeats(&mut scene, "heartbeats");
    heartbeats(&mut scene, "heartbeats again");
    assert!(scene.bytes_each() <= idle + 1, "a heartbeat leaves nothing behind");
    pause(&mut scene);
    heartbeats(&mut scene, "heartbeats after that");
    scene.subscribe();
    let subscribed = scene.bytes_each();
    assert!(subscribed <= SUBSCRIBED_BYTES_MAX, "{subscribed} bytes for each subscriber");
    publish(&mut scene);
    broadcast(&mut scene);
    rest(&mut scene);
    assert!(scene.bytes_each() <= subscribed + 1, "a broadcast leaves nothing behind");
    vanish(&mut scene);
    scene.open("open again");
    drain(&mut scene);
    drop(scene);
    let left = allocated_bytes().saturating_sub(before);
    assert!(left < HARNESS_BYTES_MAX, "{left} bytes have not come back");
}

/// Some seconds pass, after which a worker has given back what it has not needed of late.
fn rest(scene: &mut Scene) {
    for _ in 0..3 * TRIM_INTERVAL_MS / TICK_MS {
        scene.pass(1);
        scene.run();
        scene.world.borrow_mut().answer_pings();
        scene.run();
    }
}

/// Everyone is pinged and answers, and the pings are spread over the interval.
fn heartbeats(scene: &mut Scene, name: &str) {
    let (pongs_before, mut allocated) = (scene.pongs.get(), 0);
    // A deadline is met up to two ticks late.
    let ticks = PING_TICKS + 2;
    let by_tick: Vec<usize> = scene.phase(name, |scene| {
        let by_tick: Vec<usize> = (0..ticks)
            .map(|_| {
                scene.pass(1);
                scene.run();
                let pinged = scene.world.borrow().pinged.len();
                let before = allocations();
                scene.world.borrow_mut().answer_pings();
                scene.run();
                allocated += allocations() - before;
                pinged
            })
            .collect();
        (by_tick.iter().sum(), by_tick)
    });
    let sum: usize = by_tick.iter().sum();
    assert_eq!(scene.pongs.get() - pongs_before, sum, "every pong is heard");
    assert!(allocated <= HARNESS_ALLOCATIONS_MAX, "{allocated} allocations for {sum} pongs");
    for client in &mut scene.world.borrow_mut().clients {
        assert!((1..=2).contains(&client.take_heard()), "once in each interval");
    }
    let (most, mean) = (by_tick.iter().max().copied().unwrap_or(0), sum / ticks);
    println!("{:<22}{mean} in a tick, at most {most}", "");
    assert!(most <= 2 * mean, "{most} pings in one tick, {mean} in the mean");
    scene.check_idle();
}

/// The process stands still for half of the interval, and has as many heartbeats to catch up on at once.
fn pause(scene: &mut Scene) {
    scene.phase("a pause", |scene| {
        scene.pass(PING_TICKS / 2);
        scene.run();
        let pinged = scene.world.borrow().pinged.len();
        scene.world.borrow_mut().answer_pings();
        scene.run();
        (pinged, ())
    });
    for client in &mut scene.world.borrow_mut().clients {
        assert!(client.take_heard() <= 1, "what was missed is not made up for");
    }
}

/// Every client has heard one message since it was last asked, and nothing is left of them.
fn check_heard_once(scene: &mut Scene) {
    assert_eq!(scene.world.borrow().counts.messages, scene.connections);
    for client in &mut scene.world.borrow_mut().clients {
        assert_eq!(client.take_heard(), 1, "once");
    }
    scene.check_idle();
}

/// A message to all reaches each once.
fn broadcast(scene: &mut Scene) {
    scene.phase("broadcast", |scene| {
        scene.world.borrow_mut().counts.messages = 0;
        scene.worker.handle().broadcast(OwnedMessage::text(TO_ALL)).expect("the inbox is empty");
        scene.run();
        (scene.connections, ())
    });
    check_heard_once(scene);
}

/// A message to each topic reaches each of its subscribers once.
fn publish(scene: &mut Scene) {
    let topics = topic_of(u32::try_from(scene.connections).expect("it was made from a u32") - 1) + 1;
    scene.phase("publish", |scene| {
        scene.world.borrow_mut().counts.messages = 0;
        let mut name = String::new();
        for topic in 0..topics {
            write_topic(&mut name, topic);
            let message = OwnedMessage::binary(topic.to_be_bytes().to_vec());
            scene.worker.handle().publish(&name, message).expect("the inbox is empty");
            scene.run();
        }
        (scene.connections, ())
    });
    check_heard_once(scene);
}

/// All clients reset their connections at once.
fn vanish(scene: &mut Scene) {
    scene.phase("vanish", |scene| {
        scene.world.borrow_mut().all_say(Says::Reset);
        scene.run();
        (scene.connections, ())
    });
    scene.check_empty();
    assert!(!scene.worker.is_interested(CoreId(0), "topic:0"));
    let before = scene.bytes_each();
    rest(scene);
    let bytes = before - scene.bytes_each();
    assert!(bytes >= GONE_BYTES_MIN, "{bytes} bytes have come back of each that has gone");
}

/// The server goes away and says so; everyone answers.
fn drain(scene: &mut Scene) {
    scene.phase("drain", |scene| {
        scene.worker.handle().drain(Duration::from_secs(60));
        assert_eq!(scene.run(), Turn::Ended);
        (scene.connections, ())
    });
    assert_eq!(scene.world.borrow().counts.closes, scene.connections);
    scene.check_empty();
    let most = scene.most_bytes_each();
    assert!(most <= IDLE_BYTES_MAX, "up to {most} bytes each, although not all need to be closed at once");
}

#[test]
fn a_topic_of_its_own_for_each() {
    let _alone = alone();
    let mut scene = Scene::new(connections() / 5, |connection| connection);
    scene.open("open");
    scene.subscribe();
    let bytes = scene.bytes_each();
    assert!(bytes <= OWN_TOPIC_BYTES_MAX, "{bytes} bytes for each");
    vanish(&mut scene);
}
