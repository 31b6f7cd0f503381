//! The arithmetic of a network: operators of our own in the place of tract's, and the loops behind them.
//!
//! In: tensors, the frozen maps of a file, and the adapter where a map is a site. Out: operators that stand in a typed graph and
//! are evaluated with it: [`map_op::MapOp`] and its gradient, on matrix products with the columns of an image or on one loop over
//! a depthwise plane; and what rewrites a typed graph so that it uses faster ones, a product of two activations or an expansion
//! that never exists as a whole.

mod batch_product;
mod depthwise;
pub(crate) mod expand;
mod flat;
pub(crate) mod map_op;
mod operands;
mod patches;
mod product;
mod projection;
mod taps;
pub(crate) mod views;

pub(crate) use batch_product::use_products;
pub use map_op::SharedAdapter;
