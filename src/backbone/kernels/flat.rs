//! A depthwise convolution of a small map, whose rows are shorter than a few vectors.
//!
//! A channel is one run of floats, row behind row, and so is its output: a tap of the kernel reads the run at a fixed distance,
//! and a whole channel is one loop of multiply-adds. Where a tap would leave the end of a row, it reads the beginning of the
//! next one instead. So each column of the kernel has a plane of its own, in which the pixels that it must not see are 0.
//!
//! A stride is taken at the end: outputs of all pixels are computed, and those between are dropped. On the way back, dy lies at
//! the pixels of its outputs, with zeros between. Each sum has the terms of the lattice's in the same order, and zeros besides,
//! so both give the same numbers.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::operands::Around;
use super::patches::take_every;
use super::taps::{Offset, Tap, correlate};
use crate::adapter::scratch::Scratch;
use crate::backbone::maps::{Frozen, Geometry, cut};

/// Pixels of the largest map. In a larger one rows are long, and a stride would be paid for with too many sums.
const MOST_PIXELS: usize = 28 * 28;
/// Lengths are multiples of this, so that no vector reaches past an end.
const LINE: usize = 16;

/// How one channel lies in its planes.
pub(super) struct Flat {
    stride: [usize; 2],
    dilation: [usize; 2],
    kernel: [usize; 2],
    input: [usize; 2],
    output: [usize; 2],
    /// Pixels before the one that a kernel's middle lies on, which its first tap reads: rows and columns of padding.
    lead: usize,
    /// Pixels from a kernel's first tap to its last.
    reach: usize,
    /// Zeros before the first column.
    left: usize,
    /// Floats of a channel, whole vectors.
    run: usize,
    /// Floats of a plane.
    plane: usize,
}

/// Which way a map goes: what its planes hold, and what its taps read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    Back,
}

impl Flat {
    /// `None` where the map is large, or small beside its kernel, or where an output has no pixel of its own.
    pub(super) fn new(geometry: &Geometry, input: [usize; 2], output: [usize; 2]) -> Option<Self> {
        let Geometry { stride, dilation, kernel, .. } = *geometry;
        let before = geometry.pad_before(input, output);
        let span = |axis: usize| kernel[axis].saturating_sub(1) * dilation[axis];
        let (lead, reach) = (before[0] * input[1] + before[1], span(0) * input[1] + span(1));
        let has_pixels = (0..2).all(|axis| output[axis] > 0 && (output[axis] - 1) * stride[axis] < input[axis]);
        let run = (input[0] * input[1]).next_multiple_of(LINE);
        let plane = (run + reach).next_multiple_of(LINE);
        let flat = Flat { stride, dilation, kernel, input, output, lead, reach, left: before[1], run, plane };
        let is_small = flat.pixels() <= MOST_PIXELS && reach <= flat.pixels();
        (has_pixels && lead <= reach && is_small).then_some(flat)
    }

    fn pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn outputs(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Whether each pixel has an output.
    fn is_whole(&self) -> bool {
        self.stride == [1, 1] && self.output == self.input
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Zeros before the first pixel of a plane.
    fn margin(&self, way: Way) -> usize {
        if way == Way::Forward { self.lead } else { self.reach - self.lead }
    }

    /// A mask for each column of the kernel, `[columns, pixels]`: all bits of a pixel that is read from its own row, none of others.
    fn masks<'b>(&self, way: Way, buffer: &'b mut [f32]) -> &'b [f32] {
        let (width, left) = (self.input[1], self.left);
        for (column, masks) in buffer.chunks_exact_mut(self.pixels().max(1)).enumerate() {
            let step = column * self.dilation[1];
            for (at, mask) in masks.iter_mut().enumerate() {
                // Where the pixel's reader lies, `left` columns further, so that it is not below 0.
                let reader = match way {
                    Way::Forward => (at % width + 2 * left).checked_sub(step),
                    Way::Back => Some(at % width + step),
                };
                let inside = reader.is_some_and(|reader| (left..left + width).contains(&reader));
                *mask = f32::from_bits(if inside { u32::MAX } else { 0 });
            }
        }
        buffer
    }

