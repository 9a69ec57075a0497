//! The contract with an application: its state, its answers, its futures, its mistakes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use crore_engine::{
    Answer, CloseCause, Closed, Closing, Coalescing, ConnectionId, Context, CoreId, Engine, EngineHandle, Error,
    Handler, HostKind, Message, OwnedMessage, Request, Response,
};
use crore_tests::client::REQUEST;
use crore_tests::frame::{BINARY, TEXT, masked};
use crore_tests::{Client, Event, Server, Setup, limits, on_each_kind, wait_until};

fn start<H: Handler>(setup: Setup, handler: impl Fn(CoreId) -> H + Send + Sync + 'static) -> Server {
    setup.start_handler(1, limits(), channel().1, handler)
}

/// Answers with the same bytes as the other kind, and with the number of messages so far.
struct Swap;

impl Handler for Swap {
    type Connection = u32;

    fn on_message(&mut self, context: &mut Context<'_>, messages: &mut u32, message: Message<'_>) {
        *messages += 1;
        match message.as_text() {
            Some(text) => context.send(text.as_bytes()),
            None => context.send(std::str::from_utf8(message.payload()).expect("the test sends text")),
        }
        context.send(&messages.to_string());
    }
}

#[test]
fn a_message_can_be_answered_as_the_other_kind() {
    on_each_kind(|setup| {
        let server = start(setup, |_| Swap);
        let mut client = server.client();
        client.send([masked(TEXT, b"text"), masked(BINARY, b"binary")].concat());
        for (first, payload) in [(BINARY, "text"), (TEXT, "1"), (TEXT, "binary"), (TEXT, "2")] {
            let frame = client.frame();
            assert_eq!((frame.first, frame.payload.as_slice()), (first, payload.as_bytes()));
        }
    });
}

#[test]
fn each_connection_has_its_own_state() {
    on_each_kind(|setup| {
        let server = start(setup, |_| Swap);
        for _ in 0..3 {
            // Slots are used again, what was in them is not.
            let mut clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
            for round in 1..5 {
                for client in &mut clients {
                    client.say("x");
                    assert_eq!(client.frame().first, BINARY);
                    assert_eq!(client.text(), round.to_string());
                }
            }
            clients.into_iter().for_each(Client::close);
            server.wait_until_empty();
        }
    });
}

/// Sends what comes to all that are open, itself among them, and then its length to the first of them.
#[derive(Default)]
struct Everyone(Vec<ConnectionId>);

impl Handler for Everyone {
    type Connection = ();

    fn on_open(&mut self, context: &mut Context<'_>, _: &mut ()) {
        self.0.push(context.id());
    }

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        context.send_to_each(&[], "nobody");
        context.send_to_each(&self.0, message);
        context.send_to_each(&self.0[..1], message.payload().len().to_string().as_str());
    }
}

#[test]
fn one_message_is_sent_to_each_of_a_list() {
    on_each_kind(|setup| {
        let server = start(setup, |_| Everyone::default());
        let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
        for text in ["x".repeat(200_000), "short".to_owned()] {
            clients[1].say(&text);
            for client in &mut clients {
                assert_eq!(client.text(), text);
            }
            assert_eq!(clients[0].text(), text.len().to_string());
        }
    });
}

/// Closes the first of all when it is told to; and whenever one is closed, says so to all, and closes the next.
#[derive(Default)]
struct Dominoes {
    all: Vec<ConnectionId>,
    told: usize,
}

impl Handler for Dominoes {
    /// Whether it is closing.
    type Connection = bool;

    fn on_request(&mut self, context: &mut Context<'_>, _: &mut bool, request: &Request<'_>) -> Answer {
        if request.path == "/closed" {
            context.close(4000, "before it is open");
        }
        Answer::upgrade()
    }

