//! What an exported file says of itself, in the entries that other tools look for, and in some of its own.

use crate::bundle::{Bundle, Fit};
use crate::session::Calibration;

/// `names`, `task` and `imgsz` as Ultralytics writes them, and all that it takes to prepare a photo as the bundle does, under `srlora.`.
/// There is no time in it: the same store gives the same bytes.
pub(super) fn metadata(
    bundle: &Bundle,
    classes: &[String],
    generation: u64,
    calibration: Option<&Calibration>,
) -> Vec<(String, String)> {
    let names = ("names".to_owned(), names(classes));
    let generation = ("srlora.generation".to_owned(), generation.to_string());
    let limit = unknown_below(calibration).map(|limit| ("srlora.unknown_below".to_owned(), limit.to_string()));
    [names].into_iter().chain(of_bundle(bundle)).chain([generation]).chain(limit).collect()
}

/// The same of a file that has the preprocessing in it and gives probabilities: it reads bytes, and a limit of logits is of no use.
pub(super) fn wrapped(metadata: Vec<(String, String)>) -> Vec<(String, String)> {
    let read = |(key, value): (String, String)| match key.as_str() {
        "srlora.mean" => Some((key, listed(&[0.0; 3]))),
        "srlora.std" => Some((key, listed(&[1.0; 3]))),
        "srlora.range" => Some((key, 255.to_string())),
        "srlora.unknown_below" => None,
        _ => Some((key, value)),
    };
    metadata.into_iter().filter_map(read).collect()
}

/// What is the same for all stores of a bundle.
pub(crate) fn of_bundle(bundle: &Bundle) -> Vec<(String, String)> {
    let preprocess = &bundle.preprocess;
    let fit = match preprocess.fit {
        Fit::Crop => "crop",
        Fit::Stretch => "stretch",
    };
    let entries = [
        ("task", "classify".to_owned()),
        ("imgsz", format!("[{}, {}]", preprocess.height, preprocess.width)),
        ("srlora.bundle_sha256", bundle.content_sha256.clone()),
        ("srlora.fit", fit.to_owned()),
        ("srlora.mean", listed(&preprocess.mean)),
        ("srlora.range", preprocess.range.to_string()),
        ("srlora.std", listed(&preprocess.std)),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The limit of logits that are already divided by the temperature.
pub(crate) fn unknown_below(calibration: Option<&Calibration>) -> Option<f32> {
    calibration.map(|known| known.unknown_below / known.temperature)
}

fn listed(values: &[f32]) -> String {
    let values: Vec<String> = values.iter().map(f32::to_string).collect();
    format!("[{}]", values.join(", "))
}

/// The classes as a dictionary of Python: `{0: 'cat', 1: 'dog'}`.
fn names(classes: &[String]) -> String {
    let entries: Vec<String> =
        classes.iter().enumerate().map(|(class, name)| format!("{class}: {}", quoted(name))).collect();
    format!("{{{}}}", entries.join(", "))
}

/// A text as a literal of Python.
fn quoted(text: &str) -> String {
    let mut out = String::from("'");
    for letter in text.chars() {
        match letter {
            '\'' | '\\' => out.extend(['\\', letter]),
            _ if letter.is_control() => out += &format!("\\u{:04x}", u32::from(letter)),
            _ => out.push(letter),
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_become_a_dictionary_that_python_reads() {
        let classes = ["cat", "it's", "a\\b", "Übung\n"].map(str::to_owned);
        assert_eq!(names(&classes), r"{0: 'cat', 1: 'it\'s', 2: 'a\\b', 3: 'Übung\u000a'}");
        assert_eq!(names(&[]), "{}");
        assert_eq!(listed(&[0.485, 0.5, 1.0]), "[0.485, 0.5, 1]");
    }
}
