//! What a simulation answers.

use serde::Serialize;

use super::device::Arch;
use super::replay::Cut;
use super::trace::{Excess, Written};
use crate::session::lesson::TrainReport;
use crate::session::photos::Ignored;

/// What would happen on a device. Everything that is a time, an energy or a wear is an estimate from the profile; memory, bytes and
/// the lesson's result were measured while it ran here.
#[derive(Debug, Clone, Serialize)]
pub struct Simulation {
    /// The device, as its profile names it.
    pub device: String,
    /// What its processor runs.
    pub arch: Arch,
    /// Its cores.
    pub cores: usize,
    /// Whether the lesson comes to an end there.
    pub finishes: bool,
    /// From the beginning to the end, cuts and hours without power included.
    pub seconds: f64,
    /// Where an attempt without cuts spends its time.
    pub time: Times,
    /// Memory.
    pub ram: RamUse,
    /// Writes and wear.
    pub flash: FlashUse,
    /// Energy of all attempts, in watt-hours; null where the profile has no power.
    pub energy_wh: Option<f64>,
    /// Mean power while it works, in watts.
    pub mean_w: Option<f64>,
    /// Power cuts, in order.
    pub cuts: Vec<Cut>,
    /// Cuts that were asked for and did not strike: their place lay behind the lesson when their turn came.
    pub cuts_missed: usize,
    /// Accuracy over the device's time, of the work that has lasted.
    pub curve: Vec<Point>,
    /// What the times were made from.
    pub host: HostUse,
    /// Photos of formats that are not read.
    pub ignored: Vec<Ignored>,
    /// What the lesson answered.
    pub train: TrainReport,
}

/// Seconds of one attempt on the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Times {
    /// Reading, planning, and trying the plan out.
    pub start: f64,
    /// Imprinting the head.
    pub imprint: f64,
    /// Measuring accuracy.
    pub accuracy: f64,
    /// Finding the directions of what sites read.
    pub directions: f64,
    /// Trying lessons on photos left out.
    pub cross_validate: f64,
    /// Steps.
    pub train: f64,
    /// Trying and writing generations.
    pub save: f64,
    /// Of all of them: the network and everything that is not below.
    pub computing: f64,
    /// Reading photos.
    pub decoding: f64,
    /// Writing.
    pub writing: f64,
    /// By which heat makes it longer.
    pub throttled: f64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RamUse {
    /// The most that the lesson might take.
    pub cap_bytes: u64,
    /// What the device has.
    pub total_bytes: u64,
    /// What was planned; null where this system does not tell.
    pub planned_bytes: Option<u64>,
    /// What was taken (VmHWM of this process); null where this system does not tell.
    pub peak_bytes: Option<u64>,
    /// Where it was more than the cap; null where it was not.
    pub excess: Option<Excess>,
}

/// Bytes and wear.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlashUse {
    /// One attempt without cuts, from the sizes of its files.
    pub lesson: Written,
    /// All attempts together.
    pub written_bytes: u64,
    /// Bytes that the medium can take before it is worn.
    pub endurance_bytes: f64,
    /// Share of that which one attempt without cuts uses up.
    pub wear: f64,
    /// Such lessons until it is worn.
    pub lessons_until_worn: f64,
    /// Whether a cache that is written to the medium would fit in memory within the cap.
    pub cache_fits_in_ram: bool,
}

/// A point of the accuracy over time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// On the device's clock.
    pub at_s: f64,
    /// Steps done.
    pub step: u64,
    /// Accuracy on the validation photos; null where it was not measured then.
    pub val_accuracy: Option<f64>,
    /// Accuracy on the batches since the point before, as each was seen before its step; null where there was none.
    pub batch_accuracy: Option<f64>,
    /// Their mean loss.
    pub loss: Option<f64>,
    /// The generation that is durable here, where one is.
    pub generation: Option<u64>,
}

/// This machine's side of the estimate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HostUse {
    /// Processor time of the lesson here, all threads together.
    pub processor_ms: f64,
    /// Of which for decoding.
    pub decode_ms: f64,
    /// Photos decoded.
    pub photos: f64,
    /// Pixels of one, in 10^6.
    pub mpixels: f64,
    /// Floating-point operations a second of a large product on one thread, in 10^9.
    pub gflops: f64,
    /// The same of one of the device's cores, from its profile.
    pub device_gflops: f64,
}
