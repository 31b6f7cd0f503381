//! `srlora inspect`.

use super::args::InspectArgs;
use super::output::{Output, count, in_flags, percent, plain, size, tell};
use super::picture::line;
use crate::bundle::write_new;
use crate::error::{Error, ErrorKind, Result};
use crate::report::chart::importance;
use crate::session::{Event, History, InspectedSite, Inspection, Outcome, Trial, history, inspect};

pub(super) fn run(args: &InspectArgs, output: &Output) -> Result<()> {
    let trust = args.trust.read()?;
    let mut found = inspect(&args.path, trust.as_ref())?;
    found.warning = found.warning.as_deref().map(in_flags);
    if let Some(warning) = &found.warning {
        tell(format_args!("warning: {warning}"));
    }
    let wants_picture = args.events || args.svg.is_some();
    if wants_picture && found.kind != "store" {
        let message = "is a bundle: --events and --svg tell of a store";
        return Err(Error::new(ErrorKind::Usage, args.path.display(), message));
    }
    if let Some(record) = found.lesson.as_ref().filter(|_| wants_picture) {
        found.importance = Some(history(&args.path, record)?);
    }
    if let (Some(file), Some(sites)) = (&args.svg, &found.importance) {
        write_new(file, importance::file(sites, found.events.as_deref().unwrap_or_default()).as_bytes())?;
    }
    output.result(&found, |found| describe(found) + &if args.events { ledger(found) } else { String::new() })
}

/// Every recomposition, and each site's importance over the lesson with marks where pairs started anew.
fn ledger(found: &Inspection) -> String {
    let events = found.events.as_deref().unwrap_or_default();
    let rows = events.iter().map(|event| {
        format!(
            "  step {:>5}  {:<32} pair {:>2} -> direction {:>3}  importance {:.2e}  largest error {:.1e}  {}\n",
            event.step,
            plain(&event.site),
            event.pair,
            event.direction,
            event.importance,
            event.max_error,
            outcome(event.outcome)
        )
    });
    rows.collect::<String>() + &courses(events, &found.importance.iter().flatten().collect::<Vec<_>>())
}

fn courses(events: &[Event], sites: &[(&String, &History)]) -> String {
    let Some(end) = sites.iter().filter_map(|(_, history)| history.steps.last()).max() else {
        return "importance was not noted\n".to_owned();
    };
    let width = sites.iter().map(|(name, _)| plain(name).chars().count()).max().unwrap_or(0);
    let course = |(name, history): &(&String, &History)| {
        let own: Vec<&Event> = events.iter().filter(|event| event.site == **name).collect();
        let [course, marks] = line(history, &own);
        format!("  {:<width$} {course}\n  {:<width$} {}\n", plain(name), "", marks.trim_end())
    };
    format!(
        "importance of each site's most important pair, six powers of ten below its largest, step 1 to {end}; ^ pairs fused and \
         started anew, x taken back\n{}",
        sites.iter().map(course).collect::<String>()
    )
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Open => "open",
        Outcome::Kept => "kept",
        Outcome::Undone => "taken back",
    }
}

/// "96 recompositions: 90 kept, 6 open".
fn recompositions(events: &[Event]) -> String {
    let of = |wanted: Outcome| events.iter().filter(|event| event.outcome == wanted).count();
    let parts = [Outcome::Kept, Outcome::Undone, Outcome::Open].map(|wanted| (of(wanted), outcome(wanted)));
    let told: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let told = if told.is_empty() { String::new() } else { format!(": {}; --events lists them", told.join(", ")) };
    format!("{}{told}\n", count(events.len(), "recomposition"))
}

/// "there are generations 1 and 2; 3 kept aside; ...", each where there is one.
fn kept(found: &Inspection) -> String {
    let list = |numbers: &Option<Vec<u64>>| {
        let numbers: Vec<String> = numbers.iter().flatten().rev().map(u64::to_string).collect();
        (!numbers.is_empty()).then(|| numbers.join(", "))
    };
    let parts = [
        list(&found.generations).map(|numbers| format!("kept: {numbers}")),
        list(&found.aside).map(|numbers| format!("aside: {numbers}")),
        found.steps_under_way.map(|steps| format!("a lesson under way, after step {steps}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ") + "\n"
}

fn describe(found: &Inspection) -> String {
    let mut text = format!("{}: {}", found.kind, count(found.sites.len(), "site"));
    if let Some(rank) = found.rank {
        text += &format!(", rank {rank}");
    }
    text += &format!(", precision {}\nbackbone sha256 {}\n", found.precision, found.backbone_sha256);
    for InspectedSite { site, unused, found } in &found.sites {
        let (name, reserve) = (plain(&site.name), found.unwrap_or(site.reserve.max(unused.unwrap_or(0))));
        let source = if found.is_some() { " from photos" } else { "" };
        text += &format!("  {name:<40} {:>5} x {:<5} {reserve:>3} directions{source}", site.out_dim, site.in_dim);
        text += &unused.map(|unused| format!(", {unused} of them unused")).unwrap_or_default();
        text += "\n";
    }
    if let Some(release) = found.release {
        text += &format!("release {release}\n");
    }
    if let Some(signed) = found.signed {
        text += match (signed, found.verified) {
            (true, true) => "signed with that key\n",
            (true, false) => "signed; --verify-key says by whom\n",
            (false, _) => "not signed\n",
        };
    }
    if let Some(preprocess) = &found.preprocess {
        let preset = found.preset.map_or_else(|| "no preset".to_owned(), |name| format!("preset {name}"));
        text += &format!("photos: {preprocess} ({preset})\n");
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
        lesson.lesson.method,
        lesson.steps,
        lesson.lesson.seed,
        plain(lesson.classes.join(", "))
    );
    if let Some(imported) = &lesson.imported {
        text += &format!(
            "imported from {}; rounding has left an error of {:.1e} at most\n",
            plain(&imported.format),
            imported.max_error
        );
    }
    text += &match &lesson.trial {
        Some(Trial { before, after, photos, .. }) => {
            format!("trial: {} before, {} after, on {}\n", percent(*before), percent(*after), count(*photos, "photo"))
        }
        None => "trial: none\n".to_owned(),
    };
    text += &kept(found);
    text + &recompositions(found.events.as_deref().unwrap_or_default())
}
