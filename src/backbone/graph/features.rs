//! Which tensor the head reads where nobody has said: what the layer reads that makes the model's scores.

use std::collections::HashSet;

use serde::Serialize;
use tract_onnx::pb::NodeProto;

use super::file::OnnxFile;
use crate::backbone::maps::{Geometry, Map, MapKind};
use crate::backbone::onnx::changing;
use crate::limits::MOST_BRANCH_NODES;

/// Where the features come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FeaturesFrom {
    /// option `features` names them.
    Flag,
    /// The input of the last linear layer.
    Linear,
    /// The input of a 1x1 convolution whose pooled outputs are the classes.
    Convolution,
    /// What a cosine classifier brings to unit length before its product.
    Cosine,
    /// The model's output, as no layer that makes scores of it was found.
    Output,
}

/// Why the output may be scores rather than features, and what to take then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The tensor that may be the features instead.
    pub candidate: String,
    /// The node that reads it and may be the classifier.
    pub node: String,
}

/// The tensor that the head reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) tensor: String,
    pub(crate) from: FeaturesFrom,
    /// Only where they are the output.
    pub(crate) doubt: Option<Doubt>,
}

/// Operators that change no number, or add to and scale all of one class alike.
const PLAIN: [&str; 14] = [
    "Identity",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Cast",
    "Dropout",
    "Add",
    "Sub",
    "Mul",
    "Div",
    // What remains of a quantized output.
    "Max",
    "Min",
];

/// Those of [`PLAIN`] that may have a second operand, which must then be a constant.
const ARITHMETIC: [&str; 6] = ["Add", "Sub", "Mul", "Div", "Max", "Min"];

const PROBABILITIES: [&str; 3] = ["Softmax", "LogSoftmax", "Sigmoid"];

const POOLS: [&str; 6] = ["GlobalAveragePool", "AveragePool", "ReduceMean", "GlobalMaxPool", "MaxPool", "ReduceMax"];

pub(super) const ACTIVATIONS: [&str; 14] = [
    "Relu",
    "Clip",
    "LeakyRelu",
    "PRelu",
    "Elu",
    "Selu",
    "Celu",
    "Gelu",
    "Mish",
    "Swish",
    "HardSwish",
    "HardSigmoid",
    "Softplus",
    "Tanh",
];

/// What may stand between the sum of squares of a vector and the division by its length.
const LENGTHS: [&str; 11] =
    ["Clip", "Max", "Add", "Sqrt", "Pow", "Reciprocal", "Expand", "Unsqueeze", "Reshape", "Cast", "Identity"];

/// Outputs of networks for ImageNet, without and with a class for the background.
const IMAGENET_CLASSES: [usize; 2] = [1000, 1001];

/// What stands behind the layer that ends a model.
#[derive(Debug, Clone, Copy, Default)]
struct Tail {
    probabilities: bool,
    activation: bool,
    pooled: bool,
    /// Anything else.
    other: bool,
}

/// The layer that ends a model.
enum End<'f> {
    Linear(&'f NodeProto),
    Convolution(&'f NodeProto, &'f Map),
    /// A product of two tensors that both depend on the image.
    Product(&'f NodeProto),
}

/// Finds the features of `file`.
///
/// They are the input of the last linear layer where only bias, scale, pooling, reshapes and a softmax follow; of the last 1x1
/// convolution where the same follows, an activation too if the convolution cannot be the widening end of a network without
/// classifier; and what is brought to unit length where a linear layer reads that. Else they are the output.
pub(crate) fn default_features(file: &OnnxFile) -> Features {
    let graph = Walk { file, changing: changing(file.graph(), &file.input.name) };
    let (end, tail) = graph.end(file.output());
    let is_classifier = !tail.other && (tail.probabilities || !tail.activation);
    let found = |tensor: &str, from| Features { tensor: tensor.to_string(), from, doubt: None };
    match end {
        Some(End::Linear(node)) if is_classifier => graph
            .before_unit_length(&node.input[0])
            .map_or_else(|| found(&node.input[0], FeaturesFrom::Linear), |tensor| found(tensor, FeaturesFrom::Cosine)),
        Some(End::Convolution(node, map)) if graph.makes_classes(node, map, tail) => {
            found(&node.input[0], FeaturesFrom::Convolution)
        }
        end => Features { doubt: graph.doubt(end, tail), ..found(file.output(), FeaturesFrom::Output) },
    }
}

fn is_pointwise(map: &Map) -> bool {
    matches!(&map.kind, MapKind::Conv(Geometry { kernel: [1, 1], group: 1, .. }))
}

struct Walk<'f> {
    file: &'f OnnxFile,
    /// Tensors that depend on the image.
    changing: HashSet<&'f str>,
}

