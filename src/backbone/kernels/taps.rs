//! The sum that a depthwise convolution is made of: one channel, a tap of its kernel at a time.

use bytemuck::{Pod, Zeroable};
use pulp::Simd;

use super::operands::Around;
use crate::backbone::maps::Clip;

/// What is done to one channel of a sum: clip(x + bias).
#[derive(Clone, Copy)]
pub(super) struct Offset {
    pub(super) bias: f32,
    pub(super) clip: Clip,
}

impl Offset {
    /// Nothing.
    pub(super) const NONE: Self = Offset { bias: 0.0, clip: [f32::NEG_INFINITY, f32::INFINITY] };

    pub(super) fn of(around: Around, channel: usize) -> Self {
        let clip = around.clip.unwrap_or([f32::NEG_INFINITY, f32::INFINITY]);
        Offset { bias: around.bias.get(channel).copied().unwrap_or(0.0), clip }
    }
}

/// One tap of a kernel, in as many bytes as four floats, so that a scratch buffer holds it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Tap {
    /// Its place in the kernel.
    pub(super) at: u32,
    /// The plane that it reads.
    pub(super) plane: u32,
    /// How far from the output's place it reads.
    offset: u32,
    weight: f32,
}

impl Tap {
    /// Floats of a buffer that it takes.
    pub(super) const FLOATS: usize = size_of::<Tap>() / size_of::<f32>();

    pub(super) fn new(at: usize, plane: usize, offset: usize) -> Self {
        Tap { at: at as u32, plane: plane as u32, offset: offset as u32, weight: 0.0 }
    }

    /// Takes its weight from those of a kernel, row by row.
    #[inline(always)]
    pub(super) fn weigh(&mut self, weights: &[f32]) {
        self.weight = weights[self.at as usize];
    }
}

/// out[i] = start + sum over taps of weight x[i + offset], for whole vectors, eight of them at a time.
#[inline(always)]
pub(super) fn correlate<S: Simd>(simd: S, out: &mut [f32], x: &[f32], taps: &[Tap], start: f32) {
    let (blocks, rest) = S::as_mut_simd_f32s(out).0.as_chunks_mut::<8>();
    let done = 8 * S::F32_LANES * blocks.len();
    for (at, block) in blocks.iter_mut().enumerate() {
        correlate_block(simd, at * 8 * S::F32_LANES, block, x, (taps, start));
    }
    let (pairs, last) = rest.as_chunks_mut::<2>();
    let behind = done + 2 * S::F32_LANES * pairs.len();
    for (at, pair) in pairs.iter_mut().enumerate() {
        correlate_block(simd, done + at * 2 * S::F32_LANES, pair, x, (taps, start));
    }
    for one in last.as_chunks_mut::<1>().0 {
        correlate_block(simd, behind, one, x, (taps, start));
    }
}

/// The same for the vectors from place `at` on.
#[inline(always)]
fn correlate_block<S: Simd, const N: usize>(
    simd: S,
    at: usize,
    out: &mut [S::f32s; N],
    x: &[f32],
    (taps, start): (&[Tap], f32),
) {
    let mut sums = [simd.splat_f32s(start); N];
    for tap in taps {
        let weight = simd.splat_f32s(tap.weight);
        let x = x.get(at + tap.offset as usize..).unwrap_or_default();
        if let Some(x) = S::as_simd_f32s(x).0.first_chunk::<N>() {
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum = mul_add(simd, weight, x, *sum);
            }
        }
    }
    *out = sums;
}

/// a b + c in one rounding where vectors do that; a number at a time, on 32-bit ARM alone.
#[inline(always)]
fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if cfg!(target_arch = "arm") { simd.mul_add_f32s(a, b, c) } else { simd.mul_add_e_f32s(a, b, c) }
}
