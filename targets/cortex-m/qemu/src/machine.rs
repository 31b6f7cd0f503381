//! The machine: a clock, memory beside the program's own, photos from a file on the host, and a way out.
//!
//! The one place with unsafe code: memory that only the linker script knows, and the interrupt vectors.
#![allow(unsafe_code)]

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::{SYST, syst::SystClkSource};
use cortex_m_rt::{ExceptionFrame, exception};
use lesson::{Album, PHOTO_BYTES};
use semihosting::fs::File;
use semihosting::io::{Read, Seek, SeekFrom};
use semihosting::process;

use crate::CELLS;

/// Ticks of the processor's clock in a millisecond: 25 MHz on both machines.
const TICKS: u32 = 25_000;

static MILLISECONDS: AtomicU32 = AtomicU32::new(0);

/// Lets the clock run.
pub(crate) fn start_clock(mut timer: SYST) {
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(TICKS - 1);
    timer.clear_current();
    timer.enable_interrupt();
    timer.enable_counter();
}

/// Since the clock was started.
pub(crate) fn milliseconds() -> u32 {
    MILLISECONDS.load(Ordering::Relaxed)
}

#[exception]
fn SysTick() {
    // A load and a store, as nothing else stores.
    MILLISECONDS.store(milliseconds().wrapping_add(1), Ordering::Relaxed);
}

/// The NOR flash's cells, which a reset leaves as they are, and two copies that the bench keeps of them.
pub(crate) fn take_bench(_once: cortex_m::peripheral::CPUID) -> [&'static mut [u8]; 3] {
    unsafe extern "C" {
        static mut _bench: [[u8; CELLS]; 3];
    }
    let bench = &raw mut _bench;
    // SAFETY: the linker script keeps 1 MiB at `_bench` apart from everything else, which is more than three times
    // CELLS; any byte is a u8; `_once` exists once, so that this is the only reference there will be.
    let [nor, old, new] = unsafe { &mut *bench };
    [nor, old, new]
}

/// Bytes of stack that were ever used, and bytes that there are.
pub(crate) fn stack() -> (usize, usize) {
    unsafe extern "C" {
        static mut _stack_start: u32;
        static mut _stack_end: u32;
    }
    let (top, bottom) = (&raw const _stack_start, &raw const _stack_end);
    let words = (top as usize - bottom as usize) / size_of::<u32>();
    // SAFETY: the words from `_stack_end` up to `_stack_start` are the stack, painted before main; a volatile read of one
    // that is in use gives its value now, which is all that is asked.
    let untouched =
        (0..words).take_while(|word| unsafe { bottom.add(*word).read_volatile() } == cortex_m_rt::STACK_PAINT_VALUE);
    ((words - untouched.count()) * size_of::<u32>(), words * size_of::<u32>())
}

/// Photos, read one at a time from a file on the host, as over any link.
pub(crate) struct Streamed(File);

impl Streamed {
    /// The file `digits.bin` where QEMU was started.
    pub(crate) fn open() -> semihosting::io::Result<Self> {
        File::open(c"digits.bin").map(Streamed)
    }
}

/// The file has no such photo.
#[derive(Debug, defmt::Format)]
pub(crate) struct NotRead(usize);

impl Album for Streamed {
    type Error = NotRead;

    fn photo(&mut self, index: usize, photo: &mut [u8; PHOTO_BYTES]) -> Result<(), NotRead> {
        let mut read = |file: &mut File| {
            file.seek(SeekFrom::Start((index * PHOTO_BYTES) as u64))?;
            file.read_exact(photo)
        };
        read(&mut self.0).map_err(|_| NotRead(index))
    }
}

/// Ends QEMU.
pub(crate) fn exit(code: i32) -> ! {
    process::exit(code)
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("", 0), |location| (location.file(), location.line()));
    defmt::error!("panicked in {=str}, line {=u32}", file, line);
    exit(101)
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    defmt::error!("fault at {=u32:x}", frame.pc());
    exit(102)
}
