//! A site's directions, owned.

use std::sync::Arc;

use half::f16;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::cholesky::dot;
use crate::core::{Directions, Floats};

/// Singular triplets of a site's weight in falling order of sigma, or what a lesson has found in its photos, without u; the largest |v|
/// entry of each is positive. Bundle and adapter share those that ship.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectionsBuf {
    /// K singular values.
    pub sigma: Arc<[f32]>,
    /// K x out_dim, row-major.
    pub u: Arc<[f16]>,
    /// K x in_dim, row-major.
    pub v: Arc<[f16]>,
}

impl DirectionsBuf {
    /// `v` of at least `count` directions, of `in_dim` numbers each: those that are there, and behind them random ones that are
    /// orthogonal to all before them. There are never more than `in_dim`. Each begins from the same seed, so they need not ship.
    #[must_use]
    pub(crate) fn filled(&self, count: usize, in_dim: usize) -> DirectionsBuf {
        let wide = |row: &[f16]| row.iter().map(|v| v.to_f64()).collect::<Vec<_>>();
        let mut rows: Vec<Vec<f64>> = self.v.chunks(in_dim.max(1)).map(wide).collect();
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let square = |row: &Vec<f64>| dot(row, row).max(f64::MIN_POSITIVE);
        let mut squares: Vec<f64> = rows.iter().map(square).collect();
        while rows.len() < count.min(in_dim) {
            let mut row: Vec<f64> = (0..in_dim).map(|_| random.random::<f64>() - 0.5).collect();
            // Twice, as once leaves what was rounded.
            for _ in 0..2 {
                for (known, square) in rows.iter().zip(&squares) {
                    let along = dot(&row, known) / square;
                    row.iter_mut().zip(known).for_each(|(x, known)| *x -= along * known);
                }
            }
            let length = dot(&row, &row).sqrt().max(f64::MIN_POSITIVE);
            row.iter_mut().for_each(|x| *x /= length);
            squares.push(1.0);
            rows.push(row);
        }
        let sigma = self.sigma.iter().copied().chain(core::iter::repeat(0.0)).take(rows.len());
        // By way of f32: from f64, processors round in different ways.
        let v = rows.iter().flatten().map(|&x| f16::from_f32(x as f32));
        DirectionsBuf { sigma: sigma.collect(), u: [].into(), v: v.collect() }
    }

    /// `v` rounded so that a number of it is eight bits and its row's [`step`].
    #[must_use]
    pub(crate) fn on_grid(self, in_dim: usize) -> DirectionsBuf {
        let rounded = self.v.chunks(in_dim.max(1)).flat_map(|row| {
            let step = step(row);
            // 0 has one sign, as its code has.
            row.iter().map(move |v| f16::from_f32((v.to_f32() / step).round() * step + 0.0))
        });
        DirectionsBuf { v: rounded.collect(), ..self }
    }

    /// `v` on its grid as codes, K x in_dim, and the step of each row: v = code * step.
    pub(crate) fn codes(&self, in_dim: usize) -> (Vec<i8>, Vec<f32>) {
        let rows = || self.v.chunks(in_dim.max(1));
        let codes = rows().flat_map(|row| {
            let step = step(row);
            row.iter().map(move |v| (v.to_f32() / step) as i8)
        });
        (codes.collect(), rows().map(step).collect())
    }

    /// Those of such codes, without u.
    pub(crate) fn of_codes(sigma: Vec<f32>, codes: &[i8], steps: &[f32]) -> DirectionsBuf {
        let in_dim = codes.len().checked_div(steps.len()).unwrap_or(0);
        let rows = codes.chunks(in_dim.max(1)).zip(steps);
        let v = rows.flat_map(|(row, step)| row.iter().map(move |code| f16::from_f32(f32::from(*code) * step)));
        DirectionsBuf { sigma: sigma.into(), u: [].into(), v: v.collect() }
    }

