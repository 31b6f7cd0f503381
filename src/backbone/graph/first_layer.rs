//! The first layer: what says which inputs a network was made for.

use ndarray::Array2;
use tract_onnx::pb::NodeProto;

use super::features::ACTIVATIONS;
use super::file::OnnxFile;
use crate::backbone::maps::{Map, MapKind};
use crate::backbone::onnx::attribute;
use crate::backbone::weights::Constant;
use crate::limits::MOST_FILTER_WEIGHTS;

/// What a quantized image has become, and what leaves its numbers as they are.
const UNCHANGING: [&str; 6] = ["Identity", "Cast", "Pad", "Max", "Min", "Clip"];

/// A convolution of the image with a norm or an activation behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstLayer {
    /// The ONNX node's name.
    pub name: String,
    /// Filters x (3 colours x kernel height x kernel width).
    pub weight: Array2<f32>,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// What its responses in training can be measured against.
    pub yardstick: Yardstick,
}

/// A value per filter of a first layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Yardstick {
    /// The standard deviation of the response over the photos of training, from the BatchNormalization that follows.
    Norm(Vec<f32>),
    /// The bias; a norm that followed in training is in weight and bias.
    Bias(Vec<f32>),
}

/// The first layer of `file`, if it is such a convolution.
pub(crate) fn first_layer(file: &OnnxFile) -> Option<FirstLayer> {
    let (nodes, mut tensor) = (&file.graph().node, &file.input.name);
    // Whoever reads a tensor comes after the node that makes it.
    for node in nodes {
        if node.input.first() != Some(tensor) {
            continue;
        }
        let output = node.output.first()?;
        let Some(map) = file.map(node) else {
            tensor = UNCHANGING.contains(&node.op_type.as_str()).then_some(output)?;
            continue;
        };
        let MapKind::Conv(geometry) = &map.kind else { return None };
        let ([rows, columns], in_dim) = (geometry.kernel, map.frozen.weight.in_dim);
        let mut readers = nodes.iter().filter(|node| node.input.contains(output));
        let yardstick = readers.find_map(|node| behind(file, map, node))?;
        return (in_dim == 3 * rows * columns && in_dim <= MOST_FILTER_WEIGHTS).then(|| FirstLayer {
            name: map.name.clone(),
            weight: map.frozen.weight.dense(),
            kernel: geometry.kernel,
            yardstick,
        });
    }
    None
}

/// What `node`, which reads the map, makes of it a yardstick.
fn behind(file: &OnnxFile, map: &Map, node: &NodeProto) -> Option<Yardstick> {
    let op = node.op_type.as_str();
    if op == "BatchNormalization" {
        let variance = file.graph().initializer.iter().find(|tensor| Some(&tensor.name) == node.input.get(4))?;
        let variance = Constant::float(variance.clone()).to_f32();
        let epsilon = attribute(node, "epsilon").map_or(1e-5, |a| a.f);
        // As it is before any training.
        let untrained = variance.iter().all(|variance| *variance == 1.0) || variance.len() != map.frozen.weight.out_dim;
        return (!untrained).then(|| Yardstick::Norm(variance.iter().map(|v| (v + epsilon).sqrt()).collect()));
    }
    let activated = ACTIVATIONS.contains(&op) || ["Sigmoid", "Max", "Min"].contains(&op);
    (activated && !map.frozen.bias.is_empty()).then(|| Yardstick::Bias(map.frozen.bias.clone()))
}
