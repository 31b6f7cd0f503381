//! What happens, told to all pages that are open: server-sent events.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Events that a page which is slow may still come to read; then it is told all anew.
const KEPT: usize = 64;
/// A page, and what stands between, is told so often that the connection lives.
const PULSE: Duration = Duration::from_secs(15);
/// Whether a page has gone is looked at so often: until then it has a thread.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Inside {
    /// Number, and text as it is sent.
    events: VecDeque<(u64, Arc<str>)>,
    next: u64,
    is_closed: bool,
}

/// Takes events, and gives them to whoever listens.
#[derive(Default)]
pub(crate) struct Hub {
    inside: Mutex<Inside>,
    changed: Condvar,
}

impl Hub {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all who listen.
    pub(crate) fn tell(&self, name: &str, value: &impl Serialize) {
        let json = serde_json::to_string(value).unwrap_or_default();
        let mut inside = self.inside();
        let event = (inside.next, format!("event: {name}\ndata: {json}\n\n").into());
        inside.next += 1;
        inside.events.push_back(event);
        if inside.events.len() > KEPT {
            inside.events.pop_front();
        }
        drop(inside);
        self.changed.notify_all();
    }

    /// Whoever listens is let go.
    pub(crate) fn close(&self) {
        self.inside().is_closed = true;
        self.changed.notify_all();
    }

    /// Writes events from now on, for as long as they are read.
    pub(crate) fn stream(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut next = self.inside().next;
        to.write_all(b"retry: 2000\nevent: hello\ndata: {}\n\n")?;
        let mut told = Instant::now();
        while let Some((texts, end)) = self.after(next) {
            to.flush()?;
            if texts.is_empty() && told.elapsed() >= PULSE {
                to.write_all(b": still here\n\n")?;
                told = Instant::now();
            }
            texts.iter().try_for_each(|text| to.write_all(text.as_bytes()))?;
            next = end;
        }
        Ok(())
    }

    /// The events from `next` on, and the number after them; none where nothing happens for a while. `None` when the server ends.
    fn after(&self, next: u64) -> Option<(Vec<Arc<str>>, u64)> {
        let deadline = Instant::now() + LOOK;
        let mut inside = self.inside();
        loop {
            if inside.is_closed {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if inside.next > next || left.is_zero() {
                let missed = inside.events.front().is_some_and(|(first, _)| *first > next);
                let mut texts: Vec<Arc<str>> =
                    if missed { vec!["event: hello\ndata: {}\n\n".into()] } else { Vec::new() };
                texts.extend(inside.events.iter().filter(|(number, _)| *number >= next).map(|(_, text)| text.clone()));
                return Some((texts, inside.next));
            }
            inside = self.changed.wait_timeout(inside, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_told_and_whoever_is_slow_asks_anew() {
        let hub = Hub::default();
        hub.tell("before", &1);
        let next = hub.inside().next;
        hub.tell("step", &serde_json::json!({ "loss": 0.5 }));
        let (texts, end) = hub.after(next).unwrap();
        assert_eq!((texts.len(), &*texts[0], end), (1, "event: step\ndata: {\"loss\":0.5}\n\n", next + 1));
        (0..2 * KEPT).for_each(|n| hub.tell("step", &n));
        let (texts, _) = hub.after(end).unwrap();
        assert_eq!((texts.len(), &texts[0][..12]), (KEPT + 1, "event: hello"));
        hub.close();
        assert!(hub.after(0).is_none());
    }
}
