//! An evaluation: accuracy, class by class, and what was taken for what.

use super::Origin;
use super::guesses::{by_class, confusion, not_used, worst};
use super::markup::{Markup, paragraph};
use super::page::{Page, Section};
use super::photos::Album;
use super::table::Table;
use super::words::{count, percent};
use crate::session::{Evaluation, Unknown};

/// The page of `eval`.
pub(crate) fn evaluation(origin: &Origin<'_>, evaluation: &Evaluation) -> String {
    let photos = count(evaluation.n, "photo");
    let title = format!("{} of {photos} recognized", percent(evaluation.accuracy));
    let by = if origin.store.is_some() { "the store" } else { "the model's own classifier" };
    let right = evaluation.n - evaluation.confusion.wrong().iter().map(|cell| cell.2).sum::<usize>();
    let lead = format!("With {by}, {right} of {photos} of {} are right.", count(with_photos(evaluation), "class"));
    let mut page = Page::new("eval", title, paragraph(lead).then(at_chance(evaluation)));
    let mut album = Album::new(&origin.bundle.preprocess);
    let worst = worst(evaluation, &mut album);
    page.add(by_class(evaluation));
    page.add(confusion(evaluation, &mut album));
    page.add(worst);
    page.add(certainty(evaluation));
    page.add(not_used(&evaluation.quarantined, &evaluation.ignored));
    page.add(done(origin, evaluation));
    page.html()
}

fn with_photos(evaluation: &Evaluation) -> usize {
    evaluation.per_class().iter().filter(|score| score.photos > 0).count()
}

fn at_chance(evaluation: &Evaluation) -> Markup {
    match evaluation.confusion.is_at_chance() {
        Some(true) => {
            paragraph("That is what chance gives: the preprocessing may be wrong, or the classes in another order.")
        }
        _ => Markup::default(),
    }
}

fn done(origin: &Origin<'_>, evaluation: &Evaluation) -> Section {
    let mut facts = origin.facts();
    facts.push(("classes", evaluation.classes.len().to_string().into()));
    facts.push(("photos counted", evaluation.n.to_string().into()));
    facts.push(("photos a second", format!("{:.1}", evaluation.images_per_second).into()));
    let said = format!("{} were classified, one folder for each class.", count(evaluation.n, "photo"));
    Section::new("done", "What was done", [paragraph(said), Table::facts("What was done, and with what", facts)])
}

/// How far probabilities are off, and how photos of none of the classes stand out.
fn certainty(evaluation: &Evaluation) -> Section {
    let points = |error: f64| format!("{:.1} points", 100.0 * error);
    let mut body = Vec::new();
    if let Some(error) = evaluation.calibration_error() {
        let before = evaluation.calibration_error_before();
        let before =
            before.map_or_else(String::new, |before| format!("; without calibration it would be {}", points(before)));
        body.push(paragraph(format!(
            "Probabilities are off by {} in the mean (expected calibration error over 15 bins){before}.",
            points(error)
        )));
    }
    if let Some(Unknown { photos, auroc, told }) = evaluation.unknown {
        body.push(paragraph(format!(
            "{} of none of the classes are told from known ones with an AUROC of {auroc:.3}: 1 is always, 0.5 is never.",
            count(photos, "photo")
        )));
        body.extend(told.map(|[found, alarms]| {
            paragraph(format!(
                "{} of them are found to be unknown, with {} false alarms.",
                percent(found),
                percent(alarms)
            ))
        }));
    }
    Section::new("certainty", "How sure it may be", body)
}
