//! Bookkeeping of a site's pairs, of fixed capacity: how old, on which direction, and which directions are unused.

use heapless::{Deque, Vec};

use super::error::CoreError;
use super::shape::SiteShape;

/// Ages and directions of at most `RANK` pairs, and a reserve of at most `RESERVE` directions.
#[derive(Debug, Clone, Default)]
pub struct Ledger<const RANK: usize, const RESERVE: usize> {
    ages: Vec<u32, RANK>,
    directions: Vec<u16, RANK>,
    reserve: Deque<u16, RESERVE>,
}

impl<const RANK: usize, const RESERVE: usize> Ledger<RANK, RESERVE> {
    /// Of no site: what a static holds until there is one.
    #[must_use]
    pub const fn empty() -> Self {
        Ledger { ages: Vec::new(), directions: Vec::new(), reserve: Deque::new() }
    }

    /// Pairs on the first `rank` directions, age 0; the rest in reserve.
    ///
    /// # Errors
    /// `Rank` or `Reserve` where `shape` exceeds the capacity.
    pub fn new(shape: &SiteShape) -> Result<Self, CoreError> {
        shape.check()?;
        // `check` keeps both within u16.
        let directions = 0..shape.rank as u16;
        let rest = directions.end..shape.reserve as u16;
        Self::restore(shape, directions.clone().map(|_| 0), directions, rest)
    }

    /// A saved ledger.
    ///
    /// # Errors
    /// `Rank` or `Reserve` where it exceeds the capacity, `Ledger` where it speaks of another site.
    pub fn restore(
        shape: &SiteShape,
        ages: impl IntoIterator<Item = u32>,
        directions: impl IntoIterator<Item = u16>,
        reserve: impl IntoIterator<Item = u16>,
    ) -> Result<Self, CoreError> {
        let mut ledger = Ledger::empty();
        for age in ages {
            ledger.ages.push(age).map_err(|_| CoreError::Rank { most: RANK, given: shape.rank })?;
        }
        for direction in directions {
            ledger.directions.push(direction).map_err(|_| CoreError::Rank { most: RANK, given: shape.rank })?;
        }
        for direction in reserve {
            let full = CoreError::Reserve { limit: RESERVE, given: shape.reserve };
            ledger.reserve.push_back(direction).map_err(|_| full)?;
        }
        ledger.check(shape)?;
        Ok(ledger)
    }

    /// # Errors
    /// `Ledger` where it speaks of pairs or directions that `shape` does not have.
    pub fn check(&self, shape: &SiteShape) -> Result<(), CoreError> {
        let known = |&direction: &u16| usize::from(direction) < shape.reserve;
        let fits = self.ages.len() == shape.rank && self.directions.len() == shape.rank;
        let all_known = self.directions.iter().all(known) && self.reserve.iter().all(known);
        if fits && all_known { Ok(()) } else { Err(CoreError::Ledger) }
    }

    /// Steps that each pair has lived.
    #[must_use]
    pub fn ages(&self) -> &[u32] {
        &self.ages
    }

    /// The direction that each pair started on.
    #[must_use]
    pub fn directions(&self) -> &[u16] {
        &self.directions
    }

    /// The directions that no pair has used, in the order in which they will be.
    pub fn reserve(&self) -> impl ExactSizeIterator<Item = u16> + '_ {
        self.reserve.iter().copied()
    }

    pub(super) fn grow_older(&mut self) {
        self.ages.iter_mut().for_each(|age| *age = age.saturating_add(1));
    }

    /// Gives `pair` the next direction; with `wrap`, its old one goes to the back of the reserve first, and is the next where the
    /// reserve is empty.
    ///
    /// The old one is put back after the next one was taken out, so that a full reserve has room for it.
    pub(super) fn move_on(&mut self, pair: usize, wrap: bool) -> Option<u16> {
        let (direction, age) = (self.directions.get_mut(pair)?, self.ages.get_mut(pair)?);
        let old = *direction;
        let next = match self.reserve.pop_front() {
            Some(next) if wrap => {
                self.reserve.push_back(old).ok()?;
                next
            }
            Some(next) => next,
            None if wrap => old,
            None => return None,
        };
        (*direction, *age) = (next, 0);
        Some(next)
    }
}
