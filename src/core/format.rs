//! `defmt::Format` where it cannot be derived: f16 and deques have none, and a log shows how long a buffer is, not what
//! is in it.

use defmt::{Format, Formatter, write};

use super::delta::{Delta, DeltaRef};
use super::head::Imprint;
use super::ledger::Ledger;
use super::quant::{Floats, Weight};
use super::site::Site;
use super::start::Directions;

impl Format for Floats<'_> {
    fn format(&self, f: Formatter) {
        match self {
            Floats::F32(values) => write!(f, "{=usize} f32", values.len()),
            Floats::F16(values) => write!(f, "{=usize} f16", values.len()),
        }
    }
}

impl Format for Weight<'_> {
    fn format(&self, f: Formatter) {
        match self {
            Weight::F32(values) => write!(f, "{=usize} f32", values.len()),
            Weight::F16(values) => write!(f, "{=usize} f16", values.len()),
            Weight::Int8 { codes, scales, .. } => {
                write!(f, "{=usize} int8 in {=usize} rows", codes.len(), scales.len())
            }
        }
    }
}

impl<const RANK: usize, const RESERVE: usize> Format for Ledger<RANK, RESERVE> {
    fn format(&self, f: Formatter) {
        let (ages, directions) = (self.ages(), self.directions());
        write!(f, "ages {=[?]}, directions {=[?]}, {=usize} in reserve", ages, directions, self.reserve().len());
    }
}

impl Format for Directions<'_> {
    fn format(&self, f: Formatter) {
        write!(f, "{=usize} directions, u {}, v {}", self.sigma.len(), self.u, self.v);
    }
}

impl Format for Delta<'_> {
    fn format(&self, f: Formatter) {
        self.view().format(f);
    }
}

impl Format for DeltaRef<'_> {
    fn format(&self, f: Formatter) {
        match self {
            DeltaRef::F32(values) => write!(f, "{=usize} f32", values.len()),
            DeltaRef::Int8 { codes, scales } => {
                write!(f, "{=usize} int8 in {=usize} blocks", codes.len(), scales.len());
            }
        }
    }
}

impl<const RANK: usize, const RESERVE: usize> Format for Site<'_, RANK, RESERVE> {
    fn format(&self, f: Formatter) {
        write!(f, "{}, {}, {}, delta {}", self.shape, self.config, self.ledger, self.delta);
    }
}

impl Format for Imprint<'_> {
    fn format(&self, f: Formatter) {
        write!(f, "{=u32} examples of {=usize} classes", self.examples(), self.classes());
    }
}
