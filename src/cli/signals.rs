//! What SIGTERM and SIGINT do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};

/// What a process that a signal ends answers, less the signal's number.
const BY_SIGNAL: i32 = 128;

/// Set by the first signal: the lesson then stops at a step. The second one ends the process at once.
pub(super) fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_shutdown(signal, BY_SIGNAL + signal, stop.clone())
            .and_then(|_| flag::register(signal, stop.clone()))
            .map_err(fault)?;
    }
    Ok(stop)
}

/// From now on the first signal calls `end`, and the second one ends the process.
#[cfg(unix)]
pub(super) fn call_on_signals(end: impl Fn() + Send + 'static) -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(fault)?;
    let wait = move || {
        let mut forever = signals.forever();
        if forever.next().is_some() {
            let ends = std::thread::Builder::new().name("end".to_owned()).spawn(end);
            if let (Some(signal), Ok(_)) = (forever.next(), ends) {
                std::process::exit(BY_SIGNAL + signal);
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop).map_err(fault)
}

/// Elsewhere a signal ends the process as it is.
#[cfg(not(unix))]
pub(super) fn call_on_signals(_end: impl Fn() + Send + 'static) -> Result<()> {
    Ok(())
}

/// From now on a signal ends the process at once, and removes its temporary folders before.
#[cfg(unix)]
pub(super) fn leave_nothing_on_signals() -> Result<()> {
    use crate::lab::TemporaryFolder;

    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(fault)?;
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            TemporaryFolder::end_process(BY_SIGNAL + signal);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop).map_err(fault)
}

/// Elsewhere the next command removes what is left.
#[cfg(not(unix))]
pub(super) fn leave_nothing_on_signals() -> Result<()> {
    Ok(())
}

fn fault(error: std::io::Error) -> Error {
    Error::io(Path::new("signals"), error)
}
