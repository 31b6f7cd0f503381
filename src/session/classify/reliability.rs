//! Whether probabilities are right as often as they say, and whether photos of none of the classes stand out.

/// Bins of confidence.
const BINS: usize = 15;

/// Guesses by how sure they were.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reliability {
    /// Of each bin: photos, those that were right, and the sum of confidences.
    bins: [(usize, usize, f64); BINS],
}

impl Reliability {
    pub(crate) fn count(&mut self, confidence: f32, right: bool) {
        let bin = (f64::from(confidence) * BINS as f64) as usize;
        let (photos, rights, sum) = &mut self.bins[bin.min(BINS - 1)];
        (*photos, *rights, *sum) = (*photos + 1, *rights + usize::from(right), *sum + f64::from(confidence));
    }

    /// The expected calibration error in 0..1: sum over the bins of |right photos - sum of confidences| / all photos (Guo et al.,
    /// arXiv 1706.04599). `None` without photos.
    pub(crate) fn error(&self) -> Option<f64> {
        let photos: usize = self.bins.iter().map(|(photos, ..)| photos).sum();
        let gaps: f64 = self.bins.iter().map(|(_, right, sum)| (*right as f64 - sum).abs()).sum();
        (photos > 0).then(|| gaps / photos as f64)
    }
}

/// How well a score tells known photos from unknown ones: the share of pairs of one each in which the known one has the larger score, equal
/// ones by half (the area under the ROC curve). `None` where there are none of either.
pub(crate) fn auroc(known: &mut [f32], unknown: &[f32]) -> Option<f64> {
    known.sort_unstable_by(f32::total_cmp);
    let below = |score: &f32| {
        let less = known.partition_point(|other| other < score);
        let less_or_equal = known.partition_point(|other| other <= score);
        known.len() as f64 - (less + less_or_equal) as f64 / 2.0
    };
    let pairs = known.len() * unknown.len();
    (pairs > 0).then(|| unknown.iter().map(below).sum::<f64>() / pairs as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_gap_between_confidence_and_accuracy_bin_by_bin() {
        let mut reliability = Reliability::default();
        assert_eq!(reliability.error(), None);
        // Two sure ones, of which one is right, and one in the lowest bin that is wrong.
        [(1.0, true), (1.0, false), (0.02, false)].into_iter().for_each(|(sure, right)| reliability.count(sure, right));
        assert!((reliability.error().unwrap() - (1.0 + 0.02) / 3.0).abs() < 1e-7);
        // Confident and right half of the time at 0.5 each: no error.
        let mut even = Reliability::default();
        [true, false].into_iter().for_each(|right| even.count(0.5, right));
        assert_eq!(even.error(), Some(0.0));
    }

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        let naive = |known: &[f32], unknown: &[f32]| {
            let pair = |k: &f32, u: &f32| {
                if k > u {
                    1.0
                } else if k == u {
                    0.5
                } else {
                    0.0
                }
            };
            let sum: f64 = known.iter().flat_map(|k| unknown.iter().map(move |u| pair(k, u))).sum();
            sum / (known.len() * unknown.len()) as f64
        };
        let (mut known, unknown) = (vec![3.0, 1.0, 2.0, 2.0], [2.0, 0.5, 1.0]);
        let expected = naive(&known, &unknown);
        assert_eq!(auroc(&mut known, &unknown), Some(expected));
        assert_eq!((auroc(&mut [], &unknown), auroc(&mut known, &[])), (None, None));
    }
}
