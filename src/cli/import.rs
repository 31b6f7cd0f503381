//! `srlora import`.

use std::path::PathBuf;

use clap::Args;

use super::flags::{NamingFlags, TrustFlags};
use super::output::{Output, count, plain, tell};
use crate::error::Result;
use crate::peft::{ImportReport, ImportRequest, ImportedSite, import_peft};

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The bundle of the network that the adapter was trained on.
    bundle: PathBuf,
    #[command(flatten)]
    trust: TrustFlags,
    /// The folder that PEFT's `save_pretrained` wrote.
    #[arg(long, value_name = "DIR")]
    peft: PathBuf,
    /// The store to make; it must not exist yet.
    #[arg(short, long, value_name = "STORE")]
    output: PathBuf,
    /// Names of the classes, one a line, in the order of the classifier's rows [default: those that `export` has put into the folder].
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    naming: NamingFlags,
}

pub(super) fn run(args: &ImportArgs, output: &Output) -> Result<()> {
    let bundle = args.trust.open(&args.bundle)?;
    let (peft, store, labels) = (args.peft.clone(), args.output.clone(), args.labels.clone());
    let request = ImportRequest { peft, output: store, labels, naming: args.naming.naming() };
    let report = import_peft(&bundle, &request)?;
    report.warnings().for_each(|warning| tell(format_args!("warning: {warning}")));
    output.result(&report, describe)
}

fn describe(report: &ImportReport) -> String {
    let site = |site: &ImportedSite| {
        let (name, rank) = (plain(&site.name), count(site.rank, "pair"));
        let fused = match site.fused {
            true => format!(", the smallest of them in the delta, which rounds by up to {:.1e}", site.max_error),
            false => String::new(),
        };
        format!("  {name:<40} {rank} of {}{fused}\n", plain(&site.module))
    };
    let head = format!("{}: {}\n", plain(&report.store), count(report.classes.len(), "class"));
    [head].into_iter().chain(report.sites.iter().map(site)).collect()
}
