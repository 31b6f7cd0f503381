//! Codes: symmetric int8 with a scale, and f16; and a frozen weight kept in them.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::error::{Buffer, CoreError};
use super::math::{abs, axpy, dot, round_half_even};

/// Largest code; -128 is not used, so that codes are symmetric.
const LARGEST_CODE: f32 = 127.0;

/// Read-only floats as they ship.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Floats<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
}

impl Floats<'_> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Floats::F32(values) => values.len(),
            Floats::F16(values) => values.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at `index`; 0 outside.
    #[must_use]
    pub fn at(&self, index: usize) -> f32 {
        match self {
            Floats::F32(values) => values.get(index).copied().unwrap_or(0.0),
            Floats::F16(values) => values.get(index).map_or(0.0, |v| v.to_f32()),
        }
    }

    /// Copies row `row` of a matrix with rows as long as `out`.
    pub fn row_into(&self, row: usize, out: &mut [f32]) {
        let first = row.saturating_mul(out.len());
        out.iter_mut().enumerate().for_each(|(column, out)| *out = self.at(first.saturating_add(column)));
    }
}

/// The scale of a group of values: amax / 127.
#[must_use]
pub fn int8_scale(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest: f32, v| largest.max(abs(*v))) / LARGEST_CODE
}

/// x / scale to the nearest code, halves to even, within +-127; 0 where the scale is 0.
#[must_use]
pub fn int8_code(x: f32, scale: f32) -> i8 {
    if scale > 0.0 { round_half_even(x / scale).clamp(-LARGEST_CODE, LARGEST_CODE) as i8 } else { 0 }
}

/// (code - zero) * scale.
#[inline(always)]
fn decode(code: i8, zero: i8, scale: f32) -> f32 {
    f32::from(i16::from(code) - i16::from(zero)) * scale
}

/// Encodes a row-major matrix in int8 with one scale per row.
///
/// # Errors
/// `Length` where `codes` is not as long as `weight`, or `weight` not `scales.len() * in_dim`.
pub fn int8_rows(weight: &[f32], in_dim: usize, codes: &mut [i8], scales: &mut [f32]) -> Result<(), CoreError> {
    CoreError::check(Buffer::Weight, scales.len().saturating_mul(in_dim), weight.len())?;
    CoreError::check(Buffer::Weight, weight.len(), codes.len())?;
    for ((row, codes), scale) in weight.chunks(in_dim.max(1)).zip(codes.chunks_mut(in_dim.max(1))).zip(scales) {
        *scale = int8_scale(row);
        codes.iter_mut().zip(row).for_each(|(code, &x)| *code = int8_code(x, *scale));
    }
    Ok(())
}

/// Encodes one block and returns its scale, amax / 127 rounded to f16. The scale stays finite, so that code * scale is
/// a number; what a scale beyond f16 clips shows in the error.
pub(super) fn int8_block(values: &[f32], codes: &mut [i8]) -> f16 {
    let scale = f16::from_f32(int8_scale(values)).min(f16::MAX);
    codes.iter_mut().zip(values).for_each(|(code, &x)| *code = int8_code(x, scale.to_f32()));
    scale
}

/// Encodes a row-major matrix in int8 with one f16 scale per `block` columns; the last block of a row may be short.
///
/// # Errors
/// `Block` where `block` is 0; `Length` where `codes` is not as long as `matrix`, or the scales are not one per block.
pub fn int8_blocks(
    matrix: &[f32],
    in_dim: usize,
    block: usize,
    codes: &mut [i8],
    scales: &mut [f16],
) -> Result<(), CoreError> {
    if block == 0 {
        return Err(CoreError::Block { given: block });
    }
    let in_dim = in_dim.max(1);
    let row_blocks = in_dim.div_ceil(block);
    CoreError::check(Buffer::Weight, matrix.len() / in_dim * in_dim, matrix.len())?;
    CoreError::check(Buffer::DeltaCodes, matrix.len(), codes.len())?;
    CoreError::check(Buffer::DeltaScales, matrix.len() / in_dim * row_blocks, scales.len())?;
    let rows = matrix.chunks_exact(in_dim).zip(codes.chunks_exact_mut(in_dim));
    for ((row, codes), scales) in rows.zip(scales.chunks_exact_mut(row_blocks)) {
        for ((values, codes), scale) in row.chunks(block).zip(codes.chunks_mut(block)).zip(scales) {
            *scale = int8_block(values, codes);
        }
    }
    Ok(())
}

