//! One adapted linear map: the view, and its forward and backward pass.

use super::delta::Delta;
use super::error::{Buffer, CoreError};
use super::ledger::Ledger;
use super::math::{axpy, dot};
use super::shape::{Sides, SiteShape};
use super::start::{Directions, Start, StartRow};

/// Settings of a site that do not change while it lives.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SiteConfig {
    /// What pairs start on.
    pub start: Start,
    /// Which site of the network this is; only `Start::Random` reads it.
    pub index: u32,
    /// Factor of the live term; PEFT's alpha / rank.
    pub scale: f32,
    /// Smoothing of sensitivity (AdaLoRA's beta1).
    pub beta_sensitivity: f32,
    /// Smoothing of uncertainty (AdaLoRA's beta2).
    pub beta_uncertainty: f32,
}

impl Default for SiteConfig {
    /// Aligned, scale 1, both betas 0.85.
    fn default() -> Self {
        SiteConfig { start: Start::Aligned, index: 0, scale: 1.0, beta_sensitivity: 0.85, beta_uncertainty: 0.85 }
    }
}

/// One site, over buffers that the caller lends: y = W x + D x + scale (B A x - B0 A0 x), of which W x is the caller's.
///
/// `RANK` and `RESERVE` are the ledger's capacities. A site is a view: cheap to make, nothing is copied.
/// [`Site::new`] checks every length; as the fields are open, each method checks again, which costs next to nothing.
#[derive(Debug)]
pub struct Site<'a, const RANK: usize = 64, const RESERVE: usize = 256> {
    /// Sizes.
    pub shape: SiteShape,
    /// Settings.
    pub config: SiteConfig,
    /// Shipped directions.
    pub directions: Directions<'a>,
    /// `shape.state_len()` floats: the planes values, first moment, second moment, sensitivity, uncertainty.
    pub state: &'a mut [f32],
    /// Ages, directions, reserve.
    pub ledger: &'a mut Ledger<RANK, RESERVE>,
    /// Everything fused so far.
    pub delta: Delta<'a>,
}

/// A plane split into A (rank x in_dim, or nothing where it does not learn) and B transposed (rank x out_dim).
pub(super) fn factors<'p>(shape: &SiteShape, plane: &'p [f32]) -> (&'p [f32], &'p [f32]) {
    plane.split_at(shape.a_len().min(plane.len()))
}

/// A row of A: numbers that learn, or the direction that a one-sided pair stays on.
enum RowOfA<'r> {
    Learns(&'r [f32]),
    Stays(StartRow<'r>),
}

impl RowOfA<'_> {
    fn dot(&self, x: &[f32]) -> f32 {
        match self {
            RowOfA::Learns(a) => dot(a, x),
            RowOfA::Stays(start) => start.dot_a(x),
        }
    }

    /// dx += factor a.
    fn add_to(&self, factor: f32, dx: &mut [f32]) {
        match self {
            RowOfA::Learns(a) => axpy(factor, a, dx),
            RowOfA::Stays(start) => start.add_a(factor, dx),
        }
    }
}

impl<'a, const RANK: usize, const RESERVE: usize> Site<'a, RANK, RESERVE> {
    /// A view over buffers that fit `shape`. What they hold is left as it is: a fresh site needs [`Site::start`].
    ///
    /// # Errors
    /// As [`Site::check`].
    pub fn new(
        shape: SiteShape,
        config: SiteConfig,
        directions: Directions<'a>,
        state: &'a mut [f32],
        ledger: &'a mut Ledger<RANK, RESERVE>,
        delta: Delta<'a>,
    ) -> Result<Self, CoreError> {
        let site = Site { shape, config, directions, state, ledger, delta };
        site.check()?;
        Ok(site)
    }

    /// Compares every length with the shape.
    ///
    /// # Errors
    /// The first buffer or size that does not fit, with both numbers.
    pub fn check(&self) -> Result<(), CoreError> {
        self.check_buffers()?;
        self.ledger.check(&self.shape)
    }

