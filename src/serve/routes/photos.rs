//! Photos: taken in, shown, moved, removed, classified.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::classes::{bad_name, no_class};
use super::{Answered, App, class, done, id, no_photo};
use crate::limits::{MOST_UPLOAD_BYTES, SMALL_UPLOAD_BYTES};
use crate::serve::album::{Id, Incoming, kind_of};
use crate::serve::http::{Answer, Body, Content, Refusal};
use crate::session::{Picture, load};

/// Classes of an answer, where nothing is said.
const TOP: usize = 5;
/// How long a picture of the camera is waited for.
const CAMERA_WAIT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moved {
    ids: Vec<String>,
    class: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Removed {
    ids: Vec<String>,
}

impl App {
    pub(super) fn photos(&self, name: Option<&str>) -> Answered {
        let name = class(name)?;
        let album = self.looked()?;
        let photos = album.class(name).ok_or_else(|| no_class(name))?;
        let told = |photo: &crate::serve::album::Entry| serde_json::json!({ "id": photo.id, "bytes": photo.bytes, "taken": photo.taken });
        let mut photos: Vec<_> = photos.iter().collect();
        photos.sort_by_key(|photo| std::cmp::Reverse(photo.taken));
        done(&serde_json::json!({ "class": name, "photos": photos.into_iter().map(told).collect::<Vec<_>>() }))
    }

    pub(super) fn photo(&self, id: Id) -> Answered {
        let found = self.album().find(id).ok_or_else(no_photo)?;
        let kind = kind_of(Path::new(&found.entry.name)).ok_or_else(no_photo)?;
        let file = File::open(&found.path).map_err(|_| no_photo())?;
        let length = file.metadata().map_err(|_| no_photo())?.len();
        let answer = Answer::new(200, kind.media_type(), Content::File(file, length));
        Ok(answer.with("Cache-Control", "private, max-age=3600"))
    }

    /// Takes a photo in, from the request or from the camera: it is written, read as a lesson would, and only then has its name.
    pub(super) fn add_photo(&self, body: &mut Body, name: Option<&str>, from: Option<&str>) -> Answered {
        let name = class(name)?.trim();
        let frame = if from == Some("camera") { Some(self.newest_frame()?) } else { None };
        let length = frame.as_ref().map_or(body.length(), |frame| frame.len() as u64);
        if length == 0 {
            return Err(Refusal::new(400, "send the bytes of a photo, JPEG or PNG"));
        }
        if length > MOST_UPLOAD_BYTES {
            return Err(Refusal::new(413, format_args!("a photo of {length} bytes; {MOST_UPLOAD_BYTES} is the most")));
        }
        let mut incoming = self.album().expect(name, length).map_err(bad_name)?;
        let come = match frame {
            Some(frame) => std::io::Write::write_all(&mut incoming, &frame).map_err(|e| Refusal::new(500, e)),
            None => body.copy_to(&mut incoming),
        };
        let come = come.and_then(|()| self.check(&incoming));
        if let Err(refusal) = come {
            self.album().let_go(incoming);
            return Err(refusal);
        }
        let incoming = incoming.end();
        let (id, is_new) = self.album().take(incoming)?;
        if is_new {
            self.photos_changed();
        }
        Ok(Answer::json(
            if is_new { 201 } else { 200 },
            &serde_json::json!({ "id": id, "class": name, "bytes": length, "new": is_new }),
        ))
    }

    /// Refuses what a lesson could not read.
    fn check(&self, incoming: &Incoming) -> Result<(), Refusal> {
        // Memory for one at a time.
        let _one = self.occupied.decoding.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let picture = Picture::from(incoming.path());
        load(&picture, &self.bundle.preprocess, None)
            .map(drop)
            .map_err(|error| Refusal::new(422, format_args!("the photo {}", error.message())))
    }

    pub(super) fn remove_photo(&self, id: Id) -> Answered {
        let removed = self.album().remove_photos(&[id])?;
        if removed.is_empty() {
            return Err(no_photo());
        }
        self.photos_changed();
        done(&serde_json::json!({ "deleted": removed }))
    }

    pub(super) fn remove_photos(&self, Removed { ids }: &Removed) -> Answered {
        let ids = ids.iter().map(|text| id(text)).collect::<Result<Vec<_>, _>>()?;
        let removed = self.album().remove_photos(&ids)?;
        self.photos_changed();
        done(&serde_json::json!({ "deleted": removed }))
    }

    pub(super) fn move_photos(&self, Moved { ids, class }: &Moved) -> Answered {
        let ids = ids.iter().map(|text| id(text)).collect::<Result<Vec<_>, _>>()?;
        let mut album = self.album();
        album.make_class(class.trim()).map_err(bad_name)?;
        let moved = album.move_photos(&ids, class.trim())?;
        drop(album);
        self.photos_changed();
        let moved: Vec<_> = moved.into_iter().map(|(from, to)| serde_json::json!({ "id": from, "now": to })).collect();
        done(&serde_json::json!({ "class": class.trim(), "moved": moved }))
    }

    /// What a photo shows, that of the request or the camera's newest picture.
    pub(super) fn predict(&self, body: &mut Body, top: Option<&str>, from: Option<&str>) -> Answered {
        let top = top.map_or(Ok(TOP), str::parse).ok().filter(|top| *top > 0);
        let top = top.ok_or_else(|| Refusal::new(400, "top is how many classes are answered, 1 or more"))?;
        let _held = if body.length() > SMALL_UPLOAD_BYTES { Some(self.hold()?) } else { None };
        let bytes = match from {
            Some("camera") => self.newest_frame()?,
            _ => body.whole(MOST_UPLOAD_BYTES)?.into(),
        };
        if bytes.is_empty() {
            return Err(Refusal::new(400, "send the bytes of a photo, JPEG or PNG"));
        }
        let prediction = self.guesser.predict(Picture::encoded("the photo", bytes), top)?;
        let generation = self.guesser.known().generation;
        done(&serde_json::json!({
            "top": prediction.top,
            "confidence": prediction.confidence,
            "unknown": prediction.unknown,
            "ms": prediction.ms,
            "generation": generation,
        }))
    }

    pub(super) fn newest_frame(&self) -> Result<std::sync::Arc<[u8]>, Refusal> {
        let camera = self.camera.as_ref().ok_or_else(super::camera::no_camera)?;
        camera.after(0, CAMERA_WAIT).map(|frame| frame.jpeg).ok_or_else(|| {
            let why = camera.state().1.unwrap_or_else(|| "no picture came within five seconds".to_owned());
            Refusal::new(503, format_args!("the camera gives no picture: {why}"))
        })
    }
}
