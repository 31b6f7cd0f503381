//! The methods, as settings of one mechanism.

use super::shape::Sides;
use super::start::Start;

/// What is trained, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Method {
    /// Pairs that can be recomposed along unused directions (arXiv 2505.12433).
    Srlora,
    /// Pairs on the principal components, never recomposed (arXiv 2404.02948).
    Pissa,
    /// Pairs, never recomposed (arXiv 2106.09685, from an aligned start).
    Lora,
    /// Only the head.
    Head,
    /// Only class means.
    Imprint,
}

/// What a method switches on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MethodSettings {
    /// What its pairs start on, unless told otherwise.
    pub start: Start,
    /// Which sides of its pairs learn, unless told otherwise.
    pub sides: Sides,
    /// Whether there are pairs at all.
    pub trains_pairs: bool,
    /// Whether the head moves after it was imprinted.
    pub trains_head: bool,
    /// Whether pairs are fused and started anew.
    pub recomposes: bool,
}

impl Method {
    /// What the method switches on.
    #[must_use]
    pub const fn settings(self) -> MethodSettings {
        let pairs = MethodSettings {
            start: Start::Aligned,
            sides: Sides::Both,
            trains_pairs: true,
            trains_head: true,
            recomposes: false,
        };
        match self {
            Method::Srlora => MethodSettings { sides: Sides::One, recomposes: true, ..pairs },
            Method::Pissa => MethodSettings { start: Start::Principal, ..pairs },
            Method::Lora => pairs,
            Method::Head => MethodSettings { trains_pairs: false, ..pairs },
            Method::Imprint => MethodSettings { trains_pairs: false, trains_head: false, ..pairs },
        }
    }

    /// Its name on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Method::Srlora => "srlora",
            Method::Pissa => "pissa",
            Method::Lora => "lora",
            Method::Head => "head",
            Method::Imprint => "imprint",
        }
    }
}
