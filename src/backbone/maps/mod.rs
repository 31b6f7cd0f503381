//! The frozen linear maps of a file: Conv, Gemm and MatMul with a constant weight.
//!
//! In: a graph in float form, and its constants. Out: the [`Map`]s, whose weights have left the protobuf and are held once, in
//! the precision in which they ship; each leaves a node behind that names it. A map says how its input becomes columns (its
//! [`MapKind`], with the [`Geometry`] of a convolution) and what it computes, y = clip(W x + b).

mod geometry;
mod map;
mod take;

pub(crate) use geometry::Geometry;
pub(crate) use map::{Clip, Frozen, Map, MapKind, cut};
pub(crate) use take::{MAP_INDEX, take};
