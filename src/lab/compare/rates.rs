//! The choice of a learning rate, on the training photos alone.

use std::collections::BTreeMap;

use serde::Serialize;

use super::contenders::Contender;
use super::ledger::Run;
use crate::error::{Error, ErrorKind, Result};
use crate::session::photos::Dataset;
use crate::session::progress::{Audience, Progress};

/// Share of every class of the training photos that a rate is judged on.
const HELD_OUT: f64 = 0.25;

/// A rate, and what it came to on training photos held out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RateTried {
    /// The rate.
    pub rate: f32,
    /// Share of the photos held out in any try that were classified right; null where the loss stopped being a number.
    pub accuracy: Option<f64>,
}

/// Every rate of these runs with its accuracy, the smallest first.
pub(super) fn tried(contender: &Contender, runs: &[Run]) -> Vec<RateTried> {
    let mut rates: Vec<f32> = runs.iter().filter_map(|run| contender.rate(run)).collect();
    rates.sort_by(f32::total_cmp);
    rates.dedup();
    let of = |rate: f32| runs.iter().filter(move |run| contender.rate(run) == Some(rate));
    let accuracy = |rate| {
        // Counted, so that equal is equal whatever the order of the tries.
        let right = |run: &Run| Some((run.accuracy? * run.val_images as f64).round());
        let sum: Option<f64> = of(rate).map(right).sum();
        sum.map(|right| right / of(rate).map(|run| run.val_images).sum::<usize>() as f64)
    };
    rates.into_iter().map(|rate| RateTried { rate, accuracy: accuracy(rate) }).collect()
}

/// The rate with the best accuracy; of equal ones the smallest.
///
/// # Errors
/// Kind `Diverged` where none has an accuracy.
pub(super) fn best(contender: &Contender, runs: &[Run]) -> Result<f32> {
    let mut best: Option<(f64, f32)> = None;
    for (accuracy, rate) in tried(contender, runs).iter().filter_map(|tried| Some((tried.accuracy?, tried.rate))) {
        if best.is_none_or(|(most, _)| accuracy > most) {
            best = Some((accuracy, rate));
        }
    }
    best.map(|(_, rate)| rate).ok_or_else(|| {
        let message = "with none of the rates does the loss stay a number; try smaller ones";
        Error::new(ErrorKind::Diverged, contender.name, message)
    })
}

/// The training photos in two, anew for each try: most to try rates with, the rest to judge them.
#[derive(Default)]
pub(super) struct Splits(BTreeMap<u64, (Dataset, Dataset)>);

impl Splits {
    /// The split of the try `seed`, the same for all contenders.
    ///
    /// # Errors
    /// Kind `Data` where no class has a photo to spare.
    pub(super) fn of(&mut self, seed: u64, data: &Dataset, audience: &mut Audience) -> Result<&(Dataset, Dataset)> {
        let single: Vec<&str> = data.single().iter().map(|class| data.classes[*class].as_str()).collect();
        if single.len() == data.classes.len() {
            let message = "no class has two photos, so none can be held out to choose a learning rate on; add photos, or \
                           give one rate: option `lrs` 3e-3 option `head_lrs` 1e-3";
            return Err(Error::new(ErrorKind::Data, data.place(), message));
        }
        if self.0.is_empty() && !single.is_empty() {
            let message = "a class of a single photo has no say in the choice of learning rates";
            audience.tell(Progress::Warning(&format!("{message}: {}", single.join(", "))));
        }
        Ok(self.0.entry(seed).or_insert_with(|| data.divided(HELD_OUT, seed)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::{Key, Purpose};
    use super::*;

    fn run(lr: f32, seed: u64, accuracy: Option<f64>) -> Run {
        let key = Key { method: "lora".into(), purpose: Purpose::Rate, seed, lr: Some(lr), head_lr: Some(1.0) };
        Run {
            key,
            accuracy,
            curve: Vec::new(),
            train_loss: None,
            steps: 1,
            images: 1,
            val_images: 10,
            trainable_params: 1,
            recompositions: 0,
            threads: 1,
            step_ms_median: None,
            seconds: 0.0,
            undone: 0,
            cross_validation: None,
            peak_rss_bytes: None,
        }
    }

    #[test]
    fn of_equal_rates_the_smallest_is_chosen_and_one_without_a_loss_never() {
        let lora = Contender::named("lora").unwrap();
        let runs = [(3e-2, 0, None), (1e-2, 0, Some(0.8)), (3e-3, 0, Some(0.8)), (1e-3, 0, Some(0.5))];
        let runs = runs.map(|(lr, seed, accuracy)| run(lr, seed, accuracy));
        assert_eq!(best(lora, &runs).unwrap(), 3e-3);
        let error = best(lora, &runs[..1]).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::Diverged, "lora"));
    }

    #[test]
    fn tries_are_counted_together_and_all_of_them_must_end() {
        let lora = Contender::named("lora").unwrap();
        // As sums of floats, 0.1 + 0.7 + 0.3 and 0.3 + 0.1 + 0.7 differ.
        let accuracies = [(3e-3, [0.3, 0.1, 0.7]), (1e-2, [0.1, 0.7, 0.3]), (1e-3, [0.9, 0.1, 0.0])];
        let mut runs: Vec<Run> = Vec::new();
        for (lr, tries) in accuracies {
            runs.extend((0..).zip(tries).map(|(seed, accuracy)| run(lr, seed, Some(accuracy))));
        }
        let found = tried(lora, &runs);
        assert_eq!(found.iter().map(|tried| tried.rate).collect::<Vec<_>>(), [1e-3, 3e-3, 1e-2]);
        assert_eq!(
            found.iter().map(|tried| tried.accuracy).collect::<Vec<_>>(),
            [10, 11, 11].map(|n| Some(f64::from(n) / 30.0))
        );
        assert_eq!(best(lora, &runs).unwrap(), 3e-3);
        runs.push(run(3e-3, 3, None));
        assert_eq!(best(lora, &runs).unwrap(), 1e-2);
    }
}
