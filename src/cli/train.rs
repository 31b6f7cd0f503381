//! `srlora train`.

use std::path::Path;

use super::args::TrainArgs;
use super::output::{Meter, Output, count, percent, plain, quoted, shown, size, tell};
use super::report::origin;
use super::signals::stop_on_signals;
use super::values::Switch;
use crate::core::Method;
use crate::error::Result;
use crate::report::training;
use crate::report::verdict::{cross_validated, known, rested, why_aside};
use crate::session::{Keep, Lesson, TrainReport, Trainer, course};

pub(super) fn run(args: &TrainArgs, output: &Output) -> Result<()> {
    args.report.check([store(args)])?;
    let bundle = args.trust.open(&args.bundle)?;
    let method = Method::from(args.method);
    for flag in ignored(args) {
        tell(format_args!("warning: {flag} has no effect with --method {}", method.name()));
    }
    let keep = Keep {
        further: args.from.is_some(),
        resume: args.resume,
        every: args.checkpoint,
        stop: stop_on_signals()?.into(),
        ..Keep::new(store(args))
    };
    let mut meter = Meter::new();
    let trainer = Trainer::new(&bundle, lesson(args), keep)?;
    let report = trainer.run(&mut |progress| meter.show(progress))?;
    meter.end();
    output.result(&report, |report| describe(report, args))?;
    args.report.write(output, || {
        let origin = origin(&bundle, shown(&args.lesson.data), Some(store(args)));
        Ok(training(&origin, &report, &course(store(args), &report.shown.record)?))
    })
}

fn store(args: &TrainArgs) -> &Path {
    args.from.as_deref().or(args.output.as_deref()).unwrap_or(Path::new(""))
}

/// The flags that were given and that the method does not look at.
fn ignored(args: &TrainArgs) -> Vec<&'static str> {
    let settings = Method::from(args.method).settings();
    let flags = [
        ("--interval", args.interval.is_some(), settings.recomposes),
        ("--min-age", args.min_age.is_some(), settings.recomposes),
        ("--lr", args.lr.is_some(), settings.trains_pairs),
        ("--start", args.start.is_some(), settings.trains_pairs),
        ("--pairs", args.pairs.is_some(), settings.trains_pairs),
        ("--directions", args.directions.is_some(), settings.trains_pairs),
        ("--head-lr", args.head_lr.is_some(), settings.trains_head),
        ("--decay", args.decay.is_some(), settings.trains_pairs),
        ("--head-decay", args.head_decay.is_some(), settings.trains_head),
        ("--epochs", args.lesson.epochs.is_some(), settings.trains_head),
        ("--steps", args.lesson.steps.is_some(), settings.trains_head),
        ("--batch", args.lesson.batch.is_some(), settings.trains_head),
        ("--augment", args.augment.is_some(), settings.trains_head),
    ];
    flags.into_iter().filter(|(_, given, used)| *given && !used).map(|(flag, ..)| flag).collect()
}

fn lesson(args: &TrainArgs) -> Lesson {
    let lesson = args.lesson.lesson();
    Lesson {
        method: args.method.into(),
        start: args.start.map(|start| start.with_seed(args.seed)),
        pairs: args.pairs.map(Into::into),
        directions: args.directions.map(Into::into),
        lr: args.lr,
        head_lr: args.head_lr.unwrap_or(lesson.head_lr),
        decay: args.decay,
        head_decay: args.head_decay,
        seed: args.seed,
        augment: args.augment == Some(Switch::On),
        interval: args.interval.unwrap_or_default(),
        min_age: args.min_age,
        cache: args.cache.into(),
        cache_limit: args.cache_limit,
        replay: args.replay,
        ram_limit: args.ram_limit,
        ..lesson
    }
}

fn replayed(examples: usize) -> String {
    if examples == 0 { String::new() } else { format!(" and {} of earlier lessons", count(examples, "example")) }
}

fn describe(report: &TrainReport, args: &TrainArgs) -> String {
    let store = shown(store(args));
    let mut text = format!(
        "{store}: {}, {} steps of {}, seed {}, on {}{}\n",
        count(report.classes.len(), "class"),
        report.steps,
        report.method,
        report.seed,
        count(report.train_images, "photo"),
        replayed(report.replayed),
    );
    if let (Some(before), Some(after)) = (report.val_accuracy_before, report.val_accuracy) {
        let photos = count(report.val_images, "validation photo");
        let is_further = report.trial.as_ref().is_some_and(|trial| !trial.known.is_empty());
        let of = if is_further { " on the classes known" } else { "" };
        text +=
            &format!("accuracy: {}{of} before the lesson, {} after it, on {photos}\n", percent(before), percent(after));
    }
    text += &report.trial.as_ref().map_or_else(String::new, known);
    if let Some(number) = report.aside {
        text += &why_aside(report.trial.as_ref());
        text += &format!(
            ": it is kept aside as number {number}, and generation {} stays current\nto take it all the same: srlora rollback {} --to \
             {number}\n",
            report.generation,
            quoted(self::store(args))
        );
    }
    if let Some(loss) = report.train_loss {
        text += &format!("training loss over the last epoch: {loss:.3}\n");
    }
    if let (Some(accuracy), None) = (report.left_out_accuracy, report.cross_validation) {
        text += &format!("imprinting gets {} of the training photos right when they are left out\n", percent(accuracy));
    }
    text += &report.cross_validation.map_or_else(String::new, cross_validated);
    text += &rested(report).unwrap_or_default();
    text += &match report.train_loss {
        Some(_) => format!("trained {} numbers; ", report.trainable_params),
        None => "no step was taken, so nothing was trained; ".to_owned(),
    };
    text += &count(report.recompositions, "recomposition");
    text += &if report.undone > 0 { format!(", {} taken back\n", report.undone) } else { "\n".to_owned() };
    text += &format!("{:.1} s", report.seconds);
    if let Some(ms) = report.step_ms_median {
        text += &format!(", {ms:.0} ms a step");
    }
    if let Some(bytes) = report.peak_rss_bytes {
        text += &format!(", peak memory {}", size(bytes));
    }
    text += "\n";
    if !report.quarantined.is_empty() {
        text += &format!("set aside {}:\n", count(report.quarantined.len(), "unreadable photo"));
        for photo in &report.quarantined {
            text += &format!("  {}: {}\n", plain(&photo.path), plain(&photo.reason));
        }
    }
    text + &format!("next: srlora predict {} --store {} PHOTO\n", quoted(&args.bundle), quoted(self::store(args)))
}
