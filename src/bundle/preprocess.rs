//! How a photo becomes the backbone's input: size, fit, value range, mean and standard deviation.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::limits::MOST_INPUT_SIDE;

/// How a photo is brought to the input's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Resized until it covers input / 0.875, then the centre is cut out; the aspect ratio is kept.
    Crop,
    /// Resized to the input; the aspect ratio is not kept.
    Stretch,
}

/// What is done to every photo, in training and afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Input height in pixels, 1..=4096.
    pub height: usize,
    /// Input width in pixels, 1..=4096.
    pub width: usize,
    /// How a photo is brought to that size.
    pub fit: Fit,
    /// A full channel has this value before `mean` and `std`; above 0.
    pub range: f32,
    /// Subtracted from red, green, blue.
    pub mean: [f32; 3],
    /// Red, green, blue are divided by it; not 0.
    pub std: [f32; 3],
}

/// Values of [`Preprocess`] that go by a name; the size is the model's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// What option `preset` takes.
    pub name: &'static str,
    /// Whose models want it.
    pub of: &'static str,
    /// How a photo is brought to the input's size.
    pub fit: Fit,
    /// As [`Preprocess::range`].
    pub range: f32,
    /// As [`Preprocess::mean`].
    pub mean: [f32; 3],
    /// As [`Preprocess::std`].
    pub std: [f32; 3],
}

/// Every preset. Sources: the `transforms` of torchvision's ImageNet weights; `IMAGENET_INCEPTION_MEAN` and `_STD` of timm, which
/// are what Keras's `preprocess_input` does in its mode `tf`; the rest is what a network that scales its own input reads.
pub const PRESETS: [Preset; 4] = [
    Preset {
        name: "torchvision",
        of: "models of torchvision, and most of timm's",
        fit: Fit::Crop,
        range: 1.0,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    },
    Preset {
        name: "timm-inception",
        of: "timm's Inception, Google's MobileNets, many ViTs, Keras's mode tf",
        fit: Fit::Crop,
        range: 1.0,
        mean: [0.5; 3],
        std: [0.5; 3],
    },
    Preset {
        name: "raw",
        of: "models that scale the bytes themselves, or were trained on them",
        fit: Fit::Stretch,
        range: 255.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    },
    Preset {
        name: "unit",
        of: "models trained on bytes / 255; the same as no flag at all",
        fit: Fit::Crop,
        range: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    },
];

/// Largest difference of black and of white, relative to the distance between them, up to which two settings are the same: values
/// are written with three digits or so, in units of 1 or of 255.
const SAME: f32 = 1e-4;

impl Preset {
    /// The preset of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Preset> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// Its values, for the default size.
    #[must_use]
    pub fn preprocess(&self) -> Preprocess {
        let Preset { fit, range, mean, std, .. } = *self;
        Preprocess { fit, range, mean, std, ..Preprocess::default() }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.preprocess().describe(f)
    }
}

impl Default for Preprocess {
    /// 224 x 224, centre crop, values 0..1.
    fn default() -> Self {
        Preprocess { height: 224, width: 224, fit: Fit::Crop, range: 1.0, mean: [0.0; 3], std: [1.0; 3] }
    }
}

impl Preprocess {
    /// Checks that every photo will give finite values.
    ///
    /// # Errors
    /// Kind `Usage`, naming the flag, where a size is not in 1..=4096, `range` is not a positive number, or a channel's
    /// `mean` or `std` is not a number or makes values that are not.
    pub fn validate(&self) -> Result<()> {
        let refuse = |flag: &str, message: &str| Err(Error::new(ErrorKind::Usage, flag, message));
        if [self.height, self.width].iter().any(|side| !(1..=MOST_INPUT_SIDE).contains(side)) {
            let size = format!(
                "{}x{} is not possible; height and width go from 1 to {MOST_INPUT_SIDE}",
                self.height, self.width
            );
            return refuse("option `input`", &size);
        }
        if !(self.range.is_finite() && self.range * 255.0 < f32::INFINITY && self.range > 0.0) {
            return refuse("option `range`", &format!("{} is not possible; it is 1 or 255", self.range));
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return refuse("option `mean`", "every value must be a number");
        }
        if !self.std.iter().all(|std| std.is_finite() && *std != 0.0) {
            return refuse("option `std`", "every value must be a number other than 0");
        }
        if !self.normalize(&[0, 0, 0, 255, 255, 255]).iter().all(|value| value.is_finite()) {
            return refuse("option `std`", "(x - mean) / std is too large for a 32-bit number");
        }
        Ok(())
    }

    /// `y[c][i] = (x[i][c] / 255 * range - mean[c]) / std[c]`
    ///
    /// Shapes: `rgb` pixels x 3 (height x width x channel), y 3 x pixels (channel x height x width); row-major. Bytes after
    /// the last whole pixel are ignored.
    #[must_use]
    pub fn normalize(&self, rgb: &[u8]) -> Vec<f32> {
        let mut planes = Vec::with_capacity(rgb.len());
        for (channel, (mean, std)) in self.mean.iter().zip(&self.std).enumerate() {
            let value: [f32; 256] = core::array::from_fn(|byte| (byte as f32 * self.range / 255.0 - mean) / std);
            planes.extend(rgb.chunks_exact(3).map(|pixel| value[usize::from(pixel[channel])]));
        }
        planes
    }

