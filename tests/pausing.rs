//! Connections that the application does not want to read from for a while.

use std::sync::mpsc::channel;
use std::time::Duration;

use crore_engine::{Context, Handler, Limits, Message};
use crore_tests::frame::{CLOSE, TEXT, close, masked};
use crore_tests::{Setup, limits, on_each_kind};

/// Echoes; at `pause n` it does not read for so many milliseconds, and then says so.
struct Pausing;

impl Handler for Pausing {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, (): &mut (), message: Message<'_>) {
        match message.as_text().and_then(|text| text.strip_prefix("pause ")) {
            Some(milliseconds) => {
                context.pause();
                context.wake_after(Duration::from_millis(milliseconds.parse().expect("a number")));
            }
            None => context.send(message),
        }
    }

    fn on_wake(&mut self, context: &mut Context<'_>, (): &mut ()) {
        context.send("resumed");
        context.resume();
    }
}

fn on_each_kind_with(limits: &Limits, test: impl Fn(&crore_tests::Server)) {
    on_each_kind(|setup: Setup| test(&setup.start_handler(1, limits.clone(), channel().1, |_| Pausing)));
}

// capability: 65
#[test]
fn nothing_is_read_and_nothing_is_lost_in_a_pause() {
    on_each_kind_with(&limits(), |server| {
        let mut client = server.client();
        for _ in 0..20 {
            client.ask("it gets hot");
        }
        // Far more than the kernel takes for a connection that is not read from.
        client.say("pause 1500");
        let message = masked(TEXT, &[b'x'; 1000]);
        let sent = client.send_until_blocked(&message, 100 << 20);
        assert!(sent < 100 << 20, "the server does not read on");
        assert_eq!(client.frame().payload, b"resumed", "nothing is handled in a pause");
        for _ in 0..sent / message.len() {
            assert_eq!(client.frame().payload, [b'x'; 1000]);
        }
        assert_eq!(server.stats().messages_dropped, 0);
    });
}

#[test]
fn who_is_not_read_from_is_not_cut_by_its_heartbeat() {
    on_each_kind_with(&Limits { ping_interval: Duration::from_millis(200), ..limits() }, |server| {
        let mut client = server.client();
        client.say("pause 1500");
        assert_eq!(client.frame().payload, b"resumed");
        assert_eq!(client.ask("still here"), "still here");
        assert_eq!(server.stats().closed_ping_timeout, 0);
    });
}

#[test]
fn a_pause_ends_with_the_connection() {
    on_each_kind_with(&limits(), |server| {
        let mut client = server.client();
        client.say("pause 3600000");
        server.handle().drain(Duration::from_secs(20));
        let frame = client.frame();
        assert_eq!(frame.first, CLOSE, "a drain does not wait for it");
        client.send(close(1001, ""));
        client.ended();
    });
}
