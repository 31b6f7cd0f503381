//! What a classifier's scores say: the guess, the best few, and how likely each class is.

use crate::core::softmax;

/// The first of the largest.
pub(crate) fn argmax(scores: &[f32]) -> usize {
    let better = |best: usize, at: usize| if scores[at] > scores[best] { at } else { best };
    (0..scores.len()).reduce(better).unwrap_or(0)
}

/// The `most` largest, best first; of equal ones the first. Only these are sorted.
pub(crate) fn best(scores: &[f32], most: usize) -> Vec<usize> {
    let better = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    let mut order: Vec<usize> = (0..scores.len()).collect();
    if most < order.len() {
        order.select_nth_unstable_by(most, better);
        order.truncate(most);
    }
    order.sort_unstable_by(better);
    order
}

/// Makes probabilities in 0..1 of scores: the softmax of scores / temperature. A model's own output may be logits or, where it ends in a
/// softmax, probabilities already; these stay as they are.
pub(crate) fn probabilities(scores: &mut [f32], own_classifier: bool, temperature: f32) {
    if !(own_classifier && is_distribution(scores)) {
        scores.iter_mut().for_each(|score| *score /= temperature);
        softmax(scores);
    }
}

fn is_distribution(scores: &[f32]) -> bool {
    let sum: f64 = scores.iter().map(|&score| f64::from(score)).sum();
    scores.iter().all(|score| (0.0..=1.0).contains(score)) && (sum - 1.0).abs() < 1e-3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_those_of_a_stable_sort_of_all() {
        let scores: Vec<f32> = (0..500u32).map(|n| (n * 7919 % 97) as f32).collect();
        let mut sorted: Vec<usize> = (0..scores.len()).collect();
        sorted.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        for most in [0, 1, 5, 499, 500, 600] {
            assert_eq!(best(&scores, most), sorted[..most.min(500)]);
        }
        assert_eq!(argmax(&scores), sorted[0]);
    }

    #[test]
    fn logits_become_their_softmax_and_probabilities_stay() {
        let softened = |scores: [f32; 3], own| {
            let mut scores = scores;
            probabilities(&mut scores, own, 1.0);
            scores
        };
        let given = [0.2, 0.5, 0.3];
        assert_eq!(softened(given, true), given);
        // A head's logits are logits, whatever they look like: exp(0.2), exp(0.5), exp(0.3) over their sum.
        for (found, expected) in softened(given, false).into_iter().zip([0.289_433, 0.390_694, 0.319_873]) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        assert!((softened([2.0, 0.0, -1.0], true)[0] - 0.843_795).abs() < 1e-5);
        let mut twice = [4.0, 0.0, -2.0];
        probabilities(&mut twice, false, 2.0);
        assert!((twice[0] - 0.843_795).abs() < 1e-5);
    }
}
