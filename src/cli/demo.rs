//! `srlora demo`: the main job, on a network and photos that are part of the program.

use std::time::Instant;

use include_dir::{Dir, include_dir};
use serde::Serialize;

use super::output::{Meter, Output, count, percent, size};
use super::signals::leave_nothing_on_signals;
use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::lab::TemporaryFolder;
use crate::session::{
    Dataset, EvalRequest, Evaluation, Length, Lesson, Store, TrainReport, Validation, evaluate, train,
};

/// The bundle, its photos for training and those for measuring; see models/handwriting/card.md.
static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/models/handwriting");
const EPOCHS: u32 = 30;
/// Steps between recompositions, asked for to be seen: left alone, there are none.
const INTERVAL: u32 = 48;

/// What `demo` answers.
#[derive(Serialize)]
struct Report {
    before: Evaluation,
    after: Evaluation,
    train: TrainReport,
    seconds: f64,
}

pub(super) fn run(output: &Output) -> Result<()> {
    let begin = Instant::now();
    leave_nothing_on_signals()?;
    let place = TemporaryFolder::new()?;
    SHIPPED.extract(place.path()).map_err(|e| Error::io(place.path(), e))?;
    let bundle = Bundle::open(&place.path().join("handwriting.bundle"))?;
    output
        .say("A network that has only ever seen printed characters meets handwritten digits: 12 photos of each.\n")?;
    let photos = Dataset::open(&place.path().join("val"))?;
    let mut meter = Meter::new();
    let mut lesson = |name: &str, method| -> Result<(Evaluation, TrainReport)> {
        let lesson = Lesson {
            method,
            validation: Validation::None,
            length: Length::Epochs(EPOCHS),
            interval: INTERVAL.into(),
            ..Lesson::new(place.path().join("train"))
        };
        let store = place.path().join(name);
        let report = train(&bundle, &lesson, &store, &mut |progress| meter.show(progress))?;
        let evaluation =
            evaluate(&bundle, Some(&Store::open(&store)?), &photos, &EvalRequest::default(), &mut |progress| {
                meter.show(progress)
            })?;
        Ok((evaluation, report))
    };
    let (before, _) = lesson("imprinted", crate::core::Method::Imprint)?;
    let (after, report) = lesson("trained", crate::core::Method::Srlora)?;
    meter.end();
    let report = Report { before, after, train: report, seconds: begin.elapsed().as_secs_f64() };
    output.result(&report, |report| describe(report, &bundle))
}

fn describe(report: &Report, bundle: &Bundle) -> String {
    let Report { before, after, train, seconds } = report;
    let mut text = format!("{:>10}  {:>9}  {:>8}\n", "digit", "imprinted", "trained");
    for (was, is) in before.per_class().iter().zip(after.per_class()) {
        let [was, now] = [was.recall, is.recall].map(|recall| recall.map_or_else(String::new, percent));
        text += &format!("{:>10}  {was:>9}  {now:>8}\n", is.class);
    }
    text += &format!("{:>10}  {:>9}  {:>8}", "all", percent(before.accuracy), percent(after.accuracy));
    text += &format!("   on {} that it was not trained on\n\n", count(after.n, "photo"));
    let sites = count(bundle.sites.len(), "site");
    text += &format!(
        "trained    {} numbers at {sites}, {} steps; the network itself is untouched\n",
        train.trainable_params, train.steps
    );
    let events = count(train.recompositions, "pair");
    text += &format!("recomposed {events}: fused into the delta, started anew on an unused direction\n");
    text +=
        &format!("took       {seconds:.1} s in all, {:.0} ms a step of 16 photos", train.step_ms_median.unwrap_or(0.0));
    if let Some(bytes) = train.peak_rss_bytes {
        text += &format!(", peak memory {}", size(bytes));
    }
    text += "\n\nWith your own classifier (ONNX) and photos (one folder per class):\n";
    text += "  srlora pack model.onnx -o model.bundle --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225\n";
    text += "  srlora train model.bundle --data photos --val-split 0.2 -o my.store\n";
    text + "  srlora predict model.bundle --store my.store photo.jpg\n"
}
