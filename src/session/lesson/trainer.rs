//! One lesson, held in the hand: planned, imprinted, cross-validated, stepped and judged.

use std::path::Path;
use std::time::Instant;

use super::added::{Added, AtStart, add_classes, imprinted_only};
use super::begin::{Begun, announce, begin_steps, check_imprinted, remember};
use super::cross_validation::CrossValidated;
use super::data::{datasets, refuse_among_photos};
use super::keep::{Keep, Keeper};
use super::opening::Opening;
use super::report::{Shown, TrainReport};
use super::room::{Applicant, Found};
use super::steps::{Ran, Steps};
use super::verdict::{Ending, Verdict};
use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};
use crate::session::classify::{Classifier, Evaluation};
use crate::session::forecast::Forecast;
use crate::session::photos::{Ignored, Slot, ignored};
use crate::session::policy::{CrossValidation, Outlook, Plan};
use crate::session::process::{Watch, median, peak_rss_bytes, startup_ms};
use crate::session::progress::{Audience, Flow, Progress};
use crate::session::replay::Replay;
use crate::session::run::Runner;
use crate::session::settings::{CachePlace, Lesson};
use crate::session::store::{Store, StoreWriter};

/// [`Trainer`] to its end, into a new store on the disk.
///
/// # Errors
/// As of [`Trainer::new`] and [`Trainer::step`].
pub fn train<A: Into<Flow>>(
    bundle: &Bundle,
    lesson: &Lesson,
    output: &Path,
    observer: &mut impl FnMut(Progress<'_>) -> A,
) -> Result<TrainReport> {
    Trainer::new(bundle, lesson.clone(), Keep::new(output))?.run(observer)
}

/// A lesson on a folder of photos, whose end is kept in a store.
///
/// Each [`step`](Trainer::step) does the next thing that there is to do. First every photo is read and the head
/// imprinted; a new store appears then, with the imprinted head as its first generation. Where photos are few, the
/// lesson is cross-validated. Then optimizer steps follow, one at a time. At last the lesson is judged: it becomes the
/// next generation if it is at least as good as what was there ([`Trial`](crate::session::Trial)); otherwise it is kept
/// aside. A generation is kept after the loss of a batch has been measured with its own values.
///
/// It can be left at any time: what was done since the last checkpoint is lost, and one with `keep.resume` goes on from there to the
/// same bytes. Linux's mark of the process's largest resident size (VmHWM) is set back when it is made, so that what the process did
/// before does not count as the lesson's.
pub struct Trainer {
    bundle: Bundle,
    lesson: Lesson,
    keep: Keep,
    begin: Instant,
    memory: Watch,
    startup_ms: f64,
    forecast: Forecast,
    ignored: Vec<Ignored>,
    opening: Opening,
    runner: Runner,
    /// It is cross-validated where its photos are few.
    cross_validates: bool,
    phase: Reached,
}

/// How far it has come.
enum Reached {
    Planned,
    Ready(Box<Imprinted>),
    Stepping(Box<Imprinted>, Box<Steps>),
    Over(Box<TrainReport>),
    /// An error has ended it.
    Failed,
}

/// What is there between the first photo and the judgement.
struct Imprinted {
    plan: Plan,
    keeper: Keeper,
    outlook: Outlook,
    measured: Option<Evaluation>,
    added: Option<Added>,
    /// Examples for later lessons.
    replay: Replay,
    resumed_after: Option<u64>,
}

/// What [`Trainer::step`] has done.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Happened {
    /// Every photo was read, and the classes that were new imprinted: a first lesson's store is there now.
    Imprinted,
    /// What is known before the first step has been found out: how lessons did on photos left out, where photos are few.
    Ready(Option<CrossValidation>),
    /// An optimizer step was taken.
    Step {
        /// Its number, from 1.
        step: u64,
        /// Mean cross-entropy of the batch before the update.
        loss: f32,
        /// Share of it that was classified right before the update.
        accuracy: f64,
    },
    /// The lesson was judged, and is over.
    Ended(Box<TrainReport>),
}

impl Trainer {
    /// Finds the photos, takes up what the store has, and finds room, so that the first photo can be run. Nothing is written, but that
    /// half-written files leave a store that is gone on with.
    ///
    /// # Errors
    /// `Exists`, `Io`, `Bundle`, `Model`, `Data`, `Store`, `Memory`; `Usage` where a setting cannot be meant, the
    /// output lies among the photos, or those to measure accuracy on are those trained on; `Mismatch` where the store
    /// holds something else; `Busy` where another process writes it; `Stopped` where `keep.stop` was set.
    pub fn new(bundle: &Bundle, lesson: Lesson, keep: Keep) -> Result<Self> {
        Self::plan(bundle, lesson, keep).map_err(before_steps)
    }

