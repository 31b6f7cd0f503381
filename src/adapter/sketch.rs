//! Directions of what a site reads: the leading eigenvectors of the second moment of its inputs, found while photos run.

use std::sync::{Mutex, PoisonError};

use faer::{Accum, MatMut, MatRef};
use half::f16;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::DirectionsBuf;
use super::cholesky::{cholesky, dot};
use super::kernel::product;
use super::moment::Moment;
use super::scratch::Scratch;

/// Directions that are looked for besides those that are asked for; the last ones of a sketch are the least certain.
const OVERSAMPLING: usize = 8;
/// Sweeps of rotations over a small matrix, at most; some six are needed.
const SWEEPS: usize = 30;
/// What is added to the second moment before it is divided by, as a share of its sketch: the first with which that can be done.
const SHIFTS: [f64; 5] = [1e-7, 1e-6, 1e-5, 1e-4, 1e-3];
/// How far directions are brought to equal weight: each is divided by its energy to this power. At 0, what is read most decides how
/// fast all pairs may learn; at 1/2, every pair's input would have the same size.
const LEVELLING: f64 = 0.25;
/// Energy below this share of the largest is rounding.
const LEAST_ENERGY: f64 = 1e-6;

/// A sketch Y = C T of C = sum of x x^T over all x that were added, with a thin random T of -1 and 1, or T = 1 where a thin one would be
/// as wide. C itself, in_dim x in_dim, never
/// exists: C is about Y (T^T Y)^-1 Y^T (Nystrom; Tropp, Yurtsever, Udell and Cevher, arXiv 1706.05736, algorithm 3).
#[derive(Debug)]
pub(crate) struct Sketch {
    /// Directions that are looked for.
    pub(super) count: usize,
    in_dim: usize,
    width: usize,
    /// Y, in_dim x width.
    sums: Mutex<Vec<f32>>,
}

impl Sketch {
    /// Of nothing, for `count` directions of `in_dim` numbers.
    pub(crate) fn new(count: usize, in_dim: usize) -> Self {
        let width = (count + OVERSAMPLING).min(in_dim);
        Sketch { count, in_dim, width, sums: Mutex::new(vec![0.0; width * in_dim]) }
    }

    /// Bytes of one, and what finding its directions takes besides.
    pub(crate) fn bytes(count: usize, in_dim: usize) -> [u64; 2] {
        let width = (count + OVERSAMPLING).min(in_dim) as u64;
        let values = width * in_dim as u64;
        // T once, F, and a small matrix with its eigenvectors.
        let besides = size_of::<f32>() as u64 * values + size_of::<f64>() as u64 * (values + 2 * width * width);
        [size_of::<f32>() as u64 * values, besides]
    }

    /// T^T, width x in_dim. It is made anew for each photo, which costs less than to keep it.
    fn fill(&self, test: &mut [f32]) {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for (at, value) in test.iter_mut().enumerate() {
            *value = match self.width == self.in_dim {
                // Then Y is C itself.
                true => f32::from(u8::from(at / self.in_dim == at % self.in_dim)),
                false if random.random::<bool>() => 1.0,
                false => -1.0,
            };
        }
    }

    /// Y += x x^T T. Shape: `[in_dim, positions]`. Sums depend on the order in which photos are added.
    pub(crate) fn add(&self, x: MatRef<f32>) {
        let mut seen = Scratch::of(self.width * x.ncols());
        let mut test = Scratch::of(self.width * self.in_dim);
        self.fill(&mut test);
        let test = MatRef::from_row_major_slice(&test, self.width, self.in_dim);
        let seen_mut = MatMut::from_row_major_slice_mut(&mut seen, self.width, x.ncols());
        product(seen_mut, Accum::Replace, 1.0, test, x);
        let seen = MatRef::from_row_major_slice(&seen, self.width, x.ncols());
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let sums = MatMut::from_row_major_slice_mut(&mut sums, self.in_dim, self.width);
        product(sums, Accum::Add, 1.0, x, seen.transpose());
    }

    /// C itself, or its factors along the directions that are looked for; `None` where nothing was added.
    pub(crate) fn moment(self) -> Option<Moment> {
        let mut test = vec![0.0; self.width * self.in_dim];
        self.fill(&mut test);
        let Sketch { in_dim, width, sums, .. } = self;
        let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        let size = sums.iter().map(|&y| f64::from(y) * f64::from(y)).sum::<f64>().sqrt();
        if !(size.is_finite() && size > 0.0) {
            return None;
        }
        if width == in_dim {
            return Some(Moment::whole(sums, in_dim));
        }
        let columns = SHIFTS.iter().find_map(|shift| factor(&sums, &test, [in_dim, width], shift * size))?;
        let least = columns.iter().map(|column| dot(column, column)).fold(f64::INFINITY, f64::min) / in_dim as f64;
        let factors = (0..in_dim * width).map(|at| columns[at % width][at / width] as f32).collect();
        Some(Moment::factors(factors, width, in_dim, least as f32))
    }

