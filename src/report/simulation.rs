//! A lesson on a device: its time with power cuts, memory, writes, and what it learned.

use super::Origin;
use super::chart::{Axis, Bar, Lines, Look, Series, WIDTH, bars, beside, figure};
use super::guesses::{before_and_after, confusion, not_used, share_word, worst};
use super::markup::{Markup, paragraph};
use super::page::{Page, Section};
use super::photos::Album;
use super::table::{Kind, Table};
use super::training::{done, trial};
use super::words::{count, grouped, percent, size, span};
use crate::lab::{Cause, Cut, Phase, Simulation, Times};

/// The page of `simulate`.
pub(crate) fn simulation(origin: &Origin<'_>, report: &Simulation) -> String {
    let mut album = Album::new(&origin.bundle.preprocess);
    let lead = paragraph(verdict(report)).then(paragraph(
        "Times, wear and energy are estimates from the device's profile, right within a factor of five; memory, bytes and what was learned \
         were measured on the machine that ran the lesson.",
    ));
    let mut page = Page::new("simulate", title(report), lead);
    page.add(timeline(report));
    page.add(time(report));
    page.add(memory(report));
    page.add(writes(report));
    page.add(energy(report));
    page.add(trial(&report.train));
    let after = report.train.shown.after.as_ref();
    let worst = after.and_then(|after| worst(after, &mut album));
    page.add(after.map(|after| before_and_after(report.train.shown.before.as_deref(), after)));
    page.add(after.map(|after| confusion(after, &mut album)));
    page.add(worst);
    page.add(not_used(&report.train.quarantined, &report.ignored));
    page.add(done(origin, &report.train));
    page.html()
}

fn title(report: &Simulation) -> String {
    let device = &report.device;
    match (report.ram.excess, report.finishes) {
        (Some(_), _) => format!("{device}: the lesson takes more memory than there is"),
        (None, false) => format!("{device}: the lesson never ends"),
        (None, true) => format!("{device}: the lesson takes about {}", span(report.seconds)),
    }
}

fn verdict(report: &Simulation) -> String {
    let whole = span(attempt(&report.time));
    match (report.ram.excess, report.finishes, report.cuts.len()) {
        (Some(excess), ..) => format!(
            "The lesson took more than its cap of {}, first seen {}; the device would have killed it.",
            size(report.ram.cap_bytes),
            place(excess.phase, excess.step)
        ),
        (None, false, _) => format!(
            "The device's time with power ends each time before the lesson has kept anything more; without a break it would take about \
             {whole}."
        ),
        (None, true, 0) => format!("It runs through without a power cut, in about {whole}."),
        (None, true, cuts) => {
            format!(
                "It is cut {} and ends in attempt {}, after about {}; without cuts it takes about {whole}.",
                times(cuts),
                cuts + 1,
                span(report.seconds)
            )
        }
    }
}

fn times(n: usize) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}

/// Seconds of an attempt without cuts.
fn attempt(time: &Times) -> f64 {
    time.start + time.imprint + time.accuracy + time.directions + time.cross_validate + time.train + time.save
}

/// Accuracy over the device's time, with power cuts upright.
fn timeline(report: &Simulation) -> Section {
    let end = report.curve.iter().map(|point| point.at_s).chain(report.cuts.iter().map(|cut| cut.at_s));
    let end = end.fold(report.seconds, f64::max);
    let (unit, below) = match end {
        end if end < 120.0 => (1.0, "seconds on the device"),
        end if end < 7200.0 => (60.0, "minutes on the device"),
        _ => (3600.0, "hours on the device"),
    };
    let shares = |of: fn(&crate::lab::Point) -> Option<f64>| {
        report.curve.iter().filter_map(move |point| Some((point.at_s / unit, of(point)?))).collect::<Vec<_>>()
    };
    let series = vec![
        Series { look: Look::Rest, points: shares(|point| point.batch_accuracy), marks: true },
        Series { look: Look::Main, points: shares(|point| point.val_accuracy), marks: true },
    ];
    let cuts = report.cuts.iter().enumerate().map(|(nth, cut)| (cut.at_s / unit, (nth + 1).to_string())).collect();
    let size = [WIDTH, 190.0];
    let x = Axis::new([0.0, end / unit], Lines::across(WIDTH), |value| format!("{value}"));
    let y = Axis::new([0.0, 1.0], Lines::up(size[1]), share_word);
    let said = match report.cuts.len() {
        0 => "No power cut strikes.".to_owned(),
        cuts => {
            let lost: f64 = report.cuts.iter().map(|cut| cut.lost_s).sum();
            format!(
                "Power is cut {}; {} of work are done again. A lesson is taken up where its last checkpoint or generation left it.",
                times(cuts),
                span(lost)
            )
        }
    };
    let drawn = Lines { title: "Accuracy over the device's time", about: &said, size, below, series, upright: cuts };
    let mut legend =
        vec![Look::Main.key(), "photos held back".into(), Look::Rest.key(), "batches since the point before".into()];
    if !report.cuts.is_empty() {
        legend.extend(["".into(), Look::Other.line_key(), "power cut, by number".into()]);
    }
    let figure = figure(drawn.draw(&x, &y), legend.into_iter().collect::<Markup>());
    let missed = match report.cuts_missed {
        0 => Markup::default(),
        cuts => paragraph(format!("{} did not strike: the lesson was past that place.", count(cuts, "cut"))),
    };
    Section::new(
        "timeline",
        "The device's time",
        [paragraph(said), beside(figure, curve(report)), cut_table(report), missed],
    )
}

