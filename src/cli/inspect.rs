//! `srlora inspect`.

use super::args::InspectArgs;
use super::output::{Output, count, size};
use crate::error::Result;
use crate::session::{Inspection, inspect};

pub(super) fn run(args: &InspectArgs, output: &Output) -> Result<()> {
    output.result(&inspect(&args.path)?, describe)
}

fn describe(found: &Inspection) -> String {
    let mut text = format!("{}: {}", found.kind, count(found.sites.len(), "site"));
    if let (Some(rank), Some(precision)) = (found.rank, &found.precision) {
        text += &format!(", rank {rank}, precision {precision}");
    }
    text += &format!("\nbackbone sha256 {}\n", found.backbone_sha256);
    for site in &found.sites {
        text +=
            &format!("  {:<40} {:>5} x {:<5} {:>3} directions\n", site.name, site.out_dim, site.in_dim, site.reserve);
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
        lesson.classes.join(", ")
    );
    let events = found.events.as_deref().unwrap_or_default();
    text += &format!("{}\n", count(events.len(), "recomposition"));
    for event in events {
        text += &format!(
            "  step {:>5}  {:<32} pair {:>2} -> direction {:>3}  importance {:.2e}  largest error {:.1e}\n",
            event.step, event.site, event.pair, event.direction, event.importance, event.max_error
        );
    }
    text
}
