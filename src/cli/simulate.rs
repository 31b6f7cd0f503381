//! `srlora simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::flags::{LessonFlags, TrustFlags};
use super::output::{Meter, Output, count, percent, plain, shown, size};
use super::report::{ReportFlag, origin};
use super::signals::leave_nothing_on_signals;
use super::values::{CacheArg, MethodArg, parse_bytes, parse_seconds, parse_whole};
use crate::error::{Error, ErrorKind, Result};
use crate::lab::{CutAt, Cuts, Device, Point, Simulation, simulate};
use crate::report::simulation::{cause, left, place, struck};
use crate::report::words::{grouped, span};
use crate::session::{CachePlace, Lesson};

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// What `pack` wrote.
    pub(super) bundle: PathBuf,
    #[command(flatten)]
    trust: TrustFlags,
    /// The device: pi-zero-2w, pi-4, pi-5, jetson-nano, jetson-orin-nano, or a TOML file of the same form.
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) profile: String,
    #[command(flatten)]
    pub(super) lesson: LessonFlags,
    /// Keep the store that the lesson writes; it must not exist yet [default: it is removed].
    #[arg(short, long, value_name = "STORE")]
    pub(super) output: Option<PathBuf>,
    /// What is trained, and how.
    #[arg(long, value_enum, default_value_t = MethodArg::Srlora)]
    pub(super) method: MethodArg,
    /// As of `train`; decides the random cuts, too.
    #[arg(long, default_value_t = 0, value_parser = parse_whole::<u64>)]
    pub(super) seed: u64,
    /// Memory that the lesson may take [default: what the profile says is free].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(super) ram_limit: Option<u64>,
    /// As of `train`; on disk it is written to the device's flash.
    #[arg(long, value_enum, default_value_t = CacheArg::Disk)]
    pub(super) cache: CacheArg,
    /// As of `train`, in seconds of the device's work.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_seconds)]
    pub(super) checkpoint: Duration,
    /// Cut the power after these steps, or half-way through `imprint` or `save`; each strikes one attempt, in this order, or none
    /// where the lesson is past its place.
    #[arg(long, value_name = "STEP,...", value_delimiter = ',', value_parser = parse_cut)]
    pub(super) cut_at: Vec<CutAt>,
    /// Cut the power so many times at random.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(super) cuts: u32,
    #[command(flatten)]
    report: ReportFlag,
}

pub(super) fn run(args: &SimulateArgs, output: &Output) -> Result<()> {
    args.report.check(args.output.as_deref())?;
    let device = Device::find(&args.profile)?;
    let bundle = args.trust.open(&args.bundle)?;
    let cuts = Cuts { checkpoint: args.checkpoint, at: args.cut_at.clone(), random: args.cuts };
    leave_nothing_on_signals()?;
    let mut meter = Meter::new();
    let mut show = |progress: crate::session::Progress| meter.show(progress);
    let report = simulate(&bundle, &lesson(args), &device, &cuts, args.output.as_deref(), &mut show)?;
    meter.end();
    output.result(&report, describe)?;
    let origin = || origin(&bundle, shown(&args.lesson.data), args.output.as_deref());
    args.report.write(output, || Ok(crate::report::simulation(&origin(), &report)))?;
    match (report.ram.excess, report.finishes) {
        (Some(excess), _) => {
            let message = format!(
                "the lesson took more than its cap of {}, first seen {}; the device would have killed it",
                size(report.ram.cap_bytes),
                place(excess.phase, excess.step)
            );
            Err(Error::new(ErrorKind::Memory, &report.device, message))
        }
        (None, false) => {
            let message = "the device's time with power ends each time before the lesson has kept anything more; take more \
                           --threads, fewer photos or a smaller network, or, once it takes steps, a shorter --checkpoint";
            Err(Error::new(ErrorKind::Device, &report.device, message))
        }
        (None, true) => Ok(()),
    }
}