    /// A tap for every place in the kernel, row by row.
    fn lay_taps<'b>(&self, way: Way, buffer: &'b mut [f32]) -> &'b mut [Tap] {
        let taps: &mut [Tap] = bytemuck::cast_slice_mut(buffer);
        for (at, tap) in taps.iter_mut().enumerate() {
            let (row, column) = (at / self.kernel[1], at % self.kernel[1]);
            let distance = row * self.dilation[0] * self.input[1] + column * self.dilation[1];
            let offset = if way == Way::Forward { distance } else { self.reach - distance };
            *tap = Tap::new(at, column, column * self.plane + offset);
        }
        taps
    }

    /// [`super::depthwise::forward`].
    pub(super) fn forward(
        self,
        (frozen, channels): (&Frozen, Range<usize>),
        around: [Around; 2],
        x: &[f32],
        y: &mut [f32],
    ) {
        Arch::new().dispatch(Forward { flat: self, frozen, channels, around, x, y });
    }

    /// [`super::depthwise::backward`].
    pub(super) fn backward(self, frozen: &Frozen, dy: &[f32], dx: &mut [f32]) {
        Arch::new().dispatch(Backward { flat: self, frozen, dy, dx });
    }

    /// Calls `visit` with the pixel of each output row's first output, and the row's outputs.
    #[inline(always)]
    fn each_row(&self, mut visit: impl FnMut(usize, Range<usize>)) {
        for row in 0..self.output[0] {
            visit(row * self.stride[0] * self.input[1], row * self.output[1]..(row + 1) * self.output[1]);
        }
    }
}

struct Forward<'f> {
    flat: Flat,
    frozen: &'f Frozen,
    channels: Range<usize>,
    around: [Around<'f>; 2],
    x: &'f [f32],
    y: &'f mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Forward { flat, frozen, channels, around: [before, around], x, y } = self;
        let mut buffer = Room::buffer(&flat);
        let room = Room::in_buffer(&flat, &mut buffer);
        let masks = flat.masks(Way::Forward, room.masks);
        let taps = flat.lay_taps(Way::Forward, room.taps);
        let (margin, mut y) = (flat.margin(Way::Forward), y.chunks_exact_mut(flat.outputs()));
        let per_channel = y.len() / channels.len().max(1);
        for (channel, mut x) in channels.zip(x.chunks_exact(flat.pixels())) {
            if before.clip.is_some() || !before.bias.is_empty() {
                clip_into(simd, x, Offset::of(before, channel), room.source);
                x = room.source;
            }
            for (plane, masks) in room.planes.chunks_exact_mut(flat.plane).zip(masks.chunks_exact(x.len())) {
                lay(simd, x, masks, &mut plane[margin..margin + x.len()]);
            }
            for (o, y) in (channel * per_channel..(channel + 1) * per_channel).zip(y.by_ref()) {
                frozen.weight.view().row_into(o, room.weights);
                taps.iter_mut().for_each(|tap| tap.weigh(room.weights));
                // The bias is the first term of the sum, as in the lattice.
                let Offset { bias, clip } = Offset::of(around, o);
                correlate(simd, room.sums, room.planes, taps, bias);
                let clip = Offset { clip, ..Offset::NONE };
                if flat.is_whole() {
                    clip_into(simd, room.sums, clip, y);
                    continue;
                }
                flat.each_row(|place, outputs| {
                    take_every(flat.stride[1], &room.sums[place..], &mut room.picked[outputs]);
                });
                clip_into(simd, room.picked, clip, y);
            }
        }
    }
}

struct Backward<'b> {
    flat: Flat,
    frozen: &'b Frozen,
    dy: &'b [f32],
    dx: &'b mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Backward { flat, frozen, dy, dx } = self;
        let mut buffer = Room::buffer(&flat);
        let room = Room::in_buffer(&flat, &mut buffer);
        let masks = flat.masks(Way::Back, room.masks);
        let taps = flat.lay_taps(Way::Back, room.taps);
        let (margin, pixels) = (flat.margin(Way::Back), flat.pixels());
        let mut outputs = dy.chunks_exact(flat.outputs()).enumerate();
        let per_channel = outputs.len() / (dx.len() / pixels).max(1);
        for dx in dx.chunks_exact_mut(pixels) {
            for (o, mut dy) in outputs.by_ref().take(per_channel) {
                if !flat.is_whole() {
                    flat.each_row(|place, outputs| {
                        let to = room.source[place..].iter_mut().step_by(flat.stride[1]);
                        to.zip(&dy[outputs]).for_each(|(to, dy)| *to = *dy);
                    });
                    dy = room.source;
                }
                for (plane, masks) in room.planes.chunks_exact_mut(flat.plane).zip(masks.chunks_exact(pixels)) {
                    lay(simd, dy, masks, &mut plane[margin..margin + pixels]);
                }
                frozen.weight.view().row_into(o, room.weights);
                taps.iter_mut().for_each(|tap| tap.weigh(room.weights));
                correlate(simd, room.sums, room.planes, taps, 0.0);
                add_into(simd, room.sums, dx);
            }
        }
    }
}

