//! One lesson: imprint the head, train pairs and head, recompose on the way, keep the result as a generation.

use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Instant;

use super::cache::{CachePlace, Slot};
use super::clock::since_begin_ms;
use super::dataset::{Dataset, order};
use super::forecast::{Choice, Forecast, Work, does_not_fit, largest_photo};
use super::gate::Gate;
use super::lesson::{Lesson, Observer, Outcome, Progress, TrainReport, Validation};
use super::memory::peak_rss_bytes;
use super::metrics::{Journal, Taken};
use super::plan::{Plan, plan};
use super::runner::{Means, Runner};
use super::store::{Record, Store, diverged};
use crate::adapter::{Adapter, Gradients, SiteSettings};
use crate::autodiff::Activations;
use crate::backbone::SharedAdapter;
use crate::bundle::{Bundle, check_output};
use crate::error::{Error, ErrorKind, Result};

/// Trains on a folder of photos and writes a store.
///
/// The store appears once every photo has been read once; its first generation is the imprinted head, its last the
/// result. Nothing is written before bundle, data and output have been found good. A generation is kept after the loss
/// of a batch has been measured with its own values.
///
/// # Errors
/// `Exists`, `Io`, `Bundle`, `Model`, `Data`; `Usage` where the output lies among the photos; `Diverged` where the loss or
/// a trained value stops being a number, with the step: the store then keeps the generation before.
pub fn train(bundle: &Bundle, lesson: &Lesson, output: &Path, observer: &mut Observer) -> Result<TrainReport> {
    let begin = Instant::now();
    check_output(output)?;
    refuse_among_photos(output, lesson)?;
    let (mut data, validation) = datasets(lesson)?;
    data.number(Slot::Rounded);
    let settings = lesson.method.settings();
    let start = lesson.start.unwrap_or(settings.start);
    let adapter = fresh_adapter(bundle, lesson, data.classes.len())?;
    let plan = plan(bundle, lesson, data.samples.len());
    let (mut runner, forecast) = runner(bundle, adapter, lesson, &plan, (&data, validation.as_ref()), output)?;
    let startup_ms = since_begin_ms();
    observer(Progress::Planned(&forecast));

    observer(Progress::Begin { phase: "imprint", total: data.samples.len() as u64 });
    runner.imprint(&mut data, observer)?;
    observer(Progress::End);
    // Photos that cannot be read have left.
    let plan = self::plan(bundle, lesson, data.samples.len());
    let before = validation.as_ref().map(|v| runner.evaluate(v, "before", observer)).transpose()?;

    let mut record = Record::new(bundle, lesson, start, &data);
    let first: Vec<usize> = order(lesson.seed, 0, data.samples.len()).into_iter().take(lesson.batch).collect();
    judge(&mut runner, &data, &first, None, 0, observer)?;
    let mut store = Store::create(output, &runner.adapter(), &record)?;
    let mut journal = Journal::create(output)?;
    if let Some(evaluation) = &before {
        journal.evaluation(0, evaluation.accuracy)?;
    }
    if validation.is_none() {
        runner.drop_prefix(data.samples.len());
    }
    let plan = plan.cut_to(if settings.trains_head { plan.steps } else { 0 });
    let steps = plan.steps;
    let ran = run_steps(&mut runner, &data, lesson, &plan, &mut record, &mut journal, observer)?;
    let after = match (&validation, steps) {
        (Some(v), 1..) => Some(runner.evaluate(v, "after", observer)?),
        _ => before.clone(),
    };
    if steps > 0 {
        if let Some(evaluation) = &after {
            journal.evaluation(steps, evaluation.accuracy)?;
        }
        store.save(&runner.adapter(), &record)?;
    }
    let mut quarantined = runner.quarantine().to_vec();
    quarantined.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(TrainReport {
        method: lesson.method.name().to_owned(),
        seed: lesson.seed,
        steps,
        classes: data.classes.clone(),
        trainable_params: if settings.trains_head { runner.adapter().trainable() } else { 0 },
        train_loss: ran.last_epoch_loss,
        val_images: after.as_ref().map_or(0, |e| e.n),
        val_accuracy: after.map(|e| e.accuracy),
        val_accuracy_before: before.map(|e| e.accuracy),
        recompositions: record.events.len(),
        undone: record.events.iter().filter(|event| event.outcome == Outcome::Undone).count(),
        left_out_accuracy: runner.left_out_accuracy().map(|left_out| left_out.accuracy),
        seconds: begin.elapsed().as_secs_f64(),
        startup_ms,
        step_ms_median: median(ran.step_ms),
        threads: forecast.threads,
        cache_bytes: runner.cache_bytes(data.samples.len()),
        peak_rss_bytes: peak_rss_bytes(),
        planned_peak_bytes: forecast.peak_rss_bytes,
        planned: forecast,
        generation: store.current(),
        quarantined,
        train_images: data.samples.len(),
    })
}

