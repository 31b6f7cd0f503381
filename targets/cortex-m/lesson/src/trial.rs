//! A trial of the store: the power goes at every operation of one save, and each time the flash must hold one
//! generation, whole, the old or the new one, and take the next save.

use crate::lesson::Lesson;
use crate::nor::{Cut, Fault, SimulatedNor};
use crate::store::{Failure, Generation, PAGES, Store, StoreError};
use srlora::core::RecordError;

/// What a trial counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Survived {
    /// Writes and erasures of the save.
    pub operations: u32,
    /// Cuts that ended a save.
    pub cuts: u32,
    /// Of these, those after which the old generation counted.
    pub old: u32,
    /// And those after which the new one did.
    pub new: u32,
}

/// A cut after which something was wrong.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Failed {
    /// The flash could not be read, or not be written again; what the trial began with included.
    Store(Cut, Failure<Fault>),
    /// What counts is neither the old nor the new generation.
    Generation(Cut, Option<Generation>),
    /// The save ended with another error than the cut's.
    Unexpected(Cut, Failure<Fault>),
}

/// Saves `new`'s generation over `old`'s, again and again, with the power cut at every operation and, in each, at every
/// one of `shares` (of 256); after the first share's cut another save is tried. `cells` is the flash, and `lesson` is used.
///
/// # Errors
/// The first cut that was not survived.
pub fn cut_every_operation(
    lesson: &mut Lesson,
    cells: &mut [u8],
    old: &[u8],
    new: &[u8],
    shares: &[u8],
) -> Result<Survived, Failed> {
    let Some(&first) = shares.first() else { return Ok(Survived::default()) };
    let mut survived = Survived::default();
    let before = loaded(lesson, cells, old, Cut { operation: 0, share: 0 })?;
    for operation in 0.. {
        for &share in shares {
            let cut = Cut { operation, share };
            let after = loaded(lesson, cells, new, cut)?;
            cells.copy_from_slice(old);
            if interrupted(lesson, cells, cut)? {
                survived.operations = operation;
                return Ok(survived);
            }
            survived.cuts += 1;
            let found = check(lesson, cells, [before, after], cut, share == first)?;
            survived.old += u32::from(found == before);
            survived.new += u32::from(found == after);
        }
    }
    Ok(survived)
}

/// Saves with the power cut; whether the save was done before.
#[inline(never)]
fn interrupted(lesson: &mut Lesson, cells: &mut [u8], cut: Cut) -> Result<bool, Failed> {
    match store(SimulatedNor::with_cut(cells, cut)).save(lesson) {
        Ok(_) => Ok(true),
        Err(RecordError::Medium(StoreError::Flash(sequential_storage::Error::Storage {
            value: Fault::PowerCut,
            ..
        }))) => Ok(false),
        Err(error) => Err(Failed::Unexpected(cut, error)),
    }
}

/// What counts when the power is back; it must be one of `allowed`, whole, and with `and_save` the next save must work.
#[inline(never)]
fn check(
    lesson: &mut Lesson,
    cells: &mut [u8],
    allowed: [Option<Generation>; 2],
    cut: Cut,
    and_save: bool,
) -> Result<Option<Generation>, Failed> {
    let fail = |error| Failed::Store(cut, error);
    let mut store = store(SimulatedNor::new(cells));
    let found = store.load(lesson).map_err(fail)?;
    if found.is_none() || !allowed.contains(&found) {
        return Err(Failed::Generation(cut, found));
    }
    if and_save {
        let next = store.save(lesson).map_err(fail)?;
        let named = store.newest().map_err(|error| fail(RecordError::Medium(error)))?;
        let same = found.is_some_and(|found| found.checksum == next.checksum && found.number + 1 == next.number);
        if !same || named != Some(next) {
            return Err(Failed::Generation(cut, named));
        }
    }
    Ok(found)
}

/// Loads from a flash that holds `image`. Never inlined, as those above: a store a call is a store on the stack.
#[inline(never)]
fn loaded(lesson: &mut Lesson, cells: &mut [u8], image: &[u8], cut: Cut) -> Result<Option<Generation>, Failed> {
    cells.copy_from_slice(image);
    store(SimulatedNor::new(cells)).load(lesson).map_err(|error| Failed::Store(cut, error))
}

fn store(flash: SimulatedNor<'_>) -> Store<SimulatedNor<'_>> {
    Store::new(flash, 0..(PAGES * crate::nor::PAGE) as u32)
}
