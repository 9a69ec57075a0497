//! The server as the engine sees it: one [`Session`] on each core, one [`Connection`] for each client.

mod house;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crore_engine::clock::unix_ms;
use crore_engine::{
    Answer, Closed, ConnectionId, Context, CoreContext, CoreId, EngineHandle, Gap, Handler, Message, Notice,
    OwnedMessage, Request, Response, Room,
};

pub(crate) use self::house::{CODE_TRY_AGAIN_LATER, House};
use crate::address::{Addresses, Origin};
use crate::auth::{Auth, Login, Permits, SubscriptionTokens};
use crate::config::{Config, HistoryConfig};
use crate::control::{Census, Inspection, Jobs};
use crate::home::{self, Caught, Following, HandOut, Home, HomeNotice, Pending, Purpose, Waiting};
use crate::inbound::{self, Inbound, Queue, refuse};
use crate::metrics::{CoreCounters, Metrics, Scrape};
use crate::node::Node;
use crate::policy::Policy;
use crate::presence::{self, Presence, PresenceNotice, PresenceShared, Present, Whereabouts};
use crate::rate_limit::{self, RateLimiter};
use crate::reload::NewPolicy;
use crate::router::Router;
use crate::typing::{self, Throttle, Typing};
use crate::users::{Users, is_user_name};
use crate::webhook::{Hook, Webhook};
use crate::wire::{Envelope, Sender};
use crate::{auth, chat, handlers};

/// Bytes of the text that a session keeps for its next message.
const TEXT_KEPT_BYTES_MAX: usize = 64 * 1024;

/// The header that names a user, where a proxy vouches for it.
const USER_HEADER: &str = "X-User-ID";

/// What all cores share for as long as the server runs.
pub(crate) struct Shared {
    pub(crate) node: Node,
    pub(crate) users: Users,
    /// Who is in the plain chat.
    pub(crate) chat: chat::Members,
    /// None where `auth.mode` is `off`.
    pub(crate) auth: Option<Auth>,
    /// None where there are no keys for them.
    pub(crate) subscription_tokens: Option<SubscriptionTokens>,
    addresses: Addresses,
    pub(crate) rate_limiter: Option<RateLimiter>,
    pub(crate) typing: Throttle,
    /// None where no URL is set.
    pub(crate) webhook: Option<Arc<Webhook>>,
    pub(crate) router: Router,
    history: HistoryConfig,
    pub(crate) presence: PresenceShared,
    hand_out: HandOut,
    cores: usize,
    subscriptions_max: u32,
    /// By which channels are given their homes.
    hasher: foldhash::quality::RandomState,
    on_trim: fn(),
    started: Instant,
    pub(crate) metrics: Metrics,
    /// The way to the control thread, which ends with it.
    pub(crate) jobs: Jobs,
    /// For whoever is no core; the cores have theirs without a lock.
    policy: Mutex<Arc<Policy>>,
    /// What the engine has room for, once it has started.
    pub(crate) room: OnceLock<Room>,
}

impl Shared {
    pub(crate) fn new(
        config: &Config,
        router: Router,
        on_trim: fn(),
        (auth, subscription_tokens): (Option<Auth>, Option<SubscriptionTokens>),
        webhook: Option<Webhook>,
        jobs: Jobs,
        policy: Arc<Policy>,
    ) -> Self {
        let cores = config.workers();
        let node = Node::start(config.name.as_deref());
        Self {
            users: Users::new(cores),
            chat: chat::Members::default(),
            addresses: Addresses::new(config),
            auth,
            subscription_tokens,
            rate_limiter: RateLimiter::new(&config.rate_limit),
            typing: Throttle::default(),
            webhook: webhook.map(Arc::new),
            router,
            history: config.history.clone(),
            presence: PresenceShared::new(config, &node.name),
            node,
            hand_out: HandOut {
                bytes: config.engine.outbox_bytes_max / 2,
                messages: config.engine.outbox_messages_max / 2,
            },
            cores,
            subscriptions_max: config.engine.subscriptions_max,
            hasher: foldhash::quality::RandomState::default(),
            on_trim,
            started: Instant::now(),
            metrics: Metrics::new(cores),
            jobs,
            policy: Mutex::new(policy),
            room: OnceLock::new(),
        }
    }

