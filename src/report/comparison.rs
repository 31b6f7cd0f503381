//! A comparison: accuracy with its spread, paired differences, learning curves, and the rates that were tried.

use super::Origin;
use super::chart::{Axis, Dot, Lines, Look, Row, Rows, Series, beside, figure};
use super::guesses::{not_used, share_word};
use super::markup::{Markup, name, paragraph, tag};
use super::page::{Page, Section};
use super::table::{Kind, Table};
use super::words::{count, percent, size, span};
use crate::lab::compare::{ComparisonReport, Difference, Standing, beyond_chance};

/// Size of a small picture, several of which stand beside each other.
const SMALL: [f64; 2] = [170.0, 124.0];
/// Runs that are drawn one by one.
const MOST_RUNS: usize = 32;

/// The page of `compare`.
pub(crate) fn comparison(origin: &Origin<'_>, report: &ComparisonReport) -> String {
    let best = report.methods.iter().max_by(|a, b| a.accuracy_mean.total_cmp(&b.accuracy_mean));
    let title = match best {
        Some(best) => {
            format!("{} has the highest mean of {}: {}", best.method, count(report.methods.len(), "method"), mean(best))
        }
        None => "Nothing was compared".to_owned(),
    };
    let each = count(report.seeds as usize, "run");
    let lead = format!(
        "Each method was trained {} on {} of {}, with the rate that does best on training photos held out, and measured on {} that none of \
         them has seen.",
        if report.seeds == 1 { "once".to_owned() } else { format!("in {each}") },
        count(report.train_images, "photo"),
        count(report.classes.len(), "class"),
        report.val_images
    );
    let mut page = Page::new("compare", title, paragraph(lead).then(differs(report)));
    page.add(accuracy(report));
    page.add(differences(report));
    page.add(curves(report));
    page.add(rates(report));
    page.add(costs(report));
    page.add(not_used(&[], &report.ignored));
    page.add(done(origin, report));
    page.html()
}

fn mean(standing: &Standing) -> String {
    let spread = standing.accuracy_sd.map_or_else(String::new, |sd| format!(" \u{b1} {:.1}", 100.0 * sd));
    percent(standing.accuracy_mean) + &spread
}

/// Which methods are told from lora by more than chance.
fn differs(report: &ComparisonReport) -> Markup {
    let Some(errors) = beyond_chance(report.seeds as usize) else { return Markup::default() };
    let beyond = |sign: f64| {
        let told = report.methods.iter().filter(|standing| standing.method != "lora").filter(|standing| {
            standing.difference_to_lora.is_some_and(|Difference { mean, standard_error }| {
                standard_error.is_some_and(|error| sign * mean > errors * error)
            })
        });
        told.map(|standing| standing.method.as_str()).collect::<Vec<_>>().join(", ")
    };
    if report.methods.iter().all(|standing| standing.difference_to_lora.is_none()) {
        return Markup::default();
    }
    let or_none = |names: String| if names.is_empty() { "none".to_owned() } else { names };
    paragraph(format!(
        "With {}, chance alone reaches {errors:.1} standard errors once in twenty times. Seed by seed and by more than that, better than \
         lora: {}; worse: {}.",
        count(report.seeds as usize, "run"),
        or_none(beyond(1.0)),
        or_none(beyond(-1.0))
    ))
}

fn accuracy(report: &ComparisonReport) -> Section {
    let columns = [
        ("method", Kind::Text),
        ("mean", Kind::Number),
        ("sd", Kind::Number),
        ("least", Kind::Number),
        ("most", Kind::Number),
    ];
    let mut table = Table::new("Accuracy over the runs", &columns);
    let mut rows = Vec::new();
    for standing in &report.methods {
        let of = |pick: fn(f64, f64) -> f64| {
            standing.accuracies.iter().copied().reduce(pick).map_or_else(String::new, percent)
        };
        let sd = standing.accuracy_sd.map_or_else(|| "-".to_owned(), |sd| format!("{:.1}", 100.0 * sd));
        table.row([
            standing.method.as_str().into(),
            percent(standing.accuracy_mean).into(),
            sd.into(),
            of(f64::min).into(),
            of(f64::max).into(),
        ]);
        let runs = standing.accuracies.iter().take(MOST_RUNS).map(|value| Dot {
            look: Look::Rest,
            value: *value,
            spread: None,
        });
        let mean = Dot { look: Look::Main, value: standing.accuracy_mean, spread: standing.accuracy_sd };
        rows.push(Row {
            name: standing.method.clone(),
            dots: runs.chain([mean]).collect(),
            figure: percent(standing.accuracy_mean),
            joined: false,
        });
    }
    let shown = report.methods.iter().flat_map(|standing| {
        let sd = standing.accuracy_sd.unwrap_or(0.0);
        let mean = standing.accuracy_mean;
        standing.accuracies.iter().copied().chain([mean - sd, mean + sd])
    });
    let axis = Axis::around(shown, [0.0, 1.0], Rows::ACROSS, share_word);
    let about = "Accuracy of each method: its mean, one standard deviation to either side, and every run.";
    let drawn = Rows { title: "Accuracy by method", about, rows, zero: None }.draw(&axis);
    let legend =
        [Look::Main.key(), "mean, with one standard deviation to either side".into(), Look::Rest.key(), "a run".into()];
    let figure = figure(drawn, legend.into_iter().collect::<Markup>());
    let said = "The axis does not begin at 0. Where bars overlap, the paired differences below tell more: all methods see the same photos \
                in the same order.";
    Section::new("accuracy", "Accuracy", [paragraph(said), beside(figure, table.markup()), what_they_are(report)])
}

