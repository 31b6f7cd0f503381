//! A lesson's end: what it has come to is compared with what was there, and kept.

use super::added::Added;
use super::keep::Keeper;
use super::look::Closed;
use super::opening::Opening;
use crate::adapter::Adapter;
use crate::error::Result;
use crate::session::classify::{Evaluation, measure};
use crate::session::photos::Dataset;
use crate::session::policy::{Ended, EpochMean, Outlook, Plan, Recognized, Trial, TrialPhotos};
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
    /// `Diverged` where a value is not finite; `Io`, `Unsynced`.
    pub(crate) fn judge(self, measured: Option<Evaluation>, audience: &mut Audience) -> Result<Verdict> {
        let Ending { opening, runner, plan, keeper, outlook, added, epoch, replay } = self;
        let is_judged = plan.steps > 0 || opening.only_adds(plan);
        let Opening { data, validation, record, over, over_aside, knew, examples, .. } = opening;
        let Keeper { store, journal, before, .. } = keeper;
        let on_trained = match plan.steps {
            0 => None,
            _ => Some(close(runner, data, outlook, record, audience)?),
        };
        let after = match validation {
            Some(v) if is_judged => Some(measure(runner, v, "after", audience)?),
            _ => measured,
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
            let head = runner.adapter().head.clone();
            let [on_held] = runner.tally(&examples.held, [&head], audience)?;
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
        Ok(Verdict { generation: store.current(), aside, photos, accuracy, accuracy_before })
    }
}

/// After the last step: the class means under the pairs as they have become, the head, how it is to be read, and which of the photos it
/// recognizes.
fn close(
    runner: &mut Runner,
    data: &Dataset,
    outlook: &Outlook,
    record: &mut Record,
    audience: &mut Audience,
) -> Result<Recognized> {
    audience.tell(Progress::Begin { phase: "head", total: 1 });
    let Closed { means, right, head, calibration } =
        runner.close(data, outlook.closed_form.as_ref(), &mut Audience::nobody())?;
    let mut adapter = runner.adapter_mut();
    adapter.means.replace(&means);
    (adapter.head, record.calibration) = (head, calibration);
    audience.tell(Progress::End);
    Ok(right)
}

/// Keeps the lesson's end; the number under which it was kept aside, where it is not shown to be as good as what was there.
fn keep_end(store: &mut StoreWriter, adapter: &Adapter, record: &Record) -> Result<Option<u64>> {
    if record.trial.as_ref().is_some_and(Trial::passed) {
        return store.save(adapter, record).map(|()| None);
    }
    store.set_aside(adapter, record).map(Some)
}