/// What is needed for one channel at a time, parts of one buffer.
struct Room<'r> {
    planes: &'r mut [f32],
    /// What is laid into the planes, where it is not the map itself: with the bias and the clip before it, or with zeros between.
    source: &'r mut [f32],
    sums: &'r mut [f32],
    /// Outputs, where they are some of the sums.
    picked: &'r mut [f32],
    masks: &'r mut [f32],
    taps: &'r mut [f32],
    weights: &'r mut [f32],
}

impl<'r> Room<'r> {
    /// Lengths of the parts.
    fn lengths(flat: &Flat) -> [usize; 7] {
        let columns = flat.kernel[1];
        let masks = columns * flat.pixels();
        [columns * flat.plane, flat.pixels(), flat.run, flat.outputs(), masks, flat.taps() * Tap::FLOATS, flat.taps()]
    }

    /// A buffer of zeros with room for all parts.
    fn buffer(flat: &Flat) -> Scratch {
        Scratch::zeros(Self::lengths(flat).iter().sum())
    }

    fn in_buffer(flat: &Flat, mut buffer: &'r mut [f32]) -> Self {
        let [planes, source, sums, picked, masks, taps, weights] = Self::lengths(flat).map(|length| {
            let (part, rest) = std::mem::take(&mut buffer).split_at_mut(length);
            buffer = rest;
            part
        });
        Room { planes, source, sums, picked, masks, taps, weights }
    }
}

/// to[i] = x[i], or 0 where the mask says so.
///
/// Vectors by name, here and below: the compiler makes none of a choice of bits.
#[inline(always)]
fn lay<S: Simd>(simd: S, x: &[f32], masks: &[f32], to: &mut [f32]) {
    let ((x, end), (masks, last), (to, tail)) = (S::as_simd_f32s(x), S::as_simd_f32s(masks), S::as_mut_simd_f32s(to));
    for ((&x, &mask), to) in x.iter().zip(masks).zip(to) {
        *to = simd.and_f32s(x, mask);
    }
    for ((x, mask), to) in end.iter().zip(last).zip(tail) {
        *to = f32::from_bits(x.to_bits() & mask.to_bits());
    }
}

/// y[i] = clip(x[i] + b) for all of y.
#[inline(always)]
fn clip_into<S: Simd>(simd: S, x: &[f32], Offset { bias, clip }: Offset, y: &mut [f32]) {
    let ((x, end), (y, tail)) = (S::as_simd_f32s(&x[..y.len()]), S::as_mut_simd_f32s(y));
    let (all, low, high) = (simd.splat_f32s(bias), simd.splat_f32s(clip[0]), simd.splat_f32s(clip[1]));
    for (&x, y) in x.iter().zip(y) {
        let x = simd.add_f32s(x, all);
        let x = simd.select_f32s(simd.less_than_f32s(x, low), low, x);
        *y = simd.select_f32s(simd.less_than_f32s(high, x), high, x);
    }
    end.iter().zip(tail).for_each(|(x, y)| *y = cut(*x + bias, clip));
}

/// dx[i] += sums[i] for all of dx.
#[inline(always)]
fn add_into<S: Simd>(simd: S, sums: &[f32], dx: &mut [f32]) {
    let ((sums, end), (dx, tail)) = (S::as_simd_f32s(&sums[..dx.len()]), S::as_mut_simd_f32s(dx));
    for (&sum, dx) in sums.iter().zip(dx) {
        *dx = simd.add_f32s(*dx, sum);
    }
    end.iter().zip(tail).for_each(|(sum, dx)| *dx += sum);
}
