//! What a connection has asked the homes of channels and has not been answered, and what it is going to ask.
//!
//! What has a short answer is asked at once. What may have a long one (a subscription that catches up, a part of a
//! history, a list of who is there) is asked one at a time: the next when the answer before it has come and most of it has
//! been read. So a client that reads is never too slow for what it has asked for itself, however much that is, and one
//! that does not has only one answer made for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crore_engine::{ConnectionId, Notice};

use super::{Asker, Excerpt, Follow, HomeNotice, Read};
use crate::history::Since;
use crate::presence::{List, PresenceNotice};

/// How long a home may take. An answer does not come at all where a core is so far behind that it is told nothing
/// (`mesh_refused`): the message is answered with `busy` then, and a subscription is given up.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages of one connection that wait for homes, at most, beyond one for each subscription that it may have
/// (`limits.subscriptions_max`). More are answered with `busy`.
pub(crate) const REQUESTS_SPARE: usize = 64;

/// What a connection does once it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It subscribes.
    Subscribe,
    /// It subscribes, and is announced as a member.
    Join,
    /// It is subscribed by the backend. What it missed before it may still ask for.
    Enroll,
}

/// What a message is for.
#[derive(Debug)]
pub(crate) enum Wanted {
    Subscription(Subscribing),
    History,
    Presence,
}

/// A subscription that has not begun.
#[derive(Debug)]
pub(crate) struct Subscribing {
    pub(crate) purpose: Purpose,
    /// What the client says of itself, for presence.
    pub(crate) metadata: Option<Arc<str>>,
    /// The connection is not subscribed to the channel, nor has another message asked for that.
    pub(crate) is_new: bool,
}

/// What a home is asked.
#[derive(Debug)]
pub(crate) enum Question {
    Follow { since: Option<Since> },
    Read(Excerpt),
    List { after: Option<Box<str>>, users_max: usize },
}

impl Question {
    const fn is_follow(&self) -> bool {
        matches!(self, Self::Follow { .. })
    }

    /// Whether there may be much to answer.
    const fn is_long(&self) -> bool {
        !matches!(self, Self::Follow { since: None })
    }
}

/// A message that waits.
#[derive(Debug)]
pub(crate) struct Request {
    ticket: u32,
    pub(crate) channel: Box<str>,
    /// The `id` of the client's message.
    pub(crate) id: Option<Box<str>>,
    pub(crate) wanted: Wanted,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// It waits for those before it.
    Waits(Question),
    /// The home has been asked.
    Asked(Asked),
    /// The same, and the client does not want it any more.
    GivenUp(Asked),
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    /// When the home is waited for no longer.
    due: Duration,
    is_long: bool,
}

impl Request {
    /// What has been asked of the home.
    const fn asked(&self) -> Option<Asked> {
        match self.stage {
            Stage::Waits(_) => None,
            Stage::Asked(asked) | Stage::GivenUp(asked) => Some(asked),
        }
    }

    const fn subscribing(&self) -> Option<&Subscribing> {
        match &self.wanted {
            Wanted::Subscription(subscribing) => Some(subscribing),
            Wanted::History | Wanted::Presence => None,
        }
    }

    fn question_bytes(&self) -> usize {
        match &self.stage {
            Stage::Waits(Question::List { after: Some(after), .. }) => after.len(),
            Stage::Waits(_) | Stage::Asked(_) | Stage::GivenUp(_) => 0,
        }
    }

    /// Whether the client still wants it.
    pub(crate) const fn is_wanted(&self) -> bool {
        !matches!(self.stage, Stage::GivenUp(_))
    }

    /// Whether it is about what was published before.
    pub(crate) const fn looks_back(&self) -> bool {
        !matches!(self.stage, Stage::Waits(Question::Follow { since: None }))
    }

    /// Whether a subscription begins with its answer.
    const fn begins(&self) -> bool {
        self.is_wanted() && self.subscribing().is_some()
    }

    /// Whether the core has raised its interest in the channel for it, and has to lower it once it is over.
    pub(crate) const fn holds_interest(&self) -> bool {
        self.asked().is_some() && self.subscribing().is_some()
    }
}

/// A question on its way to a home.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) channel: Box<str>,
    ticket: u32,
    question: Question,
}

impl Outgoing {
    /// Whether it is for a subscription, so that the core has to be interested in the channel before it is asked.
    pub(crate) const fn follows(&self) -> bool {
        matches!(self.question, Question::Follow { .. })
    }

    pub(crate) fn notice(self, to: ConnectionId) -> Notice {
        let Self { channel, ticket, question } = self;
        match question {
            Question::Follow { since } => Box::new(HomeNotice::Follow(Follow { to, ticket, channel, since })),
            Question::Read(excerpt) => {
                let asker = Asker::Client(to, ticket);
                Box::new(HomeNotice::Read(Read { asker, channel, excerpt }))
            }
            Question::List { after, users_max } => {
                let asker = Asker::Client(to, ticket);
                Box::new(PresenceNotice::List(List { asker, channel, after, users_max }))
            }
        }
    }
}