fn curve(report: &Simulation) -> Markup {
    let columns = [
        ("step", Kind::Text),
        ("at", Kind::Number),
        ("held back", Kind::Number),
        ("batches", Kind::Number),
        ("loss", Kind::Number),
        ("kept", Kind::Text),
    ];
    let mut table = Table::new("Work that has lasted", &columns);
    let share = |share: Option<f64>| Markup::from(share.map_or_else(|| "-".to_owned(), percent));
    for point in &report.curve {
        table.row([
            point.step.to_string().into(),
            span(point.at_s).into(),
            share(point.val_accuracy),
            share(point.batch_accuracy),
            point.loss.map_or_else(|| "-".to_owned(), |loss| format!("{loss:.3}")).into(),
            point.generation.map_or_else(String::new, |number| format!("generation {number}")).into(),
        ]);
    }
    if table.is_empty() { Markup::default() } else { table.markup() }
}

fn cut_table(report: &Simulation) -> Markup {
    let columns = [
        ("cut", Kind::Text),
        ("why", Kind::Text),
        ("at", Kind::Number),
        ("where", Kind::Text),
        ("what is left", Kind::Text),
        ("steps lost", Kind::Number),
        ("work lost", Kind::Number),
    ];
    let mut table = Table::new("Power cuts", &columns);
    for (nth, cut) in report.cuts.iter().enumerate() {
        table.row([
            (nth + 1).to_string().into(),
            cause(cut).into(),
            span(cut.at_s).into(),
            struck(cut).into(),
            left(report, cut).into(),
            cut.lost_steps.to_string().into(),
            span(cut.lost_s).into(),
        ]);
    }
    if table.is_empty() { Markup::default() } else { table.markup() }
}

/// Why the power went.
pub(crate) fn cause(cut: &Cut) -> &'static str {
    match cut.cause {
        Cause::Cut => "power cut",
        Cause::Schedule => "power off",
    }
}

/// What was going on when it went.
pub(crate) fn struck(cut: &Cut) -> String {
    if cut.saving { "while a generation was being written".to_owned() } else { place(cut.phase, cut.step) }
}

/// What a power cut leaves.
pub(crate) fn left(report: &Simulation, cut: &Cut) -> String {
    let kept = match cut.checkpoint {
        None => String::new(),
        Some(0) => ", and what was cross-validated".to_owned(),
        Some(step) => format!(", and a checkpoint after step {step}"),
    };
    match cut.generation {
        None => "no store yet".to_owned(),
        Some(number) => format!("generation {number} survives{}{kept}", accuracy(report, number)),
    }
}

/// ", 72.0 %", where the accuracy of a generation is known.
fn accuracy(report: &Simulation, generation: u64) -> String {
    let measured = match generation {
        1 => report.train.val_accuracy_before,
        n if n == report.train.generation => report.train.val_accuracy,
        _ => None,
    };
    measured.map_or_else(String::new, |share| format!(" ({})", percent(share)))
}

pub(crate) fn place(phase: Phase, step: u64) -> String {
    match (phase, step) {
        (Phase::Start, _) => "while starting".to_owned(),
        (Phase::Imprint, _) => "while imprinting".to_owned(),
        (Phase::Accuracy, _) => "while measuring accuracy".to_owned(),
        (Phase::Directions, _) => "while finding directions".to_owned(),
        (Phase::CrossValidate, _) => "while cross-validating".to_owned(),
        (_, 0) => "before the first step".to_owned(),
        (_, step) => format!("after step {step}"),
    }
}

