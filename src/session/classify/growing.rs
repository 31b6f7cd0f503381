//! A classifier that takes classes up as their first photos come, in memory: what was learned stays as it is, and nothing is written.

use std::time::Instant;

use super::answering::Answering;
use super::classifier::{Guess, Prediction};
use super::scores::best;
use crate::adapter::{ClassMeans, HeadBuffers};
use crate::bundle::Bundle;
use crate::core::{IMPRINT_SCALE, Method};
use crate::error::{Error, ErrorKind, Result};
use crate::session::photos::Picture;
use crate::session::run::Runner;
use crate::session::settings::Lesson;
use crate::session::start::fresh_adapter;
use crate::session::store::{Generation, Record, Store};

/// The head of a store, or none, and classes that are imprinted beside it. The new rows compete with those that are there as these do
/// with each other ([`ClassMeans`]); without a store, all are class means.
pub(crate) struct GrowingClassifier {
    answering: Answering,
    /// Classes of the store.
    known: usize,
    /// Of the known classes, as the store has seen them, and of the new ones.
    means: ClassMeans,
    head: HeadBuffers,
}

impl GrowingClassifier {
    /// Knows what `store` does.
    ///
    /// # Errors
    /// As of [`Classifier::new`](super::Classifier::new), but that a bundle needs no labels.
    pub(crate) fn new(bundle: &Bundle, store: Option<&Store>) -> Result<Self> {
        let (adapter, classes, calibration) = match store {
            Some(store) => {
                let Generation { record, adapter } = store.load(bundle)?;
                let Record { classes, calibration, .. } = record;
                (adapter, classes, calibration)
            }
            None => {
                let lesson = Lesson { method: Method::Imprint, ..Lesson::new("") };
                (fresh_adapter(bundle, &lesson, 0)?, Vec::new(), None)
            }
        };
        let (means, head) = (adapter.means.with_classes(classes.len()), adapter.head.clone());
        let means = if means.features() == 0 { ClassMeans::unknown(classes.len(), bundle.feature_dim) } else { means };
        let known = classes.len();
        let runner = Runner::inference(bundle, adapter)?;
        Ok(GrowingClassifier { answering: Answering { runner, classes, calibration }, known, means, head })
    }

    /// All classes, those of the store first.
    pub(crate) fn classes(&self) -> &[String] {
        &self.answering.classes
    }

    /// How many of them are the store's.
    pub(crate) fn known(&self) -> usize {
        self.known
    }

    /// Lets go of the classes that were taken up.
    pub(crate) fn shrink(&mut self) {
        self.answering.classes.truncate(self.known);
        self.means = self.means.with_classes(self.known);
        self.head = self.head.with_classes(self.known);
    }

    /// Takes up a photo of a class that the store does not know; one of a class that it knows is let go.
    ///
    /// # Errors
    /// Kind `Image` where it cannot be read.
    pub(crate) fn imprint(&mut self, class: &str, picture: Picture) -> Result<()> {
        let at = self.answering.classes.iter().position(|known| known == class);
        if at.is_some_and(|at| at < self.known) {
            return Ok(());
        }
        let features = self.features(picture)?;
        let at = at.unwrap_or_else(|| {
            self.answering.classes.push(class.to_owned());
            self.means = self.means.with_classes(self.answering.classes.len());
            self.answering.classes.len() - 1
        });
        self.means.add(&features, at);
        let imprinted = self.means.imprint(IMPRINT_SCALE);
        if self.known == 0 {
            self.head = imprinted;
        } else {
            self.head = self.head.with_classes(self.known).with_classes(self.answering.classes.len());
            self.head.take_rows(&imprinted, self.known..self.answering.classes.len());
            self.means.settle(&mut self.head, self.known);
        }
        Ok(())
    }

    /// The `top` likeliest classes of a photo. Whether it shows none of them is told only where the store knows all.
    ///
    /// # Errors
    /// Kind `Image` where it cannot be read; `Mismatch` where there is no class yet.
    pub(crate) fn predict(&mut self, picture: Picture, top: usize) -> Result<Prediction> {
        if self.answering.classes.is_empty() {
            let message = "there is no class yet: make one, and give it photos";
            return Err(Error::new(ErrorKind::Mismatch, "", message));
        }
        let (begin, name) = (Instant::now(), picture.name().into_owned());
        let features = self.features(picture)?;
        let mut scores = self.head.logits(&features);
        let is_whole = self.known == self.answering.classes.len();
        let unknown = is_whole.then(|| self.answering.unknown(&scores)).flatten();
        self.answering.soften(&mut scores);
        let confidence = self.answering.calibration.filter(|_| is_whole).and(scores.iter().copied().reduce(f32::max));
        let guess = |class: usize| Guess { label: self.answering.classes[class].clone(), probability: scores[class] };
        let top = best(&scores, top).into_iter().map(guess).collect();
        Ok(Prediction { path: name, top, confidence, unknown, ms: begin.elapsed().as_secs_f64() * 1e3 })
    }

