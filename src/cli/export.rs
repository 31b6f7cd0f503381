//! `srlora export`.

use std::path::PathBuf;

use clap::Args;

use super::flags::TrustFlags;
use super::output::{Meter, Output, count, plain, size, tell};
use super::values::PrecisionArg;
use crate::error::Result;
use crate::export::{ExportReport, OnnxRequest, export_onnx};
use crate::session::Dataset;

/// Share of a weight that rounding has taken, from which it is worth a warning.
const LOSSY: f64 = 0.05;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The bundle, which `pack` wrote.
    bundle: PathBuf,
    #[command(flatten)]
    trust: TrustFlags,
    /// The store, which `train` wrote.
    #[arg(long)]
    store: PathBuf,
    /// The ONNX file to write; it must not exist yet.
    #[arg(long, value_name = "FILE")]
    onnx: PathBuf,
    /// Precision of its weights: `keep` writes each in the type that it has in the bundle. A network in fp32 can be written in any;
    /// one that is quantized in fp32, in which it computes with floats instead of integers.
    #[arg(long, value_enum, default_value_t = PrecisionArg::Keep)]
    precision: PrecisionArg,
    /// Put the preprocessing into the file: it takes the bytes of an image of the network's size (`image`, uint8, 1 x H x W x 3), and
    /// gives `probabilities`.
    #[arg(long)]
    with_preprocessing: bool,
    /// Photos that the file is checked with, in DIR or in folders in it; their classes do not matter [default: pictures of noise].
    #[arg(long, value_name = "DIR")]
    photos: Option<PathBuf>,
}

pub(super) fn run(args: &ExportArgs, output: &Output) -> Result<()> {
    let bundle = args.trust.open(&args.bundle)?;
    let photos = args.photos.as_deref().map(Dataset::flat).transpose()?;
    let with_preprocessing = args.with_preprocessing;
    let request =
        OnnxRequest { output: args.onnx.clone(), precision: args.precision.into(), with_preprocessing, photos };
    let store = super::existing_store(&args.store)?;
    let mut meter = Meter::new();
    let report = export_onnx(&bundle, &store, &request, &mut |progress| meter.show(progress))?;
    meter.end();
    for site in report.sites.iter().filter(|site| site.error_fro > LOSSY) {
        tell(format_args!(
            "warning: the weight of {} lost {:.1} % in this precision",
            site.name,
            100.0 * site.error_fro
        ));
    }
    output.result(&report, describe)
}

fn describe(report: &ExportReport) -> String {
    let mut text = String::new();
    for file in &report.files {
        text += &format!("{}: {}\n", plain(&file.path), size(file.bytes));
    }
    for site in &report.sites {
        text += &format!("  {:<40} weight within {:.4} %", plain(&site.name), 100.0 * site.error_fro);
        text +=
            &if site.saturated > 0 { format!(", {} cut off", count(site.saturated, "value")) } else { String::new() };
        text += "\n";
    }
    let what = if report.noise { "picture of noise" } else { "photo" };
    let pictures = match (report.photos, report.noise) {
        (1, _) | (_, false) => count(report.photos, what),
        (many, true) => format!("{many} pictures of noise"),
    };
    text += &format!(
        "checked on {pictures}: probabilities within {:.1e} of the adapted network's, the same class for {}\n",
        report.max_probability_difference, report.same_class
    );
    text
}
