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
            return refuse("--input", &size);
        }
        if !(self.range.is_finite() && self.range * 255.0 < f32::INFINITY && self.range > 0.0) {
            return refuse("--range", &format!("{} is not possible; it is 1 or 255", self.range));
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return refuse("--mean", "every value must be a number");
        }
        if !self.std.iter().all(|std| std.is_finite() && *std != 0.0) {
            return refuse("--std", "every value must be a number other than 0");
        }
        if !self.normalize(&[0, 0, 0, 255, 255, 255]).iter().all(|value| value.is_finite()) {
            return refuse("--std", "(x - mean) / std is too large for a 32-bit number");
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
}

impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fit = match self.fit {
            Fit::Crop => "centre crop",
            Fit::Stretch => "stretched",
        };
        let [mean, std] = [self.mean, self.std].map(|[r, g, b]| format!("{r},{g},{b}"));
        write!(f, "{}x{} {fit}, values 0..{}, mean {mean}, std {std}", self.height, self.width, self.range)
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
            (Preprocess { height: 0, ..good() }, "--input"),
            (Preprocess { width: 4097, ..good() }, "--input"),
            (Preprocess { range: f32::NAN, ..good() }, "--range"),
            (Preprocess { range: -1.0, ..good() }, "--range"),
            (Preprocess { range: f32::MAX, ..good() }, "--range"),
            (Preprocess { mean: [0.0, f32::INFINITY, 0.0], ..good() }, "--mean"),
            (Preprocess { std: [1.0, 1.0, 0.0], ..good() }, "--std"),
            (Preprocess { std: [f32::NAN, 1.0, 1.0], ..good() }, "--std"),
            (Preprocess { std: [1e-45, 1.0, 1.0], ..good() }, "--std"),
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
    fn settings_survive_json_and_read_well() {
        let json = serde_json::to_string(&imagenet()).unwrap();
        assert!(json.contains(r#""fit":"crop""#), "{json}");
        assert_eq!(serde_json::from_str::<Preprocess>(&json).unwrap(), imagenet());
        let text = "224x224 centre crop, values 0..1, mean 0.485,0.456,0.406, std 0.229,0.224,0.225";
        assert_eq!(imagenet().to_string(), text);
    }
}
