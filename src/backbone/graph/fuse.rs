//! What follows a map becomes part of it: a bias that the exporter left apart, then ReLU, ReLU6 and other clips. No copy of
//! the activation is made, and backward needs only y, since a clip's gradient passes where low < y < high.

use std::collections::HashMap;

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

use super::file::OnnxFile;
use crate::backbone::maps::{Clip, MapKind};
use crate::backbone::onnx::{MAP_OP, attribute};
use crate::backbone::weights::Constant;

const BIAS: &str = "srlora_bias";
const CLIP: &str = "srlora_clip";

/// Fuses biases and clips into the maps before them. The tensor `keep` stays as it is.
pub(crate) fn fuse(file: &OnnxFile, graph: &mut GraphProto, keep: &str) {
    let mut uses: HashMap<String, usize> = HashMap::from([(keep.to_string(), 1)]);
    graph.node.iter().flat_map(|node| &node.input).for_each(|name| *uses.entry(name.clone()).or_insert(0) += 1);
    let mut maps: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<NodeProto> = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        let source = node.input.iter().find_map(|x| Some((x.clone(), *maps.get(x)?)));
        if let Some((x, map)) = source
            && uses.get(&x) == Some(&1)
            && absorb(file, graph, &mut kept[map], &node, &x)
        {
            maps.remove(&x);
            kept[map].output[0].clone_from(&node.output[0]);
            maps.insert(node.output[0].clone(), map);
            continue;
        }
        if node.op_type == MAP_OP {
            maps.insert(node.output[0].clone(), kept.len());
        }
        kept.push(node);
    }
    graph.node = kept;
}

/// The clip of a map's node.
pub(crate) fn clip_of(node: &NodeProto) -> Option<Clip> {
    attribute(node, CLIP)?.floats[..].try_into().ok()
}

/// The bias that was fused into a map's node; empty where none was.
pub(crate) fn bias_of(node: &NodeProto) -> &[f32] {
    attribute(node, BIAS).map_or(&[], |a| &a.floats)
}

/// Takes what `node` does to `x`, the output of `map`, into `map`, if it can.
fn absorb(file: &OnnxFile, graph: &GraphProto, map: &mut NodeProto, node: &NodeProto, x: &str) -> bool {
    if let Some([low, high]) = bounds(graph, node, x) {
        // clip(clip(x, a), b) is one clip, with the ends of a clipped by b.
        let inner = clip_of(map).unwrap_or([f32::NEG_INFINITY, f32::INFINITY]);
        set(map, CLIP, inner.map(|end| end.clamp(low, high)).to_vec());
        return true;
    }
    let bias = addend(file, graph, map, node, x);
    bias.map(|bias| set(map, BIAS, bias)).is_some()
}

fn set(map: &mut NodeProto, name: &str, floats: Vec<f32>) {
    map.attribute.retain(|a| a.name != name);
    map.attribute.push(AttributeProto { name: name.into(), floats, ..AttributeProto::default() });
}

/// What `node` adds to `x`, if that is all it does: one value per output of a map that has no bias yet.
fn addend(file: &OnnxFile, graph: &GraphProto, map: &NodeProto, node: &NodeProto, x: &str) -> Option<Vec<f32>> {
    let frozen = file.map(map)?;
    let is_bare = frozen.frozen.bias.is_empty() && bias_of(map).is_empty() && clip_of(map).is_none();
    let [a, b] = &node.input[..] else { return None };
    if node.op_type != "Add" || !is_bare || a == b {
        return None;
    }
    let other = if a == x { b } else { a };
    let tensor = graph.initializer.iter().find(|t| t.name == *other)?;
    let after = if frozen.kind == MapKind::Linear { 0 } else { 2 };
    let axis = tensor.dims.len().checked_sub(1 + after)?;
    let lies_on_outputs = tensor.dims.iter().enumerate().all(|(at, &d)| at == axis || d == 1);
    let values = Constant::float(tensor.clone()).to_f32();
    (lies_on_outputs && values.len() == frozen.frozen.weight.out_dim && tensor.dims.len() <= 2 + after)
        .then_some(values)
}

/// What `node` cuts `x` off at, if that is all it does.
fn bounds(graph: &GraphProto, node: &NodeProto, x: &str) -> Option<Clip> {
    let scalar = |place: usize| {
        let name = node.input.get(place).filter(|name| !name.is_empty())?;
        let tensor = graph.initializer.iter().find(|t| t.name == *name)?;
        let values = Constant::float(tensor.clone()).to_f32();
        if let [value] = values[..] { Some(value) } else { None }
    };
    let is_open = |place: usize| node.input.get(place).is_none_or(String::is_empty);
    let end = |name: &str, place: usize, open: f32| match attribute(node, name) {
        Some(a) => Some(a.f),
        None if is_open(place) => Some(open),
        None => scalar(place),
    };
    let other = |place: usize| if node.input[place] == x { 1 - place } else { place };
    let clip = match (node.op_type.as_str(), node.input.len()) {
        ("Relu", 1) => [0.0, f32::INFINITY],
        ("Max", 2) => [scalar(other(0))?, f32::INFINITY],
        ("Min", 2) => [f32::NEG_INFINITY, scalar(other(0))?],
        ("Clip", _) if node.input[0] == x => [end("min", 1, f32::NEG_INFINITY)?, end("max", 2, f32::INFINITY)?],
        _ => return None,
    };
    (clip[0] <= clip[1]).then_some(clip)
}
