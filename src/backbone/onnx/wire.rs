//! A look over an ONNX file before it is decoded: how many messages of each kind it has, and how deep they lie.
//!
//! Protobuf packs an empty message into 2 bytes, and the decoder makes a struct of some hundred bytes of it. So everything
//! that repeats is counted on the wire first, against the limits for a file of this size. What the decoder does not know is
//! skipped here as there, and costs nothing.

use crate::limits;

/// What a field holds, for a count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Text or bytes of which a message keeps one, or what the decoder skips.
    Plain,
    /// Numbers of an attribute or the dimensions of a tensor, one by one or packed.
    Numbers,
    /// A text that repeats.
    Piece,
    /// A message.
    Message(Kind),
    /// A message that is never taken.
    Never(&'static str),
}

/// The messages of ONNX that matter here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    TensorType,
    Shape,
    /// A function of the file's own, which no node may use.
    Function,
    Annotation,
    /// Anything with plain fields only: a dimension, an entry, an opset.
    Piece,
}

/// Field numbers are those of onnx.proto3.
fn part(kind: Kind, field: u64) -> Part {
    use Kind::{Annotation, Attribute, Function, Graph, Model, Node, Piece, Shape, Tensor, TensorType, Type, Value};
    match (kind, field) {
        (Model, 7) => Part::Message(Graph),
        (Model, 8 | 14) | (Function, 9) | (Annotation, 2) | (Tensor, 3 | 13) | (Shape, 1) => Part::Message(Piece),
        (Model, 20) => Part::Never("training information"),
        (Model, 25) => Part::Message(Function),
        (Function, 7) | (Graph, 1) => Part::Message(Node),
        (Function, 4..=6) | (Node, 1 | 2) | (Attribute, 9) | (Tensor, 6) => Part::Piece,
        (Function, 11) | (Node, 5) => Part::Message(Attribute),
        (Graph, 5) | (Attribute, 5) => Part::Message(Tensor),
        (Graph, 11..=13) | (Function, 12) => Part::Message(Value),
        (Graph, 14) => Part::Message(Annotation),
        (Graph, 15) | (Attribute, 22 | 23) => Part::Never("a sparse tensor"),
        (Attribute, 6 | 11) => Part::Never("a graph within a node"),
        (Attribute, 10) => Part::Never("a list of tensors"),
        (Attribute, 15) => Part::Never("a list of types"),
        (Attribute, 7 | 8) | (Tensor, 1) => Part::Numbers,
        (Value, 2) => Part::Message(Type),
        (Type, 1) => Part::Message(TensorType),
        (TensorType, 2) => Part::Message(Shape),
        _ => Part::Plain,
    }
}

/// What has been found so far, and what is allowed.
struct Counts {
    nodes: usize,
    attributes: usize,
    tensors: usize,
    values: usize,
    pieces: usize,
    most: usize,
}

/// Refuses a file that has more of anything than a file of its size may have.
///
/// # Errors
/// Says what there is too much of, or that the bytes are no protobuf.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let most = limits::nodes(bytes.len());
    let mut counts = Counts { nodes: 0, attributes: 0, tensors: 0, values: 0, pieces: 0, most };
    counts.message(bytes, Kind::Model, 0)
}

const DAMAGED: &str = "not an ONNX file, or a truncated one; export it again";

impl Counts {
    fn message(&mut self, bytes: &[u8], kind: Kind, depth: usize) -> Result<(), String> {
        if depth > limits::MOST_NESTED {
            return Err(format!(
                "has messages within messages, more than {} deep; export it again",
                limits::MOST_NESTED
            ));
        }
        self.count(kind)?;
        let (mut rest, mut numbers) = (bytes, 0);
        while !rest.is_empty() {
            let (field, wire, content) = next(&mut rest).ok_or(DAMAGED)?;
            match part(kind, field) {
                Part::Never(what) => {
                    return Err(format!(
                        "holds {what}, which is not taken; export the model without (PyTorch's other exporter may do so: dynamo=True or False)"
                    ));
                }
                Part::Piece => self.count(Kind::Piece)?,
                Part::Message(inner) if wire == 2 => self.message(content, inner, depth + 1)?,
                Part::Numbers => {
                    // Packed varints end where a byte has no high bit; packed floats have 4 bytes.
                    let packed = match (kind, field) {
                        (Kind::Attribute, 7) => content.len().div_ceil(4),
                        _ => content.iter().filter(|byte| **byte < 128).count(),
                    };
                    numbers += if wire == 2 { packed } else { 1 };
                }
                Part::Message(_) | Part::Plain => {}
            }
            if numbers > limits::MOST_LISTED {
                return Err(format!(
                    "has a list of more than {} numbers in an attribute or a shape",
                    limits::MOST_LISTED
                ));
            }
        }
        Ok(())
    }

