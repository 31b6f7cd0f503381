//! Whether the values that photos become are ones that a network can have been trained on.

use ndarray::{Array2, ArrayView1};

use super::preprocess::{PRESETS, Preprocess};
use crate::backbone::{FirstLayer, Yardstick};

/// Standard deviation of a colour in photos, where white is 1 (ImageNet: 0.22 to 0.23 within a photo, more over photos).
const SPREAD: f32 = 0.27;
/// Correlation of neighbouring pixels; it falls with the distance d as the d-th power.
const NEIGHBOURS: f32 = 0.95;
/// Correlation of two colours of a pixel.
const COLOURS: f32 = 0.9;

/// How strong a first layer's response to photos is, against the standard deviation that the norm behind it was trained to, median
/// over the filters. ResNets for CIFAR-10 have 0.85 to 0.9 with the right preprocessing, 0.4 with `timm-inception`, 0.2 with `unit` and
/// 50 with `raw` in its place.
const USUAL_BY_NORM: [f32; 2] = [0.33, 3.0];

/// The same against the size of the bias, where the norm is folded. Networks have 0.25 to 2.6 with the preprocessing that they were
/// trained with, whatever that is, and 0.045 and less, or 35 and more, with one whose scale is off by 58 or more (`raw` for
/// `torchvision`, or the reverse). What is off by 4 or less does not show.
const USUAL_BY_BIAS: [f32; 2] = [0.08, 25.0];

/// What is wrong with `preprocess` for this network, in a sentence, if anything shows.
pub(crate) fn doubtful(preprocess: &Preprocess, first: Option<&FirstLayer>) -> Option<String> {
    wrong_units(preprocess).or_else(|| wrong_scale(preprocess, first?))
}

/// Mean and standard deviation of values in 0..1 that go to 255, or of bytes that go to 1.
fn wrong_units(preprocess: &Preprocess) -> Option<String> {
    let Preprocess { range, mean, std, .. } = preprocess;
    let any = |test: fn(f32) -> bool| mean.iter().chain(std).any(|value| test(value.abs()));
    let given = mean.iter().any(|mean| *mean != 0.0) || std.iter().any(|std| *std != 1.0);
    let other = match *range {
        range if range > 1.0 && given && !any(|value| value > 1.0) => 1,
        range if range <= 1.0 && any(|value| value > 1.0) => 255,
        _ => return None,
    };
    Some(format!(
        "option `mean` and option `std` are in units of option `range` {other}, and the range is {range}: {}; give option `range` {other}, or an option `preset`",
        seen(preprocess)
    ))
}

fn wrong_scale(preprocess: &Preprocess, first: &FirstLayer) -> Option<String> {
    let (usual, witness) = match first.yardstick {
        Yardstick::Norm(_) => (USUAL_BY_NORM, "the norm behind it tells"),
        Yardstick::Bias(_) => (USUAL_BY_BIAS, "its biases tell"),
    };
    let fits = |strength: f32| (usual[0]..=usual[1]).contains(&strength);
    let strength = strength(first, preprocess).filter(|strength| !fits(*strength))?;
    let size = if strength > usual[1] { "large" } else { "small" };
    let fitting = PRESETS.iter().filter(|preset| self::strength(first, &preset.preprocess()).is_some_and(fits));
    let fitting: Vec<&str> = fitting.map(|preset| preset.name).collect();
    let advice = match fitting[..] {
        [] => "give the option `range`, option `mean` and option `std` that it was trained with".to_owned(),
        _ => format!("try option `preset` {}", fitting.join(", or ")),
    };
    let (seen, name) = (seen(preprocess), &first.name);
    Some(format!("{seen}, too {size} by far for node {name}, the first layer, as {witness}; {advice}"))
}

/// "black becomes -2.1 and white 2.6", of green.
fn seen(preprocess: &Preprocess) -> String {
    let [_, [black, white], _] = preprocess.ends();
    format!("black becomes {black:.3} and white {white:.3}")
}