/// Those of one connection, in the order of its messages.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    requests: VecDeque<Request>,
    ticket: u32,
    /// A home has been asked for what may be long.
    long_asked: bool,
    /// Subscriptions that are new.
    new_subscriptions: usize,
}

impl Pending {
    pub(crate) fn heap_bytes(&self) -> usize {
        let length = |request: &Request| {
            let metadata = request.subscribing().and_then(|subscribing| subscribing.metadata.as_ref());
            let id = request.id.as_ref().map_or(0, |id| id.len());
            request.channel.len() + id + metadata.map_or(0, |metadata| metadata.len()) + request.question_bytes()
        };
        self.requests.capacity() * size_of::<Request>() + self.requests.iter().map(length).sum::<usize>()
    }

    /// The channels of subscriptions that are about to begin.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &str> {
        self.requests.iter().filter(|request| request.begins()).map(|request| &*request.channel)
    }

    /// How many there are, with those that have been given up and not been answered.
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Channels that the connection is not subscribed to, and is about to be.
    pub(crate) const fn new_subscriptions(&self) -> usize {
        self.new_subscriptions
    }

    /// Whether the connection is about to subscribe to a channel.
    pub(crate) fn subscribes_to(&self, channel: &str) -> bool {
        self.channels().any(|begins| begins == channel)
    }

    /// Adds one, and returns what the home is to be asked now.
    pub(crate) fn push(
        &mut self,
        channel: &str,
        id: Option<&str>,
        wanted: Wanted,
        question: Question,
        now: Duration,
    ) -> Option<Outgoing> {
        self.ticket = self.ticket.wrapping_add(1);
        let (ticket, id) = (self.ticket, id.map(Into::into));
        // A subscription begins with the first message that asks for it: one behind it that wants to catch up would find
        // it begun, and be handed nothing.
        let begins_later = |request: &Request| request.asked().is_none() && is_for(request, channel);
        let is_behind = question.is_follow() && self.requests.iter().any(begins_later);
        let (stage, outgoing) = if question.is_long() || is_behind {
            (Stage::Waits(question), None)
        } else {
            let asked = Asked { due: now.saturating_add(ANSWER_TIMEOUT), is_long: false };
            (Stage::Asked(asked), Some(Outgoing { channel: channel.into(), ticket, question }))
        };
        let request = Request { ticket, channel: channel.into(), id, wanted, stage };
        self.new_subscriptions += usize::from(is_new(&request));
        self.requests.push_back(request);
        outgoing
    }

    /// The next one whose home is to be asked for something long as soon as there is room for the answer.
    pub(crate) fn next(&self) -> Option<&Request> {
        self.requests.get(self.next_index()?)
    }

    /// Takes that one out, without an answer.
    pub(crate) fn take_next(&mut self) -> Option<Request> {
        self.remove(self.next_index()?)
    }

    /// There is room now for what that one's home answers.
    pub(crate) fn ask_next(&mut self, now: Duration) -> Option<Outgoing> {
        let index = self.next_index()?;
        let request = self.requests.get_mut(index)?;
        let Stage::Waits(question) = &request.stage else { return None };
        let asked = Asked { due: now.saturating_add(ANSWER_TIMEOUT), is_long: question.is_long() };
        let Stage::Waits(question) = std::mem::replace(&mut request.stage, Stage::Asked(asked)) else { return None };
        self.long_asked = asked.is_long;
        Some(Outgoing { channel: request.channel.clone(), ticket: request.ticket, question })
    }

    /// Takes the one out that the home has answered; `None` if that was too late.
    pub(crate) fn take(&mut self, ticket: u32) -> Option<Request> {
        let index = self.requests.iter().position(|request| request.ticket == ticket)?;
        self.remove(index)
    }

    /// Gives up the subscriptions to a channel. Those whose home has been asked stay until it has answered.
    pub(crate) fn give_up(&mut self, channel: &str) -> Vec<Option<Box<str>>> {
        let mut given_up = Vec::new();
        let mut index = 0;
        while let Some(request) = self.requests.get_mut(index) {
            if !is_for(request, channel) {
                index += 1;
                continue;
            }
            given_up.push(request.id.take());
            match request.asked() {
                Some(asked) => {
                    self.new_subscriptions -= usize::from(is_new(request));
                    request.stage = Stage::GivenUp(asked);
                    index += 1;
                }
                None => drop(self.remove(index)),
            }
        }
        given_up
    }

    /// Takes one out that its home has not answered in time.
    pub(crate) fn take_overdue(&mut self, now: Duration) -> Option<Request> {
        let is_over = |request: &Request| request.asked().is_some_and(|asked| asked.due <= now);
        self.remove(self.requests.iter().position(is_over)?)
    }

    /// When the next one is overdue.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.requests.iter().filter_map(Request::asked).map(|asked| asked.due).min()
    }

    /// All of them: the connection has closed.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Request> + use<> {
        std::mem::take(self).requests.into_iter()
    }

    fn next_index(&self) -> Option<usize> {
        let waits = |request: &Request| request.asked().is_none();
        if self.long_asked { None } else { self.requests.iter().position(waits) }
    }

    fn remove(&mut self, index: usize) -> Option<Request> {
        let request = self.requests.remove(index)?;
        self.new_subscriptions -= usize::from(is_new(&request));
        self.long_asked &= !request.asked().is_some_and(|asked| asked.is_long);
        if self.requests.is_empty() {
            self.requests = VecDeque::new();
        }
        Some(request)
    }
}

