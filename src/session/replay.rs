//! The replay buffer: what the prefix has made of photos of earlier lessons, in int8.
//!
//! The prefix never learns, so these values never age: a further lesson runs the suffix on them as it does on new photos. Each class
//! keeps the examples of those photos whose hashes are least, which is a choice by chance that comes out the same wherever it is made, and
//! that goes on as photos are added (bottom-k sampling, a reservoir's equal).

use std::collections::BTreeMap;
use std::sync::Arc;

use half::f16;

use crate::core::int8_blocks;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::MOST_EXAMPLES;

/// Values that share a scale.
const BLOCK: usize = 32;

/// What the prefix has made of a photo: int8 codes, with a scale in f16 for every 32 of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Example {
    pub(crate) codes: Box<[i8]>,
    pub(crate) scales: Box<[f16]>,
}

impl Example {
    /// The nearest that there is.
    ///
    /// # Errors
    /// Kind `Internal` where the values are none.
    pub(crate) fn of(values: &[f32]) -> Result<Self> {
        let (mut codes, mut scales) = (vec![0; values.len()], vec![f16::ZERO; Self::scales_of(values.len())]);
        int8_blocks(values, values.len(), BLOCK, &mut codes, &mut scales)
            .map_err(|e| Error::new(ErrorKind::Internal, "replay", e))?;
        Ok(Example { codes: codes.into(), scales: scales.into() })
    }

    /// Scales of an example of so many values.
    pub(crate) const fn scales_of(values: usize) -> usize {
        values.div_ceil(BLOCK)
    }

    /// The values that it stands for.
    pub(crate) fn values(&self) -> Vec<f32> {
        let blocks = self.codes.chunks(BLOCK).zip(&self.scales);
        let values = blocks.flat_map(|(codes, scale)| codes.iter().map(|code| f32::from(*code) * scale.to_f32()));
        values.collect()
    }
}

/// An example in its class.
#[derive(Debug, Clone, PartialEq)]
struct Kept {
    class: usize,
    /// The first bytes of the photo's hash.
    key: u64,
    example: Arc<Example>,
}

/// Examples of every class, within a limit that all classes share evenly.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Replay {
    /// Bytes that they may take.
    limit: u64,
    /// By class, and by key within one; all of one length.
    kept: Vec<Kept>,
}

