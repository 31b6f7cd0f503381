//! Changes to a file, on the wire.
//!
//! In: the bytes of a file, and changes to single tensors, operands and nodes. Out: its bytes with these. Whatever does not change is copied
//! byte by byte, known to this program or not.

mod described;
mod document;
mod external;
mod fields;
mod node;
mod written;

pub(crate) use described::{Dim, described};
pub(crate) use document::{ANNOTATION, Document, INITIALIZER, INPUT, NODE, Slot, VALUE_INFO};
pub(crate) use external::inline;
pub(crate) use fields::Message;
pub(crate) use node::{NewNode, Setting};
