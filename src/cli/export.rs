//! `srlora export`.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};

use super::flags::{NamingFlags, TrustFlags};
use super::output::{Meter, Output, count, plain, size, tell};
use super::values::{PrecisionArg, parse_peft_rank};
use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};
use crate::export::{ExportReport, OnnxRequest, SelfCheck, export_onnx};
use crate::ort::{OrtReport, OrtRequest, export_ort_adapter};
use crate::peft::{PeftRank, PeftReport, PeftRequest, PeftSite, export_peft};
use crate::session::Dataset;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("format").required(true)))]
pub(super) struct ExportArgs {
    /// The bundle, which `pack` wrote.
    bundle: PathBuf,
    #[command(flatten)]
    trust: TrustFlags,
    /// The store, which `train` wrote.
    #[arg(long)]
    store: PathBuf,
    /// The ONNX file to write; it must not exist yet.
    #[arg(long, value_name = "FILE", group = "format")]
    onnx: Option<PathBuf>,
    /// Or the folder to make for PyTorch's PEFT; it must not exist yet.
    #[arg(long, value_name = "DIR", group = "format", conflicts_with_all = ["precision", "with_preprocessing"])]
    peft: Option<PathBuf>,
    /// Or two files for onnxruntime's adapters: a base that all stores of the bundle share, and the adapter of this store, which must not
    /// exist yet. A base that is there already is left as it is; it must be the one that would be written.
    #[arg(long, num_args = 2, value_names = ["BASE.onnx", "FILE.onnx_adapter"], group = "format", conflicts_with = "with_preprocessing")]
    ort_adapter: Option<Vec<PathBuf>>,
    /// With --peft and --ort-adapter: pairs of each module. `exact`, a number, or a share of what was learned, for instance 0.99.
    #[arg(long, value_name = "RANK", default_value = "exact", conflicts_with = "onnx", value_parser = parse_peft_rank)]
    rank: PeftRank,
    #[command(flatten)]
    naming: NamingFlags,
    /// Precision of its weights: `keep` writes each in the type that it has in the bundle. A network in fp32 can be written in any;
    /// one that is quantized in fp32, in which it computes with floats instead of integers. A base of --ort-adapter takes keep and fp32.
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
    if args.peft.is_none() && args.naming.is_given() {
        return Err(Error::new(ErrorKind::Usage, "--torch, --map", "belong to --peft; leave them out"));
    }
    match (&args.onnx, &args.peft, args.ort_adapter.as_deref()) {
        (Some(file), ..) => to_onnx(&bundle, file, photos, args, output),
        (_, Some(folder), _) => to_peft(&bundle, folder, photos, args, output),
        (.., Some([base, adapter])) => to_ort(&bundle, [base, adapter], photos, args, output),
        // The flags see to it that there is one.
        _ => Ok(()),
    }
}

fn to_onnx(bundle: &Bundle, file: &Path, photos: Option<Dataset>, args: &ExportArgs, output: &Output) -> Result<()> {
    let with_preprocessing = args.with_preprocessing;
    let request =
        OnnxRequest { output: file.to_path_buf(), precision: args.precision.into(), with_preprocessing, photos };
    let store = super::existing_store(&args.store)?;
    let mut meter = Meter::new();
    let report = export_onnx(bundle, &store, &request, &mut |progress| meter.show(progress))?;
    meter.end();
    report.warnings().for_each(|warning| tell(format_args!("warning: {warning}")));
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
    text + &checked(&report.check)
}

/// How far what was written is from the adapted network.
fn checked(check: &SelfCheck) -> String {
    let what = if check.noise { "picture of noise" } else { "photo" };
    let pictures = match (check.photos, check.noise) {
        (1, _) | (_, false) => count(check.photos, what),
        (many, true) => format!("{many} pictures of noise"),
    };
    format!(
        "checked on {pictures}: probabilities within {:.1e} of the adapted network's, the same class for {}\n",
        check.max_probability_difference, check.same_class
    )
}

fn to_peft(bundle: &Bundle, folder: &Path, photos: Option<Dataset>, args: &ExportArgs, output: &Output) -> Result<()> {
    let store = super::existing_store(&args.store)?;
    let (folder, naming) = (folder.to_path_buf(), args.naming.naming());
    let request = PeftRequest { output: folder, rank: args.rank, naming, photos };
    let mut meter = Meter::new();
    let report = export_peft(bundle, &store, &request, &mut |progress| meter.show(progress))?;
    meter.end();
    report.warnings().for_each(|warning| tell(format_args!("warning: {warning}")));
    output.result(&report, describe_peft)
}

fn describe_peft(report: &PeftReport) -> String {
    let files = report.files.iter().map(|file| format!("{}: {}\n", plain(&file.path), size(file.bytes)));
    let site = |site: &PeftSite| {
        let unfolded = if site.unfolded { ", a batch norm undone" } else { "" };
        let (name, rank) = (plain(&site.module), count(site.rank, "pair"));
        format!("  {name:<40} {rank}, weight within {:.4} %{unfolded}\n", 100.0 * site.error_fro)
    };
    let head = format!("  {:<40} {}\n", plain(&report.head), count(report.classes.len(), "class"));
    let checked = checked(&report.check);
    files.chain(report.sites.iter().map(site)).chain([head, checked]).collect()
}

fn to_ort(
    bundle: &Bundle,
    [base, adapter]: [&Path; 2],
    photos: Option<Dataset>,
    args: &ExportArgs,
    output: &Output,
) -> Result<()> {
    let store = super::existing_store(&args.store)?;
    let (base, adapter) = (base.to_path_buf(), adapter.to_path_buf());
    let request = OrtRequest { base, adapter, rank: args.rank, precision: args.precision.into(), photos };
    let mut meter = Meter::new();
    let report = export_ort_adapter(bundle, &store, &request, &mut |progress| meter.show(progress))?;
    meter.end();
    output.result(&report, describe_ort)
}

fn describe_ort(report: &OrtReport) -> String {
    let kept = |at: usize| if at == 0 && report.base_kept { ", was there, the same byte by byte" } else { "" };
    let files = report.files.iter().enumerate();
    let files = files.map(|(at, file)| format!("{}: {}{}\n", plain(&file.path), size(file.bytes), kept(at)));
    let sites = report.sites.iter().map(|site| {
        let pairs = count(site.rank, "pair");
        format!("  {:<40} {pairs}, weight within {:.4} %\n", plain(&site.name), 100.0 * site.error_fro)
    });
    let classes: Vec<String> = report.classes.iter().map(|class| plain(class).to_string()).collect();
    let classes = format!("classes in the order of the logits: {}\n", classes.join(", "));
    files.chain(sites).chain([classes, checked(&report.check)]).collect()
}
