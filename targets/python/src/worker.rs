//! A thread that works, while the thread that has asked for it calls the callback and looks after signals.
//!
//! Python runs the handlers of signals on its main thread alone, and only when that is asked to. So a lesson does not run there: the
//! caller waits without the interpreter's lock, wakes up every [`LOOK_EVERY`] to look for a Ctrl-C, and stops the work when there was one.
//! A callback, too, is called from the caller's thread.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pyo3::prelude::*;
use srlora::session::{Flow, Progress, Stop};
use srlora::{Error, ErrorKind};

use crate::errors::fault;
use crate::events::{Listener, Told};

/// How often a waiting caller looks for signals.
const LOOK_EVERY: Duration = Duration::from_millis(20);

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// What a thread that works says to the one that waits.
enum Said<R> {
    Told(Told),
    Done(srlora::Result<R>),
}

/// A thread with a `T` of its own, which lives and ends there: what work has taken for a thread is taken once.
pub(crate) struct Worker<T> {
    jobs: Option<Sender<Job<T>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Default + 'static> Worker<T> {
    pub(crate) fn start() -> PyResult<Self> {
        let (jobs, queue) = channel::<Job<T>>();
        let run = move || {
            let mut own = T::default();
            queue.iter().for_each(|job| job(&mut own));
        };
        let thread = std::thread::Builder::new().name("srlora-python".into()).spawn(run)?;
        Ok(Worker { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has `work` done, and waits for its end, whatever happens; `stop` is what ends it early.
    ///
    /// # Errors
    /// Those of `work`. What a callback or a signal's handler has raised, once the work has stopped; the cause is then how that ended.
    pub(crate) fn ask<R: Send + 'static>(
        &self,
        py: Python<'_>,
        listener: &mut Listener,
        stop: &Stop,
        work: impl FnOnce(&mut T, &mut dyn FnMut(Progress<'_>) -> Flow) -> srlora::Result<R> + Send + 'static,
    ) -> PyResult<R> {
        let ((say, mut said), (answer, answers)) = (channel(), sync_channel(1));
        let listens = listener.is_there();
        let job: Job<T> = Box::new(move |own| {
            let mut observer = |progress: Progress<'_>| {
                let is_wanted = listens || matches!(progress, Progress::Warning(_));
                let Some(told) = Told::of(progress).filter(|_| is_wanted) else { return Flow::GoOn };
                // The caller waits for it, always.
                if say.send(Said::Told(told)).is_ok() { answers.recv().unwrap_or(Flow::Stop) } else { Flow::Stop }
            };
            let done = work(own, &mut observer);
            let _ = say.send(Said::Done(done));
        });
        let panicked = || {
            let message = "a thread has panicked, a fault of this library; what was kept before is as it was";
            fault(Error::new(ErrorKind::Internal, "the work", message))
        };
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(panicked)?;
        let mut raised = None;
        loop {
            let heard;
            (said, heard) = wait(py, said);
            match heard {
                Ok(Said::Told(told)) => {
                    let flow = listener.hear(py, told).unwrap_or_else(|error| {
                        raised.get_or_insert(error);
                        Flow::Stop
                    });
                    let _ = answer.send(flow);
                }
                Ok(Said::Done(done)) => {
                    listener.pause(py)?;
                    return ended(py, done, raised);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(panicked()),
            }
            if let Err(error) = py.check_signals() {
                raised.get_or_insert(error);
            }
            if raised.is_some() {
                stop.set();
            }
        }
    }
}

/// What is said next, waited for without the interpreter's lock.
fn wait<R: Send>(py: Python<'_>, said: Receiver<Said<R>>) -> (Receiver<Said<R>>, Result<Said<R>, RecvTimeoutError>) {
    py.detach(move || {
        let heard = said.recv_timeout(LOOK_EVERY);
        (said, heard)
    })
}

fn ended<R>(py: Python<'_>, done: srlora::Result<R>, raised: Option<PyErr>) -> PyResult<R> {
    let done = done.map_err(fault);
    match raised {
        None => done,
        Some(raised) => {
            raised.set_cause(py, done.err());
            Err(raised)
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        // Nothing of it waits for the interpreter.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
