//! The trainable part of a network on the host: the core's buffers, owned, and its mathematics over many positions at
//! once.

mod head;
mod kernel;

use half::f16;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use crate::autodiff_output::StepGradients;
use crate::bundle_directions::Directions;
use crate::core::{
    AdamW, Blocks, BlocksRef, CoreError, Delta, DeltaRef, Directions as CoreDirections, Floats, Ledger, Recompose,
    Recomposition, Site, SiteConfig, SiteShape, Start,
};
