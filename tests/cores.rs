//! Topics, sends and broadcasts over two cores and from other threads: each message once, in order, to
//! those who should have it and to nobody else.

use std::collections::{BTreeMap, BTreeSet};

use crore_engine::{ConnectionId, Limits};
use crore_tests::frame::{TEXT, masked};
use crore_tests::{Client, Event, Server, limits, on_each_kind};

const CORES: usize = 2;

/// So many open connections on each core.
fn clients(server: &Server, on_each: usize) -> Vec<Client> {
    (0..on_each).flat_map(|_| Client::on_each_core(server.address(), CORES)).collect()
}

fn id(client: &mut Client) -> ConnectionId {
    ConnectionId::from_u64(client.ask("id").parse().expect("a number"))
}

#[test]
fn one_topic_over_two_cores_is_heard_in_order_and_once() {
    const MESSAGES: usize = 2_000;
    on_each_kind(|setup| {
        let server = setup.start_with(CORES, limits());
        let mut subscribers = clients(&server, 3);
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.ask("subscribe news"), "subscribed");
        }
        let publishers = clients(&server, 2);
        let count = publishers.len();
        let threads: Vec<_> = publishers
            .into_iter()
            .enumerate()
            .map(|(publisher, mut client)| {
                std::thread::spawn(move || {
                    for number in 0..MESSAGES {
                        client.say(&format!("publish news {publisher} {number}"));
                    }
                    assert_eq!(client.ask("all said"), "all said");
                })
            })
            .collect();
        // All listen at once: what one of them does not read would wait in its outbox.
        std::thread::scope(|scope| {
            for subscriber in &mut subscribers {
                scope.spawn(|| {
                    let mut next = vec![0; count];
                    for _ in 0..MESSAGES * count {
                        let text = subscriber.text();
                        let (publisher, number) = text.split_once(' ').expect("two numbers");
                        let publisher: usize = publisher.parse().expect("a number");
                        assert_eq!(number.parse(), Ok(next[publisher]), "of publisher {publisher}");
                        next[publisher] += 1;
                    }
                });
            }
        });
        for thread in threads {
            thread.join().expect("a publisher that is heard");
        }
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.ask("nothing else"), "nothing else");
        }
        assert_eq!(server.stats().mesh_refused, 0);
    });
}

// capability: 85
#[test]
fn what_is_sent_behind_a_publication_comes_behind_it() {
    on_each_kind(|setup| {
        let server = setup.start_with(CORES, limits());
        let mut all = clients(&server, 2);
        for client in &mut all {
            for topic in ["news", "sport"] {
                assert_eq!(client.ask(&format!("subscribe {topic}")), "subscribed");
            }
        }
        let ids: Vec<ConnectionId> = all.iter_mut().map(id).collect();
        for publisher in 0..all.len() {
            // One turn publishes all of it; each of the others is sent something in between.
            let to_all =
                |word: &str| -> String { ids.iter().map(|id| format!("send_to {} {word}\n", id.as_u64())).collect() };
            let said = format!(
                "publish news 1\npublish sport 1s\n{}publish_to_others news 3\n{}publish news 5\nbroadcast 6\npublish news 7",
                to_all("2"),
                to_all("4")
            );
            all[publisher].say(&said);
            for (number, client) in all.iter_mut().enumerate() {
                let first = [client.text(), client.text()];
                assert!(first.contains(&"1".to_owned()) && first.contains(&"1s".to_owned()), "{first:?}");
                for next in ["2", "3", "4", "5", "6", "7"] {
                    if number != publisher || next != "3" {
                        assert_eq!(client.text(), next, "for {number}, from {publisher}");
                    }
                }
            }
        }
        for client in &mut all {
            assert_eq!(client.ask("nothing else"), "nothing else");
        }
    });
}