/// Where an attempt without cuts spends its time.
fn time(report: &Simulation) -> Section {
    let time = &report.time;
    let parts = [
        ("start", time.start),
        ("imprint", time.imprint),
        ("accuracy", time.accuracy),
        ("directions", time.directions),
        ("cross-validate", time.cross_validate),
        ("train", time.train),
        ("save", time.save),
    ];
    let parts: Vec<(&str, f64)> = parts.into_iter().filter(|(_, seconds)| *seconds > 0.0).collect();
    let whole = attempt(time);
    let longest = parts.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("start", 0.0));
    let said = format!(
        "An attempt without cuts takes about {}; the largest part, {}, goes into \"{}\".",
        span(whole),
        percent(longest.1 / whole.max(f64::MIN_POSITIVE)),
        longest.0
    );
    let drawn: Vec<Bar> = parts.iter().map(|(name, value)| Bar { name, value: *value, look: Look::Main }).collect();
    let drawn = figure(bars("Time by phase", &said, &drawn, span), "Time of one attempt without cuts, by phase.");
    let columns = [("part", Kind::Text), ("time", Kind::Number), ("share", Kind::Number)];
    let mut table = Table::new("One attempt without cuts, by phase and by kind of work", &columns);
    let kinds = [
        ("computing", time.computing),
        ("decoding", time.decoding),
        ("writing", time.writing),
        ("longer by heat", time.throttled),
    ];
    let kinds =
        kinds.into_iter().filter(|(_, seconds)| *seconds > 0.0).map(|(word, seconds)| (word, seconds, "of it: "));
    for (word, seconds, before) in parts.iter().map(|(word, seconds)| (*word, *seconds, "")).chain(kinds) {
        let share = percent(seconds / whole.max(f64::MIN_POSITIVE));
        table.row([format!("{before}{word}").into(), span(seconds).into(), share.into()]);
    }
    let host = &report.host;
    let from = format!(
        "That is {} of processor time here, with {:.0} GFLOP/s a core, brought to the device's {:.1} GFLOP/s on {} of {}.",
        span(host.processor_ms / 1e3),
        host.gflops,
        host.device_gflops,
        count(report.train.threads, "thread"),
        count(report.cores, "core")
    );
    Section::new("time", "Where the time goes", [paragraph(said), paragraph(from), beside(drawn, table.markup())])
}

fn memory(report: &Simulation) -> Section {
    let ram = &report.ram;
    let bar = |name, bytes: u64, look| Bar { name, value: bytes as f64, look };
    let mut drawn = vec![bar("cap", ram.cap_bytes, Look::Other)];
    drawn.extend(ram.planned_bytes.map(|bytes| bar("planned", bytes, Look::Rest)));
    drawn.extend(ram.peak_bytes.map(|bytes| bar("taken", bytes, Look::Main)));
    let said = match (ram.peak_bytes, ram.excess) {
        (None, _) => "This system does not tell how much memory the lesson took.".to_owned(),
        (Some(peak), Some(excess)) => format!(
            "The lesson took {}, more than its cap of {}; that was first seen {}, with {} too many.",
            size(peak),
            size(ram.cap_bytes),
            place(excess.phase, excess.step),
            size(peak.saturating_sub(ram.cap_bytes))
        ),
        (Some(peak), None) => format!("The lesson fits: it took {} of a cap of {}.", size(peak), size(ram.cap_bytes)),
    };
    let mut table = Table::new("Memory", &[("what", Kind::Text), ("bytes", Kind::Number)]);
    table.row(["the device has".into(), size(ram.total_bytes).into()]);
    table.row(["cap of the lesson".into(), size(ram.cap_bytes).into()]);
    table.row(["planned".into(), ram.planned_bytes.map_or_else(|| "not told".to_owned(), size).into()]);
    table.row(["taken at most".into(), ram.peak_bytes.map_or_else(|| "not told".to_owned(), size).into()]);
    let picture = bars("Memory against the cap", &said, &drawn, |bytes| size(bytes as u64));
    let figure = figure(picture, "Largest resident memory, against what the lesson may take (broken line).");
    Section::new("memory", "Memory against the cap", [paragraph(said), beside(figure, table.markup())])
}

fn writes(report: &Simulation) -> Section {
    let (flash, written) = (&report.flash, &report.flash.lesson);
    let generations: u64 = written.generations.iter().sum();
    let parts = [
        ("generations", generations),
        ("checkpoints", written.checkpoints),
        ("cache", written.cache),
        ("journal", written.journal),
    ];
    let said = format!(
        "A lesson writes {}: {:.5} % of the {:.1} TB that the medium can take. It is worn after {} such lessons.",
        size(written.total()),
        100.0 * flash.wear,
        flash.endurance_bytes / 1e12,
        grouped(flash.lessons_until_worn)
    );
    let mut table = Table::new("Bytes written to the medium", &[("what", Kind::Text), ("bytes", Kind::Number)]);
    parts.iter().for_each(|(word, bytes)| table.row([(*word).into(), size(*bytes).into()]));
    table.row(["one attempt without cuts".into(), size(written.total()).into()]);
    table.row(["all attempts".into(), size(flash.written_bytes).into()]);
    let drawn: Vec<Bar> =
        parts.iter().map(|(name, bytes)| Bar { name, value: *bytes as f64, look: Look::Main }).collect();
    let picture = bars("Bytes written, by kind of file", &said, &drawn, |bytes| size(bytes as u64));
    let figure = figure(picture, "Bytes of one attempt without cuts, by kind of file.");
    Section::new("writes", "Writes and wear", [paragraph(said), beside(figure, table.markup())])
}

fn energy(report: &Simulation) -> Option<Section> {
    let (energy, watts) = (report.energy_wh?, report.mean_w?);
    let energy = if energy < 0.1 { format!("{:.1} mWh", energy * 1e3) } else { format!("{energy:.2} Wh") };
    let said = format!("All attempts together take {energy} at {watts:.1} W, idle power included.");
    Some(Section::new("energy", "Energy", [paragraph(said)]))
}
