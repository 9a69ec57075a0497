use super::super::label::{LabelBytes, Labelling};
use super::*;
use crate::limits::SEND_BUFFER_KEPT_BYTES_MAX;

fn parcel(bytes: &[u8], messages: u32) -> Parcel {
    Parcel::new(Outgoing::Owned { bytes: bytes.to_vec(), start: 0 }, messages)
}

/// A message of a topic with a policy of its own, and perhaps a key.
fn labelled(text: &str, topic: &str, policy: Policy, key: Option<u64>) -> Parcel {
    let hash = topic.bytes().fold(0, |hash, byte| hash * 31 + u64::from(byte));
    let keys: Vec<u64> = key.into_iter().collect();
    let label = Labelling::new(topic, hash, policy, &keys).label(&LabelBytes::default());
    Parcel { label: Some(label), ..parcel(text.as_bytes(), 1) }
}

fn limits(slow_consumer: SlowConsumer) -> Limits {
    Limits { outbox_bytes_max: 10, outbox_messages_max: 3, slow_consumer, ..Limits::default() }
}

fn dropped(stored: &Stored) -> usize {
    assert!(!stored.too_slow);
    stored.gone.len() - stored.conflated as usize
}

/// What leaves, one after the other; gaps with their topics and numbers.
fn contents(outbox: &mut Outbox) -> Vec<String> {
    let mut corks = Corks::default();
    let left = std::iter::from_fn(|| outbox.next(&mut corks))
        .map(|next| match next {
            Next::Parcel(Parcel { outgoing: Outgoing::Owned { bytes, .. }, .. }) => String::from_utf8(bytes).unwrap(),
            Next::Parcel(other) => panic!("not owned: {other:?}"),
            Next::Gap { label, dropped } => {
                format!("gap({}, {dropped})", label.as_ref().map_or("", |label| label.topic()))
            }
        })
        .collect();
    assert_eq!((outbox.bytes, outbox.messages, outbox.owned_bytes), (0, 0, 0));
    assert!(outbox.lossy.is_none() && outbox.is_empty());
    left
}

#[test]
fn the_newest_is_dropped_at_either_bound() {
    let limits = limits(SlowConsumer::DropNewest);
    let mut outbox = Outbox::default();
    for _ in 0..3 {
        assert_eq!(dropped(&outbox.store(parcel(b"ab", 1), &limits)), 0);
    }
    assert_eq!(dropped(&outbox.store(parcel(b"c", 1), &limits)), 1);
    assert_eq!(contents(&mut outbox), ["ab", "ab", "ab", "gap(, 1)"]);
}

#[test]
fn the_oldest_makes_room_and_control_frames_stay() {
    let limits = limits(SlowConsumer::DropOldest);
    let mut outbox = Outbox::default();
    outbox.store_control(b"ping".to_vec());
    assert_eq!(dropped(&outbox.store(parcel(b"old", 1), &limits)), 0);
    assert_eq!(dropped(&outbox.store(parcel(b"newer", 1), &limits)), 0);
    // A gap counts for more than what lay there.
    assert_eq!(dropped(&outbox.store(parcel(b"newest", 1), &limits)), 3);
    assert_eq!(contents(&mut outbox), ["ping", "gap(, 3)"]);
}

#[test]
fn what_finds_room_is_taken_whole() {
    let limits = limits(SlowConsumer::Disconnect);
    let mut outbox = Outbox::default();
    assert_eq!(dropped(&outbox.store(parcel(&[0; 9], 1), &limits)), 0);
    assert_eq!(dropped(&outbox.store(parcel(&[0; 1000], 1), &limits)), 0);
    assert!(outbox.store(parcel(b"x", 1), &limits).too_slow);
}

#[test]
fn a_slow_consumer_is_named() {
    let limits = limits(SlowConsumer::Disconnect);
    let mut outbox = Outbox::default();
    assert_eq!(dropped(&outbox.store(parcel(&[0; 10], 1), &limits)), 0);
    assert!(outbox.store(parcel(b"x", 1), &limits).too_slow);
    assert_eq!(dropped(&outbox.store(parcel(b"close", 0), &limits)), 0, "control frames are exempt");
}

