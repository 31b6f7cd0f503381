//! An ONNX file, decoded and checked: one image input, every node named, its frozen maps taken out.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto};

use super::fold::{drop_idle, plain_casts, settle_operands, single_precision};
use crate::backbone::maps::{self, MAP_INDEX, Map};
use crate::backbone::onnx::{
    self, Budget, Decoded, ImageInput, MAP_OP, attribute, float_input, model_of, nearest, producers,
};
use crate::backbone::quantized::to_float;
use crate::backbone::weights::Constants;
use crate::error::{Error, ErrorKind, Result};

/// A decoded model file.
#[derive(Debug, Clone)]
pub(crate) struct OnnxFile {
    pub(crate) proto: ModelProto,
    pub(crate) subject: String,
    pub(crate) input: ImageInput,
    /// In the order of the file.
    pub(crate) maps: Vec<Map>,
    /// Bytes of the constants that are not weights of maps.
    pub(crate) constant_bytes: usize,
    /// The version of ONNX's own operators that it uses.
    pub(crate) opset: i64,
    /// What its activations may take.
    pub(crate) budget: Budget,
    producers: HashMap<String, usize>,
}

impl OnnxFile {
    /// Decodes and checks `bytes`, which are let go as soon as they are decoded; `subject` names the file in errors.
    ///
    /// # Errors
    /// Kind `Model`: not ONNX, truncated, external data, more than one input, no batch axis, or quantized in a way that has no float form
    /// here.
    pub(crate) fn decode(bytes: impl AsRef<[u8]>, subject: &str) -> Result<Self> {
        let fault = |message: String| Error::new(ErrorKind::Model, subject, message);
        let Decoded { mut proto, input, opset, budget } = onnx::decode(bytes, subject)?;
        let graph = proto.graph.as_mut().expect("checked by decode");
        single_precision(graph);
        plain_casts(graph, &input.name);
        let mut constants = Constants::of(graph, budget.bytes).map_err(fault)?;
        to_float(graph, opset, &mut constants).map_err(fault)?;
        settle_operands(&mut proto, &input.name, &mut constants, budget).map_err(fault)?;
        let graph = proto.graph.as_mut().expect("just read");
        let maps = maps::take(graph, &mut constants, budget.bytes).map_err(fault)?;
        drop_idle(graph, &input.name);
        let constant_bytes = constants.give_back(graph, budget.constants).map_err(fault)?;
        let producers = producers(graph);
        Ok(OnnxFile { subject: subject.into(), input, maps, constant_bytes, opset, budget, producers, proto })
    }

    pub(crate) fn graph(&self) -> &GraphProto {
        self.proto.graph.as_ref().expect("checked by decode")
    }

    /// The node that makes `tensor`.
    pub(crate) fn producer(&self, tensor: &str) -> Option<&NodeProto> {
        self.producers.get(tensor).map(|&ix| &self.graph().node[ix])
    }

    /// The name of the model's (first) output tensor.
    pub(crate) fn output(&self) -> &str {
        let mut outputs = self.graph().output.iter().map(|o| o.name.as_str());
        outputs.find(|name| self.producers.contains_key(*name)).expect("checked by decode")
    }

    /// Indices of the nodes that `tensor` depends on, in file order.
    pub(crate) fn ancestors(&self, tensor: &str) -> Vec<usize> {
        let mut seen = HashSet::new();
        let mut open = vec![tensor];
        while let Some(name) = open.pop() {
            let Some(&ix) = self.producers.get(name) else { continue };
            if seen.insert(ix) {
                open.extend(self.graph().node[ix].input.iter().map(String::as_str));
            }
        }
        let mut order: Vec<usize> = seen.into_iter().collect();
        order.sort_unstable();
        order
    }

    /// The frozen map that a node stands for.
    pub(crate) fn map(&self, node: &NodeProto) -> Option<&Map> {
        let index = (node.op_type == MAP_OP).then(|| attribute(node, MAP_INDEX))??;
        self.maps.get(index.i as usize)
    }

    /// Resolves what option `features` names, a tensor or a node, to a tensor.
    ///
    /// # Errors
    /// Kind `Usage`, with the nearest names.
    pub(crate) fn tensor_named(&self, name: &str) -> Result<String> {
        if self.producers.contains_key(name) {
            return Ok(name.to_string());
        }
        if let Some(node) = self.graph().node.iter().find(|n| n.name == name) {
            return Ok(node.output[0].clone());
        }
        let names = self.graph().node.iter().flat_map(|n| n.output.iter().chain([&n.name]));
        let near = nearest(name, names.map(String::as_str)).join(", ");
        Err(Error::new(
            ErrorKind::Usage,
            format!("option `features` {name}"),
            format!("{} has no tensor or node of that name; the nearest are: {near}", self.subject),
        ))
    }

    /// The model cut down to what `output` needs.
    pub(crate) fn pruned(&self, output: &str) -> ModelProto {
        let graph = self.graph();
        let node: Vec<NodeProto> = self.ancestors(output).into_iter().map(|ix| graph.node[ix].clone()).collect();
        let used: HashSet<&str> = node.iter().flat_map(|n| &n.input).map(String::as_str).collect();
        let initializer = graph.initializer.iter().filter(|t| used.contains(t.name.as_str())).cloned().collect();
        let output = vec![ValueInfoProto { name: output.to_string(), ..ValueInfoProto::default() }];
        let input = vec![float_input(&self.input.name)];
        model_of(&self.proto, GraphProto { node, initializer, input, output, ..GraphProto::default() })
    }
}
