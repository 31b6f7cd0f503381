//! Buffers of one site, of the sizes that its shape asks for, fit for a static.

use half::f16;
use srlora::core::{CoreError, Delta, Directions, Ledger, Site, SiteConfig, SiteShape};

/// As many numbers learn at a site as this many pairs have of which both sides learn.
pub(crate) const BUDGET: usize = 2;
/// One-sided pairs a site, at most.
pub(crate) const RANK: usize = 14;
/// Directions in reserve, at most.
pub(crate) const RESERVE: usize = 14;

/// What a site lends, owned: see [`SiteShape`] for the lengths.
#[derive(Debug)]
pub(crate) struct Adapter<const STATE: usize, const PLANE: usize, const CODES: usize, const SCALES: usize> {
    state: [f32; STATE],
    codes: [i8; CODES],
    scales: [f16; SCALES],
    ledger: Ledger<RANK, RESERVE>,
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
            gradient: [0.0; PLANE],
        }
    }

    /// Every pair on its direction, nothing fused, nothing used.
    pub(crate) fn start(&mut self, shape: SiteShape, directions: Directions<'_>) -> Result<(), CoreError> {
        self.site(shape, directions).0.start()
    }

    /// The site over the buffers, and the gradient beside it. Nothing is checked here: the site's methods do, and before the first
    /// [`Adapter::start`] there is no ledger.
    pub(crate) fn site<'a>(
        &'a mut self,
        shape: SiteShape,
        directions: Directions<'a>,
    ) -> (Site<'a, RANK, RESERVE>, &'a mut [f32]) {
        let delta = Delta::Int8 { codes: &mut self.codes, scales: &mut self.scales };
        let (config, state, ledger) = (SiteConfig::default(), &mut self.state, &mut self.ledger);
        (Site { shape, config, directions, state, ledger, delta }, &mut self.gradient)
    }
}
