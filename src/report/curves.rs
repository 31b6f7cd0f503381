//! Loss and accuracy of a lesson's batches, and accuracy on photos held back.

use super::chart::{Axis, Lines, Look, Series, WIDTH, beside, figure};
use super::guesses::share_word;
use super::markup::{Markup, paragraph, tag};
use super::page::Section;
use super::table::{Kind, Table};
use super::words::{count, percent};
use crate::limits::MOST_REPORT_POINTS;
use crate::session::{StepSeen, TrainReport};

/// Rows of the table.
const ROWS: usize = 12;
/// Width and height of each picture.
const SIZE: [f64; 2] = [WIDTH, 170.0];

pub(crate) fn curves(report: &TrainReport, seen: &[StepSeen]) -> Option<Section> {
    let last = seen.last()?;
    let each = seen.len().div_ceil(ROWS).max(1);
    let [start, end] = [seen.chunks(each).next()?, seen.chunks(each).next_back()?].map(|chunk| mean(chunk, loss));
    let went = if end < start { "fell" } else { "went" };
    let first = if each == 1 { "step".to_owned() } else { count(each, "step") };
    let said = format!("The loss {went} from {start:.3} in the first {first} to {end:.3} in the last.");
    let steps = Axis::new([0.0, last.step as f64], Lines::across(WIDTH), |value| format!("{value:.0}"));
    let both = tag("div").all([losses(seen, &steps, &said), accuracies(report, seen, &steps)]);
    let body = [paragraph(said.clone()), beside(both, table(seen, each))];
    Some(Section::new("curves", "Loss and accuracy over the lesson", body))
}

fn loss(seen: &StepSeen) -> f64 {
    f64::from(seen.loss)
}

fn accuracy(seen: &StepSeen) -> f64 {
    seen.accuracy
}

fn mean(steps: &[StepSeen], of: fn(&StepSeen) -> f64) -> f64 {
    steps.iter().map(of).sum::<f64>() / steps.len() as f64
}

fn course(seen: &[StepSeen], of: fn(&StepSeen) -> f64, look: Look) -> Series {
    Series { look, points: seen.iter().map(|seen| (seen.step as f64, of(seen))).collect(), marks: false }
}

fn table(seen: &[StepSeen], each: usize) -> Markup {
    let columns = [("steps", Kind::Text), ("loss", Kind::Number), ("accuracy", Kind::Number)];
    let mut table = Table::new("Means of the batches, each seen before its update", &columns);
    for chunk in seen.chunks(each) {
        let place = match chunk {
            [only] => only.step.to_string(),
            chunk => format!("{} to {}", chunk[0].step, chunk[chunk.len() - 1].step),
        };
        let (loss, accuracy) = (mean(chunk, loss), mean(chunk, accuracy));
        table.row([place.into(), format!("{loss:.3}").into(), percent(accuracy).into()]);
    }
    table.markup()
}

fn losses(seen: &[StepSeen], steps: &Axis, about: &str) -> Markup {
    let most = seen.iter().map(loss).filter(|loss| loss.is_finite()).fold(1e-6, f64::max);
    let up = Axis::around([0.0, most].into_iter(), [0.0, 2.0 * most], Lines::up(SIZE[1]), |value| {
        let text = format!("{value:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    });
    let series = vec![course(seen, loss, Look::Main)];
    let lines = Lines { title: "Loss by step", about, size: SIZE, below: "step", series, upright: vec![] };
    let of = if seen.len() > MOST_REPORT_POINTS { "Means of neighbouring steps." } else { "Each step's batch." };
    figure(lines.draw(steps, &up), format!("Loss (cross-entropy). {of}"))
}

fn accuracies(report: &TrainReport, seen: &[StepSeen], steps: &Axis) -> Markup {
    let point = |step: u64, value: Option<f64>, look| {
        value.map(|value| Series { look, points: vec![(step as f64, value)], marks: true })
    };
    // A further lesson was measured on fewer classes before.
    let is_further = report.trial.as_ref().is_some_and(|trial| !trial.known.is_empty());
    let before = point(0, report.val_accuracy_before.filter(|_| !is_further), Look::Other);
    let after = point(report.steps, report.val_accuracy, Look::Main);
    let mut legend = vec![Look::Rest.line_key(), "batches, before each update".into()];
    if before.is_some() {
        legend.extend([Look::Other.key(), "photos held back, before the lesson".into()]);
    }
    if after.is_some() {
        legend.extend([Look::Main.key(), "photos held back, after it".into()]);
    }
    let series = [Some(course(seen, accuracy, Look::Rest)), before, after].into_iter().flatten().collect();
    let about = "Accuracy of the batches by step, and on photos held back before and after the lesson.";
    let lines = Lines { title: "Accuracy by step", about, size: SIZE, below: "step", series, upright: vec![] };
    let up = Axis::new([0.0, 1.0], Lines::up(SIZE[1]), share_word);
    figure(lines.draw(steps, &up), legend.into_iter().collect::<Markup>())
}
