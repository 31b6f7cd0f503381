//! `srlora predict`.

use std::path::Path;

use serde::Serialize;

use super::args::PredictArgs;
use super::open_store;
use super::output::{Output, count, in_flags, percent, plain, tell};
use crate::error::{Error, ErrorKind, Result};
use crate::session::{Classifier, Guess, Prediction};

/// What is told of a photo: what it shows, or why it could not be read.
#[derive(Serialize)]
struct Answer<'p> {
    path: &'p str,
    top: Option<&'p [Guess]>,
    confidence: Option<f32>,
    unknown: Option<bool>,
    ms: Option<f64>,
    error: Option<&'p str>,
}

pub(super) fn run(args: &PredictArgs, output: &Output) -> Result<()> {
    let bundle = args.trust.open(&args.bundle)?;
    let store = open_store(args.store.as_deref())?;
    let mut classifier = Classifier::new(&bundle, store.as_ref())?;
    if args.unknown && !classifier.tells_unknown() {
        tell(
            "warning: nothing here has shown what a photo of none of the classes looks like; that takes a store with two photos of a class",
        );
    }
    let mut unreadable = 0;
    for path in &args.photos {
        match classifier.predict(path.as_path(), args.top as usize) {
            Ok(prediction) => {
                let Prediction { path, top, confidence, unknown, ms } = &prediction;
                let (top, ms) = (Some(&**top), Some(*ms));
                let answer = Answer { path, top, confidence: *confidence, unknown: *unknown, ms, error: None };
                output.result(&answer, |_| describe(&prediction, args.unknown))?;
            }
            Err(error) if error.kind() == ErrorKind::Image => {
                unreadable += 1;
                tell_unreadable(path, &error, output)?;
            }
            Err(error) => return Err(error),
        }
    }
    let photos = args.photos.len();
    match unreadable {
        0 => Ok(()),
        _ if unreadable == photos => Err(Error::new(ErrorKind::Image, "", "none of the photos can be read")),
        _ => {
            Err(Error::new(ErrorKind::Image, "", format!("{unreadable} of {} cannot be read", count(photos, "photo"))))
        }
    }
}

/// On stderr, and with --json in the photo's place among the answers.
fn tell_unreadable(path: &Path, error: &Error, output: &Output) -> Result<()> {
    tell(format_args!("error: {error}"));
    let (path, error) = (path.to_string_lossy(), in_flags(error.message()));
    output.json(&Answer { path: &path, top: None, confidence: None, unknown: None, ms: None, error: Some(&error) })
}

fn describe(prediction: &Prediction, tells_unknown: bool) -> String {
    let guesses = prediction.top.iter();
    let top = guesses.map(|guess| format!("{} {}", plain(&guess.label), percent(f64::from(guess.probability))));
    let unknown = if tells_unknown && prediction.unknown == Some(true) { "unknown; if anything, " } else { "" };
    let (path, top) = (plain(&prediction.path), top.collect::<Vec<_>>().join(", "));
    format!("{path}: {unknown}{top}  ({:.0} ms)", prediction.ms)
}
