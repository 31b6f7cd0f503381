//! Photos that cannot be read.

use serde::Serialize;

/// A photo that was set aside, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quarantined {
    /// The file, or the name of what is in memory.
    pub path: String,
    /// What is wrong with it, in plain words.
    pub reason: String,
}

/// Photos that could not be read, each once, in the order of their discovery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quarantine(Vec<Quarantined>);

impl Quarantine {
    /// Sets a photo aside; `false` where it already was.
    pub fn add(&mut self, photo: &str, reason: &str) -> bool {
        let new = self.0.iter().all(|known| known.path != photo);
        if new {
            self.0.push(Quarantined { path: photo.to_owned(), reason: reason.to_owned() });
        }
        new
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> &[Quarantined] {
        &self.0
    }
}
