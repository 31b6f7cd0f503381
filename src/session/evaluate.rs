//! Accuracy and confusion.

use serde::Serialize;

use super::dataset::{Dataset, Quarantined};
use super::keep::NEVER;
use super::lesson::Observer;
use super::runner::Runner;
use super::store::Store;
use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};

/// What `eval` answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Share of photos whose largest logit is their class.
    pub accuracy: f64,
    /// Photos counted.
    pub n: usize,
    /// Class names, in the order of `confusion`.
    pub classes: Vec<String>,
    /// Rows: true class; columns: predicted class.
    pub confusion: Vec<Vec<usize>>,
    /// Decoding included.
    pub images_per_second: f64,
    /// Photos that could not be read.
    pub quarantined: Vec<Quarantined>,
}

impl Evaluation {
    pub(super) fn new(classes: &[String]) -> Self {
        let size = classes.len();
        Evaluation {
            accuracy: 0.0,
            n: 0,
            classes: classes.to_vec(),
            confusion: vec![vec![0; size]; size],
            images_per_second: 0.0,
            quarantined: Vec::new(),
        }
    }

    pub(super) fn count(&mut self, class: usize, logits: &[f32]) {
        let right: usize = (0..self.classes.len()).map(|c| self.confusion[c][c]).sum();
        let predicted = argmax(logits);
        self.confusion[class][predicted] += 1;
        self.n += 1;
        self.accuracy = (right + usize::from(predicted == class)) as f64 / self.n as f64;
    }

    pub(super) fn seconds(&mut self, seconds: f64) {
        self.images_per_second = self.n as f64 / seconds.max(1e-9);
    }

    /// Share of the photos of `class` that were recognized; `None` where it has no photo.
    #[must_use]
    pub fn recall(&self, class: usize) -> Option<f64> {
        let row = &self.confusion[class];
        let total: usize = row.iter().sum();
        (total > 0).then(|| row[class] as f64 / total as f64)
    }
}

/// The first of the largest.
pub(super) fn argmax(logits: &[f32]) -> usize {
    let better = |best: usize, at: usize| if logits[at] > logits[best] { at } else { best };
    (0..logits.len()).reduce(better).unwrap_or(0)
}

/// Evaluates a store on a folder whose class folders are named as in training; without a store, the model's own
/// classifier on folders named by the bundle's labels.
///
/// # Errors
/// `Data` for a folder that cannot be used, `Mismatch` for a store of another bundle or folders of other classes.
pub fn evaluate(bundle: &Bundle, store: Option<&Store>, data: &Dataset, observer: &mut Observer) -> Result<Evaluation> {
    let (mut runner, classes) = classifier(bundle, store)?;
    let data = data.clone().relabelled(&classes)?;
    let mut evaluation = runner.evaluate(&data, "", &NEVER, observer)?;
    evaluation.quarantined = runner.quarantine().to_vec();
    Ok(evaluation)
}

/// What answers: the head of a store, or the model's own classifier.
pub(super) fn classifier(bundle: &Bundle, store: Option<&Store>) -> Result<(Runner, Vec<String>)> {
    let Some(store) = store else {
        let labels = bundle.labels.clone().ok_or_else(|| {
            let message = "has no labels of its own classes; give a --store, or pack it with --labels";
            Error::new(ErrorKind::Mismatch, bundle.path.display(), message)
        })?;
        return Ok((Runner::own_classifier(bundle, labels.len())?, labels));
    };
    let (record, adapter) = store.load(bundle)?;
    Ok((Runner::inference(bundle, adapter)?, record.classes))
}
