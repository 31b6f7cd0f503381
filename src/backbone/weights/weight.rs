//! A frozen weight, owned, in the precision in which it ships.

use std::ops::Range;
use std::sync::Arc;

use faer::{MatMut, MatRef};
use half::f16;
use ndarray::Array2;
use pulp::{Arch, Simd, WithSimd};

use crate::adapter::SiteBuffers;
use crate::adapter::scratch::Scratch;
use crate::core::Weight;

/// Floats of a weight that are made f32 at a time: 256 KiB, which stays in a level-2 cache.
const TILE: usize = 1 << 16;

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

/// Rows of `weight` from `first` on, `width` floats each, into `tile`, with what the site's delta has merged.
struct Decode<'d> {
    weight: Weight<'d>,
    /// The site, and room for a row of its codes.
    merged: Option<(&'d SiteBuffers, &'d mut [f32])>,
    first: usize,
    width: usize,
    tile: &'d mut [f32],
}

impl WithSimd for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for (row, out) in self.tile.chunks_exact_mut(self.width).enumerate() {
            self.weight.row_into(self.first + row, out);
            if let Some((site, codes)) = &mut self.merged {
                site.add_merged_row(simd, self.first + row, out, codes);
            }
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

    /// W + C, where `change` has the values of C.
    pub(crate) fn plus(&self, change: &[f32]) -> FrozenWeight {
        let values: Vec<f32> = self.dense().iter().zip(change).map(|(w, c)| w + c).collect();
        FrozenWeight { codes: Codes::F32(values.into()), ..*self }
    }

    /// W + D + scale (B A - B0 A0).
    pub(crate) fn adapted(&self, site: &SiteBuffers) -> FrozenWeight {
        let mut values = Vec::with_capacity(self.len());
        self.each_tile(0..self.out_dim, Some(site), false, |_, tile| {
            tile.row_iter().for_each(|row| values.extend(row.iter()));
        });
        site.add_terms(0, MatMut::from_row_major_slice_mut(&mut values, self.out_dim, self.in_dim));
        FrozenWeight { codes: Codes::F32(values.into()), ..*self }
    }

    /// Calls `visit` with f32 tiles of `rows`, and the number of each tile's first row (from 0). What the site's delta has merged is
    /// added, and with `pairs` what its pairs are now.
    ///
    /// A weight that ships in f32, to which nothing is added, is one tile and is not copied; any other is made f32 tile by tile, in
    /// scratch.
    pub(crate) fn each_tile(
        &self,
        rows: Range<usize>,
        site: Option<&SiteBuffers>,
        pairs: bool,
        mut visit: impl FnMut(usize, MatRef<f32>),
    ) {
        let Range { start: first, end } = rows;
        let (width, count) = (self.in_dim, end - first);
        let (merged, pairs) = (site.filter(|site| site.has_merged()), site.filter(|_| pairs));
        if let (Codes::F32(values), None, None) = (&self.codes, merged, pairs) {
            return visit(0, MatRef::from_row_major_slice(&values[first * width..end * width], count, width));
        }
        let height = (TILE / width.max(1)).clamp(1, count.max(1));
        let (mut tile, mut row) = (Scratch::of(height * width), Scratch::of(width));
        for start in (0..count).step_by(height) {
            let rows = height.min(count - start);
            let tile = &mut tile[..rows * width];
            let merged = merged.map(|site| (site, &mut *row));
            Arch::new().dispatch(Decode { weight: self.view(), merged, first: first + start, width, tile });
            if let Some(site) = pairs {
                site.add_terms(first + start, MatMut::from_row_major_slice_mut(tile, rows, width));
            }
            visit(start, MatRef::from_row_major_slice(tile, rows, width));
        }
    }
}
