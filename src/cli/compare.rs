//! `srlora compare`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::flags::{LessonFlags, TrustFlags};
use super::output::{Meter, Output, count, percent, shown, size, tell};
use super::report::{ReportFlag, origin};
use super::values::{parse_interval, parse_rate};
use crate::core::MethodSettings;
use crate::error::Result;
use crate::lab::compare::{
    CONTENDERS, Comparison, ComparisonReport, Contender, Difference, RateTried, Standing, beyond_chance, compare,
};
use crate::session::{Interval, Lesson};

/// From so many on, what is said of standard errors needs no warning.
const ENOUGH_RUNS: u32 = 5;

const COLUMNS: [&str; 10] = [
    "method",
    "rate",
    "accuracy",
    "to lora",
    "lora's end after",
    "trained",
    "recomposed",
    "ms a step",
    "seconds",
    "memory",
];

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("measured").required(true).args(["val", "val_split"]))]
pub(super) struct CompareArgs {
    /// What `pack` wrote.
    pub(super) bundle: PathBuf,
    #[command(flatten)]
    trust: TrustFlags,
    #[command(flatten)]
    pub(super) lesson: LessonFlags,
    /// What to compare, with commas.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = parse_contender,
        default_value = "imprint,head,lora,pissa,srlora,random",
        long_help = contenders_help()
    )]
    pub(super) methods: Vec<&'static Contender>,
    /// Runs of each method, with seeds 0, 1 and so on.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) seeds: u32,
    /// Rates of the pairs to choose from, with commas; a single one is taken as it is.
    #[arg(long, value_name = "RATES", value_delimiter = ',', value_parser = parse_rate, default_value = "1e-3,3e-3,1e-2,3e-2")]
    pub(super) lrs: Vec<f32>,
    /// Rates of the head to choose from where nothing else is trained.
    #[arg(long, value_name = "RATES", value_delimiter = ',', value_parser = parse_rate, default_value = "3e-4,1e-3,3e-3,1e-2")]
    pub(super) head_lrs: Vec<f32>,
    /// Learning rate of the head beside pairs [default: 0.001].
    #[arg(long, value_parser = parse_rate)]
    pub(super) head_lr: Option<f32>,
    /// Steps between recompositions of half of the pairs, `once`, or 0, as of `train` [default: 0].
    #[arg(long, value_name = "STEPS", value_parser = parse_interval)]
    pub(super) interval: Option<Interval>,
    /// Times that each rate is tried, each with another quarter of the training photos held out; with few photos a single
    /// try says little.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) tries: u32,
    /// Times that accuracy is measured on the way, evenly spread; it shows how soon a method is as good as lora at its end.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) points: u32,
    /// Keep every finished run in this file, a JSON object a line; with the same file and settings, none is done again.
    /// One comparison at a time writes to it. What the frozen part makes of the photos waits beside it, or without it
    /// in the system's folder for temporary files, in files without a name that vanish with the run.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    report: ReportFlag,
}

fn parse_contender(name: &str) -> std::result::Result<&'static Contender, String> {
    let known = CONTENDERS.iter().map(|contender| contender.name).collect::<Vec<_>>().join(", ");
    Contender::named(name.trim()).ok_or_else(|| format!("it is none of {known}"))
}

fn contenders_help() -> String {
    let lines = CONTENDERS.iter().map(|contender| format!("\n- {}: {}", contender.name, contender.about));
    format!("What to compare, with commas:\n{}", lines.collect::<String>())
}

pub(super) fn run(args: &CompareArgs, output: &Output) -> Result<()> {
    args.report.check(args.output.as_deref())?;
    let bundle = args.trust.open(&args.bundle)?;
    for flag in ignored(args) {
        tell(format_args!("warning: {flag} has no effect with these --methods"));
    }
    let mut meter = Meter::new();
    let report = compare(&bundle, &request(args), &mut |progress| meter.show(progress))?;
    meter.end();
    for standing in &report.methods {
        if let Some(end) = at_the_end(standing) {
            let advice = "a wider grid may show more of it";
            tell(format_args!("warning: {} did best with the {end} rate it may choose; {advice}", standing.method));
        }
    }
    output.result(&report, describe)?;
    let origin = || origin(&bundle, shown(&args.lesson.data), None);
    args.report.write(output, || Ok(crate::report::comparison(&origin(), &report)))
}

/// The flags that were given and that no method looks at.
fn ignored(args: &CompareArgs) -> Vec<&'static str> {
    let any = |of: fn(MethodSettings) -> bool| args.methods.iter().any(|contender| of(contender.method.settings()));
    let trains = any(|settings| settings.trains_head);
    let flags = [
        ("--interval", args.interval.is_some(), any(|settings| settings.recomposes)),
        ("--head-lr", args.head_lr.is_some(), any(|settings| settings.trains_pairs)),
        ("--epochs", args.lesson.epochs.is_some(), trains),
        ("--steps", args.lesson.steps.is_some(), trains),
        ("--batch", args.lesson.batch.is_some(), trains),
    ];
    flags.into_iter().filter(|(_, given, used)| *given && !used).map(|(flag, ..)| flag).collect()
}

fn request(args: &CompareArgs) -> Comparison {
    let lesson = args.lesson.lesson();
    let head_lr = args.head_lr.unwrap_or(lesson.head_lr);
    let lesson = Lesson { head_lr, interval: args.interval.unwrap_or_default(), ..lesson };
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
        [] | [_] => None,
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
    for standing in report.methods.iter().filter(|standing| standing.rested > 0) {
        let (method, runs) = (&standing.method, count(report.seeds as usize, "run"));
        text += &format!(
            "\n{method}: in {} of {runs} pairs rested, as they had not helped on photos left out\n",
            standing.rested
        );
    }
    text += "\naccuracy: mean and standard deviation; to lora: mean and standard error, in points, seed by seed\n";
    if let Some(errors) = beyond_chance(report.seeds as usize).filter(|_| report.seeds < ENOUGH_RUNS) {
        let runs = count(report.seeds as usize, "run");
        text += &format!(
            "with {runs}, chance alone reaches {errors:.1} standard errors once in twenty times; five runs tell more\n"
        );
    }
    text + &format!(
        "lora's end after: the first of {} measurements, evenly spread, whose mean is lora's at its end; recomposed: and not taken back\n",
        report.settings.points
    )
}

fn row(standing: &Standing) -> [String; COLUMNS.len()] {
    let none = || "-".to_owned();
    let spread = |sd: Option<f64>| sd.map(|sd| format!(" ± {:.1}", 100.0 * sd)).unwrap_or_default();
    let points =
        |Difference { mean, standard_error }: Difference| format!("{:+.1}{}", 100.0 * mean, spread(standard_error));
    let reached = match (standing.steps_to_lora, standing.steps_to_lora_share, standing.difference_to_lora) {
        (Some(0), ..) => "no step".to_owned(),
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
        format!("{:.0}", standing.recompositions - standing.undone),
        standing.step_ms_median.map_or_else(none, |ms| format!("{ms:.1}")),
        format!("{:.1}", standing.seconds),
        standing.peak_rss_bytes.map_or_else(none, size),
    ]
}
