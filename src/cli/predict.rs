//! `srlora predict`.

use super::args::PredictArgs;
use super::open_store;
use super::output::{Output, percent, plain, tell};
use crate::error::{Error, ErrorKind, Result};
use crate::session::{Classifier, Prediction};

pub(super) fn run(args: &PredictArgs, output: &Output) -> Result<()> {
    let bundle = args.trust.open(&args.bundle)?;
    let store = open_store(args.store.as_deref())?;
    let mut classifier = Classifier::new(&bundle, store.as_ref())?;
    let mut unreadable = 0;
    for path in &args.images {
        match classifier.predict(path) {
            Ok(prediction) => output.result(&prediction, describe)?,
            Err(error) if error.kind() == ErrorKind::Image => {
                tell(format_args!("warning: {error}"));
                unreadable += 1;
            }
            Err(error) => return Err(error),
        }
    }
    if unreadable == args.images.len() {
        return Err(Error::new(ErrorKind::Image, "", "none of the photos can be read"));
    }
    Ok(())
}

fn describe(prediction: &Prediction) -> String {
    let guesses = prediction.top.iter();
    let top = guesses.map(|guess| format!("{} {}", plain(&guess.label), percent(f64::from(guess.probability))));
    format!("{}: {}  ({:.0} ms)", plain(&prediction.path), top.collect::<Vec<_>>().join(", "), prediction.ms)
}
