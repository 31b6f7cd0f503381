//! Where photos are few: whether pairs help, tried on each photo while it is left out.

use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::evaluate::argmax;
use super::lesson::{Lesson, Observer, Progress};
use super::metrics::Taken;
use super::plan::{Due, Plan, plan};
use super::runner::{Runner, go_on};
use super::steps::{Course, EpochMean, Witness, run_steps};
use super::store::Record;
use crate::adapter::{Adapter, HeadLoss, SiteSettings, Update};
use crate::bundle::Bundle;
use crate::core::{AdamW, IMPRINT_SCALE};
use crate::error::{ErrorKind, Result};

/// A lesson is rehearsed where no class has more photos: it is short then, and it is open whether pairs help.
const FEW: usize = 5;
/// Feature values that are kept for it at most, 1 MiB.
const MOST_VALUES: usize = 1 << 18;

/// How many photos were right while they were left out, each once, of classes with two and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// How many there were.
    pub photos: usize,
    /// With the head imprinted on the others.
    pub imprinted: usize,
    /// With the head trained on them.
    pub head: usize,
    /// With pairs and head trained on them.
    pub pairs: usize,
    /// Photos that only one of the last two got right.
    pub differ: usize,
}

impl Rehearsal {
    /// Whether pairs are shown to help, by more than the standard error of the difference, the root of the photos that differ: with few
    /// photos they unlearn more often than not (`docs/RESULTS.md`).
    #[must_use]
    pub fn pairs_help(&self) -> bool {
        self.pairs as f64 - self.head as f64 > (self.differ as f64).sqrt()
    }

    /// Accuracy of imprinting, and of the lesson that follows from it, in 0..1.
    pub(super) fn accuracies(&self) -> [f64; 2] {
        let after = if self.pairs_help() { self.pairs } else { self.head };
        [self.imprinted, after].map(|right| right as f64 / self.photos.max(1) as f64)
    }
}

/// Steps that rehearsing a lesson takes; 0 where it is not rehearsed: photos are not few, or recompositions are asked for.
pub(super) fn rehearsed_steps(bundle: &Bundle, lesson: &Lesson, data: &Dataset) -> u64 {
    let steps = |fold| plan(bundle, lesson, parts(data, fold).0.len()).steps;
    (0..folds(bundle, lesson, data)).map(steps).sum()
}

/// In how many parts the photos are left out.
fn folds(bundle: &Bundle, lesson: &Lesson, data: &Dataset) -> usize {
    let is_default = matches!(plan(bundle, lesson, data.samples.len()).due, Due::Once(_));
    let is_small = data.samples.len().saturating_mul(bundle.feature_dim) <= MOST_VALUES;
    let most = counts(data).into_iter().max().unwrap_or(0);
    if is_default && is_small && (2..=FEW).contains(&most) { most } else { 0 }
}

fn counts(data: &Dataset) -> Vec<usize> {
    let mut counts = vec![0; data.classes.len()];
    data.samples.iter().for_each(|sample| counts[sample.class] += 1);
    counts
}

/// The photos to train on, and those that `fold` leaves out: of each class with two and more, the one at that place.
fn parts(data: &Dataset, fold: usize) -> (Vec<usize>, Vec<usize>) {
    let counts = counts(data);
    let mut seen = vec![0; counts.len()];
    (0..data.samples.len()).partition(|&photo| {
        let class = data.samples[photo].class;
        seen[class] += 1;
        counts[class] < 2 || seen[class] - 1 != fold
    })
}

fn side(data: &Dataset, photos: &[usize]) -> Dataset {
    let samples = photos.iter().map(|&photo| data.samples[photo].clone()).collect();
    Dataset { root: data.root.clone(), classes: data.classes.clone(), samples }
}

/// Rehearses a first lesson whose head has been imprinted on `data`; afterwards the runner is as it was. `None` where the photos are
/// not few, or the task is easy.
///
/// Head and pairs see the same photos in the same order, without random cuts. Features do not change while only the head learns, so
/// that costs next to nothing.
///
/// # Errors
/// `Stopped` once `stop` is set; those of the network.
pub(super) fn rehearse(
    runner: &mut Runner,
    bundle: &Bundle,
    lesson: &Lesson,
    data: &Dataset,
    record: &Record,
    stop: &AtomicBool,
    observer: &mut Observer,
) -> Result<Option<Rehearsal>> {
    let folds = folds(bundle, lesson, data);
    if folds == 0 || runner.outlook().is_easy() {
        return Ok(None);
    }
    let Some(features) = runner.all_features(data)? else { return Ok(None) };
    let lesson = Lesson { augment: false, ..lesson.clone() };
    let start = runner.adapter().clone();
    let mut total = Rehearsal { photos: 0, imprinted: 0, head: 0, pairs: 0, differ: 0 };
    observer(Progress::Begin { phase: REHEARSAL, total: rehearsed_steps(bundle, &lesson, data) });
    for fold in 0..folds {
        let (rest, out) = parts(data, fold);
        let plan = Plan { due: Due::Never, ..plan(bundle, &lesson, rest.len()) };
        let rows = Rows { features: &features, width: bundle.feature_dim, data };
        let imprinted = rows.imprint(&rest, start.clone())?;
        total.photos += out.len();
        let head = rows.right(&out, &rows.train(&rest, &lesson, &plan, &imprinted)?);
        total.imprinted += count(&rows.right(&out, &imprinted));
        let pairs = Pairs { lesson: &lesson, plan: &plan, record, stop };
        let pairs = pairs.right(runner, imprinted, [side(data, &rest), side(data, &out)], observer)?;
        (total.head, total.pairs) = (total.head + count(&head), total.pairs + count(&pairs));
        total.differ += head.iter().zip(&pairs).filter(|(head, pairs)| head != pairs).count();
    }
    observer(Progress::End);
    runner.restart(start);
    Ok(Some(total))
}

