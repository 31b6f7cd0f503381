//! How well imprinting does on photos that it has not seen: each training photo against class means without it.

use half::f16;
use serde::{Deserialize, Serialize};

use super::bits;
use super::calibration::Calibration;
use super::recognized::Recognized;
use crate::adapter::{ClassMeans, Ridge};
use crate::core::IMPRINT_SCALE;
use crate::limits::MOST_SOLVED;

/// Where the temperature of an imprinted head is expected, before photos have told.
const IMPRINTED_TEMPERATURE: f64 = 0.5;

fn dot(x: &[f32], y: &[f32]) -> f32 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// The share of photos that are nearest to their own class's mean, taken without them, of classes with two photos and more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeftOutAccuracy {
    #[serde(with = "bits")]
    pub(crate) accuracy: f64,
    pub(crate) photos: usize,
}

impl LeftOutAccuracy {
    /// Whether chance explains that the accuracy is not `level`: it lies no more than two standard errors below.
    pub(crate) fn may_be(self, level: f64) -> bool {
        let error = (self.accuracy * (1.0 - self.accuracy) / self.photos.max(1) as f64).sqrt();
        self.accuracy + 2.0 * error >= level
    }
}

/// The training photos' features, for what they say of photos that are left out. Of more photos than [`Ridge::most_photos`] two neighbours
/// of every 2 n are taken.
pub(crate) struct LeftOut {
    /// Of unit length.
    features: Vec<f16>,
    lengths: Vec<f32>,
    classes: Vec<usize>,
    /// Earlier lessons have seen it.
    replayed: Vec<bool>,
    width: usize,
    /// Of twice so many photos the first two are taken: they are mostly of one class.
    every: usize,
    /// No more are taken.
    most: usize,
    /// Photos that came.
    seen: usize,
}

impl LeftOut {
    /// Room for so many photos of `width` features.
    pub(crate) fn new(photos: usize, width: usize) -> Self {
        let most = Ridge::most_photos([width, 1]);
        let every = photos.div_ceil(most).max(1);
        let taken = (2 * photos.div_ceil(2 * every)).min(most);
        LeftOut {
            features: Vec::with_capacity(taken.saturating_mul(width)),
            lengths: Vec::with_capacity(taken),
            classes: Vec::with_capacity(taken),
            replayed: Vec::with_capacity(taken),
            width,
            most,
            every,
            seen: 0,
        }
    }

    pub(crate) fn add(&mut self, features: &[f32], class: usize, replayed: bool) {
        self.seen += 1;
        if !((self.seen - 1) / 2).is_multiple_of(self.every) || self.len() == self.most {
            return;
        }
        let length = dot(features, features).sqrt().max(f32::MIN_POSITIVE);
        self.features.extend(features.iter().map(|x| f16::from_f32(x / length)));
        self.lengths.push(length);
        self.classes.push(class);
        self.replayed.push(replayed);
    }

    /// Whether every photo that came is kept.
    pub(crate) fn is_whole(&self) -> bool {
        self.seen == self.len()
    }

