//! An allocator that ends the process where more is alive than any file may ask for: what `-malloc_limit_mb` is with a
//! sanitizer, but for the sum.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes over what the fuzzer itself keeps.
const MOST: usize = 64 << 20;

/// The system's allocator, up to [`MOST`] bytes, the fuzzer's own maps aside, which are not allocated here.
pub struct Capped(AtomicUsize);

impl Capped {
    /// Nothing is alive yet.
    #[must_use]
    pub const fn new() -> Self {
        Capped(AtomicUsize::new(0))
    }
}

impl Default for Capped {
    fn default() -> Self {
        Self::new()
    }
}

unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.0.fetch_add(layout.size(), Ordering::Relaxed) + layout.size() > MOST {
            eprintln!("more than {MOST} bytes are alive");
            std::process::abort();
        }
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.0.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}
