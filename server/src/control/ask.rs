//! Questions to the cores, and their answers. A core answers between two messages; what it does for one question is
//! bounded, and who waits for the answer does so for [`ANSWER_TIMEOUT`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crore_engine::{ConnectionId, Context, CoreContext, CoreId, EngineHandle, Memory, Notice, Survey, Surveyed};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot::{Receiver, Sender, channel};
use tokio::time::timeout;

use super::error::ApiError;
use crate::channel::is_internal;
use crate::home::Asker;
use crate::presence::{Whereabouts, WhereaboutsReport};
use crate::session::Connection;
use crate::wire::Refusal;

/// How long a core may take to answer: so long that one whose host gives it little time is not taken for one that is stuck.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Connections or channels that one answer names, at most.
pub(super) const PART_MAX: usize = 1000;

/// Places in a core's tables that one question makes it look at: a fraction of a millisecond.
pub(super) const PLACES_MAX: usize = 4096;

/// What a line says of a connection.
pub(crate) struct Summary {
    pub(super) id: ConnectionId,
    pub(super) user: Option<String>,
    /// Where it came from, if that is kept and was known.
    pub(super) address: Option<IpAddr>,
    /// How long ago, if that is kept.
    pub(super) age: Option<Duration>,
    pub(super) channel_count: usize,
    pub(super) queued_bytes: usize,
}

impl Summary {
    fn new(context: &Context<'_>, connection: &Connection) -> Self {
        let origin = connection.origin();
        Self {
            id: context.id(),
            user: connection.name().map(str::to_owned),
            address: origin.and_then(|origin| Some(origin.address()?.to_canonical())),
            age: origin.map(|origin| origin.age(context.now())),
            channel_count: channels(context).count(),
            queued_bytes: context.outbox_bytes(),
        }
    }
}

/// A connection as its core knows it.
pub(crate) struct Report {
    pub(super) summary: Summary,
    /// At most [`PART_MAX`] of them.
    pub(super) channels: Vec<String>,
    /// Those of them that it has joined.
    pub(super) rooms: Vec<String>,
    /// When its user's token ends, in seconds since the Unix epoch.
    pub(super) token_expires_s: Option<u32>,
    pub(super) memory: Memory,
}

/// To a connection: what is known of it?
pub(crate) enum Inspection {
    /// All of it.
    Report(Sender<Report>),
    /// What a line says; one of many that are asked.
    Summary(UnboundedSender<Summary>),
}

impl Inspection {
    /// Answers, on the connection's core. Whoever has asked may have given up.
    pub(crate) fn answer(self, context: &Context<'_>, connection: &Connection) {
        let summary = Summary::new(context, connection);
        match self {
            Self::Summary(answer) => drop(answer.send(summary)),
            Self::Report(answer) => drop(answer.send(Report {
                summary,
                channels: channels(context).take(PART_MAX).map(str::to_owned).collect(),
                rooms: connection.rooms().take(PART_MAX).map(str::to_owned).collect(),
                token_expires_s: connection.token_expires_s(),
                memory: memory(context, connection),
            })),
        }
    }
}

/// What a connection subscribes to, but for what the server has it hear.
fn channels<'c>(context: &'c Context<'_>) -> impl Iterator<Item = &'c str> {
    context.subscriptions().filter(|topic| !is_internal(topic))
}

/// Bytes that are held for a connection alone, by class.
fn memory(context: &Context<'_>, connection: &Connection) -> Memory {
    let mut memory = context.memory();
    memory.session += connection.heap_bytes() as u64;
    memory
}

/// A part of the channels that a core has subscribers of.
#[derive(Default)]
pub(crate) struct Listing {
    /// Names, and subscribers on that core.
    pub(super) channels: Vec<(String, usize)>,
    /// The place to go on from, if there are more.
    pub(super) next: Option<usize>,
}

/// To a core: who subscribes to what?
pub(crate) enum Census {
    /// The channels from a place on, so many at most.
    List { from: usize, count: usize, answer: Sender<Listing> },
    /// Of the channels from a place on those with the most subscribers on this core: so many at most, and only such as
    /// have so many.
    Top { from: usize, count: usize, subscribers_min: usize, answer: Sender<Listing> },
    /// How many subscribe to each of these.
    Count { names: Arc<[String]>, answer: Sender<Vec<usize>> },
}

impl Census {
    /// Answers, on the core.
    pub(crate) fn answer(self, context: &CoreContext<'_>) {
        match self {
            Self::List { from, count, answer } => drop(answer.send(list(context, from, count))),
            Self::Top { from, count, subscribers_min, answer } => {
                drop(answer.send(top(context, from, count, subscribers_min)));
            }
            Self::Count { names, answer } => {
                drop(answer.send(names.iter().map(|name| context.subscribers(name)).collect()));
            }
        }
    }
}

fn list(context: &CoreContext<'_>, from: usize, count: usize) -> Listing {
    let mut channels = Vec::new();
    let mut next = from.saturating_add(PLACES_MAX);
    for (place, name, subscribers) in context.topics(from, PLACES_MAX).filter(|(_, name, _)| !is_internal(name)) {
        if channels.len() == count {
            next = place;
            break;
        }
        channels.push((name.to_owned(), subscribers));
    }
    Listing { channels, next: (next < context.topic_places()).then_some(next) }
}

fn top(context: &CoreContext<'_>, from: usize, count: usize, subscribers_min: usize) -> Listing {
    let topics = context.topics(from, PLACES_MAX).filter(|(_, _, subscribers)| *subscribers >= subscribers_min);
    let topics = topics.filter(|(_, name, _)| !is_internal(name));
    let mut largest: Vec<(usize, &str)> = topics.map(|(_, name, subscribers)| (subscribers, name)).collect();
    if largest.len() > count {
        largest.select_nth_unstable_by(count, |one, other| other.cmp(one));
        largest.truncate(count);
    }
    let next = from.saturating_add(PLACES_MAX);
    Listing {
        channels: largest.into_iter().map(|(subscribers, name)| (name.to_owned(), subscribers)).collect(),
        next: (next < context.topic_places()).then_some(next),
    }
}

