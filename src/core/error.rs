//! What can be wrong with what a caller lends.

use ::core::fmt;

/// A buffer or number that does not fit the site or head it was given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CoreError {
    /// A buffer of another length.
    Length {
        /// Which buffer.
        buffer: Buffer,
        /// Elements needed.
        needed: usize,
        /// Elements given.
        given: usize,
    },
    /// More pairs than the ledger has room for, or than the shape has dimensions.
    Rank {
        /// The largest that fits.
        most: usize,
        /// Pairs asked for.
        given: usize,
    },
    /// More directions than the ledger has room for, or fewer than pairs.
    Reserve {
        /// The least or most that fits.
        limit: usize,
        /// Directions given.
        given: usize,
    },
    /// A delta block wider than [`MAX_BLOCK`](super::MAX_BLOCK), or 0.
    Block {
        /// Columns asked for.
        given: usize,
    },
    /// A saved ledger that speaks of pairs or directions that the site does not have.
    Ledger,
    /// A shape whose buffers no address space holds.
    Size,
    /// A row that the delta does not have.
    Row {
        /// Rows of the delta.
        rows: usize,
        /// The row asked for.
        given: usize,
    },
    /// A class that the head does not have.
    Class {
        /// Classes of the head.
        classes: usize,
        /// The class asked for.
        given: usize,
    },
}

/// The buffers that a caller lends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Buffer {
    /// Five planes of pair state.
    State,
    /// A gradient plane.
    Gradient,
    /// Codes of the delta.
    DeltaCodes,
    /// Scales of the delta.
    DeltaScales,
    /// A row of the delta.
    DeltaRow,
    /// Singular values.
    Sigma,
    /// Left directions.
    DirectionsU,
    /// Right directions.
    DirectionsV,
    /// A weight or its scales.
    Weight,
    /// A weight's biases.
    Bias,
    /// An input vector.
    Input,
    /// An output vector.
    Output,
    /// Scratch.
    Scratch,
    /// The head's weights.
    HeadWeights,
    /// The head's biases, or logits.
    HeadBias,
}

impl CoreError {
    pub(super) const fn check(buffer: Buffer, needed: usize, given: usize) -> Result<(), CoreError> {
        if needed == given { Ok(()) } else { Err(CoreError::Length { buffer, needed, given }) }
    }
}

impl fmt::Display for CoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            CoreError::Length { buffer, needed, given } => write!(f, "{buffer:?} has {given} elements, not {needed}"),
            CoreError::Rank { most, given } => write!(f, "rank {given}; {most} is the most"),
            CoreError::Reserve { limit, given } => write!(f, "{given} directions where {limit} is the limit"),
            CoreError::Block { given } => write!(f, "delta blocks of {given} columns"),
            CoreError::Ledger => f.write_str("a ledger of another site"),
            CoreError::Size => f.write_str("a shape beyond the address space"),
            CoreError::Row { rows, given } => write!(f, "row {given} of {rows}"),
            CoreError::Class { classes, given } => write!(f, "class {given} of {classes}"),
        }
    }
}

impl ::core::error::Error for CoreError {}