    /// At most as many eigenvectors v of C as are looked for, in falling order of their eigenvalues, with the roots of these as sigma; fewer where less was
    /// seen. The largest number of each is positive. Each has the length (mean / eigenvalue)^[`LEVELLING`], where the mean, a geometric
    /// one, is that of the first `pairs`.
    pub(crate) fn directions(self, pairs: usize) -> DirectionsBuf {
        let mut test = vec![0.0; self.width * self.in_dim];
        self.fill(&mut test);
        let Sketch { count, in_dim, width, sums } = self;
        let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        let size = sums.iter().map(|&y| f64::from(y) * f64::from(y)).sum::<f64>().sqrt();
        let Some(columns) = SHIFTS.iter().find_map(|shift| factor(&sums, &test, [in_dim, width], shift * size)) else {
            return DirectionsBuf { sigma: [].into(), u: [].into(), v: [].into() };
        };
        let products = (0..width * width).map(|at| dot(&columns[at / width], &columns[at % width])).collect();
        let (energies, vectors) = eigen(products, width);
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|a, b| energies[*b].total_cmp(&energies[*a]).then(a.cmp(b)));
        let least = LEAST_ENERGY * energies.iter().copied().fold(0.0, f64::max);
        order.retain(|&k| energies[k] > least);
        order.truncate(count);
        let first = &order[..order.len().min(pairs)];
        let mean = first.iter().map(|&k| libm::log(energies[k])).sum::<f64>() / first.len().max(1) as f64;
        let (mut sigma, mut v) = (Vec::with_capacity(order.len()), Vec::with_capacity(order.len() * in_dim));
        for &k in &order {
            let mut row = vec![0.0; in_dim];
            columns.iter().enumerate().for_each(|(l, column)| add(&mut row, vectors[l * width + k], column));
            let largest = row.iter().copied().fold(0.0, |best: f64, x| if x.abs() > best.abs() { x } else { best });
            let level = libm::exp(LEVELLING * (mean - libm::log(energies[k])));
            let factor = level / dot(&row, &row).sqrt().copysign(largest);
            // By way of f32: from f64, processors round in different ways.
            v.extend(row.iter().map(|x| f16::from_f32((factor * x) as f32)));
            sigma.push(energies[k].sqrt() as f32);
        }
        DirectionsBuf { sigma: sigma.into(), u: [].into(), v: v.into() }
    }
}

/// F with F F^T about C, column by column: F = (Y + shift T) L^-T, where L L^T = T^T (Y + shift T). `None` where there is no such L.
fn factor(sums: &[f32], test: &[f32], [in_dim, width]: [usize; 2], shift: f64) -> Option<Vec<Vec<f64>>> {
    let shifted = |k: usize, i: usize| f64::from(sums[i * width + k]) + shift * f64::from(test[k * in_dim + i]);
    let mut columns: Vec<Vec<f64>> = (0..width).map(|k| (0..in_dim).map(|i| shifted(k, i)).collect()).collect();
    let tested = |k: usize, l: usize| -> f64 {
        test[k * in_dim..(k + 1) * in_dim].iter().zip(&columns[l]).map(|(t, y)| f64::from(*t) * y).sum()
    };
    // Symmetric but for what was rounded.
    let half = |at: usize| (tested(at / width, at % width) + tested(at % width, at / width)) / 2.0;
    let lower = cholesky((0..width * width).map(half).collect(), width)?;
    for k in 0..width {
        let (before, rest) = columns.split_at_mut(k);
        let column = &mut rest[0];
        for (l, known) in before.iter().enumerate() {
            add(column, -lower[k * width + l], known);
        }
        column.iter_mut().for_each(|y| *y /= lower[k * width + k]);
    }
    Some(columns)
}

/// to += factor from.
fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

/// Eigenvalues of a symmetric `m`, side x side, and its eigenvectors as columns: Jacobi's rotations (Golub and Van Loan, *Matrix
/// computations*, 8.5). Of our own, as the order of its sums is one for all processors.
fn eigen(mut m: Vec<f64>, side: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; side * side];
    (0..side).for_each(|k| vectors[k * side + k] = 1.0);
    for _ in 0..SWEEPS {
        let mut turned = false;
        for p in 0..side {
            for q in p + 1..side {
                let (pp, qq, pq) = (m[p * side + p], m[q * side + q], m[p * side + q]);
                if pq.abs() <= f64::EPSILON * (pp * qq).abs().sqrt() {
                    continue;
                }
                turned = true;
                let tau = (qq - pp) / (2.0 * pq);
                let tangent = 1.0_f64.copysign(tau) / (tau.abs() + (1.0 + tau * tau).sqrt());
                let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
                let rotation = [cosine, tangent * cosine];
                (0..side).for_each(|k| turn(&mut m, [k * side + p, k * side + q], rotation));
                (0..side).for_each(|k| turn(&mut m, [p * side + k, q * side + k], rotation));
                (0..side).for_each(|k| turn(&mut vectors, [k * side + p, k * side + q], rotation));
            }
        }
        if !turned {
            break;
        }
    }
    ((0..side).map(|k| m[k * side + k]).collect(), vectors)
}

