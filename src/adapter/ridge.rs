//! The head in closed form: ridge regression of the classes on features, and what it would say of each photo had it not seen that one.

use super::HeadBuffers;
use super::cholesky::{cholesky, dot};
use crate::limits::{MOST_SOLVED, MOST_SOLVED_SIDE};

/// Photos as a ridge regression sees them: x = (f / s, 1) of features f, where s is the root of their mean square length, and y = 1 for its
/// class, 0 for the others. Every class has the same weight, whatever its number of n photos:
///
/// W = argmin sum_i w_i |y_i - W x_i|^2 + n strength |W|^2, w_i = n / (classes present x photos of i's class)
///
/// Without photo i, W would say y_i - (y_i - W x_i) / (1 - h_i) of it, where h_i is its leverage (Hastie et al., *The elements of
/// statistical learning*, 7.10; exact, but that w and n stay).
pub(crate) struct Ridge {
    /// n x width, by row, each times the root of its weight.
    rows: Vec<f32>,
    /// The roots of the weights.
    roots: Vec<f64>,
    labels: Vec<usize>,
    classes: usize,
    width: usize,
    scale: f64,
    /// Products of rows with rows, or of columns with columns, whichever are fewer: `side` x `side`.
    products: Vec<f64>,
    side: usize,
}

impl Ridge {
    /// Of the photos that `each` shows, at most `photos`, with their features and classes. `None` where these are more than
    /// [`Ridge::most_photos`], where there is none, and for features that are not finite or all zero.
    pub(crate) fn of(
        photos: usize,
        [features, classes]: [usize; 2],
        each: impl FnOnce(&mut dyn FnMut(&[f32], usize)),
    ) -> Option<Self> {
        let width = features.saturating_add(1);
        if photos > Self::most_photos([features, classes]) {
            return None;
        }
        let (mut rows, mut labels) = (Vec::with_capacity(photos * width), Vec::with_capacity(photos));
        each(&mut |x, class| {
            if x.len() == features && class < classes && labels.len() < photos {
                rows.extend_from_slice(x);
                rows.push(1.0);
                labels.push(class);
            }
        });
        let n = labels.len();
        let square: f64 = rows.chunks_exact(width).map(|row| dot(&row[..features], &row[..features])).sum();
        let scale = (square / n.max(1) as f64).sqrt();
        if !(scale.is_finite() && scale > 0.0) {
            return None;
        }
        let mut counts = vec![0usize; classes];
        labels.iter().for_each(|class| counts[*class] += 1);
        let present = counts.iter().filter(|count| **count > 0).count();
        let root = |class: &usize| (n as f64 / (present * counts[*class]) as f64).sqrt();
        let roots: Vec<f64> = labels.iter().map(root).collect();
        for (row, root) in rows.chunks_exact_mut(width).zip(&roots) {
            row[..features].iter_mut().for_each(|x| *x = (f64::from(*x) * root / scale) as f32);
            row[features] = *root as f32;
        }
        let side = n.min(width);
        let mut ridge = Ridge { rows, roots, labels, classes, width, scale, products: vec![0.0; side * side], side };
        ridge.multiply();
        Some(ridge)
    }

    /// How many photos of so many features and classes can be solved at most: [`MOST_SOLVED`] and [`MOST_SOLVED_SIDE`].
    pub(crate) fn most_photos([features, classes]: [usize; 2]) -> usize {
        let width = features.saturating_add(1);
        let most = MOST_SOLVED / width.max(classes);
        if width > MOST_SOLVED_SIDE { most.min(MOST_SOLVED_SIDE) } else { most }
    }

    /// Bytes that solving `photos` takes, features in half precision beside it included.
    pub(crate) fn bytes(photos: usize, [features, classes]: [usize; 2]) -> u64 {
        let photos = photos.min(Self::most_photos([features, classes]));
        let (values, side) = (photos * (features + 1), photos.min(features + 1));
        (2 * values + 4 * values + 4 * photos * classes + 2 * 8 * side * side) as u64
    }

    fn photos(&self) -> usize {
        self.labels.len()
    }

