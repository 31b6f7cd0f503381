//! Lessons: planned, begun, stopped.

use super::{Answered, App, done};
use crate::error::Error;
use crate::serve::http::{Answer, Refusal};
use crate::serve::lessons::Wish;

impl App {
    /// What a lesson would take, and the classes that it is on.
    pub(super) fn plan(&self) -> Answered {
        done(&self.desk.plan().map_err(refused)?)
    }

    pub(super) fn begin_lesson(&self, wish: &Wish) -> Answered {
        let (guesser, hub) = (self.guesser.clone(), self.hub.clone());
        self.desk
            .begin(wish, move || {
                guesser.settle();
                hub.tell("generations", &serde_json::json!({}));
            })
            .map_err(refused)?;
        Ok(Answer::json(202, &self.desk.status()))
    }

    /// Stops the lesson that is under way; without one, lets go of the one that was left.
    pub(super) fn stop_lesson(&self) -> Answered {
        if self.desk.stop() {
            return Ok(Answer::json(202, &self.desk.status()));
        }
        match self.desk.let_go().map_err(refused)? {
            true => done(&self.desk.status()),
            false => Err(Refusal::new(409, "no lesson is under way, and none was left")),
        }
    }
}

/// What cannot be learned now can be later.
fn refused(error: Error) -> Refusal {
    Refusal::from(error)
}
