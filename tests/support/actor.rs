//! A handler that does what its clients tell it, and reports what it is told by the engine.

use std::time::Duration;

use crore_engine::{
    Answer, CloseCause, Closed, Closing, ConnectionId, Context, Gap, Handler, Message, MessageKind, OwnedMessage,
    Request, Response,
};

use crate::server::Reports;

/// What the engine has told a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `on_open`.
    Opened(ConnectionId),
    /// `on_message`, but for commands.
    Message(MessageKind, Vec<u8>),
    /// `on_ping`.
    Ping(Vec<u8>),
    /// `on_pong`.
    Pong(Duration),
    /// `on_writable`.
    Writable,
    /// `on_gap`, with the topic and how many messages were dropped.
    Gap(Option<String>, u32),
    /// `on_closing`.
    Closing {
        /// The connection that this side closes.
        id: ConnectionId,
        /// The code of the close frame.
        code: u16,
        /// Who closes it.
        cause: CloseCause,
    },
    /// `on_close`.
    Closed {
        /// The connection that has ended.
        id: ConnectionId,
        /// Its close code.
        code: u16,
        /// The peer's reason.
        reason: String,
        /// Who ended it.
        cause: CloseCause,
    },
}

/// Echoes every message but those that start with one of the words in [`Actor::obey`].
///
/// The lines of a message are obeyed one after the other, within one call.
#[derive(Debug)]
pub struct Actor {
    reports: Reports,
}

impl Actor {
    /// An actor that reports to `reports`.
    #[must_use]
    pub const fn new(reports: Reports) -> Self {
        Self { reports }
    }

    fn report(&self, event: Event) {
        // A test that has seen enough does not listen any more.
        let _ = self.reports.send(event);
    }

    /// Does what one line says; false if it is no command.
    fn obey(context: &mut Context<'_>, line: &str) -> bool {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "id" => context.send(&context.id().as_u64().to_string()),
            "core" => context.send(&context.core().to_string()),
            "say" => context.send(rest),
            "subscribe" => match context.subscribe(first) {
                Ok(()) => context.send("subscribed"),
                Err(error) => context.send(&error.to_string()),
            },
            "unsubscribe" => {
                context.unsubscribe(first);
                context.send("unsubscribed");
            }
            "publish" => context.publish(first, second),
            "publish_to_others" => context.publish_to_others(first, second),
            "broadcast" => context.broadcast(rest),
            "broadcast_to_others" => context.broadcast_to_others(rest),
            "send_to" => context.send_to(ConnectionId::from_u64(number(first)), second),
            "close" => context.close(number(first), second),
            "terminate" => context.terminate(),
            // So many messages of so many bytes.
            "flood" => {
                let payload = vec![b'x'; number(second)];
                for _ in 0..number::<u32>(first) {
                    context.send(&payload);
                }
            }
            _ => return false,
        }
        true
    }
}

fn number<N: std::str::FromStr>(text: &str) -> N {
    text.parse().ok().expect("a test writes its numbers well")
}

impl Handler for Actor {
    /// Whether this side has begun to close it.
    type Connection = bool;

    fn on_request(&mut self, _: &mut Context<'_>, _: &mut bool, request: &Request<'_>) -> Answer {
        match request.path {
            "/missing" => Answer::Respond(Response::text(404, "nothing is served here\n")),
            "/page" => Answer::Respond(Response {
                content_type: "text/html".into(),
                headers: vec![("X-Extra".into(), "1".into())],
                ..Response::text(200, "<p>hello</p>")
            }),
            "/chat" => Answer::Upgrade { subprotocol: Some("chat".to_owned()) },
            _ => Answer::upgrade(),
        }
    }

    fn on_open(&mut self, context: &mut Context<'_>, _: &mut bool) {
        self.report(Event::Opened(context.id()));
    }

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut bool, message: Message<'_>) {
        let text = message.as_text().unwrap_or_default();
        let mut commands = 0;
        for line in text.lines() {
            commands += usize::from(Self::obey(context, line));
        }
        if commands == 0 {
            self.report(Event::Message(message.kind(), message.payload().to_vec()));
            context.send(message);
        }
    }

    fn on_ping(&mut self, _: &mut Context<'_>, _: &mut bool, payload: &[u8]) {
        self.report(Event::Ping(payload.to_vec()));
    }

    fn on_pong(&mut self, _: &mut Context<'_>, _: &mut bool, round_trip: Duration) {
        self.report(Event::Pong(round_trip));
    }

    fn on_writable(&mut self, _: &mut Context<'_>, _: &mut bool) {
        self.report(Event::Writable);
    }

    /// The gaps of topics are announced.
    fn on_gap(&mut self, _: &mut bool, gap: Gap<'_>) -> Option<OwnedMessage> {
        self.report(Event::Gap(gap.topic.map(str::to_owned), gap.dropped));
        Some(format!("gap {} {}", gap.topic?, gap.dropped).into())
    }

    fn on_closing(&mut self, context: &mut Context<'_>, closing: &mut bool, Closing { code, cause }: Closing) {
        assert!(!std::mem::replace(closing, true), "the end begins once");
        self.report(Event::Closing { id: context.id(), code, cause });
    }

    fn on_close(&mut self, context: &mut Context<'_>, closing: &mut bool, closed: Closed<'_>) {
        let Closed { code, reason, cause, was_closing } = closed;
        assert_eq!(was_closing, *closing, "what has begun here, the handler has been told");
        self.report(Event::Closed { id: context.id(), code, reason: reason.to_owned(), cause });
    }
}
