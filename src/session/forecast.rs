//! What a lesson will take.

use serde::Serialize;

use super::settings::CachePlace;

/// What a lesson will take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Forecast {
    /// The largest resident size; null where the system does not tell the present one.
    pub peak_rss_bytes: Option<u64>,
    /// Threads that photos are run on.
    pub threads: usize,
    /// Whether activations are let go after the forward pass and computed again.
    pub recompute: bool,
    /// Where the prefix's outputs are kept.
    pub cache: CachePlace,
    /// Bytes of them.
    pub cache_bytes: u64,
    /// Bytes written to the medium: generations, and the cache if it lies there.
    pub write_bytes: u64,
    /// Bytes of a checkpoint. Those of steps are not among them: how many there are depends on how long steps take.
    pub checkpoint_bytes: u64,
    /// Steps of the lesson.
    pub steps: u64,
    /// Steps before them at most, to cross-validate the lesson where photos are few; an easy task is not cross-validated.
    pub cross_validated_steps: u64,
    /// Time of one step, in milliseconds.
    pub step_ms: f64,
    /// Time of the whole lesson with its cross-validation, decoding not included.
    pub seconds: f64,
}
