//! What the graph of a file may take, by the size of the file.

use crate::limits;

/// What a graph may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Bytes of activations that live at a time.
    pub(crate) bytes: usize,
    /// Bytes of constants that are not weights of maps.
    pub(crate) constants: usize,
}

impl Budget {
    /// Of a file of `len` bytes.
    pub(crate) fn of(len: usize) -> Budget {
        Budget { bytes: limits::activation_bytes(len), constants: limits::constant_bytes(len) }
    }
}
