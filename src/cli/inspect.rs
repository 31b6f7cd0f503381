//! `srlora inspect`.

use super::args::InspectArgs;
use super::output::{Output, count, plain, size, tell};
use crate::error::Result;
use crate::session::{InspectedSite, Inspection, inspect};

pub(super) fn run(args: &InspectArgs, output: &Output) -> Result<()> {
    let found = inspect(&args.path)?;
    if let Some(warning) = &found.warning {
        tell(format_args!("warning: {warning}"));
    }
    output.result(&found, describe)
}

fn describe(found: &Inspection) -> String {
    let mut text = format!("{}: {}", found.kind, count(found.sites.len(), "site"));
    if let Some(rank) = found.rank {
        text += &format!(", rank {rank}");
    }
    text += &format!(", precision {}\nbackbone sha256 {}\n", found.precision, found.backbone_sha256);
    for InspectedSite { site, unused } in &found.sites {
        let (name, reserve) = (plain(&site.name), site.reserve);
        text += &format!("  {name:<40} {:>5} x {:<5} {reserve:>3} directions", site.out_dim, site.in_dim);
        text += &unused.map(|unused| format!(", {unused} of them unused")).unwrap_or_default();
        text += "\n";
    }
    if let Some(preprocess) = &found.preprocess {
        text += &format!("photos: {preprocess}\n");
    }
    let Some(lesson) = &found.lesson else {
        if let Some(bytes) = found.bytes {
            text += &format!("size {}\n", size(bytes));
        }
        return text;
    };
    text += &format!(
        "generation {}: {} after {} steps, seed {}, classes {}\n",
        found.generation.unwrap_or(0),
        lesson.method,
        lesson.steps,
        lesson.seed,
        plain(lesson.classes.join(", "))
    );
    let events = found.events.as_deref().unwrap_or_default();
    text += &format!("{}\n", count(events.len(), "recomposition"));
    for event in events {
        text += &format!(
            "  step {:>5}  {:<32} pair {:>2} -> direction {:>3}  importance {:.2e}  largest error {:.1e}\n",
            event.step,
            plain(&event.site),
            event.pair,
            event.direction,
            event.importance,
            event.max_error
        );
    }
    text
}
