//! Who is slow, and what is listened to most, on all cores.
//!
//! Every connection and every channel is looked at, by all cores at the same time and a part after another, so that
//! each goes on with its work in between. Whoever asks while that is done waits for the same result; who asks soon after
//! gets it, too. So the cores spend a small and bounded part of their time on it, however many ask how often.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crore_engine::{ConnectionId, CoreId, EngineHandle, Survey, Surveyed};
use tokio::sync::Mutex;
use tokio::sync::oneshot::Receiver;
use tokio::time::Instant;

use super::ask::{self, Listing, PLACES_MAX, Summary};
use super::error::ApiError;

/// Connections or channels that are named.
pub(super) const TOP_MAX: usize = 100;

/// How long a result is given out, at least.
const KEPT_MIN: Duration = Duration::from_secs(1);

/// How many times as long as it took a result is given out.
const KEPT_TIMES_TAKEN: u32 = 20;

/// Channels whose subscribers on all cores are counted: as many as have the most on the cores where they were found.
/// One that is not among the first [`TOP_MAX`] of any core is not found.
const CANDIDATES_MAX: usize = 2 * TOP_MAX;

/// The connections for which the most waits.
pub(super) struct SlowConsumers {
    /// At most [`TOP_MAX`], the most queued bytes first.
    pub(super) connections: Vec<Summary>,
    /// Open connections for which anything waits.
    pub(super) count: usize,
    /// Bytes that wait for them.
    pub(super) queued_bytes: usize,
}

/// Names and subscribers of the largest channels: at most [`TOP_MAX`], the largest first.
pub(super) struct TopChannels(pub(super) Vec<(String, usize)>);

/// What was found last.
#[derive(Default)]
pub(super) struct Surveys {
    slow: Kept<SlowConsumers>,
    channels: Kept<TopChannels>,
}

/// A result, and how long ago it was made.
pub(super) type Aged<T> = (Arc<T>, Duration);

impl Surveys {
    pub(super) async fn slow_consumers(&self, engine: &EngineHandle) -> Result<Aged<SlowConsumers>, ApiError> {
        self.slow.get(|| slow_consumers(engine)).await
    }

    pub(super) async fn top_channels(&self, engine: &EngineHandle) -> Result<Aged<TopChannels>, ApiError> {
        self.channels.get(|| top_channels(engine)).await
    }
}

/// A result that is made anew when it is too old.
struct Kept<T>(Mutex<Option<Made<T>>>);

