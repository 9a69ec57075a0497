//! The scenarios against the engine itself, and against servers that do wrong.

use std::time::Duration;

use clap::Parser;
use crore_engine::{Compression, Context, Engine, Handler, Limits, Message, Request, Response, Running};
use crore_server::config::Config;

use super::{Outcome, Progress, Scenario, ScenarioError, fill};
use crate::cli::{Cli, Command};

/// What a server of these tests does with a message.
#[derive(Clone, Copy)]
enum Answer {
    Echo,
    Broadcast,
    Nothing,
    TwoTimes,
    Shorter,
    Close,
}

struct Server(Answer);

const EVERYONE: &str = "everyone";

impl Handler for Server {
    type Connection = ();

    fn on_open(&mut self, context: &mut Context<'_>, (): &mut ()) {
        context.send(Message::text("welcome"));
        context.subscribe(EVERYONE).expect("one subscription is within the limits");
    }

    fn on_message(&mut self, context: &mut Context<'_>, (): &mut (), message: Message<'_>) {
        match self.0 {
            Answer::Echo => context.send(message),
            Answer::Broadcast => context.publish(EVERYONE, message),
            Answer::Nothing => {}
            Answer::TwoTimes => {
                context.send(message);
                context.send(message);
            }
            Answer::Shorter => context.send(Message::binary(&message.payload()[1..])),
            Answer::Close => context.close(1000, ""),
        }
    }
}

fn start(answer: Answer, ping_interval: Duration, compression: Option<Compression>) -> Running {
    let limits = Limits { ping_interval, ..Limits::default() };
    let engine = Engine::bind("127.0.0.1:0").expect("an address").cores(1).limits(limits).compression(compression);
    engine.start(move |_core| Server(answer)).expect("io_uring is there")
}

/// The server that speaks the protocol of `hold`.
fn start_crore(ping_interval: Duration, topic_bytes_max: usize) -> Running {
    let listen = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    let mut config = Config { listen, cores: std::num::NonZeroU16::new(1), ..Config::default() };
    config.engine = Limits { ping_interval, topic_bytes_max, ..config.engine };
    crore_server::Server::new(config).start().expect("io_uring is there")
}

/// Runs `arguments`, to which the address is added, against a server that answers like this.
fn run(answer: Answer, arguments: &str) -> Result<Outcome, ScenarioError> {
    run_with(start(answer, Limits::default().ping_interval, None), arguments)
}

fn run_with(server: Running, arguments: &str) -> Result<Outcome, ScenarioError> {
    let pid = std::process::id();
    let line = format!("crore-bench {arguments} --url ws://{}/ --server-pid {pid}", server.address());
    let cli = Cli::try_parse_from(line.split(' ')).expect("good arguments");
    let scenario = match cli.command {
        Command::Echo(options) => Scenario::Echo(options),
        Command::Fanout(options) => Scenario::Fanout(options),
        Command::Idle(options) => Scenario::Idle(options),
        Command::Hold(options) => Scenario::Hold(options),
        Command::Connect(options) => Scenario::Connect(options),
        Command::Vanish(options) => Scenario::Vanish(options),
        Command::Fill(options) => Scenario::Fill(options),
        Command::Compare(_) => panic!("one scenario"),
    };
    let outcome = scenario.run(&Progress::new(scenario.name()));
    server.handle().drain(Duration::ZERO);
    server.join().expect("the server ends well");
    outcome
}

const SHORT: &str = "--duration 300ms --warmup 50ms";

#[test]
fn a_closed_loop_counts_what_comes_back() {
    for load in
        ["", "--text --size 12", "--size 100000 --pipeline 3", "--pipeline 16 --wait spin", "--descriptors regular"]
    {
        let line = format!("echo --connections 7 {SHORT} {load}");
        let outcome = run(Answer::Echo, line.trim_end()).expect(load);
        assert!(outcome.count > 0 && outcome.count == outcome.latency.count, "{load}: {outcome:?}");
        assert_eq!(outcome.unsolicited, 7, "every connection is welcomed once: {load}");
        assert!(outcome.usage.server.is_some());
    }
}

/// The engine cuts connections that do not answer its pings.
#[test]
fn pings_are_answered_under_load() {
    let line = "echo --connections 7 --duration 2s --warmup 0s";
    let server = start(Answer::Echo, Duration::from_millis(500), None);
    let outcome = run_with(server, line).expect("no connection is cut");
    assert!(outcome.count > 0);
}

#[test]
fn an_open_loop_sends_at_its_rate() {
    let begin = std::time::Instant::now();
    let outcome = run(Answer::Echo, &format!("echo --connections 5 --rate 2000 {SHORT}")).expect("it echoes");
    // 600 are due in the time that is measured, and more if that is longer; how many come within it is the machine's affair.
    let due_max = begin.elapsed().as_secs_f64() * 2000.0;
    assert!(outcome.count > 0 && outcome.count as f64 <= due_max, "{} of {due_max}", outcome.count);
}