    fn count(&mut self, kind: Kind) -> Result<(), String> {
        let (count, most, what) = match kind {
            Kind::Node => (&mut self.nodes, self.most, "nodes"),
            Kind::Attribute => (&mut self.attributes, limits::PARTS_A_NODE * self.most, "attributes"),
            Kind::Tensor => (&mut self.tensors, limits::PARTS_A_NODE * self.most, "tensors"),
            Kind::Value => (&mut self.values, limits::PARTS_A_NODE * self.most, "inputs, outputs and described values"),
            _ => (&mut self.pieces, limits::PIECES_A_NODE * self.most, "texts and dimensions"),
        };
        *count += 1;
        if *count > most {
            return Err(format!("has more than {most} {what}, too many for a file of its size"));
        }
        Ok(())
    }
}

/// The next field: its number, its wire type, and its content, which is empty for a number.
pub(crate) fn next<'b>(rest: &mut &'b [u8]) -> Option<(u64, u64, &'b [u8])> {
    let key = varint(rest)?;
    let (field, wire) = (key >> 3, key & 7);
    let len = match wire {
        0 => {
            varint(rest)?;
            0
        }
        1 => 8,
        2 => usize::try_from(varint(rest)?).ok()?,
        5 => 4,
        _ => return None,
    };
    let (content, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some((field, wire, content))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 127) << shift;
        if *byte < 128 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tract_onnx::pb::attribute_proto::AttributeType;
    use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

    use super::*;

    fn of(graph: GraphProto) -> Vec<u8> {
        ModelProto { graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
    }

    fn nodes(node: &NodeProto, count: usize) -> GraphProto {
        GraphProto { node: vec![node.clone(); count], ..GraphProto::default() }
    }

    #[test]
    fn more_than_a_file_of_its_size_may_have_is_refused_and_what_it_may_have_is_not() {
        let most = limits::nodes(0);
        check(&of(nodes(&NodeProto::default(), most))).unwrap();
        let refused = |graph: GraphProto| check(&of(graph)).unwrap_err();
        assert!(refused(nodes(&NodeProto::default(), 2 * most)).contains("nodes"));
        let tensors = GraphProto { initializer: vec![TensorProto::default(); 9 * most], ..GraphProto::default() };
        assert!(refused(tensors).contains("tensors"));
        let attributes = NodeProto { attribute: vec![AttributeProto::default(); 9 * most], ..NodeProto::default() };
        assert!(refused(nodes(&attributes, 1)).contains("attributes"));
        let inputs = NodeProto { input: vec![String::new(); 40 * most], ..NodeProto::default() };
        assert!(refused(nodes(&inputs, 1)).contains("texts and dimensions"));
        let dims = TensorProto { dims: vec![1; 2000], ..TensorProto::default() };
        assert!(refused(GraphProto { initializer: vec![dims], ..GraphProto::default() }).contains("list"));
    }

    #[test]
    fn a_graph_within_a_node_is_refused_before_it_is_decoded() {
        let attribute = AttributeProto {
            name: "body".into(),
            r#type: AttributeType::Graph as i32,
            g: Some(GraphProto::default()),
            ..AttributeProto::default()
        };
        let node = NodeProto { attribute: vec![attribute], ..NodeProto::default() };
        assert!(check(&of(nodes(&node, 1))).unwrap_err().contains("a graph within a node"));
    }

    #[test]
    fn groups_and_lengths_beyond_the_end_are_refused_as_the_decoder_refuses_them() {
        for bytes in [&[0x3b, 0x3c][..], &[0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x3a, 5, 0], &[0xff; 12]] {
            assert_eq!(check(bytes).unwrap_err(), DAMAGED);
            assert!(ModelProto::decode(bytes).is_err());
        }
    }
}
