//! Depthwise convolution: every output channel sees one input channel, so there is no matrix to multiply with.
//!
//! A channel is laid out as a lattice: one zero-padded plane for every phase of the stride, all rows of the same pitch. There
//! each tap of the kernel reads a run of floats at a fixed distance from the output's, whatever the stride, so that a whole
//! channel is one loop of multiply-adds over long vectors. What falls between the rows is computed and dropped. Small maps, whose
//! rows are too short for that, lie [flat](super::flat).

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::flat::Flat;
use super::operands::Around;
use super::patches::{add_every, take_every};
use super::taps::{Offset, Tap, correlate};
use crate::adapter::scratch::Scratch;
use crate::backbone::maps::{Frozen, Geometry, cut};

/// Lengths are multiples of this, so that no vector reaches past an end: four vectors of 16 floats.
const LINE: usize = 64;

/// Whether a convolution of `channels` input channels is depthwise (a channel may have more than one output).
pub(super) fn is_depthwise(geometry: &Geometry, channels: usize) -> bool {
    geometry.group == channels && channels > 1
}

/// y[o] = clip(b[o] + sum over taps of w[o, tap] x'[channel of o, tap's pixels]), where x' = clip(x + b) of the map before,
/// if its bias and clip are still to be taken. x and y are the input channels `channels` of one image, and their outputs.
pub(super) fn forward(
    geometry: &Geometry,
    frozen: &Frozen,
    channels: Range<usize>,
    around: [Around; 2],
    (input, x): ([usize; 2], &[f32]),
    (output, y): ([usize; 2], &mut [f32]),
) {
    match Flat::new(geometry, input, output) {
        Some(flat) => flat.forward((frozen, channels), around, x, y),
        None => {
            let lattice = Lattice::new(geometry, input, output);
            Arch::new().dispatch(Forward { lattice, group: geometry.group, frozen, channels, around, x, y });
        }
    }
}

struct Forward<'f> {
    lattice: Lattice,
    group: usize,
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
        let Forward { lattice, group, frozen, channels, around: [before, around], x, y } = self;
        let (input, output) = (lattice.input[0] * lattice.input[1], lattice.output[0] * lattice.output[1]);
        let per_channel = frozen.weight.out_dim / group;
        let mut planes = Scratch::zeros(lattice.phases() * lattice.plane);
        let mut sums = Scratch::of(lattice.sums());
        let (mut taps, mut weights) = (Scratch::of(lattice.tap_floats()), Scratch::of(lattice.taps()));
        let taps = lattice.lay_taps(&mut taps, |plane, offset| plane * lattice.plane + offset);
        let mut y = y.chunks_exact_mut(output.max(1));
        for (channel, x) in channels.zip(x.chunks_exact(input.max(1))) {
            let entry = Offset::of(before, channel);
            lattice.each_run(|run| run.take(x, &mut planes, entry));
            for (o, y) in (channel * per_channel..(channel + 1) * per_channel).zip(y.by_ref()) {
                frozen.weight.view().row_into(o, &mut weights);
                taps.iter_mut().for_each(|tap| tap.weigh(&weights));
                let Offset { bias, clip } = Offset::of(around, o);
                correlate(simd, &mut sums, &planes, taps, bias);
                for (y, sums) in y.chunks_exact_mut(lattice.output[1].max(1)).zip(sums.chunks_exact(lattice.pitch)) {
                    y.iter_mut().zip(sums).for_each(|(y, sum)| *y = cut(*sum, clip));
                }
            }
        }
    }
}

/// dx[channel of o, tap's pixels] += w[o, tap] dy[o].
pub(super) fn backward(
    geometry: &Geometry,
    frozen: &Frozen,
    (output, dy): ([usize; 2], &[f32]),
    (input, dx): ([usize; 2], &mut [f32]),
) {
    match Flat::new(geometry, input, output) {
        Some(flat) => flat.backward(frozen, dy, dx),
        None => {
            let lattice = Lattice::new(geometry, input, output);
            Arch::new().dispatch(Backward { lattice, group: geometry.group, frozen, dy, dx });
        }
    }
}

