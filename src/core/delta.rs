//! The quantized delta D: everything fused so far, beside the read-only weight.
//!
//! As it ships, D is int8 along rows in blocks of `block` columns (the last may be short), with an f16 scale each. An event
//! rounds the blocks once, however many pairs it fuses.

use half::f16;

use super::error::{Buffer, CoreError};
use super::math::abs;
use super::quant::int8_block;
use super::shape::{MAX_BLOCK, SiteShape};

/// A delta that can be added to: `delta_codes_len` elements, row by row.
#[derive(Debug)]
pub enum Delta<'a> {
    /// Not quantized, for reference and measurement.
    F32(&'a mut [f32]),
    /// As it ships.
    Int8 {
        /// `delta_codes_len` codes.
        codes: &'a mut [i8],
        /// `delta_scales_len` scales.
        scales: &'a mut [f16],
    },
}

/// A delta that is only read.
#[derive(Debug, Clone, Copy)]
pub enum DeltaRef<'a> {
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
    /// # Errors
    /// `Length` names the buffer that does not fit `shape`.
    pub fn check(&self, shape: &SiteShape) -> Result<(), CoreError> {
        let codes = match self {
            DeltaRef::F32(values) => values.len(),
            DeltaRef::Int8 { codes, scales } => {
                CoreError::check(Buffer::DeltaScales, shape.delta_scales_len(), scales.len())?;
                codes.len()
            }
        };
        CoreError::check(Buffer::DeltaCodes, shape.delta_codes_len(), codes)
    }

    /// Whether D = 0, as it is until the first recomposition: then nothing needs to be multiplied.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        match self {
            DeltaRef::F32(values) => values.iter().all(|x| *x == 0.0),
            DeltaRef::Int8 { scales, .. } => scales.iter().all(|s| *s == f16::ZERO),
        }
    }

    /// Row `row` of D, in f32: `out` has in_dim elements.
    ///
    /// # Errors
    /// As [`SiteShape::check`]; `Length` names the buffer that does not fit, `Row` a row that is not there.
    pub fn row_into(&self, shape: &SiteShape, row: usize, out: &mut [f32]) -> Result<(), CoreError> {
        shape.check()?;
        self.check(shape)?;
        CoreError::check(Buffer::DeltaRow, shape.in_dim, out.len())?;
        if row >= shape.out_dim {
            return Err(CoreError::Row { rows: shape.out_dim, given: row });
        }
        self.checked_row_into(shape, row, out);
        Ok(())
    }

    /// [`DeltaRef::row_into`] where everything has been checked.
    pub(super) fn checked_row_into(&self, shape: &SiteShape, row: usize, out: &mut [f32]) {
        for (nth, block) in out.chunks_mut(shape.block).enumerate() {
            self.block_into(shape, row, nth, block);
        }
    }

    /// Block `nth` of row `row`.
    fn block_into(&self, shape: &SiteShape, row: usize, nth: usize, out: &mut [f32]) {
        let at = row * shape.in_dim + nth * shape.block;
        match self {
            DeltaRef::F32(values) => {
                let values = values.get(at..at + out.len()).unwrap_or_default();
                out.iter_mut().zip(values).for_each(|(out, value)| *out = *value);
            }
            DeltaRef::Int8 { codes, scales } => {
                let scale = scales.get(row * shape.row_blocks() + nth).map_or(0.0, |s| s.to_f32());
                let codes = codes.get(at..at + out.len()).unwrap_or_default();
                out.iter_mut().zip(codes).for_each(|(out, &code)| *out = f32::from(code) * scale);
            }
        }
    }
}

impl Delta<'_> {
    /// Read only.
    #[must_use]
    pub fn view(&self) -> DeltaRef<'_> {
        match self {
            Delta::F32(values) => DeltaRef::F32(values),
            Delta::Int8 { codes, scales } => DeltaRef::Int8 { codes, scales },
        }
    }

    /// # Errors
    /// `Length` names the buffer that does not fit `shape`.
    pub fn check(&self, shape: &SiteShape) -> Result<(), CoreError> {
        self.view().check(shape)
    }

    /// D <- 0.
    pub(super) fn clear(&mut self) {
        match self {
            Delta::F32(values) => values.fill(0.0),
            Delta::Int8 { codes, scales } => {
                codes.fill(0);
                scales.fill(f16::ZERO);
            }
        }
    }

    /// D <- Q(D + sum of `terms`) in one requantization; returns the largest |error| that rounding left in any element.
    ///
    /// Work: O(out_dim in_dim terms).
    ///
    /// # Errors
    /// As [`SiteShape::check`]; `Length` names the buffer that does not fit. D is then as it was.
    pub fn add(&mut self, shape: &SiteShape, terms: &impl Terms) -> Result<f32, CoreError> {
        shape.check()?;
        self.check(shape)?;
        let mut worst: f32 = 0.0;
        let mut buffer = [0.0; MAX_BLOCK];
        for row in 0..shape.out_dim {
            for nth in 0..shape.row_blocks() {
                let first = nth * shape.block;
                let width = shape.block.min(shape.in_dim - first);
                let Some(exact) = buffer.get_mut(..width) else { continue };
                self.view().block_into(shape, row, nth, exact);
                for term in 0..terms.count() {
                    let b = terms.b(term, row);
                    exact.iter_mut().enumerate().for_each(|(j, x)| *x += b * terms.a(term, first + j));
                }
                worst = worst.max(self.store_block(shape, row, nth, exact));
            }
        }
        Ok(worst)
    }

    fn store_block(&mut self, shape: &SiteShape, row: usize, nth: usize, exact: &[f32]) -> f32 {
        let at = row * shape.in_dim + nth * shape.block;
        match self {
            Delta::F32(values) => {
                values.iter_mut().skip(at).zip(exact).for_each(|(value, x)| *value = *x);
                0.0
            }
            Delta::Int8 { codes, scales } => {
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
