//! Whether a lesson may take the place of what was there before it.

use serde::{Deserialize, Serialize};

use super::evaluate::Evaluation;
use super::outlook::Outlook;
use super::steps::EpochMean;

/// What a lesson was judged by; accuracies in 0..1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// On which photos.
    pub on: TrialPhotos,
    /// How many.
    pub photos: usize,
    /// Without the lesson's steps.
    pub before: f64,
    /// With them.
    pub after: f64,
    /// Whether a rehearsal shows the lesson to be worse ([`super::Rehearsal::warns`]).
    #[serde(default)]
    pub warned: bool,
}

/// The photos of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialPhotos {
    /// Photos that were not trained on.
    HeldBack,
    /// Where there are none: imprinting on the training photos, each left out of the class means, against what the lesson makes
    /// of the photos that it has seen in its last epoch. That is in the lesson's favour, and only finds out one that has gone wrong.
    LeftOut,
    /// Where photos are few: the training photos, each left out once, imprinting on the others against a lesson on them.
    Rehearsed,
}

impl Trial {
    /// What there is to judge by; `None` where there is nothing: no photo was held back, and no class has two.
    pub(super) fn of(
        before: Option<f64>,
        after: Option<&Evaluation>,
        outlook: &Outlook,
        epoch: &EpochMean,
    ) -> Option<Self> {
        let held_back = before.zip(after).map(|(before, after)| Trial {
            on: TrialPhotos::HeldBack,
            photos: after.n,
            before,
            after: after.accuracy,
            warned: false,
        });
        let rehearsed = outlook.rehearsal.map(|rehearsal| {
            let share = |right: usize| right as f64 / rehearsal.photos.max(1) as f64;
            let (before, after) = (share(rehearsal.imprinted), share(rehearsal.trained()));
            Trial { on: TrialPhotos::Rehearsed, photos: rehearsal.photos, before, after, warned: rehearsal.warns() }
        });
        let seen = outlook.left_out.zip(epoch.accuracy()).map(|(imprinted, after)| Trial {
            on: TrialPhotos::LeftOut,
            photos: imprinted.photos,
            before: imprinted.accuracy,
            after,
            warned: false,
        });
        held_back.or(rehearsed).or(seen)
    }

    /// The lesson is at least as good as what was there. Where photos that it has seen speak for it, it has failed only if it is
    /// worse beyond chance, two standard errors: its last epoch was counted while it still learned. Where it was rehearsed, if that
    /// has shown it to be worse.
    #[must_use]
    pub fn passed(&self) -> bool {
        let variance = |share: f64| share * (1.0 - share) / self.photos.max(1) as f64;
        let chance = match self.on {
            TrialPhotos::Rehearsed => return !self.warned,
            TrialPhotos::HeldBack => 0.0,
            TrialPhotos::LeftOut => 2.0 * (variance(self.before) + variance(self.after)).sqrt(),
        };
        self.after >= self.before - chance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lesson_passes_that_is_no_worse_and_on_seen_photos_only_fails_beyond_chance() {
        let trial = |on, before, after| Trial { on, photos: 100, before, after, warned: false }.passed();
        assert!(trial(TrialPhotos::HeldBack, 0.9, 0.9) && !trial(TrialPhotos::HeldBack, 0.9, 0.89));
        // Two standard errors of 0.9 and 0.85 over 100 photos are 0.093, of 0.9 and 0.8 they are 0.1.
        assert!(trial(TrialPhotos::LeftOut, 0.9, 0.85) && !trial(TrialPhotos::LeftOut, 0.9, 0.79));
    }
}
