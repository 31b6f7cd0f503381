//! A model file as it lies, and the changes that are to be made to it.
//!
//! The decoded graph says what is in the file; the file's own bytes are what is written again. A decoder drops what it does not
//! know, such as the module paths of some exporters and explicit zeros, so nothing that stays is ever encoded anew.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::described::{Dim, described};
use super::fields::{Field, Message, fields};
use super::node::NewNode;
use crate::backbone::onnx::{Names, attribute, decode_proto, name_nodes, opset, reads};
use crate::error::{Error, ErrorKind, Result};

/// Field numbers of onnx.proto3.
pub(crate) const NODE: u64 = 1;
pub(crate) const INITIALIZER: u64 = 5;
pub(crate) const INPUT: u64 = 11;
pub(super) const OUTPUT: u64 = 12;
pub(crate) const VALUE_INFO: u64 = 13;
pub(crate) const ANNOTATION: u64 = 14;
/// Of the file itself.
pub(super) const GRAPH: u64 = 7;
/// Of a tensor: its values, of any type.
pub(super) const RAW_DATA: u64 = 9;
/// The first version of ONNX's files in which an initializer that is listed among the inputs can be given at run time. Before it, all are
/// listed and none can.
const OVERRIDABLE: i64 = 4;

/// An operand of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) node: usize,
    pub(crate) input: usize,
}

/// A file and its changes.
pub(crate) struct Document<'b> {
    pub(super) bytes: &'b [u8],
    /// What the file says, every node named as the loader names it; rewired operands are rewired here too.
    pub(crate) graph: GraphProto,
    pub(crate) opset: i64,
    pub(crate) names: Names,
    pub(super) ir_version: i64,
    /// Whether that is not what the file says.
    pub(super) is_raised: bool,
    /// Where the graph lies in the file.
    pub(super) place: Field,
    pub(super) parts: Vec<Field>,
    uses: HashMap<String, usize>,
    producers: HashMap<String, usize>,
    initializers: HashMap<String, usize>,
    /// Values of initializers that change.
    pub(super) values: BTreeMap<usize, Vec<u8>>,
    pub(super) rewired: BTreeMap<usize, BTreeMap<usize, String>>,
    /// What nodes make, under other names.
    pub(super) renamed: BTreeMap<usize, String>,
    /// Tensors that a rewired node has read before.
    pub(crate) given_up: HashSet<String>,
    /// By the node before which they come.
    pub(crate) new_nodes: Vec<(usize, NewNode)>,
    pub(super) new_tensors: Vec<Message>,
    pub(super) new_inputs: Vec<Message>,
    pub(super) output: Option<Message>,
    /// Described tensors that are described otherwise: field number, and index.
    pub(super) replaced: BTreeMap<(u64, usize), Message>,
    pub(super) metadata: Vec<(String, String)>,
    /// Parts that are left out: field number, and index among those of that number.
    pub(super) dropped: BTreeSet<(u64, usize)>,
}

impl<'b> Document<'b> {
    /// Decodes a file; `subject` names it in errors.
    ///
    /// # Errors
    /// Kind `Model`: not ONNX, or a graph in several pieces, which no exporter writes.
    pub(crate) fn read(bytes: &'b [u8], subject: &str) -> Result<Self> {
        let fault = |what: &str| Error::new(ErrorKind::Model, subject, what);
        let proto = decode_proto(bytes, subject)?;
        let (opset, ir_version) = (opset(&proto), proto.ir_version);
        let mut graph = proto.graph.ok_or_else(|| fault("it holds no graph; export the model again"))?;
        let damaged = || fault("not an ONNX file, or a truncated one; export it again");
        let model = fields(bytes, 0..bytes.len()).ok_or_else(damaged)?;
        let graphs: Vec<&Field> = model.iter().filter(|field| field.number == GRAPH).collect();
        let [place] = graphs[..] else {
            return Err(fault("its graph is in several pieces; save it again with onnx.save"));
        };
        let parts = fields(bytes, place.content.clone()).ok_or_else(damaged)?;
        name_nodes(&mut graph);
        let mut uses = HashMap::new();
        let read = graph.node.iter().flat_map(|node| &node.input);
        read.chain(graph.output.iter().map(|o| &o.name)).for_each(|name| *uses.entry(name.clone()).or_insert(0) += 1);
        let made = |(ix, node): (usize, &NodeProto)| node.output.iter().map(|o| (o.clone(), ix)).collect::<Vec<_>>();
        Ok(Document {
            bytes,
            names: Names::of(&graph),
            producers: graph.node.iter().enumerate().flat_map(made).collect(),
            initializers: graph.initializer.iter().enumerate().map(|(ix, t)| (t.name.clone(), ix)).collect(),
            place: place.clone(),
            graph,
            opset,
            ir_version,
            is_raised: false,
            parts,
            uses,
            values: BTreeMap::new(),
            rewired: BTreeMap::new(),
            renamed: BTreeMap::new(),
            given_up: HashSet::new(),
            new_nodes: Vec::new(),
            new_tensors: Vec::new(),
            new_inputs: Vec::new(),
            output: None,
            replaced: BTreeMap::new(),
            metadata: Vec::new(),
            dropped: BTreeSet::new(),
        })
    }