    fn on_open(&mut self, context: &mut Context<'_>, _: &mut bool) {
        self.all.push(context.id());
        context.subscribe("news").expect("one is within the limits");
        if self.all.len() == 1 {
            context.send("first");
        }
    }

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut bool, _: Message<'_>) {
        context.close_connection(self.all[0], 4000, "the first");
        // Not before this call is over.
        context.publish("news", "it begins");
        assert_eq!(self.told, 0);
    }

    fn on_closing(&mut self, context: &mut Context<'_>, is_closing: &mut bool, closing: Closing) {
        assert_eq!(closing, Closing { code: 4000, cause: CloseCause::Application });
        assert!(!std::mem::replace(is_closing, true) && self.all[self.told] == context.id());
        assert_eq!((context.subscriptions().count(), context.subscription_count()), (0, 0));
        self.told += 1;
        context.send("nobody hears this");
        context.publish("news", &self.told.to_string());
        context.subscribe("news").expect("it has no effect");
        context.wake_after(Duration::ZERO);
        match self.all.get(self.told) {
            // The last one stays to see the others go.
            Some(next) if self.told + 1 < self.all.len() => context.close_connection(*next, 4000, "the next"),
            _ => {}
        }
    }

    fn on_wake(&mut self, _: &mut Context<'_>, _: &mut bool) {
        panic!("who leaves is not woken");
    }

    fn on_close(&mut self, _: &mut Context<'_>, is_closing: &mut bool, closed: Closed<'_>) {
        assert_eq!(*is_closing, closed.was_closing);
    }
}

#[test]
fn when_a_connection_closes_the_handler_tells_others_and_closes_more() {
    on_each_kind(|setup| {
        let server = start(setup, |_| Dominoes::default());
        let mut early = server.tcp();
        early.send(REQUEST.replacen("GET / ", "GET /closed ", 1));
        assert_eq!(early.response().status, 101);
        assert_eq!(early.frame().close().0, Some(4000));
        drop(early);
        let mut clients: Vec<Client> = (0..5).map(|_| server.client()).collect();
        let mut last = clients.pop().expect("one of five");
        assert_eq!(clients[0].text(), "first");
        last.say("begin");
        for (place, client) in clients.iter_mut().enumerate() {
            // Each is closed by what was done for the one before it.
            if place > 0 {
                assert_eq!(client.text(), "it begins");
            }
            for before in 1..=place {
                assert_eq!(client.text(), before.to_string());
            }
            assert_eq!(client.frame().close().0, Some(4000));
        }
        let heard: Vec<String> = (0..5).map(|_| last.text()).collect();
        assert_eq!(heard, ["it begins", "1", "2", "3", "4"]);
        last.close();
    });
}

/// Does what the words of a message say, and then publishes what it is subscribed to and whether it closes.
struct Obedient;

impl Handler for Obedient {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        for word in message.as_text().expect("the test sends text").split(' ') {
            match word.split_at(1) {
                ("+", topic) => context.subscribe(topic).expect("a few are within the limits"),
                ("-", topic) => context.unsubscribe(topic),
                ("!", _) => context.close(1000, "asked to"),
                _ => context.close_connection(ConnectionId::new(CoreId(0), 1000, 0), 1000, "somebody else"),
            }
        }
        let mut topics: Vec<&str> = context.subscriptions().collect();
        topics.sort_unstable();
        let seen = format!("{} {}", topics.join(","), context.is_closing());
        context.publish("seen", &seen);
    }
}

#[test]
fn a_handler_sees_what_it_has_asked_for() {
    on_each_kind(|setup| {
        let server = start(setup, |_| Obedient);
        let (mut watcher, mut client) = (server.client(), server.client());
        watcher.say("+seen");
        assert_eq!(watcher.text(), "seen false");
        for (words, seen) in [
            ("+a", "a false"),
            ("+b +a +c", "a,b,c false"),
            ("-b -d +e -e ?", "a,c false"),
            ("-a +a -c +d", "a,d false"),
            ("-a -d", " false"),
            ("+z ! -z", " true"),
        ] {
            client.say(words);
            assert_eq!(watcher.text(), seen, "{words}");
        }
        assert_eq!(client.frame().close().0, Some(1000));
    });
}

/// Subscribes while the request is handled, and refuses some.
struct Early;

impl Handler for Early {
    type Connection = ();

    fn on_request(&mut self, context: &mut Context<'_>, _: &mut (), request: &Request<'_>) -> Answer {
        context.subscribe("early").expect("one subscription is within the limits");
        context.publish("early", "somebody comes");
        match request.path {
            "/refused" => Answer::Respond(Response::text(403, "not you\n")),
            "/cut" => {
                context.terminate();
                Answer::upgrade()
            }
            _ => Answer::upgrade(),
        }
    }

    fn on_open(&mut self, context: &mut Context<'_>, _: &mut ()) {
        context.send("welcome");
    }
}

