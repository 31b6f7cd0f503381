//! Where a lesson is kept, and what is kept of it on the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::journal::Journal;
use super::steps::{Steps, Taken};
use crate::adapter::Adapter;
use crate::error::Result;
use crate::session::policy::{Before, CrossValidation, EpochMean, GateState, Outlook};
use crate::session::progress::Stop;
use crate::session::run::Runner;
use crate::session::store::{Disk, Medium, Record, Standing, StoreWriter};

/// Time between two checkpoints: what a power cut may cost. A checkpoint of some MiB takes about half a second on a slow card.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// Where a lesson is kept, and how.
#[derive(Debug, Clone)]
pub struct Keep {
    /// What keeps the store.
    pub medium: Arc<dyn Medium>,
    /// The store's folder.
    pub store: PathBuf,
    /// The lesson goes on from what the store has learned; otherwise the store must not exist yet.
    pub further: bool,
    /// A lesson that was begun with the same settings goes on where it was left; where nothing was begun, it begins.
    pub resume: bool,
    /// Time between checkpoints, and so the most work that can be lost; zero: after every step.
    pub every: Duration,
    /// Once set, the lesson stops with a checkpoint as soon as it can: the step under way is let go.
    pub stop: Stop,
}

impl Keep {
    /// A new store on the disk.
    #[must_use]
    pub fn new(store: impl AsRef<Path>) -> Self {
        Keep {
            medium: Arc::new(Disk),
            store: store.as_ref().to_path_buf(),
            further: false,
            resume: false,
            every: CHECKPOINT_EVERY,
            stop: Stop::default(),
        }
    }
}

/// Keeps a lesson's journal, and where it stands.
pub(crate) struct Keeper {
    pub(crate) store: StoreWriter,
    pub(crate) journal: Journal,
    /// What was there before the lesson's first step.
    pub(crate) before: Before,
    every: Duration,
    last: Instant,
}

impl Keeper {
    pub(crate) fn new(store: StoreWriter, journal: Journal, before: Before, every: Duration) -> Self {
        Keeper { store, journal, before, every, last: Instant::now() }
    }

    /// Time between checkpoints begins anew.
    pub(crate) fn starts(&mut self) {
        self.last = Instant::now();
    }

    /// A further lesson is durable from its beginning, or the one before would be taken for it.
    pub(crate) fn begin(&mut self, record: &Record, outlook: Outlook, adapter: &Adapter) -> Result<()> {
        self.checkpoint(record, outlook, (EpochMean::default(), GateState::default(), None), adapter)
    }

    /// What has been cross-validated is kept when its time has come, and at its end; then it is not done again.
    pub(crate) fn cross_validated(
        &mut self,
        (cross_validation, is_last): (CrossValidation, bool),
        record: &Record,
        outlook: Outlook,
        adapter: &Adapter,
    ) -> Result<()> {
        let outlook = Outlook { cross_validation: Some(cross_validation), ..outlook };
        let is_due = is_last || self.last.elapsed() >= self.every;
        if is_due { self.begin(record, outlook, adapter) } else { Ok(()) }
    }

    /// A step has been taken.
    pub(crate) fn saw(&mut self, taken: &Taken, runner: &Runner) -> Result<()> {
        self.journal.step(taken, &mut runner.adapter_mut())
    }

    /// The lesson stands between two steps: that is kept where its time has come, or where it is `left`.
    pub(crate) fn stands(
        &mut self,
        record: &Record,
        outlook: Outlook,
        steps: &Steps,
        adapter: &Adapter,
        left: bool,
    ) -> Result<()> {
        if left || self.last.elapsed() >= self.every {
            self.checkpoint(record, outlook, steps.state(), adapter)?;
        }
        Ok(())
    }

    fn checkpoint(
        &mut self,
        record: &Record,
        outlook: Outlook,
        (epoch, gate, before_events): (EpochMean, GateState, Option<&Adapter>),
        adapter: &Adapter,
    ) -> Result<()> {
        let (base, before) = (self.store.current(), self.before.clone());
        let standing = Standing { base, before, outlook, epoch, gate, announced: false };
        self.store.checkpoint(adapter, before_events, record, &standing)?;
        self.last = Instant::now();
        Ok(())
    }
}
