//! Bounds that an application sets, and configurations that are refused.

use std::sync::mpsc::channel;
use std::time::Duration;

use crore_engine::limits::{RETRY_AFTER_SECONDS_MAX, RETRY_AFTER_SECONDS_MIN};
use crore_engine::uring::descriptor_limit;
use crore_engine::{Bound, CoreId, Engine, Error, Handler, Limits};
use crore_tests::client::REQUEST;
use crore_tests::{Client, Heard, limits, on_each_kind, wait_until};

struct Silent;

impl Handler for Silent {
    type Connection = ();
}

#[test]
fn connections_beyond_the_bound_are_refused_without_harm() {
    const BOUND: u32 = 5;
    on_each_kind(|setup| {
        let server = setup.start_with(1, Limits { connections_per_core_max: Some(BOUND), ..limits() });
        for round in 0..3 {
            let mut clients: Vec<Client> = (0..BOUND).map(|_| server.client()).collect();
            for extra in 0..30 {
                let mut refused = server.tcp();
                assert!(matches!(refused.hear(), Heard::End | Heard::Reset));
                let client = &mut clients[extra % 5];
                assert_eq!(client.ask("still here"), "still here");
            }
            assert_eq!(server.stats().refused_full, 30 * (round + 1));
            // Who leaves makes room for another one.
            clients.remove(2).close();
            server.wait_for("room", |stats| stats.connections == u64::from(BOUND) - 1);
            clients.push(server.client());
            assert_eq!(clients[4].ask("still here"), "still here");
            clients.into_iter().for_each(Client::close);
            server.wait_until_empty();
        }
    });
}

#[test]
fn the_bound_holds_for_a_crowd_that_comes_at_once() {
    const BOUND: u32 = 20;
    on_each_kind(|setup| {
        let server = setup.start_with(1, Limits { connections_per_core_max: Some(BOUND), ..limits() });
        let address = server.address();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    let crowd: Vec<Client> = (0..50).map(|_| Client::tcp(address)).collect();
                    crowd.into_iter().filter_map(|client| client.try_upgraded()).collect::<Vec<Client>>()
                })
            })
            .collect();
        let mut open: Vec<Client> = threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        assert_eq!(open.len(), BOUND as usize);
        for client in &mut open {
            assert_eq!(client.ask("hello"), "hello");
        }
        assert_eq!(server.stats().accepted, 200);
    });
}

#[test]
fn subscriptions_are_bounded() {
    on_each_kind(|setup| {
        let limits = Limits { subscriptions_max: 3, topic_bytes_max: 10, ..limits() };
        let server = setup.start_with(1, limits);
        let mut client = server.client();
        for topic in ["a", "b", "c", "a"] {
            assert_eq!(client.ask(&format!("subscribe {topic}")), "subscribed");
        }
        let refusal = client.ask("subscribe d");
        assert!(refusal.contains("subscriptions_max"), "{refusal}");
        client.ask("unsubscribe b");
        client.ask("unsubscribe nothing");
        assert_eq!(client.ask("subscribe d"), "subscribed");
        assert!(client.ask("subscribe e").contains("subscriptions_max"));
        // All within one call.
        client.say("unsubscribe x\nunsubscribe y\nsubscribe e\nunsubscribe a\nsubscribe f\nsubscribe g");
        let answers: Vec<String> = (0..6).map(|_| client.text()).collect();
        assert!(answers[2].contains("subscriptions_max") && answers[5].contains("subscriptions_max"), "{answers:?}");
        assert_eq!(answers[4], "subscribed");
        for (topic, subscribed) in [("a", false), ("c", true), ("d", true), ("e", false), ("f", true), ("g", false)] {
            server.handle().publish(topic, topic).expect("room for a command");
            if subscribed {
                assert_eq!(client.text(), topic);
            }
        }
        assert_eq!(client.ask(&format!("subscribe {}", "x".repeat(10))).len(), client.ask("subscribe e").len());
        client.ask("unsubscribe c");
        assert_eq!(client.ask(&format!("subscribe {}", "x".repeat(10))), "subscribed");
        client.ask("unsubscribe d");
        let refusal = client.ask(&format!("subscribe {}", "x".repeat(11)));
        assert!(refusal.contains("topic_bytes_max"), "{refusal}");
        // Another connection has its own three.
        let mut other = server.client();
        for topic in ["a", "b", "c"] {
            assert_eq!(other.ask(&format!("subscribe {topic}")), "subscribed");
        }
    });
}

#[test]
fn many_topics_of_one_connection_end_with_it() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, Limits { subscriptions_max: 10_000, ..limits() });
        let mut client = server.client();
        let all: String = (0..5_000).map(|topic| format!("subscribe {topic}\n")).collect();
        client.say(&all);
        for _ in 0..5_000 {
            assert_eq!(client.text(), "subscribed");
        }
        assert_eq!(server.stats().topics, 5_000);
        for topic in [0, 1, 2_500, 4_999] {
            server.handle().publish(&topic.to_string(), topic.to_string()).expect("room for a command");
            assert_eq!(client.text(), topic.to_string());
        }
        client.close();
        server.wait_until_empty();
        assert_eq!(server.stats().topics, 0);
    });
}