#[test]
fn who_is_subscribed_before_the_answer_hears_nothing_before_it() {
    on_each_kind(|setup| {
        let server = start(setup, |_| Early);
        for _ in 0..3 {
            let mut client = server.client();
            let mut heard = [client.text(), client.text()];
            heard.sort();
            assert_eq!(heard, ["somebody comes", "welcome"]);
        }
        let mut refused = server.tcp();
        refused.send(REQUEST.replacen("GET /", "GET /refused", 1));
        let response = refused.response();
        assert_eq!((response.status, response.body.as_str()), (403, "not you\n"));
        server.handle().publish("early", "for subscribers").expect("room for a command");
        refused.ended();
        let mut cut = server.tcp();
        cut.send(REQUEST.replacen("GET /", "GET /cut", 1));
        cut.drain_bytes();
        drop(refused);
        server.wait_until_empty();
    });
}

/// Answers each message later, from a future.
struct Later;

/// Sends as soon as there is room for a command.
async fn send(handle: EngineHandle, id: ConnectionId, message: OwnedMessage) {
    while handle.send(id, message.clone()).is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

impl Handler for Later {
    type Connection = ();

    fn on_open(&mut self, context: &mut Context<'_>, _: &mut ()) {
        let (handle, id) = (context.handle().clone(), context.id());
        context.spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            send(handle, id, "welcome".into()).await;
        });
    }

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        let (handle, id) = (context.handle().clone(), context.id());
        let answer = OwnedMessage::from(message);
        let milliseconds = message.as_text().and_then(|text| text.parse().ok());
        context.spawn(async move {
            tokio::time::sleep(Duration::from_millis(milliseconds.expect("a number"))).await;
            send(handle, id, answer).await;
        });
        // What it says itself does not wait for the future.
        context.send("at once");
    }

    fn on_close(&mut self, context: &mut Context<'_>, _: &mut (), _: Closed<'_>) {
        let handle = context.handle().clone();
        context.spawn(async move {
            tokio::task::yield_now().await;
            handle.broadcast("somebody has gone").expect("room for a command");
        });
    }
}

#[test]
fn futures_of_a_handler_run_on_its_core() {
    on_each_kind(|setup| {
        let server = start(setup, |_| Later);
        let mut client = server.client();
        assert_eq!(client.text(), "welcome");
        client.say("50");
        client.say("0");
        assert_eq!((client.text(), client.text()), ("at once".to_owned(), "at once".to_owned()));
        assert_eq!((client.text(), client.text()), ("0".to_owned(), "50".to_owned()));

        // Many at once, of which those that end after their connection say nothing to anybody.
        let mut gone = server.client();
        assert_eq!(gone.text(), "welcome");
        for _ in 0..500 {
            gone.say("20");
            client.say("20");
        }
        gone.reset();
        let mut heard: Vec<String> = (0..1001).map(|_| client.text()).collect();
        heard.sort();
        heard.dedup();
        assert_eq!(heard, ["20", "at once", "somebody has gone"]);
        client.say("1");
        assert_eq!((client.text(), client.text()), ("at once".to_owned(), "1".to_owned()), "nothing else");
    });
}

#[test]
fn a_future_that_panics_ends_alone() {
    struct Careless;
    impl Handler for Careless {
        type Connection = ();
        fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
            context.spawn(async { panic!("a future of the test panics") });
            context.send(message);
        }
    }
    on_each_kind(|setup| {
        let server = start(setup, |_| Careless);
        let mut client = server.client();
        for _ in 0..3 {
            assert_eq!(client.ask("hello"), "hello");
        }
    });
}

/// Hears no broadcast before it has said "listen", and none after it has said "enough".
struct Listener;

impl Handler for Listener {
    type Connection = ();

    fn on_open(&mut self, context: &mut Context<'_>, _: &mut ()) {
        context.hear_broadcasts(false);
    }

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        match message.as_text() {
            Some("listen") => context.hear_broadcasts(true),
            Some("enough") => context.hear_broadcasts(false),
            _ => context.broadcast(message),
        }
        context.send("done");
    }
}

#[test]
fn who_does_not_hear_broadcasts_receives_none() {
    on_each_kind(|setup| {
        let server = start(setup, |_| Listener);
        let (mut deaf, mut hearing) = (server.client(), server.client());
        hearing.say("listen");
        assert_eq!(hearing.text(), "done");
        deaf.say("one");
        assert_eq!((deaf.text(), hearing.text()), ("done".to_owned(), "one".to_owned()));
        server.handle().broadcast("two").expect("room for a command");
        assert_eq!(hearing.text(), "two");
        hearing.say("enough");
        assert_eq!(hearing.text(), "done");
        deaf.say("listen");
        assert_eq!(deaf.text(), "done", "nothing was kept for it");
        hearing.say("three");
        assert_eq!((hearing.text(), deaf.text()), ("done".to_owned(), "three".to_owned()));
    });
}