    /// What the head reads of a photo.
    ///
    /// # Errors
    /// Kind `Image` where it cannot be read.
    pub(crate) fn features(&mut self, picture: Picture) -> Result<Vec<f32>> {
        self.answering.only(picture, false)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::session::{Dataset, Length, train};

    fn project(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models/handwriting").join(path)
    }

    fn photos(class: &str, from: &str) -> Vec<Picture> {
        let data = Dataset::open(&project(from)).unwrap();
        let of_class = |photo: &&crate::session::Photo| data.classes()[photo.class] == class;
        data.photos().iter().filter(of_class).map(|photo| photo.picture.clone()).collect()
    }

    fn accuracy(classifier: &mut GrowingClassifier, class: &str) -> f64 {
        let photos = photos(class, "val");
        let right = |photo: &&Picture| classifier.predict((*photo).clone(), 1).unwrap().top[0].label == class;
        photos.iter().filter(right).count() as f64 / photos.len() as f64
    }

    #[test]
    fn without_a_store_classes_are_what_imprinting_makes_of_them() {
        let bundle = Bundle::open(&project("handwriting.bundle")).unwrap();
        let mut growing = GrowingClassifier::new(&bundle, None).unwrap();
        assert!(growing.predict(photos("0", "val")[0].clone(), 1).is_err());
        let place = tempfile::tempdir().unwrap();
        let data = Dataset::open(&project("train")).unwrap();
        let lesson = Lesson { method: Method::Imprint, ..Lesson::new(data) };
        train(&bundle, &lesson, &place.path().join("store"), &mut |_| ()).unwrap();
        let store = Store::open(&place.path().join("store")).unwrap();
        let mut imprinted = super::super::Classifier::new(&bundle, Some(&store)).unwrap();
        for class in imprinted.classes().to_vec() {
            photos(&class, "train").into_iter().for_each(|photo| growing.imprint(&class, photo).unwrap());
        }
        let classes = growing.classes().to_vec();
        let same = classes.iter().flat_map(|class| photos(class, "val")).filter(|photo| {
            let label = |prediction: Prediction| prediction.top[0].label.clone();
            label(growing.predict(photo.clone(), 1).unwrap()) == label(imprinted.predict(photo.clone(), 1).unwrap())
        });
        let (same, all) = (same.count(), 400);
        println!("{same} of {all} photos get the class that an imprinted store gives them");
        assert!(same >= all - 2, "{same}");
    }

    #[test]
    fn a_class_that_comes_after_a_lesson_is_seen_at_once_and_leaves_again() {
        let bundle = Bundle::open(&project("handwriting.bundle")).unwrap();
        let place = tempfile::tempdir().unwrap();
        let mut data = Dataset::default();
        for class in ["0", "1", "2", "3", "4"] {
            photos(class, "train").into_iter().for_each(|photo| data.add(class, photo).unwrap());
        }
        let lesson = Lesson { length: Length::Epochs(5), ..Lesson::new(data) };
        train(&bundle, &lesson, &place.path().join("store"), &mut |_| ()).unwrap();
        let store = Store::open(&place.path().join("store")).unwrap();
        let mut growing = GrowingClassifier::new(&bundle, Some(&store)).unwrap();
        let before: f64 =
            ["0", "1", "2", "3", "4"].map(|class| accuracy(&mut growing, class)).iter().sum::<f64>() / 5.0;
        photos("6", "train").into_iter().for_each(|photo| growing.imprint("6", photo).unwrap());
        let new = accuracy(&mut growing, "6");
        let after: f64 = ["0", "1", "2", "3", "4"].map(|class| accuracy(&mut growing, class)).iter().sum::<f64>() / 5.0;
        println!("known classes: {before:.3} before, {after:.3} beside the new one, which gets {new:.3}");
        assert!(new > 0.4 && after > before - 0.25);
        growing.shrink();
        assert_eq!(growing.classes().len(), 5);
        let again: f64 = ["0", "1", "2", "3", "4"].map(|class| accuracy(&mut growing, class)).iter().sum::<f64>() / 5.0;
        assert_eq!(again, before);
    }
}
