//! What a comparison comes to: a line for each contender.

use serde::Serialize;

use super::Finished;
use super::contenders::{Contender, REFERENCE};
use super::ledger::{ComparisonSettings, Run};
use super::rates::{self, RateTried};
use super::statistics::{Difference, deviation, difference, mean};
use crate::session::photos::Ignored;
use crate::session::process::median;

/// What `compare` answers; times in seconds or milliseconds, sizes in bytes, accuracies in 0..1.
#[derive(Debug, Clone, Serialize)]
pub struct ComparisonReport {
    /// What all runs share.
    pub settings: ComparisonSettings,
    /// Runs of each contender.
    pub seeds: u32,
    /// Class names.
    pub classes: Vec<String>,
    /// Photos trained on.
    pub train_images: usize,
    /// Photos that accuracy was measured on.
    pub val_images: usize,
    /// The contenders.
    pub methods: Vec<Standing>,
    /// Every run: by contender, those that chose its rate first.
    pub runs: Vec<Run>,
    /// Photos of formats that are not read.
    pub ignored: Vec<Ignored>,
}

/// How a contender did.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// Its name.
    pub method: String,
    /// What it does.
    pub about: String,
    /// The rate of its pairs; null without pairs.
    pub lr: Option<f32>,
    /// The rate of its head; null where it is only imprinted.
    pub head_lr: Option<f32>,
    /// The rates that it was chosen from; empty where there was no choice.
    pub rates: Vec<RateTried>,
    /// Accuracy of each seed.
    pub accuracies: Vec<f64>,
    /// Their mean.
    pub accuracy_mean: f64,
    /// Their standard deviation; null of a single seed.
    pub accuracy_sd: Option<f64>,
    /// To lora with the same seed; null without lora.
    pub difference_to_lora: Option<Difference>,
    /// The first measured step at which its mean accuracy is lora's at the end; null where it never is, or without lora.
    pub steps_to_lora: Option<u64>,
    /// The same as a share of all steps of lora.
    pub steps_to_lora_share: Option<f64>,
    /// (step, mean accuracy).
    pub curve: Vec<(u64, f64)>,
    /// Optimizer steps.
    pub steps: u64,
    /// Numbers that the optimizer moves.
    pub trainable_params: usize,
    /// Mean number of pairs that were fused and started anew.
    pub recompositions: f64,
    /// Mean number of these that were taken back.
    pub undone: f64,
    /// Runs in which pairs rested, as they had not helped on photos left out.
    pub rested: usize,
    /// Median time of one batch, the prefix's outputs at hand.
    pub step_ms_median: Option<f64>,
    /// Mean time to imprint and train, the prefix's outputs at hand.
    pub seconds: f64,
    /// The largest resident size of the process during its runs; null where the system cannot tell.
    pub peak_rss_bytes: Option<u64>,
}

pub(super) fn report(
    settings: &ComparisonSettings,
    seeds: u32,
    classes: Vec<String>,
    finished: Vec<Finished>,
) -> ComparisonReport {
    let reference = finished.iter().find(|(contender, ..)| contender.name == REFERENCE).map(|(.., runs)| &runs[..]);
    let methods = finished.iter().map(|(contender, tried, runs)| standing(contender, tried, runs, reference)).collect();
    let runs: Vec<Run> = finished.iter().flat_map(|(_, tried, runs)| tried.iter().chain(runs)).cloned().collect();
    let last = finished.first().and_then(|(.., runs)| runs.last());
    ComparisonReport {
        settings: settings.clone(),
        seeds,
        classes,
        train_images: last.map_or(0, |run| run.images),
        val_images: last.map_or(0, |run| run.val_images),
        methods,
        runs,
        ignored: Vec::new(),
    }
}