/// What is being done, for a person to read.
pub(super) const REHEARSAL: &str = "rehearsal";

/// The feature vector of every photo.
struct Rows<'r> {
    features: &'r [f32],
    width: usize,
    data: &'r Dataset,
}

impl Rows<'_> {
    fn of(&self, photo: usize) -> (&[f32], usize) {
        (&self.features[photo * self.width..][..self.width], self.data.samples[photo].class)
    }

    /// An adapter with its head imprinted on `photos`.
    fn imprint(&self, photos: &[usize], mut adapter: Adapter) -> Result<Adapter> {
        let mut counts = vec![0; self.data.classes.len()];
        let mut imprint = adapter.head.imprint(&mut counts)?;
        for (row, class) in photos.iter().map(|&photo| self.of(photo)) {
            // Rows and classes are those of this head.
            let _ = imprint.add(row, class);
        }
        imprint.finish(IMPRINT_SCALE);
        Ok(adapter)
    }

    /// The head alone, trained on `photos` from where it is imprinted, as a lesson with pairs would train it.
    fn train(&self, photos: &[usize], lesson: &Lesson, plan: &Plan, imprinted: &Adapter) -> Result<Adapter> {
        let classes = self.data.classes.len();
        let mut adapter = Adapter::start([], 0, SiteSettings::default(), classes, self.width)?;
        adapter.head.clone_from(&imprinted.head);
        let [pairs, head] = plan.schedules();
        let mut course = Course::new(lesson, photos.len());
        let mut gradients = adapter.zero_gradients();
        for step in 0..plan.steps {
            course.go_to(step);
            gradients.clear();
            for (row, class) in course.batch().iter().map(|&nth| self.of(photos[nth])) {
                let [mut loss, mut logits, mut dfeatures] = [vec![0.0], vec![0.0; classes], vec![0.0; self.width]];
                let (mut dw, mut db) = (vec![0.0; classes * self.width], vec![0.0; classes]);
                let out = HeadLoss {
                    loss: &mut loss,
                    logits: &mut logits,
                    dfeatures: &mut dfeatures,
                    dw: &mut dw,
                    db: &mut db,
                };
                adapter.head.backward(row, &[class as i64], out);
                gradients.add(&[], &dw, &db);
                gradients.count(&loss, &logits, &[class as i64]);
            }
            gradients.average();
            let update = Update { lr: pairs.at(step), head_lr: head.rate(step), optimizer: AdamW::default() };
            adapter.update(&gradients, &update)?;
        }
        Ok(adapter)
    }

    /// Which of `photos` the head gets right.
    fn right(&self, photos: &[usize], adapter: &Adapter) -> Vec<bool> {
        let rows = photos.iter().map(|&photo| self.of(photo));
        rows.map(|(row, class)| argmax(&adapter.head.logits(row)) == class).collect()
    }
}

/// A lesson with pairs.
struct Pairs<'r> {
    lesson: &'r Lesson,
    plan: &'r Plan,
    record: &'r Record,
    stop: &'r AtomicBool,
}

impl Pairs<'_> {
    /// Which of the photos left `out` are right after a lesson on the `rest`; none where its loss stops being a number.
    fn right(
        &self,
        runner: &mut Runner,
        imprinted: Adapter,
        [rest, out]: [Dataset; 2],
        observer: &mut Observer,
    ) -> Result<Vec<bool>> {
        runner.restart(imprinted);
        let mut record = Record { steps: 0, ..self.record.clone() };
        let mut told = |progress: Progress| match progress {
            Progress::Step { .. } => observer(Progress::Advance),
            Progress::Warning(_) => observer(progress),
            _ => {}
        };
        let mut stops = Stops(self.stop);
        match run_steps(runner, &rest, self.lesson, self.plan, &mut record, None, &mut stops, &mut told) {
            Err(error) if error.kind() == ErrorKind::Diverged => return Ok(vec![false; out.samples.len()]),
            ran => ran.map(drop)?,
        }
        go_on(self.stop)?;
        let features = runner.all_features(&out)?.unwrap_or_default();
        let rows = Rows { features: &features, width: runner.adapter().head.features(), data: &out };
        let photos: Vec<usize> = (0..features.len() / rows.width.max(1)).collect();
        Ok(rows.right(&photos, &runner.adapter()))
    }
}

fn count(right: &[bool]) -> usize {
    right.iter().filter(|right| **right).count()
}

/// Ends the steps once it is set.
struct Stops<'r>(&'r AtomicBool);

impl Witness for Stops<'_> {
    fn saw(&mut self, _: &Taken, _: &mut Runner) -> Result<()> {
        Ok(())
    }

    fn stands(&mut self, _: &Record, _: &EpochMean, _: &super::gate::Gate, _: &Adapter) -> Result<bool> {
        Ok(go_on(self.0).is_ok())
    }
}