#[test]
fn a_publisher_may_leave_itself_out() {
    on_each_kind(|setup| {
        let server = setup.start_with(CORES, limits());
        let mut all = clients(&server, 2);
        for client in &mut all {
            client.ask("subscribe news");
        }
        for publisher in 0..all.len() {
            // Between two messages for all there is one for the others.
            all[publisher].send(
                [
                    masked(TEXT, b"publish news first"),
                    masked(TEXT, b"publish_to_others news second"),
                    masked(TEXT, b"publish news third"),
                ]
                .concat(),
            );
            for (index, client) in all.iter_mut().enumerate() {
                assert_eq!(client.text(), "first");
                if index != publisher {
                    assert_eq!(client.text(), "second");
                }
                assert_eq!(client.text(), "third");
            }
        }
        // Who is not subscribed may publish to the others, which is all of them.
        let mut outsider = server.client();
        outsider.say("publish_to_others news from outside");
        for client in &mut all {
            assert_eq!(client.text(), "from outside");
        }
    });
}

#[test]
fn a_broadcast_reaches_everyone_on_all_cores() {
    on_each_kind(|setup| {
        let server = setup.start_with(CORES, limits());
        let mut all = clients(&server, 3);
        // Who is not open yet, or not any more, gets nothing.
        let mut unopened = server.tcp();
        unopened.send("GET / HTTP/1.1\r\n");
        let mut closing = server.client();
        closing.say("close 1000 bye");
        assert_eq!(closing.frame().close().0, Some(1000));

        all[0].say("broadcast to all");
        all[1].say("broadcast_to_others to the others");
        for (index, client) in all.iter_mut().enumerate() {
            let expected = if index == 1 { vec!["to all"] } else { vec!["to all", "to the others"] };
            // They come from two cores, so that their order is open.
            let mut heard: Vec<String> = expected.iter().map(|_| client.text()).collect();
            heard.sort();
            assert_eq!(heard, expected);
        }
        server.handle().broadcast("from a thread").expect("room for a command");
        for client in &mut all {
            assert_eq!(client.text(), "from a thread");
        }
        closing.send(crore_tests::frame::close(1000, ""));
        closing.ended();
    });
}

#[test]
fn a_message_reaches_the_connection_it_names_and_no_other() {
    on_each_kind(|setup| {
        let server = setup.start_with(CORES, limits());
        let mut all = clients(&server, 2);
        let ids: Vec<ConnectionId> = all.iter_mut().map(id).collect();
        for from in 0..all.len() {
            for to in 0..all.len() {
                for n in 0..10 {
                    all[from].say(&format!("send_to {} {from} {n}", ids[to].as_u64()));
                }
                for n in 0..10 {
                    assert_eq!(all[to].text(), format!("{from} {n}"));
                }
            }
        }
        // Identifiers of those who have gone, and of none at all, name nobody.
        let gone = all.pop().expect("one of four");
        let gone_id = ids[3];
        gone.close();
        server.wait_for("it has gone", |stats| stats.connections == 3);
        let successors = clients(&server, 3);
        for number in [gone_id.as_u64(), 0, u64::MAX, 1 << 48, ids[0].as_u64() ^ 1] {
            all[0].say(&format!("send_to {number} lost"));
            server.handle().send(ConnectionId::from_u64(number), "lost").expect("room for a command");
            server.handle().close(ConnectionId::from_u64(number), 1000, "").expect("room for a command");
            server.handle().terminate(ConnectionId::from_u64(number)).expect("room for a command");
        }
        assert_eq!(all[0].ask("all said"), "all said");
        for mut client in all.into_iter().chain(successors) {
            assert_eq!(client.ask("nothing else"), "nothing else");
        }
    });
}

