//! What a message's handler sees and can do.

use std::future::Future;
use std::sync::Arc;

use crore_engine::{ConnectionId, Context, Publication};
use serde_json::value::RawValue;

use crate::channel::{Action, ChannelName, Identity};
use crate::home::{Asker, Excerpt, HomeNotice, Publish, Purpose, Question, Subscribing, Wanted};
use crate::inbound::{self, Inbound, WaitingText};
use crate::metrics::CoreCounters;
use crate::policy::Policy;
use crate::presence;
use crate::session::{Connection, House, Shared};
use crate::webhook::{self, Event, Grant};
use crate::wire::{Envelope, Incoming, PLACE_BYTES_MAX, Refusal, Sender};

/// A message on its way through its handler.
pub struct Call<'a, 'c> {
    pub(crate) message: &'a Incoming<'a>,
    pub(crate) context: &'a mut Context<'c>,
    pub(crate) connection: &'a mut Connection,
    pub(crate) shared: &'a Shared,
    pub(crate) policy: &'a Policy,
    pub(crate) counters: &'a CoreCounters,
    /// Reused for every message that is written.
    pub(crate) text: &'a mut String,
    /// Reused for every list of a user's connections.
    pub(crate) recipients: &'a mut Vec<ConnectionId>,
    pub(crate) now_ms: u64,
    /// What the backend has said to this message, once it has.
    pub(crate) grant: Option<&'a Grant>,
}

impl<'a, 'c> Call<'a, 'c> {
    /// The message.
    #[must_use]
    pub const fn message(&self) -> &'a Incoming<'a> {
        self.message
    }

