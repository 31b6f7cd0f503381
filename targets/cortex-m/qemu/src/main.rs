//! The lesson on an emulated microcontroller: first boot, reset half-way, second boot, and then the power cut at every
//! write of the last save. Exit code 0: everything was as it must be.
#![no_std]
#![no_main]

mod machine;

use cortex_m::peripheral::SCB;
use cortex_m_rt::entry;
use defmt_semihosting as _;
use lesson::nor::{Fault, PAGE, SimulatedNor};
use lesson::store::{PAGES, Store};
use lesson::story::{self, Next, Trouble};
use lesson::{Lesson, trial};

use machine::{NotRead, Streamed};

/// Bytes of the simulated flash.
const CELLS: usize = PAGES * PAGE;

type Ended = Trouble<NotRead, Fault>;

#[entry]
fn main() -> ! {
    static mut LESSON: Lesson = Lesson::empty();
    let Some(core) = cortex_m::Peripherals::take() else { machine::exit(1) };
    machine::start_clock(core.SYST);
    let [nor, old, new] = machine::take_bench(core.CPUID);
    match device(LESSON, nor, old) {
        Ok(Next::Reset) => SCB::sys_reset(),
        Ok(Next::Done) => {}
        Err(trouble) => {
            defmt::error!("{}", trouble);
            machine::exit(1)
        }
    }
    let (used, size) = machine::stack();
    defmt::info!("device: {} bytes of stack used of {}", used, size);
    new.copy_from_slice(nor);
    match trial::cut_every_operation(LESSON, nor, old, new, &[127, 255]) {
        Ok(survived) => defmt::info!(
            "{} power cuts in {} writes and erasures of one save: {} left the old generation, {} the new one",
            survived.cuts,
            survived.operations,
            survived.old,
            survived.new
        ),
        Err(failed) => {
            defmt::error!("{}", failed);
            machine::exit(1)
        }
    }
    let (used, size) = machine::stack();
    defmt::info!("bench: {} bytes of stack used of {}", used, size);
    machine::exit(0)
}

/// What would run on a device. `before` becomes what the flash held when it booted.
fn device(lesson: &mut Lesson, nor: &mut [u8], before: &mut [u8]) -> Result<Next, Ended> {
    let Ok(mut photos) = Streamed::open() else {
        defmt::error!("digits.bin is not where QEMU was started");
        machine::exit(2)
    };
    before.copy_from_slice(nor);
    let mut store = Store::new(SimulatedNor::new(nor), 0..CELLS as u32);
    story::boot(lesson, &mut store, &mut photos, machine::milliseconds, true)
}
