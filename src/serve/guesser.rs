//! Guesses, on a thread of their own: photos that are sent, and pictures of the camera while somebody watches. A lesson goes on beside it.
//!
//! It has the newest generation, and takes up the classes that no lesson has learned yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::album::{Album, Id};
use super::camera::Camera;
use super::http::Refusal;
use super::hub::Hub;
use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::limits::MOST_IMPRINTED;
use crate::session::{GrowingClassifier, Guess, Picture, Prediction, Store};

/// Photos that wait to be classified.
const MOST_WAITING: usize = 8;
/// How long whoever sent one waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Classes of a guess about the camera's picture.
const TOP: usize = 5;

enum Job {
    Predict(Picture, usize, SyncSender<Result<Prediction>>),
    /// Something else may be there: pictures, photos, a generation.
    Look,
    /// The same, and somebody waits until it has been looked at.
    Settle(SyncSender<()>),
}

/// What the thread knows, for others to read.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Known {
    /// The generation that answers; null where there is no store yet.
    pub(crate) generation: Option<u64>,
    /// Classes that the store knows.
    pub(crate) learned: Vec<String>,
    /// Classes that are imprinted beside them, from their photos.
    pub(crate) imprinted: Vec<String>,
    /// What keeps it from answering.
    pub(crate) fault: Option<String>,
}

/// A guess about the camera's picture.
#[derive(Serialize)]
struct Seen<'p> {
    top: &'p [Guess],
    unknown: Option<bool>,
    confidence: Option<f32>,
    ms: f64,
    /// Guesses a second, over the last moments.
    fps: f64,
}

/// The thread, seen from others.
pub(crate) struct Guesser {
    jobs: SyncSender<Job>,
    known: Arc<Mutex<Known>>,
    wishes: Arc<Wishes>,
}

/// What the thread has to do besides its jobs.
#[derive(Default)]
struct Wishes {
    reload: AtomicBool,
    imprint: AtomicBool,
    /// A look is among the jobs: a camera's pictures take no more than one place of those that photos wait in.
    look: AtomicBool,
}

/// What the thread works with.
pub(crate) struct Workplace {
    pub(crate) bundle: Bundle,
    pub(crate) store: PathBuf,
    pub(crate) album: Arc<Mutex<Album>>,
    pub(crate) camera: Arc<OnceLock<Arc<Camera>>>,
    pub(crate) hub: Arc<Hub>,
}

impl Guesser {
    /// Starts the thread.
    ///
    /// # Errors
    /// Those of a bundle and a store that do not go together; `Io`.
    pub(crate) fn start(place: Workplace) -> Result<Self> {
        let (jobs, queue) = sync_channel(MOST_WAITING);
        let (known, wishes) = (Arc::<Mutex<Known>>::default(), Arc::<Wishes>::default());
        let mut thread = Thread {
            classifier: place.classifier()?,
            place,
            known: known.clone(),
            wishes: wishes.clone(),
            taken: BTreeMap::new(),
            waiting: Vec::new(),
            frame: 0,
            times: Vec::new(),
        };
        thread.list();
        thread.tell();
        let run = move || thread.run(&queue);
        let started = thread::Builder::new().name("guesses".to_owned()).spawn(run);
        started.map_err(|e| Error::io(std::path::Path::new("a thread"), e))?;
        Ok(Guesser { jobs, known, wishes })
    }

    /// What a photo shows.
    pub(crate) fn predict(&self, picture: Picture, top: usize) -> std::result::Result<Prediction, Refusal> {
        let (reply, answer) = sync_channel(1);
        match self.jobs.try_send(Job::Predict(picture, top, reply)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(Refusal::new(503, "too many photos at once; send it again")),
            Err(TrySendError::Disconnected(_)) => return Err(Refusal::new(503, "the server ends")),
        }
        let answered =
            answer.recv_timeout(PATIENCE).map_err(|_| Refusal::new(503, "the photo took too long; send it again"))?;
        Ok(answered?)
    }

    /// A picture of the camera may be there.
    pub(crate) fn look(&self) {
        if !self.wishes.look.swap(true, Ordering::AcqRel) {
            // Where jobs wait, it looks after them.
            let _ = self.jobs.try_send(Job::Look);
        }
    }

    /// The photos have changed.
    pub(crate) fn photos_changed(&self) {
        self.wishes.imprint.store(true, Ordering::Release);
        self.look();
    }

    /// The store has another generation; returns once guesses come from it.
    pub(crate) fn settle(&self) {
        self.wishes.reload.store(true, Ordering::Release);
        let (reply, answer) = sync_channel(1);
        if self.jobs.send(Job::Settle(reply)).is_ok() {
            let _ = answer.recv_timeout(PATIENCE);
        }
    }