#[test]
fn other_threads_publish_and_send() {
    on_each_kind(|setup| {
        let server = setup.start_with(CORES, limits());
        let mut all = clients(&server, 2);
        for client in &mut all {
            client.ask("subscribe news");
        }
        let ids: Vec<ConnectionId> = all.iter_mut().map(id).collect();
        let threads: Vec<_> = (0..3)
            .map(|thread| {
                let (handle, ids) = (server.handle().clone(), ids.clone());
                std::thread::spawn(move || {
                    for n in 0..200 {
                        handle.publish("news", format!("{thread} {n} published")).expect("room for a command");
                        handle.publish("other news", "nobody listens").expect("nobody is asked");
                        for id in &ids {
                            handle.send(*id, format!("{thread} {n} sent")).expect("room for a command");
                        }
                    }
                })
            })
            .collect();
        for client in &mut all {
            // Commands of one thread to one core keep their order; a publication leaves at the end of its turn.
            let mut next: BTreeMap<(String, String), u32> = BTreeMap::new();
            for _ in 0..3 * 200 * 2 {
                let text = client.text();
                let mut words = text.split(' ').map(str::to_owned);
                let (thread, n, what) = (words.next(), words.next(), words.next());
                let next = next.entry((thread.expect("a thread"), what.expect("a word"))).or_default();
                assert_eq!(n.expect("a number").parse(), Ok(*next), "{text}");
                *next += 1;
            }
            assert_eq!(client.ask("nothing else"), "nothing else");
        }
        for thread in threads {
            thread.join().expect("no panic");
        }
    });
}

#[test]
fn subscriptions_begin_and_end_when_they_are_asked_to() {
    on_each_kind(|setup| {
        let server = setup.start_with(CORES, limits());
        let mut pair = Client::on_each_core(server.address(), CORES);
        for (subscriber, publisher) in [(0, 1), (1, 0), (0, 0), (1, 1)] {
            for round in 0..20 {
                // Twice is once.
                assert_eq!(pair[subscriber].ask("subscribe news"), "subscribed");
                assert_eq!(pair[subscriber].ask("subscribe news"), "subscribed");
                let text = format!("round {round}");
                pair[publisher].say(&format!("publish news {text}"));
                assert_eq!(pair[subscriber].text(), text);
                assert_eq!(pair[subscriber].ask("unsubscribe news"), "unsubscribed");
                assert_eq!(pair[subscriber].ask("unsubscribe news"), "unsubscribed");
                let to = id(&mut pair[subscriber]).as_u64();
                assert_eq!(pair[publisher].ask("publish news too late\nsay published"), "published");
                pair[publisher].say(&format!("send_to {to} behind it"));
                assert_eq!(pair[subscriber].text(), "behind it");
            }
        }
        server.wait_for("topics without subscribers are gone", |stats| stats.topics == 0);
    });
}

#[test]
fn a_subscription_of_this_turn_hears_what_follows_it_and_nothing_before() {
    on_each_kind(|setup| {
        let server = setup.start_with(CORES, limits());
        let mut client = server.client();
        client.say(
            "publish a 0\nsubscribe a\npublish a 1\npublish a 2\nunsubscribe a\npublish a 3\nsubscribe a\npublish a 4",
        );
        let mut heard: Vec<String> = (0..6).map(|_| client.text()).collect();
        heard.retain(|text| !text.ends_with("subscribed"));
        assert_eq!(heard, ["1", "2", "4"]);
        // In one turn, with another subscriber already there.
        let mut other = server.client();
        other.send([masked(TEXT, b"subscribe a\npublish a 5"), masked(TEXT, b"unsubscribe a\npublish a 6")].concat());
        let mut heard: Vec<String> = (0..3).map(|_| other.text()).collect();
        heard.sort();
        assert_eq!(heard, ["5", "subscribed", "unsubscribed"]);
        assert_eq!((client.text(), client.text()), ("5".to_owned(), "6".to_owned()));
        assert_eq!(other.ask("nothing else"), "nothing else");
    });
}

#[test]
fn who_has_gone_is_subscribed_to_nothing() {
    on_each_kind(|setup| {
        let server = setup.start_with(CORES, limits());
        for go in [Client::close, Client::reset, drop] {
            let mut subscribers = clients(&server, 2);
            for (index, client) in subscribers.iter_mut().enumerate() {
                for topic in 0..50 {
                    client.ask(&format!("subscribe {}", topic * (index + 1)));
                }
            }
            server.wait_for("topics", |stats| stats.topics > 100);
            for client in subscribers {
                go(client);
            }
            server.wait_until_empty();
            assert_eq!(server.stats().topics, 0);
        }
        // Their slots have new users, who hear nothing of the old topics.
        let mut successors = clients(&server, 2);
        for topic in 0..50 {
            server.handle().publish(&topic.to_string(), "for those who have gone").expect("room for a command");
        }
        for client in &mut successors {
            assert_eq!(client.ask("nothing"), "nothing");
        }
    });
}

