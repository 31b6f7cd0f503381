//! Taking the maps out of a graph: their weights leave the protobuf and are held once.

use std::sync::Arc;

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

use super::geometry::Geometry;
use super::map::{Frozen, Map, MapKind};
use crate::backbone::onnx::{MAP_OP, attribute};
use crate::backbone::weights::{Constant, Constants};

/// The attribute of a [`MAP_OP`] that says which map it stands for.
pub(crate) const MAP_INDEX: &str = "srlora_index";

/// Takes the maps out of `graph`: their nodes become [`MAP_OP`] with the data input alone.
///
/// # Errors
/// Names the node whose weight or form is damaged, or with which biases and scales take more than `room` bytes: maps that
/// share a weight have their own.
pub(crate) fn take(graph: &mut GraphProto, constants: &mut Constants, mut room: usize) -> Result<Vec<Map>, String> {
    let (mut maps, mut turned) = (Vec::new(), Turned::default());
    for node in &mut graph.node {
        let Some(map) = map_of(node, constants, &mut turned).map_err(|what| format!("node {}: {what}", node.name))?
        else {
            continue;
        };
        let own = map.frozen.weight.out_dim.saturating_mul(3 * size_of::<f32>());
        room = room.checked_sub(own).ok_or_else(|| {
            format!("node {}: the biases and scales of all maps take too much for a file of this size", node.name)
        })?;
        node.input.truncate(1);
        node.op_type = MAP_OP.into();
        node.attribute.push(AttributeProto { name: MAP_INDEX.into(), i: maps.len() as i64, ..Default::default() });
        maps.push(map);
    }
    let of = |precision| maps.iter().find(|map: &&Map| map.frozen.weight.codes.precision() == precision);
    match (of("int8"), of("fp16")) {
        (Some(_), Some(half)) => {
            Err(format!("node {}: its weight is fp16 in an int8 file; mixed precisions are not supported", half.name))
        }
        _ => Ok(maps),
    }
}

fn map_of(node: &NodeProto, constants: &mut Constants, turned: &mut Turned) -> Result<Option<Map>, String> {
    let is_conv = node.op_type == "Conv";
    let [x, w, rest @ ..] = &node.input[..] else { return Ok(None) };
    if !(is_conv || matches!(node.op_type.as_str(), "Gemm" | "MatMul")) || constants.known(x).is_some() {
        return Ok(None);
    }
    let int = |name: &str| attribute(node, name).map_or(0, |a| a.i);
    let factor = |name: &str| attribute(node, name).map_or(1.0, |a| a.f);
    let fits = constants.known(w).is_some_and(|w| w.dims.len() == if is_conv { 4 } else { 2 });
    let bias = rest.first().filter(|name| !name.is_empty());
    let plain = int("transA") == 0 && factor("alpha") == 1.0 && bias.is_none_or(|b| constants.known(b).is_some());
    if !(fits && plain) {
        return Ok(None);
    }
    let Some(mut weight) = constants.take(w) else { return Ok(None) };
    let bias = bias.and_then(|name| constants.take(name));
    let kind = if is_conv {
        MapKind::Conv(Geometry::of(node, [weight.dims[2], weight.dims[3]])?)
    } else {
        if int("transB") == 0 {
            weight = turned.of(weight).ok_or("its weight is not a matrix")?;
        }
        MapKind::Linear
    };
    let weight = weight.into_weight()?;
    if let MapKind::Conv(Geometry { group, .. }) = &kind
        && weight.out_dim % group != 0
    {
        return Err(format!("its {} output channels do not divide into {group} groups", weight.out_dim));
    }
    let bias = bias.map_or_else(|| Ok(vec![]), |bias| spread(&bias, weight.out_dim, is_conv, factor("beta")))?;
    let (name, op) = (node.name.clone(), node.op_type.clone());
    Ok(Some(Map { name, op, kind, frozen: Arc::new(Frozen { weight, bias }) }))
}

/// Transposed copies of weights that several products share.
#[derive(Default)]
struct Turned(Vec<[Constant; 2]>);

impl Turned {
    /// The transpose of a matrix; the same one whenever several maps share the matrix.
    fn of(&mut self, matrix: Constant) -> Option<Constant> {
        if let Some([_, turned]) = self.0.iter().find(|[source, _]| source.is_same(&matrix)) {
            return Some(turned.clone());
        }
        let turned = matrix.permuted(&[1, 0])?;
        if matrix.is_shared() {
            self.0.push([matrix, turned.clone()]);
        }
        Some(turned)
    }
}

/// One value per output, from one per output or, unless it is a convolution's, one for all.
fn spread(bias: &Constant, out_dim: usize, is_conv: bool, factor: f32) -> Result<Vec<f32>, String> {
    let values: Vec<f32> = bias.to_f32().into_iter().map(|b| b * factor).collect();
    if let Some(bad) = values.iter().find(|b| !b.is_finite()) {
        return Err(format!("its bias holds {bad}; the file is damaged"));
    }
    let along_last = bias.dims.last() == Some(&values.len()) && !(is_conv && bias.dims.len() != 1);
    match values.len() {
        n if n == out_dim && along_last => Ok(values),
        1 if !is_conv => Ok(values.repeat(out_dim)),
        _ => Err(format!("its bias has the shape {:?} for {out_dim} outputs", bias.dims)),
    }
}
