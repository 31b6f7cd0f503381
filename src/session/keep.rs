//! Where a lesson is kept, and what is kept of it on the way.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::gate::{Gate, GateState};
use super::metrics::{Journal, Taken};
use super::outlook::Outlook;
use super::rehearsal::Rehearsal;
use super::runner::Runner;
use super::steps::{EpochMean, Witness};
use super::store::{Disk, Medium, Record, Standing, StoreWriter};
use super::trial::Before;
use crate::adapter::Adapter;
use crate::error::Result;

/// Time between two checkpoints: what a power cut may cost. A checkpoint of some MiB takes about half a second on a slow card.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// Of what nobody stops.
pub(super) static NEVER: AtomicBool = AtomicBool::new(false);

/// Where a lesson is kept, and how.
#[derive(Debug, Clone)]
pub struct Keep<'k> {
    /// What keeps the store.
    pub medium: Arc<dyn Medium>,
    /// The store's folder.
    pub store: &'k Path,
    /// The lesson goes on from what the store has learned; otherwise the store must not exist yet.
    pub further: bool,
    /// A lesson that was begun with the same settings goes on where it was left; where nothing was begun, it begins.
    pub resume: bool,
    /// Time between checkpoints, and so the most work that can be lost; zero: after every step.
    pub every: Duration,
    /// Once set, the lesson stops after the step under way, with a checkpoint.
    pub stop: &'k AtomicBool,
}

impl<'k> Keep<'k> {
    /// A new store on the disk.
    #[must_use]
    pub fn new(store: &'k Path) -> Self {
        Keep { medium: Arc::new(Disk), store, further: false, resume: false, every: CHECKPOINT_EVERY, stop: &NEVER }
    }
}

/// Keeps a lesson's journal, and where it stands.
pub(super) struct Keeper<'k> {
    journal: &'k mut Journal,
    store: &'k StoreWriter,
    keep: &'k Keep<'k>,
    before: Before,
    outlook: Outlook,
    last: Instant,
}

impl<'k> Keeper<'k> {
    pub(super) fn new(
        store: &'k StoreWriter,
        keep: &'k Keep<'k>,
        journal: &'k mut Journal,
        before: Before,
        outlook: Outlook,
    ) -> Self {
        Keeper { journal, store, keep, before, outlook, last: Instant::now() }
    }
}

impl Keeper<'_> {
    /// A further lesson is durable from its beginning, or the one before would be taken for it.
    pub(super) fn begin(&mut self, record: &Record, adapter: &Adapter) -> Result<()> {
        self.checkpoint(record, EpochMean::default(), GateState::default(), (adapter, None))
    }

    /// What has been rehearsed is kept when its time has come, and at its end; then it is not done again.
    pub(super) fn rehearsed(
        &mut self,
        (rehearsal, is_last): (Rehearsal, bool),
        record: &Record,
        adapter: &Adapter,
    ) -> Result<()> {
        self.outlook.rehearsal = Some(rehearsal);
        let is_due = is_last || self.last.elapsed() >= self.keep.every;
        if is_due { self.begin(record, adapter) } else { Ok(()) }
    }

    /// What checkpoints tell of the photos from now on.
    pub(super) fn knows(&mut self, outlook: Outlook) {
        self.outlook = outlook;
    }

    fn checkpoint(
        &mut self,
        record: &Record,
        epoch: EpochMean,
        gate: GateState,
        (adapter, before_events): (&Adapter, Option<&Adapter>),
    ) -> Result<()> {
        let base = self.store.current();
        let (before, outlook) = (self.before.clone(), self.outlook);
        let standing = Standing { base, before, outlook, epoch, gate, announced: false };
        self.store.checkpoint(adapter, before_events, record, &standing)?;
        self.last = Instant::now();
        Ok(())
    }
}

impl Witness for Keeper<'_> {
    fn saw(&mut self, taken: &Taken, runner: &mut Runner) -> Result<()> {
        self.journal.saw(taken, runner)
    }

    fn stands(&mut self, record: &Record, epoch: &EpochMean, gate: &Gate, adapter: &Adapter) -> Result<bool> {
        let stop = self.keep.stop.load(Ordering::Relaxed);
        if stop || self.last.elapsed() >= self.keep.every {
            let (gate, before_events) = gate.state();
            self.checkpoint(record, *epoch, gate, (adapter, before_events))?;
        }
        Ok(!stop)
    }
}
