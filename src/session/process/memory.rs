//! How much memory this process has used, ever and since a lesson began.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

/// The largest of the peaks that have been forgotten.
static FORGOTTEN: AtomicU64 = AtomicU64::new(0);

/// The process's largest resident size so far (VmHWM), in bytes; `None` where the system does not say.
#[must_use]
pub fn peak_rss_bytes() -> Option<u64> {
    status("VmHWM:").map(|peak| peak.max(FORGOTTEN.load(Ordering::Relaxed)))
}

/// Its present resident size (VmRSS).
pub(crate) fn rss_bytes() -> Option<u64> {
    status("VmRSS:")
}

/// Bytes of a block that is claimed, so that it finds room where what it stands for would.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Block {
    /// A layer's activations.
    Large = 1 << 18,
    /// What is kept for a site.
    Small = 1 << 14,
}

/// Memory that the process has and does not use, taken while this lives. Nobody can count it, so it is found out by taking it.
pub(crate) struct Claim {
    blocks: Vec<Vec<u8>>,
    missing: u64,
}

impl Claim {
    /// Takes `bytes`, as far as the resident size does not grow beyond `resident`, but for the last block.
    pub(crate) fn take(bytes: u64, block: Block, resident: u64) -> Self {
        let mut claim = Claim { blocks: Vec::new(), missing: bytes };
        while claim.missing > 0 && rss_bytes().is_some_and(|present| present <= resident) {
            let block = claim.missing.min(block as u64);
            // Written to, or it would not be resident.
            claim.blocks.push(std::hint::black_box(vec![1; block as usize]));
            claim.missing -= block;
        }
        claim
    }

    /// Bytes that were not taken: the process would have to grow for them.
    pub(crate) fn missing(&self) -> u64 {
        self.missing
    }
}

/// Looks for the largest resident size since it began: what the process took before, and has given back, is not in it.
///
/// Linux lets a process set its mark back to the present size, through /proc/self/clear_refs. Where that is not permitted, only a
/// new peak can be seen. There is one mark for the process: what other threads of it take counts, and where two look at the same
/// time, the one that began first sees no more than the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    /// The mark was set back.
    anew: bool,
    /// The mark when it began.
    before: u64,
}

impl Watch {
    pub(crate) fn begin() -> Self {
        let before = status("VmHWM:").unwrap_or(0);
        FORGOTTEN.fetch_max(before, Ordering::Relaxed);
        Watch { anew: fs::write("/proc/self/clear_refs", "5").is_ok(), before }
    }

    /// The largest resident size since then; `None` where the system does not say, or where an earlier peak hides it.
    pub(crate) fn peak(&self) -> Option<u64> {
        status("VmHWM:").filter(|peak| self.anew || *peak > self.before)
    }
}

fn status(key: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_takes_what_is_there_and_ends_where_the_process_would_grow() {
        let Some(present) = rss_bytes() else { return };
        assert_eq!(Claim::take(1 << 20, Block::Small, present / 2).missing(), 1 << 20);
        let claim = Claim::take(64 << 20, Block::Large, u64::MAX);
        assert!(claim.missing() == 0 && rss_bytes().unwrap() >= 48 << 20);
        drop(claim);
        // Other tests run beside this one.
        assert!(Claim::take(1 << 30, Block::Large, rss_bytes().unwrap()).missing() > 1 << 29);
    }

    #[test]
    fn where_the_mark_cannot_be_set_back_only_a_new_peak_is_told() {
        let Some(peak) = status("VmHWM:") else { return };
        assert_eq!(Watch { anew: false, before: u64::MAX }.peak(), None);
        assert!(Watch { anew: false, before: 1 }.peak() >= Some(peak.min(1)));
    }
}
