//! The server as the engine sees it: one [`Session`] on each core, one [`Connection`] for each client.

mod connection;
mod homes;
mod house;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crore_engine::clock::unix_ms;
use crore_engine::{
    Answer, Closed, Closing, ConnectionId, Context, CoreContext, CoreId, EngineHandle, Gap, Handler, Message, Notice,
    OwnedMessage, Request, Response, Room,
};

pub(crate) use self::connection::{Connection, names_bytes};
pub(crate) use self::house::{CODE_TRY_AGAIN_LATER, House};
use crate::address::{Addresses, Whence};
use crate::auth::{Auth, SubscriptionTokens};
use crate::config::{Config, HistoryConfig};
use crate::control::{Census, Inspection, Jobs};
use crate::home::{self, Answered, HandOut, Home, HomeNotice};
use crate::inbound::{self, Inbound, QueueBounds};
use crate::metrics::{CoreCounters, Metrics, Scrape};
use crate::node::Node;
use crate::policy::Policy;
use crate::presence::{self, Presence, PresenceNotice, PresenceShared, Whereabouts};
use crate::rate_limit::{self, RateLimiter};
use crate::reload::NewPolicy;
use crate::router::Router;
use crate::typing::{self, Throttle};
use crate::users::{USER_NAME_RULE, Users, is_user_name};
use crate::webhook::Webhook;
use crate::wire::Envelope;
use crate::{auth, chat, handlers};

/// Bytes of the text that a session keeps for its next message.
const TEXT_KEPT_BYTES_MAX: usize = 64 * 1024;