#[test]
fn a_fan_out_counts_every_delivery() {
    for (load, batch) in [("", 10), ("--in-flight 8", 80), ("--publisher member", 9)] {
        let line = format!("fanout --connections 9 {SHORT} {load}");
        let outcome = run(Answer::Broadcast, line.trim_end()).expect(load);
        assert!(outcome.count >= batch, "{load}: {}", outcome.count);
    }
}

#[test]
fn messages_go_through_channels_of_crore() {
    for load in
        ["echo --pipeline 3", "echo --rate 500 --size 3000", "fanout --in-flight 4", "fanout --publisher silent"]
    {
        let line = format!("{load} --connections 7 {SHORT} --channels");
        let outcome = run_with(start_crore(Limits::default().ping_interval, 256), &line).expect(load);
        assert!(outcome.count > 0 && outcome.count == outcome.latency.count, "{load}: {outcome:?}");
    }
    let error = |server| run_with(server, "echo --connections 3 --channels").expect_err("no channel").to_string();
    let text = error(start_crore(Limits::default().ping_interval, 1));
    assert!(text.contains("refuses: {\"type\":\"error\""), "{text}");
}

#[test]
fn a_churn_opens_and_closes_as_many_as_asked() {
    let outcome = run(Answer::Echo, "connect --connections 300 --concurrency 20").expect("it closes");
    assert_eq!((outcome.count, outcome.latency.count), (300, 300));
}

#[test]
fn idle_connections_are_weighed() {
    let outcome =
        run(Answer::Echo, "idle --connections 500 --settle 50ms --patience 0s --calibration 200").expect("it accepts");
    let idle = outcome.idle.expect("idle memory");
    assert_eq!(idle.connections, 500);
    assert!(idle.user.is_some());
    assert!(idle.kernel.tcp[1].allocated >= 1000, "both ends of all connections: {:?}", idle.kernel.tcp);
}

const HOLD: &str = "hold --connections 100 --settle 50ms --patience 0s --calibration 0";

/// A connection that does not answer within it is cut: also on a machine that is busy with other things.
const PING_INTERVAL: Duration = Duration::from_millis(1500);

#[test]
fn held_connections_are_pinged_published_to_and_asked() {
    let server = start_crore(PING_INTERVAL, 256);
    let outcome = run_with(server, &format!("{HOLD} --channels 3 --requests 7")).expect("it holds");
    let hold = outcome.hold.as_ref().expect("held connections");
    assert_eq!(hold.failures, [""; 0]);
    assert!(hold.heartbeats.pings >= 200 && hold.heartbeats.cpu_us_per_ping.is_some());
    assert_eq!((hold.subscriptions.subscribers, hold.subscriptions.channels), (10, 3));
    assert_eq!((hold.publications.messages, hold.publications.deliveries, hold.publications.lost), (15, 50, 0));
    assert_eq!((hold.requests.count, hold.requests.latency.count), (7, 7));
    assert!(crate::report::terminal::outcome(&outcome).contains("50 deliveries"));
}

#[test]
fn what_a_connection_may_cost_is_a_limit() {
    let server = start_crore(PING_INTERVAL, 256);
    let outcome = run_with(server, &format!("{HOLD} --heartbeats 1 --kernel-bytes-max 4250")).expect("it holds");
    let failures = outcome.hold.expect("held connections").failures;
    assert!(failures.len() == 1 && failures[0].contains("could not be measured: run as root"), "{failures:?}");
}

#[test]
fn a_server_that_does_not_hold_is_told_apart() {
    let error = |server| {
        let line = format!("{HOLD} --heartbeats 1 --stall 4s");
        run_with(server, &line).expect_err("it does not hold").to_string()
    };
    // Nothing pings; no channel can be subscribed to; nothing of the protocol is spoken.
    assert!(error(start_crore(Duration::MAX, 256)).contains("0 of 100 connections had as many pings"));
    let text = error(start_crore(PING_INTERVAL, 1));
    assert!(text.contains("refuses: {\"type\":\"error\""), "{text}");
    let text = error(start(Answer::Echo, PING_INTERVAL, None));
    assert!(text.contains("says what was not asked for, or refuses: welcome"), "{text}");
}

#[test]
fn who_stays_is_watched_while_the_others_vanish() {
    for load in ["", "--descriptors regular"] {
        let line = format!("vanish --connections 400 --watched 5 --settle 200ms --interval 2ms {load}");
        let outcome = run(Answer::Echo, line.trim_end()).expect(load);
        let rounds = outcome.vanish.expect("a mass disconnect").rounds;
        assert_eq!(rounds.len(), 2);
        for round in rounds {
            assert!(round.before.count > 0 && round.after.count > 0, "{round:?}");
            assert!(round.memory.is_some(), "{round:?}");
        }
    }
}

/// A server that upgrades so many connections and answers the others with 503.
struct Room(u32);

