//! The adapter branch over many positions at once, on ndarray's matrix products (matrixmultiply underneath).
//!
//! The core does the same one vector at a time; it is what these are tested against.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

/// Rows of the delta made f32 at a time; its whole f32 form never exists.
pub(super) const DELTA_TILE_ROWS: usize = 64;

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

/// y += scale (B A x - B0 A0 x), the two terms computed apart, so that equal factors cancel exactly.
///
/// Shapes: x `[in_dim, positions]`, y `[out_dim, positions]`. `start` is absent where B0 = 0.
pub(super) fn add_live(
    scale: f32,
    pairs: Factors,
    start: Option<Factors>,
    x: ArrayView2<f32>,
    mut y: ArrayViewMut2<f32>,
) {
    let mut branch = pairs.apply(scale, x);
    if let Some(start) = start {
        branch -= &start.apply(scale, x);
    }
    // Adding zero would turn -0 into +0, and at the start the output must be the backbone's bit for bit.
    y.zip_mut_with(&branch, |y, &b| *y = if b == 0.0 { *y } else { *y + b });
}

/// The gradients of the live term. dA += scale B^T dy x^T, dB^T += scale (A x) dy^T, and
/// dx += scale (A^T B^T - A0^T B0^T) dy.
pub(super) fn live_backward(
    scale: f32,
    pairs: Factors,
    start: Option<Factors>,
    x: ArrayView2<f32>,
    dy: ArrayView2<f32>,
    dx: Option<&mut ArrayViewMut2<f32>>,
    (da, db_t): (&mut Array2<f32>, &mut Array2<f32>),
) {
    let mut dh = Array2::zeros((pairs.a.nrows(), x.ncols()));
    general_mat_mul(scale, &pairs.b_t, &dy, 0.0, &mut dh);
    general_mat_mul(1.0, &dh, &x.t(), 1.0, da);
    general_mat_mul(scale, &pairs.project(x), &dy.t(), 1.0, db_t);
    let Some(dx) = dx else { return };
    general_mat_mul(1.0, &pairs.a.t(), &dh, 1.0, dx);
    if let Some(start) = start {
        general_mat_mul(scale, &start.b_t, &dy, 0.0, &mut dh);
        general_mat_mul(-1.0, &start.a.t(), &dh, 1.0, dx);
    }
}

/// Calls `visit` with one tile after another of the delta, in f32, and the number of its first row.
pub(super) fn each_delta_tile(
    out_dim: usize,
    in_dim: usize,
    row_into: impl Fn(usize, &mut [f32]),
    mut visit: impl FnMut(usize, ArrayView2<f32>),
) {
    let mut tile = Array2::zeros((DELTA_TILE_ROWS.min(out_dim), in_dim));
    for first in (0..out_dim).step_by(DELTA_TILE_ROWS) {
        let rows = DELTA_TILE_ROWS.min(out_dim - first);
        for (nth, mut row) in tile.rows_mut().into_iter().take(rows).enumerate() {
            if let Some(row) = row.as_slice_mut() {
                row_into(first + nth, row);
            }
        }
        visit(first, tile.slice(s![..rows, ..]));
    }
}
