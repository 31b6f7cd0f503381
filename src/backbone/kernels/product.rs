//! y = clip(W x + b) and its transpose, for frozen weights of any precision, with what a site adds.
//!
//! A convolution of group 1 is a matrix product with the image's columns, a band of output rows at a time. Neither the
//! columns of a whole image nor the f32 form of a whole weight ever exists.

use std::ops::Range;

use faer::prelude::ReborrowMut;
use faer::{Accum, MatMut, MatRef};
use pulp::{Arch, Simd, WithSimd};

use super::depthwise;
use super::operands::{Around, ImageSize};
use super::patches::{Band, fold_into, unfold};
use crate::adapter::SiteBuffers;
use crate::adapter::kernel::product;
use crate::adapter::scratch::Scratch;
use crate::backbone::maps::{Clip, Frozen, Geometry, cut};

/// Floats of columns that exist at a time: 256 KiB, unless that were too few columns.
const BAND: usize = 1 << 16;
/// Floats of x and y that a pointwise convolution works on at a time: 512 KiB, which stays in a level-2 cache until bias,
/// branch and clip have been added.
const POINTWISE_BAND: usize = 1 << 17;
/// Fewer columns than this are not worth a product of their own, for which W is made f32 again.
const FEWEST_COLUMNS: usize = 256;

impl Frozen {
    /// y = clip(W x + b + what the site adds). Shapes: x `[in_dim, positions]`, y `[out_dim, positions]`, both row-major
    /// (with any distance between rows) or both column-major.
    pub(crate) fn forward(&self, around: Around, x: MatRef<f32>, y: MatMut<f32>) {
        self.forward_rows(0, around, x, y);
    }

    /// dx = (W + what the site adds)^T dy. Shapes: dy `[out_dim, positions]`, dx `[in_dim, positions]`.
    pub(crate) fn backward(&self, site: Option<&SiteBuffers>, dy: MatRef<f32>, dx: MatMut<f32>) {
        self.backward_rows(0, site, dy, dx);
    }

    /// The rows of W and b from `first` on, as many as y has; the delta's blocks are added to W's tiles on the way, and so are
    /// pairs where that is less work.
    fn forward_rows(&self, first: usize, around: Around, x: MatRef<f32>, mut y: MatMut<f32>) {
        let (rows, join) = (y.nrows(), around.site.is_some_and(|site| site.joins_weight(x.ncols())));
        if let Some(site) = around.site {
            site.look_at(x);
        }
        self.weight.each_tile(first..first + rows, around.site, join, |start, tile| {
            product(y.rb_mut().subrows_mut(start, tile.nrows()), Accum::Replace, 1.0, tile, x);
        });
        let bias = around.bias.get(first..first + rows).unwrap_or_default();
        if let Some(site) = around.site.filter(|_| !join) {
            match around.projected {
                Some(projected) => site.add_projected(projected, y.rb_mut()),
                None => site.forward(x, y.rb_mut()),
            }
        }
        finish(y, bias, around.clip);
    }

    fn backward_rows(&self, first: usize, site: Option<&SiteBuffers>, dy: MatRef<f32>, mut dx: MatMut<f32>) {
        let (mut keep, join) = (Accum::Replace, site.is_some_and(|site| site.joins_weight(dy.ncols())));
        self.weight.each_tile(first..first + dy.nrows(), site, join, |start, tile| {
            product(dx.rb_mut(), keep, 1.0, tile.transpose(), dy.subrows(start, tile.nrows()));
            keep = Accum::Add;
        });
        if let Some(site) = site.filter(|_| !join) {
            site.pass_back(dy, dx);
        }
    }

    /// y = clip(conv(x, W) + b + what the site adds) of one image.
    pub(crate) fn convolve(
        &self,
        geometry: &Geometry,
        around: Around,
        (input, x): (ImageSize, &[f32]),
        (output, y): (ImageSize, &mut [f32]),
    ) {
        if depthwise::is_depthwise(geometry, input.channels) {
            let channels = 0..input.channels;
            let around = [Around::default(), around];
            return depthwise::forward(geometry, self, channels, around, (input.size, x), (output.size, y));
        }
        let groups = Groups::new(geometry, input, output);
        for group in 0..geometry.group {
            let (x, y) = (&x[groups.input(group)], &mut y[groups.output(group)]);
            let mut y = matrix_mut(groups.rows, output.pixels(), y);
            groups.each_band(geometry, x, |pixels, columns| {
                let y = y.rb_mut().subcols_mut(pixels.start, pixels.len());
                self.forward_rows(group * groups.rows, around, columns, y);
            });
        }
    }

