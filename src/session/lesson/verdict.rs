//! A lesson's end: what it has come to is compared with what was there, and kept.

use super::added::Added;
use super::keep::Keeper;
use super::look::Closed;
use super::opening::Opening;
use crate::adapter::{Adapter, ClassMeans, HeadBuffers};
use crate::error::{ErrorKind, Result};
use crate::session::classify::{Evaluation, measure};
use crate::session::photos::Dataset;
use crate::session::policy::{Calibration, Ended, EpochMean, Outlook, Plan, Recognized, Trial, TrialPhotos};
use crate::session::progress::{Audience, Progress};
use crate::session::replay::Replay;
use crate::session::run::Runner;
use crate::session::store::{Record, StoreWriter};

/// What has become of a lesson.
pub(crate) struct Verdict {
    /// The generation that is current now.
    pub(crate) generation: u64,
    /// The number under which the lesson was kept aside.
    pub(crate) aside: Option<u64>,
    /// Photos that accuracy was measured on.
    pub(crate) photos: usize,
    pub(crate) accuracy: Option<f64>,
    pub(crate) accuracy_before: Option<f64>,
    /// Of each class, the photos held back that were recognized before.
    pub(crate) before: Option<Recognized>,
    /// What accuracy was measured by.
    pub(crate) evaluation: Option<Evaluation>,
}

/// A lesson whose steps have all been taken.
pub(crate) struct Ending<'e> {
    pub(crate) opening: &'e mut Opening,
    pub(crate) runner: &'e mut Runner,
    pub(crate) plan: &'e Plan,
    pub(crate) keeper: &'e mut Keeper,
    pub(crate) outlook: &'e Outlook,
    pub(crate) added: Option<&'e Added>,
    pub(crate) epoch: &'e EpochMean,
    /// Examples for later lessons.
    pub(crate) replay: &'e Replay,
}

impl Ending<'_> {
    /// Compares what the lesson has come to with what was there, and keeps it: as what counts, or aside. Where nothing has changed,
    /// accuracy is what was `measured` before.
    ///
    /// # Errors
    /// `Diverged` where a value is not finite; `Io`, `Unsynced`; `Stopped` where it is stopped before anything is kept: the lesson is then
    /// what its last step has left.
    pub(crate) fn judge(self, measured: Option<Evaluation>, audience: &mut Audience) -> Result<Verdict> {
        let Ending { opening, runner, plan, keeper, outlook, added, epoch, replay } = self;
        let is_judged = plan.steps > 0 || opening.only_adds(plan);
        let Opening { data, validation, record, over, over_aside, knew, examples, .. } = opening;
        let (Keeper { store, journal, before, .. }, none) = (keeper, Dataset::default());
        let (on_trained, unclosed) = match plan.steps {
            0 => (None, None),
            _ => Some(close(runner, data, outlook, record, audience)?).unzip(),
        };
        let look = || -> Result<_> {
            let after = match validation {
                Some(v) if is_judged => Some(measure(runner, v, "after", record.calibration.as_ref(), audience)?),
                _ => measured,
            };
            let head = runner.adapter().head.clone();
            let [on_held] = runner.tally(if is_judged { &examples.held } else { &none }, [&head], audience)?;
            Ok((after, on_held))
        };
        let (after, on_held) = match (look(), unclosed) {
            (Err(error), Some(unclosed)) if error.kind() == ErrorKind::Stopped => {
                unclosed.put_back(runner, record);
                return Err(error);
            }
            (looked, _) => looked?,
        };
        let told = record.trial.as_ref().filter(|trial| *over && trial.on == TrialPhotos::HeldBack);
        let accuracy = match told {
            Some(trial) => Some(trial.all.map_or(trial.after, |all| all.after)),
            None => after.as_ref().map(|evaluation| evaluation.accuracy),
        };
        let accuracy_before = told.map(|trial| trial.before).or(before.held_back_accuracy());
        let mut aside = *over_aside;
        if is_judged {
            journal.evaluation(plan.steps, accuracy)?;
            let mut recognized = after.as_ref().map(Evaluation::recognized).filter(|_| before.held_back);
            let mut seen = epoch.accuracy();
            if let Some(on_trained) = &on_trained {
                // The last epoch was counted before each of its steps: what these have done shows only afterwards.
                seen = seen.zip(on_trained.accuracy()).map(|(epoch, after)| epoch.min(after));
                recognized = recognized.or_else(|| Some(on_trained.clone()));
            }
            let (made_up, after) = (added.map(|added| &added.made_up), recognized.as_ref());
            let on_examples = (&on_held, on_trained.as_ref());
            let (classes, knew) = (&data.classes, *knew);
            record.trial = Trial::of(&Ended { before, after, on_examples, outlook, seen, classes, knew, made_up });
            if knew > 0 {
                record.replay = store.keep_replay(replay, record)?;
            }
            aside = keep_end(store, &runner.adapter(), record)?;
        }
        store.end_lesson();
        let photos = after.as_ref().map_or(0, |evaluation| evaluation.n);
        let before = before.held_back.then(|| match *knew {
            0 => before.imprinted.clone().unwrap_or_default(),
            _ => before.known.clone(),
        });
        let generation = store.current();
        Ok(Verdict { generation, aside, photos, accuracy, accuracy_before, before, evaluation: after })
    }
}

/// What the last step has left, where the head was closed since.
struct Unclosed {
    means: ClassMeans,
    head: HeadBuffers,
    calibration: Option<Calibration>,
}

impl Unclosed {
    fn put_back(self, runner: &Runner, record: &mut Record) {
        let mut adapter = runner.adapter_mut();
        (adapter.means, adapter.head, record.calibration) = (self.means, self.head, self.calibration);
    }
}

/// After the last step: the class means under the pairs as they have become, the head, how it is to be read, and which of the photos it
/// recognizes; and what was there before.
///
/// # Errors
/// Kind `Stopped` where it is stopped, and nothing has changed.
fn close(
    runner: &mut Runner,
    data: &Dataset,
    outlook: &Outlook,
    record: &mut Record,
    audience: &mut Audience,
) -> Result<(Recognized, Unclosed)> {
    audience.tell(Progress::Begin { phase: "head", total: 1 });
    let form = outlook.closed_form.as_ref().filter(|_| !record.lesson.keeps_head);
    let Closed { means, right, head, calibration } = runner.close(data, form, &mut audience.quiet())?;
    let mut adapter = runner.adapter_mut();
    let was = adapter.means.clone();
    adapter.means.replace(&means);
    let head = core::mem::replace(&mut adapter.head, head);
    let calibration = core::mem::replace(&mut record.calibration, calibration);
    audience.tell(Progress::End);
    Ok((right, Unclosed { means: was, head, calibration }))
}

/// Keeps the lesson's end; the number under which it was kept aside, where it is not shown to be as good as what was there.
fn keep_end(store: &mut StoreWriter, adapter: &Adapter, record: &Record) -> Result<Option<u64>> {
    if record.trial.as_ref().is_some_and(Trial::passed) {
        return store.save(adapter, record).map(|()| None);
    }
    store.set_aside(adapter, record).map(Some)
}