struct Made<T> {
    result: Arc<T>,
    at: Instant,
    keep: Duration,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Kept<T> {
    async fn get<F: Future<Output = Result<T, ApiError>>>(
        &self,
        make: impl FnOnce() -> F,
    ) -> Result<Aged<T>, ApiError> {
        let mut kept = self.0.lock().await;
        if let Some(made) = &*kept
            && made.at.elapsed() < made.keep
        {
            return Ok((Arc::clone(&made.result), made.at.elapsed()));
        }
        let started = Instant::now();
        let result = Arc::new(make().await?);
        *kept = Some(Made { result: Arc::clone(&result), at: Instant::now(), keep: keep(started.elapsed()) });
        Ok((result, Duration::ZERO))
    }
}

/// How long a result is given out that it took so long to make.
fn keep(taken: Duration) -> Duration {
    (taken * KEPT_TIMES_TAKEN).max(KEPT_MIN)
}

async fn slow_consumers(engine: &EngineHandle) -> Result<SlowConsumers, ApiError> {
    #[derive(Default)]
    struct Found {
        count: usize,
        queued_bytes: usize,
        slowest: Vec<(usize, ConnectionId)>,
    }
    let ask = |_: &Found, core, from| {
        let all = PLACES_MAX;
        ask::survey(engine, core, Survey { from, places_max: all, connections_max: all, queued_bytes_min: 1 })
    };
    let take = |found: &mut Found, _, Surveyed { connections, next }: Surveyed| {
        found.count += connections.len();
        found.queued_bytes += connections.iter().map(|(_, queued)| queued).sum::<usize>();
        found.slowest.extend(connections.into_iter().map(|(id, queued)| (queued, id)));
        found.slowest.sort_unstable_by(|one, other| other.cmp(one));
        found.slowest.truncate(TOP_MAX);
        next
    };
    let Found { count, queued_bytes, slowest } = in_parts(engine, Found::default(), ask, take).await?;
    let ids: Vec<ConnectionId> = slowest.into_iter().map(|(_, id)| id).collect();
    let mut connections = ask::summaries(engine, &ids).await?;
    connections.sort_unstable_by_key(|summary| Reverse((summary.queued_bytes, summary.id)));
    Ok(SlowConsumers { connections, count, queued_bytes })
}

/// Names and subscribers.
type Channels = Vec<(String, usize)>;

async fn top_channels(engine: &EngineHandle) -> Result<TopChannels, ApiError> {
    let none = vec![Channels::new(); engine.cores()];
    // The last one of a core's first ones: who has fewer need not be named.
    let last = |largest: &Channels| largest.get(TOP_MAX - 1).map_or(1, |(_, subscribers)| *subscribers);
    let ask = |by_core: &Vec<Channels>, core: CoreId, from| {
        ask::top_channels(engine, core, from, TOP_MAX, last(&by_core[core.index()]))
    };
    let take = |by_core: &mut Vec<Channels>, core: CoreId, Listing { channels, next }: Listing| {
        let largest = &mut by_core[core.index()];
        largest.extend(channels);
        sort_and_cut(largest, TOP_MAX);
        next
    };
    let by_core = in_parts(engine, none, ask, take).await?;
    let mut sums: HashMap<String, usize> = HashMap::new();
    for (name, subscribers) in by_core.into_iter().flatten() {
        *sums.entry(name).or_default() += subscribers;
    }
    let mut candidates: Channels = sums.into_iter().collect();
    sort_and_cut(&mut candidates, CANDIDATES_MAX);
    let names: Vec<String> = candidates.into_iter().map(|(name, _)| name).collect();
    let counts = ask::counts(engine, names.clone()).await?;
    let total = |index: usize| counts.iter().map(|of_core| of_core[index]).sum();
    let mut channels: Channels = names.into_iter().enumerate().map(|(index, name)| (name, total(index))).collect();
    channels.retain(|(_, subscribers)| *subscribers > 0);
    sort_and_cut(&mut channels, TOP_MAX);
    Ok(TopChannels(channels))
}

/// The largest first, those of the same size by name; and no more than so many.
fn sort_and_cut(channels: &mut Channels, most: usize) {
    channels.sort_unstable_by(|(name, size), (other, other_size)| other_size.cmp(size).then_with(|| name.cmp(other)));
    channels.truncate(most);
}

/// Asks every core for one part after another, all of them at the same time. `take` says where a core's next part
/// begins. A core that has ended, as they do one by one when the server stops, has nothing more to say.
async fn in_parts<S, T>(
    engine: &EngineHandle,
    mut state: S,
    ask: impl Fn(&S, CoreId, usize) -> Result<Receiver<T>, ApiError>,
    take: impl Fn(&mut S, CoreId, T) -> Option<usize>,
) -> Result<S, ApiError> {
    let mut places: Vec<(CoreId, usize)> = ask::cores(engine).map(|core| (core, 0)).collect();
    while !places.is_empty() {
        let mut asked = Vec::new();
        for (core, place) in places.drain(..) {
            if let Some(answered) = ask::unless_ended(engine, ask(&state, core, place))? {
                asked.push((core, answered));
            }
        }
        for (core, answered) in asked {
            if let Some(part) = ask::unless_ended(engine, ask::wait(answered).await)?
                && let Some(next) = take(&mut state, core, part)
            {
                places.push((core, next));
            }
        }
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_kept_for_longer_than_it_took() {
        assert_eq!(keep(Duration::ZERO), Duration::from_secs(1));
        assert_eq!(keep(Duration::from_millis(50)), Duration::from_secs(1));
        assert_eq!(keep(Duration::from_millis(300)), Duration::from_secs(6));
    }

    #[test]
    fn the_largest_come_first_and_no_more_than_so_many() {
        let mut channels: Channels =
            [("b", 2), ("a", 2), ("c", 9), ("d", 1)].map(|(name, size)| (name.to_owned(), size)).into();
        sort_and_cut(&mut channels, 3);
        assert_eq!(channels.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["c", "a", "b"]);
    }
}