    /// The output channels from `first` on of a pointwise convolution of one image, as many as `output` has.
    pub(crate) fn pointwise(
        &self,
        first: usize,
        around: Around,
        (input, x): (ImageSize, &[f32]),
        (output, y): (ImageSize, &mut [f32]),
    ) {
        let (x, mut y) = (matrix(input.channels, input.pixels(), x), matrix_mut(output.channels, output.pixels(), y));
        for pixels in pointwise_bands(output.pixels(), input.channels + output.channels) {
            let y = y.rb_mut().subcols_mut(pixels.start, pixels.len());
            self.forward_rows(first, around, x.subcols(pixels.start, pixels.len()), y);
        }
    }

    /// dx += the transposed convolution of dy with W and what the site adds, of one image; dx starts at 0.
    pub(crate) fn convolve_back(
        &self,
        geometry: &Geometry,
        site: Option<&SiteBuffers>,
        (output, dy): (ImageSize, &[f32]),
        (input, dx): (ImageSize, &mut [f32]),
    ) {
        if depthwise::is_depthwise(geometry, input.channels) {
            return depthwise::backward(geometry, self, (output.size, dy), (input.size, dx));
        }
        let groups = Groups::new(geometry, input, output);
        for group in 0..geometry.group {
            let (dy, dx) = (&dy[groups.output(group)], &mut dx[groups.input(group)]);
            let dy = matrix(groups.rows, output.pixels(), dy);
            groups.each_band_back(geometry, dx, |pixels, dcolumns| {
                self.backward_rows(group * groups.rows, site, dy.subcols(pixels.start, pixels.len()), dcolumns);
            });
        }
    }
}

/// y = clip(y + b), in one pass over y.
fn finish(y: MatMut<f32>, bias: &[f32], clip: Option<Clip>) {
    if bias.is_empty() && clip.is_none() {
        return;
    }
    let clip = clip.unwrap_or([f32::NEG_INFINITY, f32::INFINITY]);
    // A line is contiguous: a row of y with one bias, or a column with all of them.
    let by_column = y.row_stride() == 1;
    let lines = if by_column { y } else { y.transpose_mut() };
    Arch::new().dispatch(Finish { lines, by_column, bias, clip });
}

/// A struct and not a closure, so that its loops are compiled for the processor's vectors.
struct Finish<'f> {
    lines: MatMut<'f, f32>,
    by_column: bool,
    bias: &'f [f32],
    clip: Clip,
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Finish { mut lines, by_column, bias, clip } = self;
        for at in 0..lines.ncols() {
            let Some(line) = lines.rb_mut().col_mut(at).try_as_col_major_mut() else { continue };
            let line = line.as_slice_mut();
            match bias {
                [] => line.iter_mut().for_each(|y| *y = cut(*y, clip)),
                _ if by_column => line.iter_mut().zip(bias).for_each(|(y, b)| *y = cut(*y + b, clip)),
                _ => line.iter_mut().for_each(|y| *y = cut(*y + bias[at], clip)),
            }
        }
    }
}

/// Adds the gradients of a site's pairs for one image to `plane`.
pub(crate) fn convolve_pairs_back(
    geometry: &Geometry,
    site: &SiteBuffers,
    (output, dy): (ImageSize, &[f32]),
    (input, x): (ImageSize, &[f32]),
    plane: &mut [f32],
) {
    let groups = Groups::new(geometry, input, output);
    let dy = matrix(groups.rows, output.pixels(), dy);
    groups.each_band(geometry, x, |pixels, columns| {
        site.backward(columns, dy.subcols(pixels.start, pixels.len()), plane);
    });
}