impl Handler for Room {
    type Connection = ();

    fn on_request(&mut self, _: &mut Context<'_>, (): &mut (), _: &Request<'_>) -> crore_engine::Answer {
        let Some(left) = self.0.checked_sub(1) else {
            return crore_engine::Answer::Respond(Response::text(503, "full\n"));
        };
        self.0 = left;
        crore_engine::Answer::upgrade()
    }
}

#[test]
fn connections_are_opened_until_there_is_no_room() {
    const FILL: &str = "fill --refusals 100 --settle 0s";
    let limits = Limits { connections_per_core_max: Some(40), ..Limits::default() };
    for descriptors in ["auto", "regular"] {
        let engine = Engine::bind("127.0.0.1:0").expect("an address").cores(2).limits(limits.clone());
        let server = engine.start(|_core| Server(Answer::Nothing)).expect("io_uring is there");
        let line = format!("{FILL} --connections 1000 --descriptors {descriptors}");
        let outcome = run_with(server, &line).expect("it fills");
        let text = crate::report::terminal::outcome(&outcome);
        assert!(text.contains("room         80 connections: all others are turned away; "), "{text}");
        let filling = outcome.fill.expect("a filling");
        // Those that a core turned away found room in the other one.
        assert_eq!((filling.open, filling.end), (80, fill::End::Full));
        assert!(filling.turned_away.values().sum::<u64>() >= 100, "{filling:?}");
    }
    let engine = || Engine::bind("127.0.0.1:0").expect("an address").cores(1);
    let server = engine().start(|_core| Room(30)).expect("io_uring is there");
    let filling = run_with(server, &format!("{FILL} --connections 1000")).expect("it fills").fill.expect("a filling");
    assert_eq!((filling.open, filling.end), (30, fill::End::Full));
    assert!(filling.turned_away.keys().eq(["HTTP status 503"]), "{filling:?}");
    let server = engine().start(|_core| Room(30)).expect("io_uring is there");
    let filling = run_with(server, &format!("{FILL} --connections 20")).expect("it fills").fill.expect("a filling");
    assert_eq!((filling.open, filling.end), (20, fill::End::Complete));
}

#[test]
fn connections_that_get_no_answer_are_waited_for_no_longer_than_said() {
    // Nobody accepts from it; the kernel does.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let line = format!(
        "crore-bench fill --connections 10 --stall 300ms --settle 0s --url ws://{}/",
        listener.local_addr().expect("it has one")
    );
    let Command::Fill(options) = Cli::try_parse_from(line.split(' ')).expect("good arguments").command else {
        panic!("it is a fill");
    };
    let filling = Scenario::Fill(options).run(&Progress::new("fill")).expect("it ends").fill.expect("a filling");
    assert_eq!((filling.open, filling.end), (0, fill::End::Silent));
}

#[test]
fn a_stall_fails_the_run() {
    let line = "vanish --connections 50 --settle 50ms --rounds 1 --stall-max 1ns";
    let error = run(Answer::Echo, line).expect_err("nothing is that fast").to_string();
    assert!(error.contains("--stall-max"), "{error}");
}

#[test]
fn compression_is_agreed_on_and_used() {
    for (flag, takeover) in [("--compress", false), ("--compress=takeover", true)] {
        let (server_context_takeover, client_context_takeover) = (takeover, takeover);
        let compression = Compression { server_context_takeover, client_context_takeover, ..Compression::default() };
        for (answer, line) in [
            (Answer::Broadcast, format!("fanout --connections 70 --text --payload json --size 4096 {SHORT} {flag}")),
            (
                Answer::Echo,
                format!("idle --connections 70 --settle 50ms --patience 0s --calibration 0 --exchange {flag}"),
            ),
        ] {
            let server = start(answer, Limits::default().ping_interval, Some(compression));
            let handle = server.handle().clone();
            let outcome = run_with(server, &line).expect(&line);
            assert!(outcome.count >= 70, "{line}: {outcome:?}");
            assert!(handle.stats().compressions > 0, "{line}");
            let error = run(answer, &line).expect_err("no compression there").to_string();
            assert!(error.contains("--compress"), "{error}");
        }
    }
}

#[test]
fn servers_that_do_wrong_are_told_apart() {
    for (answer, load, hint) in [
        (Answer::Nothing, "echo", "got a message back"),
        (Answer::TwoTimes, "echo", "loses, reorders or changes"),
        (Answer::Shorter, "echo", "got a message back"),
        (Answer::Close, "echo", "closes the connection with code 1000"),
        (Answer::Echo, "fanout", "deliveries of a batch came"),
    ] {
        let error = run(answer, &format!("{load} --connections 3 {SHORT}")).expect_err(hint).to_string();
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn more_connections_than_descriptors_are_refused_at_once() {
    let error = run(Answer::Echo, "idle --connections 4000000000").expect_err("too many").to_string();
    assert!(error.contains("ulimit -n 4000000000"), "{error}");
}