#[test]
fn a_busy_worker_lets_futures_run_and_sockets_be_heard() {
    on_each_kind(|setup| {
        let server = start(setup, |_| Later);
        let mut client = server.client();
        assert_eq!(client.text(), "welcome");
        // Commands without end: the worker never finds that there is nothing to do.
        let stop = Arc::new(AtomicBool::new(false));
        let flood = || {
            let (handle, stop) = (server.handle().clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let nobody = ConnectionId::from_u64(0x00ff_ffff);
                while !stop.load(Ordering::Relaxed) {
                    let _ = handle.send(nobody, "");
                }
            })
        };
        let floods = [flood(), flood()];
        let answers: Vec<[String; 2]> = (0..5)
            .map(|_| {
                client.say("5");
                [client.text(), client.text()]
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        for flood in floods {
            flood.join().expect("no panic");
        }
        assert!(answers.iter().all(|answers| answers == &["at once", "5"]));
    });
}

/// Panics when it is told to.
struct Fragile;

impl Handler for Fragile {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        match message.as_text() {
            Some("core") => context.send(&context.core().to_string()),
            Some("panic") => panic!("a handler of the test panics"),
            _ => context.send(message),
        }
    }
}

#[test]
fn a_handler_that_panics_ends_the_engine_with_an_error() {
    on_each_kind(|setup| {
        for core in [0, 1] {
            let engine = Engine::bind("127.0.0.1:0").expect("an address").cores(2).limits(limits());
            let running = engine.descriptors(setup.descriptors).start(|_| Fragile).expect("the engine starts");
            let mut clients = Client::on_each_core(running.address(), 2);
            clients[core].say("panic");
            // Nobody has drained the other core: `join` must not wait for that.
            let outcome = running.join();
            assert!(matches!(outcome, Err(Error::Panicked(CoreId(panicked))) if usize::from(panicked) == core));
            for client in &mut clients {
                client.drain();
            }
        }
    });
}

#[test]
fn the_bare_host_serves_too() {
    on_each_kind(|setup| {
        let (sender, events) = channel();
        let engine = Engine::bind("127.0.0.1:0").expect("an address").cores(2).limits(limits()).host(HostKind::Bare);
        let handler = move |_| crore_tests::Actor::new(sender.clone());
        let running = engine.descriptors(setup.descriptors).start(handler).expect("the engine starts");
        let mut clients = Client::on_each_core(running.address(), 2);
        for client in &mut clients {
            client.ask("subscribe news");
        }
        for round in 0..200 {
            // Parked between rounds or not, the other core and other threads wake it.
            clients[round % 2].say(&format!("publish news {round}"));
            for client in &mut clients {
                assert_eq!(client.text(), round.to_string());
            }
            running.handle().publish("news", "from a thread").expect("room for a command");
            for client in &mut clients {
                assert_eq!(client.text(), "from a thread");
            }
        }
        let handle = running.handle().clone();
        handle.drain(Duration::from_secs(60));
        for client in clients {
            client.goes_away();
        }
        running.join().expect("every worker ends in peace");
        wait_until("all are told as closed", || {
            events.try_iter().filter(|event| matches!(event, Event::Closed { .. })).count() >= 2
        });
    });
}

/// Begins to join messages while one is at hand, publishes to itself, and answers with the message.
struct Joining;

impl Handler for Joining {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, (): &mut (), message: Message<'_>) {
        context.subscribe("news").expect("there is room");
        context.coalesce(true);
        context.publish("news", "first");
        context.send(message);
    }
}

#[test]
fn an_echo_does_not_overtake_what_was_published_before_it() {
    on_each_kind(|setup| {
        let delay = Duration::from_millis(10);
        let coalescing = Coalescing { prefix: "[", separator: ",", suffix: "]", messages_max: 5, delay };
        let engine = Engine::bind("127.0.0.1:0").expect("an address").cores(1).limits(limits());
        let engine = engine.coalescing(Some(coalescing));
        let server = setup.start_engine(engine, channel().1, |_| Joining);
        let mut client = server.client();
        client.say("second");
        assert_eq!((client.text(), client.text()), ("first".to_owned(), "second".to_owned()));
    });
}
