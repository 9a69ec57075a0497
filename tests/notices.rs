//! What handlers tell each other's connections and cores, and the times at which they are woken.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crore_engine::{ConnectionId, Context, CoreContext, CoreId, Handler, Message, Notice};
use crore_tests::frame::masked;
use crore_tests::{Client, Server, Setup, limits, on_each_kind};

const CORES: usize = 2;

/// The topic of the one core that numbers what is published there.
const NUMBERED: &str = "numbered";

/// That core.
const HOME: CoreId = CoreId(0);

/// From whom, and what.
struct Word(ConnectionId, String);

/// How often a connection has still to tell itself.
struct Countdown(u32);

/// Somebody publishes; the home core numbers it, and acknowledges it to whom wants to know.
struct Publish(Option<ConnectionId>);

/// Somebody wants to hear all that is published from some point on.
struct Follow(ConnectionId);

/// The number of the next publication.
struct From(u64);

#[derive(Default)]
struct Teller {
    published: u64,
    waits_for_core: Option<ConnectionId>,
}

impl Handler for Teller {
    type Connection = u32;

    fn on_message(&mut self, context: &mut Context<'_>, wakes: &mut u32, message: Message<'_>) {
        let id = context.id();
        let text = message.as_text().expect("the test sends text");
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        match verb {
            "id" => context.send(&id.as_u64().to_string()),
            "tell" => {
                let to = ConnectionId::from_u64(first.parse().expect("a number"));
                context.tell(to, Box::new(Word(id, second.to_owned())));
            }
            "core" => context.send(&context.core().to_string()),
            "tell_core" => {
                let core = CoreId(first.parse().expect("a number"));
                context.tell_core(core, Box::new(Word(id, second.to_owned())));
            }
            "countdown" => context.tell(id, Box::new(Countdown(first.parse().expect("a number")))),
            "publish" => context.tell_core(HOME, Box::new(Publish(None))),
            "publish_surely" => context.tell_core(HOME, Box::new(Publish(Some(id)))),
            "follow" => {
                context.raise_interest(NUMBERED);
                context.tell_core(HOME, Box::new(Follow(id)));
            }
            "wake" => context.wake_after(Duration::from_millis(first.parse().expect("a number"))),
            "wakes" => context.send(&wakes.to_string()),
            "wake_core" => {
                self.waits_for_core = Some(id);
                context.wake_core_after(Duration::from_millis(first.parse().expect("a number")));
            }
            _ => context.send(message),
        }
    }

    fn on_told(&mut self, context: &mut Context<'_>, _: &mut u32, notice: Notice) {
        let notice = match notice.downcast::<Countdown>() {
            Ok(countdown) if countdown.0 == 0 => return context.send("lift-off"),
            Ok(countdown) => {
                let id = context.id();
                return context.tell(id, Box::new(Countdown(countdown.0 - 1)));
            }
            Err(notice) => notice,
        };
        match notice.downcast::<Word>() {
            Ok(word) => context.send(&format!("told {}", word.1)),
            Err(notice) => {
                let From(next) = *notice.downcast().expect("nothing else is told");
                context.subscribe(NUMBERED).expect("one subscription");
                context.lower_interest(NUMBERED);
                context.send(&next.to_string());
            }
        }
    }

    fn on_untold(&mut self, context: &mut CoreContext<'_>, _: ConnectionId, notice: Notice) {
        match notice.downcast::<Word>() {
            Ok(word) => context.send_to(word.0, &format!("untold {}", word.1)),
            Err(notice) => {
                assert!(notice.is::<From>());
                context.lower_interest(NUMBERED);
            }
        }
    }

    fn on_core_told(&mut self, context: &mut CoreContext<'_>, notice: Notice) {
        let notice = match notice.downcast::<Word>() {
            Ok(word) => return context.send_to(word.0, &format!("{} heard {}", context.core(), word.1)),
            Err(notice) => notice,
        };
        assert_eq!(context.core(), HOME);
        if let Some(Follow(id)) = notice.downcast_ref() {
            context.tell(*id, Box::new(From(self.published)));
        } else {
            let Publish(acknowledge) = *notice.downcast().expect("nothing else is told");
            context.publish(NUMBERED, &self.published.to_string());
            if let Some(id) = acknowledge {
                context.send_to(id, &format!("published {}", self.published));
            }
            self.published += 1;
        }
    }

    fn on_wake(&mut self, context: &mut Context<'_>, wakes: &mut u32) {
        *wakes += 1;
        context.send("woken");
    }

    fn on_core_wake(&mut self, context: &mut CoreContext<'_>) {
        let id = self.waits_for_core.take().expect("somebody has asked");
        context.send_to(id, "the core is woken");
    }
}

fn start(setup: Setup) -> Server {
    setup.start_handler(CORES, limits(), channel().1, |_| Teller::default())
}

fn clients(server: &Server) -> Vec<Client> {
    Client::on_each_core(server.address(), CORES)
}

#[test]
fn connections_are_told_on_every_core_in_order() {
    on_each_kind(|setup| {
        let server = start(setup);
        let mut all = clients(&server);
        let ids: Vec<String> = all.iter_mut().map(|client| client.ask("id")).collect();
        for teller in 0..all.len() {
            for (told, id) in ids.iter().enumerate() {
                for number in 0..100 {
                    all[teller].say(&format!("tell {id} {number}"));
                }
                for number in 0..100 {
                    assert_eq!(all[told].text(), format!("told {number}"));
                }
            }
        }
    });
}

