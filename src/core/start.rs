//! What a pair starts on. Every start leaves the network's function exactly as it is.

use super::error::{Buffer, CoreError};
use super::math::{cos, ln, sqrt};
use super::quant::Floats;
use super::shape::SiteShape;

/// What a pair starts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Start {
    /// b0 = 0, a0 = v_p: the live term needs no subtraction, and the learning rate means the same at every site.
    #[default]
    Aligned,
    /// b0 = sqrt(sigma_p) u_p, a0 = sqrt(sigma_p) v_p (PiSSA, arXiv 2404.02948; SRLoRA, arXiv 2505.12433).
    Principal,
    /// b0 = 0, a0 a random unit vector, made anew from the seed whenever it is needed: the control.
    Random {
        /// Decides the vectors.
        seed: u64,
    },
}

impl Start {
    /// Whether b0 = 0, so that B0 A0 vanishes.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        !matches!(self, Start::Principal)
    }
}

/// The shipped singular triplets of a site's weight, in falling order of sigma; rows of `u` and `v` are directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Directions<'a> {
    /// `reserve` singular values.
    pub sigma: &'a [f32],
    /// `reserve` x out_dim; only [`Start::Principal`] reads it.
    pub u: Floats<'a>,
    /// `reserve` x in_dim.
    pub v: Floats<'a>,
}

impl Directions<'_> {
    /// # Errors
    /// `Length` names the buffer that does not fit `shape`. Where `start` reads no `u`, it may be empty.
    pub fn check(&self, shape: &SiteShape, start: Start) -> Result<(), CoreError> {
        CoreError::check(Buffer::Sigma, shape.reserve, self.sigma.len())?;
        if !(start.is_free() && self.u.is_empty()) {
            CoreError::check(Buffer::DirectionsU, shape.reserve.saturating_mul(shape.out_dim), self.u.len())?;
        }
        CoreError::check(Buffer::DirectionsV, shape.reserve.saturating_mul(shape.in_dim), self.v.len())
    }
}

/// (a0, b0) of one direction, element by element.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct StartRow<'a> {
    directions: Directions<'a>,
    direction: usize,
    source: Source,
    out_dim: usize,
    in_dim: usize,
}

#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Source {
    Aligned,
    Principal { root: f32 },
    Random { key: u64, unit: f32 },
}

impl<'a> StartRow<'a> {
    /// The start on direction `direction` of the site `site`, of a shape that was checked.
    pub(super) fn new(
        start: Start,
        site: u32,
        directions: Directions<'a>,
        shape: &SiteShape,
        direction: usize,
    ) -> Self {
        let source = match start {
            Start::Aligned => Source::Aligned,
            Start::Principal => {
                Source::Principal { root: sqrt(directions.sigma.get(direction).copied().unwrap_or(0.0)) }
            }
            Start::Random { seed } => {
                let key = mix(seed ^ mix((u64::from(site) << 32) ^ direction as u64));
                let square: f32 = (0..shape.in_dim).map(|j| normal(key, j)).map(|x| x * x).sum();
                Source::Random { key, unit: 1.0 / sqrt(square.max(f32::MIN_POSITIVE)) }
            }
        };
        StartRow { directions, direction, source, out_dim: shape.out_dim, in_dim: shape.in_dim }
    }

    /// Element `column` of a0.
    #[must_use]
    pub fn a(&self, column: usize) -> f32 {
        let v = || self.directions.v.at(self.direction.saturating_mul(self.in_dim).saturating_add(column));
        match self.source {
            Source::Aligned => v(),
            Source::Principal { root } => root * v(),
            Source::Random { key, unit } => unit * normal(key, column),
        }
    }

    /// a0 x, of an x that fits.
    pub(super) fn dot_a(&self, x: &[f32]) -> f32 {
        x.iter().enumerate().map(|(column, x)| self.a(column) * x).sum()
    }

    /// dx += factor a0, of a dx that fits.
    pub(super) fn add_a(&self, factor: f32, dx: &mut [f32]) {
        dx.iter_mut().enumerate().for_each(|(column, dx)| *dx += factor * self.a(column));
    }

    /// Element `row` of b0.
    #[must_use]
    pub fn b(&self, row: usize) -> f32 {
        match self.source {
            Source::Principal { root } => {
                root * self.directions.u.at(self.direction.saturating_mul(self.out_dim).saturating_add(row))
            }
            Source::Aligned | Source::Random { .. } => 0.0,
        }
    }
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014): a counter in, well-mixed bits out.
fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A standard normal number for (key, index), by Box and Muller.
fn normal(key: u64, index: usize) -> f32 {
    let unit = |bits: u64| ((bits >> 40) as f32 + 0.5) / (1u64 << 24) as f32;
    let bits = mix(key.wrapping_add((index as u64).wrapping_mul(2)));
    let radius = sqrt(-2.0 * ln(unit(bits)));
    radius * cos(2.0 * ::core::f32::consts::PI * unit(mix(bits)))
}