/// What is known of a connection; `None` if it is not open.
pub(super) async fn inspect(engine: &EngineHandle, id: ConnectionId) -> Result<Option<Report>, ApiError> {
    if id.core().index() >= engine.cores() {
        return Ok(None);
    }
    let (answer, answered) = channel();
    engine.tell(id, Box::new(Inspection::Report(answer))).map_err(|_| Refusal::Busy)?;
    match timeout(ANSWER_TIMEOUT, answered).await {
        Ok(report) => Ok(report.ok()),
        Err(_) => Err(Refusal::Busy.into()),
    }
}

/// A line for each of some connections that is open, in no order.
pub(super) async fn summaries(engine: &EngineHandle, ids: &[ConnectionId]) -> Result<Vec<Summary>, ApiError> {
    let (answer, mut answered) = unbounded_channel();
    for id in ids.iter().filter(|id| id.core().index() < engine.cores()) {
        let told = engine.tell(*id, Box::new(Inspection::Summary(answer.clone())));
        unless_ended(engine, told.map_err(|_| Refusal::Busy.into()))?;
    }
    // What is left are those of the questions: each ends with its answer, or with its connection.
    drop(answer);
    let mut summaries = Vec::new();
    let gathered = async {
        while let Some(summary) = answered.recv().await {
            summaries.push(summary);
        }
    };
    timeout(ANSWER_TIMEOUT, gathered).await.map_err(|_| Refusal::Busy)?;
    Ok(summaries)
}

/// A part of the open connections of one core, and what waits for each.
pub(super) fn survey(engine: &EngineHandle, core: CoreId, survey: Survey) -> Result<Receiver<Surveyed>, ApiError> {
    let (answer, answered) = channel();
    engine.survey(core, survey, |found| drop(answer.send(found)))?;
    Ok(answered)
}

/// The largest of a part of one core's channels.
pub(super) fn top_channels(
    engine: &EngineHandle,
    core: CoreId,
    from: usize,
    count: usize,
    subscribers_min: usize,
) -> Result<Receiver<Listing>, ApiError> {
    let (answer, answered) = channel();
    tell(engine, core, Box::new(Census::Top { from, count, subscribers_min, answer }))?;
    Ok(answered)
}

/// Where connections are present. All are asked at once; those that close meanwhile are left out.
pub(super) async fn whereabouts(
    engine: &EngineHandle,
    connections: &[ConnectionId],
) -> Result<Vec<WhereaboutsReport>, ApiError> {
    let mut waiting = Vec::new();
    for connection in connections {
        let (answer, answered) = channel();
        engine.tell(*connection, Box::new(Whereabouts(answer))).map_err(|_| Refusal::Busy)?;
        waiting.push(answered);
    }
    let mut reports = Vec::new();
    for answered in waiting {
        match timeout(ANSWER_TIMEOUT, answered).await {
            Ok(report) => reports.extend(report),
            Err(_) => return Err(Refusal::Busy.into()),
        }
    }
    Ok(reports)
}

/// A part of the channels of one core.
pub(super) async fn channel_part(
    engine: &EngineHandle,
    core: CoreId,
    from: usize,
    count: usize,
) -> Result<Listing, ApiError> {
    let (answer, answered) = channel();
    tell(engine, core, Box::new(Census::List { from, count, answer }))?;
    wait(answered).await
}

/// Subscribers of each of some channels, by core. All cores are asked at once.
pub(super) async fn counts(engine: &EngineHandle, names: Vec<String>) -> Result<Vec<Vec<usize>>, ApiError> {
    let names: Arc<[String]> = names.into();
    let mut waiting = Vec::new();
    for core in cores(engine) {
        let (answer, answered) = channel();
        let told = tell(engine, core, Box::new(Census::Count { names: Arc::clone(&names), answer }));
        waiting.push(unless_ended(engine, told)?.map(|()| answered));
    }
    let mut counts = Vec::new();
    for answered in waiting {
        let counted = match answered {
            Some(answered) => unless_ended(engine, wait(answered).await)?,
            None => None,
        };
        counts.push(counted.unwrap_or_else(|| vec![0; names.len()]));
    }
    Ok(counts)
}

/// The answer of a channel's home to a question that is made with the way back.
pub(super) async fn home<T, W, N: Send + 'static>(
    engine: &EngineHandle,
    home: CoreId,
    question: impl FnOnce(Asker<T, W>) -> N,
) -> Result<T, ApiError> {
    let (answer, answered) = channel();
    tell(engine, home, Box::new(question(Asker::Api(answer))))?;
    wait(answered).await
}

/// A core that has ended does not answer, and has nothing to say: they end one by one when the server stops.
pub(super) fn unless_ended<T>(engine: &EngineHandle, outcome: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match outcome {
        Ok(answer) => Ok(Some(answer)),
        Err(_) if engine.is_draining() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn cores(engine: &EngineHandle) -> impl Iterator<Item = CoreId> + use<> {
    (0..=u16::MAX).take(engine.cores()).map(CoreId)
}

fn tell(engine: &EngineHandle, core: CoreId, notice: Notice) -> Result<(), ApiError> {
    Ok(engine.tell_core(core, notice).map_err(|_| Refusal::Busy)?)
}

pub(super) async fn wait<T>(answered: Receiver<T>) -> Result<T, ApiError> {
    match timeout(ANSWER_TIMEOUT, answered).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(Refusal::Busy.into()),
    }
}
