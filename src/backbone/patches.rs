//! From an image map to the columns that a convolution's weight multiplies, and back.

use ndarray::{Array2, ArrayView3, ArrayViewMut3};

use super::sites::ConvGeometry;

/// Columns of x: `[channels * kh * kw, oh * ow]`, entry (c, i, j; y, z) = x[c, y sh + i - ph, z sw + j - pw], 0 outside.
///
/// `x` is channels x height x width, `output` the convolution's output size (height, width).
pub(crate) fn unfold(geometry: &ConvGeometry, x: ArrayView3<f32>, output: [usize; 2]) -> Array2<f32> {
    let (channels, height, width) = x.dim();
    let mut columns = Array2::zeros((channels * geometry.kernel[0] * geometry.kernel[1], output[0] * output[1]));
    for tap in taps(geometry, channels, [height, width], output) {
        let mut row = columns.row_mut(tap.row);
        tap.each(geometry, |out, iy, ix| row[out] = x[[tap.channel, iy, ix]]);
    }
    columns
}

/// The transpose of [`unfold`]: adds every entry of `columns` to the pixel it was taken from.
pub(crate) fn fold_into(
    geometry: &ConvGeometry,
    columns: &Array2<f32>,
    output: [usize; 2],
    mut dx: ArrayViewMut3<f32>,
) {
    let (channels, height, width) = dx.dim();
    for tap in taps(geometry, channels, [height, width], output) {
        let row = columns.row(tap.row);
        tap.each(geometry, |out, iy, ix| dx[[tap.channel, iy, ix]] += row[out]);
    }
}

/// One row of the columns: a kernel position in one channel, with the outputs for which it lies inside the image.
struct Tap {
    row: usize,
    channel: usize,
    offset: [isize; 2],
    inside: [std::ops::Range<usize>; 2],
    output_width: usize,
}

impl Tap {
    fn each(&self, geometry: &ConvGeometry, mut visit: impl FnMut(usize, usize, usize)) {
        for y in self.inside[0].clone() {
            let iy = (y * geometry.stride[0]).wrapping_add_signed(self.offset[0]);
            for z in self.inside[1].clone() {
                let ix = (z * geometry.stride[1]).wrapping_add_signed(self.offset[1]);
                visit(y * self.output_width + z, iy, ix);
            }
        }
    }
}

fn taps(
    geometry: &ConvGeometry,
    channels: usize,
    input: [usize; 2],
    output: [usize; 2],
) -> impl Iterator<Item = Tap> + '_ {
    let before = geometry.pad_before(input, output);
    let [kh, kw] = geometry.kernel;
    (0..channels * kh * kw).map(move |row| {
        let at = [row / kw % kh, row % kw];
        let offset = [0, 1].map(|axis| at[axis] as isize - before[axis] as isize);
        let inside = [0, 1].map(|axis| inside(input[axis], output[axis], geometry.stride[axis], offset[axis]));
        Tap { row, channel: row / (kh * kw), offset, inside, output_width: output[1] }
    })
}

/// Outputs o with 0 <= o * stride + offset < input.
fn inside(input: usize, output: usize, stride: usize, offset: isize) -> std::ops::Range<usize> {
    let first = offset.min(0).unsigned_abs().div_ceil(stride);
    let room = input as isize - offset;
    let end = if room <= 0 { 0 } else { (room as usize).div_ceil(stride) };
    first.min(output)..end.clamp(first.min(output), output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::sites::Padding;
    use ndarray::Array3;

    fn naive(g: &ConvGeometry, x: &Array3<f32>, out: [usize; 2]) -> Array2<f32> {
        let (c, h, w) = x.dim();
        let before = g.pad_before([h, w], out);
        Array2::from_shape_fn((c * g.kernel[0] * g.kernel[1], out[0] * out[1]), |(r, p)| {
            let (ch, i, j) = (r / (g.kernel[0] * g.kernel[1]), r / g.kernel[1] % g.kernel[0], r % g.kernel[1]);
            let y = (p / out[1] * g.stride[0] + i) as isize - before[0] as isize;
            let z = (p % out[1] * g.stride[1] + j) as isize - before[1] as isize;
            if y < 0 || z < 0 || y >= h as isize || z >= w as isize { 0.0 } else { x[[ch, y as usize, z as usize]] }
        })
    }

    #[test]
    fn unfold_agrees_with_the_definition_and_fold_is_its_transpose() {
        for (kernel, stride, padding, out) in [
            ([1, 1], [1, 1], Padding::Explicit([0, 0]), [5, 7]),
            ([1, 1], [2, 2], Padding::Explicit([0, 0]), [3, 4]),
            ([3, 3], [1, 1], Padding::Explicit([1, 1]), [5, 7]),
            ([3, 3], [2, 2], Padding::Explicit([1, 1]), [3, 4]),
            ([5, 3], [2, 1], Padding::SameUpper, [3, 7]),
            ([4, 4], [4, 4], Padding::Explicit([0, 0]), [1, 1]),
            ([7, 7], [2, 2], Padding::Explicit([3, 3]), [3, 4]),
            ([2, 2], [1, 1], Padding::SameLower, [5, 7]),
        ] {
            let g = ConvGeometry { kernel, stride, padding };
            let x = Array3::from_shape_fn((2, 5, 7), |(c, y, z)| (c * 100 + y * 10 + z) as f32 + 1.0);
            let columns = unfold(&g, x.view(), out);
            assert_eq!(columns, naive(&g, &x, out), "{g:?}");
            let weights = columns.mapv(|v| (v * 0.37).sin());
            let mut dx = Array3::zeros(x.dim());
            fold_into(&g, &weights, out, dx.view_mut());
            // <unfold(x), w> = <x, fold(w)>
            let (left, right) = ((&columns * &weights).sum(), (&x * &dx).sum());
            assert!((left - right).abs() <= 1e-3 * left.abs().max(1.0), "{g:?}: {left} against {right}");
        }
    }
}
