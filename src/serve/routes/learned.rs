//! What was learned: its generations, the way back, and what can be taken away.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Answered, App, done};
use crate::error::Result;
use crate::serve::download;
use crate::serve::http::Refusal;
use crate::session::{Record, Store, StoreWriter};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Back {
    to: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forgotten {
    class: String,
    /// Its photos stay.
    #[serde(default)]
    keep_photos: bool,
}

/// A generation, as pages are told; a key without a value is null.
#[derive(Serialize)]
struct Told {
    number: u64,
    current: bool,
    /// A lesson that was no better than what was there.
    aside: bool,
    /// Where it went out from; 0: from nothing.
    parent: u64,
    classes: Vec<String>,
    method: String,
    steps: u64,
    /// Its accuracy on the photos that judged it, and that of what was there before.
    accuracy: Option<f64>,
    accuracy_before: Option<f64>,
    photos: Option<usize>,
    forgot: Option<String>,
    /// When it was written, in seconds since 1970.
    written: Option<u64>,
    bytes: Option<u64>,
}

impl App {
    fn store(&self) -> std::result::Result<Store, Refusal> {
        self.desk.store().ok_or_else(|| Refusal::new(409, "nothing has been learned yet; begin a lesson"))
    }

    pub(super) fn generations(&self) -> Answered {
        let Some(store) = self.desk.store() else {
            return done(&serde_json::json!({ "current": null, "generations": [] }));
        };
        let [numbers, asides] = store.numbers()?;
        let all =
            numbers.into_iter().map(|number| (number, false)).chain(asides.into_iter().map(|number| (number, true)));
        // One that is damaged is no way back.
        let mut told: Vec<Told> = all.filter_map(|(number, aside)| told(&store, number, aside).ok()).collect();
        told.sort_by_key(|generation| std::cmp::Reverse(generation.number));
        done(&serde_json::json!({ "current": store.current(), "generations": told }))
    }

    /// Goes back to a generation, or to what the last lesson went out from.
    pub(super) fn rollback(&self, Back { to }: &Back) -> Answered {
        self.store()?;
        let claim = self.desk.claim()?;
        let mut store = StoreWriter::open(self.desk.path())?;
        let contents_of = store.rollback(*to)?;
        let (generation, classes) = (store.current(), store.record()?.classes);
        drop(store);
        drop(claim);
        self.changed();
        done(&serde_json::json!({ "generation": generation, "contents_of": contents_of, "classes": classes }))
    }

    /// Takes a class out of what was learned, and its photos away.
    pub(super) fn forget(&self, Forgotten { class, keep_photos }: &Forgotten) -> Answered {
        let is_learned = self.is_learned(class);
        let photos = self.album().class(class).map(<[_]>::len);
        if !is_learned && photos.is_none() {
            return Err(Refusal::new(404, format_args!("there is no class {class:.40?}")));
        }
        let claim = self.desk.claim()?;
        if is_learned && !self.forget_learned(class)? {
            let message =
                "it is the only class that was learned; collect another one and learn that, and then forget this one";
            return Err(Refusal::new(409, message));
        }
        let generation = self.desk.store().map(|store| store.current());
        let removed = if *keep_photos { Ok(0) } else { self.album().remove_class(class) };
        drop(claim);
        self.changed();
        let removed = removed?;
        done(&serde_json::json!({ "class": class, "generation": generation, "photos": removed }))
    }

    pub(super) fn is_learned(&self, class: &str) -> bool {
        let knows = |record: Record| record.classes.iter().any(|known| known == class);
        self.desk.store().is_some_and(|store| store.record().is_ok_and(knows))
    }

    /// Takes a class out of what was learned, by whoever has the right to; whether another one is left, without which it stays.
    pub(super) fn forget_learned(&self, class: &str) -> std::result::Result<bool, Refusal> {
        let mut store = StoreWriter::open(self.desk.path())?;
        let has_others = store.record()?.classes.len() > 1;
        if has_others {
            store.forget(class)?;
        }
        Ok(has_others)
    }

    /// Something else counts now.
    pub(super) fn changed(&self) {
        self.desk.drop_left();
        self.guesser.settle();
        self.hub.tell("generations", &serde_json::json!({}));
        self.photos_changed();
    }

    pub(super) fn download_store(&self) -> Answered {
        self.store()?;
        download::store(self.desk.path())
    }

    pub(super) fn download_onnx(&self) -> Answered {
        let store = self.store()?;
        let _one = self.one_export()?;
        download::onnx(&self.bundle, &store)
    }

    pub(super) fn download_adapter(&self) -> Answered {
        let store = self.store()?;
        let _one = self.one_export()?;
        download::adapter(&self.bundle, &store)
    }

    /// What the last lesson has come to, as `srlora train --report` writes it.
    pub(super) fn download_report(&self) -> Answered {
        let none = || Refusal::new(409, "no lesson has ended since the server was started; begin one");
        let report = self.desk.report().ok_or_else(none)?;
        let photos = self.album().root().to_path_buf();
        let _one = self.one_export()?;
        download::report(&self.bundle, &photos, self.desk.path(), &report)
    }

    /// An export takes as much memory as a lesson's beginning: one at a time.
    fn one_export(&self) -> std::result::Result<std::sync::MutexGuard<'_, ()>, Refusal> {
        let busy = || Refusal::new(503, "another download is being made; try again when it is done");
        self.occupied.exporting.try_lock().map_err(|_| busy())
    }
}

fn told(store: &Store, number: u64, aside: bool) -> Result<Told> {
    let record = store.at(number)?.record()?;
    let about = store.file(number).and_then(|file| file.metadata().ok());
    let since = about.as_ref().and_then(|about| about.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok());
    let Record { parent, classes, lesson, steps, trial, forgot, .. } = record;
    let trial = trial.as_ref().filter(|_| forgot.is_none());
    Ok(Told {
        number,
        current: number == store.current(),
        aside,
        parent,
        classes,
        method: lesson.method,
        steps,
        accuracy: trial.map(|trial| trial.after),
        accuracy_before: trial.map(|trial| trial.before),
        photos: trial.map(|trial| trial.photos),
        forgot,
        written: since.map(|since| since.as_secs()),
        bytes: about.map(|about| about.len()),
    })
}
