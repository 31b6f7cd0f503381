//! A NOR flash in memory: it erases pages to ones, writes words once, and loses power wherever it is told to.

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

/// Bytes that are erased together.
pub const PAGE: usize = 4096;
/// Bytes that are written together.
pub const WORD: usize = 4;

/// Why the flash did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Fault {
    /// The power is gone.
    PowerCut,
    /// Outside of the flash, or across a boundary.
    Address,
    /// A word that was already written since its page was erased.
    WrittenTwice,
}

impl NorFlashError for Fault {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Fault::Address => NorFlashErrorKind::OutOfBounds,
            Fault::PowerCut | Fault::WrittenTwice => NorFlashErrorKind::Other,
        }
    }
}

/// Where the power goes: (`share` + 1) / 256 into operation `operation`, a write or an erasure, counted from 0. With 255 all
/// of it has happened, and nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Cut {
    /// Which one.
    pub operation: u32,
    /// How far into it: words written, or bytes erased.
    pub share: u8,
}

/// The flash, over the memory that stands for its cells.
#[derive(Debug)]
pub struct SimulatedNor<'a> {
    cells: &'a mut [u8],
    cut: Option<Cut>,
    operations: u32,
    dead: bool,
}

impl<'a> SimulatedNor<'a> {
    /// The flash as `cells` have it, under power. Memory that holds nothing but zeros was never a flash: it is delivered
    /// erased.
    #[must_use]
    pub fn new(cells: &'a mut [u8]) -> Self {
        if cells.iter().all(|byte| *byte == 0) {
            cells.fill(0xff);
        }
        SimulatedNor { cells, cut: None, operations: 0, dead: false }
    }

    /// The same cells, and power that goes at `cut`.
    #[must_use]
    pub fn with_cut(cells: &'a mut [u8], cut: Cut) -> Self {
        SimulatedNor { cut: Some(cut), ..SimulatedNor::new(cells) }
    }

    /// Writes and erasures so far.
    #[must_use]
    pub const fn operations(&self) -> u32 {
        self.operations
    }

    /// How many of the `units` of the next operation happen, and whether it ends with the power gone.
    fn next_operation(&mut self, units: usize) -> Result<(usize, Result<(), Fault>), Fault> {
        if self.dead {
            return Err(Fault::PowerCut);
        }
        let here = self.cut.filter(|cut| cut.operation == self.operations);
        self.operations += 1;
        self.dead = here.is_some();
        Ok(match here {
            Some(cut) => (units * (usize::from(cut.share) + 1) / 256, Err(Fault::PowerCut)),
            None => (units, Ok(())),
        })
    }

    fn span(&self, from: u32, len: usize, unit: usize) -> Result<core::ops::Range<usize>, Fault> {
        let from = from as usize;
        let to = from.checked_add(len).filter(|to| *to <= self.cells.len()).ok_or(Fault::Address)?;
        if from.is_multiple_of(unit) && len.is_multiple_of(unit) { Ok(from..to) } else { Err(Fault::Address) }
    }
}

impl ErrorType for SimulatedNor<'_> {
    type Error = Fault;
}

impl ReadNorFlash for SimulatedNor<'_> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        if self.dead {
            return Err(Fault::PowerCut);
        }
        let span = self.span(offset, bytes.len(), Self::READ_SIZE)?;
        bytes.copy_from_slice(&self.cells[span]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.cells.len()
    }
}

impl NorFlash for SimulatedNor<'_> {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        let span = self.span(from, to.checked_sub(from).ok_or(Fault::Address)? as usize, PAGE)?;
        let (done, end) = self.next_operation(span.len())?;
        self.cells[span][..done].fill(0xff);
        end
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        let span = self.span(offset, bytes.len(), WORD)?;
        if self.cells[span.clone()].iter().any(|byte| *byte != 0xff) {
            return Err(Fault::WrittenTwice);
        }
        let (done, end) = self.next_operation(bytes.len() / WORD)?;
        let done = done * WORD;
        self.cells[span][..done].copy_from_slice(&bytes[..done]);
        end
    }
}