/// Whether it is a subscription to a channel that the client wants.
fn is_for(request: &Request, channel: &str) -> bool {
    request.begins() && *request.channel == *channel
}

/// Whether it counts among the subscriptions that the connection is going to have.
fn is_new(request: &Request) -> bool {
    request.is_wanted() && request.subscribing().is_some_and(|subscribing| subscribing.is_new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(5);

    fn subscribe(pending: &mut Pending, channel: &str, since: Option<Since>) -> Option<Outgoing> {
        let is_new = !pending.subscribes_to(channel);
        let wanted = Wanted::Subscription(Subscribing { purpose: Purpose::Subscribe, metadata: None, is_new });
        pending.push(channel, Some(channel), wanted, Question::Follow { since }, NOW)
    }

    fn read(pending: &mut Pending, channel: &str) {
        let question = Question::Read(Excerpt { since: Since::Kept, before: None, count: 1 });
        assert!(pending.push(channel, None, Wanted::History, question, NOW).is_none(), "it waits for its turn");
    }

    #[test]
    fn what_may_be_long_is_asked_one_at_a_time() {
        let mut pending = Pending::default();
        read(&mut pending, "a");
        assert!(subscribe(&mut pending, "b", Some(Since::Kept)).is_none());
        let short = subscribe(&mut pending, "c", None).expect("at once");
        assert!(short.follows());
        assert_eq!(&*pending.next().unwrap().channel, "a");
        let first = pending.ask_next(NOW).unwrap();
        assert_eq!((&*first.channel, first.follows()), ("a", false));
        assert!(pending.next().is_none() && pending.ask_next(NOW).is_none());
        assert_eq!(&*pending.take(short.ticket).unwrap().channel, "c");
        assert!(pending.ask_next(NOW).is_none(), "a is not answered");
        assert!(!pending.take(first.ticket).unwrap().holds_interest());
        let second = pending.ask_next(NOW).unwrap();
        assert_eq!((&*second.channel, second.follows()), ("b", true));
        assert!(pending.take(second.ticket).unwrap().holds_interest());
        assert_eq!(pending.len(), 0);
        read(&mut pending, "d");
        assert_eq!(&*pending.take_next().unwrap().channel, "d");
        assert!(pending.next().is_none());
    }

    #[test]
    fn what_is_given_up_is_over_when_the_home_has_answered() {
        let mut pending = Pending::default();
        let asked = subscribe(&mut pending, "a", None).unwrap();
        subscribe(&mut pending, "b", Some(Since::Kept));
        assert_eq!(pending.give_up("b"), [Some("b".into())]);
        assert_eq!(pending.len(), 1, "nobody has been asked");
        assert_eq!(pending.give_up("a"), [Some("a".into())]);
        assert!(!pending.subscribes_to("a") && pending.give_up("a").is_empty());
        let over = pending.take(asked.ticket).unwrap();
        assert!(!over.is_wanted() && over.holds_interest());
        assert!(pending.take(asked.ticket).is_none());
    }

    #[test]
    fn a_home_that_does_not_answer_is_not_waited_for() {
        let mut pending = Pending::default();
        let late = subscribe(&mut pending, "a", None).unwrap();
        read(&mut pending, "b");
        read(&mut pending, "c");
        pending.ask_next(NOW + Duration::from_secs(1)).unwrap();
        assert_eq!(pending.next_due(), Some(NOW + ANSWER_TIMEOUT));
        assert!(pending.take_overdue(NOW + ANSWER_TIMEOUT - Duration::from_nanos(1)).is_none());
        let overdue = pending.take_overdue(NOW + ANSWER_TIMEOUT).unwrap();
        assert!(overdue.holds_interest() && overdue.is_wanted());
        assert!(pending.take(late.ticket).is_none(), "its answer comes too late");
        assert!(pending.take_overdue(NOW + ANSWER_TIMEOUT).is_none());
        assert_eq!(&*pending.take_overdue(NOW * 10).unwrap().channel, "b");
        assert_eq!(&*pending.ask_next(NOW * 10).unwrap().channel, "c", "and the next has its turn");
    }

    #[test]
    fn a_channel_that_is_asked_for_twice_is_one_subscription() {
        let mut pending = Pending::default();
        for channel in ["a", "a", "b"] {
            subscribe(&mut pending, channel, None);
        }
        assert_eq!((pending.len(), pending.new_subscriptions()), (3, 2));
        pending.give_up("a");
        assert_eq!((pending.len(), pending.new_subscriptions()), (3, 1));
        subscribe(&mut pending, "a", None);
        assert_eq!(pending.new_subscriptions(), 2);
        assert_eq!(pending.take_all().count(), 4);
        assert_eq!((pending.len(), pending.new_subscriptions()), (0, 0));
    }
}