fn lesson(args: &SimulateArgs) -> Lesson {
    Lesson {
        method: args.method.into(),
        seed: args.seed,
        cache: args.cache.into(),
        ram_limit: args.ram_limit,
        ..args.lesson.lesson()
    }
}

fn describe(report: &Simulation) -> String {
    [head(report), time(report), memory(report), flash(report), energy(report), curve(report), cuts(report)].concat()
}

/// A line with its word in the first column.
fn line(word: &str, text: &str) -> String {
    format!("{word:<10}{text}\n")
}

fn head(report: &Simulation) -> String {
    let train = &report.train;
    let (arch, cores, threads) = (report.arch.name(), report.cores, count(train.threads, "thread"));
    let photos = match train.val_images {
        0 => count(train.train_images, "photo"),
        kept => format!("{} + {kept} to measure", count(train.train_images, "photo")),
    };
    let mut text = format!("{}, simulated: {arch}, {threads} on {cores} cores\n", plain(&report.device));
    let classes = count(train.classes.len(), "class");
    text += &format!("{}, {} steps, seed {}: {classes}, {photos}\n\n", train.method, train.steps, train.seed);
    text
}

fn time(report: &Simulation) -> String {
    let (time, train) = (&report.time, &report.train);
    let whole =
        time.start + time.imprint + time.accuracy + time.directions + time.cross_validate + time.train + time.save;
    let told = match (report.finishes, report.cuts.len()) {
        (true, 0) => format!("about {}", span(report.seconds)),
        (true, cuts) => {
            format!("about {} in {} attempts, {} without cuts", span(report.seconds), cuts + 1, span(whole))
        }
        (false, _) => format!("about {} without a break, if there were no cuts: it never ends", span(whole)),
    };
    let mut text = line("time", &format!("{told}   (estimate: not measured on the device, expect a factor of 5)"));
    let each = |seconds: f64, count: u64, noun: &str| match count {
        0 => String::new(),
        count => format!("{count} x {} a {noun}", span(seconds / count as f64)),
    };
    let measured = train.val_images as u64 * if train.steps > 0 { 2 } else { 1 };
    let rows = [
        ("start", time.start, String::new()),
        ("imprint", time.imprint, each(time.imprint, train.train_images as u64, "photo")),
        ("accuracy", time.accuracy, each(time.accuracy, measured, "photo")),
        ("directions", time.directions, String::new()),
        ("cross-validate", time.cross_validate, String::new()),
        ("train", time.train, each(time.train, train.steps, "step")),
        ("save", time.save, String::new()),
    ];
    for (word, seconds, note) in rows.into_iter().filter(|(_, seconds, _)| *seconds > 0.0) {
        text += line("", &format!("{word:<10}{:>8}  {note}", span(seconds))).trim_end();
        text += "\n";
    }
    let mut parts = vec![format!("computing {}", span(time.computing)), format!("decoding {}", span(time.decoding))];
    parts.push(format!("writing {}", span(time.writing)));
    if time.throttled > 0.0 {
        parts.push(format!("{} longer by heat", span(time.throttled)));
    }
    text += &line("", &format!("of it {}", parts.join(", ")));
    let host = &report.host;
    let (ratio, spent) = (host.gflops / host.device_gflops, span(host.processor_ms / 1e3));
    let cores = format!("a core here does {:.0} GFLOP/s, there {:.1}", host.gflops, host.device_gflops);
    text + &line("", &format!("from {spent} of processor time here, {ratio:.0} times slower there: {cores}"))
}

fn memory(report: &Simulation) -> String {
    let ram = &report.ram;
    let (cap, total) = (size(ram.cap_bytes), size(ram.total_bytes));
    let Some(peak) = ram.peak_bytes else { return line("memory", &format!("not told by this system; cap {cap}")) };
    let planned = ram.planned_bytes.map_or_else(String::new, |bytes| format!(", {} planned", size(bytes)));
    let verdict = match (ram.excess, ram.planned_bytes) {
        (Some(_), _) => "TOO MUCH",
        (None, Some(planned)) if peak > planned => "fits, though above the plan",
        (None, _) => "fits",
    };
    let again = if report.train.planned.recompute { ", activations computed again" } else { "" };
    line("memory", &format!("{} at most{planned}, of {cap} free ({total} in all): {verdict}{again}", size(peak)))
}

