//! What leaving each photo out once has shown, and what follows from it.

use serde::{Deserialize, Serialize};

/// How many photos were right while they were left out, each once, of classes with two and more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrossValidation {
    /// How many there were.
    pub photos: usize,
    /// With the head imprinted on the others.
    pub imprinted: usize,
    /// With the head trained on them.
    pub head: usize,
    /// With pairs and head trained on them.
    pub pairs: usize,
    /// Photos that either the trained head or pairs got right, not both.
    pub pairs_differ: usize,
    /// Photos that either the imprinted or the trained head got right, not both.
    pub head_differs: usize,
    /// Photos that either the imprinted head or pairs got right, not both.
    pub both_differ: usize,
    /// Parts that have been left out so far.
    pub parts: usize,
}

/// Photos that must differ at least: with one or two, a coin would say the same in a quarter of all cases.
const LEAST_DIFFERING: usize = 3;

/// Whether `more` is above `less` by more than the standard error of the difference: the root of the photos that differ.
fn is_above(more: usize, less: usize, differ: usize) -> bool {
    differ >= LEAST_DIFFERING && more as f64 - less as f64 > (differ as f64).sqrt()
}

impl CrossValidation {
    /// Whether pairs are shown to help, beyond a standard error: with few photos they may as well unlearn (`docs/results.md`).
    #[must_use]
    pub fn pairs_help(&self) -> bool {
        is_above(self.pairs, self.head, self.pairs_differ)
    }

    /// Whether the lesson that follows from it is shown to be worse than imprinting, beyond a standard error.
    #[must_use]
    pub fn warns(&self) -> bool {
        let differ = if self.pairs_help() { self.both_differ } else { self.head_differs };
        is_above(self.imprinted, self.trained(), differ)
    }

    /// Photos that are right after the lesson that follows from it.
    pub(crate) fn trained(&self) -> usize {
        if self.pairs_help() { self.pairs } else { self.head }
    }

    /// Whether so many photos, left out in `folds` parts at most, can have come to this.
    pub(crate) fn can_be_of(&self, folds: usize, left_out: usize) -> bool {
        let counts = [self.imprinted, self.head, self.pairs, self.pairs_differ, self.head_differs, self.both_differ];
        self.parts <= folds && self.photos == left_out && counts.iter().all(|count| *count <= left_out)
    }

    pub(crate) fn add(&mut self, [imprinted, head, pairs]: [&[bool]; 3]) {
        let count = |right: &[bool]| right.iter().filter(|right| **right).count();
        let differ = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|(a, b)| a != b).count();
        self.photos += imprinted.len();
        self.imprinted += count(imprinted);
        self.head += count(head);
        self.pairs += count(pairs);
        self.pairs_differ += differ(head, pairs);
        self.head_differs += differ(imprinted, head);
        self.both_differ += differ(imprinted, pairs);
        self.parts += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_two_photos_show_nothing_and_more_of_them_only_together() {
        let help = |pairs, head, pairs_differ| {
            CrossValidation { photos: 12, head, pairs, pairs_differ, ..CrossValidation::default() }.pairs_help()
        };
        assert!(!help(4, 2, 2) && !help(1, 0, 1) && !help(2, 2, 4), "too few, or no better");
        assert!(help(5, 2, 3) && help(6, 2, 4) && !help(4, 2, 4), "beyond a standard error");
    }
}
