//! `srlora pack`.

use super::args::PackArgs;
use super::output::{Meter, Output, count, in_flags, plain, quoted, shown, size, tell};
use crate::backbone::FeaturesFrom;
use crate::bundle::{PackReport, PackRequest, Preprocess, Preset, pack};
use crate::error::Result;

pub(super) fn run(args: &PackArgs, output: &Output) -> Result<()> {
    let request = PackRequest {
        model: args.model.clone(),
        output: args.output.clone(),
        rank: args.rank,
        reserve: args.reserve,
        sites: args.sites.clone(),
        features: args.features.clone(),
        labels: args.labels.clone(),
        size: args.input,
        preprocess: preprocess(args),
        precision: args.precision.into(),
        sign: args.sign.clone(),
        release: args.release,
    };
    let mut meter = Meter::new();
    let mut report = pack(&request, |what| meter.working(what))?;
    meter.end();
    if args.preset.is_none() && args.range.is_none() && args.mean.is_none() && args.std.is_none() {
        report.warn_unsaid();
    }
    for note in &report.notes {
        tell(format_args!("note: {note}"));
    }
    report.warnings.iter_mut().for_each(|warning| *warning = in_flags(warning));
    for warning in &report.warnings {
        tell(format_args!("warning: {warning}"));
    }
    output.result(&report, |report| describe(report, args))
}

/// The preset's values, or the defaults, but for what a flag of its own sets.
fn preprocess(args: &PackArgs) -> Preprocess {
    let preset = args.preset.map_or_else(Preprocess::default, Preset::preprocess);
    Preprocess {
        fit: args.fit.map_or(preset.fit, Into::into),
        range: args.range.unwrap_or(preset.range),
        mean: args.mean.unwrap_or(preset.mean),
        std: args.std.unwrap_or(preset.std),
        ..preset
    }
}

fn describe(report: &PackReport, args: &PackArgs) -> String {
    let bundle = shown(&args.output);
    let mut text = format!(
        "{bundle}: {} of rank {}, {}\n",
        count(report.sites.len(), "site"),
        report.rank,
        size(report.bundle_bytes)
    );
    for site in &report.sites {
        text += &format!(
            "  {:<40} {:>5} x {:<5} {:>3} directions",
            plain(&site.name),
            site.out_dim,
            site.in_dim,
            site.reserve
        );
        text += &site.rounding_error.map(|e| format!("   rounded by {:.2} %", e * 100.0)).unwrap_or_default();
        text += "\n";
    }
    let from = match report.features_from {
        FeaturesFrom::Flag => "as --features says",
        FeaturesFrom::Linear => "the input of the last linear layer",
        FeaturesFrom::Convolution => "the input of the 1x1 convolution that makes the classes",
        FeaturesFrom::Cosine => "what the cosine classifier brings to unit length",
        FeaturesFrom::Output => "the model's output",
    };
    text += &format!("features: {}, {from} ({} values)\n", plain(&report.features), report.feature_dim);
    text += &format!(
        "backbone {} ({}), directions {}; in memory {} of weights, {} of biases and other constants in fp32\n",
        size(report.backbone_bytes as u64),
        report.precision,
        size(report.directions_bytes as u64),
        size(report.weight_bytes as u64),
        size(report.f32_bytes as u64),
    );
    text += &format!(
        "checked: forward within {:.0e} of the file, gradients within {:.1} % of finite differences\n",
        report.forward_error,
        report.gradient_error * 100.0
    );
    text + &format!("next: srlora train {} --data PHOTOS -o my.store\n", quoted(&args.output))
}
