//! The network of a file: its graph without the maps, what is found in it, and the typed graphs that are made of it and run.
//!
//! In: the bytes of a file. Out: an [`OnnxFile`], in float form, with whatever no image changes worked out and its maps taken; the
//! tensor that the head reads, the sites that can carry pairs, and the first layer; and of these, for one request, a typed graph
//! with the maps in it as our own operators, pooled, split at its first sites, and planned to run again and again.

mod features;
mod file;
mod first_layer;
mod fold;
mod fuse;
mod nodes;
pub(crate) mod plan;
mod pool;
mod reference;
pub(crate) mod sites;
mod split;
mod typed;

pub use features::{Doubt, FeaturesFrom};
pub(crate) use features::{Features, default_features};
pub(crate) use file::OnnxFile;
pub(crate) use first_layer::first_layer;
pub use first_layer::{FirstLayer, Yardstick};
pub(crate) use nodes::{concrete, is_source, onnx_name};
pub use plan::NodeCost;
pub(crate) use pool::pool_features;
pub(crate) use reference::reference;
pub use sites::{Ineligible, Selection, Site};
pub(crate) use split::split;
pub(crate) use typed::{Request, typed};
