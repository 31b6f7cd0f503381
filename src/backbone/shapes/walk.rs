//! The walk through a graph, from node to node: what is known of each tensor, and what lives at a time.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::call::Call;
use super::fact::{Fact, Kind, Made, Outcome, held};
use super::lower::lower;
use crate::backbone::maps::Map;
use crate::backbone::onnx::{Budget, MAP_OP};
use crate::limits;

/// Checks `graph`, whose image has the given name and shape, puts constants in the place of all integer arithmetic, and plain nodes in
/// that of those which they express.
/// `map` finds the frozen map of a node.
///
/// # Errors
/// Names the node that is not taken, or too large.
pub(crate) fn settle<'m>(
    graph: &mut GraphProto,
    opset: i64,
    image: Option<(&str, [usize; 4])>,
    budget: Budget,
    map: impl Fn(&NodeProto) -> Option<&'m Map>,
) -> Outcome<()> {
    let facts = facts(graph, opset, image, budget, map)?;
    lower(graph, &facts, opset)?;
    put_in(graph, &facts);
    Ok(())
}

/// What is known of every tensor of `graph`.
pub(super) fn facts<'m>(
    graph: &GraphProto,
    opset: i64,
    image: Option<(&str, [usize; 4])>,
    budget: Budget,
    map: impl Fn(&NodeProto) -> Option<&'m Map>,
) -> Outcome<HashMap<String, Fact>> {
    let mut facts: HashMap<String, Fact> = HashMap::new();
    for tensor in &graph.initializer {
        facts.insert(tensor.name.clone(), held(tensor).map_err(|what| format!("tensor {} is {what}", tensor.name))?);
    }
    if let Some((name, dims)) = image {
        let fact = Fact::float(dims.to_vec());
        if limits::elements(&fact.dims, budget.bytes / 4).is_none() {
            return Err(too_large("the input", &fact.dims, budget));
        }
        facts.insert(name.to_string(), fact);
    }
    let mut walk = Walk::new(graph, budget);
    for (at, node) in graph.node.iter().enumerate() {
        let map = map(node);
        let op = map.map_or(node.op_type.as_str(), |map| map.kind.operator());
        let fault = |what: String| format!("node {} ({op}): {what}", node.name);
        let operands = node.input.iter().map(|name| match name.as_str() {
            "" => Ok(None),
            _ => facts.get(name).map(Some).ok_or_else(|| format!("nothing makes its input {name}")),
        });
        let operands = operands.collect::<Outcome<Vec<_>>>().map_err(fault)?;
        let fixed = operands.iter().flatten().all(|fact| fact.is_fixed);
        let call = Call { node, operands, opset, map };
        let mut made = call.make().map_err(fault)?;
        made.outputs.iter_mut().for_each(|fact| fact.is_fixed = fixed);
        walk.step(at, node, &made, &facts).map_err(fault)?;
        facts.extend(node.output.iter().cloned().zip(made.outputs).filter(|(name, _)| !name.is_empty()));
    }
    Ok(facts)
}

/// Puts what is known into the graph, where its nodes stood.
fn put_in(graph: &mut GraphProto, facts: &HashMap<String, Fact>) {
    let is_known = |name: &String| name.is_empty() || facts.get(name).is_some_and(|fact| fact.known.is_some());
    let (known, kept): (Vec<_>, Vec<_>) =
        std::mem::take(&mut graph.node).into_iter().partition(|node| node.output.iter().all(is_known));
    let used: HashSet<&String> =
        kept.iter().flat_map(|node| &node.input).chain(graph.output.iter().map(|o| &o.name)).collect();
    let constants = known.iter().flat_map(|node| &node.output).filter(|name| used.contains(name));
    let constants = constants.filter_map(|name| Some((name, facts.get(name)?)));
    let constants: Vec<TensorProto> = constants.filter_map(|(name, fact)| integer_tensor(name, fact)).collect();
    graph.initializer.extend(constants);
    graph.node = kept;
}

