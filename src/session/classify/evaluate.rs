//! Accuracy, which classes are taken for which, and the most confident mistakes.

use std::time::Instant;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::answering::{Answering, classifier};
use super::confusion::{Confusion, Tally};
use super::reliability::{Reliability, auroc};
use super::scores::{argmax, probabilities};
use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MOST_MATRIX_CLASSES, MOST_MISTAKES, MOST_WRONG};
use crate::session::photos::{Dataset, Ignored, Photo, Picture, Quarantined, ignored};
use crate::session::policy::{Calibration, Recognized};
use crate::session::progress::{Audience, Flow, Progress, Stop};
use crate::session::run::{Runner, view};
use crate::session::store::Store;

/// What `eval` answers. In JSON `confusion` is the matrix, rows by true class, or null above [`MOST_MATRIX_CLASSES`];
/// `confused` lists its wrong cells and `per_class` what [`Evaluation::per_class`] gives, for any number of classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Share of photos whose largest logit is their class.
    pub accuracy: f64,
    /// Photos counted.
    pub n: usize,
    /// Class names; `confusion` counts in them.
    pub classes: Vec<String>,
    /// Photos by true and predicted class.
    pub confusion: Confusion,
    /// Decoding included.
    pub images_per_second: f64,
    /// Photos with a wrong guess, the most probable guess first, of equal ones the first photo; as many as were asked for at
    /// most. `None` where they were not asked for.
    pub mistakes: Option<Vec<Mistake>>,
    /// Photos with a wrong guess, the largest loss first, of equal ones the first photo; [`MOST_WRONG`] at most. They are no part of the
    /// JSON.
    pub wrong: Vec<Wrong>,
    /// What photos of none of the classes have shown; `None` where there are none.
    pub unknown: Option<Unknown>,
    /// Photos that could not be read.
    pub quarantined: Vec<Quarantined>,
    /// Photos of formats that are not read.
    pub ignored: Vec<Ignored>,
    most_mistakes: usize,
    /// At the temperature of the store, where it has one, and at 1.
    reliability: [Reliability; 2],
    temperature: Option<f32>,
    /// The largest score of each photo, where unknown ones are to be told from them.
    largest: Option<Vec<f32>>,
}

/// What is asked of an evaluation.
#[derive(Debug, Clone, Default)]
pub struct EvalRequest {
    /// The most confident mistakes that are listed, [`MOST_MISTAKES`] at most.
    pub mistakes: usize,
    /// Photos of none of the classes.
    pub unknown: Option<Dataset>,
}

/// How photos of none of the classes stand out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unknown {
    /// How many were read.
    pub photos: usize,
    /// The share of pairs of a known and an unknown photo in which the known one has the larger logit; the area under the ROC curve.
    pub auroc: f64,
    /// The share of the unknown that are told, and of the known that are taken for unknown; `None` where the store does not know what is.
    pub told: Option<[f64; 2]>,
}

/// A photo with a wrong guess.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mistake {
    /// The photo.
    pub path: String,
    /// Its class.
    pub class: String,
    /// What it was taken for.
    pub guess: String,
    /// How likely the classifier held that to be, in 0..1.
    pub probability: f32,
}

/// A photo with a wrong guess, to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Wrong {
    /// The photo.
    pub picture: Picture,
    /// Its class, in the order of [`Evaluation::classes`].
    pub class: usize,
    /// What it was taken for, in the same order.
    pub guess: usize,
    /// How likely the classifier held that to be, in 0..1.
    pub probability: f32,
    /// Cross-entropy, -ln of how likely the classifier held its class to be.
    pub loss: f32,
}

/// Photos of a class that were taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Confused<'e> {
    /// Their class.
    pub class: &'e str,
    /// What they were taken for.
    pub guess: &'e str,
    /// How many.
    pub count: usize,
}

/// How a class did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassScore<'e> {
    /// Its name.
    pub class: &'e str,
    /// Its photos.
    pub photos: usize,
    /// Share of the photos taken for it that are its own; `None` where none was.
    pub precision: Option<f64>,
    /// Share of its photos that were recognized; `None` where it has none.
    pub recall: Option<f64>,
}

impl Evaluation {
    fn new(classes: &[String], request: &EvalRequest, calibration: Option<&Calibration>) -> Self {
        let most_mistakes = request.mistakes.min(MOST_MISTAKES);
        Evaluation {
            accuracy: 0.0,
            n: 0,
            classes: classes.to_vec(),
            confusion: Confusion::default(),
            images_per_second: 0.0,
            mistakes: (most_mistakes > 0).then(Vec::new),
            wrong: Vec::new(),
            quarantined: Vec::new(),
            most_mistakes,
            ignored: Vec::new(),
            unknown: None,
            reliability: Default::default(),
            temperature: calibration.map(|calibration| calibration.temperature),
            largest: request.unknown.as_ref().map(|_| Vec::new()),
        }
    }

