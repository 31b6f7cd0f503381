//! A lesson, from its photos to its trial.

use std::collections::BTreeMap;

use super::Origin;
use super::chart::importance::small;
use super::chart::{Bar, Look, bars, beside, figure};
use super::curves::curves;
use super::guesses::{before_and_after, confusion, not_used, worst};
use super::markup::{Markup, name, paragraph, tag};
use super::page::{Page, Section};
use super::photos::Album;
use super::settings::Fact;
use super::table::{Kind, Table, folded};
use super::verdict::{cross_validated, known, rested, why_aside, why_kept};
use super::words::{count, percent, size, span};
use crate::limits::{MOST_REPORT_COURSE_POINTS, MOST_REPORT_POINTS, MOST_REPORT_SITES};
use crate::session::{Course, Event, History, Outcome, TrainReport};

/// The page of `train`: what the lesson answered, and its course as the store's journal tells it.
pub(crate) fn training(origin: &Origin<'_>, report: &TrainReport, course: &Course) -> String {
    let mut album = Album::new(&origin.bundle.preprocess);
    let mut page = Page::new("train", title(report), paragraph(outcome(report) + " " + &cost(report)));
    page.add(trial(report));
    let after = report.shown.after.as_ref();
    let worst = after.and_then(|after| worst(after, &mut album));
    page.add(after.map(|after| before_and_after(report.shown.before.as_deref(), after)));
    page.add(curves(report, &course.steps));
    page.add(after.map(|after| confusion(after, &mut album)));
    page.add(worst);
    page.add(recompositions(report, &course.sites));
    page.add(plan(report));
    page.add(not_used(&report.quarantined, &report.ignored));
    page.add(done(origin, report));
    page.html()
}

fn title(report: &TrainReport) -> String {
    let classes = count(report.classes.len(), "class");
    let is_further = report.trial.as_ref().is_some_and(|trial| !trial.known.is_empty());
    let what = match (report.aside, is_further) {
        (Some(_), _) => format!("A lesson of {classes}, kept aside"),
        (None, true) => format!("{classes} known after a further lesson"),
        (None, false) => format!("{classes} learned"),
    };
    match report.val_accuracy {
        Some(accuracy) => {
            format!("{what}: {} of {} held back recognized", percent(accuracy), count(report.val_images, "photo"))
        }
        None => format!("{what}, from {}", count(report.train_images, "photo")),
    }
}

/// What has become of the lesson, in short.
fn outcome(report: &TrainReport) -> String {
    let before = report.val_accuracy_before.map_or_else(String::new, |before| {
        format!(" Before it, {} of the photos held back were recognized.", percent(before))
    });
    let generation = report.generation;
    match (report.aside, &report.trial) {
        (Some(number), _) => format!("It is number {number}; generation {generation} stays current.{before}"),
        (None, Some(_)) => format!("The lesson became current, as generation {generation}.{before}"),
        (None, None) => format!("No step was taken; generation {generation} is current."),
    }
}

/// What the trial has decided, and why.
pub(super) fn verdict(report: &TrainReport) -> String {
    match (report.aside, &report.trial) {
        (Some(number), trial) => format!(
            "The lesson is kept aside as number {number}, and generation {} stays current: {}.",
            report.generation,
            why_aside(trial.as_ref())
        ),
        (None, Some(trial)) => {
            format!("The lesson became current, as generation {}: {}.", report.generation, why_kept(trial))
        }
        (None, None) => {
            format!("No step was taken, so there was nothing to judge; generation {} is current.", report.generation)
        }
    }
}

fn cost(report: &TrainReport) -> String {
    let peak = report.lesson_peak_bytes.or(report.peak_rss_bytes);
    let memory = peak.map_or_else(String::new, |bytes| format!(", and {} of memory at most", size(bytes)));
    let photos = count(report.train_images, "photo");
    let what = match report.steps {
        0 => photos,
        taken => format!("{} of {} on {photos}", steps(taken), report.method),
    };
    format!("It took {} for {what}{memory}.", span(report.seconds))
}

fn steps(steps: u64) -> String {
    count(usize::try_from(steps).unwrap_or(usize::MAX), "step")
}

/// Command, bundle, settings, and photos by class.
pub(super) fn done(origin: &Origin<'_>, report: &TrainReport) -> Section {
    let mut facts = origin.facts();
    facts.extend(settings(report));
    let columns = [("class", Kind::Text), ("trained on", Kind::Number), ("held back", Kind::Number)];
    let mut photos = Table::new("Photos by class", &columns);
    let held_back: Vec<usize> = report
        .shown
        .after
        .as_ref()
        .map_or_else(Vec::new, |after| after.per_class().iter().map(|score| score.photos).collect());
    for (at, (class, trained)) in report.classes.iter().zip(&report.shown.trained).enumerate() {
        let held = held_back.get(at).copied().unwrap_or(0);
        photos.row([name(class), trained.to_string().into(), held.to_string().into()]);
    }
    let held = match report.val_images {
        0 => "none was held back".to_owned(),
        photos => format!("{photos} were held back"),
    };
    let replayed = match report.replayed {
        0 => String::new(),
        examples => format!(", with {} of earlier lessons", count(examples, "example")),
    };
    let said = format!("{} were trained on{replayed}; {held}.", count(report.train_images, "photo"));
    let body = [paragraph(said), Table::facts("What was done, and with what", facts), photos.markup()];
    Section::new("done", "What was done", body)
}

