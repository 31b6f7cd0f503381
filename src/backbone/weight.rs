//! A frozen weight, owned, in the precision in which it ships.

use std::sync::Arc;

use faer::MatRef;
use half::f16;
use ndarray::Array2;
use pulp::{Arch, Simd, WithSimd};

use crate::adapter::scratch::Scratch;
use crate::core::Weight;

/// Floats of a weight that are made f32 at a time: 256 KiB, which stays in a level-2 cache.
const TILE: usize = 1 << 16;

/// Adds to row `0..out_dim` of a weight what has been fused.
pub(crate) type AddToRow<'a> = &'a dyn Fn(usize, &mut [f32]);

/// `out_dim` x `in_dim`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FrozenWeight {
    pub(crate) out_dim: usize,
    pub(crate) in_dim: usize,
    pub(crate) codes: Codes,
}

/// The numbers of a weight as they lie in memory; weights that are one tensor in the file share them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Codes {
    F32(Arc<[f32]>),
    F16(Arc<[f16]>),
    /// w = (code - zero) * scale, one scale per row; no zero-points where all are 0.
    Int8 {
        codes: Arc<[i8]>,
        scales: Vec<f32>,
        zeros: Vec<i8>,
    },
}

/// Rows of `weight` from `first` on, `width` floats each, into `tile`.
struct Decode<'d> {
    weight: Weight<'d>,
    first: usize,
    width: usize,
    tile: &'d mut [f32],
}

impl WithSimd for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for (row, out) in self.tile.chunks_exact_mut(self.width).enumerate() {
            self.weight.row_into(self.first + row, out);
        }
    }
}

impl Codes {
    /// How the precision is called in a bundle.
    pub(crate) fn precision(&self) -> &'static str {
        match self {
            Codes::F32(_) => "fp32",
            Codes::F16(_) => "fp16",
            Codes::Int8 { .. } => "int8",
        }
    }
}

impl FrozenWeight {
    /// As the core reads it.
    pub(crate) fn view(&self) -> Weight<'_> {
        match &self.codes {
            Codes::F32(values) => Weight::F32(values),
            Codes::F16(values) => Weight::F16(values),
            Codes::Int8 { codes, scales, zeros } => Weight::Int8 { codes, scales, zeros },
        }
    }

    /// Where its numbers lie.
    pub(crate) fn address(&self) -> usize {
        match &self.codes {
            Codes::F32(values) => values.as_ptr().addr(),
            Codes::F16(values) => values.as_ptr().addr(),
            Codes::Int8 { codes, .. } => codes.as_ptr().addr(),
        }
    }

    /// How many numbers it has.
    pub(crate) fn len(&self) -> usize {
        self.out_dim * self.in_dim
    }

    /// Bytes held in memory.
    pub(crate) fn bytes(&self) -> usize {
        match &self.codes {
            Codes::F32(values) => 4 * values.len(),
            Codes::F16(values) => 2 * values.len(),
            Codes::Int8 { codes, scales, zeros } => codes.len() + 4 * scales.len() + zeros.len(),
        }
    }

    /// The whole weight in f32, for what happens once: directions, checks.
    pub(crate) fn dense(&self) -> Array2<f32> {
        let mut dense = Array2::zeros((self.out_dim, self.in_dim));
        for (row, mut out) in dense.rows_mut().into_iter().enumerate() {
            self.view().row_into(row, out.as_slice_mut().unwrap_or_default());
        }
        dense
    }

    /// Calls `visit` with f32 tiles of `count` rows from `first` on, and the number of each tile's first row (from 0);
    /// `delta`, if there is one, adds to a row what has been fused.
    ///
    /// A weight that ships in f32 and has no delta is one tile and is not copied; any other is made f32 tile by tile, in
    /// scratch.
    pub(crate) fn each_tile(
        &self,
        first: usize,
        count: usize,
        delta: Option<AddToRow>,
        mut visit: impl FnMut(usize, MatRef<f32>),
    ) {
        let width = self.in_dim;
        if let (Codes::F32(values), None) = (&self.codes, delta) {
            return visit(
                0,
                MatRef::from_row_major_slice(&values[first * width..(first + count) * width], count, width),
            );
        }
        let height = (TILE / width.max(1)).clamp(1, count.max(1));
        let mut tile = Scratch::of(height * width);
        for start in (0..count).step_by(height) {
            let rows = height.min(count - start);
            let (weight, tile_rows) = (self.view(), &mut tile[..rows * width]);
            Arch::new().dispatch(Decode { weight, first: first + start, width, tile: tile_rows });
            if let Some(add) = delta {
                tile.chunks_exact_mut(width)
                    .take(rows)
                    .enumerate()
                    .for_each(|(row, out)| add(first + start + row, out));
            }
            visit(start, MatRef::from_row_major_slice(&tile[..rows * width], rows, width));
        }
    }
}
