//! Buffers that a product needs for a moment. They are lent by a small pool per thread, so that a warm step asks the
//! allocator for none.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

thread_local! {
    static POOL: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A borrowed buffer; it goes back to the pool when dropped.
pub(crate) struct Scratch(Vec<f32>);

impl Scratch {
    /// A buffer of `len` floats of any value.
    pub(crate) fn of(len: usize) -> Self {
        let mut buffer = POOL.with_borrow_mut(Vec::pop).unwrap_or_default();
        buffer.resize(len, 0.0);
        Scratch(buffer)
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        POOL.with_borrow_mut(|pool| pool.push(std::mem::take(&mut self.0)));
    }
}
