//! `srlora bench`.

use super::args::BenchArgs;
use super::open_store;
use super::output::{Output, count, size};
use crate::error::Result;
use crate::lab::{BenchReport, Profile, bench};

pub(super) fn run(args: &BenchArgs, output: &Output) -> Result<()> {
    let bundle = args.trust.open(&args.bundle)?;
    let store = open_store(args.store.as_deref())?;
    let report = bench(&bundle, store.as_ref(), args.batch as usize, args.threads as usize, args.profile)?;
    output.result(&report, describe)
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