#[test]
fn pongs_do_not_pile_up() {
    let mut outbox = Outbox::default();
    for round in 0..1000 {
        outbox.store_control(round.to_string().into_bytes());
    }
    assert_eq!(contents(&mut outbox), ["999"]);
}

/// Bounds that hold some messages of a few bytes, and the gaps between them.
fn roomy(outbox_messages_max: usize) -> Limits {
    Limits { outbox_messages_max, outbox_bytes_max: 10_000, ..limits(SlowConsumer::Disconnect) }
}

#[test]
fn gaps_lie_where_messages_are_missing() {
    let limits = roomy(3);
    let mut outbox = Outbox::default();
    let newest = |text| labelled(text, "n", Policy::DropNewest, None);
    outbox.store(newest("n1"), &limits);
    outbox.store(parcel(b"reply", 1), &limits);
    outbox.store(newest("n2"), &limits);
    for text in ["n3", "n4"] {
        assert_eq!(dropped(&outbox.store(newest(text), &limits)), 1);
    }
    outbox.store_control(b"pong".to_vec());
    assert!(matches!(outbox.next(&mut Corks::default()), Some(Next::Parcel(_))), "n1");
    outbox.store(newest("n5"), &limits);
    assert_eq!(dropped(&outbox.store(newest("n6"), &limits)), 1);
    assert_eq!(contents(&mut outbox), ["reply", "n2", "gap(n, 2)", "pong", "n5", "gap(n, 1)"]);

    let oldest = |text| labelled(text, "o", Policy::DropOldest, None);
    outbox.store(parcel(b"reply", 1), &limits);
    for (text, count) in [("o1", 0), ("o2", 0), ("o3", 1), ("o4", 1), ("o5", 1)] {
        assert_eq!(dropped(&outbox.store(oldest(text), &limits)), count);
    }
    assert_eq!(contents(&mut outbox), ["reply", "gap(o, 3)", "o4o5"]);
}

#[test]
fn what_may_be_dropped_makes_room_for_what_may_not() {
    let limits = roomy(4);
    let mut outbox = Outbox::default();
    for (text, topic, policy) in
        [("a", "a", Policy::DropNewest), ("b", "b", Policy::DropOldest), ("c", "a", Policy::DropNewest)]
    {
        outbox.store(labelled(text, topic, policy, None), &limits);
    }
    for text in ["1", "2", "3"] {
        assert!(!outbox.is_half_full((0, 0), &limits) || text == "3", "what may be dropped is in nobody's way");
        assert!(!outbox.store(parcel(text.as_bytes(), 1), &limits).too_slow);
    }
    outbox.store(labelled("d", "d", Policy::Disconnect, None), &limits);
    assert!(outbox.store(parcel(b"4", 1), &limits).too_slow, "nothing is left that may be dropped");
    assert_eq!(dropped(&outbox.store(labelled("e", "b", Policy::DropOldest, None), &limits)), 1, "nor for this");
    assert_eq!(contents(&mut outbox), ["gap(a, 2)", "gap(b, 1)", "1", "2", "3", "d", "gap(b, 1)"]);
}

#[test]
fn a_newer_message_takes_the_place_of_the_one_with_its_key() {
    let limits = roomy(3);
    let mut outbox = Outbox::default();
    let store = |outbox: &mut Outbox, text: &str, topic: &str, key: u64| {
        let stored = outbox.store(labelled(text, topic, Policy::Conflate, Some(key)), &limits);
        (stored.conflated, dropped(&stored))
    };
    assert_eq!(store(&mut outbox, "x1", "m", 1), (0, 0));
    assert_eq!(store(&mut outbox, "y1", "m", 2), (0, 0));
    assert_eq!(store(&mut outbox, "x2", "m", 1), (1, 0));
    assert_eq!(store(&mut outbox, "other", "n", 1), (0, 0), "a key is a topic's own");
    assert_eq!(store(&mut outbox, "y2 is longer", "m", 2), (1, 0));
    assert_eq!(store(&mut outbox, "z1", "m", 3), (0, 1), "one key more than there is room for");
    assert_eq!(store(&mut outbox, "y3", "m", 2), (1, 0), "the places of the others are known");
    assert_eq!(store(&mut outbox, "x3", "m", 1), (0, 1), "and what has gone is not looked for");
    assert_eq!(contents(&mut outbox), ["gap(m, 2)", "otherz1x3"]);
}

