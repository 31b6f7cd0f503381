//! ReLU, ReLU6 and clips that follow a map become part of it: no copy of the activation is made, and backward needs only
//! y, since a clip's gradient passes where low < y < high.

use std::collections::HashMap;

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

use super::constant::Constant;
use super::maps::MAP_OP;
use super::onnx::attribute;

const CLIP: &str = "srlora_clip";

/// The smallest and the largest value that a map lets through.
pub(crate) type Clip = [f32; 2];

/// Fuses clips into the maps before them. The tensor `keep` stays as it is.
pub(crate) fn fuse_clips(graph: &mut GraphProto, keep: &str) {
    let mut uses: HashMap<String, usize> = HashMap::from([(keep.to_string(), 1)]);
    graph.node.iter().flat_map(|node| &node.input).for_each(|name| *uses.entry(name.clone()).or_insert(0) += 1);
    let mut maps: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<NodeProto> = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        let source = node.input.iter().find_map(|x| Some((x.clone(), *maps.get(x)?)));
        if let Some((x, map)) = source
            && uses.get(&x) == Some(&1)
            && let Some(bounds) = bounds(graph, &node, &x)
        {
            maps.remove(&x);
            absorb(&mut kept[map], bounds, &node.output[0]);
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

/// clip(clip(x, a), b) is one clip, with the ends of a clipped by b.
fn absorb(map: &mut NodeProto, [low, high]: Clip, output: &str) {
    let inner = clip_of(map).unwrap_or([f32::NEG_INFINITY, f32::INFINITY]);
    map.attribute.retain(|a| a.name != CLIP);
    let floats = inner.map(|end| end.clamp(low, high)).to_vec();
    map.attribute.push(AttributeProto { name: CLIP.into(), floats, ..AttributeProto::default() });
    map.output[0] = output.to_string();
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