/// A convolution's groups: each its own channels, rows of W and columns.
struct Groups {
    /// Rows of W in one group.
    rows: usize,
    /// Columns of W.
    in_dim: usize,
    channels: usize,
    input: ImageSize,
    output: ImageSize,
}

impl Groups {
    fn new(geometry: &Geometry, input: ImageSize, output: ImageSize) -> Self {
        let channels = input.channels / geometry.group;
        let in_dim = channels * geometry.kernel[0] * geometry.kernel[1];
        Groups { rows: output.channels / geometry.group, in_dim, channels, input, output }
    }

    fn input(&self, group: usize) -> Range<usize> {
        let len = self.channels * self.input.pixels();
        group * len..(group + 1) * len
    }

    fn output(&self, group: usize) -> Range<usize> {
        let len = self.rows * self.output.pixels();
        group * len..(group + 1) * len
    }

    /// The output rows that `pixels` fill.
    fn band(&self, pixels: Range<usize>) -> Band {
        let [height, width] = self.output.size;
        let rows = pixels.start / width.max(1)..pixels.end / width.max(1);
        Band { channels: self.channels, input: self.input.size, output: [height, width], rows }
    }

    /// Ranges of output pixels, whole rows, whose columns fit the band.
    fn bands(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let ([height, width], row) = (self.output.size, (self.in_dim * self.output.size[1]).max(1));
        let fewest = FEWEST_COLUMNS.div_ceil(width.max(1));
        let step = (BAND / row).max(fewest).min(height.max(1));
        (0..height).step_by(step).map(move |y| y * width..height.min(y + step) * width)
    }

    /// Calls `visit` with the columns of one group's image, band by band.
    fn each_band(&self, geometry: &Geometry, x: &[f32], mut visit: impl FnMut(Range<usize>, MatRef<f32>)) {
        if geometry.is_pointwise() {
            let columns = matrix(self.in_dim, self.output.pixels(), x);
            return pointwise_bands(self.output.pixels(), self.in_dim + self.rows)
                .for_each(|pixels| visit(pixels.clone(), columns.subcols(pixels.start, pixels.len())));
        }
        for pixels in self.bands() {
            let mut columns = Scratch::of(self.in_dim * pixels.len());
            unfold(geometry, &self.band(pixels.clone()), x, &mut columns);
            visit(pixels.clone(), matrix(self.in_dim, pixels.len(), &columns));
        }
    }

    /// Lets `make` fill the gradient of the columns band by band, and adds it to dx.
    fn each_band_back(&self, geometry: &Geometry, dx: &mut [f32], mut make: impl FnMut(Range<usize>, MatMut<f32>)) {
        if geometry.is_pointwise() {
            let mut dx = matrix_mut(self.in_dim, self.output.pixels(), dx);
            return pointwise_bands(self.output.pixels(), self.in_dim + self.rows)
                .for_each(|pixels| make(pixels.clone(), dx.rb_mut().subcols_mut(pixels.start, pixels.len())));
        }
        for pixels in self.bands() {
            let mut columns = Scratch::of(self.in_dim * pixels.len());
            make(pixels.clone(), matrix_mut(self.in_dim, pixels.len(), &mut columns));
            fold_into(geometry, &self.band(pixels.clone()), &mut columns, dx);
        }
    }
}

/// Whether a pointwise convolution sees so many pixels at once, however many channels it has.
pub(super) fn is_one_band(pixels: usize) -> bool {
    pixels <= FEWEST_COLUMNS
}

/// Ranges of pixels of a pointwise convolution with so many floats of x and y for each.
fn pointwise_bands(pixels: usize, floats: usize) -> impl Iterator<Item = Range<usize>> {
    let most = (POINTWISE_BAND / floats.max(1)).max(FEWEST_COLUMNS);
    let step = pixels.div_ceil(pixels.div_ceil(most).max(1)).max(1).next_multiple_of(16);
    (0..pixels).step_by(step).map(move |first| first..pixels.min(first + step))
}

fn matrix(rows: usize, columns: usize, values: &[f32]) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(values, rows, columns)
}

fn matrix_mut(rows: usize, columns: usize, values: &mut [f32]) -> MatMut<'_, f32> {
    MatMut::from_row_major_slice_mut(values, rows, columns)
}