#[test]
fn messages_that_grow_in_their_places_are_bounded() {
    let limits = Limits { outbox_bytes_max: 1000, ..roomy(100) };
    let mut outbox = Outbox::default();
    for length in [10, 300] {
        for key in 0..20 {
            outbox.store(labelled(&"x".repeat(length), "m", Policy::Conflate, Some(key)), &limits);
            assert!(outbox.bytes() < 1000 + 300, "{} bytes", outbox.bytes());
        }
    }
    assert!(outbox.messages > 0);
}

#[test]
fn random_traffic_is_accounted_for() {
    let seed = std::env::var("CRORE_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("CRORE_TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..200 {
        let limits = Limits {
            outbox_bytes_max: random.usize(100..3000),
            slow_consumer: [SlowConsumer::Disconnect, SlowConsumer::DropNewest, SlowConsumer::DropOldest]
                [random.usize(..3)],
            ..roomy(random.usize(1..30))
        };
        let (mut outbox, mut corks) = (Outbox::default(), Corks::default());
        let (mut stored, mut left, mut lost, mut announced) = (0, 0, 0, 0);
        let mut leave = |next: Next| match next {
            Next::Parcel(parcel) => left += u64::from(parcel.messages),
            Next::Gap { dropped, .. } => announced += u64::from(dropped),
        };
        for number in 0..300_u64 {
            let text = "x".repeat(random.usize(1..60));
            let topic = ["a", "b", "c"][random.usize(..3)];
            let parcel = match random.u8(..12) {
                0 => {
                    outbox.store_control(text.into_bytes());
                    continue;
                }
                1..4 => {
                    if let Some(next) = outbox.next(&mut corks) {
                        leave(next);
                    }
                    continue;
                }
                4 => parcel(text.as_bytes(), random.u32(1..4)),
                5..7 => labelled(&text, topic, Policy::DropNewest, None),
                7..9 => labelled(&text, topic, Policy::DropOldest, None),
                _ => labelled(&text, topic, Policy::Conflate, Some(number % 5)),
            };
            let messages = parcel.messages;
            let outcome = outbox.store(parcel, &limits);
            stored += u64::from(messages);
            let gone: u32 = outcome.gone.iter().map(|parcel| parcel.messages).sum();
            if outcome.too_slow {
                stored -= u64::from(messages);
                lost += u64::from(gone - messages);
            } else {
                lost += u64::from(gone - outcome.conflated);
                stored -= u64::from(outcome.conflated);
            }
            let walked: usize = outbox.queue.iter().map(counted_bytes).sum();
            assert_eq!(walked, outbox.bytes());
            let lossy = outbox.queue.iter().filter(|parcel| is_lossy(parcel)).count();
            assert_eq!(lossy, outbox.lossy.as_ref().map_or(0, |lossy| lossy.messages));
            for (place, parcel) in outbox.queue.iter().enumerate() {
                if is_lossy(parcel) && key_of(parcel).is_some() {
                    assert_eq!(outbox.place_of_older(parcel), Some(place), "of each key one message waits");
                }
            }
        }
        while let Some(next) = outbox.next(&mut corks) {
            leave(next);
        }
        assert_eq!((left + lost, announced), (stored, lost), "what is missing is announced");
        assert!(outbox.lossy.is_none() && outbox.bytes() == 0 && outbox.owned_bytes == 0);
    }
}

#[test]
fn what_waits_takes_no_more_memory_than_is_counted() {
    let mut outbox = Outbox::default();
    let large = || {
        let mut bytes = Vec::with_capacity(SEND_BUFFER_KEPT_BYTES_MAX);
        bytes.push(1);
        bytes
    };
    for _ in 0..2 {
        let parcel = Parcel::new(Outgoing::Owned { bytes: large(), start: 0 }, 1);
        assert_eq!(dropped(&outbox.store(parcel, &Limits::default())), 0);
        outbox.store_control(large());
        outbox.store_control(large());
    }
    let kept: usize = outbox
        .queue
        .iter()
        .map(|parcel| match &parcel.outgoing {
            Outgoing::Owned { bytes, .. } => bytes.capacity(),
            other => panic!("not owned: {other:?}"),
        })
        .sum();
    assert!(kept < 1024, "{kept} bytes are kept for {}", outbox.bytes());
}
