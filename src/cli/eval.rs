//! `srlora eval`.

use super::args::EvalArgs;
use super::open_store;
use super::output::{Meter, Output, count, percent, plain, shown, tell};
use super::report::origin;
use crate::bundle::Bundle;
use crate::error::Result;
use crate::limits::MOST_MATRIX_CLASSES;
use crate::session::{ClassScore, Dataset, EvalRequest, Evaluation, Mistake, Unknown, evaluate};

/// More classes than this make a confusion matrix that no terminal shows.
const LARGEST_MATRIX: usize = 20;
/// Classes and confusions that are shown instead, of each.
const LISTED: usize = 10;

pub(super) fn run(args: &EvalArgs, output: &Output) -> Result<()> {
    args.report.check([])?;
    let bundle = args.trust.open(&args.bundle)?;
    let store = open_store(args.store.as_deref())?;
    let data = Dataset::open(&args.data)?;
    let mut meter = Meter::new();
    let unknown = args.unknown.as_deref().map(Dataset::flat).transpose()?;
    let request = EvalRequest { mistakes: args.mistakes.unwrap_or(0), unknown };
    let evaluation = evaluate(&bundle, store.as_ref(), &data, &request, &mut |progress| meter.show(progress))?;
    meter.end();
    if store.is_none() && evaluation.confusion.is_at_chance() == Some(true) {
        tell(at_chance(&bundle));
    }
    output.result(&evaluation, describe)?;
    let origin = || origin(&bundle, shown(&args.data), args.store.as_deref());
    args.report.write(output, || Ok(crate::report::evaluation(&origin(), &evaluation)))
}

/// What is most often behind it where a model is asked for its own classes.
fn at_chance(bundle: &Bundle) -> String {
    format!(
        "warning: accuracy is at chance: the preprocessing of this bundle may be wrong ({}), or its labels in another order than the \
         model's outputs: see `srlora pack --help`",
        bundle.preprocess
    )
}

fn describe(evaluation: &Evaluation) -> String {
    let mut text = format!("accuracy {} of {}\n", percent(evaluation.accuracy), count(evaluation.n, "photo"));
    text += &if evaluation.classes.len() <= LARGEST_MATRIX { matrix(evaluation) } else { worst(evaluation) };
    text += &evaluation.mistakes.as_deref().map_or_else(String::new, mistakes);
    text += &certainty(evaluation);
    text + &format!("{:.1} photos a second\n", evaluation.images_per_second)
}

/// How far probabilities are off, and how photos of none of the classes stand out.
fn certainty(evaluation: &Evaluation) -> String {
    let points = |error: f64| format!("{:.1} points", 100.0 * error);
    let before = evaluation.calibration_error_before();
    let before = before.map_or_else(String::new, |before| format!(", before calibration by {}", points(before)));
    let off = |error| format!("probabilities are off by {} in the mean{before}\n", points(error));
    let mut text = evaluation.calibration_error().map_or_else(String::new, off);
    if let Some(Unknown { photos, auroc, told }) = evaluation.unknown {
        text += &format!("unknown: {}, told from known ones with an AUROC of {auroc:.3}\n", count(photos, "photo"));
        text += &told.map_or_else(String::new, |[found, false_alarms]| {
            format!("         {} of them found, with {} false alarms\n", percent(found), percent(false_alarms))
        });
    }
    text
}

/// Rows: true class; columns: predicted class, numbered as the rows. Classes without photos and guesses have no row.
fn matrix(evaluation: &Evaluation) -> String {
    let scores = evaluation.per_class();
    let width = name_width(&scores).max(4);
    let mut text = format!("{:>4} {:width$}", "", "true");
    for class in 0..scores.len() {
        text += &format!(" {:>4}", class + 1);
    }
    text += "   recall  precision\n";
    for (class, score) in scores.iter().enumerate() {
        if score.recall.or(score.precision).is_none() {
            continue;
        }
        text += &format!("{:>4} {:width$}", class + 1, plain(score.class));
        for guess in 0..scores.len() {
            let n = evaluation.confusion.cell(class, guess);
            text += &if n == 0 { format!(" {:>4}", ".") } else { format!(" {n:>4}") };
        }
        text += &format!("  {:>7}  {:>9}\n", share(score.recall), share(score.precision));
    }
    text
}

/// The classes with the lowest recall, and what is most often taken for what.
fn worst(evaluation: &Evaluation) -> String {
    let mut scores = evaluation.per_class();
    let (classes, with_photos) = (scores.len(), scores.iter().filter(|score| score.photos > 0).count());
    scores.retain(|score| score.recall.is_some_and(|recall| recall < 1.0));
    let recall = |score: &ClassScore| score.recall.unwrap_or(1.0);
    scores.sort_by(|a, b| recall(a).total_cmp(&recall(b)).then(b.photos.cmp(&a.photos)));
    let unrecognized = scores.len();
    scores.truncate(LISTED);
    let mut text = String::new();
    if !scores.is_empty() {
        let width = name_width(&scores).max(5);
        text += &format!(
            "lowest recall ({} of {} below 100 %, of {with_photos} with photos):\n",
            scores.len(),
            count(unrecognized, "class"),
        );
        text += &format!("  {:width$}  photos   recall  precision\n", "class");
        for score in &scores {
            let [recall, precision] = [score.recall, score.precision].map(share);
            text += &format!("  {:width$}  {:>6}  {recall:>7}  {precision:>9}\n", plain(score.class), score.photos);
        }
    }
    let confused = evaluation.confused();
    if !confused.is_empty() {
        text += &format!("most frequent confusions ({} of {}):\n", confused.len().min(LISTED), confused.len());
    }
    for cell in confused.iter().take(LISTED) {
        let (class, guess) = (plain(cell.class), plain(cell.guess));
        text += &format!("  {class} taken for {guess}: {}\n", count(cell.count, "photo"));
    }
    let whole = if classes <= MOST_MATRIX_CLASSES { "the whole matrix" } else { "every confusion" };
    text + &format!("a matrix of {classes} classes is too large to show; {whole} is in --json\n")
}

fn mistakes(mistakes: &[Mistake]) -> String {
    let mut text = format!("most confident mistakes ({}):\n", mistakes.len());
    for mistake in mistakes {
        let Mistake { path, class, guess, probability } = mistake;
        let [path, class, guess] = [path, class, guess].map(plain);
        text += &format!("  {path}: {class} taken for {guess}, {}\n", percent(f64::from(*probability)));
    }
    text
}

fn name_width(scores: &[ClassScore]) -> usize {
    scores.iter().map(|score| plain(score.class).chars().count()).max().unwrap_or(0)
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), percent)
}
