//! Questions to the cores, and their answers. A core answers between two messages; what it does for one question is
//! bounded, and who waits for the answer does so for [`ANSWER_TIMEOUT`].

use std::sync::Arc;
use std::time::Duration;

use crore_engine::{ConnectionId, Context, CoreContext, CoreId, EngineHandle, Memory, Notice};
use tokio::sync::oneshot::{Receiver, Sender, channel};
use tokio::time::timeout;

use super::error::ApiError;
use crate::home::{Asker, HomeNotice};
use crate::wire::Refusal;

/// How long a core may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Channels that one answer names, at most.
pub(super) const CHANNELS_MAX: usize = 1000;

/// Places in a core's table of topics that one question makes it look at: a fraction of a millisecond.
const PLACES_MAX: usize = 4096;

/// A connection as its core knows it.
pub(crate) struct Report {
    pub(crate) user: Option<String>,
    /// At most [`CHANNELS_MAX`] of them.
    pub(crate) channels: Vec<String>,
    pub(crate) channel_count: usize,
    pub(crate) queued_bytes: usize,
    pub(crate) memory: Memory,
}

/// To a connection: what is known of it?
pub(crate) struct Inspection(Sender<Report>);

impl Inspection {
    /// Answers, on the connection's core.
    pub(crate) fn answer(self, context: &Context<'_>, user: Option<&str>) {
        // Whoever has asked may have given up.
        let _ = self.0.send(Report {
            user: user.map(str::to_owned),
            channels: context.subscriptions().take(CHANNELS_MAX).map(str::to_owned).collect(),
            channel_count: context.subscriptions().count(),
            queued_bytes: context.outbox_bytes(),
            memory: context.memory(),
        });
    }
}

/// A part of the channels that a core has subscribers of.
pub(crate) struct Listing {
    /// Names, and subscribers on that core.
    pub(super) channels: Vec<(String, usize)>,
    /// The place to go on from, if there are more.
    pub(super) next: Option<usize>,
}

/// To a core: who subscribes to what?
pub(crate) enum Survey {
    /// The channels from a place on, so many at most.
    List { from: usize, count: usize, answer: Sender<Listing> },
    /// How many subscribe to each of these.
    Count { names: Arc<[String]>, answer: Sender<Vec<usize>> },
}

impl Survey {
    /// Answers, on the core.
    pub(crate) fn answer(self, context: &CoreContext<'_>) {
        match self {
            Self::List { from, count, answer } => drop(answer.send(list(context, from, count))),
            Self::Count { names, answer } => {
                drop(answer.send(names.iter().map(|name| context.subscribers(name)).collect()));
            }
        }
    }
}

fn list(context: &CoreContext<'_>, from: usize, count: usize) -> Listing {
    let mut channels = Vec::new();
    let mut next = from.saturating_add(PLACES_MAX);
    for (place, name, subscribers) in context.topics(from, PLACES_MAX) {
        if channels.len() == count {
            next = place;
            break;
        }
        channels.push((name.to_owned(), subscribers));
    }
    Listing { channels, next: (next < context.topic_places()).then_some(next) }
}

/// What is known of a connection; `None` if it is not open.
pub(super) async fn inspect(engine: &EngineHandle, id: ConnectionId) -> Result<Option<Report>, ApiError> {
    let (answer, answered) = channel();
    engine.tell(id, Box::new(Inspection(answer))).map_err(|_| Refusal::Busy)?;
    match timeout(ANSWER_TIMEOUT, answered).await {
        Ok(report) => Ok(report.ok()),
        Err(_) => Err(Refusal::Busy.into()),
    }
}

/// A part of the channels of one core.
pub(super) async fn channels(
    engine: &EngineHandle,
    core: CoreId,
    from: usize,
    count: usize,
) -> Result<Listing, ApiError> {
    let (answer, answered) = channel();
    tell(engine, core, Box::new(Survey::List { from, count, answer }))?;
    wait(answered).await
}

/// Subscribers of each of some channels, by core. All cores are asked at once.
pub(super) async fn counts(engine: &EngineHandle, names: Vec<String>) -> Result<Vec<Vec<usize>>, ApiError> {
    let names: Arc<[String]> = names.into();
    let mut waiting = Vec::new();
    for core in cores(engine) {
        let (answer, answered) = channel();
        tell(engine, core, Box::new(Survey::Count { names: Arc::clone(&names), answer }))?;
        waiting.push(answered);
    }
    let mut counts = Vec::new();
    for answered in waiting {
        counts.push(wait(answered).await?);
    }
    Ok(counts)
}

/// The answer of a channel's home to a question that is made with the way back.
pub(super) async fn home<T>(
    engine: &EngineHandle,
    home: CoreId,
    question: impl FnOnce(Asker<T>) -> HomeNotice,
) -> Result<T, ApiError> {
    let (answer, answered) = channel();
    tell(engine, home, Box::new(question(Asker::Api(answer))))?;
    wait(answered).await
}

pub(super) fn cores(engine: &EngineHandle) -> impl Iterator<Item = CoreId> + use<> {
    (0..=u16::MAX).take(engine.cores()).map(CoreId)
}

fn tell(engine: &EngineHandle, core: CoreId, notice: Notice) -> Result<(), ApiError> {
    Ok(engine.tell_core(core, notice).map_err(|_| Refusal::Busy)?)
}

async fn wait<T>(answered: Receiver<T>) -> Result<T, ApiError> {
    match timeout(ANSWER_TIMEOUT, answered).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(Refusal::Busy.into()),
    }
}