struct Backward<'b> {
    lattice: Lattice,
    group: usize,
    frozen: &'b Frozen,
    dy: &'b [f32],
    dx: &'b mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Backward { lattice, group, frozen, dy, dx } = self;
        let (input, output) = (lattice.input[0] * lattice.input[1], lattice.output[0] * lattice.output[1]);
        let per_channel = frozen.weight.out_dim / group;
        // dy with zeros between and around its rows: the plane of a phase gets sum w[tap] dy[place - offset of tap].
        let before = lattice.reach;
        let mut sources = Scratch::zeros((before + lattice.plane).next_multiple_of(LINE));
        let mut plane = Scratch::of(lattice.plane);
        let (mut taps, mut weights) = (Scratch::of(lattice.tap_floats()), Scratch::of(lattice.taps()));
        let taps = lattice.lay_taps(&mut taps, |_, offset| before - offset);
        taps.sort_unstable_by_key(|tap| (tap.plane, tap.at));
        let mut dy = dy.chunks_exact(output.max(1));
        for (channel, dx) in dx.chunks_exact_mut(input.max(1)).enumerate() {
            for (o, dy) in (channel * per_channel..(channel + 1) * per_channel).zip(dy.by_ref()) {
                let rows = dy.chunks_exact(lattice.output[1].max(1));
                for (row, source) in rows.zip(sources[before..].chunks_exact_mut(lattice.pitch)) {
                    source[..row.len()].copy_from_slice(row);
                }
                frozen.weight.view().row_into(o, &mut weights);
                taps.iter_mut().for_each(|tap| tap.weigh(&weights));
                for taps in taps.chunk_by(|a, b| a.plane == b.plane) {
                    correlate(simd, &mut plane, &sources, taps, 0.0);
                    lattice.each_run_of(taps[0].plane as usize, |run| run.add_to_image(&plane, dx));
                }
            }
        }
    }
}

/// How one channel lies in its planes.
struct Lattice {
    stride: [usize; 2],
    dilation: [usize; 2],
    kernel: [usize; 2],
    /// Zeros before the first row and column.
    before: [usize; 2],
    input: [usize; 2],
    output: [usize; 2],
    /// Floats from one row of a plane to the next.
    pitch: usize,
    /// Rows of a plane that some tap reads.
    rows: usize,
    /// Floats in a plane.
    plane: usize,
    /// The largest offset of a tap.
    reach: usize,
}

/// A run of pixels of one image row, and its place in the planes: every `step`-th pixel, side by side.
struct Run {
    pixel: usize,
    step: usize,
    place: usize,
    len: usize,
}

impl Run {
    #[inline(always)]
    fn take(&self, x: &[f32], planes: &mut [f32], Offset { bias, clip }: Offset) {
        let to = &mut planes[self.place..self.place + self.len];
        if self.step == 1 {
            // In one pass, as rows are short.
            return to.iter_mut().zip(&x[self.pixel..]).for_each(|(to, x)| *to = cut(*x + bias, clip));
        }
        take_every(self.step, &x[self.pixel..], to);
        to.iter_mut().for_each(|x| *x = cut(*x + bias, clip));
    }

    #[inline(always)]
    fn add_to_image(&self, planes: &[f32], dx: &mut [f32]) {
        add_every(self.step, &mut dx[self.pixel..], &planes[self.place..self.place + self.len]);
    }
}

impl Lattice {
    fn new(geometry: &Geometry, input: [usize; 2], output: [usize; 2]) -> Self {
        let Geometry { stride, dilation, kernel, .. } = *geometry;
        let furthest = |axis: usize| kernel[axis].saturating_sub(1) * dilation[axis] / stride[axis];
        let pitch = output[1] + furthest(1);
        let reach = furthest(0) * pitch + furthest(1);
        let rows = output[0] + furthest(0);
        let plane = ((output[0] * pitch).next_multiple_of(LINE) + reach).next_multiple_of(LINE);
        let before = geometry.pad_before(input, output);
        Lattice { stride, dilation, kernel, before, input, output, pitch, rows, plane, reach }
    }

    fn phases(&self) -> usize {
        self.stride[0] * self.stride[1]
    }

