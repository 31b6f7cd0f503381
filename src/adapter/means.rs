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

    /// The mean of x over a class, but for what its photos' lengths differ: [`ClassMeans::mean`] times [`ClassMeans::length`].
    fn centre(&self, class: usize) -> Vec<f32> {
        let length = self.length();
        self.mean(class).iter().map(|x| length * x).collect()
    }

    /// Sets the rows of `head` from `known` on so that they compete with those before as these do with each other. With c the mean of the
    /// known classes' centres, class m gets w = margin (m - c) / |m - c|^2 and b = off - w c, where off is the mean logit that known rows
    /// give the centres of other known classes, and margin what they give their own above that. Where too little is known for this, the
    /// rows stay as they were imprinted, of the known ones' length.
    pub(crate) fn settle(&self, head: &mut HeadBuffers, known: usize) {
        match self.rows_beside(head, known) {
            Some(rows) => head.set_rows(known, &rows),
            None => head.level_rows(known),
        }
    }

    /// Those rows, each with its bias.
    fn rows_beside(&self, head: &HeadBuffers, known: usize) -> Option<Vec<(Vec<f32>, f32)>> {
        if known < 2 || !self.knows(0..head.classes()) {
            return None;
        }
        let (mut own, mut off, mut mean) = (0.0, 0.0, vec![0.0f32; self.features]);
        for class in 0..known {
            let (centre, share) = (self.centre(class), 1.0 / known as f32);
            let logits = head.logits(&centre);
            own += share * logits[class];
            off += share * (logits[..known].iter().sum::<f32>() - logits[class]) / (known - 1) as f32;
            mean.iter_mut().zip(&centre).for_each(|(sum, x)| *sum += share * x);
        }
        let row = |class: usize| {
            let mut row: Vec<f32> = self.centre(class).iter().zip(&mean).map(|(x, mean)| x - mean).collect();
            let gain = (own - off) / row.iter().map(|x| x * x).sum::<f32>();
            row.iter_mut().for_each(|x| *x *= gain);
            let bias = off - row.iter().zip(&mean).map(|(w, x)| w * x).sum::<f32>();
            (gain > 0.0 && gain.is_finite()).then_some((row, bias))
        };
        (known..head.classes()).map(row).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_rows_compete_with_known_ones_as_these_do_with_each_other() {
        // Means along three axes, beside a large one that all share.
        let mut means = ClassMeans::unknown(3, 4);
        for class in 0..3 {
            let mut x = [0.0, 0.0, 0.0, 2.0];
            x[class] = 1.0;
            means.add(&x, class);
        }
        // Two known rows that tell the first axis from the second.
        let mut head = HeadBuffers::new(3, 4);
        head.values_mut()[..8].copy_from_slice(&[2.0, -2.0, 0.0, 0.1, -2.0, 2.0, 0.0, 0.1]);
        let known = head.clone();
        means.settle(&mut head, 2);
        assert_eq!(head.values[..8], known.values[..8]);
        let logits = known.logits(&means.centre(0));
        // The new class has the known ones' margin on its mean, and what they have on each other's between these.
        let between: Vec<f32> = means.centre(0).iter().zip(means.centre(1)).map(|(a, b)| (a + b) / 2.0).collect();
        let found = [head.logits(&means.centre(2))[2], head.logits(&between)[2]];
        assert!(found.iter().zip(logits).all(|(found, expected)| (found - expected).abs() < 1e-4), "{found:?}");
    }

    #[test]
    fn rows_that_cannot_be_settled_are_levelled_all_of_them() {
        // The last class lies where the known ones' mean does: nothing tells it from them.
        let mut means = ClassMeans::unknown(4, 2);
        let photos: [([f32; 2], usize); 5] =
            [([1.0, 0.0], 0), ([0.0, 1.0], 1), ([1.0, 0.5], 2), ([1.0, 0.0], 3), ([0.0, 1.0], 3)];
        photos.iter().for_each(|(x, class)| means.add(x, *class));
        let mut head = HeadBuffers::new(4, 2);
        head.values_mut()[..8].copy_from_slice(&[3.0, 0.0, 0.0, 3.0, 1.0, 0.5, 0.5, 0.5]);
        let mut levelled = head.clone();
        levelled.level_rows(2);
        means.settle(&mut head, 2);
        assert_eq!(head, levelled);
    }
}
