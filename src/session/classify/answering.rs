//! What answers: a head of a store, or the model's own classifier, on the frozen network.

use super::scores::probabilities;
use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};
use crate::session::photos::Picture;
use crate::session::policy::Calibration;
use crate::session::progress::Audience;
use crate::session::run::{Runner, View};
use crate::session::store::{Generation, Record, Store};

/// What answers, its classes, and how its logits are to be read.
pub(crate) struct Answering {
    pub(crate) runner: Runner,
    pub(crate) classes: Vec<String>,
    pub(crate) calibration: Option<Calibration>,
}

impl Answering {
    /// The scores or the features of one photo.
    ///
    /// # Errors
    /// Kind `Image` where it cannot be read.
    pub(super) fn only(&mut self, picture: Picture, scored: bool) -> Result<Vec<f32>> {
        let view = View { picture: picture.clone(), label: -1, augment: None, slot: None };
        let runner = &mut self.runner;
        let (mut found, nobody) = (None, &mut Audience::nobody());
        if scored {
            runner.scores([view], nobody, |scores, _| {
                found = scores;
                Ok(())
            })?;
        } else {
            runner.features([view], nobody, |features, _| {
                found = features.map(<[f32]>::to_vec);
                Ok(())
            })?;
        }
        // Nothing of it is kept: a program may classify for months.
        let unreadable = runner.take_quarantine();
        found.ok_or_else(|| {
            let reason = unreadable.list().first().map_or("cannot be read", |photo| &photo.reason);
            Error::new(ErrorKind::Image, picture.name(), reason)
        })
    }

    /// Makes probabilities of scores.
    pub(crate) fn soften(&self, scores: &mut [f32]) {
        let temperature = self.calibration.map_or(1.0, |calibration| calibration.temperature);
        probabilities(scores, self.runner.is_own_classifier(), temperature);
    }

    /// Whether scores are those of a photo of none of the classes.
    pub(crate) fn unknown(&self, scores: &[f32]) -> Option<bool> {
        let largest = scores.iter().copied().reduce(f32::max)?;
        self.calibration.map(|calibration| largest < calibration.unknown_below)
    }
}

/// The head of a store, or the model's own classifier.
pub(crate) fn classifier(bundle: &Bundle, store: Option<&Store>) -> Result<Answering> {
    let Some(store) = store else {
        let labels = bundle.labels.clone().ok_or_else(|| {
            let message = "has no labels of its own classes; give an option `store`, or pack it with option `labels`";
            Error::new(ErrorKind::Mismatch, bundle.path.display(), message)
        })?;
        let runner = Runner::own_classifier(bundle, labels.len())?;
        return Ok(Answering { runner, classes: labels, calibration: None });
    };
    let Generation { record, adapter } = store.load(bundle)?;
    let Record { classes, calibration, .. } = record;
    Ok(Answering { runner: Runner::inference(bundle, adapter)?, classes, calibration })
}