    /// What black and white become, channel by channel.
    pub(super) fn ends(&self) -> [[f32; 2]; 3] {
        core::array::from_fn(|channel| [0.0, self.range].map(|value| (value - self.mean[channel]) / self.std[channel]))
    }

    /// The preset that does the same to a photo, whatever the units in which it is written.
    #[must_use]
    pub fn preset(&self) -> Option<&'static Preset> {
        let same = |[black, white]: [f32; 2], other: [f32; 2]| {
            let most = SAME * (other[1] - other[0]).abs();
            (black - other[0]).abs() <= most && (white - other[1]).abs() <= most
        };
        PRESETS.iter().find(|preset| {
            let pairs = || self.ends().into_iter().zip(preset.preprocess().ends());
            preset.fit == self.fit && pairs().all(|(ours, theirs)| same(ours, theirs))
        })
    }

    /// All but the size, in words.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fit = match self.fit {
            Fit::Crop => "centre crop",
            Fit::Stretch => "stretched",
        };
        let [mean, std] = [self.mean, self.std].map(|[r, g, b]| format!("{r},{g},{b}"));
        write!(f, "{fit}, values 0..{}, mean {mean}, std {std}", self.range)
    }
}

impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} ", self.height, self.width)?;
        self.describe(f)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    fn imagenet() -> Preprocess {
        Preprocess { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], ..Preprocess::default() }
    }

    #[test]
    fn values_equal_those_of_torchvision() {
        // torch.tensor([[0, 128, 255], [7, 200, 31]]).float().div(255).sub(mean).div(std), channel by channel.
        let torch = [-2.117_904, -1.998_030_7, 0.205_182_08, 1.465_686_3, 2.64, -1.264_139_4];
        let ours = imagenet().normalize(&[0, 128, 255, 7, 200, 31]);
        for (a, b) in ours.iter().zip(torch) {
            assert!((a - b).abs() < 1e-6, "{ours:?} against {torch:?}");
        }
    }

    #[test]
    fn the_default_gives_shares_of_255_and_range_255_the_bytes_themselves() {
        let bytes: Vec<u8> = (0..=255).flat_map(|b| [b; 3]).collect();
        let shares = Preprocess::default().normalize(&bytes);
        let plain = Preprocess { range: 255.0, ..Preprocess::default() }.normalize(&bytes);
        for byte in 0..256 {
            assert_eq!(shares[byte], byte as f32 / 255.0);
            assert_eq!(plain[512 + byte], byte as f32);
        }
    }

    #[test]
    fn a_bad_setting_is_refused_with_the_flag_that_sets_it() {
        let good = Preprocess::default;
        let cases = [
            (Preprocess { height: 0, ..good() }, "option `input`"),
            (Preprocess { width: 4097, ..good() }, "option `input`"),
            (Preprocess { range: f32::NAN, ..good() }, "option `range`"),
            (Preprocess { range: -1.0, ..good() }, "option `range`"),
            (Preprocess { range: f32::MAX, ..good() }, "option `range`"),
            (Preprocess { mean: [0.0, f32::INFINITY, 0.0], ..good() }, "option `mean`"),
            (Preprocess { std: [1.0, 1.0, 0.0], ..good() }, "option `std`"),
            (Preprocess { std: [f32::NAN, 1.0, 1.0], ..good() }, "option `std`"),
            (Preprocess { std: [1e-45, 1.0, 1.0], ..good() }, "option `std`"),
        ];
        for (preprocess, flag) in cases {
            let error = preprocess.validate().unwrap_err();
            assert_eq!((error.kind(), error.subject()), (ErrorKind::Usage, flag), "{preprocess:?}: {error}");
        }
        for preprocess in [good(), imagenet(), Preprocess { height: 1, width: 4096, ..good() }] {
            preprocess.validate().unwrap();
        }
    }

    #[test]
    fn a_preset_is_known_in_any_units_and_only_with_its_own_fit() {
        for preset in &PRESETS {
            let own = preset.preprocess();
            assert_eq!(own.preset().map(|found| found.name), Some(preset.name));
            assert_eq!(Preset::named(preset.name), Some(preset));
            let in_bytes = [own.mean, own.std].map(|values| values.map(|v| v * 255.0 / own.range));
            let in_bytes = Preprocess { range: 255.0, mean: in_bytes[0], std: in_bytes[1], ..own.clone() };
            assert_eq!(in_bytes.preset().map(|found| found.name), Some(preset.name));
            let fit = if own.fit == Fit::Crop { Fit::Stretch } else { Fit::Crop };
            assert_eq!(Preprocess { fit, ..own.clone() }.preset(), None);
            assert_eq!(Preprocess { mean: own.mean.map(|mean| mean + 0.01 * own.range), ..own }.preset(), None);
        }
        // mmpretrain writes torchvision's values so.
        let bytes = Preprocess {
            range: 255.0,
            mean: [123.675, 116.28, 103.53],
            std: [58.395, 57.12, 57.375],
            ..Preprocess::default()
        };
        assert_eq!(bytes.preset().map(|found| found.name), Some("torchvision"));
    }

    #[test]
    fn settings_survive_json_and_read_well() {
        let json = serde_json::to_string(&imagenet()).unwrap();
        assert!(json.contains(r#""fit":"crop""#), "{json}");
        assert_eq!(serde_json::from_str::<Preprocess>(&json).unwrap(), imagenet());
        let text = "224x224 centre crop, values 0..1, mean 0.485,0.456,0.406, std 0.229,0.224,0.225";
        assert_eq!(imagenet().to_string(), text);
    }
}
