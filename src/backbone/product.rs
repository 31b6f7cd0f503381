//! y = W x + b and its transpose, for frozen weights of any precision, with what a site adds.
//!
//! A convolution of group 1 is a matrix product with the image's columns, a band of output rows at a time. Neither the
//! columns of a whole image nor the f32 form of a whole weight ever exists.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};

use super::depthwise;
use super::geometry::Geometry;
use super::patches::{Band, fold_into, unfold};
use super::scratch::Scratch;
use super::weight::{AddToRow, FrozenWeight};
use crate::adapter::{PairGradients, SiteBuffers};

/// Floats of columns that exist at a time: 1 MiB.
const BAND: usize = 1 << 18;

/// A frozen map: W and b.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frozen {
    pub(crate) weight: FrozenWeight,
    /// `out_dim` values, or none.
    pub(crate) bias: Vec<f32>,
}

/// One image's channels x height x width, row-major.
#[derive(Clone, Copy)]
pub(crate) struct ImageSize {
    pub(crate) channels: usize,
    pub(crate) size: [usize; 2],
}

impl ImageSize {
    fn pixels(self) -> usize {
        self.size[0] * self.size[1]
    }
}

impl Frozen {
    /// y = W x + b, and what `site` adds. Shapes: x `[in_dim, positions]`, y `[out_dim, positions]`, any strides.
    pub(crate) fn forward(&self, site: Option<&SiteBuffers>, x: ArrayView2<f32>, mut y: ArrayViewMut2<f32>) {
        self.forward_rows(0, site, x, y.view_mut());
        if let Some(site) = site {
            site.forward(x, y);
        }
    }

    /// dx = (W + the delta's blocks)^T dy. Shapes: dy `[out_dim, positions]`, dx `[in_dim, positions]`.
    pub(crate) fn backward(&self, site: Option<&SiteBuffers>, dy: ArrayView2<f32>, dx: ArrayViewMut2<f32>) {
        self.backward_rows(0, site, dy, dx);
    }

    /// The rows of W and b from `first` on, as many as y has; the delta's blocks are added to W's tiles on the way.
    fn forward_rows(&self, first: usize, site: Option<&SiteBuffers>, x: ArrayView2<f32>, mut y: ArrayViewMut2<f32>) {
        with_delta(site, |delta| {
            self.weight.each_tile(first, y.nrows(), delta, |start, tile| {
                general_mat_mul(1.0, &tile, &x, 0.0, &mut y.slice_mut(s![start..start + tile.nrows(), ..]));
            });
        });
        if let Some(bias) = self.bias.get(first..first + y.nrows()) {
            y.axis_iter_mut(Axis(0)).zip(bias).for_each(|(mut row, &b)| row += b);
        }
    }

    fn backward_rows(&self, first: usize, site: Option<&SiteBuffers>, dy: ArrayView2<f32>, mut dx: ArrayViewMut2<f32>) {
        let mut keep = 0.0;
        with_delta(site, |delta| {
            self.weight.each_tile(first, dy.nrows(), delta, |start, tile| {
                general_mat_mul(1.0, &tile.t(), &dy.slice(s![start..start + tile.nrows(), ..]), keep, &mut dx);
                keep = 1.0;
            });
        });
    }

    /// y = conv(x, W) + b of one image, and what `site` adds.
    pub(crate) fn convolve(
        &self,
        geometry: &Geometry,
        site: Option<&SiteBuffers>,
        (input, x): (ImageSize, &[f32]),
        (output, y): (ImageSize, &mut [f32]),
    ) {
        if depthwise::is(geometry, input.channels) {
            return depthwise::forward(geometry, self, (input.size, x), (output.size, y));
        }
        let groups = Groups::new(geometry, input, output);
        for group in 0..geometry.group {
            let (x, y) = (&x[groups.input(group)], &mut y[groups.output(group)]);
            let mut y = matrix_mut(groups.rows, output.pixels(), y);
            groups.each_band(geometry, x, |pixels, columns| {
                let mut y = y.slice_mut(s![.., pixels]);
                self.forward_rows(group * groups.rows, site, columns, y.view_mut());
                if let Some(site) = site {
                    site.forward(columns, y);
                }
            });
        }
    }