/// The network on as many threads, and with such a cache, as the lesson asks for and its memory allows; and what that takes.
fn runner(
    bundle: &Bundle,
    adapter: Adapter,
    lesson: &Lesson,
    plan: &Plan,
    (data, validation): (&Dataset, Option<&Dataset>),
    output: &Path,
) -> Result<(Runner, Forecast)> {
    let trains = lesson.method.settings().trains_head;
    let (gradient_bytes, generation_bytes) = (4 * adapter.trainable() as u64, adapter.bytes() as u64);
    let undo_bytes = if plan.interval > 0 { generation_bytes } else { 0 };
    let adapter: SharedAdapter = Arc::new(RwLock::new(adapter));
    let plan_with = |activations| Runner::plan(bundle, &adapter, trains.then_some(activations));
    let mut network = (Activations::Kept, plan_with(Activations::Kept)?);
    let photos = data.samples.iter().chain(validation.iter().flat_map(|v| &v.samples));
    let (photo_bytes, largest) = largest_photo(photos.map(|sample| &sample.path)).unzip();
    let boundary_bytes = network.1.boundary_len().map_or(0, |len| 2 * len as u64);
    let cached = room(lesson, boundary_bytes).min(data.samples.len());
    let work = Work {
        boundary_bytes,
        gradient_bytes,
        generation_bytes,
        undo_bytes,
        photo_bytes: photo_bytes.unwrap_or(0),
        photos: data.samples.len(),
        cached,
        measured: validation.map_or(0, |v| v.samples.len()),
        steps: if trains { plan.steps } else { 0 },
        batch: lesson.batch,
        trains,
    };
    let folder = output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cache = if trains && !lesson.augment && cached > 0 { lesson.cache } else { CachePlace::Off };
    let limit = lesson.ram_limit.unwrap_or(u64::MAX);
    if lesson.ram_limit.is_some() && peak_rss_bytes().is_none() {
        let message = "this system does not tell how much memory a process takes, so no limit can be kept";
        return Err(Error::new(ErrorKind::Memory, "--ram-limit", message));
    }
    let mut smallest = 0;
    let first = Choice { threads: lesson.threads, activations: Activations::Kept, cache };
    for choice in first.and_smaller() {
        if network.0 != choice.activations {
            // The other plan is let go first.
            drop(network);
            network = (choice.activations, plan_with(choice.activations)?);
        }
        let network = &network.1;
        smallest = work.ceiling(choice, network.activation_bytes()? as u64).unwrap_or(0);
        if smallest > limit {
            continue;
        }
        let means = Means { threads: choice.threads, cache: choice.cache, folder, photos: cached, measured: 0 };
        let mut runner = Runner::start(network, adapter.clone(), bundle, &means)?;
        let forecast = work.forecast(choice, |rounds| runner.trial(trains, rounds, largest.clone()))?;
        smallest = forecast.peak_rss_bytes.unwrap_or(0);
        if smallest <= limit {
            return Ok((runner, forecast));
        }
    }
    Err(does_not_fit(limit, smallest))
}

/// Photos that find room in the cache, `bytes` each.
fn room(lesson: &Lesson, bytes: u64) -> usize {
    let photos = lesson.cache_limit.and_then(|limit| limit.checked_div(bytes));
    photos.map_or(usize::MAX, |photos| usize::try_from(photos).unwrap_or(usize::MAX))
}

/// A store among the photos would be taken for one of their classes.
fn refuse_among_photos(output: &Path, lesson: &Lesson) -> Result<()> {
    let folder = output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(folder) = folder.canonicalize() else { return Ok(()) };
    let validation = match &lesson.validation {
        Validation::Folder(photos) => Some(("--val", photos)),
        _ => None,
    };
    for (flag, photos) in [("--data", &lesson.data)].into_iter().chain(validation) {
        if photos.canonicalize().is_ok_and(|photos| folder.starts_with(photos)) {
            let message = format!("lies inside {flag} {}, among the photos; write elsewhere with -o", photos.display());
            return Err(Error::new(ErrorKind::Usage, output.display(), message));
        }
    }
    Ok(())
}

/// The photos to train on, and those to measure accuracy on.
///
/// # Errors
/// `Data` where a folder cannot be used, `Mismatch` where their classes differ.
pub(super) fn datasets(lesson: &Lesson) -> Result<(Dataset, Option<Dataset>)> {
    let data = Dataset::open(&lesson.data)?;
    data.require_trainable()?;
    match &lesson.validation {
        Validation::None => Ok((data, None)),
        Validation::Split(share) => {
            let (train, validation) = data.split(*share, lesson.seed)?;
            Ok((train, Some(validation)))
        }
        Validation::Folder(folder) => {
            let validation = Dataset::open(folder)?.relabelled(&data.classes)?;
            Ok((data, Some(validation)))
        }
    }
}