    /// Counts a photo with its scores: logits, or what the model's own classifier gives.
    fn count(&mut self, photo: &Photo, mut scores: Vec<f32>, own_classifier: bool) {
        let guess = argmax(&scores);
        self.confusion.count(photo.class, guess);
        (self.n, self.accuracy) = (self.confusion.photos(), self.confusion.accuracy());
        self.largest.iter_mut().for_each(|largest| largest.extend(scores.get(guess)));
        let [calibrated, plain] = &mut self.reliability;
        let mut uncalibrated = scores.clone();
        probabilities(&mut uncalibrated, own_classifier, 1.0);
        plain.count(uncalibrated[guess], guess == photo.class);
        probabilities(&mut scores, own_classifier, self.temperature.unwrap_or(1.0));
        let probability = scores[guess];
        calibrated.count(probability, guess == photo.class);
        if guess == photo.class {
            return;
        }
        let loss = -scores.get(photo.class).copied().unwrap_or(0.0).max(f32::MIN_POSITIVE).ln();
        let at = self.wrong.partition_point(|other| other.loss >= loss);
        if at < MOST_WRONG {
            self.wrong.truncate(MOST_WRONG - 1);
            self.wrong
                .insert(at, Wrong { picture: photo.picture.clone(), class: photo.class, guess, probability, loss });
        }
        let Some(mistakes) = self.mistakes.as_mut() else { return };
        let at = mistakes.partition_point(|other| other.probability >= probability);
        if at < self.most_mistakes {
            mistakes.truncate(self.most_mistakes - 1);
            let name = |class: usize| self.classes[class].clone();
            let path = photo.picture.name().into_owned();
            mistakes.insert(at, Mistake { path, class: name(photo.class), guess: name(guess), probability });
        }
    }

    /// Of each class, the photos that were recognized.
    pub(crate) fn recognized(&self) -> Recognized {
        let tallies = self.confusion.tallies(self.classes.len());
        Recognized(tallies.into_iter().map(|tally| [tally.right, tally.photos]).collect())
    }

    pub(crate) fn seconds(&mut self, seconds: f64) {
        self.images_per_second = self.n as f64 / seconds.max(1e-9);
    }

    /// The expected calibration error of the probabilities, in 0..1, over 15 bins.
    #[must_use]
    pub fn calibration_error(&self) -> Option<f64> {
        self.reliability[0].error()
    }

    /// The same at the temperature 1; `None` where the store has no other.
    #[must_use]
    pub fn calibration_error_before(&self) -> Option<f64> {
        self.temperature.and_then(|_| self.reliability[1].error())
    }

    /// How each class did, in the order of `classes`.
    #[must_use]
    pub fn per_class(&self) -> Vec<ClassScore<'_>> {
        let names = self.classes.iter().map(String::as_str);
        let score = |(class, tally): (_, Tally)| ClassScore {
            class,
            photos: tally.photos,
            precision: tally.precision(),
            recall: tally.recall(),
        };
        names.zip(self.confusion.tallies(self.classes.len())).map(score).collect()
    }

    /// Which classes were taken for which: the most frequent first, equal ones in the order of `classes`.
    #[must_use]
    pub fn confused(&self) -> Vec<Confused<'_>> {
        let wrong = self.confusion.wrong().into_iter();
        wrong
            .map(|(class, guess, count)| Confused { class: &self.classes[class], guess: &self.classes[guess], count })
            .collect()
    }

    /// The matrix row by row; `None` with more classes than [`MOST_MATRIX_CLASSES`].
    fn matrix(&self) -> Option<Vec<Vec<usize>>> {
        let size = self.classes.len();
        let row = |class| (0..size).map(|guess| self.confusion.cell(class, guess)).collect();
        (size <= MOST_MATRIX_CLASSES).then(|| (0..size).map(row).collect())
    }
}

impl Serialize for Evaluation {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Evaluation", 17)?;
        object.serialize_field("accuracy", &self.accuracy)?;
        object.serialize_field("n", &self.n)?;
        object.serialize_field("classes", &self.classes)?;
        object.serialize_field("confusion", &self.matrix())?;
        object.serialize_field("confused", &self.confused())?;
        object.serialize_field("per_class", &self.per_class())?;
        object.serialize_field("at_chance", &self.confusion.is_at_chance())?;
        object.serialize_field("calibration_error", &self.calibration_error())?;
        object.serialize_field("calibration_error_before", &self.calibration_error_before())?;
        let unknown = self.unknown.as_ref();
        object.serialize_field("unknown_images", &unknown.map(|unknown| unknown.photos))?;
        object.serialize_field("auroc", &unknown.map(|unknown| unknown.auroc))?;
        let told = unknown.and_then(|unknown| unknown.told);
        object.serialize_field("unknown_found", &told.map(|[found, _]| found))?;
        object.serialize_field("false_alarms", &told.map(|[_, false_alarms]| false_alarms))?;
        object.serialize_field("images_per_second", &self.images_per_second)?;
        object.serialize_field("mistakes", &self.mistakes)?;
        object.serialize_field("quarantined", &self.quarantined)?;
        object.serialize_field("ignored", &self.ignored)?;
        object.end()
    }
}