    /// dx += the transposed convolution of dy with W and the delta's blocks, of one image; dx starts at 0.
    pub(crate) fn convolve_back(
        &self,
        geometry: &Geometry,
        site: Option<&SiteBuffers>,
        (output, dy): (ImageSize, &[f32]),
        (input, dx): (ImageSize, &mut [f32]),
    ) {
        if depthwise::is(geometry, input.channels) {
            return depthwise::backward(geometry, self, (output.size, dy), (input.size, dx));
        }
        let groups = Groups::new(geometry, input, output);
        for group in 0..geometry.group {
            let (dy, dx) = (&dy[groups.output(group)], &mut dx[groups.input(group)]);
            let dy = matrix(groups.rows, output.pixels(), dy);
            groups.each_band_back(geometry, dx, |pixels, dcolumns| {
                self.backward_rows(group * groups.rows, site, dy.slice(s![.., pixels]), dcolumns);
            });
        }
    }
}

/// Lets `act` see what the site has fused, if it has.
fn with_delta(site: Option<&SiteBuffers>, act: impl FnOnce(Option<AddToRow>)) {
    match site.filter(|site| site.has_merged()) {
        Some(site) => act(Some(&|row, out| site.add_merged_row(row, out))),
        None => act(None),
    }
}

/// The gradients that a site's low-rank terms add to those of its frozen map, for one image: of its pairs, and of x where `dx` is given.
pub(crate) fn convolve_site_back(
    geometry: &Geometry,
    site: &SiteBuffers,
    (output, dy): (ImageSize, &[f32]),
    (input, x): (ImageSize, &[f32]),
    mut dx: Option<&mut [f32]>,
    pairs: &mut PairGradients,
) {
    let groups = Groups::new(geometry, input, output);
    let dy = matrix(groups.rows, output.pixels(), dy);
    groups.each_band(geometry, x, |pixels, columns| {
        let dy = dy.slice(s![.., pixels.clone()]);
        let Some(dx) = dx.as_deref_mut() else { return site.backward(columns, dy, None, pairs) };
        if geometry.is_pointwise() {
            let mut dx = matrix_mut(groups.in_dim, output.pixels(), dx);
            return site.backward(columns, dy, Some(dx.slice_mut(s![.., pixels])), pairs);
        }
        let mut buffer = Scratch::of(columns.len());
        buffer.fill(0.0);
        let mut dcolumns = matrix_mut(columns.nrows(), columns.ncols(), &mut buffer);
        site.backward(columns, dy, Some(dcolumns.view_mut()), pairs);
        fold_into(geometry, &groups.band(pixels), dcolumns.view(), dx);
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

    fn input(&self, group: usize) -> std::ops::Range<usize> {
        let len = self.channels * self.input.pixels();
        group * len..(group + 1) * len
    }

    fn output(&self, group: usize) -> std::ops::Range<usize> {
        let len = self.rows * self.output.pixels();
        group * len..(group + 1) * len
    }

    /// The output rows that `pixels` fill.
    fn band(&self, pixels: std::ops::Range<usize>) -> Band {
        let [height, width] = self.output.size;
        let rows = pixels.start / width.max(1)..pixels.end / width.max(1);
        Band { channels: self.channels, input: self.input.size, output: [height, width], rows }
    }

    /// Ranges of output pixels, whole rows, whose columns fit the band.
    fn bands(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let ([height, width], row) = (self.output.size, (self.in_dim * self.output.size[1]).max(1));
        let step = (BAND / row).clamp(1, height.max(1));
        (0..height).step_by(step).map(move |y| y * width..height.min(y + step) * width)
    }

    /// Calls `visit` with the columns of one group's image, band by band.
    fn each_band(
        &self,
        geometry: &Geometry,
        x: &[f32],
        mut visit: impl FnMut(std::ops::Range<usize>, ArrayView2<f32>),
    ) {
        if geometry.is_pointwise() {
            let pixels = self.output.pixels();
            return visit(0..pixels, matrix(self.in_dim, pixels, x));
        }
        for pixels in self.bands() {
            let mut buffer = Scratch::of(self.in_dim * pixels.len());
            unfold(geometry, &self.band(pixels.clone()), x, matrix_mut(self.in_dim, pixels.len(), &mut buffer));
            visit(pixels.clone(), matrix(self.in_dim, pixels.len(), &buffer));
        }
    }

    /// Lets `make` fill the gradient of the columns band by band, and adds it to dx.
    fn each_band_back(
        &self,
        geometry: &Geometry,
        dx: &mut [f32],
        mut make: impl FnMut(std::ops::Range<usize>, ArrayViewMut2<f32>),
    ) {
        if geometry.is_pointwise() {
            let pixels = self.output.pixels();
            return make(0..pixels, matrix_mut(self.in_dim, pixels, dx));
        }
        for pixels in self.bands() {
            let mut buffer = Scratch::of(self.in_dim * pixels.len());
            make(pixels.clone(), matrix_mut(self.in_dim, pixels.len(), &mut buffer));
            fold_into(geometry, &self.band(pixels.clone()), matrix(self.in_dim, pixels.len(), &buffer), dx);
        }
    }
}

fn matrix(rows: usize, columns: usize, values: &[f32]) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), values).expect("a slice of rows * columns")
}

