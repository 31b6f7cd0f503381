//! From an image map to the columns that a convolution's weight multiplies, and back.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::backbone::maps::Geometry;

/// Some of the output rows of one image.
pub(crate) struct Band {
    /// Of the input.
    pub(crate) channels: usize,
    /// Height and width of the input.
    pub(crate) input: [usize; 2],
    /// Height and width of the whole output.
    pub(crate) output: [usize; 2],
    /// The output rows meant.
    pub(crate) rows: Range<usize>,
}

/// Columns of x: `[channels * kh * kw, rows * ow]`, entry (c, i, j; y, z) = x[c, y sh + i dh - ph, z sw + j dw - pw],
/// 0 outside.
///
/// `x` is channels x height x width, `columns` as said, both row-major.
pub(crate) fn unfold(geometry: &Geometry, band: &Band, x: &[f32], columns: &mut [f32]) {
    for (tap, row) in band.taps(geometry).zip(columns.chunks_exact_mut(band.pixels().max(1))) {
        if let Some((run, from)) = tap.whole_run(geometry, band) {
            row[..run.start].fill(0.0);
            row[run.end..].fill(0.0);
            row[run.clone()].copy_from_slice(&x[from..from + run.len()]);
            tap.clear_seams(band, row);
        } else {
            row.fill(0.0);
            tap.each_run(geometry, band, |out, from| {
                take_every(geometry.stride[1], &x[from..], &mut row[out]);
            });
        }
    }
}

/// The transpose of [`unfold`]: adds every entry of `columns` to the pixel it was taken from. Entries that were taken from
/// outside the image may be lost.
pub(crate) fn fold_into(geometry: &Geometry, band: &Band, columns: &mut [f32], dx: &mut [f32]) {
    Arch::new().dispatch(Fold { geometry, band, columns, dx });
}

/// A struct and not a closure, so that its loops are compiled for the processor's vectors.
struct Fold<'f> {
    geometry: &'f Geometry,
    band: &'f Band,
    columns: &'f mut [f32],
    dx: &'f mut [f32],
}

impl WithSimd for Fold<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Fold { geometry, band, columns, dx } = self;
        for (tap, row) in band.taps(geometry).zip(columns.chunks_exact_mut(band.pixels().max(1))) {
            if let Some((run, to)) = tap.whole_run(geometry, band) {
                tap.clear_seams(band, row);
                add_every(1, &mut dx[to..to + run.len()], &row[run]);
            } else {
                tap.each_run(geometry, band, |out, to| {
                    add_every(geometry.stride[1], &mut dx[to..], &row[out]);
                });
            }
        }
    }
}

/// to[i] = from[i stride]. Strides 1 and 2 are written so that the compiler makes vector loops of them.
#[inline(always)]
pub(super) fn take_every(stride: usize, from: &[f32], to: &mut [f32]) {
    match stride {
        1 => to.copy_from_slice(&from[..to.len()]),
        2 => {
            let (pairs, rest) = from.as_chunks::<2>();
            to.iter_mut().zip(pairs).for_each(|(to, pair)| *to = pair[0]);
            // An odd run ends in the middle of a pair.
            to.iter_mut().skip(pairs.len()).zip(rest).for_each(|(to, x)| *to = *x);
        }
        _ => to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, x)| *to = *x),
    }
}

/// to[i stride] += from[i].
#[inline(always)]
pub(super) fn add_every(stride: usize, to: &mut [f32], from: &[f32]) {
    match stride {
        1 => to.iter_mut().zip(from).for_each(|(to, x)| *to += x),
        _ => to.iter_mut().step_by(stride).zip(from).for_each(|(to, x)| *to += x),
    }
}

/// One kernel position in one channel, with the outputs for which it lies inside the image.
pub(crate) struct Tap {
    channel: usize,
    offset: [isize; 2],
    inside: [Range<usize>; 2],
}

impl Tap {
    /// Calls `visit` once per output row that the tap reaches: the outputs, counted from the band's first, and the index
    /// of the first one's pixel; the next pixel is a stride further.
    pub(crate) fn each_run(&self, geometry: &Geometry, band: &Band, mut visit: impl FnMut(Range<usize>, usize)) {
        let columns = &self.inside[1];
        if columns.is_empty() {
            return;
        }
        let [height, width] = band.input;
        let first = (columns.start * geometry.stride[1]).wrapping_add_signed(self.offset[1]);
        for y in self.inside[0].clone() {
            let row = (y * geometry.stride[0]).wrapping_add_signed(self.offset[0]);
            let out = (y - band.rows.start) * band.output[1];
            visit(out + columns.start..out + columns.end, (self.channel * height + row) * width + first);
        }
    }
}

impl Tap {
    /// All runs as one, where the next row of the input follows as closely as the next row of the output: from the first
    /// output that the tap reaches to the last, and the index of the first one's pixel. Between two rows lies a seam of
    /// outputs that the tap does not reach.
    #[inline(always)]
    fn whole_run(&self, geometry: &Geometry, band: &Band) -> Option<(Range<usize>, usize)> {
        let [rows, columns] = &self.inside;
        let width = band.input[1];
        if geometry.stride != [1, 1] || band.output[1] != width || rows.is_empty() || columns.is_empty() {
            return None;
        }
        let [above, below] = [rows.start, rows.end - 1].map(|y| (y - band.rows.start) * width);
        let row = rows.start.wrapping_add_signed(self.offset[0]);
        let from = (self.channel * band.input[0] + row) * width + columns.start.wrapping_add_signed(self.offset[1]);
        Some((above + columns.start..below + columns.end, from))
    }