    fn plan(bundle: &Bundle, mut lesson: Lesson, keep: Keep) -> Result<Self> {
        let (begin, memory) = (Instant::now(), Watch::begin());
        lesson.check()?;
        refuse_among_photos(&keep.store, &lesson)?;
        let (data, validation) = datasets(&lesson, keep.further)?;
        let ignored = ignored(&data, validation.as_ref());
        let mut opening = Opening::find(bundle, &mut lesson, &keep, (data, validation))?;
        opening.data.number(Slot::Rounded);
        let adapter = opening.take_adapter()?;
        let cross_validates = !keep.further && opening.record.steps == 0 && !opening.over;
        let plan = opening.plan(bundle, &lesson);
        let applicant = Applicant {
            bundle,
            lesson: &lesson,
            plan: &plan,
            opening: &opening,
            cross_validates,
            keep: &keep,
            memory: &memory,
        };
        let Found { runner, forecast, warnings } = applicant.find(adapter)?;
        opening.warnings.extend(warnings);
        opening.settle_rounding(forecast.cache != CachePlace::Off)?;
        let (bundle, startup_ms, phase) = (bundle.clone(), startup_ms(begin), Reached::Planned);
        Ok(Trainer {
            bundle,
            lesson,
            keep,
            begin,
            memory,
            startup_ms,
            forecast,
            ignored,
            opening,
            runner,
            cross_validates,
            phase,
        })
    }

    /// What the lesson will take.
    #[must_use]
    pub fn forecast(&self) -> &Forecast {
        &self.forecast
    }

