//! What an epoch has shown so far.

use serde::{Deserialize, Serialize};

use super::bits::Bits;
use crate::adapter::Gradients;

/// Loss and accuracy over an epoch's batches, before each one's update.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct EpochMean {
    loss: Bits,
    right: Bits,
    photos: Bits,
}

impl EpochMean {
    pub(crate) fn add(&mut self, gradients: &Gradients) {
        let photos = gradients.images as f64;
        self.loss.0 += f64::from(gradients.loss) * photos;
        self.right.0 += gradients.accuracy() * photos;
        self.photos.0 += photos;
    }

    /// Mean cross-entropy.
    pub(crate) fn loss(&self) -> Option<f32> {
        (self.photos.0 > 0.0).then_some((self.loss.0 / self.photos.0) as f32)
    }

    /// Share of photos that were classified right.
    pub(crate) fn accuracy(&self) -> Option<f64> {
        (self.photos.0 > 0.0).then_some(self.right.0 / self.photos.0)
    }
}
