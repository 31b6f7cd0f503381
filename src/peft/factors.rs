//! What was learned at a site, as a product B A.

use std::str::FromStr;

use faer::Mat;
use ndarray::ArrayView2;

use crate::adapter::SiteBuffers;
use crate::core::Terms;
use crate::error::{Error, ErrorKind, Result};

/// How many pairs an adapter is to have at a site.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PeftRank {
    /// As many as say exactly what was learned: the pairs as they are, or where something was fused, or where there are more of them, as
    /// many as the weight has rows or columns.
    Exact,
    /// At most so many: the first of the singular value decomposition.
    Pairs(usize),
    /// As many as have this share of the squares of all singular values.
    Share(f64),
}

impl FromStr for PeftRank {
    type Err = String;

    /// `exact`, a number of pairs, or a share below 1.
    fn from_str(text: &str) -> core::result::Result<Self, String> {
        let wrong = || format!("`{text}` is neither `exact`, nor a number of pairs, nor a share such as 0.99");
        match text.parse::<usize>() {
            _ if text == "exact" => Ok(PeftRank::Exact),
            Ok(0) => Err(wrong()),
            Ok(pairs) => Ok(PeftRank::Pairs(pairs)),
            Err(_) => {
                let share = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share < 1.0);
                share.map(PeftRank::Share).ok_or_else(wrong)
            }
        }
    }
}

/// The matrix B A: A `[rank, in_dim]`, B `[out_dim, rank]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Factors {
    pub(crate) rank: usize,
    pub(crate) a: Vec<f32>,
    pub(crate) b: Vec<f32>,
}

impl Factors {
    /// D + scale (B A - B0 A0) of a site.
    ///
    /// # Errors
    /// Kind `Check` where singular values do not converge.
    pub(crate) fn learned(site: &SiteBuffers, rank: PeftRank) -> Result<Self> {
        match rank {
            PeftRank::Exact => Ok(Self::exact(site)),
            PeftRank::Pairs(pairs) => Ok(Svd::of(&site.change(), &site.name)?.cut(pairs).0),
            PeftRank::Share(share) => {
                let svd = Svd::of(&site.change(), &site.name)?;
                let pairs = svd.rank_for(share);
                Ok(svd.cut(pairs).0)
            }
        }
    }

    /// The pairs, where nothing was fused and the change itself is not smaller. One-sided pairs can be more than its rows.
    fn exact(site: &SiteBuffers) -> Self {
        let most = site.shape.in_dim.min(site.shape.out_dim);
        let pairs = (!site.has_merged()).then(|| Self::of_pairs(site)).filter(|pairs| pairs.rank <= most);
        pairs.unwrap_or_else(|| Self::whole(&site.change()))
    }

    /// The pairs, and behind them their start, with its sign turned.
    fn of_pairs(site: &SiteBuffers) -> Self {
        let [a, b_t] = site.low_rank();
        let (in_dim, out_dim) = (site.shape.in_dim, site.shape.out_dim);
        let rank = a.len() / in_dim;
        let b = (0..out_dim).flat_map(|row| (0..rank).map(move |pair| (row, pair)));
        let b = b.map(|(row, pair)| b_t[pair * out_dim + row]).collect();
        Factors { rank, a, b }
    }

    /// The change itself beside the identity, on the side on which that is smaller.
    fn whole(change: &Mat<f32>) -> Self {
        let (rows, columns) = (change.nrows(), change.ncols());
        let dense = || (0..rows).flat_map(|i| (0..columns).map(move |j| change[(i, j)])).collect::<Vec<f32>>();
        let identity = |n: usize| (0..n * n).map(|at| f32::from(u8::from(at / n == at % n))).collect::<Vec<f32>>();
        match rows <= columns {
            true => Factors { rank: rows, a: dense(), b: identity(rows) },
            false => Factors { rank: columns, a: identity(columns), b: dense() },
        }
    }

    /// B A as a matrix.
    pub(super) fn product(&self, [out_dim, in_dim]: [usize; 2]) -> Mat<f32> {
        let b = Mat::from_fn(out_dim, self.rank, |i, k| self.b[i * self.rank + k]);
        let a = Mat::from_fn(self.rank, in_dim, |k, j| self.a[k * in_dim + j]);
        b * a
    }

    /// B A row by row.
    pub(super) fn dense(&self, shape: [usize; 2]) -> Vec<f32> {
        let product = self.product(shape);
        product.row_iter().flat_map(|row| row.iter().copied().collect::<Vec<f32>>()).collect()
    }

