//! The journal beside a store's generations: one JSON object a line, for people and plots. It holds times, so it is no
//! part of what two equal runs must have in common.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Serialize, Serializer};

use super::steps::Taken;
use crate::adapter::Adapter;
use crate::error::Result;
use crate::session::store::{JOURNAL, Record, RecordedLesson, Sink, StoreWriter, not_written};

/// Appends lines as the run goes.
pub(crate) struct Journal {
    file: Box<dyn Sink>,
    path: PathBuf,
    /// A cut may have torn its last line.
    is_begun: bool,
    begin: Instant,
    line: Vec<u8>,
    /// The last note of importance, by site.
    noted: Vec<(String, Vec<f32>)>,
}

/// The lesson that the lines below tell of, and the generation that it went out from.
#[derive(Serialize)]
struct LessonLine<'l> {
    lesson: &'l RecordedLesson,
    parent: u64,
}

/// What a step showed.
#[derive(Serialize)]
struct StepLine {
    step: u64,
    epoch: u64,
    loss: f32,
    accuracy: f64,
    lr: f32,
    head_lr: f32,
    seconds: f64,
}

/// What an evaluation showed.
#[derive(Serialize)]
struct EvaluationLine {
    step: u64,
    val_accuracy: f64,
    seconds: f64,
}

/// Importance of the pairs, by site.
#[derive(Serialize)]
struct ImportanceLine<'l> {
    step: u64,
    #[serde(serialize_with = "as_map")]
    importance: &'l [(String, Vec<f32>)],
}

fn as_map<S: Serializer>(sites: &&[(String, Vec<f32>)], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(sites.iter().map(|(name, pairs)| (name, pairs)))
}

impl Journal {
    /// Opens the journal of `store`.
    pub(crate) fn open(store: &StoreWriter) -> Result<Self> {
        let ((file, is_begun), path) = (store.append(JOURNAL)?, store.path().join(JOURNAL));
        Ok(Journal { file, path, is_begun, begin: Instant::now(), line: Vec::new(), noted: Vec::new() })
    }

    /// Goes on for the lesson of `record`, on a line of its own.
    pub(crate) fn head(&mut self, record: &Record) -> Result<()> {
        if self.is_begun {
            self.file.write_all(b"\n").map_err(|e| not_written(&self.path, e))?;
        }
        self.append(&LessonLine { lesson: &record.lesson, parent: record.parent })
    }

    /// Notes accuracy, where it was measured.
    pub(crate) fn evaluation(&mut self, step: u64, accuracy: Option<f64>) -> Result<()> {
        let Some(accuracy) = accuracy else { return Ok(()) };
        let seconds = self.begin.elapsed().as_secs_f64();
        self.append(&EvaluationLine { step, val_accuracy: accuracy, seconds })
    }

    /// Notes a step, and the pairs' importance where its time has come.
    pub(crate) fn step(&mut self, taken: &Taken, adapter: &mut Adapter) -> Result<()> {
        let Taken { step, epoch, loss, accuracy, rates: [lr, head_lr], noted } = *taken;
        let seconds = self.begin.elapsed().as_secs_f64();
        self.append(&StepLine { step, epoch, loss, accuracy, lr, head_lr, seconds })?;
        if noted { self.importance(step, adapter) } else { Ok(()) }
    }

    fn importance(&mut self, step: u64, adapter: &mut Adapter) -> Result<()> {
        // Kept between notes, so that only the first one allocates.
        let mut noted = core::mem::take(&mut self.noted);
        if noted.is_empty() {
            noted = adapter.sites.iter().map(|site| (site.name.clone(), Vec::new())).collect();
        }
        for (site, (_, pairs)) in adapter.sites.iter_mut().zip(&mut noted) {
            pairs.clear();
            pairs.extend(site.importance());
        }
        let written = self.append(&ImportanceLine { step, importance: &noted });
        self.noted = noted;
        written
    }

    fn append(&mut self, values: &impl Serialize) -> Result<()> {
        self.line.clear();
        let written = serde_json::to_writer(&mut self.line, values).map_err(std::io::Error::from);
        self.line.push(b'\n');
        written.and_then(|()| self.file.write_all(&self.line)).map_err(|e| not_written(&self.path, e))
    }
}
