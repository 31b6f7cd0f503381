//! Lessons: one at a time, on a thread of its own and at low priority, while guesses go on with the generation before.

mod note;
mod photos;
mod review;
mod seen;
mod status;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Deserialize;

pub(crate) use status::{Left, Outcome, Status};

use self::note::Note;
use self::photos::chosen;
use self::review::review;
use self::seen::Seen;
use super::album::Album;
use super::hub::Hub;
use crate::bundle::Bundle;
use crate::core::Method;
use crate::error::{Error, ErrorKind, Result};
use crate::session::{
    Dataset, Forecast, Keep, Length, Lesson, Progress, Stop, Store, TrainReport, Trainer, Validation,
};

/// How long whoever wants to change the store waits for a page that does. A lesson is not waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most passes over the photos that are asked for.
const MOST_EPOCHS: u32 = 10_000;
/// A page draws no more often.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// What a lesson is asked to be; what is not said is as of `srlora train`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wish {
    /// Go on with the one that was left.
    pub(crate) resume: bool,
    method: Option<String>,
    epochs: Option<u32>,
}

/// How lessons of this server are.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) threads: usize,
    pub(crate) ram_limit: Option<u64>,
}

/// Where lessons are asked for.
pub(crate) struct Desk {
    bundle: Bundle,
    store: PathBuf,
    album: Arc<Mutex<Album>>,
    hub: Arc<Hub>,
    terms: Terms,
    begun: Instant,
    /// Who has the right to change the store.
    taken: Mutex<Option<Holder>>,
    freed: Condvar,
    status: Mutex<Status>,
    stop: Mutex<Option<Stop>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// What the last lesson that came to its end has answered.
    report: Mutex<Option<TrainReport>>,
    is_closed: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// A page: it is quick.
    Page,
    Lesson,
}

/// The right to change the store, for as long as this lives.
pub(crate) struct Claim<'d>(&'d Desk);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.hand_to(None);
    }
}

impl Desk {
    pub(crate) fn new(bundle: Bundle, store: PathBuf, album: Arc<Mutex<Album>>, hub: Arc<Hub>, terms: Terms) -> Self {
        let desk = Desk {
            bundle,
            store,
            album,
            hub,
            terms,
            begun: Instant::now(),
            taken: Mutex::default(),
            freed: Condvar::new(),
            status: Mutex::default(),
            stop: Mutex::default(),
            thread: Mutex::default(),
            report: Mutex::default(),
            is_closed: AtomicBool::new(false),
        };
        desk.find_left();
        desk
    }

    fn album(&self) -> MutexGuard<'_, Album> {
        self.album.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status_mut(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn status(&self) -> Status {
        let status = self.status_mut();
        let at = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        status.seen_at(at)
    }

    /// The store, where there is one.
    pub(crate) fn store(&self) -> Option<Store> {
        Store::open(&self.store).ok()
    }

    /// Where it is, or will be.
    pub(crate) fn path(&self) -> &Path {
        &self.store
    }

    /// The right to change the store. A page that has it is waited for; a lesson is not.
    ///
    /// # Errors
    /// Kind `Busy` where a lesson has it.
    pub(crate) fn claim(&self) -> Result<Claim<'_>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_quick = |taken: &mut Option<Holder>| *taken == Some(Holder::Page);
        let waited = self.freed.wait_timeout_while(taken, PATIENCE, is_quick);
        let mut taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        if self.is_closed.load(Ordering::Acquire) || taken.is_some() {
            let message = "a lesson is under way; wait until it has ended, or stop it";
            return Err(Error::new(ErrorKind::Busy, "", message));
        }
        *taken = Some(Holder::Page);
        Ok(Claim(self))
    }

    fn hand_to(&self, holder: Option<Holder>) {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = holder;
        self.freed.notify_all();
    }

    /// What the last lesson that came to its end has answered.
    pub(crate) fn report(&self) -> Option<TrainReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A lesson that was cut off, or stopped.
    pub(crate) fn find_left(&self) {
        let left = self.left();
        self.status_mut().left = left;
    }

    fn left(&self) -> Option<Left> {
        let note = Note::read(self.album().root())?;
        let step = self.store().and_then(|store| store.steps_under_way().ok().flatten());
        Some(Left { step, photos: note.photos() })
    }

