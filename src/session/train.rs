//! One lesson: imprint the head, train pairs and head, recompose on the way, keep the result as a generation.

use std::path::Path;
use std::time::Instant;

use super::added::{Added, add_classes, imprinted_only};
use super::begin::{Begun, announce, begin_steps, check_imprinted, remember};
use super::cache::{CachePlace, Slot};
use super::clock::startup_ms;
use super::dataset::Dataset;
use super::duplicates::refuse_shared_folder;
use super::evaluate::{Recognized, warn_of_ignored};
use super::forecast::Forecast;
use super::keep::{Keep, Keeper, NEVER};
use super::lesson::{Lesson, Observer, Progress, TrainReport, Validation};
use super::memory::{Watch, peak_rss_bytes};
use super::opening::Opening;
use super::plan::Plan;
use super::rehearsal::Rehearsed;
use super::room::{Applicant, Found};
use super::runner::Runner;
use super::steps::{EpochMean, Ran, run_steps};
use super::store::{Record, StoreWriter, beside};
use super::trial::{Ended, Trial, TrialPhotos};
use crate::adapter::{Adapter, SiteSettings};
use crate::bundle::Bundle;
use crate::core::Start;
use crate::error::{Error, ErrorKind, Result};

/// [`train_into`] a new store on the disk.
///
/// # Errors
/// As there.
pub fn train(bundle: &Bundle, lesson: &Lesson, output: &Path, observer: &mut Observer) -> Result<TrainReport> {
    train_into(bundle, lesson, &Keep::new(output), observer)
}

/// Trains on a folder of photos and keeps what comes of it in a store.
///
/// A new store appears once every photo has been read once; its first generation is the imprinted head. The lesson's end becomes
/// the next generation if it is at least as good as what was there ([`Trial`]); otherwise it is kept aside. Nothing is written
/// before bundle, data and output have been found good. A generation is kept after the loss of a batch has been measured with
/// its own values. Linux's mark of the process's largest resident size (VmHWM) is set back when the lesson begins, so that what the
/// process did before does not count as the lesson's.
///
/// # Errors
/// `Exists`, `Io`, `Unsynced`, `Bundle`, `Model`, `Data`, `Store`; `Usage` where the output lies among the photos, or those to measure
/// accuracy on are those trained on; `Mismatch` where the store holds something else; `Busy` where another process writes it; `Stopped`
/// where `keep.stop` was set; `Diverged` where the loss or a trained value stops being a number, with the step: the store then keeps the
/// generation before.
pub fn train_into(bundle: &Bundle, lesson: &Lesson, keep: &Keep, observer: &mut Observer) -> Result<TrainReport> {
    let (begin, memory) = (Instant::now(), Watch::begin());
    refuse_among_photos(keep.store, lesson)?;
    let (data, validation) = datasets(lesson, keep.further)?;
    let ignored = warn_of_ignored(&data, validation.as_ref(), observer);
    let opening = Opening::find(bundle, lesson, keep, (data, validation))?;
    let (mut attempt, forecast) = Attempt::ready(bundle, lesson, keep, opening, &memory)?;
    let startup_ms = startup_ms(begin);
    attempt.opening.warnings.iter().for_each(|warning| observer(Progress::Warning(warning)));
    observer(Progress::Planned(&forecast));

    let (mut begun, added) = attempt.imprint(observer)?;
    let resumed_after = attempt.opening.resumes.then_some(attempt.opening.record.steps);
    let plan = attempt.plan();
    let ran = attempt.take_steps(&plan, &mut begun, observer)?;
    let verdict = attempt.judge(&plan, begun, added.as_ref(), &ran.epoch, observer)?;

    let Attempt { opening: Opening { data, record, .. }, runner, .. } = attempt;
    let mut quarantined = runner.quarantine().to_vec();
    quarantined.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(TrainReport {
        method: lesson.method.name().to_owned(),
        seed: lesson.seed,
        steps: record.steps,
        trainable_params: if lesson.method.settings().trains_head { runner.trained() } else { 0 },
        train_loss: ran.epoch.loss(),
        val_images: verdict.photos,
        val_accuracy: verdict.accuracy,
        val_accuracy_before: verdict.accuracy_before,
        aside: verdict.aside,
        resumed_after,
        recompositions: record.events.len(),
        undone: record.undone(),
        rested_steps: (plan.steps > 0 && !record.sites.is_empty()).then_some(ran.rested),
        trial: record.trial,
        left_out_accuracy: runner.outlook().left_out.map(|left_out| left_out.accuracy),
        rehearsal: runner.outlook().rehearsal,
        seconds: begin.elapsed().as_secs_f64(),
        startup_ms,
        step_ms_median: median(ran.step_ms),
        threads: forecast.threads,
        cache_bytes: runner.cache_bytes(data.samples.len()),
        peak_rss_bytes: peak_rss_bytes(),
        lesson_peak_bytes: memory.peak(),
        planned_peak_bytes: forecast.peak_rss_bytes,
        planned: forecast,
        generation: verdict.generation,
        quarantined,
        ignored,
        train_images: data.samples.len(),
        classes: data.classes,
    })
}

