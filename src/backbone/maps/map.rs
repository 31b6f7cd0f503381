//! A frozen linear map, and the clip that may follow it.

use std::sync::Arc;

use super::geometry::Geometry;
use crate::backbone::weights::FrozenWeight;

/// How a map's input becomes the columns that its weight multiplies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum MapKind {
    /// The last axis of x is `in_dim`: Gemm and MatMul.
    Linear,
    /// Patches of an NCHW map, in the order channel, row, column.
    Conv(Geometry),
}

impl MapKind {
    /// What a file calls it.
    pub(crate) fn operator(&self) -> &'static str {
        match self {
            MapKind::Linear => "Gemm or MatMul",
            MapKind::Conv(_) => "Conv",
        }
    }
}

/// One frozen map: y = W x + b.
#[derive(Debug, Clone)]
pub(crate) struct Map {
    /// The ONNX node's name.
    pub(crate) name: String,
    /// Its operator.
    pub(crate) op: String,
    pub(crate) kind: MapKind,
    /// W and b, shared by every graph of this network.
    pub(crate) frozen: Arc<Frozen>,
}

/// A frozen map: W and b.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frozen {
    pub(crate) weight: FrozenWeight,
    /// `out_dim` values, or none.
    pub(crate) bias: Vec<f32>,
}

impl Map {
    /// Why this map cannot carry pairs, if it cannot.
    pub(crate) fn obstacle(&self) -> Option<String> {
        let MapKind::Conv(Geometry { group, dilation, .. }) = &self.kind else { return None };
        match (group, dilation) {
            (1, [1, 1]) => None,
            (1, _) => Some("a dilated convolution".into()),
            _ if self.frozen.weight.in_dim == self.kernel() => {
                Some(format!("a depthwise convolution (group {group}): only group 1 carries pairs"))
            }
            _ => Some(format!("a grouped convolution (group {group}): only group 1 carries pairs")),
        }
    }

    fn kernel(&self) -> usize {
        match &self.kind {
            MapKind::Linear => 1,
            MapKind::Conv(geometry) => geometry.kernel[0] * geometry.kernel[1],
        }
    }
}

/// The smallest and the largest value that a map lets through.
pub(crate) type Clip = [f32; 2];

/// x within the clip; NaN stays NaN. Written so that it becomes two vector instructions.
#[inline(always)]
pub(crate) fn cut(x: f32, [low, high]: Clip) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}