#[cfg(test)]
mod tests {
    use faer::Mat;
    use half::f16;

    use super::*;
    use crate::adapter::{Adapter, DirectionsBuf, SiteSeed, SiteSettings};
    use crate::backbone::weights::{Codes, FrozenWeight};
    use crate::core::{FuseOrder, Recompose, Sides, Start};

    fn wave(n: usize, phase: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 1.37 + phase).sin()).collect()
    }

    fn frozen(out_dim: usize, in_dim: usize) -> Frozen {
        let codes = wave(out_dim * in_dim, 0.3).iter().map(|v| (v * 127.0) as i8).collect();
        let (scales, zeros) = (vec![0.004; out_dim], vec![-3; out_dim]);
        Frozen {
            weight: FrozenWeight { out_dim, in_dim, codes: Codes::Int8 { codes, scales, zeros } },
            bias: wave(out_dim, 0.8),
        }
    }

    fn adapter(out_dim: usize, in_dim: usize, start: Start, sides: Sides) -> Adapter {
        let half = |values: Vec<f32>| values.into_iter().map(f16::from_f32).collect();
        let directions = DirectionsBuf {
            sigma: (0..9).map(|k| 1.0 - 0.1 * k as f32).collect(),
            u: half(wave(9 * out_dim, 0.1)),
            v: half(wave(9 * in_dim, 0.2)),
        };
        let seeds = [SiteSeed::new("site", [out_dim, in_dim], directions)];
        Adapter::start(seeds, 3, SiteSettings { start, scale: 1.5, sides }, 2, 2).unwrap()
    }

    fn output(frozen: &Frozen, site: &SiteBuffers, x: &Mat<f32>) -> Mat<f32> {
        let mut y = Mat::zeros(frozen.weight.out_dim, x.ncols());
        frozen.forward(Around { bias: &frozen.bias, site: Some(site), ..Around::default() }, x.as_ref(), y.as_mut());
        y
    }

    fn wave_matrix(rows: usize, columns: usize, phase: f32) -> Mat<f32> {
        let values = wave(rows * columns, phase);
        Mat::from_fn(rows, columns, |i, j| values[i * columns + j])
    }

    #[test]
    fn every_fuse_moves_every_output_by_no_more_than_it_reports() {
        let (out_dim, in_dim, positions) = (70, 41, 5);
        let frozen = frozen(out_dim, in_dim);
        for start in [Start::Aligned, Start::Principal, Start::Random { seed: 3 }] {
            let mut adapter = adapter(out_dim, in_dim, start, Sides::Both);
            let mut merged = 0;
            for round in 0..20 {
                let nudge = wave(3 * (out_dim + in_dim), 0.7 + round as f32);
                adapter.sites[0].values_mut().iter_mut().zip(nudge).for_each(|(v, n)| *v += 0.2 * n);
                let x = wave_matrix(in_dim, positions, round as f32);
                let before = output(&frozen, &adapter.sites[0], &x);
                let events = adapter
                    .recompose(&Recompose { pairs: 2, min_age: 0, wrap: true, choice: FuseOrder::LeastImportant })
                    .unwrap();
                let bound = events.iter().map(|event| event.happened.max_error).fold(0.0, f32::max);
                let after = output(&frozen, &adapter.sites[0], &x);
                merged += usize::from(adapter.sites[0].has_merged());
                for position in 0..positions {
                    let norm: f32 = x.col(position).iter().map(|v| v.abs()).sum();
                    for (a, b) in after.col(position).iter().zip(before.col(position).iter()) {
                        let rounding = 2e-6 * norm * (1.0 + b.abs());
                        assert!((a - b).abs() <= bound * norm + rounding, "{start:?}, round {round}: {a} after {b}");
                    }
                }
            }
            assert_eq!(merged, 20, "the delta has to take part");
        }
    }

    #[test]
    fn a_weight_that_has_taken_pairs_and_delta_over_computes_the_same_map() {
        let (out_dim, in_dim) = (70, 41);
        let mut frozen = frozen(out_dim, in_dim);
        let mut adapter = adapter(out_dim, in_dim, Start::Principal, Sides::Both);
        let nudge = wave(3 * (out_dim + in_dim), 0.0);
        adapter.sites[0].values_mut().iter_mut().zip(nudge).for_each(|(v, n)| *v += 0.2 * n);
        adapter.recompose(&Recompose { pairs: 1, min_age: 0, wrap: true, choice: FuseOrder::LeastImportant }).unwrap();
        let site = &adapter.sites[0];
        assert!(site.has_merged(), "the delta has to take part");
        let x = wave_matrix(in_dim, 5, 0.4);
        let before = output(&frozen, site, &x);
        frozen.weight = frozen.weight.adapted(site);
        let mut after = Mat::zeros(out_dim, 5);
        frozen.forward(Around { bias: &frozen.bias, ..Around::default() }, x.as_ref(), after.as_mut());
        assert!((&after - &before).norm_max() <= 1e-5 * before.norm_max(), "{after:?} after {before:?}");
    }

    #[test]
    fn one_sided_pairs_do_the_same_beside_the_weight_and_in_it() {
        let (out_dim, in_dim) = (70, 41);
        let frozen = frozen(out_dim, in_dim);
        let mut adapter = adapter(out_dim, in_dim, Start::Aligned, Sides::One);
        let site = &mut adapter.sites[0];
        assert_eq!([site.joins_weight(25), site.joins_weight(26)], [false, true]);
        let x = wave_matrix(in_dim, 26, 0.4);
        // At the start, not one bit is another.
        let mut plain = Mat::zeros(out_dim, 26);
        frozen.forward(Around { bias: &frozen.bias, ..Around::default() }, x.as_ref(), plain.as_mut());
        assert_eq!(output(&frozen, site, &x), plain);
        site.values_mut().iter_mut().zip(wave(4 * out_dim, 0.0)).for_each(|(v, n)| *v += 0.2 * n);
        let [few, many] = [5, 26].map(|columns| output(&frozen, site, &x.subcols(0, columns).to_owned()));
        assert!((&few - many.subcols(0, 5)).norm_max() <= 1e-5 * many.norm_max(), "{few:?}, {many:?}");
        let dy = wave_matrix(out_dim, 26, 0.9);
        let back = |columns: usize| {
            let mut dx = Mat::zeros(in_dim, columns);
            frozen.backward(Some(site), dy.subcols(0, columns), dx.as_mut());
            dx
        };
        assert!((back(5) - back(26).subcols(0, 5)).norm_max() <= 1e-5 * back(26).norm_max());
    }

    #[test]
    fn one_product_with_weight_and_delta_is_the_sum_of_both() {
        let (out_dim, in_dim) = (70, 41);
        let frozen = frozen(out_dim, in_dim);
        let mut adapter = adapter(out_dim, in_dim, Start::Aligned, Sides::Both);
        for round in 0..6 {
            let nudge = wave(3 * (out_dim + in_dim), round as f32);
            adapter.sites[0].values_mut().iter_mut().zip(nudge).for_each(|(v, n)| *v += 0.2 * n);
            adapter
                .recompose(&Recompose { pairs: 2, min_age: 0, wrap: true, choice: FuseOrder::LeastImportant })
                .unwrap();
        }
        let mut dense = frozen.weight.dense();
        for (row, mut out) in dense.rows_mut().into_iter().enumerate() {
            let out = out.as_slice_mut().unwrap();
            adapter.sites[0].add_merged_row(pulp::Scalar::new(), row, out, &mut vec![0.0; in_dim]);
        }
        adapter.sites[0].add_terms(0, matrix_mut(out_dim, in_dim, dense.as_slice_mut().unwrap()));
        let dy = wave(out_dim * 4, 0.5);
        let mut dx = vec![f32::NAN; in_dim * 4];
        frozen.backward(Some(&adapter.sites[0]), matrix(out_dim, 4, &dy), matrix_mut(in_dim, 4, &mut dx));
        let expected = dense.t().dot(&ndarray::ArrayView2::from_shape((out_dim, 4), &dy).unwrap());
        dx.iter().zip(&expected).for_each(|(a, b)| assert!((a - b).abs() <= 1e-4, "{a}, {b}"));
    }
}