    /// The names of the classes, in the order of the head's rows.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.opening.data.classes
    }

    /// Does all that there is to do.
    ///
    /// # Errors
    /// As of [`Trainer::step`].
    pub fn run<A: Into<Flow>>(mut self, observer: &mut impl FnMut(Progress<'_>) -> A) -> Result<TrainReport> {
        loop {
            if let Happened::Ended(report) = self.step(observer)? {
                return Ok(*report);
            }
        }
    }

    /// Does the next thing that there is to do, and says what it was. Once it has ended, or failed, nothing more is done.
    ///
    /// # Errors
    /// `Stopped` where `keep.stop` was set or the observer has answered [`Flow::Stop`]: what was learned is in a checkpoint; `Diverged`
    /// where the loss or a trained value stops being a number, with the step: the store then keeps the generation before; `Data` where a
    /// class is left without a readable photo; `Io`, `Unsynced`; `Usage` after an error.
    pub fn step<A: Into<Flow>>(&mut self, observer: &mut impl FnMut(Progress<'_>) -> A) -> Result<Happened> {
        let mut observer = |progress: Progress<'_>| observer(progress).into();
        let mut audience = Audience::of(&mut observer, &self.keep.stop);
        match core::mem::replace(&mut self.phase, Reached::Failed) {
            Reached::Planned => {
                let under_way = self.imprint(&mut audience).map_err(before_steps)?;
                self.phase = Reached::Ready(Box::new(under_way));
                Ok(Happened::Imprinted)
            }
            Reached::Ready(mut under_way) if under_way.plan.steps > 0 => {
                self.cross_validate(&mut under_way, &mut audience).map_err(before_steps)?;
                let Imprinted { plan, outlook, .. } = &*under_way;
                let Opening { data, record, from, .. } = &mut self.opening;
                let steps = Steps::new(&self.lesson, plan, data, &self.runner, outlook, from.take());
                audience.tell(Progress::Begin { phase: "train", total: plan.steps.saturating_sub(record.steps) });
                let cross_validation = outlook.cross_validation;
                self.phase = Reached::Stepping(under_way, Box::new(steps));
                Ok(Happened::Ready(cross_validation))
            }
            Reached::Ready(under_way) => self.end(*under_way, None, &mut audience),
            Reached::Stepping(mut under_way, mut steps) => {
                match self.next(&mut under_way, &mut steps, &mut audience)? {
                    Some(step) => {
                        self.phase = Reached::Stepping(under_way, steps);
                        Ok(step)
                    }
                    None => {
                        audience.tell(Progress::End);
                        self.end(*under_way, Some(*steps), &mut audience)
                    }
                }
            }
            Reached::Over(report) => {
                self.phase = Reached::Over(report.clone());
                Ok(Happened::Ended(report))
            }
            Reached::Failed => {
                let message = "has ended with an error before; make a new trainer, with option `resume` to go on from its checkpoint";
                Err(Error::new(ErrorKind::Usage, "the lesson", message))
            }
        }
    }

    /// Imprints classes that are new, measures what was there, and adds classes that no step follows.
    fn imprint(&mut self, audience: &mut Audience) -> Result<Imprinted> {
        let Trainer { bundle, lesson, keep, forecast, opening, runner, ignored, .. } = self;
        ignored.iter().for_each(|format| audience.tell(Progress::Warning(&format.to_string())));
        opening.warnings.iter().for_each(|warning| audience.tell(Progress::Warning(warning)));
        audience.tell(Progress::Planned(forecast));

        audience.tell(Progress::Begin { phase: "imprint", total: opening.data.photos.len() as u64 });
        announce(opening, runner, keep, &opening.plan(bundle, lesson))?;
        let counted = [opening.known, opening.knew];
        // Those that are held back stay for lessons to come.
        let mut replay = opening.examples.replay.clone();
        let mut seen = runner.imprint(&mut opening.data, counted, &mut replay, audience)?;
        audience.tell(Progress::End);
        // Photos that cannot be read have left, and with them the last ones of a class perhaps.
        opening.find_absent(keep);
        let plan = opening.plan(bundle, lesson);
        if opening.finds_directions(lesson, &plan) {
            runner.find_directions(&opening.data, opening.has_learned_pairs, audience)?;
        }
        let mut at_start = remember(runner, bundle, opening, &mut seen, audience)?;
        let Begun { mut keeper, outlook, measured } =
            begin_steps(runner, opening, lesson, keep, (&plan, &seen, &replay), audience)?;
        let mut added = None;
        if opening.only_adds(&plan) {
            added = add_classes(runner, opening.knew, &seen, at_start.as_mut());
            let photos = at_start.as_ref().filter(|_| added.as_ref().is_some_and(|added| added.lets_pairs_go));
            let photos = photos.map_or(&seen.photos, AtStart::photos);
            opening.record.calibration = added.as_ref().and_then(|_| photos.imprinted(&runner.adapter().means));
            audience.tell(Progress::Warning(&imprinted_only(&opening.absent, added.as_ref())));
            check_imprinted(runner, &opening.data, lesson, audience)?;
        }
        if opening.validation.is_none() {
            runner.drop_prefix(opening.data.present());
        }
        keeper.starts();
        let resumed_after = opening.resumes.then_some(opening.record.steps);
        Ok(Imprinted { plan, keeper, outlook, measured, added, replay, resumed_after })
    }

    /// Makes a further lesson durable, and cross-validates a first one where its photos are few.
    fn cross_validate(&mut self, under_way: &mut Imprinted, audience: &mut Audience) -> Result<()> {
        let Trainer { bundle, lesson, keep, opening, runner, cross_validates, .. } = self;
        let Opening { data, record, resumes, .. } = opening;
        let Imprinted { keeper, outlook, .. } = under_way;
        if keep.further && !*resumes {
            keeper.begin(record, *outlook, &runner.adapter())?;
        }
        if *cross_validates {
            let begun = outlook.cross_validation.unwrap_or_default();
            let known = Outlook { cross_validation: None, ..*outlook };
            let cross_validated = CrossValidated { bundle, lesson, data, record, outlook: known };
            outlook.cross_validation =
                cross_validated.run(runner, begun, audience, |runner, cross_validation, is_last| {
                    keeper.cross_validated((cross_validation, is_last), record, known, &runner.adapter())
                })?;
        }
        Ok(())
    }

    /// One optimizer step; `None` where all have been taken.
    fn next(
        &mut self,
        under_way: &mut Imprinted,
        steps: &mut Steps,
        audience: &mut Audience,
    ) -> Result<Option<Happened>> {
        let Trainer { opening: Opening { data, record, .. }, runner, .. } = self;
        let Imprinted { keeper, outlook, .. } = &mut *under_way;
        let taken = match steps.next(runner, data, record, audience) {
            // The photos may come back.
            Err(error) if error.kind() == ErrorKind::Data => {
                keeper.stands(record, *outlook, steps, &runner.adapter(), true)?;
                return Err(error);
            }
            Err(error) if error.kind() == ErrorKind::Stopped => return Err(self.leave(under_way, steps)?),
            taken => taken?,
        };
        let Some(taken) = taken else { return Ok(None) };
        keeper.saw(&taken, runner)?;
        let (step, loss, accuracy) = (taken.step, taken.loss, taken.accuracy);
        audience.tell(Progress::Step { step, loss, accuracy });
        if audience.is_stopped() {
            return Err(self.leave(under_way, steps)?);
        }
        keeper.stands(record, *outlook, steps, &runner.adapter(), false)?;
        Ok(Some(Happened::Step { step, loss, accuracy }))
    }

    /// Keeps a lesson that stands between two steps, as it is stopped; the error to say so with. One that has taken none has nothing
    /// to keep.
    fn leave(&self, under_way: &mut Imprinted, steps: &Steps) -> Result<Error> {
        let Imprinted { keeper, outlook, plan, .. } = under_way;
        let record = &self.opening.record;
        if record.steps == 0 {
            return Ok(stopped_before_steps());
        }
        keeper.stands(record, *outlook, steps, &self.runner.adapter(), true)?;
        let message = format!("stopped after step {} of {}; go on with option `resume`", record.steps, plan.steps);
        Ok(Error::new(ErrorKind::Stopped, self.keep.store.display(), message))
    }

    /// Compares what the lesson has come to with what was there, and keeps it: as what counts, or aside. One that is stopped while it
    /// is judged stands after its last step.
    fn end(&mut self, mut under_way: Imprinted, mut steps: Option<Steps>, audience: &mut Audience) -> Result<Happened> {
        let (ran, verdict) = match (self.judge(&mut under_way, steps.as_mut(), audience), &steps) {
            (Err(error), Some(steps)) if error.kind() == ErrorKind::Stopped => {
                return Err(self.leave(&mut under_way, steps)?);
            }
            (judged, _) => judged.map_err(before_steps)?,
        };
        let report = Box::new(self.report(&under_way, ran, &verdict));
        self.phase = Reached::Over(report.clone());
        Ok(Happened::Ended(report))
    }

    fn judge(
        &mut self,
        under_way: &mut Imprinted,
        steps: Option<&mut Steps>,
        audience: &mut Audience,
    ) -> Result<(Ran, Verdict)> {
        let Imprinted { plan, keeper, outlook, measured, added, replay, .. } = under_way;
        let Trainer { opening, runner, .. } = self;
        let ran = steps.map(|steps| steps.end(runner, &opening.data, audience)).transpose()?.unwrap_or_default();
        let ending =
            Ending { opening, runner, plan, keeper, outlook, added: added.as_ref(), epoch: &ran.epoch, replay };
        let verdict = ending.judge(measured.take(), audience)?;
        Ok((ran, verdict))
    }

    fn report(&self, under_way: &Imprinted, ran: Ran, verdict: &Verdict) -> TrainReport {
        let Trainer { lesson, forecast, opening: Opening { data, record, .. }, runner, .. } = self;
        let Imprinted { plan, outlook, .. } = under_way;
        let mut quarantined = runner.quarantine().to_vec();
        quarantined.sort_by(|a, b| a.path.cmp(&b.path));
        TrainReport {
            method: lesson.method.name().to_owned(),
            seed: lesson.seed,
            steps: record.steps,
            classes: data.classes.clone(),
            trainable_params: if lesson.method.settings().trains_head {
                runner.trained(outlook.lets_pairs_learn())
            } else {
                0
            },
            train_loss: ran.epoch.loss(),
            val_accuracy: verdict.accuracy,
            val_accuracy_before: verdict.accuracy_before,
            trial: record.trial.clone(),
            aside: verdict.aside,
            resumed_after: under_way.resumed_after,
            recompositions: record.events.len(),
            undone: record.undone(),
            rested_steps: (plan.steps > 0 && !record.sites.is_empty()).then_some(ran.rested),
            calibration: record.calibration,
            left_out_accuracy: outlook.left_out.map(|left_out| left_out.accuracy),
            cross_validation: outlook.cross_validation,
            seconds: self.begin.elapsed().as_secs_f64(),
            startup_ms: self.startup_ms,
            step_ms_median: median(ran.step_ms),
            threads: forecast.threads,
            cache_bytes: runner.cache_bytes(data.photos.len()),
            peak_rss_bytes: peak_rss_bytes(),
            lesson_peak_bytes: self.memory.peak(),
            planned_peak_bytes: forecast.peak_rss_bytes,
            planned: *forecast,
            generation: verdict.generation,
            quarantined,
            ignored: self.ignored.clone(),
            train_images: data.present(),
            replayed: data.photos.len() - data.present(),
            replay_bytes: under_way.replay.bytes(),
            val_images: verdict.photos,
            shown: Shown {
                record: record.clone(),
                trained: data.per_class(),
                before: verdict.before.clone().map(|before| before.0),
                after: verdict.evaluation.clone(),
            },
        }
    }
}

/// A lesson that is stopped before its first step has nothing to keep.
fn before_steps(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Stopped => stopped_before_steps(),
        _ => error,
    }
}

fn stopped_before_steps() -> Error {
    Error::new(ErrorKind::Stopped, "the lesson", "stopped before it took a step; go on with option `resume`")
}

/// What a program may hold can go to another thread.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Trainer>();
    is_send::<Classifier>();
    is_send::<Store>();
    is_send::<StoreWriter>();
};
