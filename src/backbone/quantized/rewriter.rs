//! What every rewriting of a quantized operator shares: what is known of the graph so far, and its quantizers by name.

use std::collections::HashMap;

use tract_onnx::pb::NodeProto;

use super::grid::{Grid, Integers, Outcome, Quantizer};
use crate::backbone::onnx::Names;
use crate::backbone::weights::{Constant, Constants, Values};

/// Why a scale for every few numbers of a row is refused.
pub(super) const NOT_BLOCKED: &str = "blocked quantization is not supported; quantize per tensor or per output channel";

/// Rewrites one graph, node by node.
pub(super) struct Rewriter<'c> {
    pub(super) constants: &'c mut Constants,
    /// Integer tensors of the file that a quantizer reads, or what is wrong with them.
    pub(super) integers: HashMap<String, Outcome<Integers>>,
    /// Activations that the file holds as integers; here they are floats.
    pub(super) grids: HashMap<String, Grid>,
    /// Scale and zero-point of each dynamic quantizer.
    pub(super) dynamic: Vec<[String; 2]>,
    /// Products of integers whose scale is still to come: tensor, and the weight that will take it.
    pub(super) unscaled: HashMap<String, String>,
    pub(super) nodes: Vec<NodeProto>,
    pub(super) names: Names,
    /// The version of ONNX's own operators that the file uses.
    pub(super) opset: i64,
}

impl Rewriter<'_> {
    /// Refuses a reader of `grid` whose scale and zero-point are not those that it was written with.
    pub(super) fn check_reader(&self, grid: Grid, scale: &str, zero: Option<&String>) -> Outcome<()> {
        let Grid::Fixed { scale: s, zero: z, kind } = grid else {
            let Grid::Dynamic(quantizer) = grid else { return Ok(()) };
            let [own_scale, own_zero] = &self.dynamic[quantizer];
            if scale == own_scale && zero == Some(own_zero) {
                return Ok(());
            }
            return Err("it reads with another scale or zero-point than its DynamicQuantizeLinear gives".into());
        };
        let found = self.quantizer(scale, zero)?.grid(kind)?;
        match found {
            Grid::Fixed { scale, zero, kind: own } if found != grid => Err(format!(
                "it reads as {} with scale {scale} and zero-point {zero} what was written as {} with {s} and {z}",
                own.name(),
                kind.name()
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn push(&mut self, op: &str, name: String, input: Vec<String>, output: &str) {
        let (op_type, output) = (op.to_string(), vec![output.to_string()]);
        self.nodes.push(NodeProto { op_type, name, input, output, ..NodeProto::default() });
    }

    /// y = x within the ends of the grid.
    pub(super) fn clip(&mut self, node: &NodeProto, x: &str, y: &str, grid: Grid) {
        if let Grid::Fixed { scale, zero, kind } = grid {
            let [low, high] = kind.range().map(|code| (code - zero) as f32 * scale);
            let names = ["lowest", "highest", "raised"].map(|end| self.names.fresh(&format!("{y}.{end}")));
            for (name, value) in [(&names[0], low), (&names[1], high)] {
                self.constants.insert(name, Constant { dims: vec![], values: Values::F32([value].into()) });
            }
            self.push("Max", format!("{}.raise", node.name), vec![x.into(), names[0].clone()], &names[2]);
            self.push("Min", node.name.clone(), vec![names[2].clone(), names[1].clone()], y);
        } else {
            self.push("Identity", node.name.clone(), vec![x.into()], y);
        }
        self.grids.insert(y.to_string(), grid);
    }

    /// Scales and zero-points by tensor name; both have to be constants.
    pub(super) fn quantizer(&self, scale: &str, zero: Option<&String>) -> Outcome<Quantizer> {
        let scales = self.scales(scale)?;
        let Some(name) = zero.filter(|name| !name.is_empty()) else { return Ok(Quantizer::symmetric(scales)) };
        let zeros = self.integers_named(name).map_err(|what| format!("its zero-point {what}"))?;
        let named = Some((name.clone(), zeros.kind));
        let zeros = one_axis(name, &zeros.dims).map(|()| zeros.to_i32())?;
        if zeros.len() != scales.len() {
            return Err(format!("it has {} scales and {} zero-points", scales.len(), zeros.len()));
        }
        Ok(Quantizer { scales, zeros, named })
    }

    fn scales(&self, name: &str) -> Outcome<Vec<f32>> {
        let scales = match (self.constants.known(name), self.integers.get(name)) {
            (Some(Constant { values: Values::F32(scales), dims }), _) => {
                one_axis(name, dims)?;
                scales.to_vec()
            }
            (Some(_), _) => return Err(format!("its scale {name} is of type float16; a scale here is float32")),
            (None, Some(Err(what))) => return Err(format!("its scale {what}")),
            (None, Some(Ok(found))) => {
                return Err(format!("its scale {name} is of type {}; a scale is float32", found.kind.name()));
            }
            (None, None) => return Err(format!("its scale {name} is not a constant")),
        };
        if let Some(bad) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(format!("its scale {name} holds {bad}; scales are positive and finite"));
        }
        Ok(scales)
    }

    /// An integer constant by name.
    pub(super) fn integers_named(&self, name: &str) -> Outcome<&Integers> {
        match self.integers.get(name) {
            Some(found) => found.as_ref().map_err(Clone::clone),
            None => Err(format!("{name} is not an integer constant")),
        }
    }

    /// A constant of integer codes, which are of the zero-point's type. `axis` finds the axis of several scales.
    pub(super) fn coded(
        &self,
        name: &str,
        quantizer: Quantizer,
        axis: impl Fn(usize) -> Outcome<usize>,
    ) -> Outcome<Constant> {
        let codes = self.integers_named(name)?;
        if let Some((zero, kind)) = quantizer.named.as_ref().filter(|(_, kind)| *kind != codes.kind) {
            let (kind, own) = (kind.name(), codes.kind.name());
            return Err(format!("{name} ({own}) and its zero-point {zero} ({kind}) are of different types"));
        }
        codes.decoded(quantizer, axis)
    }
}

/// Scales and zero-points lie along one axis, or are one for all.
fn one_axis(name: &str, dims: &[usize]) -> Outcome<()> {
    match dims.len() {
        0 | 1 => Ok(()),
        _ => Err(format!("{name} has the shape {dims:?}; scales and zero-points are a scalar or lie along one axis")),
    }
}

pub(super) fn operand(node: &NodeProto, place: usize) -> Outcome<&String> {
    node.input.get(place).filter(|name| !name.is_empty()).ok_or_else(|| format!("its input {place} is missing"))
}

pub(super) fn output(node: &NodeProto) -> Outcome<&String> {
    node.output.first().ok_or_else(|| "it has no output".into())
}
