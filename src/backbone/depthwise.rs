//! Depthwise convolution: every output channel sees one input channel, so there is no matrix to multiply with.

use super::geometry::Geometry;
use super::patches::{Band, Tap};
use super::product::Frozen;
use super::scratch::Scratch;

/// Whether a convolution of `channels` input channels is depthwise (a channel may have more than one output).
pub(super) fn is(geometry: &Geometry, channels: usize) -> bool {
    geometry.group == channels && channels > 1
}

/// y[o] = b[o] + sum over taps of w[o, tap] x[channel of o, tap's pixels]; x and y are one image.
pub(super) fn forward(
    geometry: &Geometry,
    frozen: &Frozen,
    (input, x): ([usize; 2], &[f32]),
    (output, y): ([usize; 2], &mut [f32]),
) {
    each_channel(geometry, frozen, input, output, |o, from, weights, taps, band| {
        let y = &mut y[o * output[0] * output[1]..][..output[0] * output[1]];
        y.fill(frozen.bias.get(o).copied().unwrap_or(0.0));
        let x = &x[from..];
        for (tap, &w) in taps.iter().zip(weights) {
            tap.each_run(geometry, band, |out, from| add(w, &x[from..], geometry.stride[1], &mut y[out]));
        }
    });
}

/// dx[channel of o, tap's pixels] += w[o, tap] dy[o].
pub(super) fn backward(
    geometry: &Geometry,
    frozen: &Frozen,
    (output, dy): ([usize; 2], &[f32]),
    (input, dx): ([usize; 2], &mut [f32]),
) {
    each_channel(geometry, frozen, input, output, |o, to, weights, taps, band| {
        let dy = &dy[o * output[0] * output[1]..][..output[0] * output[1]];
        let dx = &mut dx[to..];
        for (tap, &w) in taps.iter().zip(weights) {
            tap.each_run(geometry, band, |out, to| add_back(w, &dy[out], geometry.stride[1], &mut dx[to..]));
        }
    });
}

/// y += w x, with x taken every `stride` floats.
fn add(w: f32, x: &[f32], stride: usize, y: &mut [f32]) {
    match stride {
        // Without a step the compiler makes it a vector loop.
        1 => y.iter_mut().zip(x).for_each(|(y, x)| *y += w * x),
        _ => y.iter_mut().zip(x.iter().step_by(stride)).for_each(|(y, x)| *y += w * x),
    }
}

/// dx += w dy, with dx taken every `stride` floats.
fn add_back(w: f32, dy: &[f32], stride: usize, dx: &mut [f32]) {
    match stride {
        1 => dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += w * dy),
        _ => dx.iter_mut().step_by(stride).zip(dy).for_each(|(dx, dy)| *dx += w * dy),
    }
}

/// Calls `visit` with every output channel, the first index of its input channel, its weights in f32 and its taps.
fn each_channel(
    geometry: &Geometry,
    frozen: &Frozen,
    input: [usize; 2],
    output: [usize; 2],
    mut visit: impl FnMut(usize, usize, &[f32], &[Tap], &Band),
) {
    let band = Band { channels: 1, input, output, rows: 0..output[0] };
    let taps: Vec<Tap> = band.taps(geometry).collect();
    let per_channel = frozen.weight.out_dim / geometry.group;
    let mut weights = Scratch::of(taps.len());
    for o in 0..frozen.weight.out_dim {
        frozen.weight.view().row_into(o, &mut weights);
        visit(o, o / per_channel * input[0] * input[1], &weights, &taps, &band);
    }
}
