//! One photo at a time.

use std::time::Instant;

use serde::Serialize;

use super::answering::{Answering, classifier};
use super::scores::best;
use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};
use crate::session::photos::Picture;
use crate::session::store::Store;

/// A class and how likely it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guess {
    /// The class.
    pub label: String,
    /// Softmax over the logits, at the temperature that photos left out have shown, in 0..1.
    pub probability: f32,
}

/// What `predict` answers for a photo.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The photo.
    pub path: String,
    /// The likeliest classes, best first.
    pub top: Vec<Guess>,
    /// How likely the first of them is, where photos left out have shown how sure the store may be; `None` where none have.
    pub confidence: Option<f32>,
    /// Whether the photo is like none of the classes ([`Calibration::unknown_below`](crate::session::Calibration)); `None` where no photo
    /// has shown what is.
    pub unknown: Option<bool>,
    /// Time taken, decoding included.
    pub ms: f64,
}

/// A bundle, with or without a store, ready to classify files, the bytes of one, or pixels, one at a time.
pub struct Classifier(Answering);

impl Classifier {
    /// The head of `store`, or the model's own classifier.
    ///
    /// # Errors
    /// `Mismatch` for a store of another bundle, or a bundle without labels and no store.
    pub fn new(bundle: &Bundle, store: Option<&Store>) -> Result<Self> {
        classifier(bundle, store).map(Classifier)
    }

    /// The names of the classes.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.0.classes
    }

    /// Whether photos have shown what is like none of the classes.
    #[must_use]
    pub fn tells_unknown(&self) -> bool {
        self.0.calibration.is_some()
    }

    /// The `top` likeliest classes of a photo, or all where there are fewer.
    ///
    /// # Errors
    /// Kind `Image` where it cannot be read.
    pub fn predict(&mut self, picture: impl Into<Picture>, top: usize) -> Result<Prediction> {
        let (begin, picture) = (Instant::now(), picture.into());
        let mut scores = self.0.only(picture.clone(), true)?;
        let unknown = self.0.unknown(&scores);
        self.0.soften(&mut scores);
        let guess = |class: usize| Guess {
            label: self.0.classes.get(class).cloned().unwrap_or_else(|| class.to_string()),
            probability: scores[class],
        };
        let confidence = self.0.calibration.and(scores.iter().copied().reduce(f32::max));
        let top = best(&scores, top).into_iter().map(guess).collect();
        let (path, ms) = (picture.name().into_owned(), begin.elapsed().as_secs_f64() * 1e3);
        Ok(Prediction { path, top, confidence, unknown, ms })
    }

    /// How likely each class is, in 0..1, in the order of [`Classifier::classes`].
    ///
    /// # Errors
    /// As of [`Classifier::predict`].
    pub fn probabilities(&mut self, picture: impl Into<Picture>) -> Result<Vec<f32>> {
        let mut scores = self.0.only(picture.into(), true)?;
        self.0.soften(&mut scores);
        Ok(scores)
    }

    /// The features of a photo, which the head reads: the bundle's `feature_dim` values.
    ///
    /// # Errors
    /// As of [`Classifier::predict`]; `Usage` without a store, where the model's own classifier answers.
    pub fn embed(&mut self, picture: impl Into<Picture>) -> Result<Vec<f32>> {
        if self.0.runner.is_own_classifier() {
            let message = "the model's own classifier has no features to give; open it with a store";
            return Err(Error::new(ErrorKind::Usage, "embed", message));
        }
        self.0.only(picture.into(), false)
    }
}
