//! The quantized delta: everything fused so far, beside the read-only weight.
//!
//! D = blocks + staged terms. Blocks are int8 along rows, each of `block` columns (the last may be short) with an f16
//! scale. A few rank-1 terms may wait in f16 before one requantization takes them all: an order of magnitude less error
//! for 2 stage (out_dim + in_dim) bytes.

use half::f16;

use super::error::{Buffer, CoreError};
use super::math::{abs, sqrt};
use super::quant::int8_block;
use super::shape::{MAX_BLOCK, SiteShape};

/// Smallest norm that balancing divides by.
const SMALLEST_NORM: f32 = 1e-12;

/// Where the blocks live.
#[derive(Debug)]
pub enum Blocks<'a> {
    /// Not quantized: `delta_codes_len` floats. For reference and measurement.
    F32(&'a mut [f32]),
    /// As it ships.
    Int8 {
        /// `delta_codes_len` codes.
        codes: &'a mut [i8],
        /// `delta_scales_len` scales.
        scales: &'a mut [f16],
    },
}

/// The same, read only.
#[derive(Debug, Clone, Copy)]
pub enum BlocksRef<'a> {
    /// Not quantized.
    F32(&'a [f32]),
    /// Codes and scales.
    Int8 {
        /// `delta_codes_len` codes.
        codes: &'a [i8],
        /// `delta_scales_len` scales.
        scales: &'a [f16],
    },
}

/// A delta that can be added to.
#[derive(Debug)]
pub struct Delta<'a> {
    /// What has been merged.
    pub blocks: Blocks<'a>,
    /// `delta_stage_len` f16 values: rows of b, then rows of a.
    pub stage: &'a mut [f16],
    /// Terms in the stage.
    pub staged: &'a mut usize,
}

/// A delta that is only read.
#[derive(Debug, Clone, Copy)]
pub struct DeltaRef<'a> {
    /// What has been merged.
    pub blocks: BlocksRef<'a>,
    /// Rows of b, then rows of a.
    pub stage: &'a [f16],
    /// Terms in the stage.
    pub staged: usize,
}

/// A sum of rank-1 terms b a^T, computed element by element so that no caller needs a buffer for it.
pub trait Terms {
    /// How many terms.
    fn count(&self) -> usize;
    /// Element `row` of term `term`'s b.
    fn b(&self, term: usize, row: usize) -> f32;
    /// Element `column` of term `term`'s a.
    fn a(&self, term: usize, column: usize) -> f32;
}

impl DeltaRef<'_> {
    /// Whether D = 0, as it is until the first recomposition: then nothing needs to be multiplied.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        let merged = match self.blocks {
            BlocksRef::F32(values) => values.iter().all(|x| *x == 0.0),
            BlocksRef::Int8 { scales, .. } => scales.iter().all(|s| *s == f16::ZERO),
        };
        merged && self.staged == 0
    }

    /// Row `row` of D, in f32: `out` has in_dim elements.
    pub fn row_into(&self, shape: &SiteShape, row: usize, out: &mut [f32]) {
        for (nth, block) in out.chunks_mut(shape.block).enumerate() {
            self.block_into(shape, row, nth, block);
        }
    }

    /// Block `nth` of row `row`: blocks first, then the staged terms in order.
    fn block_into(&self, shape: &SiteShape, row: usize, nth: usize, out: &mut [f32]) {
        let first = nth * shape.block;
        let at = row * shape.in_dim + first;
        match self.blocks {
            BlocksRef::F32(values) => {
                let values = values.get(at..at + out.len()).unwrap_or_default();
                out.iter_mut().zip(values).for_each(|(out, value)| *out = *value);
            }
            BlocksRef::Int8 { codes, scales } => {
                let scale = scales.get(row * shape.row_blocks() + nth).map_or(0.0, |s| s.to_f32());
                let codes = codes.get(at..at + out.len()).unwrap_or_default();
                out.iter_mut().zip(codes).for_each(|(out, &code)| *out = f32::from(code) * scale);
            }
        }
        let (b, a) = self.stage.split_at(self.stage.len().min(shape.stage * shape.out_dim));
        for term in 0..self.staged {
            let b = b.get(term * shape.out_dim + row).map_or(0.0, |b| b.to_f32());
            let from = term * shape.in_dim + first;
            let a = a.get(from..from + out.len()).unwrap_or_default();
            out.iter_mut().zip(a).for_each(|(out, a)| *out += b * a.to_f32());
        }
    }
}