fn settings(report: &TrainReport) -> Vec<Fact> {
    let lesson = &report.shown.record.lesson;
    let rate = |rate: f32| Markup::from(rate.to_string());
    let mut facts: Vec<Fact> = vec![
        ("method", report.method.as_str().into()),
        ("length", format!("{} ({})", steps(report.steps), lesson.length.trim_start_matches("--")).into()),
        ("photos a step", lesson.batch.to_string().into()),
        ("seed", report.seed.to_string().into()),
        ("values trained", report.trainable_params.to_string().into()),
        ("rate of the head", rate(lesson.head_lr)),
    ];
    if !report.shown.record.sites.is_empty() {
        facts.extend([
            ("rate of the pairs", rate(lesson.lr)),
            ("pairs", format!("{}, on directions: {}", lesson.pairs, lesson.directions).into()),
            ("sites", report.shown.record.sites.len().to_string().into()),
        ]);
    }
    facts.extend([
        ("augmented", if lesson.augment { "yes" } else { "no" }.into()),
        ("threads", report.threads.to_string().into()),
        ("generation", report.generation.to_string().into()),
    ]);
    facts
}

/// What decided, and what else was found out before the first step.
pub(super) fn trial(report: &TrainReport) -> Section {
    let sentence = |text: String| {
        let mut text = text.trim_end().to_owned();
        if let Some(first) = text.get(..1) {
            text = first.to_uppercase() + &text[1..];
        }
        paragraph(if text.ends_with('.') { text } else { text + "." })
    };
    let mut body = vec![paragraph(verdict(report))];
    body.extend(report.cross_validation.map(cross_validated).map(sentence));
    body.extend(rested(report).map(sentence));
    if let Some(trial) = report.trial.as_ref().filter(|trial| !trial.known.is_empty()) {
        let columns =
            [("known class", Kind::Text), ("photos", Kind::Number), ("before", Kind::Number), ("after", Kind::Number)];
        let mut table = Table::new("Classes that were known before", &columns);
        for class in &trial.known {
            let [before, after] = [class.before, class.after].map(|share| Markup::from(percent(share)));
            table.row([name(&class.class), class.photos.to_string().into(), before, after]);
        }
        body.extend(known(trial).lines().next().map(|line| sentence(line.to_owned())));
        body.push(table.markup());
    }
    if report.val_images == 0 {
        body.push(paragraph(
            "No photo was held back, so nothing here says how well photos are recognized that the lesson has not seen. --val-split 0.2 holds \
             back every fifth photo; the page of `srlora serve` does so from 20 photos of each class on.",
        ));
    }
    Section::new("trial", "Was it kept, and why", body)
}

/// What became of pairs: importance over the steps, and every recomposition.
fn recompositions(report: &TrainReport, sites: &BTreeMap<String, History>) -> Option<Section> {
    let events = &report.shown.record.events;
    if report.shown.record.sites.is_empty() {
        return None;
    }
    let of = |wanted: Outcome| events.iter().filter(|event| event.outcome == wanted).count();
    let said = match events.len() {
        0 => "No pair was recomposed. Importance says how much each pair contributes to what its site has learned."
            .to_owned(),
        all => format!(
            "{} recomposed: fused into the delta and started anew. {} were kept, {} taken back as training went worse, and {} came too \
             late to be judged.",
            if all == 1 { "1 pair was".to_owned() } else { format!("{all} pairs were") },
            of(Outcome::Kept),
            of(Outcome::Undone),
            of(Outcome::Open)
        ),
    };
    let mut body = vec![paragraph(said)];
    let shown = most_recomposed(sites, events);
    let points: usize = shown.iter().map(|(_, history)| history.pairs.len()).sum();
    let columns = (MOST_REPORT_COURSE_POINTS / points.max(1)).clamp(2, MOST_REPORT_POINTS / 2);
    if !shown.is_empty() {
        let panels = shown.iter().map(|(name, history)| small(name, history, events, columns));
        body.push(tag("div").class("panels wide").all(panels).line());
        let left_out = match sites.len() - shown.len() {
            0 => String::new(),
            more => format!(" {} more are left out; inspect --svg draws all.", count(more, "site")),
        };
        let legend = [
            format!("Importance of the pairs of each site by step, on a logarithmic scale; the one that ends highest is blue.{left_out}")
                .into(),
            " Upright lines: pairs fused and started anew (solid), taken back (broken), or too late to be judged (dots).".into(),
        ];
        body.push(tag("p").class("caption").all(legend));
    }
    body.push(by_site(sites, events));
    body.extend(folded(&format!("{} one by one", count(events.len(), "recomposition")), listed(events)));
    Some(Section::new("recompositions", "Pairs over the lesson", body))
}

