//! The shape of every tensor of a file, worked out before anything is planned or allocated.
//!
//! tract is given only what has passed here: operators of a list, with operands that fit, none of whose outputs is larger
//! than the limits allow. A plan is built for one concrete image size, so every shape is a list of numbers; and since what
//! computes shapes in a file computes with integers that follow from them, all integers are known as well. They are put into
//! the graph as constants, and their nodes taken out: tract sees floats alone.

mod integers;
mod moves;
mod windows;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

use super::maps::{MAP_OP, Map};
use super::onnx::attribute;
use crate::limits;

type Outcome<T> = Result<T, String>;

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float,
    Double,
    Integer,
    Short,
    Truth,
}

impl Kind {
    fn of(data_type: i32) -> Outcome<Kind> {
        match DataType::try_from(data_type) {
            Ok(DataType::Float | DataType::Float16) => Ok(Kind::Float),
            Ok(DataType::Double) => Ok(Kind::Double),
            Ok(DataType::Int64) => Ok(Kind::Integer),
            Ok(DataType::Int32) => Ok(Kind::Short),
            Ok(DataType::Bool) => Ok(Kind::Truth),
            _ => Err(format!("of type {}, which is not taken here", super::grid::type_name(data_type))),
        }
    }

    fn bytes(self) -> usize {
        match self {
            Kind::Float | Kind::Short => 4,
            Kind::Double | Kind::Integer => 8,
            Kind::Truth => 1,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Kind::Float | Kind::Double)
    }
}

/// What is known of a tensor.
#[derive(Debug, Clone)]
struct Fact {
    kind: Kind,
    dims: Vec<usize>,
    /// Its numbers, where they are integers or truths and do not depend on the image.
    known: Option<Rc<[i64]>>,
    /// Whether the image has no say in it.
    is_fixed: bool,
}

impl Fact {
    fn float(dims: Vec<usize>) -> Fact {
        Fact { kind: Kind::Float, dims, known: None, is_fixed: false }
    }

    fn known(dims: Vec<usize>, values: Vec<i64>) -> Fact {
        Fact { kind: Kind::Integer, dims, known: Some(values.into()), is_fixed: true }
    }

    fn shaped(&self, dims: Vec<usize>) -> Fact {
        Fact { kind: self.kind, dims, known: None, is_fixed: false }
    }

    fn elements(&self) -> usize {
        // Checked when the fact was made.
        self.dims.iter().product()
    }

    fn bytes(&self) -> usize {
        self.elements().saturating_mul(self.kind.bytes())
    }
}

/// A node with what is known of its operands.
struct Call<'c> {
    node: &'c NodeProto,
    operands: Vec<Option<&'c Fact>>,
    opset: i64,
    map: Option<&'c Map>,
}

/// What a node makes.
struct Made {
    outputs: Vec<Fact>,
    /// Values that it holds besides, while it runs.
    scratch: usize,
    multiply_adds: u64,
}

impl Made {
    fn one(fact: Fact) -> Outcome<Made> {
        Ok(Made { outputs: vec![fact], scratch: 0, multiply_adds: 0 })
    }
}

/// What a graph may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Bytes of activations that live at a time.
    pub(crate) bytes: usize,
    /// Bytes of constants that are not weights of maps.
    pub(crate) constants: usize,
}

impl Budget {
    /// Of a file of `len` bytes.
    pub(crate) fn of(len: usize) -> Budget {
        Budget { bytes: limits::activation_bytes(len), constants: limits::constant_bytes(len) }
    }
}

/// Checks `graph`, whose image has the given name and shape, and puts constants in the place of all integer arithmetic.
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
        let fault = |what: String| format!("node {} ({}): {what}", node.name, node.op_type);
        let operands = node.input.iter().map(|name| match name.as_str() {
            "" => Ok(None),
            _ => facts.get(name).map(Some).ok_or_else(|| format!("nothing makes its input {name}")),
        });
        let operands = operands.collect::<Outcome<Vec<_>>>().map_err(fault)?;
        let fixed = operands.iter().flatten().all(|fact| fact.is_fixed);
        let call = Call { node, operands, opset, map: map(node) };
        let mut made = call.make().map_err(fault)?;
        made.outputs.iter_mut().for_each(|fact| fact.is_fixed = fixed);
        walk.step(at, node, &made, &facts).map_err(fault)?;
        facts.extend(node.output.iter().cloned().zip(made.outputs).filter(|(name, _)| !name.is_empty()));
    }
    put_in(graph, &facts);
    Ok(())
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

