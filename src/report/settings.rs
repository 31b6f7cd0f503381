//! What was done: with which command, bundle and photos.

use super::Origin;
use super::markup::{Markup, name, tag};

/// A word and what there is to say of it.
pub(crate) type Fact = (&'static str, Markup);

fn mono(text: impl Into<String>) -> Markup {
    tag("code").holding(text.into())
}

impl Origin<'_> {
    /// What every command has.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        let bundle = self.bundle;
        let mut facts = vec![
            ("command", mono(self.command.as_str())),
            ("srlora", env!("CARGO_PKG_VERSION").into()),
            ("bundle", name(bundle.path.display())),
            ("sha256 of its contents", mono(bundle.content_sha256.as_str())),
            ("precision of its weights", bundle.precision.as_str().into()),
            ("preprocessing", bundle.preprocess.to_string().into()),
        ];
        facts.extend(bundle.release.map(|release| ("release", Markup::from(release.to_string()))));
        facts.push(("photos", name(&self.photos)));
        facts.extend(self.store.as_ref().map(|store| ("store", name(store))));
        facts
    }
}