/// One attempt at a lesson: from where it opens to its end, or to where it is stopped.
struct Attempt<'l> {
    bundle: &'l Bundle,
    lesson: &'l Lesson,
    keep: &'l Keep<'l>,
    opening: Opening,
    runner: Runner,
    /// It is rehearsed where its photos are few.
    rehearses: bool,
}

/// What has become of it.
struct Verdict {
    /// The generation that is current now.
    generation: u64,
    /// The number under which the lesson was kept aside.
    aside: Option<u64>,
    /// Photos that accuracy was measured on.
    photos: usize,
    accuracy: Option<f64>,
    accuracy_before: Option<f64>,
}

impl<'l> Attempt<'l> {
    /// Finds room for the lesson, so that its first photo can be run; and what it will take.
    fn ready(
        bundle: &'l Bundle,
        lesson: &'l Lesson,
        keep: &'l Keep<'l>,
        mut opening: Opening,
        memory: &Watch,
    ) -> Result<(Self, Forecast)> {
        opening.data.number(Slot::Rounded);
        let adapter = opening.take_adapter()?;
        let rehearses = !keep.further && opening.record.steps == 0 && !opening.over;
        let plan = opening.plan(bundle, lesson);
        let applicant = Applicant { bundle, lesson, plan: &plan, opening: &opening, rehearses, keep, memory };
        let Found { runner, forecast, warning } = applicant.find(adapter)?;
        opening.warnings.extend(warning);
        opening.settle_rounding(forecast.cache != CachePlace::Off)?;
        Ok((Attempt { bundle, lesson, keep, opening, runner, rehearses }, forecast))
    }

    fn plan(&self) -> Plan {
        self.opening.plan(self.bundle, self.lesson)
    }

    /// Imprints classes that are new, measures what was there, and adds classes that no step follows.
    fn imprint(&mut self, observer: &mut Observer) -> Result<(Begun, Option<Added>)> {
        let plan = self.plan();
        let Attempt { bundle, lesson, keep, ref mut opening, ref mut runner, .. } = *self;
        observer(Progress::Begin { phase: "imprint", total: opening.data.samples.len() as u64 });
        announce(opening, runner, keep, &plan)?;
        let counted = [opening.known, opening.knew];
        let seen = runner.imprint(&mut opening.data, counted, keep.stop, observer)?;
        observer(Progress::End);
        // Photos that cannot be read have left, and with them the last ones of a class perhaps.
        opening.find_absent(keep);
        let plan = opening.plan(bundle, lesson);
        let mut at_start = remember(runner, bundle, opening, &seen, keep.stop, observer)?;
        let begun = begin_steps(runner, opening, lesson, keep, (&plan, &seen), observer)?;
        let mut added = None;
        if opening.only_adds(&plan) {
            added = add_classes(runner, opening.knew, &seen, at_start.as_mut());
            observer(Progress::Warning(&imprinted_only(&opening.absent, added.as_ref())));
            check_imprinted(runner, &opening.data, lesson, observer)?;
        }
        if opening.validation.is_none() {
            runner.drop_prefix(opening.data.samples.len());
        }
        Ok((begun, added))
    }

    /// Rehearses the lesson where its photos are few, and takes its steps.
    fn take_steps(&mut self, plan: &Plan, begun: &mut Begun, observer: &mut Observer) -> Result<Ran> {
        let Attempt { bundle, lesson, keep, ref mut opening, ref mut runner, rehearses } = *self;
        let Opening { data, record, from, resumes, .. } = opening;
        let Begun { store, journal, before, .. } = begun;
        let mut keeper = Keeper::new(store, keep, journal, before.clone(), *runner.outlook());
        if keep.further && !*resumes && plan.steps > 0 {
            keeper.begin(record, &runner.adapter())?;
        }
        if rehearses && plan.steps > 0 {
            let begun = runner.outlook().rehearsal.unwrap_or_default();
            let rehearsed = Rehearsed { bundle, lesson, data, record, stop: keep.stop };
            let rehearsal = rehearsed.run(runner, begun, observer, |runner, rehearsal, is_last| {
                keeper.rehearsed((rehearsal, is_last), record, &runner.adapter())
            })?;
            runner.was_rehearsed(rehearsal);
            keeper.knows(*runner.outlook());
        }
        let ran = run_steps(runner, data, lesson, plan, record, from.take(), &mut keeper, observer)?;
        if ran.stopped {
            let message = format!("stopped after step {} of {}; go on with --resume", record.steps, plan.steps);
            return Err(Error::new(ErrorKind::Stopped, keep.store.display(), message));
        }
        Ok(ran)
    }

