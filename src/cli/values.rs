//! What flags take: names, sizes, shares and lists, checked as they are read.

use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::backbone::Precision;
use crate::bundle::{Fit, PRESETS, Preset};
use crate::core::{Method, Sides, Start};
use crate::limits::MOST_MISTAKES;
use crate::peft::PeftRank;
use crate::session::{CachePlace, DirectionSource, Interval};

/// `exact`, a number of pairs, or a share.
pub(super) fn parse_peft_rank(text: &str) -> Result<PeftRank, String> {
    text.parse()
}

/// Steps, or `once`.
pub(super) fn parse_interval(text: &str) -> Result<Interval, String> {
    let wrong = || format!("`{text}` is neither a number of steps, nor `once`");
    if text == "once" { Ok(Interval::Once) } else { text.parse::<u32>().map(Into::into).map_err(|_| wrong()) }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum CacheArg {
    /// In a file without a name beside the store. It vanishes with the lesson.
    Disk,
    /// In memory.
    Ram,
    /// Nowhere.
    Off,
}

impl From<CacheArg> for CachePlace {
    fn from(cache: CacheArg) -> Self {
        match cache {
            CacheArg::Disk => CachePlace::Disk,
            CacheArg::Ram => CachePlace::Ram,
            CacheArg::Off => CachePlace::Off,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum FitArg {
    /// The short side is resized to input / 0.875, and the centre is cut out.
    Crop,
    /// Resized to the input's size; the aspect ratio is not kept.
    Stretch,
}

impl From<FitArg> for Fit {
    fn from(fit: FitArg) -> Self {
        match fit {
            FitArg::Crop => Fit::Crop,
            FitArg::Stretch => Fit::Stretch,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum PrecisionArg {
    /// As the file has them.
    Keep,
    /// Single precision.
    Fp32,
    /// Half precision: half the size.
    Fp16,
    /// Codes with a scale per output channel: a quarter of the size.
    Int8,
}

impl From<PrecisionArg> for Precision {
    fn from(precision: PrecisionArg) -> Self {
        match precision {
            PrecisionArg::Keep => Precision::Keep,
            PrecisionArg::Fp32 => Precision::Fp32,
            PrecisionArg::Fp16 => Precision::Fp16,
            PrecisionArg::Int8 => Precision::Int8,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum MethodArg {
    /// One-sided low-rank pairs along directions of the photos; --interval recomposes them along unused ones. With up to five photos a
    /// class the first lesson is cross-validated: each photo is left out once, and pairs learn only where that helps.
    Srlora,
    /// Low-rank pairs on the principal components.
    Pissa,
    /// Low-rank pairs, never recomposed.
    Lora,
    /// Only the head.
    Head,
    /// Only class means; no training at all.
    Imprint,
}

impl From<MethodArg> for Method {
    fn from(method: MethodArg) -> Self {
        match method {
            MethodArg::Srlora => Method::Srlora,
            MethodArg::Pissa => Method::Pissa,
            MethodArg::Lora => Method::Lora,
            MethodArg::Head => Method::Head,
            MethodArg::Imprint => Method::Imprint,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum StartArg {
    /// b = 0, a = the next direction.
    Aligned,
    /// Both on the next direction, scaled by its singular value.
    Principal,
    /// b = 0, a random: the control.
    Random,
}

impl StartArg {
    pub(super) fn with_seed(self, seed: u64) -> Start {
        match self {
            StartArg::Aligned => Start::Aligned,
            StartArg::Principal => Start::Principal,
            StartArg::Random => Start::Random { seed },
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum PairsArg {
    /// b alone: each a stays on its direction. There are more pairs, with as many numbers that learn.
    OneSided,
    /// a and b.
    Both,
}

impl From<PairsArg> for Sides {
    fn from(pairs: PairsArg) -> Self {
        match pairs {
            PairsArg::OneSided => Sides::One,
            PairsArg::Both => Sides::Both,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum DirectionsArg {
    /// Singular vectors of each site's weight, from the bundle.
    Shipped,
    /// What each site reads most, from the lesson's photos.
    Photos,
}

impl From<DirectionsArg> for DirectionSource {
    fn from(directions: DirectionsArg) -> Self {
        match directions {
            DirectionsArg::Shipped => DirectionSource::Shipped,
            DirectionsArg::Photos => DirectionSource::Photos,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

/// 64MiB, 1.5GiB, 800KiB.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let parsed = units.iter().find_map(|(unit, power)| Some((text.strip_suffix(unit)?.trim().parse::<f64>(), power)));
    match parsed {
        Some((Ok(number), power)) if number > 0.0 && number < 1e9 => Ok((number * f64::from(1u32 << power)) as u64),
        _ => Err(format!("{text} is no size; write it like 64MiB or 1.5GiB")),
    }
}

/// The same, or 0.
pub(super) fn parse_bytes_or_none(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { parse_bytes(text).map_err(|message| format!("{message}, or 0")) }
}

pub(super) fn parse_mistakes(text: &str) -> Result<usize, String> {
    let most = text.parse().ok().filter(|most| (1..=MOST_MISTAKES).contains(most));
    most.ok_or_else(|| format!("write a number from 1 to {MOST_MISTAKES}"))
}

/// A preset by its name; the help lists the values of each.
pub(super) fn presets() -> impl TypedValueParser<Value = &'static Preset> {
    let listed = |preset: &'static Preset| PossibleValue::new(preset.name).help(format!("{preset}: {}", preset.of));
    PossibleValuesParser::new(PRESETS.iter().map(listed)).try_map(|name| Preset::named(&name).ok_or("no such preset"))
}

pub(super) fn parse_size(text: &str) -> Result<[usize; 2], String> {
    let parts: Vec<Option<usize>> = text.split(['x', 'X']).map(|p| p.trim().parse().ok()).collect();
    match parts[..] {
        [Some(height), Some(width)] => Ok([height, width]),
        _ => Err("write height x width, for instance 224x224".into()),
    }
}

pub(super) fn parse_channels(text: &str) -> Result<[f32; 3], String> {
    let values: Vec<Option<f32>> = text.split(',').map(|p| p.trim().parse().ok()).collect();
    match values[..] {
        [Some(all)] => Ok([all; 3]),
        [Some(r), Some(g), Some(b)] => Ok([r, g, b]),
        _ => Err("write one number, or three with commas: 0.485,0.456,0.406".into()),
    }
}

pub(super) fn parse_range(text: &str) -> Result<f32, String> {
    match text {
        "1" => Ok(1.0),
        "255" => Ok(255.0),
        _ => Err("write 1 or 255".into()),
    }
}

pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|s| *s > 0.0 && *s < 1.0);
    share.ok_or_else(|| "write a share between 0 and 1, for instance 0.2".into())
}

pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "expected a number of seconds, 0 or more".to_string())
}

pub(super) fn parse_whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "write a whole number of at least 0".into())
}

pub(super) fn parse_rate(text: &str) -> Result<f32, String> {
    let rate = text.parse().ok().filter(|r: &f32| r.is_finite() && *r >= 0.0);
    rate.ok_or_else(|| "write a number of at least 0, for instance 3e-3".into())
}
