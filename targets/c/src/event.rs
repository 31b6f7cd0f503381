//! What a lesson tells on the way.

use std::ffi::{CString, c_char, c_void};
use std::ptr::null;

use srlora::session::{Flow, Forecast, Progress};

use crate::error::in_c;
use crate::text::c_text;

/// What an event is about.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum srlora_event_kind {
    /// A phase begins: `text` names it, `total` is how many units it has.
    Begin = 0,
    /// One more unit of it is done: `done` of `total`.
    Advance = 1,
    /// One training step is done: `step`, `loss`, `accuracy`.
    Step = 2,
    /// The phase is over.
    End = 3,
    /// What the lesson will take, before it starts: `total` steps, `seconds` at most.
    Planned = 4,
    /// Something to know: `text`.
    Note = 5,
    /// Something went wrong that does not stop the work: `text`.
    Warning = 6,
}

/// What a lesson tells on the way. It and its text live until the observer returns.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct srlora_event {
    /// What it is about.
    pub kind: srlora_event_kind,
    /// The phase, or what there is to know, in UTF-8; NULL where there is none.
    pub text: *const c_char,
    /// Units of the phase that are done.
    pub done: u64,
    /// Units of the phase in all.
    pub total: u64,
    /// The number of the step, from 1.
    pub step: u64,
    /// Mean cross-entropy of its batch.
    pub loss: f32,
    /// Share of its batch that was classified right before the update.
    pub accuracy: f64,
    /// Time of the whole lesson, as planned.
    pub seconds: f64,
}

/// Is told of events, on the thread that runs the lesson. Answers whether the lesson goes on: `false` stops it, with a checkpoint. It
/// must not free the trainer, nor let an exception out.
pub type srlora_observer = Option<unsafe extern "C" fn(event: *const srlora_event, userdata: *mut c_void) -> bool>;

/// Who listens to a lesson.
pub(crate) struct Listener {
    observer: srlora_observer,
    userdata: *mut c_void,
    phase: CString,
    done: u64,
    total: u64,
}

impl Listener {
    pub(crate) fn new(observer: srlora_observer, userdata: *mut c_void) -> Self {
        Listener { observer, userdata, phase: CString::default(), done: 0, total: 0 }
    }

    /// Tells it; whether the lesson goes on.
    pub(crate) fn hear(&mut self, progress: Progress<'_>) -> Flow {
        let Some(observer) = self.observer else { return Flow::GoOn };
        let mut kept = CString::default();
        let Some(event) = self.event(progress, &mut kept) else { return Flow::GoOn };
        // SAFETY: the caller has given the function with what it takes; the event and its text live until it returns.
        if unsafe { observer(&raw const event, self.userdata) } { Flow::GoOn } else { Flow::Stop }
    }

    /// `None` for what this crate does not know yet. Text that is not the phase's is kept in `kept`.
    fn event(&mut self, progress: Progress<'_>, kept: &mut CString) -> Option<srlora_event> {
        let mut event = self.blank(srlora_event_kind::Note);
        let mut say = |text: &str| {
            *kept = c_text(&in_c(text));
            kept.as_ptr()
        };
        match progress {
            Progress::Begin { phase, total } => {
                (self.phase, self.done, self.total) = (c_text(phase.trim()), 0, total);
                event = self.blank(srlora_event_kind::Begin);
            }
            Progress::Advance => {
                self.done += 1;
                event = self.blank(srlora_event_kind::Advance);
            }
            Progress::Step { step, loss, accuracy } => {
                event = srlora_event { kind: srlora_event_kind::Step, step, loss, accuracy, ..event };
            }
            Progress::End => event.kind = srlora_event_kind::End,
            Progress::Planned(&Forecast { steps, seconds, .. }) => {
                event = srlora_event { text: null(), done: 0, total: steps, seconds, ..event };
                event.kind = srlora_event_kind::Planned;
            }
            Progress::Note(text) => event.text = say(text),
            Progress::Warning(text) => {
                (event.kind, event.text) = (srlora_event_kind::Warning, say(text));
            }
            _ => return None,
        }
        Some(event)
    }

    fn blank(&self, kind: srlora_event_kind) -> srlora_event {
        let Listener { phase, done, total, .. } = self;
        let (text, done, total) = (phase.as_ptr(), *done, *total);
        srlora_event { kind, text, done, total, step: 0, loss: 0.0, accuracy: 0.0, seconds: 0.0 }
    }
}
