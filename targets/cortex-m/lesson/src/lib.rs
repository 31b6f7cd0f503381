//! A network in flash learns handwritten digits on the microcontroller that runs it.
//!
//! ```text
//! network  the frozen part: three convolutions in int8, read where they lie in flash, and their backward pass
//! lesson   what learns, in one static: pairs beside two of them, a head; a step, a recomposition, an evaluation
//! store    generations of the lesson in NOR flash, through `embedded-storage` and `sequential-storage`
//! nor      a NOR flash in memory, that loses power wherever it is told to
//! story    what a device does from its first boot to the end of the lesson, and what it says
//! trial    the power cut at every write of one save
//! ```
//!
//! No allocator, no std, no unsafe. The same code runs on the host, bit for bit: see `examples/host.rs`.
#![no_std]

#[cfg(not(feature = "defmt"))]
extern crate std;

/// A line for whoever watches: over defmt on a device, to stdout on the host; the same text on both.
macro_rules! say {
    ($($arguments:tt)*) => {{
        #[cfg(feature = "defmt")]
        defmt::info!($($arguments)*);
        #[cfg(not(feature = "defmt"))]
        std::println!($($arguments)*);
    }};
}

mod adapter;
mod album;
mod lesson;
mod network;
pub mod nor;
pub mod store;
pub mod story;
pub mod trial;

pub use album::{Album, CLASSES, HELD_BACK, InFlash, PHOTO_BYTES, TO_LEARN};
pub use lesson::{Error, Lesson, STEPS};
