//! The network over photos, on one or more threads.
//!
//! In come a planned network, an adapter and photos. Out go features, scores and gradients, in the order of the photos, whatever the
//! number of threads; what the prefix makes of a photo is kept on the way.

mod cache;
mod crew;
mod directions;
mod runner;
mod source;

pub(crate) use crew::Crew;
pub(crate) use directions::{DIRECTIONS, MOST_LOOKED_AT};
pub(crate) use runner::{Resources, Runner, Timing, view};
pub(crate) use source::View;
