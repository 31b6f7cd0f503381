//! How long ago the process began.

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