fn matrix_mut(rows: usize, columns: usize, values: &mut [f32]) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((rows, columns), values).expect("a slice of rows * columns")
}

#[cfg(test)]
mod tests {
    use half::f16;
    use ndarray::Array2;

    use super::super::weight::Codes;
    use super::*;
    use crate::adapter::{Adapter, Directions, SiteSettings};
    use crate::core::{Recompose, Start};

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

    fn adapter(out_dim: usize, in_dim: usize, start: Start) -> Adapter {
        let half = |values: Vec<f32>| values.into_iter().map(f16::from_f32).collect();
        let directions = Directions {
            sigma: (0..9).map(|k| 1.0 - 0.1 * k as f32).collect(),
            u: half(wave(9 * out_dim, 0.1)),
            v: half(wave(9 * in_dim, 0.2)),
        };
        let seeds = [("site".to_string(), out_dim, in_dim, directions)];
        Adapter::start(seeds, 3, SiteSettings { start, scale: 1.5 }, 2, 2).unwrap()
    }

    fn output(frozen: &Frozen, site: &SiteBuffers, x: &Array2<f32>) -> Array2<f32> {
        let mut y = Array2::zeros((frozen.weight.out_dim, x.ncols()));
        frozen.forward(Some(site), x.view(), y.view_mut());
        y
    }

    #[test]
    fn every_fuse_moves_every_output_by_no_more_than_it_reports() {
        let (out_dim, in_dim, positions) = (70, 41, 5);
        let frozen = frozen(out_dim, in_dim);
        for start in [Start::Aligned, Start::Principal, Start::Random { seed: 3 }] {
            let mut adapter = adapter(out_dim, in_dim, start);
            let mut merged = 0;
            for round in 0..20 {
                let nudge = wave(3 * (out_dim + in_dim), 0.7 + round as f32);
                adapter.sites[0].values_mut().iter_mut().zip(nudge).for_each(|(v, n)| *v += 0.2 * n);
                let x = Array2::from_shape_vec((in_dim, positions), wave(in_dim * positions, round as f32)).unwrap();
                let before = output(&frozen, &adapter.sites[0], &x);
                let events = adapter.recompose(&Recompose { pairs: 2, min_age: 0, wrap: true }).unwrap();
                let bound = events.iter().map(|(_, event)| event.max_error).fold(0.0, f32::max);
                let after = output(&frozen, &adapter.sites[0], &x);
                merged += usize::from(adapter.sites[0].has_merged());
                for ((at, a), b) in after.indexed_iter().zip(&before) {
                    let norm: f32 = x.column(at.1).iter().map(|v| v.abs()).sum();
                    let rounding = 2e-6 * norm * (1.0 + b.abs());
                    assert!((a - b).abs() <= bound * norm + rounding, "{start:?}, round {round}: {a} after {b}");
                }
            }
            assert!(merged > 10, "the blocks have to take part");
        }
    }

    #[test]
    fn one_product_with_weight_and_delta_is_the_sum_of_both() {
        let (out_dim, in_dim) = (70, 41);
        let frozen = frozen(out_dim, in_dim);
        let mut adapter = adapter(out_dim, in_dim, Start::Aligned);
        for round in 0..6 {
            let nudge = wave(3 * (out_dim + in_dim), round as f32);
            adapter.sites[0].values_mut().iter_mut().zip(nudge).for_each(|(v, n)| *v += 0.2 * n);
            adapter.recompose(&Recompose { pairs: 2, min_age: 0, wrap: true }).unwrap();
        }
        let mut dense = frozen.weight.dense();
        for (row, mut out) in dense.rows_mut().into_iter().enumerate() {
            adapter.sites[0].add_merged_row(row, out.as_slice_mut().unwrap());
        }
        let dy = Array2::from_shape_vec((out_dim, 4), wave(out_dim * 4, 0.5)).unwrap();
        let mut dx = Array2::from_elem((in_dim, 4), f32::NAN);
        frozen.backward(Some(&adapter.sites[0]), dy.view(), dx.view_mut());
        let expected = dense.t().dot(&dy);
        dx.iter().zip(&expected).for_each(|(a, b)| assert!((a - b).abs() <= 1e-4, "{a}, {b}"));
    }
}