    /// The core that numbers and keeps what is published to a channel with a history.
    pub(crate) fn home_of(&self, channel: &str) -> CoreId {
        home::of(channel, self.cores, &self.hasher)
    }

    /// Topics that a connection may be subscribed to.
    pub(crate) const fn subscriptions_max(&self) -> u32 {
        self.subscriptions_max
    }

    fn new_home(&self) -> Home {
        Home::new(&self.history, self.cores, self.hand_out)
    }

    fn new_presence(&self) -> Presence {
        Presence::new(&self.presence, self.hand_out.bytes)
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// What of the configuration holds at the moment.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All that the metrics are made of.
    pub(crate) fn scrape<'s>(&'s self, engine: &'s EngineHandle) -> Scrape<'s> {
        Scrape {
            node: &self.node,
            uptime: self.uptime(),
            engine,
            room: self.room.get(),
            metrics: &self.metrics,
            jobs: &self.jobs,
            webhook: self.webhook.as_deref(),
        }
    }
}

/// State of one connection: a pointer, to nothing as long as the client has neither name nor room.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    extras: Option<Box<Extras>>,
}

/// What few connections have.
#[derive(Debug, Default)]
struct Extras {
    user: Option<User>,
    /// Where it came from, if that is kept.
    origin: Option<Box<Origin>>,
    rooms: Vec<Box<str>>,
    login: Login,
    seldom: Option<Box<Seldom>>,
    /// Where there is a limit for each connection, and it has sent something.
    rate_state: Option<Box<rate_limit::State>>,
    /// Subscriptions that have not begun, since there was one.
    pending: Option<Box<Pending>>,
    /// Where the connection is known to be, if that is known of any channel.
    present: Option<Box<Present>>,
    /// While a message waits for something, or others wait for that one.
    queue: Option<Box<Queue>>,
}

/// What fewer still have.
#[derive(Debug, Default)]
struct Seldom {
    /// What it may do in channels beyond others.
    permits: Permits,
    typing: Typing,
    /// Where it came by the path of the plain chat.
    chat: Option<Box<chat::Member>>,
    /// What a backend knows of it, and wants to know.
    hook: Hook,
}

/// Who speaks. A million users are idle, so that a name is kept once where that will do.
#[derive(Debug)]
struct User {
    /// The name as a JSON string.
    json: Box<str>,
    /// The name, where it is not what stands between the quotes.
    name: Option<Box<str>>,
}

impl User {
    fn new(name: &str) -> Self {
        let json = serde_json::Value::from(name).to_string().into_boxed_str();
        let is_plain = json.len() == name.len() + 2;
        Self { json, name: (!is_plain).then(|| name.into()) }
    }

    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.json[1..self.json.len() - 1])
    }
}

const _: () = assert!(size_of::<Connection>() <= 8, "a million connections: every byte is a megabyte");

