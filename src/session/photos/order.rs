//! Chance that depends on a seed and a place alone.

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

/// The random numbers of one purpose at one place: independent of all others, and the same wherever a run is taken up.
pub(crate) fn stream(purpose: [u8; 8], at: [u64; 3]) -> ChaCha8Rng {
    let mut seed = [0; 32];
    let words = [purpose, at[0].to_le_bytes(), at[1].to_le_bytes(), at[2].to_le_bytes()];
    seed.copy_from_slice(words.as_flattened());
    ChaCha8Rng::from_seed(seed)
}
