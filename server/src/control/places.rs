//! Places of the second listener's connections, and who has to make room when all are taken.
//!
//! It takes no key to connect, so that strangers could take every place and say nothing, while the load balancer waits
//! for `/readyz`. When all places are taken the connection goes that has been waited for the longest: for the end of its
//! first request's head, or of another one's after its last answer. One whose request is being dealt with stays.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::metrics::Counter;

/// Connections at one time. One more takes the place of one that says nothing, or waits in the kernel.
pub(super) const CONNECTIONS_MAX: usize = 256;

/// How long every connection is waited for, however many come: time for a head, and for an answer to leave.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// All places.
pub(super) struct Places {
    free: Arc<Semaphore>,
    waiting: Arc<Mutex<Waiting>>,
    /// Connections that had to make room.
    evicted: Arc<Counter>,
}

/// Connections of which a request's head is awaited, by their turn: the first has been for the longest.
#[derive(Default)]
struct Waiting {
    turns: u64,
    by_turn: BTreeMap<u64, Waiter>,
}

struct Waiter {
    since: Instant,
    evict: Arc<Notify>,
}

/// One connection's place, free again when it is dropped.
pub(super) struct Place {
    waiting: Arc<Mutex<Waiting>>,
    turn: AtomicU64,
    evict: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Places {
    pub(super) fn new(evicted: Arc<Counter>) -> Self {
        Self { free: Arc::new(Semaphore::new(CONNECTIONS_MAX)), waiting: Arc::default(), evicted }
    }

    /// A place for a connection that has come, which is waited for from now on.
    pub(super) async fn take(&self) -> Place {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                break permit;
            }
            let pause = self.evict();
            if let Ok(Ok(permit)) = timeout(pause, Arc::clone(&self.free).acquire_owned()).await {
                break permit;
            }
        };
        let place = Place {
            waiting: Arc::clone(&self.waiting),
            turn: AtomicU64::new(0),
            evict: Arc::default(),
            _permit: permit,
        };
        place.waits();
        place
    }

    /// Lets the longest awaited connection go, if it has had its time; returns how long to wait for a place before the
    /// next has.
    fn evict(&self) -> Duration {
        let mut waiting = lock(&self.waiting);
        let Some(first) = waiting.by_turn.first_entry() else { return WAIT_MIN };
        let left = WAIT_MIN.saturating_sub(first.get().since.elapsed());
        if left.is_zero() {
            first.remove().evict.notify_one();
            self.evicted.add(1);
            return WAIT_MIN;
        }
        left
    }
}

impl Place {
    /// A request's head has come.
    pub(super) fn works(&self) {
        lock(&self.waiting).by_turn.remove(&self.turn.load(Ordering::Relaxed));
    }

    /// The next one's is awaited.
    pub(super) fn waits(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.turns += 1;
        let turn = waiting.turns;
        waiting.by_turn.insert(turn, Waiter { since: Instant::now(), evict: Arc::clone(&self.evict) });
        self.turn.store(turn, Ordering::Relaxed);
    }

    /// Comes when the connection has to make room.
    pub(super) async fn evicted(&self) {
        self.evict.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.works();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use tokio::runtime::Builder;

    use super::*;

    /// With a clock that goes on when everybody waits, and no sooner.
    fn run(test: impl Future<Output = ()>) {
        Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test);
    }

    async fn full(places: &Places) -> Vec<Place> {
        let mut taken = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            taken.push(places.take().await);
        }
        taken
    }

    fn is_evicted(place: &Place) -> bool {
        pin!(place.evicted()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    // capability: 33 82
    #[test]
    fn who_has_been_waited_for_the_longest_makes_room() {
        run(async {
            let places = Places::new(Arc::default());
            let mut taken = full(&places).await;
            assert!(!taken.iter().any(is_evicted));
            // The first two are dealt with; the second has been answered.
            taken[0].works();
            taken[1].works();
            taken[1].waits();
            let begun = Instant::now();
            let mut next = pin!(places.take());
            assert!(timeout(WAIT_MIN / 2, &mut next).await.is_err());
            assert!(!taken.iter().any(is_evicted), "everyone has some time");
            assert!(timeout(WAIT_MIN, &mut next).await.is_err());
            assert_eq!(taken.iter().position(is_evicted), Some(2));
            drop(taken.remove(2));
            let newcomer = next.await;
            assert!(begun.elapsed() <= 2 * WAIT_MIN && !is_evicted(&newcomer));
            assert_eq!(places.evicted.read(), 1);
        });
    }

    // capability: 33 82
    #[test]
    fn who_is_dealt_with_stays() {
        run(async {
            let places = Places::new(Arc::default());
            let mut taken = full(&places).await;
            taken.iter().for_each(Place::works);
            assert!(timeout(20 * WAIT_MIN, places.take()).await.is_err());
            assert!(!taken.iter().any(is_evicted) && places.evicted.read() == 0);
            taken.pop();
            drop(places.take().await);
            drop(taken);
            assert!(lock(&places.waiting).by_turn.is_empty(), "nothing is left of them");
        });
    }
}
