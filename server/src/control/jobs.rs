//! From the data cores to the control thread.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

/// Calls that wait for the control thread or are under way on it, at most. A backend that takes 100 ms to answer is
/// asked 20,000 times a second by so many; one that does not answer must not fill the memory with what waits for it.
pub const JOBS_MAX: usize = 2048;

/// Those of them that are questions to the webhook's backend about one event, at most: what waits for one that is slow
/// leaves room for the other three.
pub const QUESTIONS_MAX: usize = JOBS_MAX / 4;

/// The control thread has as many calls as it may ([`JOBS_MAX`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

/// The way to the control thread. The thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Jobs {
    runtime: Handle,
    free: Arc<Semaphore>,
    refused: AtomicU64,
    _alive: oneshot::Sender<()>,
}

impl Jobs {
    pub(super) fn new(runtime: Handle, alive: oneshot::Sender<()>) -> Self {
        Self { runtime, free: Arc::new(Semaphore::new(JOBS_MAX)), refused: AtomicU64::new(0), _alive: alive }
    }

    /// Runs a future on the control thread. It must await, never block; what comes of it goes back through an
    /// [`EngineHandle`](crore_engine::EngineHandle).
    ///
    /// # Errors
    /// [`JOBS_MAX`] of them have not ended. The future is dropped.
    pub(crate) fn try_call(&self, job: impl Future<Output = ()> + Send + 'static) -> Result<(), Busy> {
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Busy);
        };
        drop(self.runtime.spawn(async move {
            job.await;
            drop(permit);
        }));
        Ok(())
    }

    /// Calls refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use tokio::runtime::Builder;
    use tokio::sync::Notify;

    use super::*;

    #[test]
    fn as_many_calls_as_there_may_be_and_no_more() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let (alive, ended) = oneshot::channel();
        let jobs = Jobs::new(runtime.handle().clone(), alive);
        let thread = thread::spawn(move || runtime.block_on(ended).unwrap_err());
        let (gate, (done, finished)) = (Arc::new(Notify::new()), channel());
        for _ in 0..JOBS_MAX {
            let (gate, done) = (Arc::clone(&gate), done.clone());
            let job = async move {
                gate.notified().await;
                done.send(()).unwrap();
            };
            assert_eq!(jobs.try_call(job), Ok(()));
        }
        assert_eq!((jobs.try_call(async {}), jobs.refused()), (Err(Busy), 1));
        gate.notify_one();
        finished.recv_timeout(Duration::from_secs(20)).unwrap();
        // The permit comes back right after that.
        while jobs.free.available_permits() == 0 {
            thread::yield_now();
        }
        assert_eq!((jobs.try_call(async {}), jobs.refused()), (Ok(()), 1));
        drop(jobs);
        thread.join().unwrap();
    }
}
