//! `srlora eval`.

use super::args::EvalArgs;
use super::output::{Meter, Output, count, percent};
use crate::bundle::Bundle;
use crate::error::Result;
use crate::session::{Dataset, Evaluation, Store, evaluate};

/// More classes than this make a confusion matrix that no terminal shows.
const LARGEST_MATRIX: usize = 20;

pub(super) fn run(args: &EvalArgs, output: &Output) -> Result<()> {
    let bundle = Bundle::open(&args.bundle)?;
    let store = args.store.as_deref().map(Store::open).transpose()?;
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
    let width = evaluation.classes.iter().map(|c| c.chars().count()).max().unwrap_or(0).max(4);
    let mut text = format!("{:>4} {:width$}", "", "true");
    for class in 0..evaluation.classes.len() {
        text += &format!(" {:>4}", class + 1);
    }
    text += "   right\n";
    for (class, name) in evaluation.classes.iter().enumerate() {
        let Some(right) = evaluation.recall(class) else { continue };
        text += &format!("{:>4} {name:width$}", class + 1);
        for &n in &evaluation.confusion[class] {
            text += &if n == 0 { format!(" {:>4}", ".") } else { format!(" {n:>4}") };
        }
        text += &format!("  {:>6}\n", percent(right));
    }
    text
}
