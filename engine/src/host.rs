//! What runs a worker's turns, and waits when there is nothing to do.

use std::io;
use std::time::Duration;

use crate::engine::HostKind;
use crate::handler::Handler;
use crate::limits::BUSY_TURNS_MAX;
use crate::mesh::Doorbell;
use crate::uring::Ring;
use crate::worker::{Progress, Worker};

/// Runs a worker on the calling thread until its drain is complete.
pub(crate) fn run<H: Handler>(kind: HostKind, worker: Worker<Ring, H>, doorbell: &Doorbell) -> io::Result<()> {
    match kind {
        HostKind::Runtime => {
            let mut ring = tokio_uring::uring_builder();
            // Not DEFER_TASKRUN: the runtime polls this ring's own descriptor, which that never wakes.
            ring.setup_coop_taskrun().setup_single_issuer();
            tokio_uring::builder().entries(RUNTIME_ENTRIES).uring_builder(&ring).start(in_runtime(worker, doorbell))
        }
        HostKind::Bare => bare(worker, doorbell),
    }
}

/// Submission entries of the runtime's own ring, which carries what handlers await.
const RUNTIME_ENTRIES: u32 = 64;

/// Turns inside a `tokio-uring` runtime: while the worker is parked, and now and then while it is not,
/// the other tasks of the core run.
async fn in_runtime<H: Handler>(mut worker: Worker<Ring, H>, doorbell: &Doorbell) -> io::Result<()> {
    // The eventfd is never read: every write to it is an edge, and edges are all that is awaited.
    let bell = doorbell.listen()?;
    let mut busy_turns = 0;
    loop {
        let progress = worker.turn()?;
        for future in worker.spawned() {
            tokio_uring::spawn(future);
        }
        match progress {
            Progress::Ended => return Ok(()),
            Progress::Busy if busy_turns < BUSY_TURNS_MAX => {
                busy_turns += 1;
                continue;
            }
            // A yield would not reach the runtime's driver; its own bell does.
            Progress::Busy => doorbell.ring_always(),
            Progress::Idle if !park(&mut worker, doorbell) => continue,
            Progress::Idle => {}
        }
        busy_turns = 0;
        bell.readable().await?.clear_ready();
        unpark(&mut worker, doorbell);
    }
}

/// Turns on a bare thread, which sleeps in the kernel.
fn bare<H: Handler>(mut worker: Worker<Ring, H>, doorbell: &Doorbell) -> io::Result<()> {
    loop {
        match worker.turn()? {
            Progress::Ended => return Ok(()),
            Progress::Busy => {}
            Progress::Idle => {
                worker.driver_mut().forget_rings(doorbell.fd());
                doorbell.park_begin();
                if worker.progress() == Progress::Idle {
                    worker.note_park();
                    worker.driver_mut().wait(doorbell.fd(), BARE_PATIENCE)?;
                }
                doorbell.park_end();
            }
        }
    }
}

/// How long the bare host sleeps at most; every wake-up it needs comes by itself.
const BARE_PATIENCE: Duration = Duration::from_secs(3600);

/// Says that the worker will sleep, and looks once more: whoever has work for it from now on rings.
/// False if there is something to do after all.
fn park<H: Handler>(worker: &mut Worker<Ring, H>, doorbell: &Doorbell) -> bool {
    doorbell.park_begin();
    worker.driver_mut().watch(true);
    if worker.progress() == Progress::Idle {
        worker.note_park();
        return true;
    }
    unpark(worker, doorbell);
    false
}

fn unpark<H: Handler>(worker: &mut Worker<Ring, H>, doorbell: &Doorbell) {
    worker.driver_mut().watch(false);
    doorbell.park_end();
}
