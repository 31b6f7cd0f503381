//! What is remembered of the photos of each class: the mean of their features.

use crate::adapter::HeadBuffers;
use crate::core::Imprint;

/// What sums of unit vectors may be too long by: each addition rounds.
const ROUNDING: f32 = 1e-3;

/// Of each class the sum of x / |x| over its photos, their number, and the sum of |x|: what a head is imprinted from (arXiv
/// 1712.07136). The mean of class c is its sum divided by its count; a class of no photos has none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClassMeans {
    features: usize,
    /// classes x features.
    pub(crate) sums: Vec<f32>,
    /// Photos of each class.
    pub(crate) counts: Vec<u32>,
    /// Sum of |x| over each class.
    pub(crate) lengths: Vec<f32>,
}

impl ClassMeans {
    /// Of so many classes, none of which has been seen.
    #[must_use]
    pub fn unknown(classes: usize, features: usize) -> Self {
        ClassMeans {
            features,
            sums: vec![0.0; classes * features],
            counts: vec![0; classes],
            lengths: vec![0.0; classes],
        }
    }

    /// Classes, known or not.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.counts.len()
    }

    /// Values of a mean.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }

    /// Whether no class has been seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    /// Whether the photos of these classes have been seen, of each one at least.
    #[must_use]
    pub fn knows(&self, classes: core::ops::Range<usize>) -> bool {
        self.counts.get(classes).is_some_and(|counts| counts.iter().all(|count| *count > 0))
    }

    /// The sum of x / |x| over a class, and its photos.
    pub(crate) fn sum(&self, class: usize) -> (&[f32], u32) {
        (&self.sums[class * self.features..(class + 1) * self.features], self.counts[class])
    }

    /// Mean |x|; 0 where nothing has been seen.
    #[must_use]
    pub fn length(&self) -> f32 {
        let photos: f32 = self.counts.iter().map(|count| *count as f32).sum();
        self.lengths.iter().sum::<f32>() / photos.max(1.0)
    }

    /// The mean of x / |x| over a class; zeros where it has not been seen.
    pub(crate) fn mean(&self, class: usize) -> Vec<f32> {
        let (sum, photos) = self.sum(class);
        sum.iter().map(|x| x / photos.max(1) as f32).collect()
    }

    /// Takes the features of one photo in; of another length, or of a class that is not there, they are let go.
    pub fn add(&mut self, features: &[f32], class: usize) {
        let Ok(mut imprint) = Imprint::resume(&mut self.sums, &mut self.counts, 0.0) else { return };
        if imprint.add(features, class).is_ok() {
            self.lengths[class] += imprint.norms();
        }
    }

    /// The head that is imprinted from them: see [`Imprint`].
    #[must_use]
    pub fn imprint(&self, scale: f32) -> HeadBuffers {
        let mut head = HeadBuffers::new(self.classes(), self.features);
        let (w, _) = head.values.split_at_mut(self.sums.len());
        w.copy_from_slice(&self.sums);
        let mut counts = self.counts.clone();
        if let Ok(imprint) = Imprint::resume(w, &mut counts, self.lengths.iter().sum()) {
            imprint.finish(scale);
        }
        head
    }

    /// The same for so many classes; those after the present ones have not been seen.
    #[must_use]
    pub(crate) fn with_classes(&self, classes: usize) -> Self {
        let mut means = self.clone();
        means.sums.resize(classes * self.features, 0.0);
        means.counts.resize(classes, 0);
        means.lengths.resize(classes, 0.0);
        means
    }

    /// Takes over every class that `seen` has photos of, in place of what was known of it.
    pub(crate) fn replace(&mut self, seen: &ClassMeans) {
        for class in (0..seen.classes()).filter(|class| seen.counts[*class] > 0) {
            let span = class * self.features..(class + 1) * self.features;
            self.sums[span.clone()].copy_from_slice(&seen.sums[span]);
            (self.counts[class], self.lengths[class]) = (seen.counts[class], seen.lengths[class]);
        }
    }

    /// Makes one class unknown.
    pub(crate) fn clear(&mut self, class: usize) {
        self.sums[class * self.features..(class + 1) * self.features].fill(0.0);
        (self.counts[class], self.lengths[class]) = (0, 0.0);
    }

    /// Lets go of one class; those after it move up.
    pub(crate) fn forget(&mut self, class: usize) {
        self.sums.drain(class * self.features..(class + 1) * self.features);
        self.counts.remove(class);
        self.lengths.remove(class);
    }

    /// Whether photos can have added up to this: a sum of n vectors of unit length is no longer than n, and lengths are not negative.
    #[must_use]
    pub(crate) fn can_be(&self) -> bool {
        let classes = self.sums.chunks_exact(self.features.max(1)).zip(&self.counts).zip(&self.lengths);
        classes.into_iter().all(|((sum, &count), &length)| {
            let (sum, most) = (sum.iter().map(|x| x * x).sum::<f32>().sqrt(), count as f32 * (1.0 + ROUNDING));
            sum <= most && length.is_finite() && length >= 0.0 && (count > 0 || length == 0.0)
        })
    }

    /// Bytes of all its values.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        size_of::<f32>() * (self.sums.len() + self.counts.len() + self.lengths.len())
    }
}
