//! What `pack` answers.

use serde::Serialize;

use super::plausible::doubtful;
use super::preprocess::Preprocess;
use crate::backbone::{Backbone, Doubt, FeaturesFrom};

/// One packed site.
#[derive(Debug, Clone, Serialize)]
pub struct SiteReport {
    /// The ONNX node's name.
    pub name: String,
    /// Rows of W.
    pub out_dim: usize,
    /// Columns of W.
    pub in_dim: usize,
    /// DirectionsBuf shipped.
    pub reserve: usize,
    /// ||W - W'|| / ||W|| of its weight as it ships against the file's; null where nothing was rounded.
    pub rounding_error: Option<f64>,
    /// The share of weights that rounding has made 0 in the row that lost most; null where nothing was rounded.
    pub rounded_to_zero: Option<f64>,
}

/// What `pack` answers.
#[derive(Debug, Clone, Serialize)]
pub struct PackReport {
    /// The sites, in graph order.
    pub sites: Vec<SiteReport>,
    /// Pairs per site.
    pub rank: usize,
    /// The tensor that the head reads.
    pub features: String,
    /// How it was found.
    pub features_from: FeaturesFrom,
    /// Its length per image.
    pub feature_dim: usize,
    /// Precision of the frozen weights as they ship: `fp32`, `fp16` or `int8`.
    pub precision: &'static str,
    /// Size of the ONNX file as it ships.
    pub backbone_bytes: usize,
    /// Bytes of frozen weights in memory, in that precision.
    pub weight_bytes: usize,
    /// Bytes of biases, norms and other constants, which are f32.
    pub f32_bytes: usize,
    /// Size of all shipped directions.
    pub directions_bytes: usize,
    /// Size of the bundle file.
    pub bundle_bytes: u64,
    /// Largest difference between the optimized graph and the file, relative to the largest |feature|.
    pub forward_error: f32,
    /// Worst relative error of the gradients against finite differences.
    pub gradient_error: f64,
    /// Whether the network takes bytes and brings them into range itself.
    pub takes_bytes: bool,
    /// Time taken.
    pub seconds: f64,
    /// Things worth knowing: maps left out, a clamped reserve.
    pub notes: Vec<String>,
    /// What may make the bundle useless, and the flag that helps.
    pub warnings: Vec<String>,
}

impl PackReport {
    /// Nobody has said which values the network was trained on: warns of that, unless it takes bytes. What was forgotten costs accuracy,
    /// and nothing else shows it: which of the usual values a network was trained on cannot be told from its weights where they differ by
    /// a few times only.
    pub fn warn_unsaid(&mut self) {
        let unsaid = "nothing says which values the network was trained on, so it reads bytes / 255; most were trained on others: see \
                      option `preset`, of which unit says that this is meant";
        self.warnings.extend((!self.takes_bytes).then(|| unsaid.to_owned()));
    }
}

/// What may make a bundle of `backbone` useless.
pub(super) fn warnings(backbone: &Backbone, preprocess: &Preprocess) -> Vec<String> {
    let scores = backbone.doubt().map(|Doubt { candidate, node }| {
        format!(
            "the head reads {}, the model's own output; if these are scores of classes, made by node {node}, pack it with option `features` \
             {candidate}, which is what that node reads",
            backbone.features()
        )
    });
    scores.into_iter().chain(doubtful(preprocess, backbone.first_layer().as_ref())).collect()
}
