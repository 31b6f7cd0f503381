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

    /// `count` directions that nothing reads, or that others take the place of.
    pub(crate) fn blank(count: usize, in_dim: usize) -> DirectionsBuf {
        let v = vec![f16::ZERO; count * in_dim].into();
        DirectionsBuf { sigma: vec![0.0; count].into(), u: [].into(), v }
    }

    /// Bytes of `count` directions that a lesson has found.
    pub(crate) const fn found_bytes(count: usize, in_dim: usize) -> u64 {
        (count * (size_of::<f16>() * in_dim + size_of::<f32>())) as u64
    }

    /// As the core reads them.
    #[must_use]
    pub fn view(&self) -> Directions<'_> {
        Directions { sigma: &self.sigma, u: Floats::F16(&self.u), v: Floats::F16(&self.v) }
    }
}