    /// The node of that name.
    pub(crate) fn node_named(&self, name: &str) -> Option<usize> {
        self.graph.node.iter().position(|node| node.name == name)
    }

    /// The node that makes `tensor`.
    pub(crate) fn producer(&self, tensor: &str) -> Option<usize> {
        self.producers.get(tensor).copied()
    }

    /// The initializer of that name.
    pub(crate) fn initializer(&self, name: &str) -> Option<usize> {
        self.initializers.get(name).copied()
    }

    /// How many operands and outputs of the graph `tensor` is.
    pub(crate) fn uses(&self, tensor: &str) -> usize {
        self.uses.get(tensor).copied().unwrap_or(0)
    }

    /// The name of an operand, where it has one.
    pub(crate) fn operand(&self, slot: Slot) -> Option<&str> {
        let name = self.graph.node.get(slot.node)?.input.get(slot.input)?;
        (!name.is_empty()).then_some(name)
    }

    /// The constant that an operand is, seen through Identity.
    pub(crate) fn constant(&self, slot: Slot) -> Option<&TensorProto> {
        let mut name = self.operand(slot)?;
        loop {
            if let Some(ix) = self.initializer(name) {
                return self.graph.initializer.get(ix);
            }
            let node = &self.graph.node[self.producer(name)?];
            match node.op_type.as_str() {
                "Constant" => return attribute(node, "value")?.t.as_ref(),
                "Identity" => name = node.input.first()?,
                _ => return None,
            }
        }
    }

    /// Gives an initializer other values, in its own type and shape.
    pub(crate) fn set_values(&mut self, initializer: usize, raw: Vec<u8>) {
        self.values.insert(initializer, raw);
    }

    /// Lets a node read another tensor.
    pub(crate) fn rewire(&mut self, slot: Slot, tensor: String) {
        let Some(input) = self.graph.node.get_mut(slot.node).and_then(|node| node.input.get_mut(slot.input)) else {
            return;
        };
        if let Some(uses) = self.uses.get_mut(input) {
            *uses = uses.saturating_sub(1);
        }
        self.given_up.insert(std::mem::replace(input, tensor.clone()));
        *self.uses.entry(tensor.clone()).or_insert(0) += 1;
        self.rewired.entry(slot.node).or_default().insert(slot.input, tensor);
    }

    /// Writes a constant operand: in its place where nothing else reads it, else as a new tensor that this node reads.
    pub(crate) fn set_constant(&mut self, slot: Slot, data_type: i32, dims: &[usize], raw: Vec<u8>) {
        let own = self.operand(slot).filter(|name| self.uses(name) == 1).and_then(|name| self.initializer(name));
        if let Some(own) = own.filter(|own| !self.values.contains_key(own)) {
            return self.set_values(own, raw);
        }
        let wish = self.operand(slot).unwrap_or("constant").to_owned();
        let name = self.add_tensor(&wish, data_type, dims, &raw);
        self.rewire(slot, name);
    }

    /// A new initializer; its name is `wish`, or like it.
    pub(crate) fn add_tensor(&mut self, wish: &str, data_type: i32, dims: &[usize], raw: &[u8]) -> String {
        let name = self.names.fresh(wish);
        self.add_tensor_named(&name, data_type, dims, raw);
        name
    }

    /// A new initializer in the place of what had that name.
    pub(crate) fn add_tensor_named(&mut self, name: &str, data_type: i32, dims: &[usize], raw: &[u8]) {
        let tensor = dims.iter().fold(Message::default(), |tensor, &dim| tensor.number(1, dim as u64));
        self.new_tensors.push(tensor.number(2, u64::from(data_type.unsigned_abs())).text(8, name).bytes(RAW_DATA, raw));
    }

    /// A new initializer that can be given at run time, in the dimensions `dims`. Shape and bytes of `values` are what is taken where none
    /// are given.
    pub(crate) fn add_default(
        &mut self,
        wish: &str,
        data_type: i32,
        dims: &[Dim],
        values: (&[usize], &[u8]),
    ) -> String {
        self.let_initializers_be_given();
        let name = self.add_tensor(wish, data_type, values.0, values.1);
        self.new_inputs.push(described(&name, data_type, dims));
        name
    }

    /// In old files every initializer is listed among the inputs, and none can be given. In the version that the file becomes, those that are
    /// listed can be: so the old ones no longer are.
    fn let_initializers_be_given(&mut self) {
        if self.ir_version >= OVERRIDABLE {
            return;
        }
        self.ir_version = OVERRIDABLE;
        self.is_raised = true;
        let held: Vec<String> = self.graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
        held.iter().for_each(|name| self.drop_named(INPUT, name));
    }