    /// ||C - B A|| / ||W + C|| (Frobenius) for what was learned, C, beside the weight W.
    pub(crate) fn error(&self, weight: ArrayView2<f32>, change: &Mat<f32>) -> f64 {
        let product = self.product([change.nrows(), change.ncols()]);
        let (mut lost, mut whole) = (0.0, 0.0);
        for ((i, j), w) in weight.indexed_iter() {
            lost += f64::from(change[(i, j)] - product[(i, j)]).powi(2);
            whole += f64::from(w + change[(i, j)]).powi(2);
        }
        lost.sqrt() / whole.sqrt().max(f64::MIN_POSITIVE)
    }
}

/// Singular triplets of a matrix.
pub(super) struct Svd {
    u: Mat<f64>,
    sigma: Vec<f64>,
    v: Mat<f64>,
}

impl Svd {
    /// # Errors
    /// Kind `Check` where they do not converge.
    pub(super) fn of(matrix: &Mat<f32>, site: &str) -> Result<Self> {
        let svd = Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| f64::from(matrix[(i, j)])).thin_svd();
        let svd = svd.map_err(|e| {
            Error::new(ErrorKind::Check, site, format!("has singular values that do not converge ({e:?})"))
        })?;
        let sigma = svd.S().column_vector().iter().copied().collect();
        Ok(Svd { u: svd.U().to_owned(), sigma, v: svd.V().to_owned() })
    }

    /// The fewest pairs that have such a share of the squares of all singular values, at least one.
    fn rank_for(&self, share: f64) -> usize {
        let total: f64 = self.sigma.iter().map(|s| s * s).sum();
        let mut kept = 0.0;
        let enough = self.sigma.iter().position(|s| {
            kept += s * s;
            kept >= share * total
        });
        enough.map_or(self.sigma.len(), |last| last + 1).max(1)
    }

    /// The first `pairs` triplets, and the others. Each factor takes the root of sigma.
    pub(super) fn cut(&self, pairs: usize) -> (Factors, Factors) {
        let pairs = pairs.min(self.sigma.len());
        (self.factors(0..pairs), self.factors(pairs..self.sigma.len()))
    }

    fn factors(&self, span: core::ops::Range<usize>) -> Factors {
        let root = |k: usize| self.sigma[k].max(0.0).sqrt();
        let a = span.clone().flat_map(|k| (0..self.v.nrows()).map(move |j| (root(k) * self.v[(j, k)]) as f32));
        let b = (0..self.u.nrows()).flat_map(|i| span.clone().map(move |k| (root(k) * self.u[(i, k)]) as f32));
        Factors { rank: span.len(), a: a.collect(), b: b.collect() }
    }
}

/// What is to be fused into a delta.
impl Terms for Factors {
    fn count(&self) -> usize {
        self.rank
    }

    fn b(&self, term: usize, row: usize) -> f32 {
        self.b.get(row * self.rank + term).copied().unwrap_or(0.0)
    }

    fn a(&self, term: usize, column: usize) -> f32 {
        let width = self.a.len() / self.rank.max(1);
        self.a.get(term * width + column).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_is_exact_a_number_or_a_share() {
        let parsed = |text: &str| text.parse::<PeftRank>().ok();
        assert_eq!(parsed("exact"), Some(PeftRank::Exact));
        assert_eq!(parsed("8"), Some(PeftRank::Pairs(8)));
        assert_eq!(parsed("0.99"), Some(PeftRank::Share(0.99)));
        assert_eq!(["0", "1.0", "1.5", "-2", "NaN", ""].map(parsed), [None; 6]);
    }

    #[test]
    fn a_matrix_is_whole_on_its_smaller_side_and_cut_by_its_singular_values() {
        let matrix = Mat::from_fn(5, 7, |i, j| ((3 * i + j) as f32 * 0.7).sin());
        for matrix in [matrix.clone(), matrix.transpose().to_owned()] {
            let shape = [matrix.nrows(), matrix.ncols()];
            let whole = Factors::whole(&matrix);
            assert_eq!((whole.rank, whole.product(shape)), (5, matrix.clone()));
            let svd = Svd::of(&matrix, "site").unwrap();
            // sin(3i + j) is a sum of two products.
            let (kept, rest) = svd.cut(2);
            assert!((kept.product(shape) - &matrix).norm_max() < 1e-6 && rest.product(shape).norm_max() < 1e-6);
            assert_eq!([svd.rank_for(0.999_999), svd.rank_for(1e-9)], [2, 1]);
            assert_eq!((svd.cut(9).0.rank, svd.cut(9).1.rank), (5, 0));
        }
    }
}
