//! One photo at a time.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::evaluate::classifier;
use super::scores::{best, probabilities};
use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};
use crate::session::progress::Audience;
use crate::session::run::{Photo, Runner};
use crate::session::store::Store;

/// Guesses listed for a photo.
const TOP: usize = 5;

/// A class and how likely it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guess {
    /// The class.
    pub label: String,
    /// Softmax over the logits, in 0..1.
    pub probability: f32,
}

/// What `predict` answers for a photo.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The photo.
    pub path: String,
    /// The likeliest classes, best first.
    pub top: Vec<Guess>,
    /// Time taken, decoding included.
    pub ms: f64,
}

/// A bundle, with or without a store, ready to classify.
pub struct Classifier {
    runner: Runner,
    classes: Vec<String>,
}

impl Classifier {
    /// The head of `store`, or the model's own classifier.
    ///
    /// # Errors
    /// `Mismatch` for a store of another bundle, or a bundle without labels and no store.
    pub fn new(bundle: &Bundle, store: Option<&Store>) -> Result<Self> {
        let (runner, classes) = classifier(bundle, store)?;
        Ok(Classifier { runner, classes })
    }

    /// Classifies a photo.
    ///
    /// # Errors
    /// Kind `Image` where it cannot be read.
    pub fn predict(&mut self, path: &Path) -> Result<Prediction> {
        let begin = Instant::now();
        let mut scores = self.scores(path)?;
        probabilities(&mut scores, self.runner.is_own_classifier());
        let guess = |class: usize| Guess {
            label: self.classes.get(class).cloned().unwrap_or_else(|| class.to_string()),
            probability: scores[class],
        };
        let top = best(&scores, TOP).into_iter().map(guess).collect();
        Ok(Prediction { path: path.to_string_lossy().into_owned(), top, ms: begin.elapsed().as_secs_f64() * 1e3 })
    }

    fn scores(&mut self, path: &Path) -> Result<Vec<f32>> {
        let photo = Photo { path: path.into(), label: -1, augment: None, slot: None };
        let mut found = None;
        self.runner.scores([photo], &mut Audience::nobody(), |scores, _| {
            found = scores;
            Ok(())
        })?;
        found.ok_or_else(|| {
            let name = path.display().to_string();
            let known = self.runner.quarantine().iter().find(|photo| photo.path == name);
            let reason = known.map_or("cannot be read", |photo| &photo.reason);
            Error::new(ErrorKind::Image, path.display(), reason)
        })
    }
}
