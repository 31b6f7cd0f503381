//! The frozen network: three 3 x 3 convolutions in int8 with ReLU, pooled to 32 features. Nothing here is ever written.
//!
//! Maps are laid out channels x rows x columns. A convolution is the linear map of its unfolded patch.

use srlora::core::{CoreError, Directions, Floats, Sides, SiteShape, Weight};

use crate::adapter::BUDGET;

mod generated {
    include!(concat!(env!("OUT_DIR"), "/network.rs"));
}
pub(crate) use generated::BINDING;

/// Taps of a 3 x 3 window.
const TAPS: usize = 9;

/// A 3 x 3 convolution with a border of zeros.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Convolution {
    /// Rows and columns of the input.
    size: usize,
    channels: usize,
    stride: usize,
    /// out_dim x (channels 3 3).
    pub(crate) weight: Weight<'static>,
    pub(crate) bias: &'static [f32],
}

/// `codes`, `scales` and `bias` of one layer, without zero-points.
const fn int8(codes: &'static [i8], scales: &'static [f32]) -> Weight<'static> {
    Weight::Int8 { codes, scales, zeros: &[] }
}

pub(crate) const STEM: Convolution = Convolution {
    size: 8,
    channels: 1,
    stride: 1,
    weight: int8(&generated::STEM_CODES, &generated::STEM_SCALES),
    bias: &generated::STEM_BIAS,
};
pub(crate) const FIRST: Convolution = Convolution {
    size: 8,
    channels: 8,
    stride: 2,
    weight: int8(&generated::FIRST_CODES, &generated::FIRST_SCALES),
    bias: &generated::FIRST_BIAS,
};
pub(crate) const SECOND: Convolution = Convolution {
    size: 4,
    channels: 12,
    stride: 2,
    weight: int8(&generated::SECOND_CODES, &generated::SECOND_SCALES),
    bias: &generated::SECOND_BIAS,
};

const fn shape(layer: &Convolution, sigma: &[f32]) -> SiteShape {
    let (out_dim, in_dim) = (layer.bias.len(), layer.patch_len());
    let sides = Sides::One;
    SiteShape { out_dim, in_dim, rank: sides.pairs(BUDGET, out_dim, in_dim), sides, reserve: sigma.len(), block: 32 }
}

pub(crate) const FIRST_SHAPE: SiteShape = shape(&FIRST, &generated::FIRST_SIGMA);
pub(crate) const SECOND_SHAPE: SiteShape = shape(&SECOND, &generated::SECOND_SIGMA);
/// What the head sees.
pub(crate) const FEATURES: usize = SECOND.bias.len();

pub(crate) const FIRST_DIRECTIONS: Directions<'static> =
    Directions { sigma: &generated::FIRST_SIGMA, u: Floats::F16(&[]), v: Floats::F16(&generated::FIRST_V) };
pub(crate) const SECOND_DIRECTIONS: Directions<'static> =
    Directions { sigma: &generated::SECOND_SIGMA, u: Floats::F16(&[]), v: Floats::F16(&generated::SECOND_V) };

impl Convolution {
    /// Length of an unfolded patch.
    pub(crate) const fn patch_len(&self) -> usize {
        self.channels * TAPS
    }

    /// Positions of the output.
    pub(crate) const fn positions(&self) -> usize {
        let side = self.size.div_ceil(self.stride);
        side * side
    }

    /// Length of the output.
    pub(crate) const fn out_len(&self) -> usize {
        self.positions() * self.bias.len()
    }

    /// Where in the input each element of the patch at `position` lies; none for the border.
    fn taps(&self, position: usize) -> impl Iterator<Item = Option<usize>> {
        let side = self.size.div_ceil(self.stride);
        let (top, left) = (position / side * self.stride, position % side * self.stride);
        let size = self.size;
        (0..self.patch_len()).map(move |tap| {
            let (channel, window) = (tap / TAPS, tap % TAPS);
            let row = (top + window / 3).checked_sub(1).filter(|row| *row < size)?;
            let column = (left + window % 3).checked_sub(1).filter(|column| *column < size)?;
            Some((channel * size + row) * size + column)
        })
    }

