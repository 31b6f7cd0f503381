//! How long ago the process began, and how much of that its processors worked for it.

use std::fs;
use std::sync::OnceLock;
use std::time::Instant;

static BEGIN: OnceLock<Instant> = OnceLock::new();

/// Notes the beginning; the first call counts.
pub(crate) fn begin() -> Instant {
    *BEGIN.get_or_init(Instant::now)
}

/// Milliseconds since then.
pub(super) fn since_begin_ms() -> f64 {
    begin().elapsed().as_secs_f64() * 1e3
}

/// Linux counts a process's time in hundredths of a second, on every architecture.
const TICK_MS: f64 = 10.0;

/// Milliseconds of processor time that the process has taken, all threads together; milliseconds since its beginning where the
/// system does not say.
pub(super) fn processor_ms() -> f64 {
    let ticks = || -> Option<u64> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The process's name may hold anything; what follows it does not.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let [user, system] = [fields.next()?, fields.next()?].map(|field| field.parse::<u64>().ok());
        Some(user? + system?)
    };
    ticks().map_or_else(since_begin_ms, |ticks| ticks as f64 * TICK_MS)
}
