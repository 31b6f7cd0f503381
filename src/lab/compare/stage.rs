//! One network that run after run is trained on: photos are decoded, and the prefix run, once for all of them.

use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Instant;

use super::ledger::{Key, Purpose, Run};
use crate::autodiff::Activations;
use crate::backbone::SharedAdapter;
use crate::bundle::Bundle;
use crate::error::{ErrorKind, Result};
use crate::session::classify::measure;
use crate::session::lesson::{CrossValidated, Ran, Steps, Taken};
use crate::session::photos::{Dataset, Slot};
use crate::session::policy::{CrossValidation, Outlook, Plan, plan};
use crate::session::process::{Watch, median};
use crate::session::progress::{Audience, Progress};
use crate::session::replay::Replay;
use crate::session::run::{Resources, Runner};
use crate::session::settings::{CachePlace, Lesson};
use crate::session::start::fresh_adapter;
use crate::session::store::{Record, RecordedLesson};

/// The photos of a comparison, each with its place in a stage's caches.
pub(super) struct Photos {
    pub(super) data: Dataset,
    pub(super) validation: Dataset,
    /// Places for either.
    places: [usize; 2],
}

impl Photos {
    pub(super) fn new(mut data: Dataset, mut validation: Dataset) -> Self {
        data.number(Slot::Rounded);
        validation.number(Slot::Exact);
        let places = [data.photos.len(), validation.photos.len()];
        Photos { data, validation, places }
    }
}

/// What a run is trained and measured on.
#[derive(Clone, Copy)]
pub(super) struct Parts<'p> {
    pub(super) train: &'p Dataset,
    pub(super) measured: &'p Dataset,
    /// How many times to measure on the way, evenly spread, and once before the first step; 0: only at the end.
    pub(super) points: u32,
}

/// A planned network, with or without pairs, and its caches.
pub(super) struct Stage<'b> {
    bundle: &'b Bundle,
    pub(super) runner: Runner,
}

impl<'b> Stage<'b> {
    /// The network that `lesson` trains. All photos are read once; those that cannot be read leave `photos`.
    ///
    /// # Errors
    /// As of `train`.
    pub(super) fn start(
        bundle: &'b Bundle,
        lesson: &Lesson,
        photos: &mut Photos,
        folder: &Path,
        audience: &mut Audience,
    ) -> Result<Self> {
        let adapter = fresh_adapter(bundle, lesson, photos.data.classes.len())?;
        let adapter: SharedAdapter = Arc::new(RwLock::new(adapter));
        let plan = Runner::plan(bundle, &adapter, Some(Activations::Kept))?;
        let [train, measured] = photos.places;
        let resources = Resources {
            threads: lesson.threads,
            cache: CachePlace::Disk,
            folder,
            photos: train,
            measured,
            replay: Replay::default(),
        };
        let mut runner = Runner::start(&plan, adapter, bundle, &resources)?;
        audience.tell(Progress::Begin { phase: "training photos", total: photos.data.photos.len() as u64 });
        runner.imprint(&mut photos.data, [0; 2], &mut Replay::default(), audience)?;
        audience.tell(Progress::End);
        measure(&mut runner, &photos.validation, "before", None, audience)?;
        let unreadable = runner.quarantine();
        let readable = |name: &str| unreadable.iter().all(|photo| photo.path != name);
        photos.validation.photos.retain(|photo| readable(&photo.picture.name()));
        Ok(Stage { bundle, runner })
    }