    /// The input under the window at `position`.
    pub(crate) fn unfold(&self, input: &[f32], position: usize, patch: &mut [f32]) {
        for (to, from) in patch.iter_mut().zip(self.taps(position)) {
            *to = from.and_then(|from| input.get(from).copied()).unwrap_or(0.0);
        }
    }

    /// Adds a patch's gradient to the input's.
    pub(crate) fn fold(&self, patch: &[f32], position: usize, input: &mut [f32]) {
        for (g, to) in patch.iter().zip(self.taps(position)) {
            if let Some(to) = to.and_then(|to| input.get_mut(to)) {
                *to += g;
            }
        }
    }

    /// output = relu(map(patch)) at every position; `map` fills one number a channel.
    pub(crate) fn forward(
        &self,
        input: &[f32],
        patch: &mut [f32],
        output: &mut [f32],
        mut map: impl FnMut(&Convolution, &[f32], &mut [f32]) -> Result<(), CoreError>,
    ) -> Result<(), CoreError> {
        let mut y = [0.0; FEATURES];
        let y = &mut y[..self.bias.len()];
        for position in 0..self.positions() {
            self.unfold(input, position, patch);
            map(self, patch, y)?;
            let channels = output.iter_mut().skip(position).step_by(self.positions());
            channels.zip(y.iter()).for_each(|(out, y)| *out = y.max(0.0));
        }
        Ok(())
    }

    /// W patch + bias: what a layer without pairs computes.
    pub(crate) fn frozen(&self, patch: &[f32], y: &mut [f32]) -> Result<(), CoreError> {
        self.weight.forward(patch, self.bias, y)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;
    use std::{println, vec};

    use super::*;

    fn numbers(seed: u32, len: usize) -> Vec<f32> {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// Straight from the definition, in f64.
    fn naive(layer: &Convolution, input: &[f32]) -> Vec<f64> {
        let Weight::Int8 { codes, scales, .. } = layer.weight else { panic!("int8") };
        let (size, side) = (layer.size as isize, layer.size.div_ceil(layer.stride));
        let mut output = Vec::new();
        for (out, bias) in layer.bias.iter().enumerate() {
            for at in 0..side * side {
                let mut sum = f64::from(*bias);
                for tap in 0..layer.channels * 9 {
                    let row = (at / side * layer.stride + tap % 9 / 3) as isize - 1;
                    let column = (at % side * layer.stride + tap % 3) as isize - 1;
                    if (0..size).contains(&row) && (0..size).contains(&column) {
                        let x = input[tap / 9 * layer.size * layer.size + (row * size + column) as usize];
                        sum += f64::from(codes[out * layer.channels * 9 + tap]) * f64::from(scales[out]) * f64::from(x);
                    }
                }
                output.push(sum.max(0.0));
            }
        }
        output
    }

    #[test]
    fn every_layer_computes_a_convolution() {
        for layer in [STEM, FIRST, SECOND] {
            let input = numbers(3, layer.channels * layer.size * layer.size);
            let (mut patch, mut output) = (vec![0.0; layer.patch_len()], vec![0.0; layer.out_len()]);
            layer.forward(&input, &mut patch, &mut output, |c, x, y| c.frozen(x, y)).unwrap();
            let expected = naive(&layer, &input);
            let worst = output.iter().zip(&expected).map(|(y, e)| (f64::from(*y) - e).abs()).fold(0.0, f64::max);
            println!("{} positions: worst difference {worst:.1e}", layer.positions());
            assert!(worst < 1e-5 && expected.iter().any(|y| *y > 0.1));
        }
    }

    #[test]
    fn folding_is_the_adjoint_of_unfolding() {
        for layer in [STEM, FIRST, SECOND] {
            let len = layer.channels * layer.size * layer.size;
            let (input, patches) = (numbers(4, len), numbers(5, layer.positions() * layer.patch_len()));
            let (mut folded, mut unfolded) = (vec![0.0; len], Vec::new());
            for (position, patch) in patches.chunks(layer.patch_len()).enumerate() {
                layer.fold(patch, position, &mut folded);
                let mut own = vec![0.0; layer.patch_len()];
                layer.unfold(&input, position, &mut own);
                unfolded.extend(own);
            }
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            assert!((dot(&folded, &input) - dot(&patches, &unfolded)).abs() < 1e-4);
        }
    }
}