    /// What each photo would be given without itself: photos x classes. `None` where the strength is too small for these numbers.
    pub(crate) fn leave_one_out(&self, strength: f64) -> Option<Vec<f32>> {
        let inverse = self.factor(strength)?;
        let (n, mut scores) = (self.photos(), vec![0.0f32; self.photos() * self.classes]);
        let remains: Vec<f64> = match self.is_dual() {
            // The diagonal of the inverse of A = X X^T + n strength I; 1 - h_i is n strength times that.
            true => (0..n).map(|i| (i..n).map(|k| inverse[k * n + i].powi(2)).sum()).collect(),
            false => self.rows.chunks_exact(self.width).map(|row| 1.0 - self.leverage(&inverse, row)).collect(),
        };
        for class in 0..self.classes {
            let solved = self.solve_class(&inverse, class);
            for (i, row) in self.rows.chunks_exact(self.width).enumerate() {
                let target = f64::from(u8::from(self.labels[i] == class));
                let residual = match self.is_dual() {
                    true => solved[i],
                    false => target * self.roots[i] - dot(row, &solved),
                };
                scores[i * self.classes + class] = (target - residual / remains[i] / self.roots[i]) as f32;
            }
        }
        scores.iter().all(|score| score.is_finite()).then_some(scores)
    }

    /// The head: W and b of plain features, without moments. `None` where the strength is too small for these numbers.
    pub(crate) fn solve(&self, strength: f64) -> Option<HeadBuffers> {
        let inverse = self.factor(strength)?;
        let mut head = HeadBuffers::new(self.classes, self.width - 1);
        let (w, b) = head.values.split_at_mut(self.classes * (self.width - 1));
        for (class, (w, b)) in w.chunks_exact_mut(self.width - 1).zip(b).enumerate() {
            let solved = self.solve_class(&inverse, class);
            let row = if self.is_dual() { self.combine(&solved) } else { solved };
            w.iter_mut().zip(&row).for_each(|(w, x)| *w = (x / self.scale) as f32);
            *b = row[self.width - 1] as f32;
        }
        head.values.iter().all(|value| value.is_finite()).then_some(head)
    }

    /// There are fewer photos than features.
    fn is_dual(&self) -> bool {
        self.photos() < self.width
    }

    fn multiply(&mut self) {
        let (side, width) = (self.side, self.width);
        if self.is_dual() {
            for i in 0..side {
                for j in 0..=i {
                    let [x, y] = [i, j].map(|row| &self.rows[row * width..(row + 1) * width]);
                    self.products[i * side + j] = dot(x, y);
                }
            }
            return;
        }
        for row in self.rows.chunks_exact(width) {
            for (i, x) in row.iter().enumerate() {
                let sums = &mut self.products[i * side..i * side + i + 1];
                sums.iter_mut().zip(row).for_each(|(sum, y)| *sum += f64::from(*x) * f64::from(*y));
            }
        }
    }

    /// The inverse of the Cholesky factor of the products with n `strength` on their diagonal: lower triangular, `side` x `side`.
    fn factor(&self, strength: f64) -> Option<Vec<f64>> {
        let (side, mut products) = (self.side, self.products.clone());
        (0..side).for_each(|i| products[i * side + i] += self.photos() as f64 * strength);
        let mut lower = cholesky(products, side)?;
        // Row i of the inverse: (e_i - sum over k < i of L_ik times row k) / L_ii.
        let mut sums = vec![0.0; side];
        for i in 0..side {
            let (above, row) = lower.split_at_mut(i * side);
            sums[..=i].fill(0.0);
            for (k, inverse) in above.chunks_exact(side).enumerate() {
                sums[..=k].iter_mut().zip(inverse).for_each(|(sum, x)| *sum -= row[k] * x);
            }
            sums[i] = 1.0;
            let diagonal = row[i];
            row[..=i].iter_mut().zip(&sums).for_each(|(x, sum)| *x = sum / diagonal);
        }
        Some(lower)
    }

    /// A^-1 z for one class, where z is y, or X^T y where there are more photos than features.
    fn solve_class(&self, inverse: &[f64], class: usize) -> Vec<f64> {
        let targets: Vec<f64> = self
            .labels
            .iter()
            .zip(&self.roots)
            .map(|(label, root)| if *label == class { *root } else { 0.0 })
            .collect();
        let right = if self.is_dual() { targets } else { self.combine(&targets) };
        let (side, mut solved) = (self.side, vec![0.0; self.side]);
        for (i, row) in inverse.chunks_exact(side).enumerate() {
            let half = dot(&row[..=i], &right[..=i]);
            solved[..=i].iter_mut().zip(row).for_each(|(x, l)| *x += l * half);
        }
        solved
    }

