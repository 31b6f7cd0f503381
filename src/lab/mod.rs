//! What only measures: methods against each other, a device that is not there, this machine.

mod bench;
pub mod compare;
mod machine;
mod profile;
mod simulate;
mod temporary;

pub use bench::{BenchReport, bench};
pub use machine::Machine;
pub use profile::{OpCost, Profile};
pub use simulate::{
    Arch, Cause, Cut, CutAt, Cuts, Device, Excess, Flash, FlashUse, HostUse, Phase, Point, Power, PowerHours, Ram,
    RamUse, Simulation, Speed, Thermal, Times, Written, simulate,
};
pub use temporary::TemporaryFolder;
