//! `srlora bench`.

use super::args::BenchArgs;
use super::open_store;
use super::output::{Output, count, plain, size};
use crate::bundle::Bundle;
use crate::error::Result;
use crate::lab::{BenchReport, Machine, Profile, bench};

pub(super) fn run(args: &BenchArgs, output: &Output) -> Result<()> {
    let bundle = args.trust.open(&args.bundle)?;
    let store = open_store(args.store.as_deref())?;
    let report = bench(&bundle, store.as_ref(), args.batch as usize, args.threads as usize, args.profile)?;
    match args.report {
        true => output.say(&sheet(&Machine::here(), &bundle, store.is_some(), &report)),
        false => output.result(&report, describe),
    }
}

/// What was timed, on what, as a table in Markdown.
fn sheet(machine: &Machine, bundle: &Bundle, has_learned: bool, report: &BenchReport) -> String {
    let sites = count(bundle.sites.len(), "site");
    let learned = if has_learned { ", with what a store has learned" } else { "" };
    let program = concat!("srlora ", env!("CARGO_PKG_VERSION"));
    let timed = |ms: f64, photos: usize| format!("{ms:.1} ms, {:.1} photos a second", photos as f64 / ms * 1e3);
    let rows = [
        ("board", machine.board.clone()),
        ("processor", processor(machine)),
        ("kernel", machine.kernel.clone()),
        ("program", Some(format!("{program} for {} on {}", std::env::consts::ARCH, std::env::consts::OS))),
        (
            "bundle",
            Some(format!("{}, {sites} of rank {}, {}{learned}", bundle.precision, bundle.rank, bundle.preprocess)),
        ),
        ("sha256 of its contents", Some(bundle.content_sha256.clone())),
        ("batch", Some(count(report.batch, "photo"))),
        ("threads", Some(report.threads.to_string())),
        ("forward, one thread", Some(timed(report.forward_ms, 1))),
        ("adapted forward, one thread", Some(timed(report.adapted_forward_ms, 1))),
        ("training step", Some(timed(report.step_ms, report.batch))),
        ("training step, prefix cached", report.cached_step_ms.map(|ms| timed(ms, report.batch))),
        ("start-up", Some(format!("{:.0} ms", report.startup_ms))),
        ("peak memory", report.peak_rss_bytes.map(size)),
    ];
    let row = |(name, value): (&str, Option<String>)| {
        format!("| {name} | {} |\n", plain(value.as_deref().unwrap_or("not known")).replace('|', "\\|"))
    };
    format!("| what | here |\n|---|---|\n{}", rows.into_iter().map(row).collect::<String>())
}

/// "4 x Cortex-A72, up to 1.80 GHz (ondemand)".
fn processor(machine: &Machine) -> Option<String> {
    let clock = machine.clock_hz.map(|hz| format!(", up to {:.2} GHz", hz as f64 / 1e9)).unwrap_or_default();
    let governor = machine.governor.as_ref().map(|governor| format!(" ({governor})")).unwrap_or_default();
    machine.processor.as_ref().map(|cores| format!("{cores}{clock}{governor}"))
}

fn describe(report: &BenchReport) -> String {
    let mut text = format!("forward          {:8.2} ms a photo\n", report.forward_ms);
    text += &format!("adapted forward  {:8.2} ms a photo\n", report.adapted_forward_ms);
    text += &format!("training step    {:8.1} ms for {} photos", report.step_ms, report.batch);
    text += &format!(" on {}\n", count(report.threads, "thread"));
    if let Some(ms) = report.cached_step_ms {
        text += &format!("  prefix cached  {ms:8.1} ms\n");
    }
    text += &format!("start-up         {:8.0} ms\n", report.startup_ms);
    if let Some(bytes) = report.peak_rss_bytes {
        text += &format!("peak memory      {:>8}\n", size(bytes));
    }
    report.profile.iter().for_each(|profile| text += &table(profile));
    text
}

/// What every kind of operator takes, and the nodes that take most.
fn table(profile: &Profile) -> String {
    let mut text = format!("\none photo, against {:.0} GFLOP/s of a large product\n", profile.peak_gflops);
    text += &format!("{:<9} {:<22} {:>5} {:>9} {:>9} {:>10}\n", "pass", "operator", "nodes", "ms", "ideal ms", "bytes");
    for op in &profile.ops {
        let (ms, ideal, bytes) = (op.ms, op.ideal_ms, size(op.bytes as u64));
        text += &format!("{:<9} {:<22} {:>5} {ms:>9.3} {ideal:>9.3} {bytes:>10}\n", op.pass, op.op, op.nodes);
    }
    text += &format!("\n{:<40} {:<22} {:>9} {:>10}\n", "node", "operator", "ms", "bytes");
    for node in &profile.nodes {
        let bytes = size(node.bytes as u64);
        text += &format!("{:<40} {:<22} {:>9.3} {bytes:>10}\n", node.node, node.op, node.ms);
    }
    text
}
