//! Sizes of everything that a caller lends, as `const fn`s: a firmware can put them in statics.
//!
//! They answer for every shape, one that [`SiteShape::check`] refuses too: what would overflow is `usize::MAX`, a length that no
//! buffer has.

use ::core::mem::size_of;
use ::core::ops::Range;

use super::error::CoreError;

/// Widest delta block, in columns.
pub const MAX_BLOCK: usize = 64;

/// Planes of pair state: values, first moment, second moment, sensitivity, uncertainty.
///
/// Each has `rank * (in_dim + out_dim)` floats: A (rank x in_dim), then B transposed (rank x out_dim). Where pairs are one-sided it
/// is B transposed alone.
pub const PLANES: usize = 5;

/// Most shipped directions: ledgers keep them as `u16`.
const MOST_DIRECTIONS: usize = u16::MAX as usize;

/// Which sides of a pair learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Sides {
    /// `a` and `b`.
    #[default]
    Both,
    /// `b` alone: a one-sided pair. `a` stays on its direction and is no state; it is read where the direction ships.
    One,
}

impl Sides {
    /// Pairs of a site that have as many numbers to learn as `rank` two-sided ones: floor(rank (m + n) / m) where `b` alone learns,
    /// with m = `out_dim` and n = `in_dim`, and at most n of them.
    #[must_use]
    pub const fn pairs(self, rank: usize, out_dim: usize, in_dim: usize) -> usize {
        match self {
            Sides::Both => rank,
            Sides::One if out_dim == 0 => 0,
            Sides::One => {
                let pairs = rank.saturating_mul(out_dim.saturating_add(in_dim)) / out_dim;
                if pairs < in_dim { pairs } else { in_dim }
            }
        }
    }
}

/// The sizes of one site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SiteShape {
    /// Rows of W.
    pub out_dim: usize,
    /// Columns of W.
    pub in_dim: usize,
    /// Live pairs.
    pub rank: usize,
    /// Which sides of them learn.
    pub sides: Sides,
    /// Shipped directions, those that the pairs start on included.
    pub reserve: usize,
    /// Columns per delta block.
    pub block: usize,
}

impl SiteShape {
    /// Floats in one plane: values, a moment, an average, or a gradient.
    #[must_use]
    pub const fn plane_len(&self) -> usize {
        self.rank.saturating_mul(self.learning_columns().saturating_add(self.out_dim))
    }

    /// Floats of A in a plane: none where it does not learn.
    #[must_use]
    pub const fn a_len(&self) -> usize {
        self.rank.saturating_mul(self.learning_columns())
    }

    /// Numbers of a row of A that learn.
    const fn learning_columns(&self) -> usize {
        match self.sides {
            Sides::Both => self.in_dim,
            Sides::One => 0,
        }
    }

    /// Floats of pair state: values, first moment, second moment, sensitivity, uncertainty.
    #[must_use]
    pub const fn state_len(&self) -> usize {
        self.plane_len().saturating_mul(PLANES)
    }

    /// Codes of the delta.
    #[must_use]
    pub const fn delta_codes_len(&self) -> usize {
        self.out_dim.saturating_mul(self.in_dim)
    }

    /// Blocks in a row of the delta; none where they have no columns.
    #[must_use]
    pub const fn row_blocks(&self) -> usize {
        if self.block == 0 { 0 } else { self.in_dim.div_ceil(self.block) }
    }

    /// f16 scales of the delta.
    #[must_use]
    pub const fn delta_scales_len(&self) -> usize {
        self.out_dim.saturating_mul(self.row_blocks())
    }

    /// Scratch floats for forward and backward: one row of the delta, and the two live terms.
    #[must_use]
    pub const fn scratch_len(&self) -> usize {
        self.in_dim.saturating_add(self.out_dim.saturating_mul(2))
    }

    /// Where in a plane the pair's row of A and its row of B transposed lie, in a shape that was checked and has the pair.
    pub(super) const fn pair_spans(&self, pair: usize) -> [Range<usize>; 2] {
        let columns = self.learning_columns();
        let (a, b) = (pair * columns, self.rank * columns + pair * self.out_dim);
        [a..a + columns, b..b + self.out_dim]
    }

    /// # Errors
    /// `Rank`, `Reserve` or `Block` where the sizes contradict each other, `Size` where they overflow.
    pub const fn check(&self) -> Result<(), CoreError> {
        let most = match self.sides {
            Sides::Both if self.out_dim < self.in_dim => self.out_dim,
            Sides::One if self.out_dim == 0 => 0,
            // Of frozen rows of A more than W has rows still tell more inputs apart.
            _ => self.in_dim,
        };
        if self.rank == 0 || self.rank > most {
            return Err(CoreError::Rank { most, given: self.rank });
        }
        if self.reserve < self.rank {
            return Err(CoreError::Reserve { limit: self.rank, given: self.reserve });
        }
        if self.reserve > MOST_DIRECTIONS {
            return Err(CoreError::Reserve { limit: MOST_DIRECTIONS, given: self.reserve });
        }
        if self.block == 0 || self.block > MAX_BLOCK {
            return Err(CoreError::Block { given: self.block });
        }
        if !self.is_addressable() {
            return Err(CoreError::Size);
        }
        Ok(())
    }

    /// Whether no length above overflows: the state, the longest, is below 2 `PLANES` out_dim in_dim, as
    /// rank <= min(out_dim, in_dim), or rank <= in_dim with planes of rank out_dim.
    const fn is_addressable(&self) -> bool {
        const MOST: u128 = isize::MAX as u128 / size_of::<f32>() as u128;
        let (out_dim, in_dim) = (self.out_dim as u128, self.in_dim as u128);
        let state = out_dim.saturating_mul(in_dim).saturating_mul(2 * PLANES as u128);
        let directions = (self.reserve as u128).saturating_mul(out_dim + in_dim);
        state <= MOST && directions <= MOST
    }
}