impl Delta<'_> {
    /// Read only.
    #[must_use]
    pub fn view(&self) -> DeltaRef<'_> {
        let blocks = match &self.blocks {
            Blocks::F32(values) => BlocksRef::F32(values),
            Blocks::Int8 { codes, scales } => BlocksRef::Int8 { codes, scales },
        };
        DeltaRef { blocks, stage: self.stage, staged: *self.staged }
    }

    /// # Errors
    /// `Length` names the buffer that does not fit `shape`.
    pub fn check(&self, shape: &SiteShape) -> Result<(), CoreError> {
        let codes = shape.delta_codes_len();
        match &self.blocks {
            Blocks::F32(values) => CoreError::check(Buffer::DeltaCodes, codes, values.len())?,
            Blocks::Int8 { codes: given, scales } => {
                CoreError::check(Buffer::DeltaCodes, codes, given.len())?;
                CoreError::check(Buffer::DeltaScales, shape.delta_scales_len(), scales.len())?;
            }
        }
        if *self.staged > shape.stage {
            return Err(CoreError::Length { buffer: Buffer::DeltaStage, needed: shape.stage, given: *self.staged });
        }
        CoreError::check(Buffer::DeltaStage, shape.delta_stage_len(), self.stage.len())
    }

    /// D <- Q(D + sum of `terms`); returns the largest |error| that rounding left in any element.
    ///
    /// Terms go to the stage while it has room for all of them; otherwise stage and terms are merged into the blocks in
    /// one requantization. Work: O(out_dim in_dim terms).
    pub fn add(&mut self, shape: &SiteShape, terms: &impl Terms) -> f32 {
        if *self.staged + terms.count() <= shape.stage {
            self.put_on_stage(shape, terms)
        } else {
            self.merge(shape, terms)
        }
    }

    /// b and a are balanced to equal norms before they are rounded: b g and a / g with g^2 = |a| / |b|.
    fn put_on_stage(&mut self, shape: &SiteShape, terms: &impl Terms) -> f32 {
        let first = *self.staged;
        let (b_rows, a_rows) = self.stage.split_at_mut(shape.stage * shape.out_dim);
        for term in 0..terms.count() {
            let length =
                |n: usize, x: &dyn Fn(usize) -> f32| sqrt((0..n).map(|i| x(i) * x(i)).sum::<f32>()).max(SMALLEST_NORM);
            let nb = length(shape.out_dim, &|i| terms.b(term, i));
            let na = length(shape.in_dim, &|j| terms.a(term, j));
            let balance = sqrt(na / nb);
            let b_row = b_rows.iter_mut().skip((first + term) * shape.out_dim).take(shape.out_dim);
            b_row.enumerate().for_each(|(i, b)| *b = f16::from_f32(terms.b(term, i) * balance));
            let a_row = a_rows.iter_mut().skip((first + term) * shape.in_dim).take(shape.in_dim);
            a_row.enumerate().for_each(|(j, a)| *a = f16::from_f32(terms.a(term, j) / balance));
        }
        *self.staged += terms.count();
        let staged = |rows: &[f16], width: usize, term: usize, at: usize| {
            rows.get((first + term) * width + at).map_or(0.0, |v| v.to_f32())
        };
        let mut worst: f32 = 0.0;
        for i in 0..shape.out_dim {
            for j in 0..shape.in_dim {
                let lost = |t: usize| {
                    let kept = staged(b_rows, shape.out_dim, t, i) * staged(a_rows, shape.in_dim, t, j);
                    terms.b(t, i) * terms.a(t, j) - kept
                };
                worst = worst.max(abs((0..terms.count()).map(lost).sum()));
            }
        }
        worst
    }

    fn merge(&mut self, shape: &SiteShape, terms: &impl Terms) -> f32 {
        let mut worst: f32 = 0.0;
        let mut buffer = [0.0; MAX_BLOCK];
        for row in 0..shape.out_dim {
            for nth in 0..shape.row_blocks() {
                let first = nth * shape.block;
                let width = shape.block.min(shape.in_dim - first).min(MAX_BLOCK);
                let Some(exact) = buffer.get_mut(..width) else { continue };
                self.view().block_into(shape, row, nth, exact);
                for term in 0..terms.count() {
                    let b = terms.b(term, row);
                    exact.iter_mut().enumerate().for_each(|(j, x)| *x += b * terms.a(term, first + j));
                }
                worst = worst.max(self.store_block(shape, row, nth, exact));
            }
        }
        *self.staged = 0;
        worst
    }

    fn store_block(&mut self, shape: &SiteShape, row: usize, nth: usize, exact: &[f32]) -> f32 {
        let at = row * shape.in_dim + nth * shape.block;
        match &mut self.blocks {
            Blocks::F32(values) => {
                values.iter_mut().skip(at).zip(exact).for_each(|(value, x)| *value = *x);
                0.0
            }
            Blocks::Int8 { codes, scales } => {
                let codes = codes.get_mut(at..at + exact.len()).unwrap_or_default();
                let scale = int8_block(exact, codes);
                if let Some(kept) = scales.get_mut(row * shape.row_blocks() + nth) {
                    *kept = scale;
                }
                let error = |(&code, x): (&i8, &f32)| abs(f32::from(code) * scale.to_f32() - x);
                codes.iter().zip(exact).map(error).fold(0.0, f32::max)
            }
        }
    }
}