    /// The engine, as it looks from this connection.
    pub const fn context(&mut self) -> &mut Context<'c> {
        self.context
    }

    /// Who has sent the message.
    #[must_use]
    pub fn sender(&self) -> Sender<'_> {
        self.connection.sender(self.context.id())
    }

    /// Who that is, where it is asked who may do something in a channel.
    pub(crate) fn identity(&self, channel: &str) -> Identity<'_> {
        self.connection.identity(channel, self.is_subscriber(channel))
    }

    /// When the subscription to a channel ends, in milliseconds since the Unix epoch, if it does.
    pub(crate) fn subscription_expires_ms(&self, channel: &ChannelName<'_>) -> Option<u64> {
        self.connection.permits()?.expires_ms(channel.name())
    }

    /// Whether the client may do something in a channel, by the rules of `[[channels]]`. The built-in types ask by
    /// themselves; a handler of your own does so before it [publishes](Self::publish), for example.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`].
    pub fn require(&self, action: Action, channel: &ChannelName<'_>) -> Result<(), Refusal> {
        let rules = &self.policy.channels;
        if !rules.any_access() && matches!(action, Action::Subscribe | Action::Publish) {
            return Ok(());
        }
        self.require_of(action, &self.identity(channel.name()), channel)
    }

    fn require_of(&self, action: Action, identity: &Identity<'_>, channel: &ChannelName<'_>) -> Result<(), Refusal> {
        let may = self.policy.channels.may(action, identity, channel.name());
        if may { Ok(()) } else { Err(Refusal::Forbidden(action.refusal())) }
    }

    /// Whether the client is subscribed to a channel.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`].
    pub(crate) fn require_subscription(&self, channel: &ChannelName<'_>) -> Result<(), Refusal> {
        if self.is_subscriber(channel.name()) {
            return Ok(());
        }
        Err(Refusal::Forbidden("subscribe to the channel first"))
    }

    /// Also while the home of the channel is asked where that stands: what comes behind a `subscribe` comes from a
    /// subscriber.
    fn is_subscriber(&self, channel: &str) -> bool {
        self.context.is_subscribed(channel) || self.connection.is_pending(channel)
    }

    /// Milliseconds since the Unix epoch: the `timestamp` of all that this call writes.
    #[must_use]
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Runs a future on the control thread, and lets the message wait for it: for what a backend says of it, for example.
    /// With the future's value `then` is called as the message's handler would be, and a refusal of it is the
    /// answer. A connection's messages keep their order: what comes behind this one waits as well, in a queue and
    /// then in the socket (`limits.inbound_overload`). What waits when the connection ends is not done.
    ///
    /// The future must await, never block. One that has not ended after a minute is dropped, and the message answered
    /// with [`Refusal::Busy`]; so it is if the future panics.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: as many futures as there may be ([`JOBS_MAX`](crate::control::JOBS_MAX)) have not ended, as many
    /// bytes of messages wait on the core as may (`limits.waiting_bytes_per_core_max`), or the message waits already.
    pub fn wait<T: Send + 'static>(
        &mut self,
        future: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(&mut Call<'_, '_>, T) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<(), Refusal> {
        let message = self.keep()?;
        self.wait_with(message, future, then)
    }

    /// The message in memory of its own, where there is room: what comes in is not kept.
    pub(crate) fn keep(&self) -> Result<WaitingText, Refusal> {
        inbound::keep(self.shared, self.policy, self.context.id().core(), self.message.text())
    }

    /// As [`Self::wait`], with the message that was kept.
    pub(crate) fn wait_with<T: Send + 'static>(
        &mut self,
        message: WaitingText,
        future: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(&mut Call<'_, '_>, T) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<(), Refusal> {
        if self.connection.is_awaiting() {
            return Err(Refusal::Busy);
        }
        let (engine, to) = (self.context.handle().clone(), self.context.id());
        let then = move |inbound: &mut Inbound<'_, '_>, message: &str, value: Result<T, Refusal>| {
            inbound.decode(message, |inbound, message| then(&mut inbound.call(message), value?));
        };
        self.shared.jobs.try_call(inbound::answer(engine, to, future, then))?;
        self.connection.queue_mut().await_answer(message);
        Ok(())
    }

    /// Runs a future on the control thread, with nobody waiting for it: [`Self::wait`] is for what the message's answer
    /// depends on. It must await, never block. To tell somebody something it takes along the connection's identifier and
    /// a clone of the engine's handle ([`Self::context`]).
    ///
    /// # Errors
    /// [`Refusal::Busy`]: as many as there may be ([`JOBS_MAX`](crate::control::JOBS_MAX)) have not ended. The future is dropped.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<(), Refusal> {
        Ok(self.shared.jobs.try_call(future)?)
    }

    /// The `data` of the message, or what the backend has put in its place.
    #[must_use]
    pub fn data(&self) -> &'a str {
        self.grant.and_then(|grant| grant.data.as_deref()).map_or(self.message.data(), RawValue::get)
    }

    /// Calls the handler of the message again, with what the backend has said.
    pub(crate) fn again(&mut self, grant: &Grant) -> Result<(), Refusal> {
        let Self { message, context, connection, shared, policy, counters, text, recipients, now_ms, .. } = self;
        let kind = message.kind();
        let Some(handler) = shared.router.find(kind) else { return Err(Refusal::UnknownType(kind.to_owned())) };
        let (now_ms, grant) = (*now_ms, Some(grant));
        handler(&mut Call { message, context, connection, shared, policy, counters, text, recipients, now_ms, grant })
    }

    /// Whether the connection may subscribe to a channel. False: the backend is being asked, and the message comes again
    /// when it has answered.
    pub(crate) fn may_subscribe(&mut self, channel: &ChannelName<'_>) -> Result<bool, Refusal> {
        let Some(webhook) = &self.shared.webhook else { return Ok(true) };
        let is_asked = self.policy.channels.asks(channel.name(), |webhook| webhook.subscribe);
        if !is_asked || self.grant.is_some() || self.context.is_subscribed(channel.name()) {
            return Ok(true);
        }
        webhook::ask_about(self, webhook, Event::Subscribe, Some(channel.name()), None).map(|()| false)
    }

    /// Whether the connection may publish to a channel, as with [`Self::may_subscribe`]. [`Self::data`] is what it may.
    pub(crate) fn may_publish(&mut self, channel: &ChannelName<'_>) -> Result<bool, Refusal> {
        let Some(webhook) = &self.shared.webhook else { return Ok(true) };
        if self.grant.is_some() || !self.policy.channels.asks(channel.name(), |webhook| webhook.publish) {
            return Ok(true);
        }
        webhook::ask_about(self, webhook, Event::Publish, Some(channel.name()), None).map(|()| false)
    }

    /// Answers a request whose method the backend has.
    pub(crate) fn ask_method(&mut self, method: &str) -> Result<(), Refusal> {
        if let Some(grant) = self.grant {
            let data = grant.data.as_deref().map_or("null", RawValue::get);
            self.reply("response", |reply| reply.data(data));
            return Ok(());
        }
        match &self.shared.webhook {
            Some(webhook) if webhook.decides(Event::Rpc) => {
                webhook::ask_about(self, webhook, Event::Rpc, None, Some(method))
            }
            _ => Err(Refusal::UnknownMethod(method.to_owned())),
        }
    }

    /// Sends a message to the client that called, with the `id` of its message.
    pub fn reply(&mut self, kind: &str, fields: impl FnOnce(Envelope<'_>) -> Envelope<'_>) {
        let envelope = Envelope::start(self.text, kind).id(self.message.id());
        self.context.send(fields(envelope).finish(self.now_ms));
    }

    /// Hands the [`data`](Self::data) of the message to every subscriber of a channel, as a message of type `kind`;
    /// `echo` says whether the sender receives it too, if it is a subscriber. It is not kept in the channel's history.
    ///
    /// # Errors
    /// [`Refusal::MessageTooLong`].
    pub fn publish(&mut self, channel: &ChannelName<'_>, kind: &str, echo: bool) -> Result<(), Refusal> {
        let data = self.data();
        let envelope = Envelope::start(self.text, kind).channel(channel);
        let sender = self.connection.sender(self.context.id());
        let text = envelope.from(sender).data(data).finish(self.now_ms);
        self.policy.fits(text.len())?;
        let except = (!echo).then(|| self.context.id());
        let overflow = self.policy.channels.overflow(channel.name(), Some(data));
        self.context.publish_with(channel.name(), text, Publication { except, overflow });
        Ok(())
    }

    /// Whether publications of a channel are kept, and so made by its home.
    pub(crate) fn has_history(&self, channel: &ChannelName<'_>) -> bool {
        self.policy.channels.options(channel.name()).history.is_some()
    }

    /// As [`Self::publish`], by the home of the channel, which also acknowledges it if that is wanted.
    pub(crate) fn publish_from_home(
        &mut self,
        channel: &ChannelName<'_>,
        kind: &str,
        echo: bool,
        acknowledge: bool,
    ) -> Result<(), Refusal> {
        let (id, data) = (self.context.id(), self.data());
        let sender = self.connection.sender(id);
        let opened = Envelope::start(self.text, kind).channel(channel).from(sender).data(data).leave_open();
        self.policy.fits(opened.len() + PLACE_BYTES_MAX)?;
        let publish = Publish {
            channel: channel.name().into(),
            opened: opened.into(),
            publication: Publication {
                except: (!echo).then_some(id),
                overflow: self.policy.channels.overflow(channel.name(), Some(data)),
            },
            acknowledge: acknowledge.then(|| Asker::Client(id, self.message.id().map(Into::into))),
        };
        let home = self.shared.home_of(channel.name());
        self.context.tell_core(home, Box::new(HomeNotice::Publish(publish)));
        Ok(())
    }

    /// Asks the home of a channel where that stands; the answer completes the subscription.
    pub(crate) fn follow(&mut self, channel: &ChannelName<'_>, purpose: Purpose) -> Result<(), Refusal> {
        let (since, metadata) = (self.message.recover()?, self.metadata(channel)?);
        if since.is_some() {
            self.require_of(Action::SeeHistory, &self.connection.identity(channel.name(), true), channel)?;
        }
        let wanted = Wanted::Subscription(Subscribing { purpose, metadata, is_new: false });
        self.ask_home(channel, wanted, Question::Follow { since })
    }

    /// Subscribes to a channel, and is known to be there if that has a presence.
    pub(crate) fn subscribe(&mut self, channel: &ChannelName<'_>) -> Result<(), Refusal> {
        let metadata = self.metadata(channel)?;
        if !self.context.is_subscribed(channel.name()) {
            self.connection.require_subscription_free(self.context, self.shared.subscriptions_max())?;
        }
        self.context.subscribe(channel.name())?;
        if self.has_presence(channel) {
            presence::enter(self.shared, self.context, self.connection, channel.name(), metadata);
        }
        Ok(())
    }

    /// Whether it is known who subscribes to a channel.
    pub(crate) fn has_presence(&self, channel: &ChannelName<'_>) -> bool {
        self.policy.channels.any_presence() && self.policy.channels.options(channel.name()).presence.is_some()
    }

    /// What the client says of itself, where anybody is told.
    fn metadata(&self, channel: &ChannelName<'_>) -> Result<Option<Arc<str>>, Refusal> {
        if !self.has_presence(channel) {
            return Ok(None);
        }
        Ok(self.message.metadata(self.shared.presence.metadata_bytes_max())?.map(Into::into))
    }

    /// Asks the home of a channel who is there; the answer is the message's.
    pub(crate) fn list_presence(
        &mut self,
        channel: &ChannelName<'_>,
        after: Option<Box<str>>,
        users_max: usize,
    ) -> Result<(), Refusal> {
        self.ask_home(channel, Wanted::Presence, Question::List { after, users_max })
    }

    /// Asks the home of a channel for what it keeps; the answer is the message's.
    pub(crate) fn read_history(&mut self, channel: &ChannelName<'_>, excerpt: Excerpt) -> Result<(), Refusal> {
        self.ask_home(channel, Wanted::History, Question::Read(excerpt))
    }

    fn ask_home(&mut self, channel: &ChannelName<'_>, wanted: Wanted, question: Question) -> Result<(), Refusal> {
        let house = House { shared: self.shared, policy: self.policy };
        let id = self.message.id();
        house.ask(self.context, self.connection, channel.name(), id, (wanted, question), self.text)
    }

    /// Hands the `data` of the message to every open connection, as a message of type `kind`.
    ///
    /// # Errors
    /// [`Refusal::MessageTooLong`].
    pub fn broadcast(&mut self, kind: &str, echo: bool) -> Result<(), Refusal> {
        let sender = self.connection.sender(self.context.id());
        let envelope = Envelope::start(self.text, kind).from(sender);
        let text = envelope.data(self.message.data()).finish(self.now_ms);
        self.policy.fits(text.len())?;
        if echo {
            self.context.broadcast(text);
        } else {
            self.context.broadcast_to_others(text);
        }
        Ok(())
    }

    /// Hands the `data` of the message to every connection of a user, as a message of type `kind`.
    /// Returns how many that were.
    ///
    /// # Errors
    /// The user has no open connection, or the message is too long.
    pub fn send_to_user(&mut self, user: &str, kind: &str) -> Result<usize, Refusal> {
        self.recipients.clear();
        self.shared.users.find(user, self.recipients);
        if self.recipients.is_empty() {
            return Err(Refusal::NotOnline);
        }
        let sender = self.connection.sender(self.context.id());
        let envelope = Envelope::start(self.text, kind).from(sender);
        let text = envelope.data(self.message.data()).finish(self.now_ms);
        self.policy.fits(text.len())?;
        self.context.send_to_each(self.recipients, text);
        Ok(self.recipients.len())
    }
}