    /// Sets the seams of the tap's whole run to 0.
    #[inline(always)]
    fn clear_seams(&self, band: &Band, row: &mut [f32]) {
        let [rows, columns] = &self.inside;
        let width = band.output[1];
        let seam = width - columns.len();
        for y in rows.clone().skip(1) {
            let end = (y - band.rows.start) * width + columns.start;
            row[end - seam..end].iter_mut().for_each(|entry| *entry = 0.0);
        }
    }
}

impl Band {
    /// Output pixels in the band.
    fn pixels(&self) -> usize {
        self.rows.len() * self.output[1]
    }

    /// Every tap, in the order channel, kernel row, kernel column.
    pub(crate) fn taps(&self, geometry: &Geometry) -> impl Iterator<Item = Tap> + use<> {
        let before = geometry.pad_before(self.input, self.output);
        let ([kh, kw], stride, dilation) = (geometry.kernel, geometry.stride, geometry.dilation);
        let (input, output, band) = (self.input, self.output, self.rows.clone());
        let reach = move |axis: usize, at: usize| {
            let offset = (at * dilation[axis]) as isize - before[axis] as isize;
            (offset, inside(input[axis], output[axis], stride[axis], offset))
        };
        (0..self.channels).flat_map(move |channel| {
            let band = band.clone();
            (0..kh).flat_map(move |i| {
                let (down, rows) = reach(0, i);
                let first = rows.start.max(band.start);
                let rows = first..rows.end.min(band.end).max(first);
                (0..kw).map(move |j| {
                    let (right, columns) = reach(1, j);
                    Tap { channel, offset: [down, right], inside: [rows.clone(), columns] }
                })
            })
        })
    }
}

/// Outputs o with 0 <= o * stride + offset < input.
fn inside(input: usize, output: usize, stride: usize, offset: isize) -> Range<usize> {
    // Most strides are 1, and a division would take as long as a row.
    let steps = |pixels: usize| if stride == 1 { pixels } else { pixels.div_ceil(stride) };
    let first = steps(offset.min(0).unsigned_abs());
    let room = input as isize - offset;
    let end = if room <= 0 { 0 } else { steps(room as usize) };
    first.min(output)..end.clamp(first.min(output), output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Array3};

    fn naive(g: &Geometry, x: &Array3<f32>, out: [usize; 2]) -> Array2<f32> {
        let (c, h, w) = x.dim();
        let before = g.pad_before([h, w], out);
        Array2::from_shape_fn((c * g.kernel[0] * g.kernel[1], out[0] * out[1]), |(r, p)| {
            let (ch, i, j) = (r / (g.kernel[0] * g.kernel[1]), r / g.kernel[1] % g.kernel[0], r % g.kernel[1]);
            let y = (p / out[1] * g.stride[0] + i * g.dilation[0]) as isize - before[0] as isize;
            let z = (p % out[1] * g.stride[1] + j * g.dilation[1]) as isize - before[1] as isize;
            if y < 0 || z < 0 || y >= h as isize || z >= w as isize { 0.0 } else { x[[ch, y as usize, z as usize]] }
        })
    }

    #[test]
    fn unfold_agrees_with_the_definition_and_fold_is_its_transpose() {
        let dilated = Geometry::explicit([3, 3], [1, 2], [2, 1], [2, 1]).dilated([2, 1]);
        for (g, out) in [
            (Geometry::explicit([1, 1], [1, 1], [0, 0], [0, 0]), [5, 7]),
            (Geometry::explicit([1, 1], [2, 2], [0, 0], [0, 0]), [3, 4]),
            (Geometry::explicit([3, 3], [1, 1], [1, 1], [1, 1]), [5, 7]),
            (Geometry::explicit([3, 3], [2, 2], [1, 1], [1, 1]), [3, 4]),
            (Geometry::explicit([3, 3], [2, 2], [0, 0], [1, 1]), [2, 3]),
            (Geometry::same([5, 3], [2, 1], true), [3, 7]),
            (Geometry::explicit([4, 4], [4, 4], [0, 0], [0, 0]), [1, 1]),
            (Geometry::explicit([3, 3], [1, 1], [1, 2], [1, 0]), [5, 7]),
            (Geometry::explicit([7, 7], [2, 2], [3, 3], [3, 3]), [3, 4]),
            (Geometry::same([2, 2], [1, 1], false), [5, 7]),
            (dilated, [5, 4]),
        ] {
            assert_eq!(g.output([5, 7]), Some(out), "{g:?}");
            let x = Array3::from_shape_fn((2, 5, 7), |(c, y, z)| (c * 100 + y * 10 + z) as f32 + 1.0);
            let expected = naive(&g, &x, out);
            let mut dx = vec![0.0; x.len()];
            let mut products = 0.0;
            for first in (0..out[0]).step_by(2) {
                let band = Band { channels: 2, input: [5, 7], output: out, rows: first..out[0].min(first + 2) };
                let pixels = first * out[1]..band.rows.end * out[1];
                let mut columns = Array2::from_elem((expected.nrows(), pixels.len()), f32::NAN);
                unfold(&g, &band, x.as_slice().unwrap(), columns.as_slice_mut().unwrap());
                assert_eq!(columns, expected.slice(ndarray::s![.., pixels]), "{g:?}");
                let mut weights = columns.mapv(|v| (v * 0.37).cos());
                products += (&columns * &weights).sum();
                fold_into(&g, &band, weights.as_slice_mut().unwrap(), &mut dx);
            }
            // <unfold(x), w> = <x, fold(w)>
            let folded: f32 = x.iter().zip(&dx).map(|(x, d)| x * d).sum();
            assert!((products - folded).abs() <= 1e-3 * products.abs().max(1.0), "{g:?}: {products} against {folded}");
        }
    }
}
