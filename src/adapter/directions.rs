//! A site's shipped directions, owned.

use std::sync::Arc;

use half::f16;

use crate::core;

/// Singular triplets of a site's weight in falling order of sigma; the largest |v| entry of each is positive. Bundle and adapter
/// share them.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectionsBuf {
    /// K singular values.
    pub sigma: Arc<[f32]>,
    /// K x out_dim, row-major.
    pub u: Arc<[f16]>,
    /// K x in_dim, row-major.
    pub v: Arc<[f16]>,
}

impl DirectionsBuf {
    /// As the core reads them.
    #[must_use]
    pub fn view(&self) -> core::Directions<'_> {
        core::Directions { sigma: &self.sigma, u: core::Floats::F16(&self.u), v: core::Floats::F16(&self.v) }
    }
}