    /// Some of them, in this order, without u.
    pub(crate) fn picked(&self, which: impl Iterator<Item = usize> + Clone, in_dim: usize) -> DirectionsBuf {
        let v = which.clone().flat_map(|k| &self.v[k * in_dim..(k + 1) * in_dim]).copied().collect();
        DirectionsBuf { sigma: which.map(|k| self.sigma[k]).collect(), u: [].into(), v }
    }

    /// These, and behind them others; `most` in all.
    pub(crate) fn followed_by(&self, others: &DirectionsBuf, most: usize, in_dim: usize) -> DirectionsBuf {
        let joined =
            |own: &Arc<[f16]>, others: &Arc<[f16]>| own.iter().chain(&**others).copied().take(most * in_dim).collect();
        let sigma = self.sigma.iter().chain(&*others.sigma).copied().take(most).collect();
        DirectionsBuf { sigma, u: [].into(), v: joined(&self.v, &others.v) }
    }

    /// `count` directions that nothing reads, or that others take the place of.
    pub(crate) fn blank(count: usize, in_dim: usize) -> DirectionsBuf {
        let v = vec![f16::ZERO; count * in_dim].into();
        DirectionsBuf { sigma: vec![0.0; count].into(), u: [].into(), v }
    }

    /// Bytes of `count` directions that a lesson has found.
    pub(crate) const fn found_bytes(count: usize, in_dim: usize) -> u64 {
        (count * (size_of::<f16>() * in_dim + size_of::<f32>())) as u64
    }

    /// Bytes of `count` of them in a file.
    pub(crate) const fn coded_bytes(count: usize, in_dim: usize) -> u64 {
        (count * (in_dim + 2 * size_of::<f32>())) as u64
    }

    /// As the core reads them.
    #[must_use]
    pub fn view(&self) -> Directions<'_> {
        Directions { sigma: &self.sigma, u: Floats::F16(&self.u), v: Floats::F16(&self.v) }
    }
}

/// The step of a row's grid: the least power of two with which 127 steps reach its largest number. Then that has 64 steps or more, so
/// a row on its grid has the same step again.
fn step(row: &[f16]) -> f32 {
    let largest = row.iter().map(|v| v.to_f32().abs()).fold(0.0, f32::max);
    let least = (largest / 127.0).max(f32::MIN_POSITIVE);
    let below = f32::from_bits(least.to_bits() & f32::INFINITY.to_bits());
    // f16 holds no finer ones.
    (if below < least { 2.0 * below } else { below }).max(f16::MIN_POSITIVE_SUBNORMAL.to_f32())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_moves_directions_little_and_once() {
        let in_dim = 150;
        let rows = [1.0, 64.0 / 127.0, 63.4 / 127.0, 1e-3, 30.0, 0.0];
        let v = rows.iter().flat_map(|size| {
            (0..in_dim).map(move |i| f16::from_f32(if i == 7 { *size } else { size * (i as f32 * 0.73).sin() * 0.4 }))
        });
        let directions = DirectionsBuf { sigma: vec![1.0; rows.len()].into(), u: [].into(), v: v.collect() };
        let rounded = directions.clone().on_grid(in_dim);
        let (codes, steps) = rounded.codes(in_dim);
        for (k, step) in steps.iter().enumerate() {
            let span = k * in_dim..(k + 1) * in_dim;
            let worst =
                span.clone().map(|at| (rounded.v[at].to_f32() - directions.v[at].to_f32()).abs()).fold(0.0, f32::max);
            assert!(worst <= 0.5 * step && *step <= (rows[k] / 63.0).max(6e-8), "row {k}: {worst}, step {step}");
            assert!(rows[k] == 0.0 || codes[span].iter().any(|code| code.unsigned_abs() >= 63));
        }
        assert_eq!(rounded.clone().on_grid(in_dim), rounded);
        assert_eq!(DirectionsBuf::of_codes(rounded.sigma.to_vec(), &codes, &steps), rounded);
    }
}
