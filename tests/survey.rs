//! Who is connected, as the engine tells whoever asks: a part at a time.

use std::collections::BTreeSet;
use std::sync::mpsc::channel;

use crore_engine::{ConnectionId, CoreId, Limits, OwnedMessage, Survey, Surveyed};
use crore_tests::{Client, DEADLINE, Server, limits, on_each_kind};

const CORES: usize = 2;

/// Everyone.
const ALL: Survey = Survey { from: 0, places_max: 4096, connections_max: 1000, queued_bytes_min: 0 };

fn ask(server: &Server, core: u16, survey: Survey) -> Surveyed {
    let (answer, answered) = channel();
    let handed_on = move |found| answer.send(found).expect("the test waits");
    server.handle().survey(CoreId(core), survey, handed_on).expect("there is room");
    answered.recv_timeout(DEADLINE).expect("the core answers")
}

/// All of them, in as many parts as it takes.
fn everyone(server: &Server, survey: Survey) -> Vec<ConnectionId> {
    let mut found = Vec::new();
    for core in [0, 1] {
        let mut from = Some(0);
        while let Some(place) = from {
            let part = ask(server, core, Survey { from: place, ..survey });
            assert!(part.connections.len() <= survey.connections_max);
            assert!(part.connections.iter().all(|(id, queued)| id.core() == CoreId(core) && *queued == 0));
            assert!(part.next.is_none_or(|next| next > place && next <= place + survey.places_max));
            found.extend(part.connections.into_iter().map(|(id, _)| id));
            from = part.next;
        }
    }
    found
}

#[test]
fn every_open_connection_is_found_once_and_no_other() {
    on_each_kind(|setup| {
        let server = setup.start_with(CORES, limits());
        assert_eq!(everyone(&server, ALL), []);
        let mut clients: Vec<Client> = (0..40).map(|_| server.client()).collect();
        let mut open: Vec<ConnectionId> = clients.iter().map(|_| server.opened()).collect();
        let _says_nothing = server.tcp();
        for client in clients.drain(..15) {
            client.close();
        }
        server.wait_for("25 are left, and one that has not said anything", |stats| stats.connections == 26);
        let left: BTreeSet<ConnectionId> = everyone(&server, ALL).into_iter().collect();
        assert_eq!(left.len(), 25);
        open.retain(|id| left.contains(id));
        assert_eq!(open.len(), 25, "all of them had been opened");
        for (places_max, connections_max) in [(1, 1), (3, 2), (2, 100), (100, 3)] {
            let found = everyone(&server, Survey { places_max, connections_max, ..ALL });
            assert_eq!(found.len(), 25, "{places_max} places, {connections_max} connections");
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), left);
        }
        assert_eq!(ask(&server, 0, Survey { from: usize::MAX, ..ALL }), Surveyed::default());
    });
}

#[test]
fn who_does_not_read_is_found_by_what_waits() {
    on_each_kind(|setup| {
        const MESSAGE_BYTES: usize = 100_000;
        let server = setup.start_with(1, Limits { outbox_bytes_max: 64 << 20, ..limits() });
        let mut reader = server.client();
        let (_slow, slow_id) = {
            let _reader_id = server.opened();
            (Client::tcp_with_window(server.address(), 4096).upgraded(), server.opened())
        };
        let slow = Survey { queued_bytes_min: 1, ..ALL };
        assert_eq!(ask(&server, 0, slow), Surveyed::default());
        // Far more than the kernel takes for it.
        for _ in 0..200 {
            server.handle().send(slow_id, OwnedMessage::binary(vec![0; MESSAGE_BYTES])).expect("there is room");
        }
        assert_eq!(reader.ask("others are served"), "others are served");
        let found = ask(&server, 0, slow);
        let [(id, queued)] = found.connections[..] else { panic!("one is slow: {found:?}") };
        assert!(id == slow_id && queued > MESSAGE_BYTES && queued < 201 * MESSAGE_BYTES, "{queued} bytes for {id}");
        assert_eq!(ask(&server, 0, Survey { queued_bytes_min: queued + 1, ..ALL }), Surveyed::default());
        assert_eq!(ask(&server, 0, ALL).connections.len(), 2);
    });
}

#[test]
fn a_core_that_is_not_there_drops_the_question() {
    let (answer, answered) = channel::<Surveyed>();
    on_each_kind(|setup| {
        let server = setup.start_with(CORES, limits());
        let answer = answer.clone();
        server.handle().survey(CoreId(7), ALL, move |found| drop(answer.send(found))).expect("nobody is asked");
    });
    drop(answer);
    assert!(answered.recv().is_err(), "nobody has it any more");
}