impl Connection {
    /// Who speaks through the connection with this identifier.
    pub(crate) fn sender(&self, id: ConnectionId) -> Sender<'_> {
        match self.user() {
            Some(user) => Sender::User(&user.json),
            None => Sender::Connection(id),
        }
    }

    pub(crate) fn is_member(&self, room: &str) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.rooms.iter().any(|member| **member == *room))
    }

    pub(crate) fn add_room(&mut self, room: &str) {
        self.extras.get_or_insert_default().rooms.push(room.into());
    }

    /// Whether there was one.
    pub(crate) fn remove_room(&mut self, room: &str) -> bool {
        let Some(extras) = &mut self.extras else { return false };
        let Some(index) = extras.rooms.iter().position(|member| **member == *room) else { return false };
        extras.rooms.swap_remove(index);
        if extras.rooms.is_empty() {
            extras.rooms = Vec::new();
        }
        true
    }

    pub(crate) fn take_rooms(&mut self) -> Vec<Box<str>> {
        self.extras.as_mut().map(|extras| std::mem::take(&mut extras.rooms)).unwrap_or_default()
    }

    /// What the limit of the connection goes by.
    pub(crate) fn rate_state(&mut self) -> &mut rate_limit::State {
        self.extras.get_or_insert_default().rate_state.get_or_insert_default()
    }

    fn reset_rate_state(&mut self) {
        if let Some(extras) = &mut self.extras {
            extras.rate_state = None;
        }
    }

    pub(crate) fn pending_mut(&mut self) -> &mut Pending {
        self.extras.get_or_insert_default().pending.get_or_insert_default()
    }

    /// Whether a subscription to a channel is about to begin.
    pub(crate) fn is_pending(&self, channel: &str) -> bool {
        self.extras.as_ref().and_then(|extras| extras.pending.as_ref()).is_some_and(|pending| pending.has(channel))
    }

    /// Gives up the subscriptions to a channel that have not begun.
    pub(crate) fn give_up_pending(&mut self, channel: &str) -> Vec<Waiting> {
        self.pending().map(|pending| pending.give_up(channel)).unwrap_or_default()
    }

    fn pending(&mut self) -> Option<&mut Pending> {
        self.extras.as_mut()?.pending.as_deref_mut()
    }

    pub(crate) fn present(&self) -> Option<&Present> {
        self.extras.as_ref()?.present.as_deref()
    }

    pub(crate) fn present_mut(&mut self) -> &mut Present {
        self.extras.get_or_insert_default().present.get_or_insert_default()
    }

    fn user(&self) -> Option<&User> {
        self.extras.as_ref()?.user.as_ref()
    }

    /// Where it came from, and when, if that is kept.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.extras.as_ref()?.origin.as_deref()
    }

    /// The rooms that it is a member of.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = &str> {
        self.extras.iter().flat_map(|extras| &extras.rooms).map(AsRef::as_ref)
    }

    /// When its user's token ends, in seconds since the Unix epoch.
    pub(crate) fn token_expires_s(&self) -> Option<u32> {
        self.extras.as_ref()?.login.expires_s()
    }

    pub(crate) fn chat(&self) -> Option<&chat::Member> {
        self.extras.as_ref()?.seldom.as_ref()?.chat.as_deref()
    }

    pub(crate) fn chat_mut(&mut self) -> Option<&mut chat::Member> {
        self.extras.as_mut()?.seldom.as_mut()?.chat.as_deref_mut()
    }

    /// Where the client is, if that is kept.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.origin()?.address()
    }

    pub(crate) fn hook(&self) -> Option<&Hook> {
        Some(&self.extras.as_ref()?.seldom.as_ref()?.hook)
    }

    pub(crate) fn hook_mut(&mut self) -> &mut Hook {
        &mut self.extras.get_or_insert_default().seldom.get_or_insert_default().hook
    }

    /// The user's name, if the connection has one besides its identifier.
    pub(crate) fn name(&self) -> Option<&str> {
        self.user().map(User::name)
    }

    pub(crate) fn set_user(&mut self, name: &str) {
        self.extras.get_or_insert_default().user = Some(User::new(name));
    }

    pub(crate) fn login(&mut self) -> Option<&mut Login> {
        Some(&mut self.extras.as_mut()?.login)
    }

    pub(crate) fn login_mut(&mut self) -> &mut Login {
        &mut self.extras.get_or_insert_default().login
    }

    pub(crate) fn permits(&self) -> Option<&Permits> {
        Some(&self.extras.as_ref()?.seldom.as_ref()?.permits)
    }

    pub(crate) fn permits_if_any(&mut self) -> Option<&mut Permits> {
        Some(&mut self.extras.as_mut()?.seldom.as_mut()?.permits)
    }

    pub(crate) fn permits_mut(&mut self) -> &mut Permits {
        &mut self.extras.get_or_insert_default().seldom.get_or_insert_default().permits
    }

    pub(crate) fn typing(&mut self) -> Option<&mut Typing> {
        Some(&mut self.extras.as_mut()?.seldom.as_mut()?.typing)
    }

    pub(crate) fn typing_mut(&mut self) -> &mut Typing {
        &mut self.extras.get_or_insert_default().seldom.get_or_insert_default().typing
    }

    /// Whether what comes has to wait for what has come before.
    pub(crate) fn is_waiting(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.queue.is_some() || extras.login.is_undecided())
    }

    /// Whether a message waits for what is not there yet.
    pub(crate) fn is_awaiting(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| {
            extras.login.is_undecided() || extras.queue.as_ref().is_some_and(|queue| queue.is_awaiting())
        })
    }

    pub(crate) fn queue(&mut self) -> Option<&mut Queue> {
        self.extras.as_mut()?.queue.as_deref_mut()
    }

    pub(crate) fn queue_mut(&mut self) -> &mut Queue {
        self.extras.get_or_insert_default().queue.get_or_insert_default()
    }

    pub(crate) fn take_queue(&mut self) -> Option<Box<Queue>> {
        self.extras.as_mut()?.queue.take()
    }

    /// Whether nothing is done for the connection until it has shown a token.
    pub(crate) fn is_gated(&self, required: bool) -> bool {
        let Some(extras) = &self.extras else { return required };
        extras.user.is_none() && (required || extras.login.gates())
    }
}

