//! A recomposition, and what came of it.

use serde::{Deserialize, Serialize};

/// One recomposition: which pair was fused, and which direction it goes on along.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The training step after which it happened, from 1.
    pub step: u64,
    /// The site's name.
    pub site: String,
    /// Which pair.
    pub pair: u32,
    /// The direction that the pair now starts on.
    pub direction: u32,
    /// The pair's importance when it was chosen.
    pub importance: f32,
    /// The largest absolute error that fusing left in any entry of the delta.
    pub max_error: f32,
    /// What came of it.
    #[serde(default)]
    pub outcome: Outcome,
}

/// What came of a recomposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Too little has followed to tell.
    #[default]
    Open,
    /// Training went on at least as well.
    Kept,
    /// Training went worse: everything was put back as it was before.
    Undone,
}
