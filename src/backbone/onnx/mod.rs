//! An ONNX file as it lies on disk.
//!
//! In: bytes that nothing is known of. Out: a [`Decoded`] model whose messages were counted before they were decoded, whose
//! names, order, tensors and types hold together, and which has one image as its input; with it the [`Budget`] that the size of
//! the file gives everything that is made of it later. What every other room asks of a node or a name is here too.

mod budget;
mod checks;
mod decode;
mod image;
mod layout;
mod names;
mod nodes;
mod sources;
mod types;
mod wire;

pub(crate) use budget::Budget;
pub(crate) use decode::{Decoded, decode, decode_proto, float_input, model_of, opset};
pub use image::ImageInput;
pub(crate) use names::{MAP_OP, Names, name_nodes, nearest};
pub(crate) use nodes::{attribute, changing, int_attribute, producers, reads, type_name};
pub(crate) use sources::WeightSources;
pub(crate) use wire::next as next_field;
