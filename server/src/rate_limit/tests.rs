use std::collections::VecDeque;

use super::*;
use crate::random::below;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

const BUCKET: Algorithm = Algorithm::TokenBucket(TokenBucket { messages_per_second: 10, burst: 20 });
const SLIDING: Algorithm = Algorithm::SlidingWindow(SlidingWindow { messages: 100, length: Duration::from_secs(60) });
const FIXED: Algorithm = Algorithm::FixedWindow(FixedWindow { messages: 10, length: SECOND });

/// How many of so many messages are admitted at a time.
fn admitted(algorithm: Algorithm, state: &mut State, tries: u32, now: Duration) -> u32 {
    (0..tries).map(|_| u32::from(algorithm.admit(state, now))).sum()
}

// capability: 60
#[test]
fn a_bucket_holds_its_burst_and_fills_at_its_rate() {
    let mut state = State::default();
    let start = Duration::from_secs(1000);
    assert_eq!(admitted(BUCKET, &mut state, 50, start), 20);
    assert_eq!(admitted(BUCKET, &mut state, 5, start + 99 * MS), 0);
    assert_eq!(admitted(BUCKET, &mut state, 5, start + 100 * MS), 1);
    assert_eq!(admitted(BUCKET, &mut state, 50, start + 1100 * MS), 10);
    assert_eq!(admitted(BUCKET, &mut state, 50, start + 1_000_000 * MS), 20);
}

/// Over millions of messages at odd moments, half of them refused, not one is lost or won.
#[test]
fn a_bucket_does_not_drift() {
    for messages_per_second in [1, 3, 7, 700_001] {
        let bucket = Algorithm::TokenBucket(TokenBucket { messages_per_second, burst: 2 });
        let (mut state, mut count, mut refused) = (State::default(), 0_u128, 0_u32);
        let mut now = Duration::ZERO;
        // Never long enough for the bucket to run over.
        let step = Duration::from_nanos(999_999_937 / u64::from(messages_per_second));
        for _ in 0..1_000_000 {
            now += step;
            loop {
                if !bucket.admit(&mut state, now) {
                    refused += 1;
                    break;
                }
                count += 1;
            }
        }
        let tokens = (now - step).as_nanos() * u128::from(messages_per_second) / u128::from(NANOS_PER_SECOND);
        assert_eq!(count, 2 + tokens, "{messages_per_second}");
        assert_eq!(refused, 1_000_000);
    }
}

// capability: 62
#[test]
fn a_fixed_window_begins_with_its_first_message() {
    let mut state = State::default();
    let start = 300 * MS;
    assert_eq!(admitted(FIXED, &mut state, 4, start), 4);
    assert_eq!(admitted(FIXED, &mut state, 20, start + 999 * MS), 6);
    assert_eq!(admitted(FIXED, &mut state, 20, start + SECOND), 10);
    assert_eq!(admitted(FIXED, &mut state, 20, start + 1999 * MS), 0);
    // The next one begins where somebody sends again.
    assert_eq!(admitted(FIXED, &mut state, 1, start + 5500 * MS), 1);
    assert_eq!(admitted(FIXED, &mut state, 20, start + 6499 * MS), 9);
}

// capability: 61
#[test]
fn a_message_counts_in_a_sliding_window_for_fifty_to_sixty_seconds() {
    for offset in [Duration::ZERO, 9_999 * MS, 4_321 * MS] {
        let mut state = State::default();
        let start = 600 * SECOND + offset;
        assert_eq!(admitted(SLIDING, &mut state, 150, start), 100);
        assert_eq!(admitted(SLIDING, &mut state, 1, start + 50 * SECOND - MS), 0, "{offset:?}");
        assert_eq!(admitted(SLIDING, &mut state, 150, start + 60 * SECOND), 100, "{offset:?}");
    }
}