/// The server on one core.
pub(crate) struct Session {
    shared: Arc<Shared>,
    policy: Arc<Policy>,
    core: CoreId,
    home: Home,
    presence: Presence,
    text: String,
    recipients: Vec<ConnectionId>,
    /// Bytes that wait in the queues of connections.
    queued_bytes: usize,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, policy: Arc<Policy>, core: CoreId) -> Self {
        let (home, presence) = (shared.new_home(), shared.new_presence());
        Self { shared, policy, core, home, presence, text: String::new(), recipients: Vec::new(), queued_bytes: 0 }
    }

    /// Does something with what has come, and frees the room that an unusually large answer has taken.
    fn inbound(
        &mut self,
        context: &mut Context<'_>,
        connection: &mut Connection,
        act: impl FnOnce(&mut Inbound<'_, '_>),
    ) {
        // Borrowed apart: a clone of the `Arc` would be two writes to a line that all cores share.
        let Self { shared, policy, core, text, recipients, queued_bytes, .. } = self;
        let counters = shared.metrics.core(core.index());
        act(&mut Inbound {
            context,
            connection,
            shared,
            policy,
            counters,
            text,
            recipients,
            now_ms: unix_ms(),
            in_batch: false,
            from_queue: false,
            queued_bytes,
        });
        text.clear();
        text.shrink_to(TEXT_KEPT_BYTES_MAX);
    }

    fn counters(&self) -> &CoreCounters {
        self.shared.metrics.core(self.core.index())
    }

    /// Lets a user, or a connection that is named by its identifier, begin anew.
    fn reset_rate_limit(&mut self, context: &mut CoreContext<'_>, user: &str) {
        let Some(limiter) = &self.shared.rate_limiter else { return };
        limiter.forget_user(user);
        self.recipients.clear();
        self.shared.users.find(user, &mut self.recipients);
        for connection in &self.recipients {
            context.tell(*connection, Box::new(rate_limit::Reset));
        }
    }

    /// The home of a channel says where it stands: the subscription begins behind that place.
    fn begin(&mut self, context: &mut Context<'_>, connection: &mut Connection, following: &Following) {
        let Following { channel, position, caught, .. } = following;
        let waiting = connection.pending().and_then(|pending| pending.take(following));
        // After it has subscribed, or else a message would find nobody to come to for a moment.
        let Some(waiting) = waiting else { return context.lower_interest(channel) };
        let (text, now_ms) = (&mut self.text, unix_ms());
        let anew = !context.is_subscribed(channel);
        let subscribed = context.subscribe(channel);
        context.lower_interest(channel);
        if let Err(error) = subscribed {
            connection.drop_permit(channel);
            self.shared.metrics.core(self.core.index()).errors.add(1);
            return refuse(context, text, waiting.id.as_deref(), &error.into(), now_ms);
        }
        let (kind, key) = match waiting.purpose {
            Purpose::Subscribe => ("subscribed", "subscribed"),
            Purpose::Join => ("joined", "joined"),
        };
        // Who was subscribed all the time has missed nothing.
        let caught = caught.as_ref().filter(|_| anew);
        let reply = Envelope::start(text, kind).id(waiting.id.as_deref()).text("channel", channel);
        let recovered = caught.map(|caught| caught.complete);
        let reply = reply.expires_at(connection.permits().and_then(|permits| permits.expires_ms(channel)));
        context.send(reply.data_followed(key, channel, *position, recovered).finish(now_ms));
        if let Some(Caught { complete, messages }) = caught {
            if !complete {
                let gap = Envelope::start(text, "gap").text("channel", channel);
                let next = position.offset + 1 - messages.len() as u64;
                context.send(gap.json("next", itoa::Buffer::new().format(next)).finish(now_ms));
            }
            for message in messages {
                context.send(&**message);
            }
        }
        if self.policy.channels.options(channel).presence.is_some() {
            presence::enter(&self.shared, context, connection, channel, waiting.metadata);
        }
        if waiting.purpose == Purpose::Join {
            handlers::announce_join(context, connection, &self.policy.channels, channel, text, now_ms);
        }
    }
}

