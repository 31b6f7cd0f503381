//! `srlora bench`.

use super::args::BenchArgs;
use super::output::{Output, size};
use crate::bundle::Bundle;
use crate::error::Result;
use crate::session::{BenchReport, Store, bench};

pub(super) fn run(args: &BenchArgs, output: &Output) -> Result<()> {
    let bundle = Bundle::open(&args.bundle)?;
    let store = args.store.as_deref().map(Store::open).transpose()?;
    let report = bench(&bundle, store.as_ref(), args.batch as usize)?;
    output.result(&report, describe)
}

fn describe(report: &BenchReport) -> String {
    let mut text = format!("forward          {:8.2} ms a photo\n", report.forward_ms);
    text += &format!("adapted forward  {:8.2} ms a photo\n", report.adapted_forward_ms);
    text += &format!("training step    {:8.1} ms for {} photos\n", report.step_ms, report.batch);
    text += &format!("  prefix cached  {:8.1} ms\n", report.cached_step_ms);
    if let Some(bytes) = report.peak_rss_bytes {
        text += &format!("peak memory      {:>8}\n", size(bytes));
    }
    text
}