/// What the file holds of a tensor, which has been found to hold as many values as its shape says.
fn held(tensor: &TensorProto) -> Outcome<Fact> {
    let kind = Kind::of(tensor.data_type)?;
    let dims: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect();
    limits::elements(&dims, usize::MAX).ok_or_else(|| format!("of the shape {dims:?}, which is too large"))?;
    let known = if kind.is_float() { None } else { Some(integers::held(tensor, kind, &dims)?.into()) };
    Ok(Fact { kind, dims, known, is_fixed: true })
}

fn too_large(what: &str, dims: &[usize], budget: Budget) -> String {
    format!(
        "{what} has the shape {dims:?}, above the {} MiB that the activations of a file of this size may take",
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
                "{} MiB of activations would live at once, above the {} MiB that a file of this size may take",
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

/// Operators whose output is like their only input.
const ALIKE: [&str; 36] = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
];

impl<'c> Call<'c> {
    fn make(&self) -> Outcome<Made> {
        let op = self.node.op_type.as_str();
        if let Some(made) = self.integers()? {
            return Made::one(made);
        }
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
            "DepthToSpace" | "SpaceToDepth" => self.blocks(),
            "ConstantOfShape" => self.filled(),
            _ => self.elementwise(op),
        }
    }

    /// One output for each number.
    fn elementwise(&self, op: &str) -> Outcome<Made> {
        match op {
            _ if ALIKE.contains(&op) => self.alike(1),
            "Identity" => {
                self.takes(1..=1)?;
                Made::one(self.operand(0)?.clone())
            }
            "Dropout" => self.alike(3),
            "Softmax" | "LogSoftmax" => {
                self.axis(if self.opset < 13 { 1 } else { -1 }, self.operand(0)?.dims.len())?;
                self.alike(1)
            }
            "Cast" => {
                self.takes(1..=1)?;
                let to = Kind::of(self.int("to")?.ok_or("its type is missing")? as i32)?;
                if !to.is_float() && to != Kind::Truth {
                    return Err("it makes integers of an activation, which is not taken".into());
                }
                Made::one(Fact { kind: to, ..self.operand(0)?.shaped(self.operand(0)?.dims.clone()) })
            }
            "CastLike" => {
                self.takes(2..=2)?;
                let kind = self.operand(1)?.kind;
                Made::one(Fact { kind, ..self.float(0)?.shaped(self.operand(0)?.dims.clone()) })
            }
            "Clip" => {
                for place in 1..3 {
                    if self.optional(place).is_some_and(|end| end.elements() != 1 || end.dims.len() > 1) {
                        return Err("its ends are not single numbers".into());
                    }
                }
                self.alike(3)
            }
            "PRelu" => {
                let (x, slope) = (self.float(0)?, self.float(1)?);
                let dims = broadcast(&x.dims, &slope.dims)?;
                if dims != x.dims || slope.elements() == 0 {
                    return Err(format!("its slope has the shape {:?} for {:?}", slope.dims, x.dims));
                }
                self.takes(2..=2)?;
                Made::one(x.shaped(dims))
            }
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" => self.together(2..=2, None),
            "Min" | "Max" | "Sum" | "Mean" => self.together(1..=64, None),
            "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => self.together(2..=2, Some(Kind::Truth)),
            "Where" => self.choice(),
            _ => Err("this operator is not one that is taken; export the model without it".into()),
        }
    }

    /// The output is like the first of at most `most` inputs.
    fn alike(&self, most: usize) -> Outcome<Made> {
        self.takes(1..=most)?;
        let x = self.float(0)?;
        Made::one(x.shaped(x.dims.clone()))
    }

    /// Inputs of one kind, spread over each other.
    fn together(&self, count: std::ops::RangeInclusive<usize>, kind: Option<Kind>) -> Outcome<Made> {
        self.takes(count)?;
        let first = self.float(0)?;
        let mut dims = first.dims.clone();
        for place in 1..self.operands.len() {
            let other = self.float(place)?;
            if other.kind != first.kind {
                return Err("its inputs are of different types".into());
            }
            dims = broadcast(&dims, &other.dims)?;
        }
        Made::one(Fact { kind: kind.unwrap_or(first.kind), ..first.shaped(dims) })
    }

    fn choice(&self) -> Outcome<Made> {
        self.takes(3..=3)?;
        let (condition, a, b) = (self.operand(0)?, self.float(1)?, self.float(2)?);
        if condition.kind != Kind::Truth || a.kind != b.kind {
            return Err("its inputs are not truths and two tensors of one type".into());
        }
        Made::one(a.shaped(broadcast(&broadcast(&condition.dims, &a.dims)?, &b.dims)?))
    }

    /// Refuses a node with another number of inputs, or with several outputs.
    fn takes(&self, inputs: std::ops::RangeInclusive<usize>) -> Outcome<()> {
        if !inputs.contains(&self.operands.len()) {
            return Err(format!("it has {} inputs", self.operands.len()));
        }
        if self.node.output.len() != 1 || self.node.output[0].is_empty() {
            return Err("it has not one output; export the model for inference".into());
        }
        Ok(())
    }

    fn optional(&self, place: usize) -> Option<&'c Fact> {
        self.operands.get(place).copied().flatten()
    }

    fn operand(&self, place: usize) -> Outcome<&'c Fact> {
        self.optional(place).ok_or_else(|| format!("its input {place} is missing"))
    }

    /// An operand that is a float tensor with at least one value.
    fn float(&self, place: usize) -> Outcome<&'c Fact> {
        let fact = self.operand(place)?;
        if !fact.kind.is_float() || fact.elements() == 0 {
            return Err(format!("its input {place} is no float tensor"));
        }
        Ok(fact)
    }

    /// An operand of known integers along one axis, or a single one.
    fn integers_of(&self, place: usize) -> Outcome<&'c [i64]> {
        let fact = self.operand(place)?;
        match &fact.known {
            Some(values) if fact.dims.len() <= 1 && fact.kind != Kind::Truth => Ok(values),
            _ => Err(format!("its input {place} is not a list of integers that follow from the file")),
        }
    }

    fn typed(&self, name: &str, kind: AttributeType) -> Outcome<Option<&'c AttributeProto>> {
        match attribute(self.node, name) {
            None => Ok(None),
            Some(found) if found.r#type == kind as i32 => Ok(Some(found)),
            Some(_) => Err(format!("its attribute {name} is of another type")),
        }
    }

    fn int(&self, name: &str) -> Outcome<Option<i64>> {
        Ok(self.typed(name, AttributeType::Int)?.map(|a| a.i))
    }

    /// An attribute that is 0 or 1.
    fn flag(&self, name: &str, default: bool) -> Outcome<bool> {
        match self.int(name)? {
            None => Ok(default),
            Some(flag @ 0..=1) => Ok(flag == 1),
            Some(other) => Err(format!("its {name} is {other}")),
        }
    }

    fn ints(&self, name: &str) -> Outcome<Option<&'c [i64]>> {
        Ok(self.typed(name, AttributeType::Ints)?.map(|a| &a.ints[..]))
    }

    fn text(&self, name: &str) -> Outcome<&'c str> {
        let text = self.typed(name, AttributeType::String)?.map_or(Ok(""), |a| std::str::from_utf8(&a.s));
        text.map_err(|_| format!("its attribute {name} is no text"))
    }

    /// The attribute `axis`, from the start.
    fn axis(&self, default: i64, rank: usize) -> Outcome<usize> {
        axis_of(self.int("axis")?.unwrap_or(default), rank)
    }
}

