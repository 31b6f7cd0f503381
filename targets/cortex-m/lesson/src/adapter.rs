//! Buffers of one site, of the sizes that its shape asks for, fit for a static.

use half::f16;
use srlora::core::{Blocks, CoreError, Delta, Directions, Ledger, Site, SiteConfig, SiteShape};

/// Pairs a site.
pub(crate) const RANK: usize = 4;
/// Directions in reserve, at most.
pub(crate) const RESERVE: usize = 20;

/// What a site lends, owned: see [`SiteShape`] for the lengths.
#[derive(Debug)]
pub(crate) struct Adapter<const STATE: usize, const PLANE: usize, const CODES: usize, const SCALES: usize> {
    state: [f32; STATE],
    codes: [i8; CODES],
    scales: [f16; SCALES],
    ledger: Ledger<RANK, RESERVE>,
    staged: usize,
    /// Of the photos since the last step.
    pub(crate) gradient: [f32; PLANE],
}

/// The adapter of a shape.
macro_rules! adapter_of {
    ($shape:expr) => {
        $crate::adapter::Adapter<
            { $shape.state_len() },
            { $shape.plane_len() },
            { $shape.delta_codes_len() },
            { $shape.delta_scales_len() },
        >
    };
}
pub(crate) use adapter_of;

impl<const STATE: usize, const PLANE: usize, const CODES: usize, const SCALES: usize>
    Adapter<STATE, PLANE, CODES, SCALES>
{
    /// All zeros, so that a static costs no flash.
    pub(crate) const fn empty() -> Self {
        Adapter {
            state: [0.0; STATE],
            codes: [0; CODES],
            scales: [f16::ZERO; SCALES],
            ledger: Ledger::empty(),
            staged: 0,
            gradient: [0.0; PLANE],
        }
    }

    /// Every pair on its direction, nothing fused, nothing used.
    pub(crate) fn start(&mut self, shape: SiteShape, directions: Directions<'_>) -> Result<(), CoreError> {
        self.ledger = Ledger::new(&shape)?;
        self.codes.fill(0);
        self.scales.fill(f16::ZERO);
        self.staged = 0;
        self.site(shape, directions)?.0.start();
        Ok(())
    }

    /// The site over the buffers, and the gradient beside it.
    pub(crate) fn site<'a>(
        &'a mut self,
        shape: SiteShape,
        directions: Directions<'a>,
    ) -> Result<(Site<'a, RANK, RESERVE>, &'a mut [f32]), CoreError> {
        let blocks = Blocks::Int8 { codes: &mut self.codes, scales: &mut self.scales };
        let delta = Delta { blocks, stage: &mut [], staged: &mut self.staged };
        let site = Site::new(shape, SiteConfig::default(), directions, &mut self.state, &mut self.ledger, delta)?;
        Ok((site, &mut self.gradient))
    }
}