/// Messages that wait take a quarter of a core's share of the memory budget at most.
const WAITING_PART: u64 = 4;

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
    pub(crate) hand_out: HandOut,
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
            hand_out: HandOut::of_outbox(config.engine.outbox_bytes_max, config.engine.outbox_messages_max),
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

    /// Bytes of messages that may wait on one core: as many as are set, and no more than a part of what the core may hold.
    pub(crate) fn waiting_bytes_max(&self, bounds: &QueueBounds) -> usize {
        let Some(room) = self.room.get() else { return bounds.core_bytes_max };
        let part = room.memory_budget_bytes / self.cores as u64 / WAITING_PART;
        bounds.core_bytes_max.min(usize::try_from(part).unwrap_or(usize::MAX))
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

    /// Does something by what holds, before a core goes over to anything else.
    pub(crate) fn with_policy<R>(&self, act: impl FnOnce(&Policy) -> R) -> R {
        act(&self.policy.lock().unwrap_or_else(PoisonError::into_inner))
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
            auth: self.auth.as_ref(),
            webhook: self.webhook.as_deref(),
            rate_limiter: self.rate_limiter.as_ref(),
        }
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
    /// When the turn under way began, by the core's clock and in milliseconds since the Unix epoch.
    turn: (Duration, u64),
    /// Bytes of heap that connections have.
    state_bytes: usize,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, policy: Arc<Policy>, core: CoreId) -> Self {
        let (home, presence) = (shared.new_home(), shared.new_presence());
        let (text, recipients, turn) = (String::new(), Vec::new(), (Duration::MAX, 0));
        Self { shared, policy, core, home, presence, text, recipients, turn, state_bytes: 0 }
    }

    /// Does something with what has come, and frees the room that an unusually large answer has taken.
    fn inbound(
        &mut self,
        context: &mut Context<'_>,
        connection: &mut Connection,
        act: impl FnOnce(&mut Inbound<'_, '_>),
    ) {
        // Borrowed apart: a clone of the `Arc` would be two writes to a line that all cores share.
        let Self { shared, policy, core, text, recipients, turn, .. } = self;
        let counters = shared.metrics.core(core.index());
        if turn.0 != context.now() {
            *turn = (context.now(), unix_ms());
        }
        act(&mut Inbound {
            context,
            connection,
            shared,
            policy,
            counters,
            text,
            recipients,
            now_ms: turn.1,
            in_batch: false,
            from_queue: false,
        });
        text.clear();
        text.shrink_to(TEXT_KEPT_BYTES_MAX);
    }

    /// Counts what a connection has by now. Whatever may change that ends with this.
    fn weigh(&mut self, connection: &mut Connection) {
        self.state_bytes = self.state_bytes.wrapping_add_signed(connection.grown_bytes());
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

    fn open(&mut self, context: &mut Context<'_>, connection: &mut Connection) {
        self.shared.addresses.log_open(context.id(), connection.name(), connection.origin());
        self.shared.metrics.peak.enter();
        let Self { shared, policy, text, .. } = self;
        if policy.channels.any_presence() {
            connection.present_mut().opened();
        }
        if let Some(auth) = &shared.auth {
            auth::start(auth, context, connection);
            if connection.is_gated(auth.required) {
                context.hear_broadcasts(false);
                if connection.is_awaiting() {
                    self.inbound(context, connection, |inbound| inbound.pace());
                }
                return;
            }
        }
        House { shared, policy }.open(context, connection, text, true);
        if connection.is_awaiting() {
            self.inbound(context, connection, |inbound| inbound.pace());
        }
    }

    /// A time has come that the connection has asked for.
    fn wake(&mut self, context: &mut Context<'_>, connection: &mut Connection) {
        let Self { shared, policy, text, .. } = self;
        if let Some(auth) = &shared.auth {
            auth::on_wake(auth, House { shared, policy }, context, connection, text);
            if connection.is_awaiting() {
                // A token that was waited for is good, and the backend is asked now.
                self.inbound(context, connection, |inbound| inbound.pace());
            } else if connection.is_waiting() {
                self.inbound(context, connection, |inbound| inbound.go_on());
            }
        }
        if self.shared.subscription_tokens.is_some() {
            self.inbound(context, connection, auth::wake_permits);
        }
        let Self { shared, policy, text, .. } = self;
        typing::end_some(context, connection, &policy.channels, false, text, unix_ms());
        House { shared, policy }.wake_homes(context, connection, text);
    }

    /// A connection has left, as far as anybody can reach it or see it. Nothing comes from it any more, and nothing that
    /// it still waits for comes to it, so that it does not enter again.
    fn let_go(&mut self, context: &mut Context<'_>, connection: &mut Connection) {
        inbound::give_up(connection, self.shared.metrics.waiting(self.core));
        if self.shared.users.leave(context.id(), connection.name())
            && let (Some(limiter), Some(user)) = (&self.shared.rate_limiter, connection.name())
        {
            limiter.user_gone(user);
        }
        homes::forget_homes(context, connection);
        // Where all are closed at once nobody is told of each: of a large room that would be its square in messages.
        if context.handle().drain_terms().is_some_and(|terms| terms.spread.is_zero()) {
            return;
        }
        typing::end_some(context, connection, &self.policy.channels, true, &mut self.text, unix_ms());
        presence::leave_all(&self.shared, context, connection);
        handlers::leave_all(context, connection, &self.policy.channels, &mut self.text, unix_ms());
        if connection.chat().is_some() {
            chat::leave(context, &self.shared.chat, unix_ms());
        }
    }

    fn told(&mut self, context: &mut Context<'_>, connection: &mut Connection, notice: Notice) {
        let notice = match notice.downcast::<Answered>() {
            Ok(answered) => {
                let Self { shared, policy, text, .. } = self;
                return House { shared, policy }.answered(context, connection, *answered, text);
            }
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
}

/// The user that a request names, or what is wrong with the name.
fn user<'r>(request: &Request<'r>) -> Result<Option<&'r str>, Cow<'static, str>> {
    let mut names = request.header_values(USER_HEADER);
    match (names.next(), names.next()) {
        (None, _) => Ok(None),
        (Some(name), None) if is_user_name(name) => Ok(Some(name)),
        (Some(_), None) => Err(format!("{USER_HEADER} has {USER_NAME_RULE}\n").into()),
        // One of them may be the client's own, which the proxy has let pass.
        (Some(_), Some(_)) => Err("X-User-ID comes once: the proxy has to replace what the client sends\n".into()),
    }
}

impl Handler for Session {
    type Connection = Connection;

    fn on_request(&mut self, context: &mut Context<'_>, connection: &mut Connection, request: &Request<'_>) -> Answer {
        if let Some(response) = self.policy.site.answer(request, &self.shared.scrape(context.handle())) {
            return Answer::Respond(response);
        }
        let from = Whence::of(context);
        match self.shared.addresses.admit(context.id(), context.now(), from, request) {
            Ok(None) => {}
            Ok(origin) => connection.set_origin(origin),
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
        if self.policy.trust_user_header && self.shared.auth.is_none() && self.shared.addresses.vouches(from) {
            match user(request) {
                Ok(None) => {}
                Ok(Some(name)) => connection.set_user(name),
                Err(problem) => return Answer::Respond(Response::text(400, problem)),
            }
        }
        if self.policy.chat_path.as_deref() == Some(request.path) {
            connection.set_chat_member(chat::Member::of(request));
        }
        self.policy.door.answer(self.shared.auth.as_ref(), context, connection, request, &mut self.text)
    }

    fn on_open(&mut self, context: &mut Context<'_>, connection: &mut Connection) {
        self.open(context, connection);
        self.weigh(connection);
    }

    fn on_wake(&mut self, context: &mut Context<'_>, connection: &mut Connection) {
        self.wake(context, connection);
        self.weigh(connection);
    }

    /// The client has read what it was sent: there is room for what it has asked for besides.
    fn on_writable(&mut self, context: &mut Context<'_>, connection: &mut Connection) {
        let Self { shared, policy, text, .. } = self;
        House { shared, policy }.ask_next(context, connection, HandOut::default(), text);
        self.weigh(connection);
    }

    /// What the next message needs it makes again: cheap, once a second.
    fn on_trim(&mut self) {
        self.text = String::new();
        self.recipients = Vec::new();
        (self.shared.on_trim)();
    }

    fn memory_bytes(&self) -> usize {
        let Self { shared, core, home, presence, state_bytes, .. } = self;
        // What all cores share is counted with the first.
        let limiter = shared.rate_limiter.as_ref().filter(|_| core.index() == 0);
        let users = limiter.and_then(RateLimiter::user_numbers).map_or(0, |numbers| numbers.bytes);
        home.memory_bytes() + presence.memory_bytes() + shared.metrics.waiting(*core).read() + state_bytes + users
    }

    fn on_core_wake(&mut self, context: &mut CoreContext<'_>) {
        let Self { shared, policy, core, home, presence, text, .. } = self;
        let counters = shared.metrics.core(core.index());
        home.on_wake(context);
        counters.note_history(home.numbers());
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
        self.weigh(connection);
    }

    /// The client learns where messages are missing, and of which channel.
    fn on_gap(&mut self, _: &mut Connection, gap: Gap<'_>) -> Option<OwnedMessage> {
        Some(Envelope::gap(&mut self.text, gap.topic, gap.dropped).finish(unix_ms()).into())
    }

    /// The home of a channel has answered, what a message waits for is there, the control thread asks for what is
    /// known of the connection or where it is present, or its rate limit begins anew.
    fn on_told(&mut self, context: &mut Context<'_>, connection: &mut Connection, notice: Notice) {
        self.told(context, connection, notice);
        self.weigh(connection);
    }

    /// A channel's home is asked for something, the configuration has been read again, the control thread asks who
    /// subscribes to what, or a user may begin anew.
    fn on_core_told(&mut self, context: &mut CoreContext<'_>, notice: Notice) {
        let notice = match notice.downcast::<HomeNotice>() {
            Ok(notice) => {
                let Self { shared, policy, core, home, text, .. } = self;
                home.obey(context, *notice, |channel| policy.retention(channel), text);
                return shared.metrics.core(core.index()).note_history(home.numbers());
            }
            Err(notice) => notice,
        };
        let notice = match notice.downcast::<PresenceNotice>() {
            Ok(notice) => {
                let Self { shared, policy, core, presence, .. } = self;
                presence.obey(context, *notice, &policy.channels);
                return shared.metrics.core(core.index()).note_presence(presence.numbers());
            }
            Err(notice) => notice,
        };
        let notice = match notice.downcast::<NewPolicy>() {
            Ok(another) => {
                self.policy = another.policy();
                *self.shared.policy.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&self.policy);
                let Self { policy, home, .. } = self;
                home.go_over(|channel| policy.retention(channel));
                return another.note_taken(context.core());
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

    /// Its client may never answer the close frame, or be back before it does: the connection is its user's no more.
    fn on_closing(&mut self, context: &mut Context<'_>, connection: &mut Connection, _: Closing) {
        self.let_go(context, connection);
        self.weigh(connection);
    }

    /// The log and what counts connections, those of an address among them, go by this: until now there was a socket, and
    /// how it has ended was not known.
    fn on_close(&mut self, context: &mut Context<'_>, connection: &mut Connection, closed: Closed<'_>) {
        let (id, now) = (context.id(), context.now());
        self.shared.addresses.log_close(id, connection.name(), connection.origin(), now, closed);
        self.shared.metrics.peak.leave();
        if !closed.was_closing {
            self.let_go(context, connection);
        }
        self.state_bytes -= connection.counted_bytes();
    }
}
