//! Nodes that are put into a graph.

use super::fields::Message;

/// A node that is not in the file.
#[derive(Debug, Clone)]
pub(crate) struct NewNode {
    pub(crate) op: &'static str,
    pub(crate) name: String,
    pub(crate) inputs: Vec<String>,
    pub(crate) output: String,
    pub(crate) attributes: Vec<(&'static str, Setting)>,
}

/// The value of an attribute.
#[derive(Debug, Clone)]
pub(crate) enum Setting {
    Int(i64),
    Ints(Vec<i64>),
    Text(Vec<u8>),
}

impl NewNode {
    pub(super) fn message(&self) -> Message {
        let node = self.inputs.iter().fold(Message::default(), |node, input| node.text(1, input));
        let node = node.text(2, &self.output).text(3, &self.name).text(4, self.op);
        self.attributes.iter().fold(node, |node, (name, setting)| {
            let attribute = Message::default().text(1, name);
            node.message(
                5,
                &match setting {
                    Setting::Int(value) => attribute.number(3, *value as u64).number(20, 2),
                    Setting::Ints(values) => values
                        .iter()
                        .fold(attribute, |attribute, value| attribute.number(8, *value as u64))
                        .number(20, 7),
                    Setting::Text(value) => attribute.bytes(4, value).number(20, 3),
                },
            )
        })
    }
}
