//! Buffers that a product needs for a moment. They are lent by a small pool per thread, so that a warm step asks the
//! allocator for none.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

thread_local! {
    static POOL: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A borrowed buffer; it goes back to the pool when dropped.
pub(crate) struct Scratch {
    buffer: Vec<f32>,
    len: usize,
}

impl Scratch {
    /// A buffer of `len` floats of any value: the smallest that is long enough, else the longest, made longer.
    pub(crate) fn of(len: usize) -> Self {
        let mut buffer = POOL.with_borrow_mut(|pool| {
            let lengths = || pool.iter().enumerate().map(|(at, buffer)| (buffer.len(), at));
            let best = lengths().filter(|(length, _)| *length >= len).min().or_else(|| lengths().max());
            best.map(|(_, at)| pool.swap_remove(at)).unwrap_or_default()
        });
        if buffer.len() < len {
            // What it held is not worth moving.
            buffer.clear();
            buffer.resize(len, 0.0);
        }
        Scratch { buffer, len }
    }

    /// A buffer of `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mut scratch = Scratch::of(len);
        scratch.fill(0.0);
        scratch
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.buffer[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        POOL.with_borrow_mut(|pool| pool.push(std::mem::take(&mut self.buffer)));
    }
}