/// (x, y) <- (c x - s y, s x + c y).
fn turn(values: &mut [f64], [x, y]: [usize; 2], [cosine, sine]: [f64; 2]) {
    let (old_x, old_y) = (values[x], values[y]);
    values[x] = cosine * old_x - sine * old_y;
    values[y] = sine * old_x + cosine * old_y;
}

#[cfg(test)]
mod tests {
    use faer::Mat;

    use super::*;

    /// Inputs with a falling spectrum along known directions, `[in_dim, positions]`.
    fn inputs(in_dim: usize, positions: usize) -> Mat<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let loads = Mat::from_fn(in_dim, in_dim, |i, k| {
            0.7f32.powi(k as i32) * ((i * (2 * k + 1)) as f32 * 0.41 + k as f32).sin()
        });
        loads * Mat::from_fn(in_dim, positions, |_, _| random.random::<f32>() - 0.5)
    }

    #[test]
    fn what_is_found_are_the_leading_eigenvectors_of_the_second_moment() {
        let (in_dim, count) = (40, 12);
        let x = inputs(in_dim, 600);
        let sketch = Sketch::new(count, in_dim);
        (0..600).step_by(100).for_each(|first| sketch.add(x.subcols(first, 100)));
        let found = sketch.directions(count);
        let exact = Mat::from_fn(in_dim, in_dim, |i, j| {
            x.row(i).iter().zip(x.row(j).iter()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        });
        let exact = exact.self_adjoint_eigen(faer::Side::Lower).unwrap();
        assert_eq!((found.sigma.len(), found.v.len()), (count, count * in_dim));
        let mut lengths = Vec::new();
        for k in 0..count {
            let row: Vec<f64> = found.v[k * in_dim..(k + 1) * in_dim].iter().map(|v| v.to_f64()).collect();
            let length = dot(&row, &row).sqrt();
            let nth = in_dim - 1 - k;
            let along: f64 = row.iter().enumerate().map(|(i, v)| v * exact.U()[(i, nth)]).sum();
            let energy = exact.S().column_vector()[nth];
            println!("{k}: |cos| {:.5}, sigma {:.5} of {:.5}", along.abs() / length, found.sigma[k], energy.sqrt());
            assert!((f64::from(found.sigma[k]) / energy.sqrt() - 1.0).abs() < 0.02);
            // Neighbours of nearly equal energy may be mixed; those apart are not.
            assert!(along.abs() > 0.97 * length, "direction {k}");
            lengths.push(length * f64::from(found.sigma[k]).sqrt());
        }
        // What is read along each is levelled: length^2 sigma is one number for all.
        assert!(lengths.iter().all(|length| (length / lengths[0] - 1.0).abs() < 5e-3), "{lengths:?}");
        let geometric = lengths.iter().map(|length| length.ln()).sum::<f64>() / 12.0;
        let sigmas = found.sigma.iter().map(|sigma| f64::from(sigma.sqrt()).ln()).sum::<f64>() / 12.0;
        assert!((geometric - sigmas).abs() < 5e-3, "the mean length is 1");
    }

    #[test]
    fn any_number_of_inputs_has_its_directions_whatever_is_never_read() {
        for in_dim in 1..=64 {
            for count in [1, in_dim / 2, in_dim] {
                let mut x = inputs(in_dim, 500);
                // One input is dead, and two are the same.
                x.row_mut(in_dim / 2).fill(0.0);
                if in_dim > 2 {
                    let first = x.row(0).to_owned();
                    x.row_mut(in_dim - 1).copy_from(&first);
                }
                let sketch = Sketch::new(count.max(1), in_dim);
                sketch.add(x.as_ref());
                let found = sketch.directions(1);
                assert!(in_dim == 1 || !found.sigma.is_empty(), "{count} of {in_dim}");
                assert!(found.v.iter().all(|v| v.is_finite()) && found.sigma.iter().all(|sigma| *sigma > 0.0));
            }
        }
    }

    #[test]
    fn of_nothing_and_of_little_less_is_found() {
        assert!(Sketch::new(5, 9).directions(3).sigma.is_empty());
        let sketch = Sketch::new(5, 9);
        sketch.add(inputs(9, 2).as_ref());
        let found = sketch.directions(1);
        assert_eq!(found.sigma.len(), 2, "{:?}", found.sigma);
        let filled = found.filled(5, 9);
        let row = |k: usize| filled.v[k * 9..(k + 1) * 9].iter().map(|v| v.to_f64()).collect::<Vec<_>>();
        for k in 0..5 {
            // The second was read less than the first, and is longer.
            assert!((dot(&row(k), &row(k)) - 1.0).abs() < 5e-3 || k == 1);
            assert!((0..k).all(|l| dot(&row(k), &row(l)).abs() < 2e-2));
        }
    }
}