/// An axis from the start, of a tensor of `rank` axes.
fn axis_of(axis: i64, rank: usize) -> Outcome<usize> {
    let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let found = from_start.and_then(|axis| usize::try_from(axis).ok()).filter(|axis| *axis < rank);
    found.ok_or_else(|| format!("it has no axis {axis} of {rank}"))
}

/// Axes from the start, each at most once.
fn axes_of(axes: &[i64], rank: usize) -> Outcome<Vec<usize>> {
    let mut found = Vec::with_capacity(axes.len().min(rank));
    for &axis in axes {
        let axis = axis_of(axis, rank)?;
        if found.contains(&axis) {
            return Err(format!("it names the axis {axis} twice"));
        }
        found.push(axis);
    }
    Ok(found)
}

/// The shape of two tensors that are spread over each other.
fn broadcast(a: &[usize], b: &[usize]) -> Outcome<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |dims: &[usize], at: usize| (at + dims.len()).checked_sub(rank).map_or(1, |at| dims[at]);
    let spread = (0..rank).map(|at| match (dim(a, at), dim(b, at)) {
        (x, y) if x == y => Some(x),
        (1, y) => Some(y),
        (x, 1) => Some(x),
        _ => None,
    });
    spread.collect::<Option<Vec<usize>>>().ok_or_else(|| format!("the shapes {a:?} and {b:?} do not fit"))
}