/// The sites that are drawn, in the order of their names: those with most recompositions.
fn most_recomposed<'s>(sites: &'s BTreeMap<String, History>, events: &[Event]) -> Vec<(&'s String, &'s History)> {
    let recomposed = |name: &String| events.iter().filter(|event| event.site == *name).count();
    let mut shown: Vec<_> = sites.iter().filter(|(_, history)| !history.steps.is_empty()).collect();
    shown.sort_by_cached_key(|(name, _)| core::cmp::Reverse(recomposed(name)));
    shown.truncate(MOST_REPORT_SITES);
    shown.sort_by_key(|(name, _)| *name);
    shown
}

fn by_site(sites: &BTreeMap<String, History>, events: &[Event]) -> Markup {
    let columns = [
        ("site", Kind::Text),
        ("pairs", Kind::Number),
        ("largest importance at the end", Kind::Number),
        ("recomposed", Kind::Number),
        ("taken back", Kind::Number),
    ];
    let mut table = Table::new("Sites, and what became of their pairs", &columns);
    for (site, history) in sites {
        let end = history.pairs.iter().filter_map(|pair| pair.last()).copied().reduce(f32::max);
        let own = || events.iter().filter(|event| event.site == *site);
        table.row([
            name(site),
            history.pairs.len().to_string().into(),
            end.map_or_else(|| "-".to_owned(), |end| format!("{end:.2e}")).into(),
            own().count().to_string().into(),
            own().filter(|event| event.outcome == Outcome::Undone).count().to_string().into(),
        ]);
    }
    if table.is_empty() { Markup::default() } else { table.markup() }
}

fn listed(events: &[Event]) -> Markup {
    let columns = [
        ("step", Kind::Text),
        ("site", Kind::Text),
        ("pair", Kind::Number),
        ("goes on along direction", Kind::Number),
        ("importance", Kind::Number),
        ("what came of it", Kind::Text),
    ];
    let mut table = Table::new("Recompositions", &columns);
    for event in events {
        let outcome = match event.outcome {
            Outcome::Open => "too late to tell",
            Outcome::Kept => "kept",
            Outcome::Undone => "taken back",
        };
        table.row([
            event.step.to_string().into(),
            name(&event.site),
            event.pair.to_string().into(),
            event.direction.to_string().into(),
            format!("{:.2e}", event.importance).into(),
            outcome.into(),
        ]);
    }
    if table.is_empty() { Markup::default() } else { table.markup() }
}

/// Memory and time, as planned and as taken.
fn plan(report: &TrainReport) -> Section {
    let planned = &report.planned;
    let bytes = |bytes: Option<u64>| Markup::from(bytes.map_or_else(|| "not told".to_owned(), size));
    let seconds = |seconds: f64| Markup::from(span(seconds));
    let columns = [("what", Kind::Text), ("planned", Kind::Number), ("taken", Kind::Number)];
    let mut table = Table::new("The plan, and what the lesson took", &columns);
    table.row(["largest resident memory".into(), bytes(planned.peak_rss_bytes), bytes(report.lesson_peak_bytes)]);
    let step = report.step_ms_median.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    table.row(["a step".into(), format!("{:.1} ms", planned.step_ms).into(), step.into()]);
    table.row(["the lesson (planned: without decoding)".into(), seconds(planned.seconds), seconds(report.seconds)]);
    table.row(["steps".into(), planned.steps.to_string().into(), report.steps.to_string().into()]);
    table.row(["cache".into(), size(planned.cache_bytes).into(), size(report.cache_bytes).into()]);
    table.row(["to write, checkpoints aside".into(), size(planned.write_bytes).into(), "-".into()]);
    table.row(["start, until the first photo".into(), "-".into(), seconds(report.startup_ms / 1e3)]);
    let (said, drawn) = match (planned.peak_rss_bytes, report.lesson_peak_bytes) {
        (Some(plan), Some(taken)) => {
            let kept = if taken <= plan { "kept to" } else { "went beyond" };
            let said = format!("The lesson {kept} its plan of memory: {} of {}.", size(taken), size(plan));
            let bar = |name, bytes: u64, look| Bar { name, value: bytes as f64, look };
            let both = [bar("planned", plan, Look::Rest), bar("taken", taken, Look::Main)];
            let drawn = bars("Memory, planned and taken", &said, &both, |bytes| size(bytes as u64));
            (said, figure(drawn, "Largest resident memory of the process during the lesson."))
        }
        _ => ("This system does not tell how much memory the lesson took.".to_owned(), Markup::default()),
    };
    Section::new("plan", "Memory and time against the plan", [paragraph(said), beside(drawn, table.markup())])
}
