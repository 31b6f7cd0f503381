//! Floats that come back bit for bit from JSON.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An `f64` that is written as the number its bits make.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub(crate) struct Bits(pub(crate) f64);

impl From<u64> for Bits {
    fn from(bits: u64) -> Self {
        Bits(f64::from_bits(bits))
    }
}

impl From<Bits> for u64 {
    fn from(Bits(value): Bits) -> Self {
        value.to_bits()
    }
}

/// For `#[serde(with = "bits")]` on an `f64`.
pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Bits(*value).serialize(serializer)
}

/// The other way.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Bits::deserialize(deserializer).map(|Bits(value)| value)
}
