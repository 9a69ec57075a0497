//! What a connection asks the homes of channels, and what it does when they have answered.

use std::time::Duration;

use crore_engine::Context;
use crore_engine::clock::unix_ms;

use super::{Connection, House};
use crate::channel::Action;
use crate::home::{
    Answered, Caught, HandOut, HomeAnswer, Outgoing, Pending, Purpose, Question, REQUESTS_SPARE, Request, Subscribing,
    Wanted,
};
use crate::inbound::refuse;
use crate::metrics::CoreCounters;
use crate::wire::{Envelope, Refusal};
use crate::{handlers, presence};

/// How soon it is looked again whether a client has read enough to be handed more.
const ROOM_INTERVAL: Duration = Duration::from_millis(100);

/// Where a channel stands, and what a connection has missed of it if it wants that.
type Following = (crate::history::Position, Option<Caught>);

impl House<'_> {
    /// Asks the home of a channel what a message needs to be answered: now, or when what has been asked before is.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: as many messages of the connection wait as may. [`Refusal::TooManySubscriptions`].
    pub(crate) fn ask(
        self,
        context: &mut Context<'_>,
        connection: &mut Connection,
        channel: &str,
        id: Option<&str>,
        (mut wanted, question): (Wanted, Question),
        text: &mut String,
    ) -> Result<(), Refusal> {
        let most = self.shared.subscriptions_max();
        if connection.pending_mut().len() >= most as usize + REQUESTS_SPARE {
            self.counters(context).homes_refused.add(1);
            return Err(Refusal::Busy);
        }
        if let Wanted::Subscription(subscribing) = &mut wanted {
            subscribing.is_new = !context.is_subscribed(channel) && !connection.is_pending(channel);
            if subscribing.is_new {
                connection.require_subscription_free(context, most)?;
            }
        }
        if let Some(outgoing) = connection.pending_mut().push(channel, id, wanted, question, context.now()) {
            self.tell_home(context, outgoing);
        }
        self.ask_next(context, connection, HandOut::default(), text);
        Ok(())
    }

    /// Asks the next home, if it is time for that. The connection has been handed so much in this call.
    pub(crate) fn ask_next(
        self,
        context: &mut Context<'_>,
        connection: &mut Connection,
        handed: HandOut,
        text: &mut String,
    ) {
        while let Some(pending) = connection.pending()
            && pending.next().is_some()
            && self.shared.hand_out.has_room(context, handed)
        {
            // It may have waited for long, and the client have lost what let it ask.
            if let Some(action) = self.lost(context, connection) {
                let request = connection.pending().and_then(Pending::take_next);
                let refusal = Refusal::Forbidden(action.refusal());
                request.inspect(|request| self.refuse(context, connection, request, &refusal, text));
            } else if let Some(outgoing) = connection.pending().and_then(|pending| pending.ask_next(context.now())) {
                self.tell_home(context, outgoing);
            }
        }
        let Some(pending) = connection.pending() else { return };
        let again = pending.next().map(|_| ROOM_INTERVAL);
        let overdue = pending.next_due().map(|due| due.saturating_sub(context.now()));
        if let Some(after) = again.into_iter().chain(overdue).min() {
            context.wake_after(after);
        }
    }

    /// What the client may not do any more that the next of its messages is about.
    fn lost(self, context: &Context<'_>, connection: &mut Connection) -> Option<Action> {
        let request = connection.pending()?.next().filter(|request| request.looks_back())?;
        let subscribes = matches!(request.wanted, Wanted::Subscription(_));
        let action = if matches!(request.wanted, Wanted::Presence) { Action::SeePresence } else { Action::SeeHistory };
        let channel = request.channel.clone();
        let is_subscribed = subscribes || context.is_subscribed(&channel) || connection.is_pending(&channel);
        let identity = connection.identity(&channel, is_subscribed);
        (!self.policy.channels.may(action, &identity, &channel)).then_some(action)
    }

    fn tell_home(self, context: &mut Context<'_>, outgoing: Outgoing) {
        if outgoing.follows() {
            context.raise_interest(&outgoing.channel);
        }
        let home = self.shared.home_of(&outgoing.channel);
        let id = context.id();
        context.tell_core(home, outgoing.notice(id));
    }

    /// A home has answered.
    pub(crate) fn answered(
        self,
        context: &mut Context<'_>,
        connection: &mut Connection,
        Answered { ticket, answer }: Answered,
        text: &mut String,
    ) {
        // What comes too late has been answered, and the core's interest been lowered.
        let Some(request) = connection.pending().and_then(|pending| pending.take(ticket)) else { return };
        let handed = match answer {
            HomeAnswer::Following { position, caught } => {
                self.follow(context, connection, request, (position, caught), text)
            }
            HomeAnswer::Kept { position, caught } => {
                let reply = reply(text, &request).data_history(&caught, position).finish(unix_ms());
                context.send(reply);
                HandOut { bytes: reply.len(), messages: 1 }
            }
            HomeAnswer::Present(roster) => {
                let reply = reply(text, &request).data(&roster).finish(unix_ms());
                context.send(reply);
                HandOut { bytes: reply.len(), messages: 1 }
            }
        };
        self.ask_next(context, connection, handed, text);
    }

    /// It is time to look for homes that have not answered, and for clients that have read on.
    pub(crate) fn wake_homes(self, context: &mut Context<'_>, connection: &mut Connection, text: &mut String) {
        let now = context.now();
        while let Some(request) = connection.pending().and_then(|pending| pending.take_overdue(now)) {
            self.counters(context).home_timeouts.add(1);
            if request.holds_interest() {
                context.lower_interest(&request.channel);
            }
            if request.is_wanted() {
                self.refuse(context, connection, &request, &Refusal::Busy, text);
            }
        }
        self.ask_next(context, connection, HandOut::default(), text);
    }

    /// A channel's home says where it stands: the subscription begins behind that place. Returns what the connection has
    /// been handed.
    fn follow(
        self,
        context: &mut Context<'_>,
        connection: &mut Connection,
        mut request: Request,
        (position, caught): Following,
        text: &mut String,
    ) -> HandOut {
        let anew = !context.is_subscribed(&request.channel);
        let subscribed = if request.is_wanted() { context.subscribe(&request.channel) } else { Ok(()) };
        // After it has subscribed, or else a message would find nobody to come to for a moment.
        context.lower_interest(&request.channel);
        let is_wanted = request.is_wanted();
        let Wanted::Subscription(Subscribing { purpose, metadata, .. }) = &mut request.wanted else {
            debug_assert!(false, "a subscription follows");
            return HandOut::default();
        };
        let (purpose, metadata) = (*purpose, metadata.take());
        if !is_wanted {
            return HandOut::default();
        }
        if let Err(error) = subscribed {
            self.refuse(context, connection, &request, &error.into(), text);
            return HandOut::default();
        }
        let (channel, now_ms) = (&*request.channel, unix_ms());
        let kind = match purpose {
            Purpose::Subscribe | Purpose::Enroll => "subscribed",
            Purpose::Join => "joined",
        };
        // Who was subscribed all the time has missed nothing. Whom the backend has subscribed has missed what was before.
        let enrolled = if caught.is_some() || anew { connection.take_enrolled(channel) } else { None };
        let begun = if anew { Some(position) } else { enrolled };
        let caught = caught.zip(begun).map(|(caught, begun)| caught.until(begun, position));
        if anew && purpose == Purpose::Enroll {
            connection.hook_mut().enrolled.push((channel.into(), position));
        }
        let expires_ms = connection.permits().and_then(|permits| permits.expires_ms(channel));
        let recovered = caught.as_ref().map(|caught| caught.complete);
        let reply = Envelope::start(text, kind).id(request.id.as_deref()).text("channel", channel);
        let reply = reply.expires_at(expires_ms).data_followed(kind, channel, position, recovered);
        context.send(reply.finish(now_ms));
        let handed = caught.as_ref().map(Caught::size).unwrap_or_default();
        if let Some(Caught { complete, messages }) = caught {
            if !complete {
                let gap = Envelope::start(text, "gap").text("channel", channel);
                let end = begun.filter(|begun| begun.epoch == position.epoch).unwrap_or(position);
                let next = (end.offset + 1).saturating_sub(messages.len() as u64);
                context.send(gap.json("next", itoa::Buffer::new().format(next)).finish(now_ms));
            }
            for message in messages {
                context.send(&*message);
            }
        }
        if self.policy.channels.options(channel).presence.is_some() {
            presence::enter(self.shared, context, connection, channel, metadata);
        }
        if purpose == Purpose::Join {
            handlers::announce_join(context, connection, &self.policy.channels, channel, text, now_ms);
        }
        handed
    }

    fn refuse(
        self,
        context: &mut Context<'_>,
        connection: &mut Connection,
        request: &Request,
        refusal: &Refusal,
        text: &mut String,
    ) {
        let subscribes = matches!(request.wanted, Wanted::Subscription(_));
        let has_none = !context.is_subscribed(&request.channel) && !connection.is_pending(&request.channel);
        if subscribes && has_none {
            connection.drop_permit(&request.channel);
        }
        self.counters(context).count_refused(refusal);
        refuse(context, connection, text, request.id.as_deref(), refusal, unix_ms());
    }

    fn counters(&self, context: &Context<'_>) -> &CoreCounters {
        self.shared.metrics.core(context.id().core().index())
    }
}

