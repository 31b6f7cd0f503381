//! How long ago the process began, and how much of that its processors worked for it.

use std::fs;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crate::error::Result;

/// When the process began, where that was noted and nobody has asked yet.
static BEGIN: Mutex<Option<Instant>> = Mutex::new(None);

/// Notes the beginning of the process.
#[cfg(feature = "cli")]
pub(crate) fn begin() {
    *BEGIN.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
}

/// Milliseconds that getting ready has taken: since the process began for the first who asks, where that was noted; for all others
/// since they began themselves.
pub(crate) fn startup_ms(own_begin: Instant) -> f64 {
    let noted = BEGIN.lock().unwrap_or_else(PoisonError::into_inner).take();
    noted.unwrap_or(own_begin).elapsed().as_secs_f64() * 1e3
}

/// Linux counts a process's time in hundredths of a second, on every architecture.
const TICK_MS: f64 = 10.0;

/// Milliseconds of processor time that the process has taken, all threads together; milliseconds since the first call where the
/// system does not say.
pub(crate) fn processor_ms() -> f64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let ticks = || -> Option<u64> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The process's name may hold anything; what follows it does not.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let [user, system] = [fields.next()?, fields.next()?].map(|field| field.parse::<u64>().ok());
        Some(user? + system?)
    };
    let elapsed_ms = || FIRST.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e3;
    ticks().map_or_else(elapsed_ms, |ticks| ticks as f64 * TICK_MS)
}

/// Times `act` in milliseconds.
pub(crate) fn timed<T>(act: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let begin = Instant::now();
    let result = act()?;
    Ok((result, begin.elapsed().as_secs_f64() * 1e3))
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}