    /// Lets go of a lesson that was left; whether there was one.
    ///
    /// # Errors
    /// `Busy`, `Io`.
    pub(crate) fn let_go(&self) -> Result<bool> {
        let _claim = self.claim()?;
        let there = Note::remove(self.album().root())?;
        self.find_left();
        self.tell();
        Ok(there)
    }

    /// What a lesson that was left went out from counts no more, so nothing can go on with it.
    pub(crate) fn drop_left(&self) {
        // One that cannot be removed is found out by whoever goes on with it.
        let _ = Note::remove(self.album().root());
        self.find_left();
        self.tell();
    }

    fn tell(&self) {
        self.hub.tell("lesson", &self.status());
    }

    /// Stops the lesson that is under way; whether there is one.
    pub(crate) fn stop(&self) -> bool {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(stop) = stop else { return false };
        stop.set();
        self.status_mut().is_stopping = true;
        self.tell();
        true
    }

    /// Ends: a lesson under way leaves a checkpoint.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.into_iter().for_each(|thread| drop(thread.join()));
    }

    /// What a lesson on the photos that there are would take.
    ///
    /// # Errors
    /// Those of [`Trainer::new`]; `Busy`.
    pub(crate) fn plan(&self) -> Result<Forecast> {
        let _claim = self.claim()?;
        self.album().look()?;
        let note = self.new_note(&Wish::default());
        note.require_trainable()?;
        let keep = Keep { resume: !note.is_further(), ..self.keep(&note, Stop::default()) };
        let lesson = self.lesson(&note)?;
        Ok(*Trainer::new(&self.bundle, lesson, keep)?.forecast())
    }

    /// Begins a lesson. `ended` is called at its end, whatever that is, before the end is told.
    ///
    /// # Errors
    /// `Busy`; `Data` where there is nothing to learn, or nothing to go on with; `Usage` for a method that there is not; `Io`.
    pub(crate) fn begin(self: &Arc<Self>, wish: &Wish, ended: impl Fn() + Send + 'static) -> Result<()> {
        let claim = self.claim()?;
        let root = self.album().root().to_path_buf();
        let note = if wish.resume {
            Note::read(&root)
                .ok_or_else(|| Error::new(ErrorKind::Data, "", "there is no lesson to go on with; begin one"))?
        } else {
            self.album().look()?;
            if wish.epochs.is_some_and(|epochs| !(1..=MOST_EPOCHS).contains(&epochs)) {
                let message = format!("has to be 1 to {MOST_EPOCHS}");
                return Err(Error::new(ErrorKind::Usage, "epochs", message));
            }
            let note = self.new_note(wish);
            note.require_trainable()?;
            note
        };
        let lesson = self.lesson(&note)?;
        note.write(&root)?;
        let stop = Stop::default();
        let keep = Keep { resume: wish.resume || !note.is_further(), ..self.keep(&note, stop.clone()) };
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
        *self.status_mut() = Status::begun();
        self.tell();
        // From now on the thread has the right.
        std::mem::forget(claim);
        self.hand_to(Some(Holder::Lesson));
        let desk = self.clone();
        let run = move || {
            let claim = Claim(&desk);
            let outcome = desk.attend(lesson, keep, &ended);
            desk.end(outcome, claim);
        };
        match thread::Builder::new().name("lesson".to_owned()).spawn(run) {
            Ok(thread) => {
                *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
                Ok(())
            }
            Err(error) => {
                drop(Claim(self));
                Err(Error::io(Path::new("a thread"), error))
            }
        }
    }

    fn new_note(&self, wish: &Wish) -> Note {
        let album = self.album();
        Note::new(chosen(&album, &Seen::read(album.root())), wish, self.is_further())
    }

    /// A store that holds a generation learns on; a folder in which one was begun is taken for a new one.
    fn is_further(&self) -> bool {
        self.store().is_some()
    }

    fn keep(&self, note: &Note, stop: Stop) -> Keep {
        Keep { further: note.is_further(), stop, ..Keep::new(&self.store) }
    }

    fn lesson(&self, note: &Note) -> Result<Lesson> {
        let [data, held_back] = note.datasets(self.album().root())?;
        let validation =
            if held_back.photos().is_empty() { Validation::None } else { Validation::Photos(held_back.into()) };
        let own = Lesson::new(data);
        let method = match note.method() {
            None => own.method,
            Some(name) => method(name)?,
        };
        let length = note.epochs().map_or(own.length, Length::Epochs);
        let Terms { threads, ram_limit } = self.terms;
        Ok(Lesson { validation, method, length, threads, ram_limit, ..own })
    }

    /// Whoever sees that a lesson has ended may change the store from then on, and sees what is left of it.
    fn end(&self, outcome: Outcome, claim: Claim<'_>) {
        let left = self.left();
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut status = self.status_mut();
        status.end(outcome, left);
        drop(claim);
        drop(status);
        self.tell();
    }

    /// Runs a lesson; what has become of it.
    fn attend(&self, lesson: Lesson, keep: Keep, ended: &impl Fn()) -> Outcome {
        step_back();
        let root = self.album().root().to_path_buf();
        let held_back = match &lesson.validation {
            Validation::Photos(album) => album.open().ok(),
            _ => None,
        };
        let data = lesson.data.open().ok();
        let stop = keep.stop.clone();
        let done = self.run(lesson, keep);
        ended();
        match done {
            Ok(report) => {
                // It counts from now on, whether or not this can be noted.
                let _ = data.as_ref().map(|data| note_seen(&root, data));
                let _ = Note::remove(&root);
                self.status_mut().look_again();
                self.tell();
                let found = self.review(&report, [data, held_back], &stop);
                *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
                Outcome::ended(report, found)
            }
            Err(error) => {
                if error.kind() != ErrorKind::Stopped {
                    let _ = Note::remove(&root);
                }
                Outcome::failed(&error)
            }
        }
    }

    fn run(&self, lesson: Lesson, keep: Keep) -> Result<TrainReport> {
        let trainer = Trainer::new(&self.bundle, lesson, keep)?;
        let steps = trainer.forecast().steps;
        {
            let mut status = self.status_mut();
            (status.forecast, status.steps) = (Some(*trainer.forecast()), steps);
        }
        let mut told = Instant::now();
        trainer.run(&mut |progress: Progress<'_>| {
            let is_worth_telling = self.status_mut().take(&progress);
            if is_worth_telling || told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                self.tell();
            }
        })
    }

    /// What the lesson makes of photos that it has not seen, and which photos may have a wrong label.
    /// A stop ends that alone.
    fn review(&self, report: &TrainReport, photos: [Option<Dataset>; 2], stop: &Stop) -> Option<review::Review> {
        let store = self.store()?;
        let number = report.aside.unwrap_or(report.generation);
        let after = store.at(number).ok()?;
        let before = after.record().ok().and_then(|record| store.at(record.parent).ok());
        let [data, held_back] = photos;
        review(&self.bundle, [before.as_ref(), Some(&after)], [data?, held_back.unwrap_or_default()], stop).ok()
    }
}

fn note_seen(root: &Path, data: &Dataset) -> Result<()> {
    let paths = data.photos().iter().filter_map(|photo| photo.picture.path());
    let named = paths.filter_map(|path| Some((path.file_name()?.to_str()?, path.metadata().ok()?.len())));
    Seen::note(root, named)
}

fn method(name: &str) -> Result<Method> {
    let all = [Method::Srlora, Method::Lora, Method::Pissa, Method::Head, Method::Imprint];
    all.into_iter().find(|method| method.name() == name).ok_or_else(|| {
        let names = all.map(Method::name).join(", ");
        Error::new(ErrorKind::Usage, "option `method`", format_args!("{name:.40?} is none of {names}"))
    })
}

/// Whatever else the device does comes before this thread, and those that it starts. Linux has a priority for each; only a program of the
/// system can be asked without unsafe code.
fn step_back() {
    let Ok(thread) = std::fs::read_link("/proc/thread-self") else { return };
    let Some(number) = thread.file_name().and_then(|name| name.to_str()) else { return };
    let mut renice = Command::new("renice");
    renice.args(["-n", "19", "-p", number]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = renice.status();
}
