use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;

use crore_engine::CoreId;

use super::*;
use crate::random::below;

const INTERVAL: Duration = Duration::from_secs(1);

fn table(bytes_max: usize) -> Table {
    Table::new(INTERVAL, Room::new(bytes_max, Arc::new(AtomicUsize::new(0))))
}

fn id(slot: u32) -> ConnectionId {
    ConnectionId::new(CoreId(0), slot, 0)
}

fn arrival(slot: u32, user: &str) -> Arrival {
    Arrival { connection: id(slot), user: user.into(), connected_ms: u64::from(slot), metadata: Metadata::Keep }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn names(part: &Part<'_>) -> Vec<String> {
    part.users.iter().map(|(user, entries)| format!("{user} {}", entries.len())).collect()
}

fn joined(changes: &Changes) -> Vec<&str> {
    changes.joined.iter().map(|(user, _)| &**user).collect()
}

fn left(changes: &Changes) -> Vec<&str> {
    changes.left.iter().map(|user| &**user).collect()
}

#[test]
fn a_user_of_several_connections_comes_once_and_goes_once() {
    let mut table = table(1 << 20);
    for slot in 1..=3 {
        assert!(table.enter("a", arrival(slot, "ann"), true, at(0)));
    }
    assert_eq!(table.next_due(), Some(INTERVAL));
    assert_eq!(table.take_due(8, at(0)), None);
    let (channel, changes) = table.take_due(8, INTERVAL).unwrap();
    assert_eq!((&*channel, joined(&changes), changes.joined_count, changes.user_count), ("a", vec!["ann"], 1, 1));
    assert_eq!((changes.left_count, changes.steps), (0, 1));
    for slot in 1..=3 {
        assert_eq!(table.next_due(), None);
        table.leave("a", id(slot), true, at(5));
    }
    let (_, changes) = table.take_due(8, at(6)).unwrap();
    assert_eq!((left(&changes), changes.left_count, changes.user_count), (vec!["ann"], 1, 0));
    assert!(table.channels.is_empty() && table.entries.is_empty() && table.due.is_empty());
    assert_eq!(table.memory_bytes(), 0);
}

#[test]
fn who_is_back_before_it_was_told_has_not_gone() {
    let mut table = table(1 << 20);
    table.enter("a", arrival(1, "ann"), true, at(0));
    table.take_due(8, at(1)).unwrap();
    table.leave("a", id(1), true, at(2));
    table.enter("a", arrival(2, "ann"), true, at(2));
    table.enter("a", arrival(3, "bob"), true, at(2));
    table.leave("a", id(3), true, at(2));
    let (_, changes) = table.take_due(8, at(3)).unwrap();
    assert_eq!(changes, Changes { user_count: 1, steps: 4, ..Changes::default() });
}

#[test]
fn so_many_are_named_and_all_are_counted() {
    let mut table = table(1 << 20);
    for slot in 0..100 {
        table.enter("a", arrival(slot, &slot.to_string()), true, at(0));
    }
    let (_, changes) = table.take_due(7, at(1)).unwrap();
    assert_eq!((changes.joined.len(), changes.joined_count, changes.steps), (7, 100, 100));
    for slot in 0..100 {
        table.leave("a", id(slot), true, at(1));
    }
    let (_, changes) = table.take_due(7, at(2)).unwrap();
    assert_eq!((changes.left.len(), changes.left_count, changes.user_count), (7, 100, 0));
}

#[test]
fn nothing_is_told_of_a_channel_that_does_not_announce() {
    let mut table = table(1 << 20);
    table.enter("a", arrival(1, "ann"), false, at(0));
    table.leave("a", id(1), false, at(0));
    assert_eq!(table.next_due(), None);
    assert!(table.channels.is_empty());
}

// capability: 84
#[test]
fn whose_arrival_was_not_told_has_not_gone() {
    let mut table = table(1 << 20);
    // The rule says `events`, then `list`, and `events` again when it is time to tell.
    table.enter("a", arrival(1, "ann"), true, at(0));
    table.leave("a", id(1), false, at(0));
    let (_, changes) = table.take_due(8, at(1)).unwrap();
    assert_eq!(changes, Changes { steps: 1, ..Changes::default() });
    // And the other way round.
    table.enter("a", arrival(1, "ann"), true, at(1));
    table.take_due(8, at(2)).unwrap();
    table.leave("a", id(1), true, at(2));
    table.enter("a", arrival(2, "ann"), false, at(2));
    let (_, changes) = table.take_due(8, at(3)).unwrap();
    assert_eq!(changes, Changes { steps: 1, user_count: 1, ..Changes::default() });
}

// capability: 73
#[test]
fn who_finds_no_room_for_another_name_keeps_its_own() {
    let bytes_max = CHANNEL_BYTES + 1 + ENTRY_BYTES + 3;
    let mut table = table(bytes_max);
    assert!(table.enter("a", arrival(1, "ann"), true, at(0)));
    assert!(!table.enter("a", arrival(1, "anna"), true, at(0)));
    assert_eq!(names(&table.part("a", None, 9, 9999)), ["ann 1"]);
    assert!(table.enter("a", arrival(1, "bob"), true, at(0)), "as long as the one before");
    assert_eq!((names(&table.part("a", None, 9, 9999)), table.len()), (vec!["bob 1".to_owned()], 1));
    let (_, changes) = table.take_due(8, at(1)).unwrap();
    assert_eq!((joined(&changes), changes.left_count), (vec!["bob"], 0));
    table.leave("a", id(1), true, at(1));
    assert_eq!(table.memory_bytes(), 0);
}

fn says(slot: u32, user: &str, metadata: &str) -> Arrival {
    Arrival { metadata: Metadata::Set(metadata.into()), ..arrival(slot, user) }
}

/// Metadata of the first connection of the first user.
fn shown(table: &Table) -> Option<String> {
    table.part("a", None, 9, 9999).users[0].1[0].metadata.as_deref().map(str::to_owned)
}

#[test]
fn to_come_again_is_to_have_another_name_or_other_metadata() {
    let mut table = table(1 << 20);
    table.enter("a", says(1, "0-1-0", "1"), true, at(0));
    table.enter("a", arrival(1, "ann"), true, at(0));
    assert_eq!(shown(&table).as_deref(), Some("1"), "it keeps what it has said");
    assert_eq!(names(&table.part("a", None, 9, 9999)), ["ann 1"]);
    table.enter("a", says(1, "ann", "22"), true, at(0));
    assert_eq!(shown(&table).as_deref(), Some("22"));
    let (_, changes) = table.take_due(8, at(1)).unwrap();
    assert_eq!(changes.joined, [("ann".into(), Some("22".into()))]);
    table.leave("a", id(1), true, at(1));
    assert_eq!(table.memory_bytes(), 0);
}

// capability: 58 84
#[test]
fn what_is_not_said_any_more_is_not_shown() {
    let mut table = table(CHANNEL_BYTES + 1 + ENTRY_BYTES + 3 + 4);
    let clear = |slot, user| Arrival { metadata: Metadata::Clear, ..arrival(slot, user) };
    assert!(table.enter("a", says(1, "ann", "1234"), false, at(0)));
    assert!(table.enter("a", clear(1, "ann"), false, at(0)));
    assert_eq!(shown(&table), None);
    assert!(table.enter("a", clear(1, "bob"), false, at(0)), "who had said nothing");
    assert!(table.enter("a", says(1, "bob", "1234"), false, at(0)));
    // Nor is it where there is no room for what is said in its place.
    assert!(!table.enter("a", says(1, "bob", "12345"), false, at(0)));
    assert_eq!((shown(&table), names(&table.part("a", None, 9, 9999))), (None, vec!["bob 1".to_owned()]));
    assert!(table.enter("a", says(1, "bob", "1234"), false, at(0)));
    assert!(!table.enter("a", arrival(1, "barbara"), false, at(0)), "no room for the name");
    assert_eq!(shown(&table).as_deref(), Some("1234"), "which holds");
    table.leave("a", id(1), false, at(0));
    assert_eq!(table.memory_bytes(), 0);
}

#[test]
fn a_list_is_read_a_part_at_a_time() {
    let mut table = table(1 << 20);
    for (slot, user) in (1..).zip(["cat", "ann", "dan", "bob", "ann"]) {
        table.enter("a", arrival(slot, user), false, at(0));
    }
    let part = table.part("a", None, 3, usize::MAX);
    assert_eq!((names(&part), part.more), (vec!["ann 2".to_owned(), "bob 1".into(), "cat 1".into()], true));
    assert_eq!((part.user_count, part.connection_count), (4, 5));
    let part = table.part("a", Some("cat"), 3, usize::MAX);
    assert_eq!((names(&part), part.more), (vec!["dan 1".to_owned()], false));
    let part = table.part("a", None, 0, usize::MAX);
    assert_eq!((part.users.len(), part.user_count), (0, 4), "the counts alone");
    let part = table.part("a", None, 3, 1);
    assert_eq!((part.users.len(), part.more), (1, true), "one at least");
    assert_eq!(table.part("b", None, 3, usize::MAX).connection_count, 0);
}

#[test]
fn there_is_room_for_so_much_on_all_cores_together() {
    let taken = Arc::new(AtomicUsize::new(0));
    let bytes_max = 3 * (CHANNEL_BYTES + ENTRY_BYTES + 10);
    let mut tables = [0, 1].map(|_| Table::new(INTERVAL, Room::new(bytes_max, Arc::clone(&taken))));
    for (slot, place) in (1..).zip([0, 1, 1]) {
        assert!(tables[place].enter(&slot.to_string(), arrival(slot, "u"), false, at(0)));
    }
    assert!(!tables[0].enter("4", arrival(4, "u"), false, at(0)));
    assert_eq!(tables[0].len() + tables[1].len(), 3);
    tables[1].leave("2", id(2), false, at(0));
    assert!(tables[0].enter("4", arrival(4, "u"), false, at(0)));
    for (slot, place) in [(1, 0), (3, 1), (4, 0)] {
        tables[place].leave(&slot.to_string(), id(slot), false, at(0));
    }
    assert_eq!(taken.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn every_connection_is_looked_at_in_turn() {
    let mut table = table(1 << 20);
    for slot in 0..100 {
        table.enter(&(slot % 7).to_string(), arrival(slot, "u"), false, at(0));
    }
    let mut seen = BTreeSet::new();
    for _ in 0..table.entries.capacity().div_ceil(10) {
        seen.extend(table.look_at(10).into_iter().map(|(_, connection)| connection.slot()));
    }
    assert_eq!(seen.len(), 100);
}

#[test]
fn random_arrivals_and_departures_match_a_model() {
    let mut below = below();
    let mut table = table(1 << 20);
    // Who is there by connection, and who was there when it was told the last time.
    let (mut there, mut told): (BTreeMap<u32, String>, BTreeSet<String>) = Default::default();
    let mut now = Duration::ZERO;
    for _ in 0..20_000 {
        now += Duration::from_millis(below(60));
        let slot = u32::try_from(below(12)).unwrap();
        if below(2) == 0 {
            let user = below(5).to_string();
            assert!(table.enter("a", arrival(slot, &user), true, now));
            there.insert(slot, user);
        } else {
            table.leave("a", id(slot), true, now);
            there.remove(&slot);
        }
        let users: BTreeSet<String> = there.values().cloned().collect();
        if let Some((_, changes)) = table.take_due(8, now) {
            let expected: Vec<&str> = users.difference(&told).map(String::as_str).collect();
            let mut came = joined(&changes);
            came.sort_unstable();
            assert_eq!(came, expected);
            let expected: Vec<&str> = told.difference(&users).map(String::as_str).collect();
            let mut gone = left(&changes);
            gone.sort_unstable();
            assert_eq!(gone, expected);
            told.clone_from(&users);
        }
        let part = table.part("a", None, 9, usize::MAX);
        assert_eq!((part.user_count, part.connection_count), (users.len(), there.len()));
        assert_eq!(table.len(), there.len());
    }
}