    /// Puts other values, of other dimensions, in the place of an initializer that can be given; from then on it cannot be.
    pub(crate) fn give(&mut self, initializer: usize, dims: &[usize], raw: &[u8]) {
        let Some(tensor) = self.graph.initializer.get(initializer) else { return };
        let (name, data_type) = (tensor.name.clone(), tensor.data_type);
        self.drop_part(INITIALIZER, initializer);
        self.drop_named(INPUT, &name);
        self.add_tensor_named(&name, data_type, dims, raw);
    }

    /// Gives what a node makes another name, which is like `wish`; who reads it does not follow. Its old name is free then.
    pub(crate) fn rename_output(&mut self, node: usize, wish: &str) -> Option<String> {
        let name = self.names.fresh(wish);
        let output = self.graph.node.get_mut(node)?.output.first_mut()?;
        let old = std::mem::replace(output, name.clone());
        self.producers.remove(&old);
        self.producers.insert(name.clone(), node);
        self.renamed.insert(node, name.clone());
        Some(name)
    }

    /// Puts a new node before node `before`, or behind all of them.
    pub(crate) fn add_node(&mut self, before: usize, node: NewNode) {
        for input in &node.inputs {
            *self.uses.entry(input.clone()).or_insert(0) += 1;
        }
        self.new_nodes.push((before, node));
    }

    /// Leaves a part of the graph out.
    pub(crate) fn drop_part(&mut self, number: u64, index: usize) {
        self.dropped.insert((number, index));
    }

    /// Leaves out the initializers that only nodes which are left out, or no longer read them, have read.
    pub(crate) fn drop_idle(&mut self) {
        let (mut touched, mut used) = (self.given_up.clone(), HashSet::new());
        for (ix, node) in self.graph.node.iter().enumerate() {
            let readers = if self.dropped.contains(&(NODE, ix)) { &mut touched } else { &mut used };
            readers.extend(reads(node).into_iter().map(str::to_owned));
        }
        used.extend(self.new_nodes.iter().flat_map(|(_, node)| node.inputs.iter().cloned()));
        let idle = |name: &String| touched.contains(name) && !used.contains(name);
        let initializers = self.graph.initializer.iter().enumerate();
        let idle: Vec<(usize, String)> =
            initializers.filter(|(_, t)| idle(&t.name)).map(|(ix, t)| (ix, t.name.clone())).collect();
        for (ix, name) in idle {
            self.drop_part(INITIALIZER, ix);
            // Old files list their weights among the inputs.
            self.drop_named(INPUT, &name);
        }
    }

    /// Leaves out the parts of that number that have that name.
    pub(crate) fn drop_named(&mut self, number: u64, name: &str) {
        let named: Vec<usize> =
            self.part_names(number).into_iter().zip(0..).filter(|(own, _)| own == name).map(|(_, ix)| ix).collect();
        named.into_iter().for_each(|index| self.drop_part(number, index));
    }

    /// Describes a tensor otherwise, an input or a value, and maybe under another name.
    pub(crate) fn replace_part(&mut self, number: u64, name: &str, part: Message) {
        let named = self.part_names(number).iter().position(|own| own == name);
        self.replaced.extend(named.map(|index| ((number, index), part)));
    }

    /// What the graph's only output becomes.
    pub(crate) fn set_output(&mut self, output: Message) {
        self.output = Some(output);
    }

    /// Entries of the model's metadata, which take the place of those that `is_old` knows.
    pub(crate) fn set_metadata(&mut self, entries: Vec<(String, String)>) {
        self.metadata = entries;
    }

    /// The text that a field of the message at `field` holds.
    pub(super) fn text_in(&self, field: &Field, number: u64) -> Option<&str> {
        let within = fields(self.bytes, field.content.clone())?;
        let found = within.into_iter().rfind(|part| part.number == number)?;
        std::str::from_utf8(self.bytes.get(found.content)?).ok()
    }

    /// The names of the described tensors (inputs, outputs, values, annotations) of that number, in order.
    pub(crate) fn part_names(&self, number: u64) -> Vec<String> {
        let parts = self.parts.iter().filter(|part| part.number == number && part.is_message);
        parts.map(|part| self.text_in(part, 1).unwrap_or_default().to_owned()).collect()
    }

    /// The bytes of the field `path` within the graph's first part of that number; for instance the shape of its input.
    pub(crate) fn within(&self, start: &Field, path: &[u64]) -> Option<Range<usize>> {
        path.iter().try_fold(start.content.clone(), |place, number| {
            fields(self.bytes, place)?.into_iter().find(|part| part.number == *number).map(|part| part.content)
        })
    }

    /// The part of the graph of that number and name.
    pub(crate) fn part_named(&self, number: u64, name: &str) -> Option<&Field> {
        self.parts.iter().find(|part| part.number == number && self.text_in(part, 1) == Some(name))
    }

    /// Bytes of the file.
    pub(crate) fn slice(&self, place: Range<usize>) -> &[u8] {
        &self.bytes[place]
    }
}
