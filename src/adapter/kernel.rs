//! The low-rank terms of a site over many positions at once.
//!
//! The core does the same one vector at a time; it is what these are tested against.

use faer::linalg::matmul::matmul;
use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Accum, MatMut, MatRef, Par};

use super::scratch::Scratch;
use super::{small, tiles};

/// Lets the products' library take its buffers for packing while the memory is fresh. On some processors it asks for as much as
/// their cache holds and touches little of it: taken later, from memory that has been used, all of it would count.
#[cfg(feature = "cli")]
pub(crate) fn reserve() {
    let [a, mut b] = [(); 2].map(|()| faer::Mat::<f32>::zeros(64, 64));
    product(b.as_mut(), Accum::Replace, 1.0, a.as_ref(), a.as_ref());
}

/// dst = factor lhs rhs, or with [`Accum::Add`] dst += factor lhs rhs; on the calling thread.
pub(crate) fn product(dst: MatMut<'_, f32>, keep: Accum, factor: f32, lhs: MatRef<'_, f32>, rhs: MatRef<'_, f32>) {
    if small::is_small(dst.nrows(), dst.ncols(), lhs.ncols()) {
        small::product(dst, keep, factor, [lhs, rhs]);
    } else if cfg!(target_arch = "arm") {
        // On 32-bit ARM the library multiplies and adds in two roundings, a number at a time.
        tiles::product(dst, keep, factor, lhs, rhs);
    } else {
        matmul(dst, keep, lhs, rhs, factor, Par::Seq);
    }
}

/// The two factors of a low-rank term: `a` rank x in_dim, `b_t` rank x out_dim (B transposed).
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors<'f> {
    pub(super) a: MatRef<'f, f32>,
    pub(super) b_t: MatRef<'f, f32>,
}

impl Factors<'_> {
    /// Lets `act` see factor M x, `[rank, positions]`, for a `[rank, n]` factor M and x `[n, positions]`.
    fn project<R>(factor: f32, m: MatRef<f32>, x: MatRef<f32>, act: impl FnOnce(MatRef<f32>) -> R) -> R {
        let (rank, positions) = (m.nrows(), x.ncols());
        let mut h = Scratch::of(rank * positions);
        product(MatMut::from_row_major_slice_mut(&mut h, rank, positions), Accum::Replace, factor, m, x);
        act(MatRef::from_row_major_slice(&h, rank, positions))
    }

    /// y = scale B A x, or with [`Accum::Add`] y += scale B A x.
    fn apply(&self, keep: Accum, scale: f32, x: MatRef<f32>, y: MatMut<f32>) {
        Self::project(1.0, self.a, x, |h| product(y, keep, scale, self.b_t.transpose(), h));
    }

    /// dx += scale A^T B^T dy.
    fn pass_back(&self, scale: f32, dy: MatRef<f32>, dx: MatMut<f32>) {
        Self::project(scale, self.b_t, dy, |dh| product(dx, Accum::Add, 1.0, self.a.transpose(), dh));
    }
}

/// The low-rank terms of a site.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'f> {
    pub(super) scale: f32,
    pub(super) pairs: Factors<'f>,
    /// What the pairs started on; absent where B0 = 0.
    pub(super) start: Option<Factors<'f>>,
}

impl Terms<'_> {
    /// y += scale (B A x - B0 A0 x). Both are computed apart and in the same order, so that equal factors cancel exactly.
    ///
    /// Shapes: x `[in_dim, positions]`, y `[out_dim, positions]`.
    pub(super) fn forward(&self, x: MatRef<f32>, mut y: MatMut<f32>) {
        match self.start {
            None => self.pairs.apply(Accum::Add, self.scale, x, y.rb_mut()),
            Some(start) => {
                let (rows, columns) = (y.nrows(), y.ncols());
                let [mut live, mut started] = [(); 2].map(|()| Scratch::of(rows * columns));
                let [mut live, mut started] =
                    [&mut live, &mut started].map(|buffer| MatMut::from_row_major_slice_mut(buffer, rows, columns));
                self.pairs.apply(Accum::Replace, self.scale, x, live.rb_mut());
                start.apply(Accum::Replace, self.scale, x, started.rb_mut());
                live -= started.rb();
                y += live.rb();
            }
        }
    }

    /// A and scale B transposed of all terms, one behind the other; those of the start have the sign with which they are added.
    pub(super) fn factors(&self) -> [Vec<f32>; 2] {
        let terms = [Some((self.scale, self.pairs)), self.start.map(|start| (-self.scale, start))];
        let (mut a, mut b_t) = (Vec::new(), Vec::new());
        for (factor, term) in terms.into_iter().flatten() {
            a.extend(term.a.row_iter().flat_map(|row| row.iter().copied()));
            b_t.extend(term.b_t.row_iter().flat_map(|row| row.iter().map(|b| factor * b)));
        }
        [a, b_t]
    }

    /// `projected` = A x of the live pairs.
    pub(super) fn project(&self, x: MatRef<f32>, projected: MatMut<f32>) {
        product(projected, Accum::Replace, 1.0, self.pairs.a, x);
    }

    /// dA += scale B^T dy x^T where A learns, dB^T += scale (A x) dy^T.
    pub(super) fn backward(&self, x: MatRef<f32>, dy: MatRef<f32>, da: Option<MatMut<f32>>, db_t: MatMut<f32>) {
        let Factors { a, b_t } = self.pairs;
        Factors::project(self.scale, a, x, |h| product(db_t, Accum::Add, 1.0, h, dy.transpose()));
        if let Some(da) = da {
            Factors::project(self.scale, b_t, dy, |dh| product(da, Accum::Add, 1.0, dh, x.transpose()));
        }
    }

    /// weight += scale (B A - B0 A0), rows `first` and on.
    pub(super) fn add_to(&self, first: usize, mut weight: MatMut<f32>) {
        let terms = [Some((self.scale, self.pairs)), self.start.map(|start| (-self.scale, start))];
        for (factor, Factors { a, b_t }) in terms.into_iter().flatten() {
            let b = b_t.subcols(first, weight.nrows()).transpose();
            product(weight.rb_mut(), Accum::Add, factor, b, a);
        }
    }

    /// dx += scale (B A - B0 A0)^T dy.
    pub(super) fn pass_back(&self, dy: MatRef<f32>, mut dx: MatMut<f32>) {
        let terms = [(self.scale, Some(self.pairs)), (-self.scale, self.start)];
        for (factor, term) in terms {
            if let Some(term) = term {
                term.pass_back(factor, dy, dx.rb_mut());
            }
        }
    }
}
