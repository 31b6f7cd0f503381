//! Threads that share a planned network: each runs its own micro-batches, results come back in the order of the work.
//!
//! Nothing that a thread computes depends on the others, and sums are taken over results in order; so the number of threads
//! changes the time of a lesson, not one bit of its result.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::autodiff::{Network, NetworkPlan};
use crate::error::{Error, ErrorKind, Result};

/// Pieces of work that wait for each thread, so that it never waits for us.
const AHEAD: usize = 2;

/// What a thread does with its network.
type Job = Box<dyn FnOnce(&mut Network) + Send>;

/// One network per thread; a single one runs on the caller's.
pub(crate) enum Crew {
    Alone(Box<Network>),
    Many(Vec<Worker>),
}

/// The threads of a crew that share a piece of work.
pub(crate) enum Team<'c> {
    Alone(&'c mut Network),
    Many(&'c mut [Worker]),
}

/// A thread that does jobs until there is nobody to send them.
pub(crate) struct Worker {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Crew {
    /// # Errors
    /// Kind `Internal` where a network or a thread cannot be started.
    pub(crate) fn start(plan: &NetworkPlan, threads: usize) -> Result<Self> {
        if threads <= 1 {
            return Ok(Crew::Alone(Box::new(plan.start()?)));
        }
        (0..threads).map(|_| Worker::start(plan.clone())).collect::<Result<_>>().map(Crew::Many)
    }

    pub(crate) fn threads(&self) -> usize {
        match self {
            Crew::Alone(_) => 1,
            Crew::Many(workers) => workers.len(),
        }
    }

    /// Does `act` to the network of every thread.
    pub(crate) fn for_all(&mut self, act: fn(&mut Network)) {
        match self {
            Crew::Alone(network) => act(network),
            // A thread that has died is told of by the next piece of work.
            Crew::Many(workers) => workers.iter_mut().for_each(|worker| drop(worker.send(Box::new(act)))),
        }
    }

    /// All threads.
    pub(crate) fn all(&mut self) -> Team<'_> {
        match self {
            Crew::Alone(network) => Team::Alone(network),
            Crew::Many(workers) => Team::Many(workers),
        }
    }

    /// One thread, which does each item when the one before is done.
    pub(crate) fn one(&mut self) -> Team<'_> {
        match self {
            Crew::Alone(network) => Team::Alone(network),
            Crew::Many(workers) => Team::Many(&mut workers[..1]),
        }
    }
}

impl Team<'_> {
    /// Does `work` to every item and shows what it gave to `visit`, in the order of the items.
    ///
    /// # Errors
    /// What `visit` refuses; kind `Internal` where a thread has panicked, with its message.
    pub(crate) fn each<T: Send + 'static, R: Send + 'static>(
        self,
        items: impl IntoIterator<Item = T>,
        work: impl Fn(&mut Network, T) -> R + Send + Sync + 'static,
        mut visit: impl FnMut(R) -> Result<()>,
    ) -> Result<()> {
        let workers = match self {
            Team::Alone(network) => return items.into_iter().try_for_each(|item| visit(work(network, item))),
            Team::Many(workers) => workers,
        };
        let work = Arc::new(work);
        let count = workers.len();
        let mut waiting: VecDeque<(usize, Receiver<R>)> = VecDeque::new();
        let mut receive = |workers: &mut [Worker], (at, from): (usize, Receiver<R>)| match from.recv() {
            Ok(result) => visit(result),
            Err(_) => Err(workers[at].died()),
        };
        for (nth, item) in items.into_iter().enumerate() {
            if waiting.len() == AHEAD * count {
                waiting.pop_front().map_or(Ok(()), |next| receive(workers, next))?;
            }
            let (answer, result) = sync_channel(1);
            let work = work.clone();
            let job: Job = Box::new(move |network| {
                // Nobody listens any more where the result before was refused.
                let _ = answer.send(work(network, item));
            });
            workers[nth % count].send(job)?;
            waiting.push_back((nth % count, result));
        }
        waiting.into_iter().try_for_each(|next| receive(workers, next))
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
        let thread = thread.map_err(|e| Error::new(ErrorKind::Internal, "option `threads`", e))?;
        let mut worker = Worker { jobs: Some(jobs), thread: Some(thread) };
        started.recv().map_err(|_| worker.died())??;
        Ok(worker)
    }

    fn send(&mut self, job: Job) -> Result<()> {
        let sent = self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok());
        sent.ok_or_else(|| self.died())
    }

    /// What there is to say of a thread that takes no more jobs, or does not answer: it has panicked.
    fn died(&mut self) -> Error {
        self.jobs = None;
        let said = self.thread.take().and_then(|thread| thread.join().err());
        let text = said.as_ref().and_then(|said| {
            said.downcast_ref::<String>().map(String::as_str).or_else(|| said.downcast_ref::<&str>().copied())
        });
        let message = format!(
            "a thread that runs photos has panicked ({}), a fault of this program; what was kept before is as it was",
            text.unwrap_or("its message stands above")
        );
        Error::new(ErrorKind::Internal, "option `threads`", message)
    }
}

/// Where the threads of a crew wait for each other; once one of them has panicked, nobody waits any more.
pub(crate) struct Meeting {
    threads: usize,
    attendance: Mutex<Attendance>,
    changed: Condvar,
}

#[derive(Default)]
struct Attendance {
    waiting: usize,
    /// How many times all have met.
    met: u64,
    given_up: bool,
}

/// While it lives, the others may wait for this thread.
pub(crate) struct Attendant<'m>(&'m Meeting);

impl Meeting {
    pub(crate) fn of(threads: usize) -> Self {
        Meeting { threads, attendance: Mutex::default(), changed: Condvar::new() }
    }

    pub(crate) fn attend(&self) -> Attendant<'_> {
        Attendant(self)
    }

    fn attendance(&self) -> MutexGuard<'_, Attendance> {
        self.attendance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attendant<'_> {
    /// Waits until all threads do.
    pub(crate) fn wait(&self) {
        let mut attendance = self.0.attendance();
        attendance.waiting += 1;
        if attendance.waiting == self.0.threads {
            (attendance.waiting, attendance.met) = (0, attendance.met + 1);
            self.0.changed.notify_all();
            return;
        }
        let met = attendance.met;
        let still = |attendance: &mut Attendance| attendance.met == met && !attendance.given_up;
        drop(self.0.changed.wait_while(attendance, still).unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Attendant<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.attendance().given_up = true;
            self.0.changed.notify_all();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.jobs.take());
        // A thread that panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