fn flash(report: &Simulation) -> String {
    let flash = &report.flash;
    let written = &flash.lesson;
    let generations: u64 = written.generations.iter().sum();
    let mut parts = vec![format!("{} {}", count(written.generations.len(), "generation"), size(generations))];
    if written.checkpoints > 0 {
        parts.push(format!("checkpoints {}", size(written.checkpoints)));
    }
    if written.cache > 0 {
        parts.push(format!("cache {}", size(written.cache)));
    }
    parts.push(format!("journal {}", size(written.journal)));
    let mut text = line("flash", &format!("{} written a lesson: {}", size(written.total()), parts.join(", ")));
    if !report.cuts.is_empty() {
        text += &line("", &format!("{} with the attempts that were cut", size(flash.written_bytes)));
    }
    let lifetime = flash.endurance_bytes / 1e12;
    let (wear, lessons) = (flash.wear * 100.0, grouped(flash.lessons_until_worn));
    text += &line("", &format!("{wear:.5} % of the {lifetime:.1} TB that it can take: worn after {lessons} lessons"));
    if flash.cache_fits_in_ram && report.train.planned.cache == CachePlace::Disk {
        let without = size(written.total() - written.cache);
        text += &line("", &format!("with --cache ram only {without}: the cache would fit in memory"));
    }
    text
}

fn energy(report: &Simulation) -> String {
    let (Some(energy), Some(watts)) = (report.energy_wh, report.mean_w) else { return String::new() };
    let energy = if energy < 0.1 { format!("{:.1} mWh", energy * 1e3) } else { format!("{energy:.2} Wh") };
    line("energy", &format!("{energy} at {watts:.1} W, idle power included"))
}

fn curve(report: &Simulation) -> String {
    let mut text =
        format!("\n{:>10}  {:>6}  {:>10}  {:>11}  {:>6}\n", "at", "step", "validation", "its batches", "loss");
    let shown = |share: Option<f64>| share.map_or_else(String::new, percent);
    for point in &report.curve {
        let Point { at_s, step, val_accuracy, batch_accuracy, loss, generation } = point;
        let loss = loss.map_or_else(String::new, |loss| format!("{loss:.3}"));
        let kept = generation.map_or_else(String::new, |n| format!("  generation {n}"));
        let (at, val, own) = (span(*at_s), shown(*val_accuracy), shown(*batch_accuracy));
        text += format!("{at:>10}  {step:>6}  {val:>10}  {own:>11}  {loss:>6}{kept}").trim_end();
        text += "\n";
    }
    if report.curve.is_empty() { String::new() } else { text }
}

fn cuts(report: &Simulation) -> String {
    if report.cuts.is_empty() {
        return String::new();
    }
    let mut text = "\n".to_owned();
    for cut in &report.cuts {
        let (what, place, left) = (cause(cut), struck(cut), left(report, cut));
        text += &format!(
            "{what} at {}, {place}: {left}; {} and {} of work lost\n",
            span(cut.at_s),
            count(usize::try_from(cut.lost_steps).unwrap_or(usize::MAX), "step"),
            span(cut.lost_s)
        );
    }
    if report.cuts_missed > 0 {
        text += &format!("{} did not strike: the lesson was past that place\n", count(report.cuts_missed, "cut"));
    }
    text += "A lesson that was cut is taken up again with train --resume: it starts, reads its photos, and goes on.\n";
    text
}

/// imprint, save, or a step.
fn parse_cut(text: &str) -> std::result::Result<CutAt, String> {
    match text {
        "imprint" => Ok(CutAt::Imprint),
        "save" => Ok(CutAt::Save),
        step => step.parse().map(CutAt::Step).map_err(|_| "write a step, `imprint` or `save`".to_owned()),
    }
}
