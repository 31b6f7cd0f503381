//! The numbers of a file, in the precision in which it holds them.
//!
//! In: the tensors of a decoded graph. Out: the [`Constants`] that its nodes read, moved out of the graph, whose copies share
//! their numbers and may take no more than the file's budget; and the [`FrozenWeight`] that one of them becomes, read row by row
//! or a tile at a time, with what a site has merged.

mod constant;
mod constants;
mod weight;

pub(crate) use constant::{Constant, Values, is_float};
pub(crate) use constants::{Constants, check_room};
pub(crate) use weight::{Codes, FrozenWeight};
