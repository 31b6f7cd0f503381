//! What this process takes from the machine: its memory and its time.

mod clock;
mod memory;

#[cfg(feature = "cli")]
pub(crate) use clock::begin;
pub(crate) use clock::{median, processor_ms, startup_ms, timed};
pub use memory::peak_rss_bytes;
pub(crate) use memory::{Block, Claim, Watch, rss_bytes};