    pub(crate) fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Workplace {
    fn classifier(&self) -> Result<(GrowingClassifier, Option<u64>)> {
        let store = if self.store.exists() { Store::open(&self.store).ok() } else { None };
        let generation = store.as_ref().map(Store::current);
        Ok((GrowingClassifier::new(&self.bundle, store.as_ref())?, generation))
    }
}

/// The thread itself.
struct Thread {
    place: Workplace,
    classifier: (GrowingClassifier, Option<u64>),
    known: Arc<Mutex<Known>>,
    wishes: Arc<Wishes>,
    /// Photos that were taken up, of each new class.
    taken: BTreeMap<String, BTreeSet<Id>>,
    /// Photos that are yet to be.
    waiting: Vec<(String, Id, PathBuf)>,
    /// The number of the last picture.
    frame: u64,
    times: Vec<Instant>,
}

impl Thread {
    fn run(&mut self, queue: &Receiver<Job>) {
        loop {
            let job = match self.waiting.is_empty() {
                // Nothing is waited for while there is something to do; photos that are sent come first.
                false => match queue.try_recv() {
                    Err(TryRecvError::Disconnected) => return,
                    job => job.ok(),
                },
                true => match queue.recv() {
                    Err(_) => return,
                    job => job.ok(),
                },
            };
            self.wishes.look.store(false, Ordering::Release);
            let settled = match job {
                Some(Job::Predict(picture, top, reply)) => {
                    let _ = reply.send(self.classifier.0.predict(picture, top));
                    None
                }
                Some(Job::Settle(reply)) => Some(reply),
                _ => None,
            };
            if self.wishes.reload.swap(false, Ordering::AcqRel) {
                self.reload();
            }
            if self.wishes.imprint.swap(false, Ordering::AcqRel) {
                self.list();
            }
            if let Some(settled) = settled {
                let _ = settled.send(());
            }
            self.imprint();
            self.watch();
        }
    }

    fn reload(&mut self) {
        let fault = match self.place.classifier() {
            Ok(classifier) => {
                self.classifier = classifier;
                None
            }
            Err(error) => Some(error.to_string()),
        };
        self.taken.clear();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).fault = fault;
        self.list();
        self.tell();
    }

    /// Finds out which photos of new classes are to be taken up.
    fn list(&mut self) {
        let (classifier, _) = &self.classifier;
        let learned: BTreeSet<&String> = classifier.classes()[..classifier.known()].iter().collect();
        let album = self.place.album.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted: BTreeMap<String, Vec<(Id, PathBuf)>> = BTreeMap::new();
        for (class, photos) in
            album.classes().filter(|(class, photos)| !learned.contains(&(*class).to_owned()) && !photos.is_empty())
        {
            let mut newest: Vec<_> = photos.iter().collect();
            newest.sort_by_key(|photo| std::cmp::Reverse(photo.taken));
            let newest = newest.into_iter().take(MOST_IMPRINTED);
            wanted.insert(class.to_owned(), newest.map(|photo| (photo.id, album.path(class, &photo.name))).collect());
        }
        drop(album);
        let is_there = |class: &String, id: &Id| {
            wanted.get(class).is_some_and(|photos| photos.iter().any(|(there, _)| there == id))
        };
        // A photo that has left, or gave way to newer ones, cannot be taken out of a mean.
        if self.taken.iter().any(|(class, ids)| ids.iter().any(|id| !is_there(class, id))) {
            self.taken.clear();
            self.classifier.0.shrink();
        }
        let all = wanted
            .into_iter()
            .flat_map(|(class, photos)| photos.into_iter().map(move |(id, path)| (class.clone(), id, path)));
        let taken = &self.taken;
        self.waiting = all.filter(|(class, id, _)| !taken.get(class).is_some_and(|ids| ids.contains(id))).collect();
        // The first photo of each class comes before the second one of any.
        let mut nth: BTreeMap<String, usize> = BTreeMap::new();
        self.waiting.sort_by_cached_key(|(class, ..)| {
            let nth = nth.entry(class.clone()).or_default();
            *nth += 1;
            std::cmp::Reverse(*nth)
        });
        self.tell();
    }

    /// Takes up one photo.
    fn imprint(&mut self) {
        let Some((class, id, path)) = self.waiting.pop() else { return };
        let is_new = !self.taken.contains_key(&class);
        // One that cannot be read was told when it came; one that lies there since before is a lesson's to tell.
        let _ = self.classifier.0.imprint(&class, path.into());
        self.taken.entry(class).or_default().insert(id);
        if is_new || self.waiting.is_empty() {
            self.tell();
        }
    }

    /// Tells what it knows, where that has changed.
    fn tell(&mut self) {
        let (classifier, generation) = &self.classifier;
        let (learned, imprinted) = classifier.classes().split_at(classifier.known());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Known {
            generation: *generation,
            learned: learned.to_vec(),
            imprinted: imprinted.to_vec(),
            fault: known.fault.clone(),
        };
        let has_changed =
            known.generation != now.generation || known.learned != now.learned || known.imprinted != now.imprinted;
        *known = now.clone();
        drop(known);
        if has_changed {
            self.place.hub.tell("known", &now);
        }
    }

    /// Looks at the camera's newest picture, where somebody else does too.
    fn watch(&mut self) {
        let Some(camera) = self.place.camera.get() else { return };
        let Some(frame) = camera.watched_frame().filter(|frame| frame.number > self.frame) else { return };
        self.frame = frame.number;
        let Ok(prediction) = self.classifier.0.predict(Picture::encoded("the camera", frame.jpeg), TOP) else { return };
        let now = Instant::now();
        self.times.retain(|time| now - *time < Duration::from_secs(2));
        self.times.push(now);
        let span = self.times.first().map_or(0.0, |first| (now - *first).as_secs_f64());
        let fps = if span > 0.0 { (self.times.len() - 1) as f64 / span } else { 0.0 };
        let Prediction { top, confidence, unknown, ms, .. } = &prediction;
        self.place.hub.tell("guess", &Seen { top, unknown: *unknown, confidence: *confidence, ms: *ms, fps });
    }
}