    /// X^T c.
    fn combine(&self, factors: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; self.width];
        for (row, factor) in self.rows.chunks_exact(self.width).zip(factors).filter(|(_, factor)| **factor != 0.0) {
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += factor * f64::from(*x));
        }
        sum
    }

    fn leverage(&self, inverse: &[f64], row: &[f32]) -> f64 {
        inverse.chunks_exact(self.side).enumerate().map(|(i, l)| dot(&row[..=i], &l[..=i]).powi(2)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Photos of two features and of seven, so that either side is the shorter one; classes of unequal sizes.
    fn photos(features: usize) -> Vec<(Vec<f32>, usize)> {
        let value =
            |photo: usize, at: usize| ((photo * 7 + at * 3) as f32 * 0.37).sin() + f32::from(photo % 3 == at % 3);
        (0..6).map(|photo| ((0..features).map(|at| value(photo, at)).collect(), [0, 1, 2, 0, 1, 0][photo])).collect()
    }

    fn ridge(photos: &[(Vec<f32>, usize)], features: usize) -> Ridge {
        Ridge::of(photos.len(), [features, 3], |visit| photos.iter().for_each(|(x, class)| visit(x, *class))).unwrap()
    }

    /// Gradient of the penalized squares at the head that was solved, from the formula.
    #[test]
    fn the_head_is_the_least_of_the_penalized_squares() {
        for features in [2, 7] {
            let (photos, strength) = (photos(features), 0.01);
            let head = ridge(&photos, features).solve(strength).unwrap();
            let s2: f64 = photos.iter().flat_map(|(x, _)| x).map(|x| f64::from(*x).powi(2)).sum::<f64>() / 6.0;
            for class in 0..3 {
                let mut gradient = vec![0.0; features + 1];
                for (x, label) in &photos {
                    let weight = 6.0 / (3.0 * [3.0, 2.0, 1.0][*label]);
                    let off = weight * (f64::from(head.logits(x)[class]) - f64::from(u8::from(*label == class)));
                    gradient.iter_mut().zip(x).for_each(|(g, x)| *g += off * f64::from(*x) / s2.sqrt());
                    gradient[features] += off;
                }
                let (w, b) = head.weights();
                for at in 0..features {
                    gradient[at] += 6.0 * strength * f64::from(w[class * features + at]) * s2.sqrt();
                }
                gradient[features] += 6.0 * strength * f64::from(b[class]);
                assert!(gradient.iter().all(|g| g.abs() < 1e-5), "{gradient:?}");
            }
        }
    }

    /// Against solving six times without one photo, with the weights, the scale and the penalty that all six have.
    #[test]
    fn a_photo_left_out_is_given_what_the_others_alone_would_give_it() {
        for features in [2, 7] {
            let photos = photos(features);
            let (whole, strength) = (ridge(&photos, features), 0.01);
            let scores = whole.leave_one_out(strength).unwrap();
            for out in 0..6 {
                // Its row of zeros takes it out, and leaves everything else.
                let mut rest = ridge(&photos, features);
                rest.rows[out * (features + 1)..(out + 1) * (features + 1)].fill(0.0);
                rest.roots[out] = 0.0;
                rest.products.fill(0.0);
                rest.multiply();
                let logits = rest.solve(strength).unwrap().logits(&photos[out].0);
                for (found, expected) in scores[out * 3..].iter().zip(logits) {
                    assert!((found - expected).abs() < 1e-5, "{features} {out}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_solved_is_not() {
        let of = |photos: &[(Vec<f32>, usize)], features| {
            Ridge::of(photos.len(), [features, 3], |visit| photos.iter().for_each(|(x, class)| visit(x, *class)))
        };
        assert!(of(&[], 2).is_none() && of(&[(vec![0.0, 0.0], 0)], 2).is_none());
        assert!(of(&[(vec![f32::NAN, 0.0], 0)], 2).is_none() && of(&[(vec![f32::INFINITY, 0.0], 0)], 2).is_none());
        assert!(Ridge::of(MOST_SOLVED, [1, 3], |_| {}).is_none() && Ridge::of(1, [usize::MAX, 3], |_| {}).is_none());
        assert_eq!(
            [[63, 10], [1280, 10], [511, 10], [512, 10], [63, 8192]].map(Ridge::most_photos),
            [8192, 409, 1024, 512, 64]
        );
        assert!([-1.0, f64::NAN].iter().all(|strength| ridge(&photos(2), 2).solve(*strength).is_none()));
    }
}