impl Handler for Session {
    type Connection = Connection;

    fn on_request(&mut self, context: &mut Context<'_>, connection: &mut Connection, request: &Request<'_>) -> Answer {
        if let Some(response) = self.policy.site.answer(request, &self.shared.scrape(context.handle())) {
            return Answer::Respond(response);
        }
        let peer = context.peer_address();
        match self.shared.addresses.admit(context.id(), context.now(), peer, request) {
            Ok(None) => {}
            Ok(origin) => connection.extras.get_or_insert_default().origin = origin,
            Err(response) => {
                self.counters().refused_addresses.add(1);
                return Answer::Respond(response);
            }
        }
        if let Some(webhook) = &self.shared.webhook
            && let Some(forwarded) = webhook.forwarded(request)
        {
            connection.hook_mut().forwarded = Some(forwarded);
        }
        // Where tokens say who is who, nothing else does.
        if self.policy.trust_user_header
            && self.shared.auth.is_none()
            && self.shared.addresses.vouches(peer)
            && let Some(name) = request.header(USER_HEADER)
        {
            if !is_user_name(name) {
                return Answer::Respond(Response::text(400, "X-User-ID has 1 to 128 bytes of printable text\n"));
            }
            connection.set_user(name);
        }
        if self.policy.chat_path.as_deref() == Some(request.path) {
            connection.extras.get_or_insert_default().seldom.get_or_insert_default().chat =
                Some(Box::new(chat::Member::of(request)));
        }
        self.policy.door.answer(self.shared.auth.as_ref(), context, connection, request, &mut self.text)
    }

    fn on_open(&mut self, context: &mut Context<'_>, connection: &mut Connection) {
        self.shared.addresses.log_open(context.id(), connection.name(), connection.origin());
        self.shared.metrics.peak.enter();
        let Self { shared, policy, text, .. } = self;
        if policy.any_presence {
            connection.present_mut().opened();
        }
        if let Some(auth) = &shared.auth {
            auth::start(auth, context, connection);
            if connection.is_gated(auth.required) {
                context.hear_broadcasts(false);
                if connection.is_awaiting() {
                    self.inbound(context, connection, |inbound| inbound.begin_wait());
                }
                return;
            }
        }
        House { shared, policy }.open(context, connection, text, true);
        if connection.is_awaiting() {
            self.inbound(context, connection, |inbound| inbound.begin_wait());
        }
    }

    fn on_wake(&mut self, context: &mut Context<'_>, connection: &mut Connection) {
        let Self { shared, policy, text, .. } = self;
        if let Some(auth) = &shared.auth {
            auth::on_wake(auth, House { shared, policy }, context, connection, text);
            if connection.is_awaiting() {
                // A token that was waited for is good, and the backend is asked now.
                self.inbound(context, connection, |inbound| inbound.begin_wait());
            } else if connection.is_waiting() {
                self.inbound(context, connection, |inbound| inbound.go_on());
            }
        }
        if self.shared.subscription_tokens.is_some() {
            self.inbound(context, connection, auth::wake_permits);
        }
        typing::end_some(context, connection, &self.policy.channels, false, &mut self.text, unix_ms());
    }

    /// What the next message needs it makes again: cheap, once a second.
    fn on_trim(&mut self) {
        self.text = String::new();
        self.recipients = Vec::new();
        (self.shared.on_trim)();
    }

    fn memory_bytes(&self) -> usize {
        self.home.memory_bytes() + self.presence.memory_bytes() + self.queued_bytes
    }

    fn on_untold(&mut self, context: &mut CoreContext<'_>, _: ConnectionId, notice: Notice) {
        if let Ok(following) = notice.downcast::<Following>() {
            context.lower_interest(&following.channel);
        }
    }

    fn on_core_wake(&mut self, context: &mut CoreContext<'_>) {
        let Self { shared, policy, core, home, presence, text, .. } = self;
        let counters = shared.metrics.core(core.index());
        home.on_wake(context);
        counters.note_history(home.publications());
        let is_open = |connection| shared.users.is_open(connection);
        presence.on_wake(context, &policy.channels, is_open, text);
        counters.note_presence(presence.numbers());
    }