fn what_they_are(report: &ComparisonReport) -> Markup {
    let mut table = Table::new("The methods", &[("method", Kind::Text), ("what it does", Kind::Text)]);
    report
        .methods
        .iter()
        .for_each(|standing| table.row([standing.method.as_str().into(), standing.about.as_str().into()]));
    table.markup()
}

/// A round difference in points, on an axis.
fn whole_points(points: f64) -> String {
    let text = format!("{:+.0}", 100.0 * points);
    if matches!(text.as_str(), "+0" | "-0") { "0".to_owned() } else { text }
}

fn points(points: f64) -> String {
    format!("{:+.1}", 100.0 * points)
}

fn differences(report: &ComparisonReport) -> Option<Section> {
    let lora = report.methods.iter().find(|standing| standing.method == "lora")?;
    let others = || report.methods.iter().filter(|standing| standing.method != "lora");
    let columns = [
        ("method", Kind::Text),
        ("mean", Kind::Number),
        ("standard error", Kind::Number),
        ("seed by seed", Kind::Text),
    ];
    let mut table = Table::new("Difference to lora with the same seed, in points", &columns);
    let (mut rows, mut shown) = (Vec::new(), vec![0.0]);
    for standing in others() {
        let Some(Difference { mean, standard_error }) = standing.difference_to_lora else { continue };
        let each: Vec<f64> =
            standing.accuracies.iter().zip(&lora.accuracies).map(|(ours, theirs)| ours - theirs).collect();
        let listed: Vec<String> = each.iter().take(MOST_RUNS).map(|difference| points(*difference)).collect();
        let error = standard_error.map_or_else(|| "-".to_owned(), |error| format!("{:.1}", 100.0 * error));
        table.row([standing.method.as_str().into(), points(mean).into(), error.into(), listed.join(", ").into()]);
        let reach = standard_error.unwrap_or(0.0);
        shown.extend(each.iter().copied().chain([mean - reach, mean + reach]));
        let dots = each.iter().take(MOST_RUNS).map(|value| Dot { look: Look::Rest, value: *value, spread: None });
        let dots = dots.chain([Dot { look: Look::Main, value: mean, spread: standard_error }]).collect();
        rows.push(Row { name: standing.method.clone(), dots, figure: points(mean), joined: false });
    }
    if rows.is_empty() {
        return None;
    }
    let axis = Axis::around(shown.into_iter(), [-1.0, 1.0], Rows::ACROSS, whole_points);
    let about = "Difference of each method's accuracy to that of lora, run by run with the same seed, in points.";
    let drawn = Rows { title: "Difference to lora by method", about, rows, zero: Some(0.0) }.draw(&axis);
    let legend =
        [Look::Main.key(), "mean, with one standard error to either side".into(), Look::Rest.key(), "a seed".into()];
    let hardly = beyond_chance(report.seeds as usize).map_or_else(String::new, |errors| {
        format!(" A mean that is further from the line than {errors:.1} standard errors is hardly chance.")
    });
    let said = format!("Right of the line is better than lora.{hardly}");
    let figure = figure(drawn, legend.into_iter().collect::<Markup>());
    Some(Section::new("differences", "Differences to lora", [paragraph(said), beside(figure, table.markup())]))
}