fn reply<'t>(text: &'t mut String, request: &Request) -> Envelope<'t> {
    Envelope::start(text, "response").id(request.id.as_deref()).text("channel", &request.channel)
}

/// The connection has closed: what its core was to hear for it, it need not hear any more.
pub(super) fn forget_homes(context: &mut Context<'_>, connection: &mut Connection) {
    let Some(pending) = connection.pending() else { return };
    for request in pending.take_all().filter(Request::holds_interest) {
        context.lower_interest(&request.channel);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::num::NonZeroU16;
    use std::thread;
    use std::time::Instant;

    use crore_engine::{CoreId, Publication};
    use serde_json::{Value, json};
    use tokio::sync::oneshot;

    use super::*;
    use crate::Server;
    use crate::channel::{ChannelOptions, ChannelRule};
    use crate::config::Config;
    use crate::home::pending::ANSWER_TIMEOUT;
    use crate::home::{Asker, HomeNotice, Publish};
    use crate::test_support::{Client, Stall};

    // capability: 85
    #[test]
    fn a_home_that_does_not_answer_makes_nobody_wait_for_ever() {
        let options = ChannelOptions { history: Some(10), ..ChannelOptions::default() };
        let rule = ChannelRule { pattern: "*".parse().unwrap(), options, ..ChannelRule::default() };
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config { listen, cores: NonZeroU16::new(2), channels: vec![rule], ..Config::default() };
        let (server, stall) = Stall::on(Server::new(config), ANSWER_TIMEOUT * 3);
        let running = thread::spawn(|| server.start().unwrap()).join().unwrap();
        let mut client = Client::on_core(running.address(), '0', ANSWER_TIMEOUT * 3);
        let mut other = Client::on_core(running.address(), '1', ANSWER_TIMEOUT * 3);
        stall.begin(&mut other);
        // Of so many channels some are at home on either core.
        let asked = Instant::now();
        let subscribe = |name: u64| json!({"type": "subscribe", "id": name, "channel": name.to_string()});
        (0..32).for_each(|name| client.say(&subscribe(name)));
        let replies: Vec<Value> = (0..32).map(|_| client.next()).collect();
        assert!(asked.elapsed() >= ANSWER_TIMEOUT);
        let refused: Vec<_> = replies.iter().filter(|reply| reply["code"] == "busy").collect();
        let subscribed = replies.iter().filter(|reply| reply["type"] == "subscribed").count();
        assert!(refused.len() > 2 && subscribed > 2 && refused.len() + subscribed == 32, "{replies:?}");
        stall.end();
        // What comes too late is nobody's; who asks again is answered, and hears each message once.
        for reply in refused {
            let name = reply["id"].as_u64().unwrap();
            client.say(&subscribe(name));
            assert_eq!(client.next()["type"], "subscribed");
            client.say(&json!({"type": "message", "channel": name.to_string(), "data": name}));
            assert_eq!(client.next()["data"], name);
        }
        client.say(&json!({"type": "ping"}));
        assert_eq!(client.next()["type"], "pong");
        drop((client, other));
        running.handle().drain(Duration::ZERO);
        running.join().unwrap();
    }

    // capability: 85
    #[test]
    fn a_publication_that_nobody_waits_for_any_more_is_not_made() {
        let options = ChannelOptions { history: Some(10), ..ChannelOptions::default() };
        let rule = ChannelRule { pattern: "*".parse().unwrap(), options, ..ChannelRule::default() };
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config { listen, cores: NonZeroU16::new(1), channels: vec![rule], ..Config::default() };
        let running = thread::spawn(|| Server::new(config).start().unwrap()).join().unwrap();
        let mut client = Client::on_core(running.address(), '0', ANSWER_TIMEOUT);
        client.ask(&json!({"type": "subscribe", "id": 1, "channel": "news"}));
        let publish = |data: &str, answer| {
            let opened = format!(r#"{{"type":"message","channel":"news","data":"{data}""#).into();
            let (channel, publication) = ("news".into(), Publication::default());
            let publish = Publish { channel, opened, publication, acknowledge: Some(Asker::Api(answer)) };
            running.handle().tell_core(CoreId(0), Box::new(HomeNotice::Publish(publish))).unwrap();
        };
        let (answer, given_up) = oneshot::channel();
        drop(given_up);
        publish("given up", answer);
        let (answer, answered) = oneshot::channel();
        publish("waited for", answer);
        assert_eq!(answered.blocking_recv().unwrap().offset, 1);
        let told = client.next();
        assert_eq!((&told["data"], &told["offset"]), (&json!("waited for"), &json!(1)));
        running.handle().drain(Duration::ZERO);
        running.join().unwrap();
    }
}
