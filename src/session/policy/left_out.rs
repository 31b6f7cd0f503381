//! How well imprinting does on photos that it has not seen: each training photo against class means without it.

use half::f16;
use serde::{Deserialize, Serialize};

use super::bits;
use super::recognized::Recognized;
use crate::adapter::ClassMeans;

/// Feature values that are kept at most, 1 MiB; of more photos two neighbours of every 2 n are taken.
const MOST_VALUES: usize = 1 << 19;

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

/// The training photos' features, of unit length.
pub(crate) struct LeftOut {
    features: Vec<f16>,
    classes: Vec<usize>,
    width: usize,
    /// Of twice so many photos the first two are taken: they are mostly of one class.
    every: usize,
    /// Photos that came.
    seen: usize,
}

impl LeftOut {
    /// Room for so many photos of `width` features.
    pub(crate) fn new(photos: usize, width: usize) -> Self {
        let every = photos.saturating_mul(width).div_ceil(MOST_VALUES).max(1);
        let taken = 2 * photos.div_ceil(2 * every);
        LeftOut {
            features: Vec::with_capacity(taken.saturating_mul(width)),
            classes: Vec::with_capacity(taken),
            width,
            every,
            seen: 0,
        }
    }

    pub(crate) fn add(&mut self, features: &[f32], class: usize) {
        self.seen += 1;
        if !((self.seen - 1) / 2).is_multiple_of(self.every) {
            return;
        }
        let length = dot(features, features).sqrt().max(f32::MIN_POSITIVE);
        self.features.extend(features.iter().map(|x| f16::from_f32(x / length)));
        self.classes.push(class);
    }

    /// Photos that are kept.
    pub(crate) fn len(&self) -> usize {
        self.classes.len()
    }

    /// Shows every photo that is kept to `visit`: its features, of unit length, and its class.
    pub(crate) fn each(&self, mut visit: impl FnMut(&[f32], usize)) {
        let mut x = vec![0.0f32; self.width];
        for (features, &class) in self.features.chunks_exact(self.width.max(1)).zip(&self.classes) {
            x.iter_mut().zip(features).for_each(|(x, f)| *x = f.to_f32());
            visit(&x, class);
        }
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
        let squares: Vec<f32> = (0..means.classes()).map(|k| dot(means.sum(k).0, means.sum(k).0)).collect();
        let mut recognized = Recognized::new(means.classes());
        self.each(|x, class| {
            let is_in = in_means(class);
            if means.sum(class).1 < 1 + u32::from(is_in) {
                return;
            }
            let itself = dot(x, x);
            let score = |k: usize| {
                let sum = dot(means.sum(k).0, x);
                // A sum has the direction of the mean. Without x its square is |s|^2 - 2 s x + |x|^2.
                let (sum, square) = if k == class && is_in {
                    (sum - itself, squares[k] - 2.0 * sum + itself)
                } else {
                    (sum, squares[k])
                };
                sum / square.max(f32::MIN_POSITIVE).sqrt()
            };
            let own = score(class);
            let mut others = (0..means.classes()).filter(|k| *k != class && means.sum(*k).1 > 0);
            recognized.count(class, others.all(|k| score(k) < own));
        });
        recognized
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged<const N: usize>(photos: &[([f32; N], usize)], classes: usize) -> Option<LeftOutAccuracy> {
        let (mut left_out, mut means) = (LeftOut::new(photos.len(), N), ClassMeans::unknown(classes, N));
        for (x, class) in photos {
            left_out.add(x, *class);
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
            left_out.add(&x, photo / 2);
            means.add(&x, photo / 2);
            capacity = capacity.max(left_out.features.capacity());
        }
        assert_eq!(left_out.accuracy(&means), Some(LeftOutAccuracy { accuracy: 1.0, photos: 334 }));
        assert!(capacity <= MOST_VALUES + 2 * 1280);
    }

    #[test]
    fn few_photos_leave_it_open_whether_a_task_is_easy() {
        let may_be = |accuracy, photos| LeftOutAccuracy { accuracy, photos }.may_be(0.9);
        // Two standard errors: 0.29 and 0.065 of 0.7, 0.05 of 0.85, 0.32 of 0.5.
        assert!(may_be(0.7, 10) && !may_be(0.7, 200) && may_be(0.85, 200) && !may_be(0.5, 10));
    }
}