impl Replay {
    /// None yet, and room for `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Replay { limit, kept: Vec::new() }
    }

    /// These, within a limit.
    pub(crate) fn of(limit: u64, examples: impl IntoIterator<Item = (usize, u64, Example)>) -> Self {
        let kept = |(class, key, example): (usize, u64, Example)| Kept { class, key, example: Arc::new(example) };
        let mut kept: Vec<Kept> = examples.into_iter().map(kept).collect();
        kept.sort_by_key(|kept| (kept.class, kept.key));
        kept.dedup_by_key(|kept| (kept.class, kept.key));
        let values = kept.first().map_or(0, |kept| kept.example.codes.len());
        kept.retain(|kept| kept.example.codes.len() == values);
        let mut replay = Replay { limit, kept };
        replay.shrink();
        replay
    }

    /// Bytes that an example of `values` values takes.
    pub(crate) const fn example_bytes(values: usize) -> u64 {
        (values + size_of::<f16>() * Example::scales_of(values)) as u64
    }

    pub(crate) fn has_room(&self) -> bool {
        self.limit > 0
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Values of an example; 0 where there is none.
    pub(crate) fn values(&self) -> usize {
        self.kept.first().map_or(0, |kept| kept.example.codes.len())
    }

    /// Bytes of all examples.
    pub(crate) fn bytes(&self) -> u64 {
        self.len() as u64 * Self::example_bytes(self.values())
    }

    /// Each example with its class and its photo's key, by class.
    pub(crate) fn examples(&self) -> impl Iterator<Item = (usize, u64, &Example)> {
        self.kept.iter().map(|kept| (kept.class, kept.key, &*kept.example))
    }

    pub(crate) fn example(&self, at: usize) -> Option<&Example> {
        self.kept.get(at).map(|kept| &*kept.example)
    }

    /// Adds the example of the photo `key`, in place of one that there was of it, in whatever class; where there is no room, one of the
    /// classes that have most leaves. Those of another length belong to another network, and are not taken.
    pub(crate) fn add(&mut self, class: usize, key: u64, example: Example) {
        if !self.is_empty() && example.codes.len() != self.values() {
            return;
        }
        self.kept.retain(|kept| kept.key != key);
        let place = self.kept.partition_point(|kept| (kept.class, kept.key) < (class, key));
        self.kept.insert(place, Kept { class, key, example: Arc::new(example) });
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.bytes() > self.limit || self.len() > MOST_EXAMPLES {
            self.drop_one();
        }
    }

    /// The one with the greatest key leaves, of the class that has most; of several such classes, of the last.
    fn drop_one(&mut self) {
        let counts = self.counts();
        let Some((&class, _)) = counts.iter().max_by_key(|(class, count)| (**count, **class)) else { return };
        let end = self.kept.partition_point(|kept| kept.class <= class);
        self.kept.remove(end - 1);
    }

    /// Examples of each class that has any.
    pub(crate) fn counts(&self) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        self.kept.iter().for_each(|kept| *counts.entry(kept.class).or_insert(0) += 1);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(salt: usize) -> Example {
        let values: Vec<f32> = (0..70).map(|i| ((i * 7 + salt * 13) as f32).sin() * (1 + i / 32) as f32).collect();
        Example::of(&values).unwrap()
    }

    #[test]
    fn an_example_comes_back_within_half_a_code_of_each_block() {
        let values: Vec<f32> = (0..70).map(|i| (i as f32 * 0.9).sin() * 10f32.powi(i / 32)).collect();
        let example = Example::of(&values).unwrap();
        assert_eq!(example.codes.len() + 2 * example.scales.len(), Replay::example_bytes(70) as usize);
        for (block, back) in values.chunks(BLOCK).zip(example.values().chunks(BLOCK)) {
            let largest = block.iter().fold(0f32, |most, v| most.max(v.abs()));
            block.iter().zip(back).for_each(|(a, b)| assert!((a - b).abs() <= largest / 127.0 * 0.51, "{a} {b}"));
        }
    }

    #[test]
    fn classes_share_the_room_evenly_and_the_choice_does_not_depend_on_the_order() {
        let bytes = Replay::example_bytes(70);
        let filled = |order: &dyn Fn(usize) -> usize| {
            let mut replay = Replay::new(7 * bytes);
            // Class 0 has twenty, class 1 ten, class 2 two.
            for at in (0..32).map(order) {
                replay.add(if at < 20 { 0 } else { 1 + (at - 20) / 10 }, (at as u64 * 37) % 101, example(at));
            }
            replay
        };
        let forwards = filled(&|at| at);
        assert_eq!(forwards.counts(), BTreeMap::from([(0, 3), (1, 2), (2, 2)]));
        assert_eq!((forwards.bytes(), &forwards), (7 * bytes, &filled(&|at| 31 - at)));
    }

    #[test]
    fn a_photo_counts_once_in_the_class_that_it_was_seen_in_last() {
        let mut replay = Replay::new(1 << 20);
        for (class, key) in [(0, 1), (0, 2), (0, 1), (1, 3), (1, 2)] {
            replay.add(class, key, example(key as usize));
        }
        replay.add(1, 9, Example::of(&[1.0; 3]).unwrap());
        let kept = |replay: &Replay| replay.examples().map(|(class, key, _)| (class, key)).collect::<Vec<_>>();
        assert_eq!((kept(&replay), replay.values()), (vec![(0, 1), (1, 2), (1, 3)], 70));
        let all = || replay.examples().map(|(class, key, example)| (class, key, example.clone()));
        assert_eq!(Replay::of(1 << 20, all().chain(all())), replay);
        assert!(Replay::of(0, all()).is_empty());
    }
}
