//! What a graph says of its inputs and outputs.

use super::fields::Message;

/// A dimension of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dim<'d> {
    Size(usize),
    /// One that is known at run time; dimensions of one name are equal.
    Named(&'d str),
}

impl Dim<'_> {
    pub(crate) fn message(self) -> Message {
        match self {
            Dim::Size(size) => Message::default().number(1, size as u64),
            Dim::Named(name) => Message::default().text(2, name),
        }
    }
}

/// A tensor of a type and a shape, as inputs, outputs and values are described.
pub(crate) fn described(name: &str, data_type: i32, dims: &[Dim]) -> Message {
    let shape = dims.iter().fold(Message::default(), |shape, dim| shape.message(1, &dim.message()));
    let tensor = Message::default().number(1, u64::from(data_type.unsigned_abs())).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}