/// An adapter at its start, as the lesson's method wants it.
pub(super) fn fresh_adapter(bundle: &Bundle, lesson: &Lesson, classes: usize) -> Result<Adapter> {
    let settings = lesson.method.settings();
    let start = lesson.start.unwrap_or(settings.start);
    let mut seeds = Vec::new();
    if settings.trains_pairs {
        for (index, site) in bundle.sites.iter().enumerate() {
            seeds.push((site.name.clone(), site.out_dim, site.in_dim, bundle.directions(index).clone()));
        }
    }
    let site_settings = SiteSettings { start, ..SiteSettings::default() };
    Adapter::start(seeds, bundle.rank, site_settings, classes, bundle.feature_dim)
}

/// Steps whose times have room from the start.
const STEPS_AHEAD: usize = 1 << 16;

/// What the steps leave behind.
#[derive(Default)]
pub(super) struct Ran {
    pub(super) last_epoch_loss: Option<f32>,
    pub(super) step_ms: Vec<f64>,
}

/// Looks on after every step.
pub(super) trait Witness {
    /// One step has been taken. What `runner` is asked here must not change what it trains.
    ///
    /// # Errors
    /// Its own: they end the lesson.
    fn saw(&mut self, taken: &Taken, runner: &mut Runner) -> Result<()>;
}

/// Trains an imprinted adapter on `data` as planned.
///
/// # Errors
/// `Diverged` where the loss or a trained value stops being a number; those of `witness`.
pub(super) fn run_steps(
    runner: &mut Runner,
    data: &Dataset,
    lesson: &Lesson,
    plan: &Plan,
    record: &mut Record,
    witness: &mut dyn Witness,
    observer: &mut Observer,
) -> Result<Ran> {
    let expected = usize::try_from(plan.steps).unwrap_or(0).min(STEPS_AHEAD);
    let mut ran = Ran { last_epoch_loss: None, step_ms: Vec::with_capacity(expected) };
    if plan.steps == 0 {
        return Ok(ran);
    }
    let mut gate = Gate::new(plan, data.classes.len(), runner.left_out_accuracy());
    observer(Progress::Begin { phase: "train", total: plan.steps });
    let (mut epoch, mut photos, mut at) = (0, Vec::new(), 0..0);
    let mut epoch_loss = Mean::default();
    let mut augment = None;
    let mut gradients = runner.adapter().zero_gradients();
    for step in 0..plan.steps {
        if at.end == photos.len() {
            photos = order(lesson.seed, epoch, data.samples.len());
            at = 0..0;
            epoch += 1;
            epoch_loss = Mean::default();
        }
        at = at.end..photos.len().min(at.end + lesson.batch);
        augment = lesson.augment.then_some((lesson.seed, epoch - 1));
        let clock = runner.gradients(data, &photos[at.clone()], augment, &mut gradients, observer)?;
        if gradients.images == 0 {
            continue;
        }
        if !gradients.loss.is_finite() {
            return Err(diverged(step + 1, NO_NUMBER));
        }
        let update = Instant::now();
        let rates = gate.rates(step, gradients.loss);
        runner.update(&gradients, rates)?;
        gate.after_step(step, &mut runner.adapter_mut(), &mut record.events)?;
        record.steps = step + 1;
        ran.step_ms.push(clock + update.elapsed().as_secs_f64() * 1e3);
        epoch_loss.add(&gradients);
        let noted = plan.notes_importance(step);
        witness.saw(&Taken { step: step + 1, epoch: epoch - 1, gradients: &gradients, rates, noted }, runner)?;
        observer(Progress::Step { step: step + 1, loss: gradients.loss, accuracy: gradients.accuracy() });
    }
    observer(Progress::End);
    judge(runner, data, &photos[at], augment, plan.steps, observer)?;
    ran.last_epoch_loss = epoch_loss.value();
    Ok(ran)
}

const NO_NUMBER: &str = "the loss stopped being a number";

/// The values after `step` steps have been seen by no batch yet: measures one.
fn judge(
    runner: &mut Runner,
    data: &Dataset,
    batch: &[usize],
    augment: Option<(u64, u64)>,
    step: u64,
    observer: &mut Observer,
) -> Result<()> {
    match runner.loss(data, batch, augment, observer)? {
        Some(loss) if !loss.is_finite() => Err(diverged(step, NO_NUMBER)),
        _ => Ok(()),
    }
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn add(&mut self, gradients: &Gradients) {
        self.sum += f64::from(gradients.loss) * gradients.images as f64;
        self.count += gradients.images as f64;
    }

    fn value(&self) -> Option<f32> {
        (self.count > 0.0).then_some((self.sum / self.count) as f32)
    }
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