/// Beside the exact log that it stands for, whoever sends when: never stricter than a whole window, never laxer than
/// five sixths of one.
#[test]
fn a_sliding_window_lies_between_two_exact_ones() {
    let mut below = below();
    let (mut refused, mut laxer) = (0, 0);
    for _ in 0..200 {
        let messages = u16::try_from(1 + below(40)).unwrap();
        // A number of nanoseconds that six parts share evenly.
        let length = 3 * Duration::from_millis(334 + below(1666));
        let window = Algorithm::SlidingWindow(SlidingWindow { messages, length });
        let mut state = State::default();
        let mut log: VecDeque<Duration> = VecDeque::new();
        let mut now = Duration::from_millis(below(100_000));
        let pace = 1 + below(2 * u64::try_from(length.as_nanos()).unwrap() / u64::from(messages));
        for _ in 0..2000 {
            now += Duration::from_nanos(if below(4) == 0 { below(4 * pace) } else { below(pace / 3 + 1) });
            let since = |log: &VecDeque<Duration>, age: Duration| log.iter().filter(|&&at| now - at < age).count();
            let exact = since(&log, length);
            let most = usize::from(messages);
            if window.admit(&mut state, now) {
                log.push_back(now);
                assert!(since(&log, length * 5 / 6) <= most, "too lax");
                assert!(since(&log, length) <= 2 * most, "too lax by far");
                laxer += usize::from(exact >= most);
            } else {
                assert!(exact >= most, "too strict: {exact} of {most}");
                refused += 1;
            }
            log.retain(|&at| now - at < length);
        }
    }
    assert!(refused > 0 && laxer > 0, "senders came to both ends: {refused} {laxer}");
}

/// To forget a sender that is as new changes nothing, whatever it does next; and every one is as new some day.
#[test]
fn who_is_as_new_can_be_forgotten() {
    let mut below = below();
    let (mut forgotten, mut remembered) = (0, 0);
    let small = [
        Algorithm::TokenBucket(TokenBucket { messages_per_second: 3, burst: 4 }),
        Algorithm::SlidingWindow(SlidingWindow { messages: 5, length: 2 * SECOND }),
        Algorithm::FixedWindow(FixedWindow { messages: 4, length: SECOND }),
    ];
    for algorithm in small {
        for _ in 0..2000 {
            let (mut state, mut now) = (State::default(), Duration::from_millis(below(100_000)));
            assert!(algorithm.is_as_new(&state, now));
            for _ in 0..1 + below(8) {
                now += Duration::from_millis(below(400));
                algorithm.admit(&mut state, now);
                assert!(!algorithm.is_as_new(&state, now), "it has just sent something");
            }
            now += Duration::from_millis(below(3000));
            if algorithm.is_as_new(&state, now) {
                forgotten += 1;
                let mut new = State::default();
                for _ in 0..20 {
                    now += Duration::from_millis(below(500));
                    assert_eq!(algorithm.admit(&mut state, now), algorithm.admit(&mut new, now), "{algorithm:?}");
                }
            } else {
                remembered += 1;
            }
            assert!(algorithm.is_as_new(&state, now + 3 * SECOND), "{algorithm:?}");
        }
    }
    assert!(forgotten > 500 && remembered > 500, "{forgotten} {remembered}");
}

#[test]
fn the_largest_numbers_do_no_harm() {
    let largest = [
        Algorithm::TokenBucket(TokenBucket { messages_per_second: u32::MAX, burst: u32::MAX }),
        Algorithm::SlidingWindow(SlidingWindow { messages: u16::MAX, length: Duration::MAX }),
        Algorithm::FixedWindow(FixedWindow { messages: u32::MAX, length: Duration::MAX }),
    ];
    for algorithm in largest.into_iter().chain([BUCKET, SLIDING, FIXED]) {
        let mut state = State::default();
        for now in [Duration::ZERO, Duration::MAX, Duration::MAX, Duration::ZERO] {
            assert!(algorithm.admit(&mut state, now), "{algorithm:?}");
        }
    }
    let full = Algorithm::SlidingWindow(SlidingWindow { messages: u16::MAX, length: SECOND });
    let mut state = State::default();
    assert_eq!(admitted(full, &mut state, 70_000, Duration::ZERO), 65_535);
    assert_eq!(admitted(full, &mut state, 70_000, SECOND), 65_535);
}

#[test]
fn a_time_before_the_last_one_counts_as_the_last_one() {
    for (algorithm, most) in [(BUCKET, 20), (SLIDING, 100), (FIXED, 10)] {
        let mut state = State::default();
        let now = 100 * SECOND;
        assert_eq!(admitted(algorithm, &mut state, 1000, now), most);
        assert_eq!(admitted(algorithm, &mut state, 1000, now - 90 * SECOND), 0, "{algorithm:?}");
        assert_eq!(admitted(algorithm, &mut state, 1000, now), 0, "{algorithm:?}");
    }
}