#[test]
fn zero_is_a_time_like_others() {
    on_each_kind(|setup| {
        let limits = Limits { handshake_timeout: Duration::ZERO, close_timeout: Duration::ZERO, ..limits() };
        let server = setup.start_with(1, limits);
        // Nobody is cut before a tick has passed, and everybody soon after.
        let mut client = server.tcp();
        client.drain_bytes();
        server.wait_until_empty();
    });
}

#[test]
fn configurations_that_cannot_work_are_refused_with_advice() {
    let start = |engine: Engine| engine.start(|_| Silent).expect_err("it can't work");
    let bind = |address: &str| Engine::bind(address).expect("an address");
    assert!(matches!(Engine::bind("nowhere"), Err(Error::Address { .. })));
    let error = Engine::bind("127.0.0.1").expect_err("no port").to_string();
    assert!(error.contains("127.0.0.1:8080"), "{error}");
    assert!(matches!(start(bind("127.0.0.1:0").cores(0)), Error::Cores(0)));
    assert!(matches!(start(bind("127.0.0.1:0").cores(1000)), Error::Cores(1000)));
    // An address of documentation (RFC 5737): no host has it.
    let error = start(bind("192.0.2.1:80").cores(1));
    assert!(matches!(error, Error::Listen { .. }) && error.to_string().contains("not one of this host's"), "{error}");
    on_each_kind(|setup| {
        let server = setup.start();
        let taken = bind(&server.address().to_string()).cores(2).descriptors(setup.descriptors);
        let error = start(taken);
        assert!(error.to_string().contains("another process listens there"), "{error}");
        assert_eq!(server.client().ask("hello"), "hello", "who was there first stays");
    });
}

#[test]
fn without_a_bound_the_descriptors_are_the_bound() {
    on_each_kind(|setup| {
        for cores in [1, 2] {
            let engine = Engine::bind("127.0.0.1:0").expect("an address").cores(cores).descriptors(setup.descriptors);
            let running = engine.start(|_| Silent).expect("the engine starts");
            let room = running.room();
            let possible = u64::from(room.connections_per_core_max);
            assert!(possible > 0 && possible <= descriptor_limit());
            assert!(matches!(room.bound, Bound::Descriptors | Bound::RingTable | Bound::Memory), "{room:?}");
            assert!(room.memory_budget_bytes > 0 && room.kernel_connection_bytes > 2000, "{room:?}");
            let mut client = Client::connect(running.address());
            running.handle().drain(Duration::from_secs(3600));
            assert_eq!(client.frame().close().0, Some(1001));
            client.send(crore_tests::frame::close(1001, ""));
            client.ended();
            running.join().expect("every worker ends in peace");
        }
    });
}

#[test]
fn an_engine_listens_on_ipv6_too() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("this host has no IPv6");
        return;
    }
    on_each_kind(|setup| {
        let (sender, _events) = channel();
        let engine = Engine::bind("[::1]:0").expect("an address").cores(2).limits(limits());
        let handler = move |_: CoreId| crore_tests::Actor::new(sender.clone());
        let running = engine.descriptors(setup.descriptors).start(handler).expect("the engine starts");
        let mut client = Client::connect(running.address());
        assert_eq!(client.ask("hello"), "hello");
        running.handle().drain(Duration::from_secs(3600));
        client.goes_away();
        running.join().expect("every worker ends in peace");
    });
}

// capability: 27 28
#[test]
fn a_storm_of_upgrades_is_let_in_at_a_rate_and_the_rest_told_when_to_come_back() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, Limits { upgrades_per_second_max: Some(10), ..limits() });
        let mut seconds = Vec::new();
        let mut open = Vec::new();
        for _ in 0..100 {
            let mut client = server.tcp();
            client.send(REQUEST);
            let response = client.response();
            if response.status == 101 {
                open.push(client);
                continue;
            }
            assert_eq!(response.status, 503, "{response:?}");
            assert!(response.body.contains("try again later"), "{response:?}");
            seconds.push(response.header("Retry-After").and_then(|text| text.parse::<u32>().ok()).expect("seconds"));
            client.ended();
        }
        assert!(open.len() >= 10, "a second's worth at once: {}", open.len());
        assert_eq!(server.stats().refused_pace, seconds.len() as u64);
        assert_eq!(server.stats().upgrades, open.len() as u64);
        if seconds.len() > 10 {
            assert!(
                seconds.iter().all(|seconds| (RETRY_AFTER_SECONDS_MIN..=RETRY_AFTER_SECONDS_MAX).contains(seconds))
            );
            seconds.sort_unstable();
            seconds.dedup();
            assert!(seconds.len() > 3, "they would come back all at once: {seconds:?}");
        }
        // What is no upgrade is not counted among them.
        for _ in 0..30 {
            let mut page = server.tcp();
            page.send("GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(page.response().status, 200);
        }
        assert_eq!(open[0].ask("still here"), "still here");
        // Later there is room again.
        wait_until("a place", || {
            let mut client = server.tcp();
            client.send(REQUEST);
            client.response().status == 101
        });
    });
}