fn standing(contender: &Contender, tried: &[Run], runs: &[Run], reference: Option<&[Run]>) -> Standing {
    let accuracies = accuracies(runs);
    let curve = mean_curve(runs);
    let goal = reference.and_then(|runs| Some((*mean_curve(runs).last()?, runs)));
    let reached = goal.and_then(|((_, goal), _)| curve.iter().find(|(_, accuracy)| *accuracy >= goal));
    let first = runs.first();
    let over = |figure: fn(&Run) -> f64| mean(&runs.iter().map(figure).collect::<Vec<_>>()).unwrap_or(0.0);
    Standing {
        method: contender.name.to_owned(),
        about: contender.about.to_owned(),
        lr: first.and_then(|run| run.key.lr),
        head_lr: first.and_then(|run| run.key.head_lr),
        rates: rates::tried(contender, tried),
        accuracy_mean: mean(&accuracies).unwrap_or(0.0),
        accuracy_sd: deviation(&accuracies),
        difference_to_lora: reference.and_then(|lora| difference(&accuracies, &self::accuracies(lora))),
        steps_to_lora: reached.map(|(step, _)| *step),
        steps_to_lora_share: reached.zip(goal).map(|((step, _), ((all, _), _))| *step as f64 / (all.max(1)) as f64),
        steps: first.map_or(0, |run| run.steps),
        trainable_params: first.map_or(0, |run| run.trainable_params),
        recompositions: over(|run| run.recompositions as f64),
        undone: over(|run| run.undone as f64),
        rested: runs
            .iter()
            .filter(|run| run.cross_validation.is_some_and(|cross_validation| !cross_validation.pairs_help()))
            .count(),
        step_ms_median: median(runs.iter().filter_map(|run| run.step_ms_median).collect()),
        seconds: over(|run| run.seconds),
        peak_rss_bytes: runs.iter().filter_map(|run| run.peak_rss_bytes).max(),
        accuracies,
        curve,
    }
}

fn accuracies(runs: &[Run]) -> Vec<f64> {
    runs.iter().filter_map(|run| run.accuracy).collect()
}

/// Mean accuracy at every step that was measured; all runs of a contender measure at the same.
fn mean_curve(runs: &[Run]) -> Vec<(u64, f64)> {
    let steps = runs.first().map(|run| &run.curve[..]).unwrap_or_default().iter().map(|(step, _)| *step);
    let at = |nth: usize| mean(&runs.iter().filter_map(|run| Some(run.curve.get(nth)?.1)).collect::<Vec<_>>());
    steps.enumerate().filter_map(|(nth, step)| Some((step, at(nth)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ledger::{Key, Purpose};
    use super::*;

    fn runs(curves: &[[f64; 4]]) -> Vec<Run> {
        let run = |(seed, curve): (usize, &[f64; 4])| Run {
            key: Key { method: String::new(), purpose: Purpose::Result, seed: seed as u64, lr: None, head_lr: None },
            accuracy: Some(curve[3]),
            curve: (0..).step_by(10).zip(*curve).collect(),
            train_loss: None,
            steps: 30,
            images: 4,
            val_images: 4,
            trainable_params: 7,
            recompositions: seed,
            threads: 1,
            step_ms_median: Some(seed as f64),
            seconds: 1.0,
            undone: 0,
            cross_validation: None,
            peak_rss_bytes: Some(seed as u64),
        };
        curves.iter().enumerate().map(run).collect()
    }

    #[test]
    fn a_method_reaches_loras_end_where_its_mean_first_is_as_high() {
        let lora = runs(&[[0.1, 0.3, 0.5, 0.6], [0.1, 0.5, 0.7, 0.8]]);
        // Its mean is 0.1, 0.5, 0.7, 0.65: one seed alone is there after 10 steps.
        let better = runs(&[[0.1, 0.9, 0.7, 0.7], [0.1, 0.1, 0.7, 0.6]]);
        let contender = Contender::named("srlora").unwrap();
        let standing = |runs: &[Run], reference| super::standing(contender, &[], runs, reference);
        let found = standing(&better, Some(&lora));
        assert_eq!((found.steps_to_lora, found.steps_to_lora_share), (Some(20), Some(20.0 / 30.0)));
        let difference = found.difference_to_lora.unwrap();
        // +0.1 and -0.2: their deviation is 0.3 / sqrt(2), over sqrt(2).
        assert!((difference.mean + 0.05).abs() < 1e-12);
        assert!((difference.standard_error.unwrap() - 0.15).abs() < 1e-12);
        assert_eq!((found.recompositions, found.step_ms_median, found.peak_rss_bytes), (0.5, Some(0.5), Some(1)));

        let itself = standing(&lora, Some(&lora));
        assert_eq!((itself.steps_to_lora, itself.difference_to_lora.unwrap().mean), (Some(30), 0.0));
        let worse = standing(&runs(&[[0.1, 0.2, 0.3, 0.4]]), Some(&lora));
        assert_eq!((worse.steps_to_lora, worse.accuracy_sd), (None, None));
        let alone = standing(&better, None);
        assert_eq!((alone.steps_to_lora_share, alone.difference_to_lora), (None, None));
    }
}