    /// Which photos tell of others: no earlier lesson has seen them, and each is not the only one of its class.
    pub(crate) fn tell(&self) -> impl Iterator<Item = bool> + '_ {
        let mut counts = vec![0u32; self.classes.iter().max().map_or(0, |most| most + 1)];
        self.classes.iter().for_each(|class| counts[*class] += 1);
        self.classes.iter().zip(&self.replayed).map(move |(class, replayed)| !replayed && counts[*class] > 1)
    }

    /// The classes of those that are kept.
    pub(crate) fn labels(&self) -> &[usize] {
        &self.classes
    }

    /// Photos that are kept.
    pub(crate) fn len(&self) -> usize {
        self.classes.len()
    }

    /// Shows every photo that is kept to `visit`: its features, of unit length, and its class.
    pub(crate) fn each(&self, visit: impl FnMut(&[f32], usize)) {
        self.show(|_| 1.0, visit);
    }

    /// The same with the features as they are.
    pub(crate) fn each_plain(&self, visit: impl FnMut(&[f32], usize)) {
        self.show(|length| length, visit);
    }

    fn show(&self, scale: impl Fn(f32) -> f32, mut visit: impl FnMut(&[f32], usize)) {
        let mut x = vec![0.0f32; self.width];
        let photos = self.features.chunks_exact(self.width.max(1)).zip(&self.lengths).zip(&self.classes);
        for ((features, &length), &class) in photos {
            let scale = scale(length);
            x.iter_mut().zip(features).for_each(|(x, f)| *x = scale * f.to_f32());
            visit(&x, class);
        }
    }

    /// They as a ridge regression of `classes` sees them; `None` where nothing can be solved.
    pub(crate) fn ridge(&self, classes: usize) -> Option<Ridge> {
        Ridge::of(self.len(), [self.width, classes], |visit| self.each_plain(visit))
    }

    /// How many are recognized: see [`LeftOut::recognized`]. All of them are in `means`. `None` where no class has two photos.
    pub(crate) fn accuracy(&self, means: &ClassMeans) -> Option<LeftOutAccuracy> {
        let recognized = self.recognized(means, |_| true);
        Some(LeftOutAccuracy { accuracy: recognized.accuracy()?, photos: recognized.photos() })
    }

    /// Which are recognized: the class of a photo x is argmax over k of m_k x / |m_k|, where m_k is class k's mean without x, as imprinting
    /// has it; other classes may be among `means`. Photos of a class are `in_means` or are not. Where nothing else is in the mean of a
    /// class, its photos do not count.
    pub(crate) fn recognized(&self, means: &ClassMeans, in_means: impl Fn(usize) -> bool) -> Recognized {
        let mut recognized = Recognized::new(means.classes());
        self.cosines(means, in_means, |cosines, class| {
            let mut others = (0..means.classes()).filter(|k| *k != class && means.sum(*k).1 > 0);
            recognized.count(class, others.all(|k| cosines[k] < cosines[class]));
        });
        recognized
    }

    /// Shows m_k x / |m_k| of every class k, and the class of x, to `visit`: see [`LeftOut::recognized`].
    fn cosines(&self, means: &ClassMeans, in_means: impl Fn(usize) -> bool, mut visit: impl FnMut(&[f32], usize)) {
        let squares: Vec<f32> = (0..means.classes()).map(|k| dot(means.sum(k).0, means.sum(k).0)).collect();
        let mut cosines = vec![0.0f32; means.classes()];
        self.each(|x, class| {
            let is_in = in_means(class);
            if means.sum(class).1 < 1 + u32::from(is_in) {
                return;
            }
            let itself = dot(x, x);
            for (k, cosine) in cosines.iter_mut().enumerate() {
                let sum = dot(means.sum(k).0, x);
                // A sum has the direction of the mean. Without x its square is |s|^2 - 2 s x + |x|^2.
                let (sum, square) = if k == class && is_in {
                    (sum - itself, squares[k] - 2.0 * sum + itself)
                } else {
                    (sum, squares[k])
                };
                *cosine = sum / square.max(f32::MIN_POSITIVE).sqrt();
            }
            visit(&cosines, class);
        });
    }

    /// How the head is to be read that is imprinted from `means`, in which all of them are.
    pub(crate) fn imprinted(&self, means: &ClassMeans) -> Option<Calibration> {
        let (mut logits, mut labels, mut nth) = (Vec::new(), Vec::new(), 0);
        // Of very many classes, the logits of some photos.
        let every = self.len().saturating_mul(means.classes()).div_ceil(MOST_SOLVED).max(1);
        let in_means = |_| true;
        self.cosines(means, in_means, |cosines, class| {
            nth += 1;
            if nth % every == 0 {
                logits.extend(cosines.iter().map(|cosine| IMPRINT_SCALE * cosine));
                labels.push(class);
            }
        });
        Calibration::of(&logits, &labels, IMPRINTED_TEMPERATURE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged<const N: usize>(photos: &[([f32; N], usize)], classes: usize) -> Option<LeftOutAccuracy> {
        let (mut left_out, mut means) = (LeftOut::new(photos.len(), N), ClassMeans::unknown(classes, N));
        for (x, class) in photos {
            left_out.add(x, *class, false);
            means.add(x, *class);
        }
        left_out.accuracy(&means)
    }

    #[test]
    fn each_photo_is_judged_by_means_without_it() {
        // Two classes along two axes, and a photo of the first class that looks like the second.
        let photos = [([3.0, 0.1], 0), ([1.0, 0.0], 0), ([0.1, 1.0], 0), ([0.0, 2.0], 1), ([0.2, 1.0], 1)];
        // Naive: leave each out in turn and imprint the rest.
        let unit = |x: [f32; 2]| x.map(|v| v / x[0].hypot(x[1]));
        let mut right = 0;
        for (out, (x, class)) in photos.iter().enumerate() {
            let score = |k: usize| {
                let rest = photos.iter().enumerate().filter(|(nth, (_, c))| *nth != out && *c == k);
                let rows: Vec<[f32; 2]> = rest.map(|(_, (x, _))| unit(*x)).collect();
                let mean = [0, 1].map(|j| rows.iter().map(|row| row[j]).sum::<f32>() / rows.len() as f32);
                unit(mean)[0] * unit(*x)[0] + unit(mean)[1] * unit(*x)[1]
            };
            right += usize::from(score(*class) > score(1 - class));
        }
        assert_eq!((right, judged(&photos, 2)), (4, Some(LeftOutAccuracy { accuracy: 0.8, photos: 5 })));
    }

    #[test]
    fn a_scattered_class_is_not_at_a_disadvantage_beside_a_dense_one() {
        // Angles in degrees. The mean of -50 and 50 points to 0 and has a length of 0.64; the others' lies 40 degrees away.
        let photos = [(-50.0f32, 0), (0.0, 0), (50.0, 0), (40.0, 1), (40.0, 1)];
        let photos = photos.map(|(angle, class)| ([angle.to_radians().cos(), angle.to_radians().sin()], class));
        assert_eq!(judged(&photos, 2), Some(LeftOutAccuracy { accuracy: 0.8, photos: 5 }), "all but the one at 50");
    }

    #[test]
    fn a_single_photo_of_a_class_is_not_left_out_but_may_be_taken_for_another_class() {
        // The third photo lies nearer to the single one of the second class than to the first two.
        let photos = [([1.0, 0.0], 0), ([1.0, 0.1], 0), ([0.3, 1.0], 0), ([0.0, 1.0], 1)];
        assert_eq!(judged(&photos, 2), Some(LeftOutAccuracy { accuracy: 2.0 / 3.0, photos: 3 }));
        assert_eq!(judged(&photos, 3), judged(&photos, 2), "a class without photos takes none");
        assert_eq!(judged(&[([1.0, 0.0], 0), ([0.0, 1.0], 1)], 2), None);
    }

    #[test]
    fn of_too_many_photos_neighbours_are_judged() {
        // 1000 photos of 1280 values, two of each class: one pair of three.
        let (mut left_out, mut means) = (LeftOut::new(1000, 1280), ClassMeans::unknown(500, 1280));
        let (mut x, mut capacity) = (vec![0.0; 1280], 0);
        for photo in 0..1000 {
            x.fill(0.0);
            x[photo / 2] = 1.0;
            left_out.add(&x, photo / 2, false);
            means.add(&x, photo / 2);
            capacity = capacity.max(left_out.features.capacity());
        }
        assert_eq!(left_out.accuracy(&means), Some(LeftOutAccuracy { accuracy: 1.0, photos: 334 }));
        assert!(capacity <= MOST_SOLVED);
    }

    #[test]
    fn of_very_many_classes_some_photos_tell_how_an_imprinted_head_is_read() {
        let (mut left_out, mut means) = (LeftOut::new(400, 8), ClassMeans::unknown(3000, 8));
        for photo in 0..400 {
            let x: Vec<f32> = (0..8).map(|at| ((photo / 2 * 8 + at) as f32).sin()).collect();
            left_out.add(&x, photo / 2, false);
            means.add(&x, photo / 2);
        }
        // 400 x 3000 logits are more than twice what is kept.
        assert_eq!(left_out.imprinted(&means).map(|calibration| calibration.photos), Some(133));
    }

    #[test]
    fn few_photos_leave_it_open_whether_a_task_is_easy() {
        let may_be = |accuracy, photos| LeftOutAccuracy { accuracy, photos }.may_be(0.9);
        // Two standard errors: 0.29 and 0.065 of 0.7, 0.05 of 0.85, 0.32 of 0.5.
        assert!(may_be(0.7, 10) && !may_be(0.7, 200) && may_be(0.85, 200) && !may_be(0.5, 10));
    }
}
