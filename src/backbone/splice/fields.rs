//! Protobuf on the wire: where the fields of a message lie, and new fields.

use std::ops::Range;

use crate::backbone::onnx::next_field;

/// One field of a message, where it lies in the file.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// Its number in onnx.proto3.
    pub(crate) number: u64,
    /// Whether its content has a length of its own: a text, bytes or a message.
    pub(crate) is_message: bool,
    /// Key, length and content.
    pub(crate) whole: Range<usize>,
    pub(crate) content: Range<usize>,
}

/// The fields of the message that lies at `within`, in order; `None` where the bytes are no protobuf.
pub(crate) fn fields(bytes: &[u8], within: Range<usize>) -> Option<Vec<Field>> {
    let end = within.end;
    let mut rest = bytes.get(within)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let start = end - rest.len();
        let (number, wire, content) = next_field(&mut rest)?;
        let behind = end - rest.len();
        let content = behind - content.len()..behind;
        found.push(Field { number, is_message: wire == 2, whole: start..behind, content });
    }
    Some(found)
}

/// A message that is being written. Zeros are written too: a reader may ask whether a field is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    /// A field that holds a number.
    pub(crate) fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    /// A field that holds bytes, a text, or a message.
    pub(crate) fn bytes(mut self, field: u64, content: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(content.len() as u64);
        self.0.extend_from_slice(content);
        self
    }

    pub(crate) fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub(crate) fn message(self, field: u64, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }

    /// What is already a field, or several.
    pub(crate) fn copied(mut self, fields: &[u8]) -> Self {
        self.0.extend_from_slice(fields);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 128 {
            self.0.push(value as u8 | 128);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found_again_at_its_place() {
        let inner = Message::default().number(3, 0).text(1, "é");
        let bytes = Message::default().number(1, 300).message(7, &inner).bytes(14, &[0; 200]).0;
        let found = fields(&bytes, 0..bytes.len()).unwrap();
        let numbers: Vec<_> = found.iter().map(|field| (field.number, field.is_message)).collect();
        assert_eq!(numbers, [(1, false), (7, true), (14, true)]);
        assert_eq!(&bytes[found[1].content.clone()], &inner.0[..]);
        assert_eq!(found[2].content.len(), 200);
        let within = fields(&bytes, found[1].content.clone()).unwrap();
        assert_eq!(&bytes[within[1].content.clone()], "é".as_bytes());
        assert_eq!(within.last().map(|field| field.whole.end), Some(found[1].whole.end));
        assert!(fields(&bytes[..bytes.len() - 1], 0..bytes.len() - 1).is_none());
        assert!(fields(&bytes, 0..bytes.len() + 1).is_none());
    }
}
