//! A head in closed form: how strongly it is held back, what becomes of it at a lesson's end, and how it is read.

use serde::{Deserialize, Serialize};

use super::bits;
use super::calibration::{Calibration, confidence};
use super::left_out::LeftOut;
use crate::adapter::{HeadBuffers, Ridge};

/// Strengths that are tried, each the root of ten times the one before.
const STRENGTHS: [f64; 12] = [3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0];
/// Where its temperature is expected: scores lie around 0 and 1 whatever the network (`docs/results.md`).
const TEMPERATURE: f64 = 0.11;
/// A head is solved where there are at most so many photos for each feature. Of more, steps make a better one (`docs/results.md`).
const PHOTOS_A_FEATURE: usize = 4;
/// Halvings of the logarithm of six decades: to a millionth.
const BISECTIONS: usize = 24;

/// How a head is solved, as the photos have shown before the first step, each left out: steps make features by heart, and nothing shows there
/// afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClosedForm {
    /// Of the ridge regression: see [`Ridge`].
    #[serde(with = "bits")]
    strength: f64,
    /// How its scores are read.
    calibration: Calibration,
}

impl ClosedForm {
    /// The strength with the least squares of what photos left out are given, and the temperature of that. Photos that earlier lessons
    /// have seen help to solve, and are not asked. `None` where no photo can be asked, or none solved.
    pub(crate) fn find(photos: &LeftOut, classes: usize) -> Option<Self> {
        let (ridge, asked): (Ridge, Vec<bool>) = (photos.ridge(classes)?, photos.tell().collect());
        let of_asked = |scores: Vec<f32>| -> Vec<f32> {
            let rows = scores.chunks_exact(classes).zip(&asked).filter(|(_, asked)| **asked);
            rows.flat_map(|(row, _)| row.iter().copied()).collect()
        };
        let labels: Vec<usize> =
            photos.labels().iter().zip(&asked).filter(|(_, asked)| **asked).map(|(label, _)| *label).collect();
        let squares = |scores: &[f32]| -> f64 {
            let rows = scores.chunks_exact(classes).zip(&labels);
            let off =
                |(class, score): (usize, &f32), label: usize| f64::from(*score) - f64::from(u8::from(class == label));
            rows.map(|(row, label)| row.iter().enumerate().map(|score| off(score, *label).powi(2)).sum::<f64>()).sum()
        };
        let tried =
            STRENGTHS.into_iter().filter_map(|strength| Some((strength, of_asked(ridge.leave_one_out(strength)?))));
        let tried = tried.map(|(strength, scores)| (squares(&scores), strength, scores));
        let (_, strength, scores) = tried.min_by(|a, b| a.0.total_cmp(&b.0))?;
        Some(ClosedForm { strength, calibration: Calibration::of(&scores, &labels, TEMPERATURE)? })
    }

    /// Whether a head of so many photos and features is solved.
    pub(crate) fn solves(photos: usize, features: usize) -> bool {
        photos <= features.saturating_mul(PHOTOS_A_FEATURE)
    }

    /// The head of a lesson that has come to `trained` by steps, and how it is read: solved from `photos` as they are now, with logits that
    /// scatter as much as those of `trained`. Where there are too many photos for that, `trained` stays. `None` where none can be solved.
    pub(crate) fn close(&self, photos: &LeftOut, trained: &HeadBuffers) -> Option<(HeadBuffers, Calibration)> {
        let mut solved = photos.ridge(trained.classes())?.solve(self.strength)?;
        let [own, others] = [&solved, trained].map(|head| spread(photos, head));
        let gain = if own > 0.0 && others > 0.0 { others / own } else { 1.0 / f64::from(self.calibration.temperature) };
        solved.values_mut().iter_mut().for_each(|value| *value = (gain * f64::from(*value)) as f32);
        let calibration = Calibration { solved: true, ..self.calibration.times(gain) };
        if !(calibration.can_be() && solved.values_mut().iter().all(|value| value.is_finite())) {
            return None;
        }
        if photos.is_whole() && Self::solves(photos.len(), trained.features()) {
            return Some((solved, calibration));
        }
        let calibration = as_sure_as(photos, (&solved, &calibration), trained);
        calibration.can_be().then(|| (trained.clone(), calibration))
    }
}

/// How `other` is to be read to be as sure of these photos as `head` is: of the same mean probability, with as many held for unknown.
fn as_sure_as(photos: &LeftOut, (head, calibration): (&HeadBuffers, &Calibration), other: &HeadBuffers) -> Calibration {
    let sure = |head: &HeadBuffers, temperature: f32| {
        let mut sum = 0.0;
        photos.each_plain(|x, _| sum += f64::from(confidence(&head.logits(x), temperature)));
        sum
    };
    let wanted = sure(head, calibration.temperature);
    let (mut low, mut high) = (1e-3f64, 1e3f64);
    for _ in 0..BISECTIONS {
        let middle = (low * high).sqrt();
        *if sure(other, middle as f32) > wanted { &mut low } else { &mut high } = middle;
    }
    let largest = |head: &HeadBuffers| {
        let mut largest = Vec::with_capacity(photos.len());
        photos.each_plain(|x, _| largest.push(head.logits(x).into_iter().fold(f32::MIN, f32::max)));
        largest
    };
    let unknown = largest(head).into_iter().filter(|z| *z < calibration.unknown_below).count();
    let mut others = largest(other);
    others.sort_by(f32::total_cmp);
    let unknown_below = others.get(unknown).or(others.last()).copied().unwrap_or(f32::MIN);
    Calibration { temperature: high as f32, unknown_below, solved: false, ..*calibration }
}

/// The root of the mean square by which logits differ from their photo's mean.
fn spread(photos: &LeftOut, head: &HeadBuffers) -> f64 {
    let (mut squares, mut count) = (0.0, 0usize);
    photos.each_plain(|x, _| {
        let logits = head.logits(x);
        let mean = logits.iter().map(|z| f64::from(*z)).sum::<f64>() / logits.len().max(1) as f64;
        squares += logits.iter().map(|z| (f64::from(*z) - mean).powi(2)).sum::<f64>();
        count += logits.len();
    });
    (squares / count.max(1) as f64).sqrt()
}
