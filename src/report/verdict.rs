//! What a lesson's trial has decided, and why, in a sentence.

use super::words::{count, percent, plain};
use crate::session::{CrossValidation, Known, TrainReport, Trial, TrialPhotos};

/// Why a lesson is what counts now.
pub(crate) fn why_kept(trial: &Trial) -> String {
    let (before, after) = (percent(trial.before), percent(trial.after));
    let photos = count(trial.photos, "photo");
    if trial.known.is_empty() {
        return match trial.on {
            TrialPhotos::CrossValidated => format!(
                "with each of {photos} left out once, imprinting gets {before} right and lessons {after}: that is not shown to be worse"
            ),
            TrialPhotos::LeftOut => format!(
                "no photo was held back, so this is a weak test: of {photos}, imprinting gets {before} right, each left out of its \
                 class, and the lesson {after}, all of which it has seen"
            ),
            _ => {
                let how = if trial.after > trial.before { "better" } else { "no worse" };
                format!(
                    "on {photos} that were held back, imprinting gets {before} right and the lesson {after}: it is {how}"
                )
            }
        };
    }
    let all = trial.all.map_or_else(String::new, |all| {
        let [imprinted, after] = [all.imprinted, all.after].map(percent);
        format!("; all classes together are at {after}, where imprinting them gets {imprinted}")
    });
    format!(
        "of the classes known before, {before} were recognized and {after} are now, on {}; none of them is lost{all}",
        judged_on(trial)
    )
}

/// Why a lesson is not what counts.
pub(crate) fn why_aside(trial: Option<&Trial>) -> String {
    let Some(Trial { on, before, after, known, all, .. }) = trial else {
        return "nothing says whether the lesson is better than what was there: no class has two photos, or how known ones look is \
                not known, and none was held back (--val)"
            .to_owned();
    };
    let photos = match on {
        TrialPhotos::HeldBack => "on photos held back",
        TrialPhotos::Replayed => "on what was held back",
        TrialPhotos::Seen => "on the photos and examples trained on",
        TrialPhotos::CrossValidated => "on the training photos, each left out once",
        TrialPhotos::LeftOut if known.is_empty() => "on the training photos, against imprinting on each one left out",
        TrialPhotos::LeftOut => "on the training photos",
        TrialPhotos::MadeUp => "on made-up features of the known classes",
    };
    let (before, after) = (percent(*before), percent(*after));
    if known.is_empty() {
        return format!("the lesson is no better than what was there ({after} against {before} {photos})");
    }
    let lost: Vec<String> = trial.iter().flat_map(|trial| trial.lost()).map(|class| plain(&class.class)).collect();
    if !lost.is_empty() {
        return format!("too little is left of {}, {photos}", lost.join(", "));
    }
    match all {
        Some(all) if all.after < all.imprinted => format!(
            "the lesson is no better than imprinting all classes ({} against {} {photos})",
            percent(all.after),
            percent(all.imprinted)
        ),
        _ => format!("the classes that were known are recognized worse ({after} against {before} {photos})"),
    }
}

/// What has become of a lesson and why, for who has no flags to set.
pub(crate) fn in_short(report: &TrainReport) -> String {
    match (report.aside, &report.trial) {
        (None, Some(trial)) if trial.known.is_empty() && trial.on == TrialPhotos::LeftOut => format!(
            "Kept. No photo was held back, so only its own {} could be looked at: it recognizes {} of them. Class means alone get {}, each \
             photo left out of its own.",
            count(trial.photos, "photo"),
            percent(trial.after),
            percent(trial.before)
        ),
        (None, Some(trial)) => format!("Kept: {}.", why_kept(trial)),
        (None, None) => "The classes are imprinted, and this counts now.".to_owned(),
        (Some(_), Some(trial)) => format!("Kept aside, and all is as it was: {}.", why_aside(Some(trial))),
        (Some(_), None) => {
            "Kept aside, and all is as it was: no class has two photos, so nothing says whether the lesson is better."
                .to_owned()
        }
    }
}

/// How many photos, or examples, a further lesson was judged on.
fn judged_on(trial: &Trial) -> String {
    let (noun, which) = match trial.on {
        TrialPhotos::MadeUp => ("made-up feature vector", ""),
        TrialPhotos::HeldBack => ("validation photo", ""),
        TrialPhotos::Replayed => ("example", " held back"),
        TrialPhotos::Seen => ("example", " trained on"),
        TrialPhotos::LeftOut | TrialPhotos::CrossValidated => ("training photo", ""),
    };
    count(trial.photos, noun) + which
}

/// What a further lesson makes of the classes that were known.
pub(crate) fn known(trial: &Trial) -> String {
    if trial.known.is_empty() {
        return String::new();
    }
    let (before, after) = (percent(trial.before), percent(trial.after));
    let mut text = format!("classes known before: {before} as they were, {after} now, on {}\n", judged_on(trial));
    for Known { class, before, after, .. } in trial.known.iter().filter(|class| class.after < class.before) {
        text += &format!("  {}: {}, now {}\n", plain(class), percent(*before), percent(*after));
    }
    text
}

/// How a lesson on few photos was cross-validated.
pub(crate) fn cross_validated(cross_validation: CrossValidation) -> String {
    let CrossValidation { photos, imprinted, head, pairs, .. } = cross_validation;
    let learn =
        if cross_validation.pairs_help() { "so pairs learn" } else { "so pairs rest and the head learns alone" };
    format!(
        "of {photos} photos left out in turn, imprinting gets {imprinted} right, the head alone {head}, with pairs {pairs}: {learn}\n"
    )
}

/// That pairs rested, where a cross-validation does not say so.
pub(crate) fn rested(report: &TrainReport) -> Option<String> {
    let rested = report.rested_steps.filter(|steps| *steps > 0 && report.cross_validation.is_none())?;
    let why = match report.left_out_accuracy {
        Some(_) => "imprinting alone may get nine of ten photos right, so",
        None => "no class has two photos to tell what they bring, and",
    };
    Some(format!(
        "pairs rested in {rested} of {} steps, while the loss was low: {why} they could only have learned the photos by heart\n",
        report.steps
    ))
}
