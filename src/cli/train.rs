//! `srlora train`.

use super::args::{Switch, TrainArgs};
use super::output::{Meter, Output, count, percent, size};
use crate::bundle::Bundle;
use crate::error::Result;
use crate::session::{Length, Lesson, TrainReport, Validation, train};

pub(super) fn run(args: &TrainArgs, output: &Output) -> Result<()> {
    let bundle = Bundle::open(&args.bundle)?;
    let mut meter = Meter::new();
    let report = train(&bundle, &lesson(args), &args.output, &mut |progress| meter.show(progress))?;
    meter.end();
    output.result(&report, |report| describe(report, args))
}

fn lesson(args: &TrainArgs) -> Lesson {
    let validation = match (&args.val, args.val_split) {
        (Some(folder), _) => Validation::Folder(folder.clone()),
        (None, Some(share)) => Validation::Split(share),
        (None, None) => Validation::None,
    };
    let defaults = Lesson::new(args.data.clone());
    Lesson {
        validation,
        method: args.method.into(),
        start: args.start.map(|start| start.with_seed(args.seed)),
        length: match (args.epochs, args.steps) {
            (_, Some(steps)) => Length::Steps(steps),
            (Some(epochs), None) => Length::Epochs(epochs),
            (None, None) => defaults.length,
        },
        batch: args.batch as usize,
        lr: args.lr,
        head_lr: args.head_lr,
        seed: args.seed,
        augment: args.augment == Switch::On,
        interval: args.interval,
        min_age: args.min_age,
        ..defaults
    }
}

fn describe(report: &TrainReport, args: &TrainArgs) -> String {
    let store = args.output.display();
    let mut text = format!(
        "{store}: {}, {} steps of {}, seed {}, on {}\n",
        count(report.classes.len(), "class"),
        report.steps,
        report.method,
        report.seed,
        count(report.train_images, "photo"),
    );
    if let (Some(before), Some(after)) = (report.val_accuracy_before, report.val_accuracy) {
        let photos = count(report.val_images, "validation photo");
        text += &format!("accuracy: {} imprinted, {} trained, on {photos}\n", percent(before), percent(after));
    }
    if let Some(loss) = report.train_loss {
        text += &format!("training loss over the last epoch: {loss:.3}\n");
    }
    text +=
        &format!("trained {} numbers; {}\n", report.trainable_params, count(report.recompositions, "recomposition"));
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
            text += &format!("  {}: {}\n", photo.path, photo.reason);
        }
    }
    text + &format!("next: srlora predict {} --store {store} PHOTO\n", args.bundle.display())
}
