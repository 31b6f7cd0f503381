//! A file with its changes.

use std::collections::HashMap;

use super::document::{Document, GRAPH, INITIALIZER, INPUT, NODE, OUTPUT, RAW_DATA};
use super::fields::{Field, Message, fields};

/// Field numbers of onnx.proto3.
const IR_VERSION: u64 = 1;
const METADATA: u64 = 14;
/// Of a node: its operands, and what it makes.
const OPERAND: u64 = 1;
const MADE: u64 = 2;
/// Of a tensor: the fields that hold its values, or say in which other file they lie.
const TENSOR_VALUES: [u64; 9] = [4, 5, 6, 7, 9, 10, 11, 13, 14];

impl Document<'_> {
    /// The file with its changes.
    pub(crate) fn written(&self, is_old: impl Fn(&str) -> bool) -> Vec<u8> {
        let graph = self.written_graph();
        let mut out = Message(Vec::with_capacity(self.bytes.len() + graph.0.len() - self.place.content.len() + 4096));
        for field in fields(self.bytes, 0..self.bytes.len()).unwrap_or_default() {
            out = match field.number {
                GRAPH => out.message(GRAPH, &graph),
                IR_VERSION if self.is_raised => out.number(IR_VERSION, self.ir_version as u64),
                METADATA if self.text_in(&field, 1).is_some_and(&is_old) => out,
                _ => out.copied(&self.bytes[field.whole]),
            };
        }
        let entry = |(key, value): &(String, String)| Message::default().text(1, key).text(2, value);
        self.metadata.iter().fold(out, |out, pair| out.message(METADATA, &entry(pair))).0
    }

    fn written_graph(&self) -> Message {
        let mut out = Message(Vec::with_capacity(self.place.content.len()));
        let mut counts: HashMap<u64, usize> = HashMap::new();
        let last_node = self.graph.node.len();
        for field in &self.parts {
            let count = counts.entry(field.number).or_default();
            let index = *count;
            *count += usize::from(field.is_message);
            if field.number == NODE {
                out = self.new_nodes_before(index, out);
            }
            if !self.dropped.contains(&(field.number, index)) {
                out = self.part(field, index, out);
            }
            if field.number == NODE && index + 1 == last_node {
                out = self.new_nodes_before(last_node, out);
            }
        }
        let out = self.new_tensors.iter().fold(out, |out, tensor| out.message(INITIALIZER, tensor));
        self.new_inputs.iter().fold(out, |out, input| out.message(INPUT, input))
    }

    fn new_nodes_before(&self, index: usize, out: Message) -> Message {
        let own = self.new_nodes.iter().filter(|(before, _)| *before == index);
        own.fold(out, |out, (_, node)| out.message(NODE, &node.message()))
    }

    /// One part of the graph, changed or as it is.
    fn part(&self, field: &Field, index: usize, out: Message) -> Message {
        match (field.number, &self.output) {
            (INITIALIZER, _) if self.values.contains_key(&index) => {
                out.message(INITIALIZER, &self.tensor(field, &self.values[&index]))
            }
            (NODE, _) if self.rewired.contains_key(&index) || self.renamed.contains_key(&index) => {
                out.message(NODE, &self.node(field, index))
            }
            (number, _) if self.replaced.contains_key(&(number, index)) => {
                out.message(number, &self.replaced[&(number, index)])
            }
            (OUTPUT, Some(output)) if index == 0 => out.message(OUTPUT, output),
            (OUTPUT, Some(_)) => out,
            _ => out.copied(&self.bytes[field.whole.clone()]),
        }
    }

    /// The tensor at `field` with other values.
    fn tensor(&self, field: &Field, raw: &[u8]) -> Message {
        let (mut out, mut is_written) = (Message::default(), false);
        for part in fields(self.bytes, field.content.clone()).unwrap_or_default() {
            if !TENSOR_VALUES.contains(&part.number) {
                out = out.copied(&self.bytes[part.whole]);
            } else if !is_written {
                (out, is_written) = (out.bytes(RAW_DATA, raw), true);
            }
        }
        if is_written { out } else { out.bytes(RAW_DATA, raw) }
    }

    /// Node `index`, at `field`, with other operands, or with another name for what it makes.
    fn node(&self, field: &Field, index: usize) -> Message {
        let (operands, mut made) = (self.rewired.get(&index), self.renamed.get(&index));
        let (mut out, mut input) = (Message::default(), 0);
        for part in fields(self.bytes, field.content.clone()).unwrap_or_default() {
            let other = match part.number {
                OPERAND => operands.and_then(|operands| operands.get(&input)),
                MADE => made.take(),
                _ => None,
            };
            input += usize::from(part.number == OPERAND);
            out = match other {
                Some(other) => out.text(part.number, other),
                None => out.copied(&self.bytes[part.whole]),
            };
        }
        out
    }
}
