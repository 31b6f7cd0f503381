//! Which classes are taken for which: a confusion matrix of the cells that were counted, and of no others. A matrix of
//! ImageNet-21k's classes would take 3.8 GB, and the photos of a test fill a few thousand of its cells.

use std::collections::{BTreeMap, BTreeSet};

/// Fewer photos tell nothing about chance.
const FEWEST_PHOTOS: usize = 20;

/// Photos by true class and guess.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confusion {
    cells: BTreeMap<(usize, usize), usize>,
    photos: usize,
    right: usize,
}

/// How a class did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Its photos.
    pub photos: usize,
    /// Photos that were taken for it, rightly or not.
    pub guessed: usize,
    /// Its photos that were taken for it.
    pub right: usize,
}

impl Tally {
    /// Share of its photos that were recognized, right / photos; `None` where it has no photo.
    #[must_use]
    pub fn recall(self) -> Option<f64> {
        (self.photos > 0).then(|| self.right as f64 / self.photos as f64)
    }

    /// Share of the photos taken for it that are its own, right / guessed; `None` where none was.
    #[must_use]
    pub fn precision(self) -> Option<f64> {
        (self.guessed > 0).then(|| self.right as f64 / self.guessed as f64)
    }
}

impl Confusion {
    pub(crate) fn count(&mut self, class: usize, guess: usize) {
        *self.cells.entry((class, guess)).or_default() += 1;
        self.photos += 1;
        self.right += usize::from(class == guess);
    }

    /// Photos counted.
    #[must_use]
    pub fn photos(&self) -> usize {
        self.photos
    }

