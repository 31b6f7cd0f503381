//! The forms in which a boundary may be kept.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// A number that stands for an f32 between two runs.
pub trait Stored: bytemuck::Pod {
    /// Writes the nearest of `values` to `to`, of the same length; what is larger than the largest becomes the largest.
    fn round(values: &[f32], to: &mut [Self]);

    /// The same back, exactly.
    fn widen(values: &[Self], to: &mut [f32]);
}

impl Stored for f16 {
    fn round(values: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(values);
        to.iter_mut().for_each(|v| *v = v.clamp(f16::MIN, f16::MAX));
    }

    fn widen(values: &[Self], to: &mut [f32]) {
        values.convert_to_f32_slice(to);
    }
}

impl Stored for f32 {
    fn round(values: &[f32], to: &mut [Self]) {
        to.copy_from_slice(values);
    }

    fn widen(values: &[Self], to: &mut [f32]) {
        to.copy_from_slice(values);
    }
}
