//! Depthwise convolution: every output channel sees one input channel, so there is no matrix to multiply with.
//!
//! A channel is laid out as a lattice: one zero-padded plane for every phase of the stride, all rows of the same pitch. There
//! each tap of the kernel reads a run of floats at a fixed distance from the output's, whatever the stride, so that a whole
//! channel is one loop of multiply-adds over long vectors. What falls between the rows is computed and dropped.

use pulp::{Arch, Simd, WithSimd};

use super::fuse::Clip;
use super::geometry::Geometry;
use super::product::Frozen;
use crate::adapter::scratch::Scratch;

/// Lengths are multiples of this, so that no vector reaches past an end: four vectors of 16 floats.
const LINE: usize = 64;

/// Whether a convolution of `channels` input channels is depthwise (a channel may have more than one output).
pub(super) fn is(geometry: &Geometry, channels: usize) -> bool {
    geometry.group == channels && channels > 1
}

/// y[o] = clip(b[o] + sum over taps of w[o, tap] x[channel of o, tap's pixels]); x and y are one image.
pub(super) fn forward(
    geometry: &Geometry,
    frozen: &Frozen,
    clip: Option<Clip>,
    (input, x): ([usize; 2], &[f32]),
    (output, y): ([usize; 2], &mut [f32]),
) {
    let lattice = Lattice::new(geometry, input, output);
    let [low, high] = clip.unwrap_or([f32::NEG_INFINITY, f32::INFINITY]);
    let per_channel = frozen.weight.out_dim / geometry.group;
    let mut planes = Scratch::zeros(lattice.phases() * lattice.plane);
    let mut sums = Scratch::of(lattice.sums());
    let mut taps = lattice.taps(|plane, offset| plane * lattice.plane + offset);
    let mut weights = Scratch::of(taps.len());
    for (channel, x) in x.chunks_exact((input[0] * input[1]).max(1)).enumerate() {
        lattice.each_run(|run| run.from_image(x, &mut planes));
        for o in channel * per_channel..(channel + 1) * per_channel {
            frozen.weight.view().row_into(o, &mut weights);
            taps.iter_mut().zip(weights.iter()).for_each(|(tap, w)| tap.weight = *w);
            let start = frozen.bias.get(o).copied().unwrap_or(0.0);
            Arch::new().dispatch(Correlate { out: &mut sums, x: &planes, taps: &taps, start });
            let y = y[o * output[0] * output[1]..].chunks_exact_mut(output[1].max(1)).take(output[0]);
            for (y, sums) in y.zip(sums.chunks_exact(lattice.pitch)) {
                y.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum.clamp(low, high));
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
    let lattice = Lattice::new(geometry, input, output);
    let per_channel = frozen.weight.out_dim / geometry.group;
    // dy with zeros between and around its rows: the plane of phase p gets sum w[tap] dy[place - offset of tap].
    let before = lattice.reach;
    let mut sources = Scratch::zeros((before + lattice.plane).next_multiple_of(LINE));
    let mut planes = Scratch::of(lattice.phases() * lattice.plane);
    let mut taps: Vec<Vec<Tap>> = vec![Vec::new(); lattice.phases()];
    let mut places = Vec::new();
    lattice.taps(|plane, offset| {
        places.push((plane, taps[plane].len()));
        taps[plane].push(Tap { offset: before - offset, weight: 0.0 });
        0
    });
    let mut weights = Scratch::of(places.len());
    for (channel, dx) in dx.chunks_exact_mut((input[0] * input[1]).max(1)).enumerate() {
        for o in channel * per_channel..(channel + 1) * per_channel {
            let rows = dy[o * output[0] * output[1]..].chunks_exact(output[1].max(1)).take(output[0]);
            for (row, source) in rows.zip(sources[before..].chunks_exact_mut(lattice.pitch)) {
                source[..row.len()].copy_from_slice(row);
            }
            frozen.weight.view().row_into(o, &mut weights);
            places.iter().zip(weights.iter()).for_each(|(&(plane, at), w)| taps[plane][at].weight = *w);
            for (taps, out) in taps.iter().zip(planes.chunks_exact_mut(lattice.plane)) {
                Arch::new().dispatch(Correlate { out, x: &sources, taps, start: 0.0 });
            }
            lattice.each_run(|run| run.add_to_image(&planes, dx));
        }
    }
}

/// One tap of a kernel: how far from the output's place it reads, and its weight.
#[derive(Debug, Clone, Copy)]
struct Tap {
    offset: usize,
    weight: f32,
}

/// out[i] = start + sum over taps of weight x[i + offset], for whole blocks of vectors.
struct Correlate<'c> {
    out: &'c mut [f32],
    x: &'c [f32],
    taps: &'c [Tap],
    start: f32,
}

impl WithSimd for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (out, _) = S::as_mut_simd_f32s(self.out);
        let (blocks, rest) = out.as_chunks_mut::<4>();
        let start = simd.splat_f32s(self.start);
        let done = 4 * S::F32_LANES * blocks.len();
        for (at, block) in blocks.iter_mut().enumerate() {
            let mut sums = [start; 4];
            for tap in self.taps {
                let weight = simd.splat_f32s(tap.weight);
                let x = self.x.get(at * 4 * S::F32_LANES + tap.offset..).unwrap_or_default();
                let (x, _) = S::as_simd_f32s(x);
                if let Some(x) = x.first_chunk::<4>() {
                    for (sum, &x) in sums.iter_mut().zip(x) {
                        *sum = simd.mul_add_e_f32s(weight, x, *sum);
                    }
                }
            }
            *block = sums;
        }
        for (at, out) in rest.iter_mut().enumerate() {
            *out = start;
            for tap in self.taps {
                let x = self.x.get(done + at * S::F32_LANES + tap.offset..).unwrap_or_default();
                if let Some(&x) = S::as_simd_f32s(x).0.first() {
                    *out = simd.mul_add_e_f32s(simd.splat_f32s(tap.weight), x, *out);
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
    fn from_image(&self, x: &[f32], planes: &mut [f32]) {
        let (from, to) = (&x[self.pixel..], &mut planes[self.place..self.place + self.len]);
        match self.step {
            1 => to.copy_from_slice(&from[..self.len]),
            step => to.iter_mut().zip(from.iter().step_by(step)).for_each(|(to, x)| *to = *x),
        }
    }

    fn add_to_image(&self, planes: &[f32], dx: &mut [f32]) {
        let (from, to) = (&planes[self.place..self.place + self.len], &mut dx[self.pixel..]);
        match self.step {
            1 => to.iter_mut().zip(from).for_each(|(dx, d)| *dx += d),
            step => to.iter_mut().step_by(step).zip(from).for_each(|(dx, d)| *dx += d),
        }
    }
}

impl Lattice {
    fn new(geometry: &Geometry, input: [usize; 2], output: [usize; 2]) -> Self {
        let Geometry { stride, dilation, kernel, .. } = *geometry;
        let furthest = |axis: usize| kernel[axis].saturating_sub(1) * dilation[axis] / stride[axis];
        let pitch = output[1] + furthest(1);
        let reach = furthest(0) * pitch + furthest(1);
        let plane = ((output[0] * pitch).next_multiple_of(LINE) + reach).next_multiple_of(LINE);
        let before = geometry.pad_before(input, output);
        Lattice { stride, dilation, kernel, before, input, output, pitch, plane, reach }
    }

    fn phases(&self) -> usize {
        self.stride[0] * self.stride[1]
    }

    /// Floats of a channel's output, rows a pitch apart.
    fn sums(&self) -> usize {
        (self.output[0] * self.pitch).next_multiple_of(LINE)
    }

    /// A tap for every kernel position, row by row, at the offset that `offset_of` makes of its plane and its offset there.
    fn taps(&self, mut offset_of: impl FnMut(usize, usize) -> usize) -> Vec<Tap> {
        let [rows, columns] = self.kernel;
        let mut tap = |at: usize| {
            let [y, z] = [at / columns * self.dilation[0], at % columns * self.dilation[1]];
            let plane = y % self.stride[0] * self.stride[1] + z % self.stride[1];
            let offset = y / self.stride[0] * self.pitch + z / self.stride[1];
            Tap { offset: offset_of(plane, offset), weight: 0.0 }
        };
        (0..rows * columns).map(&mut tap).collect()
    }

    /// Calls `visit` with every run of pixels that some tap reads.
    fn each_run(&self, mut visit: impl FnMut(Run)) {
        let furthest = |axis: usize| self.kernel[axis].saturating_sub(1) * self.dilation[axis] / self.stride[axis];
        let rows = self.output[0] + furthest(0);
        for y in 0..self.input[0] {
            let padded = y + self.before[0];
            let (row, phase) = (padded / self.stride[0], padded % self.stride[0]);
            if row >= rows {
                break;
            }
            for z in 0..self.stride[1].min(self.input[1]) {
                let padded = z + self.before[1];
                let (column, side) = (padded / self.stride[1], padded % self.stride[1]);
                let plane = (phase * self.stride[1] + side) * self.plane;
                let len = (self.input[1] - z).div_ceil(self.stride[1]).min(self.pitch.saturating_sub(column));
                let place = plane + row * self.pitch + column;
                if len > 0 {
                    visit(Run { pixel: y * self.input[1] + z, step: self.stride[1], place, len });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::weight::{Codes, FrozenWeight};
    use super::*;

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
                    weight: FrozenWeight { out_dim: rows, in_dim: taps, codes: Codes::F32(wave(rows * taps, 0.3)) },
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
                forward(&geometry, &frozen, Some(clip), (size, &x), (out, &mut our_y));
                backward(&geometry, &frozen, (out, &dy), (size, &mut our_dx));
                let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5);
                assert!(close(&our_y, &y), "{geometry:?} on {size:?}");
                assert!(close(&our_dx, &dx), "{geometry:?} on {size:?}, backward");
            }
        }
    }
}