/// median s_o / |y_o| over the filters o that respond at all and have a yardstick y_o, where
///
/// s_o^2 = SPREAD^2 sum_ij w_oi w_oj g_i g_j k_ij NEIGHBOURS^d_ij,
///
/// the variance of a filter's response to photos: i and j are weights, each with a colour and a place; g is range / std of the
/// colour, k is 1 within a colour and COLOURS between two, d the distance of the places in pixels.
fn strength(first: &FirstLayer, preprocess: &Preprocess) -> Option<f32> {
    let [rows, columns] = first.kernel;
    let place = |weight: usize| {
        let at = weight % (rows * columns);
        ((at / columns) as f32, (at % columns) as f32)
    };
    let colour = |weight: usize| weight / (rows * columns);
    let gain = preprocess.std.map(|std| SPREAD * preprocess.range / std);
    let covariance = |i: usize, j: usize| {
        let ((y, x), (v, u)) = (place(i), place(j));
        let colours = if colour(i) == colour(j) { 1.0 } else { COLOURS };
        gain[colour(i)] * gain[colour(j)] * colours * NEIGHBOURS.powf((y - v).hypot(x - u))
    };
    let size = first.weight.ncols();
    let covariance = Array2::from_shape_fn((size, size), |(i, j)| covariance(i, j));
    let spread = |filter: ArrayView1<f32>| filter.dot(&covariance.dot(&filter)).max(0.0).sqrt();
    let (Yardstick::Norm(yardstick) | Yardstick::Bias(yardstick)) = &first.yardstick;
    let filters = first.weight.rows().into_iter().zip(yardstick);
    let mut strengths: Vec<f32> = filters.map(|(filter, against)| spread(filter) / against.abs()).collect();
    strengths.retain(|strength| strength.is_finite() && *strength > 0.0);
    strengths.sort_unstable_by(f32::total_cmp);
    strengths.get(strengths.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::Backbone;
    use crate::bundle::Preset;

    fn of(name: &str) -> Preprocess {
        Preset::named(name).unwrap().preprocess()
    }

    /// Filters that look at brightness, with biases as large as their response to photos of `preset`.
    fn made_for(preset: &str) -> FirstLayer {
        let gain = 0.27 * of(preset).range / of(preset).std[1];
        let weight = Array2::from_elem((4, 27), 1.0 / (27.0 * gain));
        let yardstick = Yardstick::Bias(vec![1.0, -1.0, 0.5, 0.0]);
        FirstLayer { name: "stem".into(), weight, kernel: [3, 3], yardstick }
    }

    #[test]
    fn the_response_to_even_grey_has_the_spread_of_brightness() {
        let layer = |kernel, weight: Vec<f32>| {
            let weight = Array2::from_shape_vec((1, weight.len()), weight).unwrap();
            FirstLayer { name: "stem".into(), weight, kernel, yardstick: Yardstick::Bias(vec![-0.5]) }
        };
        // One pixel of one colour: SPREAD range / std |w| / |b|.
        let found = strength(&layer([1, 1], vec![0.0, 2.0, 0.0]), &of("torchvision")).unwrap();
        assert!((found - 0.27 / 0.224 * 2.0 / 0.5).abs() < 1e-5, "{found}");
        // Two neighbours of opposite sign: the variance is 2 (1 - 0.95).
        let found = strength(&layer([1, 2], vec![1.0, -1.0, 0.0, 0.0, 0.0, 0.0]), &of("unit")).unwrap();
        assert!((found - 0.27 * 0.1f32.sqrt() / 0.5).abs() < 1e-3, "{found}");
    }

    #[test]
    fn a_scale_that_the_first_layer_cannot_mean_is_told_with_the_presets_that_fit() {
        for (made, given, words) in [
            ("raw", "unit", &["too small", "node stem", "option `preset` raw"][..]),
            ("raw", "torchvision", &["too small", "option `preset` raw"][..]),
            (
                "torchvision",
                "raw",
                &["too large", "option `preset` torchvision, or timm-inception, or unit", "255.000"][..],
            ),
            ("timm-inception", "raw", &["too large"][..]),
        ] {
            let said = doubtful(&of(given), Some(&made_for(made))).unwrap();
            assert!(words.iter().all(|word| said.contains(word)), "{made} as {given}: {said}");
        }
        for preset in &PRESETS {
            assert_eq!(doubtful(&preset.preprocess(), Some(&made_for(preset.name))), None, "{}", preset.name);
        }
        let silent = FirstLayer { yardstick: Yardstick::Bias(vec![0.0; 4]), ..made_for("raw") };
        assert_eq!(doubtful(&of("unit"), Some(&silent)), None, "without biases nothing is known");
    }

    #[test]
    fn where_the_norm_still_stands_mean_and_std_that_were_forgotten_show() {
        let normed = FirstLayer { yardstick: Yardstick::Norm(vec![1.0; 4]), ..made_for("torchvision") };
        let said = doubtful(&of("unit"), Some(&normed)).unwrap();
        assert!(said.contains("too small") && said.contains("the norm") && said.contains("torchvision"), "{said}");
        assert_eq!(doubtful(&of("torchvision"), Some(&normed)), None);
    }

    #[test]
    fn values_in_the_units_of_the_other_range_are_told_whatever_the_network() {
        let inception = || of("timm-inception");
        let bytes = Preprocess { mean: [127.5; 3], std: [127.5; 3], ..inception() };
        for (wrong, words) in [
            (Preprocess { range: 255.0, ..inception() }, ["option `range` 1,", "white 509.000"]),
            (Preprocess { range: 255.0, ..of("torchvision") }, ["option `range` 1,", "black becomes -2.036"]),
            (bytes.clone(), ["option `range` 255,", "white -0.992"]),
        ] {
            let said = doubtful(&wrong, None).unwrap();
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
        // RGB in Caffe's way, and timm-inception in bytes.
        let caffe = Preprocess { mean: [123.68, 116.78, 103.94], ..of("raw") };
        for right in [caffe, Preprocess { range: 255.0, ..bytes }] {
            assert_eq!(doubtful(&right, None), None, "{right:?}");
        }
    }
    #[test]
    fn a_real_network_tells_values_that_it_was_not_trained_on_and_never_those_that_it_was() {
        let Some(assets) = std::env::var_os("SRLORA_ASSETS").map(std::path::PathBuf::from) else {
            eprintln!("NOT CHECKED: SRLORA_ASSETS is not set, so no real network was asked what it was trained on");
            return;
        };
        for (file, right, wrong) in [
            ("mobilenetv2_1.0_224_fp32", "timm-inception", &["raw"][..]),
            ("mobilenetv2_1.0_224_fp16", "timm-inception", &["raw"]),
            ("mobilenetv2_1.0_224_int8_qdq_ort", "timm-inception", &["raw"]),
            ("mobilenetv2_1.0_224_uint8_qdq_google_qat", "timm-inception", &["raw"]),
            ("resnet20_cifar10_fp32", "torchvision", &["raw"]),
            ("mlperftiny_resnet8_cifar10_fp32", "raw", &["unit", "torchvision", "timm-inception"]),
            ("mlperftiny_resnet8_cifar10_int8_qdq", "raw", &["unit", "torchvision", "timm-inception"]),
            ("mobilevit_xxs_flowers5_256_fp32", "raw", &["unit", "torchvision", "timm-inception"]),
        ] {
            let bytes = std::fs::read(assets.join(format!("models/{file}.onnx"))).unwrap();
            let first = Backbone::read(bytes, file, None, None).unwrap().first_layer().unwrap();
            let strengths = PRESETS.iter().map(|preset| (preset.name, strength(&first, &preset.preprocess())));
            println!("{file}: {:?}", strengths.collect::<Vec<_>>());
            assert_eq!(doubtful(&of(right), Some(&first)), None, "{file}");
            for wrong in wrong {
                let said = doubtful(&of(wrong), Some(&first)).unwrap_or_else(|| panic!("{file} as {wrong}"));
                assert!(said.contains("the first layer") && said.contains(right), "{said}");
            }
        }
    }
}