    fn on_pong(&mut self, _: &mut Context<'_>, _: &mut Connection, round_trip: Duration) {
        self.counters().round_trip(round_trip);
    }

    fn on_message(&mut self, context: &mut Context<'_>, connection: &mut Connection, message: Message<'_>) {
        self.counters().message(message.payload().len());
        self.inbound(context, connection, |inbound| match message.as_text() {
            Some(json) => inbound.text(json),
            None => inbound.binary(),
        });
    }

    /// The client learns where messages are missing, and of which channel.
    fn on_gap(&mut self, _: &mut Connection, gap: Gap<'_>) -> Option<OwnedMessage> {
        Some(Envelope::gap(&mut self.text, gap.topic, gap.dropped).finish(unix_ms()).into())
    }

    /// The home of a channel says where it stands, what a message waits for is there, the control thread asks for what is
    /// known of the connection or where it is present, or its rate limit begins anew.
    fn on_told(&mut self, context: &mut Context<'_>, connection: &mut Connection, notice: Notice) {
        let notice = match notice.downcast::<Following>() {
            Ok(following) => return self.begin(context, connection, &following),
            Err(notice) => notice,
        };
        let notice = match notice.downcast::<inbound::Answer>() {
            Ok(answer) => return self.inbound(context, connection, |inbound| inbound.answered(*answer)),
            Err(notice) => notice,
        };
        let notice = match notice.downcast::<Whereabouts>() {
            Ok(whereabouts) => return whereabouts.answer(context, connection),
            Err(notice) => notice,
        };
        if notice.is::<rate_limit::Reset>() {
            connection.reset_rate_state();
        } else if notice.is::<inbound::GoOn>() {
            self.inbound(context, connection, |inbound| inbound.go_on());
        } else if let Ok(inspection) = notice.downcast::<Inspection>() {
            inspection.answer(context, connection);
        }
    }

    /// A channel's home is asked for something, the configuration has been read again, the control thread asks who
    /// subscribes to what, or a user may begin anew.
    fn on_core_told(&mut self, context: &mut CoreContext<'_>, notice: Notice) {
        let notice = match notice.downcast::<HomeNotice>() {
            Ok(notice) => {
                let Self { shared, policy, core, home, text, .. } = self;
                home.obey(context, *notice, |channel| policy.channels.options(channel), text);
                return shared.metrics.core(core.index()).note_history(home.publications());
            }
            Err(notice) => notice,
        };
        let notice = match notice.downcast::<PresenceNotice>() {
            Ok(notice) => {
                let Self { shared, policy, core, presence, text, .. } = self;
                presence.obey(context, *notice, &policy.channels, text);
                return shared.metrics.core(core.index()).note_presence(presence.numbers());
            }
            Err(notice) => notice,
        };
        let notice = match notice.downcast::<NewPolicy>() {
            Ok(another) => {
                self.policy = another.take(context.core());
                *self.shared.policy.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&self.policy);
                return;
            }
            Err(notice) => notice,
        };
        let notice = match notice.downcast::<rate_limit::ResetUser>() {
            Ok(reset) => return self.reset_rate_limit(context, &reset.0),
            Err(notice) => notice,
        };
        if let Ok(census) = notice.downcast::<Census>() {
            census.answer(context);
        }
    }

    fn on_close(&mut self, context: &mut Context<'_>, connection: &mut Connection, closed: Closed<'_>) {
        let (id, now) = (context.id(), context.now());
        self.shared.addresses.log_close(id, connection.name(), connection.origin(), now, closed);
        self.shared.metrics.peak.leave();
        inbound::give_up(connection, &mut self.queued_bytes);
        if self.shared.users.leave(context.id(), connection.name())
            && let (Some(limiter), Some(user)) = (&self.shared.rate_limiter, connection.name())
        {
            limiter.forget_user(user);
        }
        typing::end_some(context, connection, &self.policy.channels, true, &mut self.text, unix_ms());
        presence::leave_all(&self.shared, context, connection);
        handlers::leave_all(context, connection, &self.policy.channels, &mut self.text, unix_ms());
        if connection.chat().is_some() {
            chat::leave(context, &self.shared.chat, unix_ms());
        }
    }
}