    /// [`Site::check`] without the ledger.
    pub(super) fn check_buffers(&self) -> Result<(), CoreError> {
        self.shape.check()?;
        CoreError::check(Buffer::State, self.shape.state_len(), self.state.len())?;
        self.directions.check(&self.shape, self.config.start)?;
        self.delta.check(&self.shape)
    }

    /// Makes the site one without a past: every pair on its start, on the first `rank` directions, the rest in reserve, and
    /// D = 0. What the buffers and the ledger held does not matter.
    ///
    /// # Errors
    /// As [`Site::check`], `Ledger` apart; `Rank` or `Reserve` where the ledger has no room. Nothing has changed then.
    pub fn start(&mut self) -> Result<(), CoreError> {
        self.check_buffers()?;
        *self.ledger = Ledger::new(&self.shape)?;
        self.delta.clear();
        (0..self.shape.rank).for_each(|pair| self.start_pair(pair));
        Ok(())
    }

    /// What the pair `pair` started from, element by element.
    ///
    /// # Errors
    /// As [`Site::check`]; `Rank` where there is no such pair.
    pub fn start_row(&self, pair: usize) -> Result<StartRow<'a>, CoreError> {
        self.check()?;
        if pair >= self.shape.rank {
            return Err(CoreError::Rank { most: self.shape.rank, given: pair.saturating_add(1) });
        }
        Ok(self.start_of(pair))
    }

    /// Copies what the pair `pair` started from: `a0` in_dim, `b0` out_dim.
    ///
    /// # Errors
    /// As [`Site::check`]; `Length` where `a0` or `b0` does not fit, `Rank` where there is no such pair.
    pub fn start_value(&self, pair: usize, a0: &mut [f32], b0: &mut [f32]) -> Result<(), CoreError> {
        let start = self.start_row(pair)?;
        CoreError::check(Buffer::Input, self.shape.in_dim, a0.len())?;
        CoreError::check(Buffer::Output, self.shape.out_dim, b0.len())?;
        a0.iter_mut().enumerate().for_each(|(column, a)| *a = start.a(column));
        b0.iter_mut().enumerate().for_each(|(row, b)| *b = start.b(row));
        Ok(())
    }

    /// [`Site::start_row`] where everything has been checked.
    pub(super) fn start_of(&self, pair: usize) -> StartRow<'a> {
        let direction = self.ledger.directions().get(pair).map_or(0, |&d| usize::from(d));
        StartRow::new(self.config.start, self.config.index, self.directions, &self.shape, direction)
    }

    /// Values to the start, everything else to 0.
    pub(super) fn start_pair(&mut self, pair: usize) {
        let start = self.start_of(pair);
        let spans = self.shape.pair_spans(pair);
        for (plane, numbers) in self.state.chunks_exact_mut(self.shape.plane_len()).enumerate() {
            for (span, of_a) in spans.iter().zip([true, false]) {
                for (at, number) in numbers.get_mut(span.clone()).into_iter().flatten().enumerate() {
                    *number = match (plane, of_a) {
                        (0, true) => start.a(at),
                        (0, false) => start.b(at),
                        _ => 0.0,
                    };
                }
            }
        }
    }

    /// A and B transposed, a row of each per pair.
    fn pairs(&self) -> impl Iterator<Item = (RowOfA<'_>, &[f32])> {
        let (a, b_t) = factors(&self.shape, self.state.get(..self.shape.plane_len()).unwrap_or_default());
        b_t.chunks_exact(self.shape.out_dim).enumerate().map(move |(pair, b)| {
            let a = match self.shape.sides {
                Sides::Both => RowOfA::Learns(a.get(self.shape.pair_spans(pair)[0].clone()).unwrap_or_default()),
                Sides::One => RowOfA::Stays(self.start_of(pair)),
            };
            (a, b)
        })
    }

    /// y += D x + scale (B A x - B0 A0 x).
    ///
    /// Shapes: `x` in_dim, `y` out_dim, `scratch` at least `shape.scratch_len()`. Work: 2 rank (in_dim + out_dim)
    /// flops, twice that for `Principal`, and 2 out_dim in_dim once something was fused.
    /// The two live terms are computed apart and in the same order, so that at the start they cancel exactly; then not
    /// even the sign of a zero in `y` changes.
    ///
    /// # Errors
    /// As [`Site::check`]; `Length` names the vector that does not fit.
    /// Source: LoRA, arXiv 2106.09685, eq. 3; SRLoRA, arXiv 2505.12433.
    pub fn forward(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<(), CoreError> {
        let [row, live, started] = self.lent(x.len(), y.len(), scratch)?;
        live.fill(0.0);
        started.fill(0.0);
        for (pair, (a, b)) in self.pairs().enumerate() {
            axpy(a.dot(x), b, live);
            if !self.config.start.is_free() {
                let start = self.start_of(pair);
                let h = start.dot_a(x);
                started.iter_mut().enumerate().for_each(|(i, y)| *y += h * start.b(i));
            }
        }
        let delta = self.delta.view();
        let untouched = delta.is_zero();
        for (i, ((y, live), started)) in y.iter_mut().zip(live).zip(started).enumerate() {
            let mut change = self.config.scale * *live - self.config.scale * *started;
            if !untouched {
                delta.checked_row_into(&self.shape, i, row);
                change += dot(row, x);
            }
            // Adding zero would turn -0 into +0.
            if change != 0.0 {
                *y += change;
            }
        }
        Ok(())
    }

    /// dx += D^T dy + scale (A^T B^T - A0^T B0^T) dy, and into `gradient` (a plane): dA += scale B^T dy x^T where A learns,
    /// dB^T += scale (A x) dy^T.
    ///
    /// Shapes: `x` and `dx` in_dim, `dy` out_dim, `gradient` `shape.plane_len()`, `scratch` as in [`Site::forward`].
    ///
    /// # Errors
    /// As [`Site::check`]; `Length` names the vector that does not fit.
    pub fn backward(
        &self,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        gradient: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), CoreError> {
        let [row, ..] = self.lent(x.len(), dy.len(), scratch)?;
        let (shape, scale) = (&self.shape, self.config.scale);
        CoreError::check(Buffer::Input, shape.in_dim, dx.len())?;
        CoreError::check(Buffer::Gradient, shape.plane_len(), gradient.len())?;
        let delta = self.delta.view();
        if !delta.is_zero() {
            for (i, &g) in dy.iter().enumerate() {
                delta.checked_row_into(shape, i, row);
                axpy(g, row, dx);
            }
        }
        let (da, db_t) = gradient.split_at_mut(shape.a_len());
        let mut das = da.chunks_exact_mut(shape.in_dim);
        for (pair, ((a, b), db)) in self.pairs().zip(db_t.chunks_exact_mut(shape.out_dim)).enumerate() {
            let through = scale * dot(b, dy);
            // None where A does not learn.
            if let Some(da) = das.next() {
                axpy(through, x, da);
            }
            axpy(scale * a.dot(x), dy, db);
            a.add_to(through, dx);
            if !self.config.start.is_free() {
                let start = self.start_of(pair);
                let through = scale * dy.iter().enumerate().map(|(i, g)| start.b(i) * g).sum::<f32>();
                start.add_a(-through, dx);
            }
        }
        Ok(())
    }

    /// Checks the site and the vectors; splits scratch into a row of in_dim and two of out_dim.
    fn lent<'s>(&self, x: usize, y: usize, scratch: &'s mut [f32]) -> Result<[&'s mut [f32]; 3], CoreError> {
        self.check()?;
        CoreError::check(Buffer::Input, self.shape.in_dim, x)?;
        CoreError::check(Buffer::Output, self.shape.out_dim, y)?;
        let (needed, given) = (self.shape.scratch_len(), scratch.len());
        let too_short = CoreError::Length { buffer: Buffer::Scratch, needed, given };
        let (row, rest) = scratch.get_mut(..needed).ok_or(too_short)?.split_at_mut(self.shape.in_dim);
        let (live, started) = rest.split_at_mut(self.shape.out_dim);
        Ok([row, live, started])
    }
}
