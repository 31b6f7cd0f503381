//! How a head's logits are to be read: how sure it may be, and when a photo shows none of its classes.

use serde::{Deserialize, Serialize};

use crate::core::{cross_entropy, softmax};

/// How far a temperature lies from where it is expected, as a standard deviation of its logarithm: few photos tell little.
const SPREAD: f64 = 0.5;
/// Temperatures that are tried on either side, each 2^(1/8) times the one before.
const TRIED: i32 = 24;
/// The share of known photos that may be taken for unknown.
const FALSE_ALARMS: f64 = 0.05;

/// How logits are to be read, as photos that were left out have shown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Probabilities are the softmax of logits / temperature.
    pub temperature: f32,
    /// A photo whose largest logit is less is like none of the classes. One in twenty of the photos left out would have been.
    pub unknown_below: f32,
    /// Photos that were left out.
    pub photos: usize,
    /// The head was solved in closed form; otherwise it was imprinted.
    pub solved: bool,
}

impl Calibration {
    /// From the logits of photos while each was left out, row by row, and their classes. The temperature t has the least
    /// sum of -log softmax(logits / t) of the class + (log(t / expected) / [`SPREAD`])^2 / 2 (Guo et al., arXiv 1706.04599, and a prior).
    /// `None` where there is no photo.
    pub(crate) fn of(logits: &[f32], labels: &[usize], expected: f64) -> Option<Self> {
        let classes = logits.len().checked_div(labels.len())?.max(1);
        let mut largest: Vec<f32> =
            logits.chunks_exact(classes).map(|row| row.iter().copied().fold(f32::MIN, f32::max)).collect();
        largest.sort_by(f32::total_cmp);
        let unknown_below = *largest.get((FALSE_ALARMS * largest.len() as f64) as usize)?;
        let (mut scaled, mut spare) = (vec![0.0f32; classes], vec![0.0f32; classes]);
        let mut cost = |temperature: f64| {
            let rows = logits.chunks_exact(classes).zip(labels);
            let surprise: f64 = rows
                .map(|(row, label)| {
                    scaled.iter_mut().zip(row).for_each(|(s, x)| *s = (f64::from(*x) / temperature) as f32);
                    cross_entropy(&scaled, *label, &mut spare).map_or(f64::INFINITY, f64::from)
                })
                .sum();
            surprise + (libm::log(temperature / expected) / SPREAD).powi(2) / 2.0
        };
        let tried = (-TRIED..=TRIED).map(|nth| expected * libm::exp2(f64::from(nth) / 8.0));
        let best = tried.map(|t| (cost(t), t)).min_by(|a, b| a.0.total_cmp(&b.0));
        let temperature = best.filter(|(cost, _)| cost.is_finite())?.1;
        Some(Calibration { temperature: temperature as f32, unknown_below, photos: labels.len(), solved: false })
    }

    /// The same for logits that are `gain` times as large.
    pub(crate) fn times(self, gain: f64) -> Self {
        let times = |value: f32| (gain * f64::from(value)) as f32;
        Calibration { temperature: times(self.temperature), unknown_below: times(self.unknown_below), ..self }
    }

    /// Whether photos can have shown this.
    pub(crate) fn can_be(&self) -> bool {
        self.temperature.is_finite() && self.temperature > 0.0 && self.unknown_below.is_finite()
    }
}

/// How likely the likeliest class is: the largest of softmax(logits / temperature).
pub(crate) fn confidence(logits: &[f32], temperature: f32) -> f32 {
    let mut shares: Vec<f32> = logits.iter().map(|z| z / temperature).collect();
    softmax(&mut shares);
    shares.into_iter().fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of photos of two classes that are right with the probability that they say at temperature `t`.
    fn photos(t: f64, count: usize) -> (Vec<f32>, Vec<usize>) {
        let chance = |nth: usize| (nth as f64 * 0.618_034).fract();
        let logit = |nth: usize| 4.0 * chance(nth * 7 + 3) - 2.0;
        let label = |nth: usize| usize::from(1.0 / (1.0 + (-logit(nth) / t).exp()) > chance(nth * 13 + 1));
        ((0..count).flat_map(|nth| [0.0, logit(nth) as f32]).collect(), (0..count).map(label).collect())
    }

    #[test]
    fn many_photos_tell_the_temperature_and_none_leave_it_where_it_is_expected() {
        for t in [0.25, 0.5, 1.0] {
            let (logits, labels) = photos(t, 4000);
            let found = Calibration::of(&logits, &labels, 0.5).unwrap();
            assert!((f64::from(found.temperature) / t).ln().abs() < 0.2, "{t}: {found:?}");
            let one = Calibration::of(&logits[..2], &labels[..1], 0.5).unwrap();
            assert!((f64::from(one.temperature) / 0.5).ln().abs() < 0.5, "{t}: {one:?}");
        }
        assert_eq!(Calibration::of(&[], &[], 0.5), None);
        assert_eq!(Calibration::of(&[f32::NAN, 0.0], &[0], 0.5), None);
    }

    #[test]
    fn one_photo_in_twenty_lies_below_the_limit() {
        let logits: Vec<f32> = (0..200).flat_map(|nth| [nth as f32, -1.0]).collect();
        let found = Calibration::of(&logits, &[0; 200], 0.5).unwrap();
        assert_eq!(logits.iter().step_by(2).filter(|x| **x < found.unknown_below).count(), 10);
        assert_eq!(found.times(2.0).unknown_below, 20.0);
        let strange = [0.0, -1.0, f32::NAN, f32::INFINITY];
        assert!(found.can_be() && strange.iter().all(|t| !Calibration { temperature: *t, ..found }.can_be()));
        assert!(!Calibration { unknown_below: f32::NAN, ..found }.can_be());
    }
}