    /// Floats of a channel's output, rows a pitch apart.
    fn sums(&self) -> usize {
        (self.output[0] * self.pitch).next_multiple_of(LINE)
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Floats of a buffer that holds the taps.
    fn tap_floats(&self) -> usize {
        self.taps() * Tap::FLOATS
    }

    /// A tap for every kernel position, row by row, at the offset that `offset_of` makes of its plane and its offset there.
    fn lay_taps<'b>(&self, buffer: &'b mut [f32], offset_of: impl Fn(usize, usize) -> usize) -> &'b mut [Tap] {
        let taps: &mut [Tap] = bytemuck::cast_slice_mut(buffer);
        for (at, tap) in taps.iter_mut().enumerate() {
            let [y, z] = [at / self.kernel[1] * self.dilation[0], at % self.kernel[1] * self.dilation[1]];
            let plane = y % self.stride[0] * self.stride[1] + z % self.stride[1];
            let offset = offset_of(plane, y / self.stride[0] * self.pitch + z / self.stride[1]);
            *tap = Tap::new(at, plane, offset);
        }
        taps
    }

    /// Calls `visit` with every run of pixels that some tap reads, and its place in all planes.
    #[inline(always)]
    fn each_run(&self, mut visit: impl FnMut(Run)) {
        for phase in 0..self.phases() {
            self.each_run_of(phase, |run| visit(Run { place: phase * self.plane + run.place, ..run }));
        }
    }

    /// The same for the plane of one phase, and the place in that plane.
    #[inline(always)]
    fn each_run_of(&self, phase: usize, mut visit: impl FnMut(Run)) {
        let [stride, before] = [self.stride, self.before];
        // The first pixel of each axis that lies in the phase, and its row or column in the plane.
        let first = [phase / stride[1], phase % stride[1]];
        let pixel = [0, 1].map(|axis| (first[axis] + stride[axis] * before[axis] - before[axis]) % stride[axis]);
        let place = [0, 1].map(|axis| (pixel[axis] + before[axis]) / stride[axis]);
        let len = self.input[1].saturating_sub(pixel[1]).div_ceil(stride[1]).min(self.pitch.saturating_sub(place[1]));
        let rows = (pixel[0]..self.input[0]).step_by(stride[0]).zip(place[0]..self.rows);
        for (y, row) in rows.filter(|_| len > 0) {
            let (pixel, place) = (y * self.input[1] + pixel[1], row * self.pitch + place[1]);
            visit(Run { pixel, step: stride[1], place, len });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::weights::{Codes, FrozenWeight};

    fn wave(n: usize, phase: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 1.37 + phase).sin()).collect()
    }

    /// Every (input, output, weight) triple of places that the definition joins: x[c, y s + i d - p, ...] w[o, i, j].
    fn triples(g: &Geometry, [c, h, w]: [usize; 3], per: usize, out: [usize; 2]) -> Vec<[usize; 3]> {
        let (before, [kh, kw]) = (g.pad_before([h, w], out), g.kernel);
        let mut found = Vec::new();
        for (o, y, z) in (0..c * per).flat_map(|o| (0..out[0]).flat_map(move |y| (0..out[1]).map(move |z| (o, y, z)))) {
            for (i, j) in (0..kh).flat_map(|i| (0..kw).map(move |j| (i, j))) {
                let row = (y * g.stride[0] + i * g.dilation[0]).checked_sub(before[0]).filter(|&row| row < h);
                let column = (z * g.stride[1] + j * g.dilation[1]).checked_sub(before[1]).filter(|&column| column < w);
                if let (Some(row), Some(column)) = (row, column) {
                    let x = (o / per * h + row) * w + column;
                    found.push([x, (o * out[0] + y) * out[1] + z, (o * kh + i) * kw + j]);
                }
            }
        }
        found
    }

    #[test]
    fn forward_and_backward_agree_with_the_definition() {
        let square = |k: usize, s: usize, p: usize| Geometry::explicit([k, k], [s, s], [p, p], [p, p]);
        for (geometry, size) in [
            (square(3, 1, 1), [7, 7]),
            (square(3, 1, 1), [30, 41]),
            (square(3, 2, 1), [14, 15]),
            (square(5, 2, 2), [9, 8]),
            (square(7, 1, 3), [5, 6]),
            (square(2, 3, 0), [8, 11]),
            (square(1, 2, 0), [5, 5]),
            (square(3, 1, 9), [2, 3]),
            (Geometry::same([3, 3], [2, 2], true), [8, 8]),
            (Geometry::same([4, 2], [2, 3], false), [9, 10]),
            (Geometry::explicit([3, 3], [2, 1], [2, 0], [0, 3]).dilated([2, 3]), [11, 13]),
        ] {
            for per in [1, 2] {
                let channels = 3;
                let geometry = geometry.clone().grouped(channels);
                let (taps, out) = (geometry.kernel[0] * geometry.kernel[1], geometry.output(size).unwrap());
                let rows = channels * per;
                let frozen = Frozen {
                    weight: FrozenWeight {
                        out_dim: rows,
                        in_dim: taps,
                        codes: Codes::F32(wave(rows * taps, 0.3).into()),
                    },
                    bias: wave(rows, 0.8),
                };
                let Codes::F32(w) = &frozen.weight.codes else { unreachable!() };
                let (x, dy) = (wave(channels * size[0] * size[1], 0.1), wave(rows * out[0] * out[1], 0.6));
                let mut y: Vec<f32> =
                    frozen.bias.iter().flat_map(|b| std::iter::repeat_n(*b, out[0] * out[1])).collect();
                let mut dx = vec![0.5; x.len()];
                for [from, to, weight] in triples(&geometry, [channels, size[0], size[1]], per, out) {
                    y[to] += w[weight] * x[from];
                    dx[from] += w[weight] * dy[to];
                }
                let clip = [-0.5, 0.75];
                y.iter_mut().for_each(|y| *y = y.clamp(clip[0], clip[1]));
                let (mut our_y, mut our_dx) = (vec![f32::NAN; y.len()], vec![0.5; x.len()]);
                let around = Around { bias: &frozen.bias, clip: Some(clip), ..Around::default() };
                forward(&geometry, &frozen, 0..channels, [Around::default(), around], (size, &x), (out, &mut our_y));
                backward(&geometry, &frozen, (out, &dy), (size, &mut our_dx));
                let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5);
                assert!(close(&our_y, &y), "{geometry:?} on {size:?}");
                assert!(close(&our_dx, &dx), "{geometry:?} on {size:?}, backward");
            }
        }
    }

    #[test]
    fn a_small_map_has_the_same_bits_flat_and_on_the_lattice() {
        let square = |k: usize, s: usize, p: usize| Geometry::explicit([k, k], [s, s], [p, p], [p, p]);
        for (geometry, size) in [
            (square(3, 1, 1), [7, 7]),
            (square(3, 1, 1), [14, 14]),
            (square(3, 2, 1), [14, 14]),
            (square(3, 2, 1), [7, 7]),
            (square(5, 1, 2), [7, 7]),
            (square(5, 2, 2), [9, 8]),
            (square(3, 1, 0), [9, 8]),
            (square(2, 3, 0), [8, 11]),
            (Geometry::same([3, 3], [2, 2], true), [8, 8]),
            (Geometry::explicit([3, 3], [2, 1], [2, 0], [0, 3]).dilated([2, 3]), [11, 13]),
        ] {
            let (group, out) = (5, geometry.output(size).unwrap());
            let geometry = geometry.grouped(group);
            let (pixels, outputs) = (size[0] * size[1], out[0] * out[1]);
            let in_dim = geometry.kernel[0] * geometry.kernel[1];
            let codes = Codes::F32(wave(2 * group * in_dim, 0.3).into());
            let frozen =
                Frozen { weight: FrozenWeight { out_dim: 2 * group, in_dim, codes }, bias: wave(2 * group, 0.8) };
            let (x, dy) = (wave(group * pixels, 0.1), wave(2 * group * outputs, 0.6));
            let around = Around { bias: &frozen.bias, clip: Some([-0.5, 0.75]), ..Around::default() };
            let lattice = || Lattice::new(&geometry, size, out);
            assert!(Flat::new(&geometry, size, out).is_some(), "{geometry:?} on {size:?} is not flat");
            for around in [[Around::default(), around], [around, Around::default()]] {
                let [mut flat, mut other] = [(); 2].map(|()| vec![f32::NAN; dy.len()]);
                forward(&geometry, &frozen, 0..group, around, (size, &x), (out, &mut flat));
                let y = &mut other;
                let (lattice, channels) = (lattice(), 0..group);
                Arch::new().dispatch(Forward { lattice, group, frozen: &frozen, channels, around, x: &x, y });
                assert_eq!(bits(&flat), bits(&other), "{geometry:?} on {size:?}");
            }
            let [mut flat, mut other] = [(); 2].map(|()| wave(x.len(), 0.5));
            backward(&geometry, &frozen, (out, &dy), (size, &mut flat));
            let dx = &mut other;
            Arch::new().dispatch(Backward { lattice: lattice(), group, frozen: &frozen, dy: &dy, dx });
            assert_eq!(bits(&flat), bits(&other), "{geometry:?} on {size:?}, backward");
        }
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }
}
