//! What happens on the device: photos are read, a lesson is trained, its result is kept in a store and used.

mod added;
mod begin;
mod bench;
mod bits;
mod cache;
pub(crate) mod clock;
pub mod compare;
mod confusion;
mod crew;
mod dataset;
mod duplicates;
mod evaluate;
mod forecast;
mod gate;
mod history;
mod image;
mod inspect;
mod keep;
mod left_out;
mod lesson;
mod look;
mod memory;
mod metrics;
mod opening;
mod outlook;
mod plan;
mod predict;
mod profile;
mod rehearsal;
mod room;
mod runner;
mod scores;
mod simulate;
mod source;
mod steps;
pub mod store;
mod temporary;
mod train;
mod trial;

pub use bench::{BenchReport, bench};
pub use cache::CachePlace;
pub use confusion::{Confusion, Tally};
pub use dataset::{Dataset, Ignored, Quarantine, Quarantined, Sample, order};
pub use evaluate::{ClassScore, Confused, Evaluation, Mistake, evaluate};
pub use forecast::Forecast;
pub use history::{History, history};
pub use image::{Augment, load};
pub use inspect::{InspectedSite, Inspection, inspect};
pub use keep::{CHECKPOINT_EVERY, Keep};
pub use lesson::{Event, Length, Lesson, Observer, Outcome, Progress, TrainReport, Validation};
pub use memory::peak_rss_bytes;
pub use metrics::JOURNAL;
pub use predict::{Classifier, Guess, Prediction};
pub use profile::{OpCost, Profile};
pub use rehearsal::Rehearsal;
pub use simulate::{
    Arch, Cause, Cut, CutAt, Cuts, Device, Excess, Flash, FlashUse, HostUse, Phase, Point, Power, Ram, RamUse,
    Schedule, Simulation, Speed, Thermal, Times, Written, simulate,
};
pub use store::{Record, Store, StoreWriter};
pub use temporary::TemporaryFolder;
pub use train::{train, train_into};
pub use trial::{AllClasses, Known, Trial, TrialPhotos};
