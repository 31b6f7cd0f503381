//! What a kernel is given besides a weight: how large an image is, and what is added to the product.

use faer::MatRef;

use crate::adapter::SiteBuffers;
use crate::backbone::maps::Clip;

/// One image's channels x height x width, row-major.
#[derive(Clone, Copy)]
pub(crate) struct ImageSize {
    pub(crate) channels: usize,
    pub(crate) size: [usize; 2],
}

impl ImageSize {
    pub(super) fn pixels(self) -> usize {
        self.size[0] * self.size[1]
    }
}

/// What is added to W x, and where the sum is cut off.
#[derive(Clone, Copy, Default)]
pub(crate) struct Around<'s> {
    /// One value per output, or none.
    pub(crate) bias: &'s [f32],
    pub(crate) site: Option<&'s SiteBuffers>,
    /// A x of the site, where it is at hand: `[pairs, positions]`.
    pub(crate) projected: Option<MatRef<'s, f32>>,
    pub(crate) clip: Option<Clip>,
}