/// Accuracy and confusion of `runner` over `data`, its logits read as `calibration` says; unreadable photos do not count.
///
/// # Errors
/// Kind `Data` where none can be read; `Stopped` where it is stopped.
pub(crate) fn measure(
    runner: &mut Runner,
    data: &Dataset,
    phase: &str,
    calibration: Option<&Calibration>,
    audience: &mut Audience,
) -> Result<Evaluation> {
    let evaluation = Evaluation::new(&data.classes, &EvalRequest::default(), calibration);
    fill(evaluation, runner, data, phase, audience)
}

fn fill(
    mut evaluation: Evaluation,
    runner: &mut Runner,
    data: &Dataset,
    phase: &str,
    audience: &mut Audience,
) -> Result<Evaluation> {
    audience.tell(Progress::Begin { phase: &format!("accuracy {phase}"), total: data.photos.len() as u64 });
    let (begin, own_classifier) = (Instant::now(), runner.is_own_classifier());
    let mut photos = data.photos.iter();
    let views = data.photos.iter().map(|photo| view(photo, None));
    runner.scores(views, audience, |scores, audience| {
        if let (Some(photo), Some(scores)) = (photos.next(), scores) {
            evaluation.count(photo, scores, own_classifier);
        }
        audience.tell(Progress::Advance);
        audience.go_on()
    })?;
    audience.tell(Progress::End);
    if evaluation.n == 0 {
        let message = "none of the photos that accuracy is measured on can be read";
        return Err(Error::new(ErrorKind::Data, data.place(), message));
    }
    evaluation.seconds(begin.elapsed().as_secs_f64());
    Ok(evaluation)
}

/// Evaluates a store on a folder whose class folders are named as in training; without a store, the model's own
/// classifier on folders named by the bundle's labels.
///
/// # Errors
/// `Data` for a folder that cannot be used, `Mismatch` for a store of another bundle or folders of other classes.
pub fn evaluate<A: Into<Flow>>(
    bundle: &Bundle,
    store: Option<&Store>,
    data: &Dataset,
    request: &EvalRequest,
    observer: &mut impl FnMut(Progress<'_>) -> A,
) -> Result<Evaluation> {
    let (mut observer, stop) = (|progress: Progress<'_>| observer(progress).into(), Stop::default());
    let audience = &mut Audience::of(&mut observer, &stop);
    let mut answering = classifier(bundle, store)?;
    let data = data.clone().relabelled(&answering.classes)?;
    let ignored = ignored(&data, request.unknown.as_ref());
    ignored.iter().for_each(|format| audience.tell(Progress::Warning(&format.to_string())));
    let evaluation = Evaluation::new(&data.classes, request, answering.calibration.as_ref());
    let mut evaluation = fill(evaluation, &mut answering.runner, &data, "", audience)?;
    if let Some(unknown) = &request.unknown {
        evaluation.unknown = Some(stand_out(&mut evaluation, &mut answering, unknown, audience)?);
    }
    let Answering { runner, .. } = answering;
    evaluation.quarantined = runner.quarantine().to_vec();
    evaluation.ignored = ignored;
    Ok(evaluation)
}

/// How photos of none of the classes stand out of those that `evaluation` has counted.
fn stand_out(
    evaluation: &mut Evaluation,
    answering: &mut Answering,
    photos: &Dataset,
    audience: &mut Audience,
) -> Result<Unknown> {
    let Answering { runner, calibration, .. } = answering;
    audience.tell(Progress::Begin { phase: "unknown", total: photos.photos.len() as u64 });
    let (mut known, mut largest) = (evaluation.largest.take().unwrap_or_default(), Vec::new());
    runner.scores(photos.photos.iter().map(|photo| view(photo, None)), audience, |scores, audience| {
        largest.extend(scores.and_then(|scores| scores.into_iter().reduce(f32::max)));
        audience.tell(Progress::Advance);
        audience.go_on()
    })?;
    audience.tell(Progress::End);
    let auroc = auroc(&mut known, &largest)
        .ok_or_else(|| Error::new(ErrorKind::Data, photos.place(), "none of the photos of no class can be read"))?;
    let told = calibration.map(|calibration| {
        [&largest, &known].map(|photos| {
            let below = photos.iter().filter(|score| **score < calibration.unknown_below).count();
            below as f64 / photos.len() as f64
        })
    });
    Ok(Unknown { photos: largest.len(), auroc, told })
}
