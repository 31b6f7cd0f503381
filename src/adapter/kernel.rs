//! The adapter branch over many positions at once, on ndarray's matrix products (matrixmultiply underneath).
//!
//! The core does the same one vector at a time; it is what these are tested against.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};

/// The two factors of a low-rank term: `a` rank x in_dim, `b_t` rank x out_dim (B transposed).
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors<'f> {
    pub(super) a: ArrayView2<'f, f32>,
    pub(super) b_t: ArrayView2<'f, f32>,
}

impl Factors<'_> {
    /// A x: `[rank, positions]` for x `[in_dim, positions]`.
    fn project(&self, x: ArrayView2<f32>) -> Array2<f32> {
        let mut h = Array2::zeros((self.a.nrows(), x.ncols()));
        general_mat_mul(1.0, &self.a, &x, 0.0, &mut h);
        h
    }

    /// scale B A x: `[out_dim, positions]`.
    fn apply(&self, scale: f32, x: ArrayView2<f32>) -> Array2<f32> {
        let h = self.project(x);
        let mut branch = Array2::zeros((self.b_t.ncols(), x.ncols()));
        general_mat_mul(scale, &self.b_t.t(), &h, 0.0, &mut branch);
        branch
    }
}

/// The low-rank terms of a site.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'f> {
    pub(super) scale: f32,
    pub(super) pairs: Factors<'f>,
    /// What the pairs started on; absent where B0 = 0.
    pub(super) start: Option<Factors<'f>>,
    /// Fused pairs that wait to be merged into the delta's blocks; absent where none do.
    pub(super) staged: Option<Factors<'f>>,
}

/// y += scale (B A x - B0 A0 x) + the staged part of D x, the terms computed apart, so that equal factors cancel exactly.
///
/// Shapes: x `[in_dim, positions]`, y `[out_dim, positions]`.
pub(super) fn add_terms(terms: Terms, x: ArrayView2<f32>, mut y: ArrayViewMut2<f32>) {
    let mut branch = terms.pairs.apply(terms.scale, x);
    if let Some(start) = terms.start {
        branch -= &start.apply(terms.scale, x);
    }
    if let Some(staged) = terms.staged {
        branch += &staged.apply(1.0, x);
    }
    // Adding zero would turn -0 into +0, and at the start the output must be the backbone's bit for bit.
    y.zip_mut_with(&branch, |y, &b| *y = if b == 0.0 { *y } else { *y + b });
}

/// The gradients of the low-rank terms. dA += scale B^T dy x^T, dB^T += scale (A x) dy^T, and dx += what passes through
/// all of them.
pub(super) fn terms_backward(
    terms: Terms,
    x: ArrayView2<f32>,
    dy: ArrayView2<f32>,
    dx: Option<ArrayViewMut2<f32>>,
    (da, db_t): (&mut Array2<f32>, &mut Array2<f32>),
) {
    let Terms { scale, pairs, start, staged } = terms;
    let mut dh = Array2::zeros((pairs.a.nrows(), x.ncols()));
    general_mat_mul(scale, &pairs.b_t, &dy, 0.0, &mut dh);
    general_mat_mul(1.0, &dh, &x.t(), 1.0, da);
    general_mat_mul(scale, &pairs.project(x), &dy.t(), 1.0, db_t);
    let Some(mut dx) = dx else { return };
    general_mat_mul(1.0, &pairs.a.t(), &dh, 1.0, &mut dx);
    for (sign, factors) in [(-scale, start), (1.0, staged)] {
        let Some(Factors { a, b_t }) = factors else { continue };
        let mut dh = Array2::zeros((a.nrows(), x.ncols()));
        general_mat_mul(sign, &b_t, &dy, 0.0, &mut dh);
        general_mat_mul(1.0, &a.t(), &dh, 1.0, &mut dx);
    }
}