    /// Trains and measures a lesson from its start, as `train` would; whether that is better than imprinting is not asked here.
    ///
    /// # Errors
    /// As of `train`, but for a loss that stops being a number: such a run has no accuracy.
    pub(super) fn run(&mut self, key: Key, lesson: &Lesson, parts: Parts, audience: &mut Audience) -> Result<Run> {
        let begin = Instant::now();
        let memory = Watch::begin();
        let settings = lesson.method.settings();
        let mut data = parts.train.clone();
        self.runner.restart(fresh_adapter(self.bundle, lesson, data.classes.len())?);
        let mut outlook =
            self.runner.imprint(&mut data, [0; 2], &mut Replay::default(), &mut Audience::nobody())?.outlook;
        if lesson.finds_directions() {
            self.runner.find_directions(&data, false, audience)?;
        }
        let planned = plan(self.bundle, lesson, data.photos.len());
        let planned = planned.cut_to(if settings.trains_head { planned.steps } else { 0 });
        let mut record = Record::new(self.bundle, RecordedLesson::of(lesson), settings.trains_pairs, &data.classes);
        // Rates are chosen as if pairs learned: whether they do is asked once, at the rate chosen.
        if key.purpose == Purpose::Result && planned.steps > 0 {
            let cross_validated = CrossValidated { bundle: self.bundle, lesson, data: &data, record: &record, outlook };
            outlook.cross_validation =
                cross_validated.run(&mut self.runner, CrossValidation::default(), audience, |_, _, _| Ok(()))?;
        }
        let mut curve = Curve::new(parts, planned.steps);
        if parts.points > 0 || planned.steps == 0 {
            curve.measure(0, &mut self.runner)?;
        }
        let course = RunSteps { lesson, data: &data, plan: &planned, outlook };
        let outcome = match course.take(&mut self.runner, &mut record, &mut curve, audience) {
            Err(error) if error.kind() == ErrorKind::Diverged => None,
            outcome => Some(outcome?),
        };
        if outcome.is_some() && curve.points.last().is_none_or(|(step, _)| *step != planned.steps) {
            course.measure(planned.steps, &mut curve, &mut self.runner)?;
        }
        let accuracy = outcome.as_ref().and(curve.points.last()).map(|(_, accuracy)| *accuracy);
        let outcome = outcome.unwrap_or_default();
        Ok(Run {
            key,
            accuracy,
            train_loss: outcome.epoch.loss(),
            steps: planned.steps,
            images: data.photos.len(),
            val_images: curve.images,
            trainable_params: if settings.trains_head { self.runner.trained(outlook.lets_pairs_learn()) } else { 0 },
            cross_validation: outlook.cross_validation,
            recompositions: record.events.len(),
            threads: lesson.threads,
            step_ms_median: median(outcome.step_ms),
            seconds: begin.elapsed().as_secs_f64() - curve.seconds,
            undone: record.undone(),
            peak_rss_bytes: memory.peak(),
            curve: curve.points,
        })
    }
}

/// Accuracy on the way.
struct Curve<'p> {
    measured: &'p Dataset,
    /// Steps after which to measure.
    due: Vec<u64>,
    points: Vec<(u64, f64)>,
    images: usize,
    /// Time that measuring took.
    seconds: f64,
}

impl<'p> Curve<'p> {
    fn new(Parts { measured, points, .. }: Parts<'p>, steps: u64) -> Self {
        let points = u64::from(points);
        let due = (1..=points).map(|nth| (nth * steps).div_ceil(points)).collect();
        Curve { measured, due, points: Vec::new(), images: 0, seconds: 0.0 }
    }

    fn measure(&mut self, step: u64, runner: &mut Runner) -> Result<()> {
        let begin = Instant::now();
        let evaluation = measure(runner, self.measured, "", None, &mut Audience::nobody())?;
        self.points.push((step, evaluation.accuracy));
        self.images = evaluation.n;
        self.seconds += begin.elapsed().as_secs_f64();
        Ok(())
    }
}

/// The steps of one run.
struct RunSteps<'r> {
    lesson: &'r Lesson,
    data: &'r Dataset,
    plan: &'r Plan,
    outlook: Outlook,
}