/// A panel for each method: its own line, and the others behind it.
fn curves(report: &ComparisonReport) -> Option<Section> {
    let trained: Vec<&Standing> = report.methods.iter().filter(|standing| standing.curve.len() > 1).collect();
    if trained.is_empty() {
        return None;
    }
    let line = |standing: &Standing, look| Series {
        look,
        points: standing.curve.iter().map(|(step, accuracy)| (*step as f64, *accuracy)).collect(),
        marks: look == Look::Main,
    };
    let last = trained.iter().filter_map(|standing| standing.curve.last()).map(|(step, _)| *step).max().unwrap_or(1);
    let values = trained.iter().flat_map(|standing| standing.curve.iter().map(|(_, accuracy)| *accuracy));
    let x = Axis::new([0.0, last as f64], Lines::across(SMALL[0]), |value| format!("{value:.0}"));
    let y = Axis::around(values, [0.0, 1.0], Lines::up(SMALL[1]), share_word);
    let panels = trained.iter().map(|own| {
        let others = trained.iter().filter(|other| other.method != own.method).map(|other| line(other, Look::Rest));
        let series = others.chain([line(own, Look::Main)]).collect();
        let about = format!("Mean accuracy of {} by step, the other methods behind it.", own.method);
        let drawn = Lines { title: &own.method, about: &about, size: SMALL, below: "step", series, upright: vec![] };
        tag("div").all([tag("h3").holding(own.method.as_str()), drawn.draw(&x, &y)]).line()
    });
    let said = match trained
        .iter()
        .filter(|standing| standing.method != "lora")
        .filter_map(|standing| Some((standing.steps_to_lora?, *standing)))
        .min_by_key(|(step, _)| *step)
    {
        Some((step, first)) => {
            format!("{} is first as good as lora at its end, after {step} of {last} steps.", first.method)
        }
        None => "Each method's mean accuracy on its way; the lines behind are the other methods.".to_owned(),
    };
    let panels = tag("div").class("panels").all(panels).line();
    let caption =
        tag("p").class("caption").holding("Mean accuracy over the runs by step. Blue: the method; grey: the others.");
    Some(Section::new("curves", "Learning curves", [paragraph(said), panels, caption, curve_table(&trained)]))
}