/// A frozen weight, row-major out_dim x in_dim, in the precision in which it ships.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weight<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
    /// w = (code - zero) * scale, both of the row.
    Int8 {
        /// out_dim * in_dim codes.
        codes: &'a [i8],
        /// out_dim scales.
        scales: &'a [f32],
        /// out_dim zero-points; empty where all are 0.
        zeros: &'a [i8],
    },
}

impl Weight<'_> {
    /// y = W x + bias.
    ///
    /// Shapes: `x` in_dim, `bias` and `y` out_dim. Work: 2 out_dim in_dim flops. Accumulates in f32.
    ///
    /// # Errors
    /// `Length` where the weight is not `y.len() * x.len()`, or bias not as long as y.
    pub fn forward(&self, x: &[f32], bias: &[f32], y: &mut [f32]) -> Result<(), CoreError> {
        self.check(y.len(), x.len())?;
        CoreError::check(Buffer::Bias, y.len(), bias.len())?;
        for (row, (y, bias)) in y.iter_mut().zip(bias).enumerate() {
            let span = row * x.len()..(row + 1) * x.len();
            let product = match self {
                Weight::F32(w) => dot(w.get(span).unwrap_or_default(), x),
                Weight::F16(w) => w.get(span).unwrap_or_default().iter().zip(x).map(|(w, x)| w.to_f32() * x).sum(),
                Weight::Int8 { codes, .. } => {
                    let codes = codes.get(span).unwrap_or_default();
                    let (scale, zero) = self.row_code(row);
                    codes.iter().zip(x).map(|(&q, x)| decode(q, zero, scale) * x).sum()
                }
            };
            *y = product + bias;
        }
        Ok(())
    }

    /// dx += W^T dy.
    ///
    /// Shapes: `dy` out_dim, `dx` in_dim.
    ///
    /// # Errors
    /// `Length` where the weight is not `dy.len() * dx.len()`.
    pub fn backward(&self, dy: &[f32], dx: &mut [f32]) -> Result<(), CoreError> {
        self.check(dy.len(), dx.len())?;
        let in_dim = dx.len();
        for (row, &g) in dy.iter().enumerate() {
            let span = row * in_dim..(row + 1) * in_dim;
            match self {
                Weight::F32(w) => axpy(g, w.get(span).unwrap_or_default(), dx),
                Weight::F16(w) => {
                    let w = w.get(span).unwrap_or_default();
                    dx.iter_mut().zip(w).for_each(|(dx, w)| *dx += g * w.to_f32());
                }
                Weight::Int8 { codes, .. } => {
                    let codes = codes.get(span).unwrap_or_default();
                    let (scale, zero) = self.row_code(row);
                    dx.iter_mut().zip(codes).for_each(|(dx, &q)| *dx += g * decode(q, zero, scale));
                }
            }
        }
        Ok(())
    }

    /// Row `row` in f32; what lies outside the weight is left as it is.
    #[inline(always)]
    pub fn row_into(&self, row: usize, out: &mut [f32]) {
        let first = row.saturating_mul(out.len());
        let span = first..first.saturating_add(out.len());
        match self {
            Weight::F32(w) => out.iter_mut().zip(w.get(span).unwrap_or_default()).for_each(|(out, w)| *out = *w),
            Weight::F16(w) => {
                // The processor's own conversion where it has one; the lengths must agree.
                if let Some(w) = w.get(span) {
                    w.convert_to_f32_slice(out);
                }
            }
            Weight::Int8 { codes, .. } => {
                let (scale, zero) = self.row_code(row);
                let codes = codes.get(span).unwrap_or_default();
                out.iter_mut().zip(codes).for_each(|(out, &q)| *out = decode(q, zero, scale));
            }
        }
    }

    /// Scale and zero-point of a row of codes.
    fn row_code(&self, row: usize) -> (f32, i8) {
        match self {
            Weight::Int8 { scales, zeros, .. } => {
                (scales.get(row).copied().unwrap_or(0.0), zeros.get(row).copied().unwrap_or(0))
            }
            _ => (1.0, 0),
        }
    }

    fn check(&self, out_dim: usize, in_dim: usize) -> Result<(), CoreError> {
        let len = match self {
            Weight::F32(w) => w.len(),
            Weight::F16(w) => w.len(),
            Weight::Int8 { codes, scales, zeros } => {
                CoreError::check(Buffer::Weight, out_dim, scales.len())?;
                CoreError::check(Buffer::Weight, if zeros.is_empty() { 0 } else { out_dim }, zeros.len())?;
                codes.len()
            }
        };
        CoreError::check(Buffer::Weight, out_dim.saturating_mul(in_dim), len)
    }
}
