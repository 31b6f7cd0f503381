//! Threads that share a planned network: each runs its own micro-batches, results come back in the order of the work.
//!
//! Nothing that a thread computes depends on the others, and sums are taken over results in order; so the number of threads
//! changes the time of a lesson, not one bit of its result.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::autodiff::{Network, NetworkPlan};
use crate::error::{Error, ErrorKind, Result};

/// Pieces of work that wait for each thread, so that it never waits for us.
const AHEAD: usize = 2;

/// What a thread does with its network.
type Job = Box<dyn FnOnce(&mut Network) + Send>;

/// One network per thread; a single one runs on the caller's.
pub(super) enum Crew {
    Alone(Box<Network>),
    Many(Vec<Worker>),
}

/// A thread that does jobs until there is nobody to send them.
pub(super) struct Worker {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Crew {
    /// # Errors
    /// Kind `Internal` where a network or a thread cannot be started.
    pub(super) fn start(plan: &NetworkPlan, threads: usize) -> Result<Self> {
        if threads <= 1 {
            return Ok(Crew::Alone(Box::new(plan.start()?)));
        }
        (0..threads).map(|_| Worker::start(plan.clone())).collect::<Result<_>>().map(Crew::Many)
    }

    pub(super) fn threads(&self) -> usize {
        match self {
            Crew::Alone(_) => 1,
            Crew::Many(workers) => workers.len(),
        }
    }

    /// Does `act` to the network of every thread.
    pub(super) fn for_all(&mut self, act: fn(&mut Network)) {
        match self {
            Crew::Alone(network) => act(network),
            // A thread that has died is told of by the next piece of work.
            Crew::Many(workers) => workers.iter().for_each(|worker| drop(worker.send(Box::new(act)))),
        }
    }

    /// Does `work` to every item and shows what it gave to `visit`, in the order of the items.
    ///
    /// # Errors
    /// What `visit` refuses; kind `Internal` where a thread has died.
    pub(super) fn each<T: Send + 'static, R: Send + 'static>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        work: impl Fn(&mut Network, T) -> R + Send + Sync + 'static,
        mut visit: impl FnMut(R) -> Result<()>,
    ) -> Result<()> {
        let workers = match self {
            Crew::Alone(network) => return items.into_iter().try_for_each(|item| visit(work(network, item))),
            Crew::Many(workers) => workers,
        };
        let work = Arc::new(work);
        let mut waiting: VecDeque<Receiver<R>> = VecDeque::new();
        let mut receive = |from: Receiver<R>| visit(from.recv().map_err(|_| died())?);
        for (at, item) in items.into_iter().enumerate() {
            if waiting.len() == AHEAD * workers.len() {
                waiting.pop_front().map_or(Ok(()), &mut receive)?;
            }
            let (answer, result) = sync_channel(1);
            let work = work.clone();
            let job: Job = Box::new(move |network| {
                // Nobody listens any more where the result before was refused.
                let _ = answer.send(work(network, item));
            });
            workers[at % workers.len()].send(job)?;
            waiting.push_back(result);
        }
        waiting.into_iter().try_for_each(receive)
    }
}

impl Worker {
    fn start(plan: NetworkPlan) -> Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(AHEAD);
        let (ready, started) = sync_channel(1);
        let run = move || match plan.start() {
            Ok(mut network) => {
                let _ = ready.send(Ok(()));
                queue.iter().for_each(|job| job(&mut network));
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        let thread = std::thread::Builder::new().name("srlora".into()).spawn(run);
        let thread = thread.map_err(|e| Error::new(ErrorKind::Internal, "--threads", e))?;
        started.recv().map_err(|_| died())??;
        Ok(Worker { jobs: Some(jobs), thread: Some(thread) })
    }

    fn send(&self, job: Job) -> Result<()> {
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(died)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.jobs.take());
        // A thread that panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn died() -> Error {
    Error::new(ErrorKind::Internal, "--threads", "a thread of the network has died")
}
