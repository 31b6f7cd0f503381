//! Recomposition: fuse the least important pairs into the delta and start them anew on unused directions.

use heapless::Vec;

use super::delta::Terms;
use super::error::CoreError;
use super::shape::{Sides, SiteShape};
use super::site::{Site, factors};
use super::start::StartRow;

/// Which of the pairs that are old enough are fused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum FuseOrder {
    /// Those of the lowest importance.
    #[default]
    LeastImportant,
    /// The oldest, whatever they do: what importance is measured against.
    Oldest,
}

/// When and how much to recompose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Recompose {
    /// Pairs per event.
    pub pairs: usize,
    /// Steps that a pair must have lived to be chosen: a fresh pair has b = 0 and would always come last.
    pub min_age: u32,
    /// Whether a freed direction goes to the back of the reserve.
    pub wrap: bool,
    /// Which pairs.
    pub choice: FuseOrder,
}

/// What happened to one pair.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Recomposition {
    /// Which pair.
    pub pair: u16,
    /// The direction that it was on.
    pub from: u16,
    /// The direction that it is on now.
    pub to: u16,
    /// Its importance when it was chosen.
    pub importance: f32,
    /// The largest |error| that the whole event left in any element of the delta.
    pub max_error: f32,
}

/// The net changes of the chosen pairs: scale (b a^T - b0 a0^T) = scale (b - b0) a^T + scale b0 (a - a0)^T.
struct NetChange<'s, const RANK: usize> {
    shape: SiteShape,
    scale: f32,
    /// A and B transposed, as far as they learn.
    factors: (&'s [f32], &'s [f32]),
    /// Each chosen pair, and what it started from.
    chosen: Vec<(usize, StartRow<'s>), RANK>,
    /// Terms of one pair: the second is 0 where b0 is, or where a is a0.
    per_pair: usize,
}

impl<const RANK: usize> NetChange<'_, RANK> {
    /// What `of` makes of the pair of a term and of its start; 0 of a term that there is not.
    fn of_pair(&self, term: usize, of: impl Fn(usize, &StartRow<'_>) -> f32) -> f32 {
        self.chosen.get(term / self.per_pair).map_or(0.0, |(pair, start)| of(*pair, start))
    }
}

impl<const RANK: usize> Terms for NetChange<'_, RANK> {
    fn count(&self) -> usize {
        self.chosen.len() * self.per_pair
    }

    fn b(&self, term: usize, row: usize) -> f32 {
        let b = |pair: usize| self.factors.1.get(pair * self.shape.out_dim + row).copied().unwrap_or(0.0);
        let is_first = term.is_multiple_of(self.per_pair);
        self.scale * self.of_pair(term, |pair, start| if is_first { b(pair) - start.b(row) } else { start.b(row) })
    }

    fn a(&self, term: usize, column: usize) -> f32 {
        let a = |pair: usize| self.factors.0.get(pair * self.shape.in_dim + column).copied().unwrap_or(0.0);
        let is_first = term.is_multiple_of(self.per_pair);
        self.of_pair(term, |pair, start| match (self.shape.sides, is_first) {
            (Sides::One, _) => start.a(column),
            (Sides::Both, true) => a(pair),
            (Sides::Both, false) => a(pair) - start.a(column),
        })
    }
}

impl<const RANK: usize, const RESERVE: usize> Site<'_, RANK, RESERVE> {
    /// One event: ranks the pairs that are at least `min_age` steps old by `choice` (the lower index first on a tie), fuses
    /// the first `pairs` of them, D <- Q(D + sum of scale (b a^T - b0 a0^T)) in one requantization, and starts each anew.
    ///
    /// A pair goes on to the front of the reserve. Without `wrap` at most as many pairs are fused as the reserve holds, and
    /// none once it is empty. With `wrap` the old direction goes to the back of the reserve first, so that there is always
    /// one: where the reserve is empty, a pair starts anew on its own. Where fewer than `pairs` are old enough, those are
    /// fused. Nothing happens where none is, or where [`Site::check`] fails.
    ///
    /// Apart from the delta's requantized blocks and the chosen pairs, nothing changes by a single bit.
    /// Source: SRLoRA, arXiv 2505.12433; the cool-down is ours.
    pub fn recompose(&mut self, rule: &Recompose) -> Vec<Recomposition, RANK> {
        let mut events = Vec::new();
        let chosen = if self.check().is_ok() { self.choose(rule) } else { Vec::new() };
        if chosen.is_empty() {
            #[cfg(feature = "defmt")]
            defmt::debug!("nothing to recompose: {} unused directions", self.ledger.reserve().len());
            return events;
        }
        // `check` has looked at all that it looks at.
        let Ok(max_error) = self.fuse(&chosen) else { return events };
        for &(pair, from) in &chosen {
            let importance = self.importance(usize::from(pair));
            let Some(to) = self.ledger.move_on(usize::from(pair), rule.wrap) else { continue };
            self.start_pair(usize::from(pair));
            let event = Recomposition { pair, from, to, importance, max_error };
            #[cfg(feature = "defmt")]
            defmt::info!("recomposed {}", event);
            // At most one event per pair, and pairs are at most RANK.
            let _ = events.push(event);
        }
        events
    }

    /// D <- Q(D + what the chosen pairs have changed); the largest |error| that this leaves in any element.
    fn fuse(&mut self, chosen: &[(u16, u16)]) -> Result<f32, CoreError> {
        let started = chosen.iter().map(|&(pair, _)| usize::from(pair)).map(|pair| (pair, self.start_of(pair)));
        let one_term = self.config.start.is_free() || self.shape.sides == Sides::One;
        let change = NetChange::<RANK> {
            shape: self.shape,
            scale: self.config.scale,
            chosen: started.collect(),
            factors: factors(&self.shape, self.state.get(..self.shape.plane_len()).unwrap_or_default()),
            per_pair: if one_term { 1 } else { 2 },
        };
        self.delta.add(&self.shape, &change)
    }

    /// The pairs to fuse, with their directions, first those that the rule chooses first.
    fn choose(&self, rule: &Recompose) -> Vec<(u16, u16), RANK> {
        let mut old_enough: Vec<(f32, u16, u16), RANK> = Vec::new();
        for (pair, (&age, &direction)) in self.ledger.ages().iter().zip(self.ledger.directions()).enumerate() {
            if age >= rule.min_age {
                let rank = match rule.choice {
                    FuseOrder::LeastImportant => self.importance(pair),
                    FuseOrder::Oldest => -(age as f32),
                };
                let _ = old_enough.push((rank, pair as u16, direction));
            }
        }
        let most = if rule.wrap { rule.pairs } else { rule.pairs.min(self.ledger.reserve().len()) };
        let mut chosen = Vec::new();
        // The least, again and again: pairs are few, and a sort would cost a microcontroller 8 KiB of flash.
        while chosen.len() < most {
            let ranked = old_enough.iter().enumerate();
            let least = ranked.min_by(|(_, a), (_, b)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let Some((at, &(_, pair, direction))) = least else { break };
            old_enough.swap_remove(at);
            let _ = chosen.push((pair, direction));
        }
        chosen
    }
}
