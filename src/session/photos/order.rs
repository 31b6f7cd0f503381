//! Chance that depends on a seed and a place alone.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The order in which an epoch visits `len` photos: each once, decided by `seed` and `epoch` alone.
#[must_use]
pub fn order(seed: u64, epoch: u64, len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    order.shuffle(&mut stream(*b"order   ", [seed, epoch, 0]));
    order
}

/// The order of an epoch in which every class comes up as often as the others, whatever it has: as many photos as there are, each class's
/// in turn, decided by `seed` and `epoch` alone. `classes` has the class of each photo.
#[must_use]
pub(crate) fn balanced_order(seed: u64, epoch: u64, classes: &[usize]) -> Vec<usize> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    classes.iter().enumerate().for_each(|(photo, class)| members.entry(*class).or_default().push(photo));
    let share = classes.len().div_ceil(members.len().max(1));
    let mut order = Vec::with_capacity(share * members.len());
    for (class, own) in members {
        let first = epoch * share as u64;
        let mut round = (u64::MAX, Vec::new());
        for at in first..first + share as u64 {
            let (number, nth) = (at / own.len() as u64, (at % own.len() as u64) as usize);
            if number != round.0 {
                let mut shuffled = own.clone();
                shuffled.shuffle(&mut stream(*b"round   ", [seed, class as u64, number]));
                round = (number, shuffled);
            }
            order.push(round.1[nth]);
        }
    }
    order.shuffle(&mut stream(*b"balanced", [seed, epoch, 0]));
    order.truncate(classes.len());
    order
}

/// The random numbers of one purpose at one place: independent of all others, and the same wherever a run is taken up.
pub(crate) fn stream(purpose: [u8; 8], at: [u64; 3]) -> ChaCha8Rng {
    let mut seed = [0; 32];
    let words = [purpose, at[0].to_le_bytes(), at[1].to_le_bytes(), at[2].to_le_bytes()];
    seed.copy_from_slice(words.as_flattened());
    ChaCha8Rng::from_seed(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_come_up_equally_often_and_each_photo_in_turn() {
        // 12 photos of class 0, 3 of class 1.
        let classes: Vec<usize> = (0..15).map(|photo| usize::from(photo >= 12)).collect();
        let mut seen = [0usize; 15];
        for epoch in 0..12 {
            let order = balanced_order(7, epoch, &classes);
            assert_eq!((order.len(), &order), (15, &balanced_order(7, epoch, &classes)));
            let of_one = order.iter().filter(|photo| classes[**photo] == 1).count();
            assert!((7..=8).contains(&of_one), "{of_one} of 15");
            order.iter().for_each(|photo| seen[*photo] += 1);
        }
        let spread = |photos: &[usize]| photos.iter().max().unwrap() - photos.iter().min().unwrap();
        assert!(spread(&seen[..12]) <= 3 && spread(&seen[12..]) <= 6, "{seen:?}");
        assert!(balanced_order(0, 0, &[]).is_empty());
        assert_ne!(balanced_order(7, 0, &classes), balanced_order(8, 0, &classes));
    }
}
