//! Chance for tests, which a seed repeats.

use std::hash::{BuildHasher, RandomState};

/// Numbers below a bound, from the seed in `CRORE_TEST_SEED` or one that is printed.
pub(crate) fn below() -> impl FnMut(u64) -> u64 {
    let seed = std::env::var("CRORE_TEST_SEED")
        .map_or_else(|_| RandomState::new().hash_one(0), |seed| seed.parse().expect("a number"));
    println!("CRORE_TEST_SEED={seed}");
    let mut state = seed | 1;
    move |bound| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    }
}

/// The same for places in a list.
pub(crate) fn index_below() -> impl FnMut(usize) -> usize {
    let mut below = below();
    move |bound| usize::try_from(below(bound as u64)).expect("it is below a usize")
}