impl<'f> Walk<'f> {
    /// What of a node's inputs depends on the image.
    fn data(&self, node: &'f NodeProto) -> Vec<&'f str> {
        node.input.iter().map(String::as_str).filter(|name| self.changing.contains(name)).collect()
    }

    /// The last layer before `tensor`, and what stands behind it. Of linear layers that are added up it is the first; a model that
    /// ends in other branches has none.
    fn end(&self, mut tensor: &'f str) -> (Option<End<'f>>, Tail) {
        let mut tail = Tail::default();
        while let Some(node) = self.file.producer(tensor) {
            if let Some(map) = self.file.map(node) {
                let linear = map.kind == MapKind::Linear;
                return (Some(if linear { End::Linear(node) } else { End::Convolution(node, map) }), tail);
            }
            let (op, data) = (node.op_type.as_str(), self.data(node));
            let Some(stem) = self.stem(&data) else {
                let added = matches!(op, "Add" | "Sum" | "Mean");
                let layers: Option<Vec<_>> = data.iter().map(|tensor| self.linear(tensor)).collect();
                let first = layers.filter(|_| added).and_then(|layers| layers.first().copied());
                let product = matches!(op, "MatMul" | "Gemm" | "Einsum").then_some(End::Product(node));
                return (first.map(End::Linear).or(product), tail);
            };
            match op {
                _ if PROBABILITIES.contains(&op) => tail.probabilities = true,
                _ if POOLS.contains(&op) => tail.pooled = true,
                _ if ACTIVATIONS.contains(&op) => tail.activation = true,
                // x sigmoid(x), and the like.
                "Mul" if data.len() > 1 => tail.activation = true,
                _ if PLAIN.contains(&op) && (data.len() == 1 || !ARITHMETIC.contains(&op)) => {}
                _ => tail.other = true,
            }
            tensor = stem;
        }
        (None, tail)
    }

    /// The linear layer that makes `tensor`, but for what changes no number and adds or scales by constants.
    fn linear(&self, mut tensor: &'f str) -> Option<&'f NodeProto> {
        while let Some(node) = self.file.producer(tensor) {
            if self.file.map(node).is_some_and(|map| map.kind == MapKind::Linear) {
                return Some(node);
            }
            match self.data(node)[..] {
                [only] if PLAIN.contains(&node.op_type.as_str()) => tensor = only,
                _ => return None,
            }
        }
        None
    }

    /// Whether a convolution makes classes: a 1x1 one, with a pool behind it or before. With an activation behind it, and no
    /// softmax, it may as well be the last layer of a network without classifier, which has more outputs than inputs.
    fn makes_classes(&self, node: &'f NodeProto, map: &Map, tail: Tail) -> bool {
        let weight = &map.frozen.weight;
        let narrows = weight.out_dim <= weight.in_dim || IMAGENET_CLASSES.contains(&weight.out_dim);
        let pooled = tail.pooled || self.is_pooled(&node.input[0]);
        is_pointwise(map) && pooled && !tail.other && (tail.probabilities || !tail.activation || narrows)
    }

    /// Whether `tensor` has been pooled, and gone through nothing but 1x1 convolutions and activations since.
    fn is_pooled(&self, mut tensor: &'f str) -> bool {
        while let Some(node) = self.file.producer(tensor) {
            let (op, data) = (node.op_type.as_str(), self.data(node));
            if POOLS.contains(&op) {
                return true;
            }
            let passes = match self.file.map(node) {
                Some(map) => is_pointwise(map),
                None => ACTIVATIONS.contains(&op) || PLAIN.contains(&op),
            };
            match self.stem(&data) {
                Some(stem) if passes => tensor = stem,
                _ => return false,
            }
        }
        false
    }

    /// The nearest tensor that all of `data` depend on and on nothing else, with no layer between.
    fn stem(&self, data: &[&'f str]) -> Option<&'f str> {
        let (mut stem, rest) = (*data.first()?, &data[1..]);
        for _ in 0..MOST_BRANCH_NODES {
            if rest.iter().all(|tensor| self.follows(tensor, stem)) {
                return Some(stem);
            }
            let node = self.file.producer(stem).filter(|node| self.file.map(node).is_none())?;
            let [only] = self.data(node)[..] else { return None };
            stem = only;
        }
        None
    }

    /// Whether `tensor` depends on `stem` alone, with no layer between.
    fn follows(&self, tensor: &'f str, stem: &str) -> bool {
        let (mut open, mut seen) = (vec![tensor], HashSet::new());
        while let Some(name) = open.pop() {
            if name == stem || !seen.insert(name) {
                continue;
            }
            match self.file.producer(name).filter(|node| self.file.map(node).is_none()) {
                Some(node) if seen.len() <= MOST_BRANCH_NODES => open.extend(self.data(node)),
                _ => return false,
            }
        }
        true
    }

    /// What `tensor` is x / ||x|| of.
    fn before_unit_length(&self, mut tensor: &'f str) -> Option<&'f str> {
        while let Some(node) = self.file.producer(tensor) {
            match (node.op_type.as_str(), &self.data(node)[..]) {
                ("Identity" | "Cast" | "Dropout" | "Flatten" | "Reshape" | "Squeeze", [first, ..]) => tensor = first,
                ("Div", &[x, length]) if self.is_length(length, x) => return Some(x),
                ("Mul", &[x, length] | &[length, x]) if self.is_length(length, x) => return Some(x),
                _ => return None,
            }
        }
        None
    }

    /// Whether `tensor` is made of the sum of squares of `x`, and of nothing else.
    fn is_length(&self, mut tensor: &'f str, x: &str) -> bool {
        while let Some(node) = self.file.producer(tensor) {
            let data = self.data(node);
            let (op, Some(first)) = (node.op_type.as_str(), data.first()) else { return false };
            let square = || self.file.producer(first).is_some_and(|node| matches!(&*node.op_type, "Mul" | "Pow"));
            match op {
                "ReduceL2" | "ReduceSumSquare" => return *first == x,
                "ReduceSum" => return square() && self.follows(first, x),
                _ if LENGTHS.contains(&op) => tensor = first,
                _ => return false,
            }
        }
        false
    }

    /// What might be the features where the output is taken: nothing where the model ends as a network without classifier does.
    fn doubt(&self, end: Option<End<'f>>, tail: Tail) -> Option<Doubt> {
        let (node, tensor) = match end? {
            End::Linear(node) => (node, node.input[0].as_str()),
            End::Convolution(node, map) => {
                let scores = tail.probabilities || (tail.pooled && !tail.activation);
                (is_pointwise(map) || scores).then_some((node, node.input[0].as_str()))?
            }
            End::Product(node) => (node, *self.data(node).first()?),
        };
        let candidate = self.before_unit_length(tensor).unwrap_or(tensor).to_string();
        Some(Doubt { candidate, node: node.name.clone() })
    }
}