/// Steps down, methods across.
fn curve_table(trained: &[&Standing]) -> Markup {
    let mut steps: Vec<u64> =
        trained.iter().flat_map(|standing| standing.curve.iter().map(|(step, _)| *step)).collect();
    steps.sort_unstable();
    steps.dedup();
    // Names of contenders are the program's own.
    let names = trained.iter().filter_map(|standing| crate::lab::compare::Contender::named(&standing.method));
    let columns: Vec<(&'static str, Kind)> =
        [("step", Kind::Text)].into_iter().chain(names.map(|contender| (contender.name, Kind::Number))).collect();
    let mut table = Table::new("Mean accuracy by step", &columns);
    for step in steps {
        let at = |standing: &&Standing| {
            let found = standing.curve.iter().find(|(at, _)| *at == step);
            Markup::from(found.map_or_else(|| "-".to_owned(), |(_, accuracy)| percent(*accuracy)))
        };
        table.row([step.to_string().into()].into_iter().chain(trained.iter().map(at)));
    }
    table.markup()
}

fn chosen(standing: &Standing) -> Option<f32> {
    standing.lr.or(standing.head_lr)
}

fn rates(report: &ComparisonReport) -> Option<Section> {
    let tried: Vec<&Standing> = report.methods.iter().filter(|standing| standing.rates.len() > 1).collect();
    let columns = [("method", Kind::Text), ("rate", Kind::Number), ("accuracy", Kind::Number), ("chosen", Kind::Text)];
    let mut table = Table::new("Rates that were tried, on training photos held out", &columns);
    let all = || tried.iter().flat_map(|standing| standing.rates.iter());
    let least = all().map(|rate| f64::from(rate.rate)).filter(|rate| *rate > 0.0).reduce(f64::min)?;
    let most = all().map(|rate| f64::from(rate.rate)).fold(least, f64::max);
    let x = Axis::log([least / 1.5, most * 1.5], Lines::across(SMALL[0]), |value| format!("{value:e}"));
    let y = Axis::around(all().filter_map(|rate| rate.accuracy), [0.0, 1.0], Lines::up(SMALL[1]), share_word);
    let mut panels = Vec::new();
    for standing in &tried {
        let points = |picked: bool| {
            let rates = standing.rates.iter().filter(|rate| !picked || chosen(standing) == Some(rate.rate));
            rates.filter_map(|rate| Some((f64::from(rate.rate), rate.accuracy?))).collect::<Vec<_>>()
        };
        let series = vec![
            Series { look: Look::Rest, points: points(false), marks: true },
            Series { look: Look::Main, points: points(true), marks: true },
        ];
        let about = format!("Accuracy of {} on training photos held out, by rate.", standing.method);
        let drawn =
            Lines { title: &standing.method, about: &about, size: SMALL, below: "rate", series, upright: vec![] };
        panels.push(tag("div").all([tag("h3").holding(standing.method.as_str()), drawn.draw(&x, &y)]).line());
        for rate in &standing.rates {
            let is_chosen = chosen(standing) == Some(rate.rate);
            let accuracy = rate.accuracy.map_or_else(|| "no number".to_owned(), percent);
            let picked = if is_chosen { "chosen" } else { "" };
            table.row([standing.method.as_str().into(), rate.rate.to_string().into(), accuracy.into(), picked.into()]);
        }
    }
    let said = "Each method has the rate that does best on training photos held out, of equal ones the smallest. The photos that accuracy is \
                measured on have no say in it.";
    let panels = tag("div").class("panels").all(panels).line();
    let caption = tag("p")
        .class("caption")
        .holding("Accuracy on training photos held out, by rate. The filled mark is the rate that was chosen.");
    Some(Section::new("rates", "The rates tried", [paragraph(said), panels, caption, table.markup()]))
}

fn costs(report: &ComparisonReport) -> Section {
    let columns = [
        ("method", Kind::Text),
        ("values trained", Kind::Number),
        ("steps", Kind::Number),
        ("a step", Kind::Number),
        ("a run", Kind::Number),
        ("memory", Kind::Number),
        ("recomposed", Kind::Number),
        ("lora's end after", Kind::Number),
    ];
    let mut table = Table::new("What a run took; what the frozen part makes of photos was at hand", &columns);
    let none = || "-".to_owned();
    for standing in &report.methods {
        let reached = match (standing.steps_to_lora, standing.difference_to_lora) {
            (Some(step), _) => step.to_string(),
            (None, Some(_)) => "never".to_owned(),
            (None, None) => none(),
        };
        table.row([
            standing.method.as_str().into(),
            standing.trainable_params.to_string().into(),
            standing.steps.to_string().into(),
            standing.step_ms_median.map_or_else(none, |ms| format!("{ms:.1} ms")).into(),
            span(standing.seconds).into(),
            standing.peak_rss_bytes.map_or_else(none, size).into(),
            format!("{:.0}", standing.recompositions - standing.undone).into(),
            reached.into(),
        ]);
    }
    let rested = report.methods.iter().filter(|standing| standing.rested > 0);
    let rested = rested.map(|standing| {
        let runs = count(report.seeds as usize, "run");
        paragraph(format!(
            "{}: in {} of {runs} pairs rested, as they had not helped on photos left out.",
            standing.method, standing.rested
        ))
    });
    let said = paragraph("Recompositions that were taken back do not count.");
    Section::new("costs", "What it took", [said, table.markup()].into_iter().chain(rested))
}

fn done(origin: &Origin<'_>, report: &ComparisonReport) -> Section {
    let settings = &report.settings;
    let mut facts = origin.facts();
    let length = match (settings.epochs, settings.steps) {
        (Some(epochs), _) => format!("{epochs} epochs"),
        (_, Some(steps)) => format!("{steps} steps"),
        _ => "-".to_owned(),
    };
    let interval = match settings.interval {
        None => "once".to_owned(),
        Some(0) => "none".to_owned(),
        Some(steps) => format!("every {steps} steps"),
    };
    facts.extend([
        ("photos trained on", report.train_images.to_string().into()),
        ("photos measured", report.val_images.to_string().into()),
        ("sha256 of the photos trained on", tag("code").holding(settings.data_sha256.as_str())),
        ("sha256 of those measured", tag("code").holding(settings.val_sha256.as_str())),
        ("length", length.into()),
        ("photos a step", settings.batch.to_string().into()),
        ("seeds", format!("0 to {}", report.seeds.saturating_sub(1)).into()),
        ("rate of the head beside pairs", settings.head_lr.to_string().into()),
        ("recompositions", interval.into()),
    ]);
    let mut classes = Table::new("Classes", &[("number", Kind::Text), ("class", Kind::Text)]);
    report.classes.iter().enumerate().for_each(|(at, class)| classes.row([(at + 1).to_string().into(), name(class)]));
    let said = "A run with the same seed shows the same photos in the same order, whatever the method.";
    Section::new(
        "done",
        "What was done",
        [paragraph(said), Table::facts("What was done, and with what", facts), classes.markup()],
    )
}
