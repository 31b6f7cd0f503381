//! `srlora compare`.

use super::args::CompareArgs;
use super::output::{Meter, Output, count, percent, size, tell};
use crate::bundle::Bundle;
use crate::error::Result;
use crate::session::compare::{Comparison, ComparisonReport, Difference, RateTried, Standing, compare};
use crate::session::{Length, Lesson, Validation};

const COLUMNS: [&str; 9] =
    ["method", "rate", "accuracy", "to lora", "lora's end after", "trained", "recomposed", "ms a step", "seconds"];

pub(super) fn run(args: &CompareArgs, output: &Output) -> Result<()> {
    let bundle = Bundle::open(&args.bundle)?;
    let mut meter = Meter::new();
    let report = compare(&bundle, &request(args), &mut |progress| meter.show(progress))?;
    meter.end();
    for standing in &report.methods {
        if let Some(end) = at_the_end(standing) {
            let advice = "a wider grid may show more of it";
            tell(format_args!("warning: {} did best with the {end} rate it may choose; {advice}", standing.method));
        }
    }
    output.result(&report, describe)
}

fn request(args: &CompareArgs) -> Comparison {
    let defaults = Lesson::new(args.data.clone());
    let validation = match (&args.val, args.val_split) {
        (Some(folder), _) => Validation::Folder(folder.clone()),
        (None, Some(share)) => Validation::Split(share),
        (None, None) => Validation::None,
    };
    let lesson = Lesson {
        validation,
        length: match (args.epochs, args.steps) {
            (_, Some(steps)) => Length::Steps(steps),
            (Some(epochs), None) => Length::Epochs(epochs),
            (None, None) => defaults.length,
        },
        batch: args.batch.map_or(defaults.batch, |batch| batch as usize),
        head_lr: args.head_lr.unwrap_or(defaults.head_lr),
        threads: args.threads as usize,
        ..defaults
    };
    Comparison {
        lesson,
        contenders: args.methods.clone(),
        seeds: args.seeds,
        lrs: args.lrs.clone(),
        head_lrs: args.head_lrs.clone(),
        tries: args.tries,
        points: args.points,
        output: args.output.clone(),
    }
}

/// Which end of its grid a method chose, where there is something to say.
fn at_the_end(standing: &Standing) -> Option<&'static str> {
    let chosen = chosen(standing)?;
    let rate = |tried: Option<&RateTried>| tried.is_some_and(|tried| tried.rate == chosen);
    match &standing.rates[..] {
        [] | [_] | [_, _] => None,
        rates if rate(rates.last()) => Some("largest"),
        // Equal accuracies say nothing, and the smallest is taken.
        rates if rate(rates.first()) && rates[0].accuracy > rates[1].accuracy => Some("smallest"),
        _ => None,
    }
}

fn chosen(standing: &Standing) -> Option<f32> {
    standing.lr.or(standing.head_lr)
}

fn describe(report: &ComparisonReport) -> String {
    let mut text = format!(
        "{}, {} trained on, {} measured, {} each\n\n",
        count(report.classes.len(), "class"),
        count(report.train_images, "photo"),
        report.val_images,
        count(report.seeds as usize, "run"),
    );
    let mut rows = vec![COLUMNS.map(String::from)];
    rows.extend(report.methods.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    for row in &rows {
        let first = format!("{:<width$}", row[0], width = widths[0]);
        let rest = row.iter().zip(&widths).skip(1).map(|(cell, width)| format!("  {cell:>width$}"));
        text += &format!("{first}{}\n", rest.collect::<String>());
    }
    text += "\naccuracy: mean and standard deviation; to lora: mean and standard error, in points, seed by seed\n";
    if let Some(bytes) = report.methods.iter().filter_map(|standing| standing.process_peak_rss_bytes).max() {
        text += &format!("peak memory of the whole comparison: {}\n", size(bytes));
    }
    text
}

fn row(standing: &Standing) -> [String; COLUMNS.len()] {
    let none = || "-".to_owned();
    let spread = |sd: Option<f64>| sd.map(|sd| format!(" ± {:.1}", 100.0 * sd)).unwrap_or_default();
    let points =
        |Difference { mean, standard_error }: Difference| format!("{:+.1}{}", 100.0 * mean, spread(standard_error));
    let reached = match (standing.steps_to_lora, standing.steps_to_lora_share, standing.difference_to_lora) {
        (Some(step), Some(share), _) => format!("{step} ({share:.2})"),
        (_, _, Some(_)) => "never".to_owned(),
        _ => none(),
    };
    [
        standing.method.clone(),
        chosen(standing).map_or_else(none, |rate| rate.to_string()),
        percent(standing.accuracy_mean) + &spread(standing.accuracy_sd),
        standing.difference_to_lora.filter(|_| standing.method != "lora").map_or_else(none, points),
        reached,
        standing.trainable_params.to_string(),
        format!("{:.0}", standing.recompositions),
        standing.step_ms_median.map_or_else(none, |ms| format!("{ms:.1}")),
        format!("{:.1}", standing.seconds),
    ]
}