    /// Compares what the lesson has come to with what was there, and keeps it: as what counts, or aside.
    fn judge(
        &mut self,
        plan: &Plan,
        begun: Begun,
        added: Option<&Added>,
        epoch: &EpochMean,
        observer: &mut Observer,
    ) -> Result<Verdict> {
        let is_judged = plan.steps > 0 || self.opening.only_adds(plan);
        let Attempt { opening, runner, .. } = self;
        let Opening { data, validation, record, over, over_aside, knew, .. } = opening;
        let Begun { mut store, mut journal, before, measured } = begun;
        let after = match validation {
            Some(v) if is_judged => Some(runner.evaluate(v, "after", 0, &NEVER, observer)?),
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
            let mut recognized = after.as_ref().map(Recognized::from).filter(|_| before.held_back);
            if plan.steps > 0 {
                let on_trained = close(runner, data, observer)?;
                recognized = recognized.or(Some(on_trained));
            }
            let (made_up, outlook) = (added.map(|added| &added.made_up), runner.outlook());
            let (before, after, classes, knew) = (&before, recognized.as_ref(), &data.classes, *knew);
            record.trial = Trial::of(&Ended { before, after, outlook, epoch, classes, knew, made_up });
            aside = end(&mut store, &runner.adapter(), record)?;
        }
        store.end_lesson();
        let photos = after.as_ref().map_or(0, |evaluation| evaluation.n);
        Ok(Verdict { generation: store.current(), aside, photos, accuracy, accuracy_before })
    }
}

/// After the last step: the class means under the pairs as they have become, and which of the photos are recognized.
fn close(runner: &mut Runner, data: &Dataset, observer: &mut Observer) -> Result<Recognized> {
    observer(Progress::Begin { phase: "class means", total: 1 });
    let (means, right) = runner.means(data, &NEVER, &mut |_| ())?;
    runner.adapter_mut().means.replace(&means);
    observer(Progress::End);
    Ok(right)
}

/// Keeps the lesson's end; the number under which it was kept aside, where it is not shown to be as good as what was there.
fn end(store: &mut StoreWriter, adapter: &Adapter, record: &Record) -> Result<Option<u64>> {
    if record.trial.as_ref().is_some_and(Trial::passed) {
        return store.save(adapter, record).map(|()| None);
    }
    store.set_aside(adapter, record).map(Some)
}

/// A store among the photos would be taken for one of their classes.
pub(super) fn refuse_among_photos(output: &Path, lesson: &Lesson) -> Result<()> {
    let Ok(folder) = beside(output).canonicalize() else { return Ok(()) };
    let validation = match &lesson.validation {
        Validation::Folder(photos) => Some(("--val", photos)),
        _ => None,
    };
    for (flag, photos) in [("--data", &lesson.data)].into_iter().chain(validation) {
        if photos.canonicalize().is_ok_and(|photos| folder.starts_with(photos)) {
            let message = format!("lies inside {flag} {}, among the photos; keep it elsewhere", photos.display());
            return Err(Error::new(ErrorKind::Usage, output.display(), message));
        }
    }
    Ok(())
}

/// The photos to train on, and those to measure accuracy on. A `further` lesson may have one new class, and measure classes that it
/// has no photos of.
///
/// # Errors
/// `Data` where a folder cannot be used, `Mismatch` where their classes differ, `Usage` where one folder is in the other.
pub(super) fn datasets(lesson: &Lesson, further: bool) -> Result<(Dataset, Option<Dataset>)> {
    if let Validation::Folder(folder) = &lesson.validation {
        refuse_shared_folder(&lesson.data, folder)?;
    }
    let data = Dataset::open(&lesson.data)?;
    if !further {
        data.require_trainable()?;
    }
    match &lesson.validation {
        Validation::None => Ok((data, None)),
        Validation::Split(share) => {
            let (train, validation) = data.split(*share, lesson.seed)?;
            Ok((train, Some(validation)))
        }
        Validation::Folder(folder) => {
            let validation = Dataset::open(folder)?;
            let validation = if further { validation } else { validation.relabelled(&data.classes)? };
            Ok((data, Some(validation)))
        }
    }
}

/// An adapter at its start, as the lesson's method wants it.
pub(super) fn fresh_adapter(bundle: &Bundle, lesson: &Lesson, classes: usize) -> Result<Adapter> {
    let settings = lesson.method.settings();
    let start = settings.trains_pairs.then_some(lesson.start.unwrap_or(settings.start));
    start_adapter(bundle, start, classes)
}

/// An adapter with all pairs on such a start, or with none.
pub(super) fn start_adapter(bundle: &Bundle, start: Option<Start>, classes: usize) -> Result<Adapter> {
    let mut seeds = Vec::new();
    if start.is_some() {
        for (index, site) in bundle.sites.iter().enumerate() {
            seeds.push((site.name.clone(), site.out_dim, site.in_dim, bundle.directions(index).clone()));
        }
    }
    let site_settings = SiteSettings { start: start.unwrap_or_default(), ..SiteSettings::default() };
    Adapter::start(seeds, bundle.rank, site_settings, classes, bundle.feature_dim)
}

pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}