#[test]
fn what_can_not_be_told_comes_back() {
    on_each_kind(|setup| {
        let server = start(setup);
        let mut all = clients(&server);
        let ids: Vec<String> = clients(&server)
            .into_iter()
            .map(|mut client| {
                let id = client.ask("id");
                client.close();
                id
            })
            .collect();
        server.wait_for("all but two have gone", |stats| stats.connections == CORES as u64);
        for client in &mut all {
            for id in &ids {
                assert_eq!(client.ask(&format!("tell {id} too late")), "untold too late");
            }
            // An identifier of a core that there is not: it goes nowhere, and nobody minds.
            let nowhere = ConnectionId::new(CoreId(60), 1, 1).as_u64();
            client.say(&format!("tell {nowhere} hello"));
            assert_eq!(client.ask("still there"), "still there");
        }
    });
}

#[test]
fn cores_and_threads_tell_cores() {
    on_each_kind(|setup| {
        let server = start(setup);
        for client in &mut clients(&server) {
            for core in 0..CORES {
                assert_eq!(client.ask(&format!("tell_core {core} me")), format!("{core} heard me"));
            }
            let id = ConnectionId::from_u64(client.ask("id").parse().expect("a number"));
            for core in [0, 1] {
                let notice = Box::new(Word(id, "a thread".to_owned()));
                server.handle().tell_core(CoreId(core), notice).expect("there is room");
                assert_eq!(client.text(), format!("{core} heard a thread"));
            }
            server.handle().tell(id, Box::new(Word(id, "directly".to_owned()))).expect("there is room");
            assert_eq!(client.text(), "told directly");
        }
        let refused = server.handle().tell_core(CoreId(2), Box::new(7_u32)).expect_err("there is no such core");
        assert_eq!((refused.core, refused.notice.downcast_ref()), (CoreId(2), Some(&7_u32)));
    });
}

#[test]
fn who_tells_itself_keeps_nobody_waiting() {
    on_each_kind(|setup| {
        let server = start(setup);
        let mut all = clients(&server);
        // Deeper than any stack, if one call were made within another.
        all[0].say("countdown 200000");
        assert_eq!(all[0].ask("and meanwhile"), "and meanwhile");
        assert_eq!(all[0].text(), "lift-off");
    });
}

#[test]
fn a_subscription_begins_at_a_point_that_another_core_names() {
    on_each_kind(|setup| {
        let server = start(setup);
        let publishers = clients(&server);
        let publishing: Vec<_> = publishers
            .into_iter()
            .map(|mut client| {
                std::thread::spawn(move || {
                    for _ in 0..5_000 {
                        client.say("publish");
                    }
                    assert_eq!(client.ask("done"), "done");
                })
            })
            .collect();
        std::thread::scope(|scope| {
            for mut follower in (0..8).flat_map(|_| clients(&server)) {
                scope.spawn(move || {
                    follower.say("follow");
                    let first: u64 = follower.text().parse().expect("a number");
                    for number in first..10_000 {
                        assert_eq!(follower.text(), number.to_string(), "after {first}");
                    }
                });
            }
        });
        for thread in publishing {
            thread.join().expect("it publishes");
        }
        assert_eq!(server.stats().mesh_refused, 0);
    });
}

#[test]
fn a_subscription_misses_nothing_of_what_its_own_core_publishes_at_once() {
    on_each_kind(|setup| {
        let server = start(setup);
        for (number, client) in clients(&server).iter_mut().enumerate() {
            let mut together = masked(0x81, b"follow");
            for _ in 0..3 {
                together.extend(masked(0x81, b"publish"));
            }
            client.send(together);
            let first = 3 * number as u64;
            assert_eq!(client.text(), first.to_string(), "the place where it begins");
            for next in first..first + 3 {
                assert_eq!(client.text(), next.to_string());
            }
        }
    });
}

// capability: 85
#[test]
fn an_acknowledgement_comes_behind_all_that_was_published_before() {
    on_each_kind(|setup| {
        let server = start(setup);
        let mut others = clients(&server);
        for mut client in clients(&server) {
            client.say("follow");
            let first: u64 = client.text().parse().expect("a number");
            std::thread::scope(|scope| {
                for other in &mut others {
                    scope.spawn(|| {
                        for _ in 0..1_000 {
                            other.say("publish");
                        }
                        assert_eq!(other.ask("done"), "done");
                    });
                }
                let mut together = Vec::new();
                for _ in 0..500 {
                    together.extend(masked(0x81, b"publish_surely"));
                }
                client.send(together);
                let mut next = first;
                for _ in 0..500 + 500 + 2_000 {
                    let text = client.text();
                    match text.strip_prefix("published ") {
                        Some(number) => {
                            let number: u64 = number.parse().expect("a number");
                            assert!(number < next, "{number} is acknowledged before {next} has come");
                        }
                        None => {
                            assert_eq!(text, next.to_string());
                            next += 1;
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn a_connection_is_woken_once_and_at_the_earliest_time_that_it_has_asked_for() {
    on_each_kind(|setup| {
        let server = start(setup);
        let mut client = server.client();
        let asked = Instant::now();
        for after in ["wake 3600000", "wake 250", "wake 7200000"] {
            client.say(after);
        }
        assert_eq!(client.text(), "woken");
        assert!(asked.elapsed() >= Duration::from_millis(250));
        assert_eq!(client.ask("wakes"), "1");
        // Who has gone is not woken, nor is who has its slot now.
        client.say("wake 200");
        client.close();
        let mut successor = server.client();
        successor.say("wake_core 600");
        assert_eq!(successor.text(), "the core is woken");
        assert_eq!(successor.ask("wakes"), "0");
    });
}
