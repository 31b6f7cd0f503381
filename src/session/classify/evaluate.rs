//! Accuracy, which classes are taken for which, and the most confident mistakes.

use std::time::Instant;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::confusion::{Confusion, Tally};
use super::scores::{argmax, probabilities};
use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MOST_MATRIX_CLASSES, MOST_MISTAKES};
use crate::session::photos::{Dataset, Ignored, Photo, Quarantined, ignored};
use crate::session::policy::Recognized;
use crate::session::progress::{Audience, Flow, Progress, Stop};
use crate::session::run::{Runner, view};
use crate::session::store::{Generation, Store};

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
    /// Photos that could not be read.
    pub quarantined: Vec<Quarantined>,
    /// Photos of formats that are not read.
    pub ignored: Vec<Ignored>,
    most_mistakes: usize,
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
    pub(crate) fn new(classes: &[String], mistakes: usize) -> Self {
        let most_mistakes = mistakes.min(MOST_MISTAKES);
        Evaluation {
            accuracy: 0.0,
            n: 0,
            classes: classes.to_vec(),
            confusion: Confusion::default(),
            images_per_second: 0.0,
            mistakes: (most_mistakes > 0).then(Vec::new),
            quarantined: Vec::new(),
            most_mistakes,
            ignored: Vec::new(),
        }
    }

    /// Counts a photo with its scores: logits, or what the model's own classifier gives.
    pub(crate) fn count(&mut self, photo: &Photo, mut scores: Vec<f32>, own_classifier: bool) {
        let guess = argmax(&scores);
        self.confusion.count(photo.class, guess);
        (self.n, self.accuracy) = (self.confusion.photos(), self.confusion.accuracy());
        let Some(mistakes) = self.mistakes.as_mut().filter(|_| guess != photo.class) else { return };
        probabilities(&mut scores, own_classifier);
        let probability = scores[guess];
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
        let mut object = serializer.serialize_struct("Evaluation", 11)?;
        object.serialize_field("accuracy", &self.accuracy)?;
        object.serialize_field("n", &self.n)?;
        object.serialize_field("classes", &self.classes)?;
        object.serialize_field("confusion", &self.matrix())?;
        object.serialize_field("confused", &self.confused())?;
        object.serialize_field("per_class", &self.per_class())?;
        object.serialize_field("at_chance", &self.confusion.is_at_chance())?;
        object.serialize_field("images_per_second", &self.images_per_second)?;
        object.serialize_field("mistakes", &self.mistakes)?;
        object.serialize_field("quarantined", &self.quarantined)?;
        object.serialize_field("ignored", &self.ignored)?;
        object.end()
    }
}

/// Accuracy and confusion of `runner` over `data`, and the most confident `mistakes`; unreadable photos do not count.
///
/// # Errors
/// Kind `Data` where none can be read; `Stopped` where it is stopped.
pub(crate) fn measure(
    runner: &mut Runner,
    data: &Dataset,
    (phase, mistakes): (&str, usize),
    audience: &mut Audience,
) -> Result<Evaluation> {
    let mut evaluation = Evaluation::new(&data.classes, mistakes);
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
/// classifier on folders named by the bundle's labels. The `mistakes` most confident mistakes are listed, [`MOST_MISTAKES`]
/// at most.
///
/// # Errors
/// `Data` for a folder that cannot be used, `Mismatch` for a store of another bundle or folders of other classes.
pub fn evaluate<A: Into<Flow>>(
    bundle: &Bundle,
    store: Option<&Store>,
    data: &Dataset,
    mistakes: usize,
    observer: &mut impl FnMut(Progress<'_>) -> A,
) -> Result<Evaluation> {
    let (mut observer, stop) = (|progress: Progress<'_>| observer(progress).into(), Stop::default());
    let audience = &mut Audience::of(&mut observer, &stop);
    let (mut runner, classes) = classifier(bundle, store)?;
    let data = data.clone().relabelled(&classes)?;
    let ignored = ignored(&data, None);
    ignored.iter().for_each(|format| audience.tell(Progress::Warning(&format.to_string())));
    let mut evaluation = measure(&mut runner, &data, ("", mistakes), audience)?;
    evaluation.quarantined = runner.quarantine().to_vec();
    evaluation.ignored = ignored;
    Ok(evaluation)
}

/// What answers: the head of a store, or the model's own classifier.
pub(crate) fn classifier(bundle: &Bundle, store: Option<&Store>) -> Result<(Runner, Vec<String>)> {
    let Some(store) = store else {
        let labels = bundle.labels.clone().ok_or_else(|| {
            let message = "has no labels of its own classes; give an option `store`, or pack it with option `labels`";
            Error::new(ErrorKind::Mismatch, bundle.path.display(), message)
        })?;
        return Ok((Runner::own_classifier(bundle, labels.len())?, labels));
    };
    let Generation { record, adapter } = store.load(bundle)?;
    Ok((Runner::inference(bundle, adapter)?, record.classes))
}
