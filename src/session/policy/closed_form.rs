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

#[cfg(test)]
mod tests {
    use super::*;

    /// Photos of two classes and four features, which lie apart but for noise.
    fn photos(count: usize, replayed: bool) -> LeftOut {
        let mut photos = LeftOut::new(count, 4);
        for nth in 0..count {
            let noise = |at: usize| ((nth * 4 + at) as f32 * 12.9898).sin() * 1.5;
            let class = nth % 2;
            let x: Vec<f32> = (0..4).map(|at| f32::from(u8::from(at % 2 == class)) + noise(at)).collect();
            photos.add(&x, class, replayed);
        }
        photos
    }

    fn trained() -> HeadBuffers {
        let mut head = HeadBuffers::new(2, 4);
        head.values_mut().copy_from_slice(&[3.0, -9.0, 5.0, -7.0, -2.0, 8.0, -6.0, 4.0, 0.5, -0.5]);
        head
    }

    #[test]
    fn few_photos_solve_the_head_and_it_scatters_as_the_one_that_steps_have_made() {
        let (few, trained) = (photos(16, false), trained());
        let form = ClosedForm::find(&few, 2).unwrap();
        let (head, calibration) = form.close(&few, &trained).unwrap();
        assert!(calibration.solved && calibration.photos == 16);
        assert!((spread(&few, &head) / spread(&few, &trained) - 1.0).abs() < 1e-5);
        // Its direction is that of the ridge regression.
        let ridge = few.ridge(2).unwrap().solve(form.strength).unwrap();
        let ratio = head.weights().0[0] / ridge.weights().0[0];
        assert!(head.weights().0.iter().zip(ridge.weights().0).all(|(a, b)| (a / b / ratio - 1.0).abs() < 1e-5));
        assert!((calibration.temperature / ratio / form.calibration.temperature - 1.0).abs() < 1e-5);
    }

    #[test]
    fn many_photos_leave_the_head_and_it_is_as_sure_of_them_as_a_solved_one() {
        let (many, trained) = (photos(40, false), trained());
        let form = ClosedForm::find(&many, 2).unwrap();
        let (head, calibration) = form.close(&many, &trained).unwrap();
        assert!(!calibration.solved && head == trained);
        let solved = many.ridge(2).unwrap().solve(form.strength).unwrap();
        let sure = |head: &HeadBuffers, temperature| {
            let mut sum = 0.0;
            many.each_plain(|x, _| sum += f64::from(confidence(&head.logits(x), temperature)) / 40.0);
            sum
        };
        let [own, others] = [sure(&head, calibration.temperature), sure(&solved, form.calibration.temperature)];
        assert!((own - others).abs() < 1e-4, "{own} {others}");
    }

    #[test]
    fn examples_of_earlier_lessons_are_not_asked() {
        let mut photos = photos(16, true);
        assert_eq!(ClosedForm::find(&photos, 2), None);
        [[1.0, 0.0, 1.0, 0.0], [0.9, 0.1, 1.1, 0.2]].iter().for_each(|x| photos.add(x, 0, false));
        assert_eq!(ClosedForm::find(&photos, 2).unwrap().calibration.photos, 2);
    }

    #[test]
    fn a_form_from_outside_solves_nothing_that_is_no_number() {
        let (photos, good) = (photos(16, false), ClosedForm::find(&photos(16, false), 2).unwrap());
        for strength in [f64::NAN, f64::INFINITY, -1.0] {
            let closed = ClosedForm { strength, ..good }.close(&photos, &trained());
            assert!(closed.is_none_or(|(_, calibration)| calibration.can_be()));
        }
        let calibration = Calibration { temperature: f32::NAN, ..good.calibration };
        assert_eq!(ClosedForm { calibration, ..good }.close(&photos, &trained()), None);
    }
}
