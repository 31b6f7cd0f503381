//! srlora for C and C++: opaque handles around the library, and a code and a sentence for whatever goes wrong.
//!
//! ```text
//! pointers    what callers promise of pointers; NULL is refused here
//! panics      none gets out, and none is printed
//! error       the code and the sentence
//! frame       pixels where the caller has them
//! bundle, classifier, prediction          a photo classified
//! photos, lesson, event, trainer, report  a lesson
//! store       what was learned, and the way back
//! version     of the library that is loaded
//! ```
//!
//! `include/srlora.h` is made of these modules' declarations and comments; `targets/c/check` compares. The types here have the names
//! that C sees.
#![allow(non_camel_case_types)]
// What a caller must promise is said once, in `pointers`, and in the header's first comment.
#![allow(clippy::missing_safety_doc)]

pub mod bundle;
pub mod classifier;
pub mod error;
pub mod event;
pub mod frame;
pub mod lesson;
mod panics;
pub mod photos;
mod pointers;
pub mod prediction;
pub mod report;
pub mod store;
mod text;
pub mod trainer;
pub mod version;