    /// Share of photos whose guess is their class; 0 without photos.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.photos.max(1) as f64
    }

    /// Photos of `class` taken for `guess`.
    #[must_use]
    pub fn cell(&self, class: usize, guess: usize) -> usize {
        self.cells.get(&(class, guess)).copied().unwrap_or(0)
    }

    /// (true class, guess, photos) of the wrong guesses: the most frequent first, equal ones by class and guess.
    pub(crate) fn wrong(&self) -> Vec<(usize, usize, usize)> {
        let cells = self.cells.iter().map(|(&(class, guess), &count)| (class, guess, count));
        let mut wrong: Vec<_> = cells.filter(|(class, guess, _)| class != guess).collect();
        wrong.sort_by_key(|&(.., count)| core::cmp::Reverse(count));
        wrong
    }

    /// Of each of `classes` classes.
    #[must_use]
    pub fn tallies(&self, classes: usize) -> Vec<Tally> {
        let mut tallies = vec![Tally::default(); classes];
        for (&(class, guess), &count) in &self.cells {
            tallies[class].photos += count;
            tallies[guess].guessed += count;
            tallies[class].right += if class == guess { count } else { 0 };
        }
        tallies
    }

    /// Whether chance explains the right guesses: were the same guesses dealt to the photos at random, so many would be right
    /// within two standard errors. `None` with fewer than 20 photos, or photos of a single class.
    ///
    /// With r_k photos of class k, c_k guesses of it, n photos and s = sum of r_k c_k, dealing gives on average s / n right
    /// guesses with the variance (n^2 s - n sum of r_k c_k (r_k + c_k) + s^2) / (n^2 (n - 1)). (It is the variance of a
    /// statistic over all permutations, Hoeffding 1951; the mean is the chance agreement of Cohen's kappa.) A classifier that
    /// always answers the same is at chance, however frequent that class is.
    #[must_use]
    pub fn is_at_chance(&self) -> Option<bool> {
        let classes: BTreeSet<usize> = self.cells.keys().map(|(class, _)| *class).collect();
        if self.photos < FEWEST_PHOTOS || classes.len() < 2 {
            return None;
        }
        let (mean, variance) = self.dealt();
        Some(self.right as f64 <= mean + 2.0 * variance.sqrt())
    }

    /// Mean and variance of the right guesses where guesses are dealt at random.
    fn dealt(&self) -> (f64, f64) {
        let mut sums: BTreeMap<usize, [f64; 2]> = BTreeMap::new();
        for (&(class, guess), &count) in &self.cells {
            sums.entry(class).or_default()[0] += count as f64;
            sums.entry(guess).or_default()[1] += count as f64;
        }
        let n = self.photos as f64;
        let s: f64 = sums.values().map(|[r, c]| r * c).sum();
        let t: f64 = sums.values().map(|[r, c]| r * c * (r + c)).sum();
        (s / n, ((n * n * s - n * t + s * s) / (n * n * (n - 1.0))).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(pairs: impl IntoIterator<Item = (usize, usize)>) -> Confusion {
        let mut confusion = Confusion::default();
        pairs.into_iter().for_each(|(class, guess)| confusion.count(class, guess));
        confusion
    }

    fn times(count: usize, class: usize, guess: usize) -> impl Iterator<Item = (usize, usize)> {
        std::iter::repeat_n((class, guess), count)
    }

    #[test]
    fn recall_and_precision_are_of_rows_and_columns() {
        let confusion = counted(times(3, 0, 0).chain(times(1, 0, 2)).chain(times(2, 1, 0)).chain(times(4, 3, 3)));
        let tallies = confusion.tallies(5);
        assert_eq!(
            tallies.iter().map(|t| t.recall()).collect::<Vec<_>>(),
            [Some(0.75), Some(0.0), None, Some(1.0), None]
        );
        assert_eq!(
            tallies.iter().map(|t| t.precision()).collect::<Vec<_>>(),
            [Some(0.6), None, Some(0.0), Some(1.0), None]
        );
        assert_eq!((confusion.accuracy(), confusion.photos()), (0.7, 10));
        assert_eq!(confusion.wrong(), [(1, 0, 2), (0, 2, 1)]);
        assert_eq!([confusion.cell(0, 0), confusion.cell(0, 2), confusion.cell(2, 0)], [3, 1, 0]);
    }

    #[test]
    fn chance_is_what_all_ways_of_dealing_the_guesses_give() {
        /// Right guesses in every order of `guesses[at..]`.
        fn deal(classes: &[usize], guesses: &mut [usize], at: usize, right: &mut Vec<f64>) {
            if at == guesses.len() {
                right.push(classes.iter().zip(&*guesses).filter(|(class, guess)| class == guess).count() as f64);
            }
            for other in at..guesses.len() {
                guesses.swap(at, other);
                deal(classes, guesses, at + 1, right);
                guesses.swap(at, other);
            }
        }
        for (classes, mut guesses) in [
            ([0, 0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2, 3]),
            ([0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 1]),
            ([0, 1, 2, 3, 4, 5, 6], [6, 6, 6, 6, 6, 6, 6]),
        ] {
            let mut right = Vec::new();
            deal(&classes, &mut guesses, 0, &mut right);
            let count = right.len() as f64;
            let mean = right.iter().sum::<f64>() / count;
            let variance = right.iter().map(|right| (right - mean).powi(2)).sum::<f64>() / count;
            let found = counted(classes.into_iter().zip(guesses)).dealt();
            assert!((found.0 - mean).abs() < 1e-12 && (found.1 - variance).abs() < 1e-9, "{found:?} {mean} {variance}");
        }
    }

    #[test]
    fn at_chance_is_whoever_answers_the_same_or_anything_and_nobody_who_can_tell_classes_apart() {
        let same = counted(times(90, 0, 0).chain(times(10, 1, 0)));
        assert_eq!((same.accuracy(), same.is_at_chance()), (0.9, Some(true)));
        let elsewhere = counted(times(10, 0, 7).chain(times(10, 1, 8)));
        assert_eq!(elsewhere.is_at_chance(), Some(true));
        let anything = counted((0..100).map(|nth| (nth % 2, nth / 2 % 2)));
        assert_eq!((anything.accuracy(), anything.is_at_chance()), (0.5, Some(true)));
        // 19 photos of one class, one of the other, and all are right.
        assert_eq!(counted(times(19, 0, 0).chain(times(1, 1, 1))).is_at_chance(), Some(false));
        // 60 of 100 right, with a standard error of 5.
        let [good, fair] = [62, 58].map(|right| {
            let of = |class| times(right / 2, class, class).chain(times(50 - right / 2, class, 1 - class));
            counted(of(0).chain(of(1)))
        });
        assert_eq!([good.is_at_chance(), fair.is_at_chance()], [Some(false), Some(true)]);
        assert_eq!(counted(times(10, 0, 1).chain(times(9, 1, 0))).is_at_chance(), None, "too few photos");
        assert_eq!(counted(times(100, 0, 1)).is_at_chance(), None, "a single class");
    }
}
