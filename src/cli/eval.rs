//! `srlora eval`.

use super::args::EvalArgs;
use super::open_store;
use super::output::{Meter, Output, count, percent, plain};
use crate::error::Result;
use crate::session::{Dataset, Evaluation, evaluate};

/// More classes than this make a confusion matrix that no terminal shows.
const LARGEST_MATRIX: usize = 20;

pub(super) fn run(args: &EvalArgs, output: &Output) -> Result<()> {
    let bundle = args.trust.open(&args.bundle)?;
    let store = open_store(args.store.as_deref())?;
    let data = Dataset::open(&args.data)?;
    let mut meter = Meter::new();
    let evaluation = evaluate(&bundle, store.as_ref(), &data, &mut |progress| meter.show(progress))?;
    meter.end();
    output.result(&evaluation, describe)
}

pub(super) fn describe(evaluation: &Evaluation) -> String {
    let mut text = format!("accuracy {} of {}\n", percent(evaluation.accuracy), count(evaluation.n, "photo"));
    if evaluation.classes.len() <= LARGEST_MATRIX {
        text += &matrix(evaluation);
    }
    text + &format!("{:.1} photos a second\n", evaluation.images_per_second)
}

/// Rows: true class; columns: predicted class, numbered as the rows.
pub(super) fn matrix(evaluation: &Evaluation) -> String {
    let names: Vec<String> = evaluation.classes.iter().map(plain).collect();
    let width = names.iter().map(|c| c.chars().count()).max().unwrap_or(0).max(4);
    let mut text = format!("{:>4} {:width$}", "", "true");
    for class in 0..names.len() {
        text += &format!(" {:>4}", class + 1);
    }
    text += "   right\n";
    for (class, name) in names.iter().enumerate() {
        let Some(right) = evaluation.recall(class) else { continue };
        text += &format!("{:>4} {name:width$}", class + 1);
        for &n in &evaluation.confusion[class] {
            text += &if n == 0 { format!(" {:>4}", ".") } else { format!(" {n:>4}") };
        }
        text += &format!("  {:>6}\n", percent(right));
    }
    text
}
