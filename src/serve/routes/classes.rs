//! Classes: made, renamed, joined, removed.

use serde::{Deserialize, Serialize};

use super::{Answered, App, done};
use crate::serve::http::{Answer, Refusal};

/// A class, as pages are told.
#[derive(Serialize)]
struct Told<'c> {
    name: &'c str,
    photos: usize,
    /// The newest photo of it.
    cover: Option<crate::serve::album::Id>,
    /// A lesson has learned it.
    learned: bool,
    /// It is imprinted from its photos, until a lesson learns it.
    imprinted: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Renamed {
    from: String,
    to: String,
}

impl App {
    /// Those that have a folder, and those that a lesson has learned.
    pub(super) fn classes(&self) -> Answered {
        let known = self.guesser.known();
        let album = self.looked()?;
        let mut told: Vec<Told> = album
            .classes()
            .map(|(name, photos)| Told {
                name,
                photos: photos.len(),
                cover: photos.iter().max_by_key(|photo| photo.taken).map(|photo| photo.id),
                learned: known.learned.iter().any(|class| class == name),
                imprinted: known.imprinted.iter().any(|class| class == name),
            })
            .collect();
        let without = known.learned.iter().filter(|class| album.class(class).is_none());
        told.extend(without.map(|name| Told { name, photos: 0, cover: None, learned: true, imprinted: false }));
        told.sort_by(|a, b| a.name.cmp(b.name));
        done(&serde_json::json!({ "classes": told }))
    }

    pub(super) fn make_class(&self, Named { name }: &Named) -> Answered {
        let name = name.trim();
        let is_new = self.album().make_class(name).map_err(bad_name)?;
        self.photos_changed();
        Ok(Answer::json(if is_new { 201 } else { 200 }, &serde_json::json!({ "name": name, "new": is_new })))
    }

    /// Gives a class another name. What a lesson has learned under the old one is forgotten: the class is imprinted from its photos until the
    /// next lesson learns it.
    pub(super) fn rename_class(&self, Renamed { from, to }: &Renamed) -> Answered {
        let to = to.trim();
        crate::serve::album::check_name(to).map_err(bad_name)?;
        let album = self.album();
        if album.class(from).is_none() {
            return Err(no_class(from));
        }
        drop(album);
        // A lesson under way has photos of it.
        let claim = self.desk.claim()?;
        let is_learned = from != to && self.is_learned(from);
        let forgotten = is_learned && self.forget_learned(from)?;
        let renamed = self.album().rename_class(from, to);
        drop(claim);
        if forgotten {
            self.changed()
        } else {
            self.photos_changed()
        }
        renamed?;
        done(&serde_json::json!({ "name": to, "forgotten": forgotten }))
    }

    pub(super) fn remove_class(&self, name: &str) -> Answered {
        if self.album().class(name).is_none() {
            return Err(no_class(name));
        }
        let claim = self.desk.claim()?;
        let removed = self.album().remove_class(name);
        drop(claim);
        self.photos_changed();
        let photos = removed?;
        done(&serde_json::json!({ "name": name, "photos": photos }))
    }
}

pub(super) fn no_class(name: &str) -> Refusal {
    Refusal::new(404, format_args!("there is no class {name:.40?} with photos"))
}

/// A name that no class can have is the request's fault.
pub(super) fn bad_name(error: crate::Error) -> Refusal {
    let refusal = Refusal::from(error);
    Refusal { status: if refusal.status == 409 { 400 } else { refusal.status }, ..refusal }
}
