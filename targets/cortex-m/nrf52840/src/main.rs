//! The lesson on a real microcontroller, an nRF52840 (Cortex-M4F, 64 MHz), with nothing simulated: photos and network lie
//! in flash, generations in its last pages. Logs go over RTT, as `probe-rs run` shows them.
//!
//! First boot: learn half of the lesson, save, reset. Second boot: go on, save, stop. Later boots: learn nothing more.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::{SCB, SYST, syst::SystClkSource};
use cortex_m_rt::{entry, exception};
use defmt_rtt as _;
use embassy_nrf::nvmc::{FLASH_SIZE, Nvmc, PAGE_SIZE};
use lesson::store::{PAGES, Store};
use lesson::story::{self, Next};
use lesson::{InFlash, Lesson};
use panic_probe as _;

static PHOTOS: &[u8] = include_bytes!("../../../../models/digits8/digits.bin");

/// The store's part of the flash: memory.x leaves it out of the program's.
const STORE: core::ops::Range<u32> = (FLASH_SIZE - PAGES * PAGE_SIZE) as u32..FLASH_SIZE as u32;

/// Ticks of the processor's clock in a millisecond.
const TICKS: u32 = 64_000;

static MILLISECONDS: AtomicU32 = AtomicU32::new(0);

#[entry]
fn main() -> ! {
    static mut LESSON: Lesson = Lesson::empty();
    let Some(core) = cortex_m::Peripherals::take() else { cortex_m::asm::udf() };
    start_clock(core.SYST);
    let board = embassy_nrf::init(embassy_nrf::config::Config::default());
    let mut store = Store::new(Nvmc::new(board.NVMC), STORE);
    match story::boot(LESSON, &mut store, &mut InFlash(PHOTOS), milliseconds, true) {
        Ok(Next::Reset) => SCB::sys_reset(),
        Ok(Next::Done) => defmt::info!("done"),
        Err(trouble) => defmt::error!("{}", trouble),
    }
    loop {
        cortex_m::asm::wfi();
    }
}

fn start_clock(mut timer: SYST) {
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(TICKS - 1);
    timer.clear_current();
    timer.enable_interrupt();
    timer.enable_counter();
}

fn milliseconds() -> u32 {
    MILLISECONDS.load(Ordering::Relaxed)
}

#[exception]
fn SysTick() {
    // A load and a store, as nothing else stores.
    MILLISECONDS.store(milliseconds().wrapping_add(1), Ordering::Relaxed);
}