#[test]
fn random_subscriptions_match_a_model() {
    const TOPICS: usize = 60;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    on_each_kind(|setup| {
        let mut random = fastrand::Rng::with_seed(seed);
        let server = setup.start_with(CORES, limits());
        let mut all = clients(&server, 5);
        let mut model = vec![BTreeSet::new(); all.len()];
        for step in 0..1500 {
            let who = random.usize(..all.len());
            // Few topics are asked for often, and many now and then.
            let topic = random.usize(..random.clone().usize(1..=TOPICS));
            match random.u8(0..5) {
                0 | 1 => {
                    assert_eq!(all[who].ask(&format!("subscribe {topic}")), "subscribed");
                    model[who].insert(topic);
                }
                2 => {
                    assert_eq!(all[who].ask(&format!("unsubscribe {topic}")), "unsubscribed");
                    model[who].remove(&topic);
                }
                3 if random.u8(0..10) == 0 => {
                    let gone = std::mem::replace(&mut all[who], server.client());
                    model[who].clear();
                    gone.close();
                }
                _ => {
                    let others = random.bool();
                    let word = if others { "publish_to_others" } else { "publish" };
                    // The broadcast goes the same ways: who has it knows that the publication has been there.
                    all[who].say(&format!("{word} {topic} step {step}\nbroadcast step {step} is over"));
                    for (index, client) in all.iter_mut().enumerate() {
                        let mut expected = vec![format!("step {step} is over")];
                        if model[index].contains(&topic) && !(others && index == who) {
                            expected.insert(0, format!("step {step}"));
                        }
                        let mut heard: Vec<String> = expected.iter().map(|_| client.text()).collect();
                        heard.sort();
                        assert_eq!(heard, expected);
                    }
                }
            }
        }
        for client in &mut all {
            assert_eq!(client.ask("nothing else"), "nothing else");
        }
        let distinct: usize = model.iter().flatten().collect::<BTreeSet<_>>().len();
        assert!(server.stats().topics >= distinct as u64);
    });
}

#[test]
fn both_cores_work_and_their_counters_add_up() {
    on_each_kind(|setup| {
        let server = setup.start_with(CORES, limits());
        let all = clients(&server, 5);
        let opened: BTreeSet<u16> = server
            .events_so_far()
            .into_iter()
            .filter_map(|event| match event {
                Event::Opened(id) => Some(id.core().0),
                _ => None,
            })
            .collect();
        assert_eq!(opened, BTreeSet::from([0, 1]));
        let by_core = server.handle().stats_by_core();
        assert_eq!(by_core.len(), CORES);
        let open: u64 = by_core.iter().map(|stats| stats.connections_open).sum();
        assert_eq!(open, server.handle().connections());
        assert!(by_core.iter().all(|stats| stats.connections_open >= 5 && stats.messages_received >= 5));
        drop(all);
    });
}

#[test]
fn commands_that_find_no_room_are_refused_and_the_others_are_obeyed() {
    on_each_kind(|setup| {
        let limits = Limits { outbox_bytes_max: 1 << 30, outbox_messages_max: usize::MAX, ..limits() };
        let server = setup.start_with(CORES, limits);
        let mut client = server.client();
        let to = id(&mut client);
        let handle = server.handle().clone();
        let sender = std::thread::spawn(move || {
            // It never waits. A core that keeps up with it is as good.
            let accepted = (0..200_000).filter(|n| handle.send(to, n.to_string()).is_ok()).count();
            while handle.send(to, "end").is_err() {
                std::thread::yield_now();
            }
            accepted
        });
        let (mut heard, mut last) = (0, None);
        loop {
            let text = client.text();
            let Ok(number) = text.parse::<u32>() else { break };
            assert!(last < Some(number), "order is kept");
            last = Some(number);
            heard += 1;
        }
        assert_eq!(heard, sender.join().expect("no panic"));
    });
}