fn integer_tensor(name: &str, fact: &Fact) -> Option<TensorProto> {
    let values = fact.known.as_ref()?;
    let raw_data = match fact.kind {
        Kind::Truth => values.iter().map(|v| u8::from(*v != 0)).collect(),
        Kind::Short => values.iter().flat_map(|v| (*v as i32).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    let data_type = match fact.kind {
        Kind::Truth => DataType::Bool,
        Kind::Short => DataType::Int32,
        _ => DataType::Int64,
    };
    Some(TensorProto {
        name: name.to_string(),
        dims: fact.dims.iter().map(|&d| d as i64).collect(),
        data_type: data_type as i32,
        raw_data,
        ..TensorProto::default()
    })
}

fn too_large(what: &str, dims: &[usize], budget: Budget) -> String {
    format!(
        "{what} has the shape {dims:?}, above the {} MiB that the activations of a file of this size may take; use smaller images",
        budget.bytes >> 20
    )
}

/// What has been added up on the way through the graph.
struct Walk {
    budget: Budget,
    last_use: HashMap<String, usize>,
    alive: usize,
    multiply_adds: u64,
}

impl Walk {
    fn new(graph: &GraphProto, budget: Budget) -> Walk {
        let uses = graph.node.iter().enumerate().flat_map(|(at, node)| node.input.iter().map(move |name| (name, at)));
        let mut last_use: HashMap<String, usize> = uses.map(|(name, at)| (name.clone(), at)).collect();
        last_use.extend(graph.output.iter().map(|output| (output.name.clone(), usize::MAX)));
        Walk { budget, last_use, alive: 0, multiply_adds: 0 }
    }

    /// Counts what `node` makes as alive, and lets go of what it is the last to read. What the image has no say in stays:
    /// tract works it out once.
    fn step(&mut self, at: usize, node: &NodeProto, made: &Made, facts: &HashMap<String, Fact>) -> Outcome<()> {
        for fact in &made.outputs {
            if limits::elements(&fact.dims, self.budget.bytes / fact.kind.bytes()).is_none() {
                return Err(too_large("its output", &fact.dims, self.budget));
            }
            if fact.elements() == 0 && fact.kind.is_float() {
                return Err(format!("its output has the shape {:?}, without any value", fact.dims));
            }
            self.alive = self.alive.saturating_add(fact.bytes());
        }
        if self.alive.saturating_add(made.scratch.saturating_mul(4)) > self.budget.bytes {
            return Err(format!(
                "{} MiB of activations would live at once, above the {} MiB that a file of this size may take; use smaller images",
                self.alive.saturating_add(made.scratch.saturating_mul(4)) >> 20,
                self.budget.bytes >> 20
            ));
        }
        self.multiply_adds = self.multiply_adds.saturating_add(made.multiply_adds);
        if self.multiply_adds > limits::MOST_MULTIPLY_ADDS {
            return Err(format!("one photo would take more than {} multiply-adds", limits::MOST_MULTIPLY_ADDS));
        }
        let mut seen = HashSet::new();
        for name in node.input.iter().filter(|name| self.last_use.get(*name) == Some(&at) && seen.insert(*name)) {
            let freed = facts.get(name).filter(|fact| !fact.is_fixed).map_or(0, Fact::bytes);
            self.alive = self.alive.saturating_sub(freed);
        }
        let idle = node.output.iter().zip(&made.outputs).filter(|(name, _)| !self.last_use.contains_key(*name));
        self.alive = self.alive.saturating_sub(idle.map(|(_, fact)| fact.bytes()).sum());
        Ok(())
    }
}

impl Call<'_> {
    fn make(&self) -> Outcome<Made> {
        let op = self.node.op_type.as_str();
        if let Some(made) = self.integers()? {
            return Made::one(made);
        }
        if let Some(made) = self.whole_parts()? {
            return Made::one(made);
        }
        self.floats(op).map(|made| self.with_numbers(made))
    }

    fn floats(&self, op: &str) -> Outcome<Made> {
        match op {
            MAP_OP => self.map(),
            "Conv" => self.convolution(),
            "Gemm" => self.gemm(),
            "MatMul" => self.product(),
            "AveragePool" | "MaxPool" => self.pool(),
            "GlobalAveragePool" | "GlobalMaxPool" => self.global_pool(),
            "BatchNormalization" => self.channel_norm(5),
            "InstanceNormalization" => self.channel_norm(3),
            "LayerNormalization" => self.layer_norm(),
            "GroupNormalization" => self.group_norm(),
            "LRN" => self.neighbour_norm(),
            _ if op.starts_with("Reduce") => self.reduce(),
            "Constant" => self.constant(),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => self.reshape(),
            "Transpose" => self.transpose(),
            "Concat" => self.concat(),
            "Split" => self.split(),
            "Slice" => self.slice(),
            "Gather" => self.gather(),
            "Expand" => self.expand(),
            "Tile" => self.tile(),
            "Pad" => self.pad(),
            "GatherND" | "ScatterND" => self.indexed(),
            "Resize" | "CumSum" => self.along(),
            "Einsum" => self.einsum(),
            "DepthToSpace" | "SpaceToDepth" => self.blocks(),
            "ConstantOfShape" => self.filled(),
            _ => self.elementwise(op),
        }
    }
}
