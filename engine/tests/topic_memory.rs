//! What topics cost, counted by the allocator itself. Alone in its process: the count is of all.

use std::alloc::System;
use std::fmt::Write;
use std::sync::Arc;

use crore_engine::id::CoreId;
use crore_engine::topics::{Interest, InterestCounts, Topics};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that a topic with a name of 9 to 12 bytes and one subscriber may have allocated.
const TOPIC_BYTES_MAX: usize = 120;

#[test]
fn a_million_topics_of_one_subscriber_each() {
    let interest = Arc::new(Interest::new(1));
    let mut counts = InterestCounts::new(Arc::clone(&interest), CoreId(0));
    let mut topics = Topics::new(interest.topic_hash());
    let mut name = String::with_capacity(64);
    let region = Region::new(ALLOCATOR);
    let number = 1_000_000;
    let mut ids = Vec::with_capacity(number as usize);
    let own_bytes = region.change().bytes_allocated;
    for slot in 0..number {
        name.clear();
        write!(name, "topic{slot:07}").expect("a string takes everything");
        let subscription = topics.subscribe(&name, slot);
        counts.raise(subscription.hash);
        ids.push(subscription.topic);
    }
    let change = region.change();
    let bytes = change.bytes_allocated - change.bytes_deallocated - own_bytes;
    let per_topic = bytes / topics.len();
    println!("{per_topic} bytes a topic, {} by its own estimate", topics.memory_bytes() / topics.len());
    assert!(per_topic <= TOPIC_BYTES_MAX, "{per_topic} bytes a topic");
    assert!(topics.memory_bytes().abs_diff(bytes) <= bytes / 20);

    for (slot, id) in (0..).zip(ids) {
        let unsubscription = topics.unsubscribe(id, slot);
        assert!(unsubscription.last);
        counts.lower(unsubscription.hash);
    }
    assert_eq!(topics.len(), 0);
}