impl RunSteps<'_> {
    /// Takes them all; `curve` measures where its time has come.
    fn take(
        &self,
        runner: &mut Runner,
        record: &mut Record,
        curve: &mut Curve,
        audience: &mut Audience,
    ) -> Result<Ran> {
        if self.plan.steps == 0 {
            return Ok(Ran::default());
        }
        audience.tell(Progress::Begin { phase: "train", total: self.plan.steps });
        let mut steps = Steps::new(self.lesson, self.plan, self.data, runner, &self.outlook, None);
        while let Some(Taken { step, loss, accuracy, .. }) = steps.next(runner, self.data, record, audience)? {
            if curve.due.contains(&step) {
                self.measure(step, curve, runner)?;
            }
            audience.tell(Progress::Step { step, loss, accuracy });
            audience.go_on()?;
        }
        audience.tell(Progress::End);
        steps.end(runner, self.data, audience)
    }

    /// Accuracy if the lesson ended with `step`, and its head were solved. Further steps go on with the head that they have.
    fn measure(&self, step: u64, curve: &mut Curve, runner: &mut Runner) -> Result<()> {
        let begin = Instant::now();
        let closed = runner.close(self.data, self.outlook.closed_form.as_ref(), &mut Audience::nobody())?;
        let trained = core::mem::replace(&mut runner.adapter_mut().head, closed.head);
        curve.seconds += begin.elapsed().as_secs_f64();
        curve.measure(step, runner)?;
        if step < self.plan.steps {
            runner.adapter_mut().head = trained;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::contenders::Contender;
    use super::*;
    use crate::bundle::{PackRequest, Preprocess, pack};
    use crate::core::Sides;
    use crate::session::settings::{Length, Validation};
    use crate::session::store::{Disk, Generation, StoreWriter};
    use crate::session::{Store, train};

    /// Two classes of `each` photos of grey noise, one a little brighter.
    pub(crate) fn photos(root: &Path, each: u32, salt: u32) {
        for (class, base) in [("dark", 90), ("bright", 110u32)] {
            fs::create_dir_all(root.join(class)).unwrap();
            for nth in 0..each {
                let noise = |x: u32, y: u32| (x * 7919 + y * 104_729 + (nth + salt) * 1_299_709 + base) % 61;
                let photo = image::RgbImage::from_fn(20, 20, |x, y| image::Rgb([(base + noise(x, y)) as u8; 3]));
                photo.save(root.join(class).join(format!("{nth}.png"))).unwrap();
            }
        }
    }

    pub(crate) fn bundle(folder: &Path) -> Bundle {
        let path = folder.join("good.bundle");
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/good.onnx");
        let request = PackRequest {
            model,
            output: path.clone(),
            rank: 2,
            reserve: 8,
            sites: "all".into(),
            features: None,
            labels: None,
            size: None,
            preprocess: Preprocess::default(),
            precision: crate::backbone::Precision::Keep,
            sign: None,
            release: None,
        };
        pack(&request, |_| ()).unwrap();
        Bundle::open(&path).unwrap()
    }

    #[test]
    fn every_run_of_a_stage_ends_in_the_bytes_of_the_same_lesson_alone() {
        let folder = TempDir::new().unwrap();
        let [data, val] = ["data", "val"].map(|name| folder.path().join(name));
        photos(&data, 6, 0);
        photos(&val, 9, 50);
        let bundle = bundle(folder.path());
        let base = Lesson {
            validation: Validation::Photos(val.clone().into()),
            length: Length::Steps(25),
            interval: 3.into(),
            batch: 5,
            ..Lesson::new(data.clone())
        };
        let training = Dataset::open(&data).unwrap();
        let validation = Dataset::open(&val).unwrap().relabelled(&training.classes).unwrap();
        let mut photos = Photos::new(training, validation);
        let mut stage: Option<(Option<Sides>, Stage)> = None;
        let runs = [
            ("both", 3),
            ("pissa", 1),
            ("random", 2),
            ("srlora", 5),
            ("lora", 1),
            ("recomposed", 1),
            ("srlora", 1),
            ("head", 4),
        ];
        for (name, seed) in runs {
            let contender = Contender::named(name).unwrap();
            let lesson = contender.lesson(&base, seed, Some(0.02));
            let sides = contender.sides(&base);
            if stage.as_ref().is_none_or(|(shared, _)| *shared != sides) {
                let started =
                    Stage::start(&bundle, &lesson, &mut photos, folder.path(), &mut Audience::nobody()).unwrap();
                stage = Some((sides, started));
            }
            let (_, stage) = stage.as_mut().unwrap();
            let key = Key { method: name.into(), purpose: Purpose::Result, seed, lr: None, head_lr: None };
            let parts = Parts { train: &photos.data, measured: &photos.validation, points: 5 };
            let run = stage.run(key, &lesson, parts, &mut Audience::nobody()).unwrap();

            let alone = folder.path().join(format!("{name}-{seed}"));
            let report = train(&bundle, &lesson, &alone, &mut |_| ()).unwrap();
            if let Some(aside) = report.aside {
                StoreWriter::open(&alone).unwrap().rollback(Some(aside)).unwrap();
            }
            let Generation { record, mut adapter } = Store::open(&alone).unwrap().load(&bundle).unwrap();
            // Nothing comes after a run, so no class means are taken at its end.
            let means = |adapter: &crate::adapter::Adapter| (adapter.means.clone(), adapter.start_means.clone());
            (adapter.means, adapter.start_means) = means(&stage.runner.adapter());
            let bytes = |place: &str, adapter: &crate::adapter::Adapter| {
                let path = folder.path().join(format!("{name}-{seed}-{place}"));
                StoreWriter::create(Arc::new(Disk), &path, false, adapter, (&mut record.clone(), &Replay::default()))
                    .unwrap();
                fs::read(path.join("generation-000001.safetensors")).unwrap()
            };
            assert!(bytes("staged", &stage.runner.adapter()) == bytes("alone", &adapter), "{name}, seed {seed}");
            assert_eq!((run.accuracy, run.train_loss), (report.val_accuracy, report.train_loss), "{name}");
            assert_eq!(run.curve[0], (0, report.val_accuracy_before.unwrap()));
            assert_eq!(run.curve.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [0, 5, 10, 15, 20, 25]);
            assert_eq!(
                (run.steps, run.recompositions, run.undone),
                (report.steps, report.recompositions, report.undone)
            );
            assert_eq!(run.recompositions > 0, ["srlora", "random", "both", "recomposed"].contains(&name));
            assert_eq!((run.trainable_params, run.val_images), (report.trainable_params, report.val_images));
        }
    }
}
