//! What each address does. The page and everybody else use the same ones; `page/openapi.json` describes them.

mod camera;
mod classes;
mod learned;
mod lesson;
mod photos;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::access::Access;
use super::album::{Album, Id};
use super::camera::Camera;
use super::guesser::Guesser;
use super::http::{Answer, Body, Content, Method, Refusal, Request};
use super::hub::Hub;
use super::lessons::Desk;
use super::page;
use crate::bundle::Bundle;
use crate::limits::{MOST_JSON_BYTES, MOST_UPLOADS_IN_MEMORY};

/// Answers, or says why not.
type Answered = Result<Answer, Refusal>;

/// Everything that routes work with.
pub(super) struct App {
    pub(super) bundle: Bundle,
    pub(super) album: Arc<Mutex<Album>>,
    pub(super) access: Access,
    pub(super) hub: Arc<Hub>,
    pub(super) guesser: Arc<Guesser>,
    pub(super) desk: Arc<Desk>,
    pub(super) camera: Option<Arc<Camera>>,
    /// What is going on now.
    pub(super) occupied: Occupied,
}

/// What there is only so much memory for.
#[derive(Default)]
pub(super) struct Occupied {
    /// Photos in memory.
    held: Mutex<usize>,
    /// One photo is decoded, and one export made, at a time.
    decoding: Mutex<()>,
    exporting: Mutex<()>,
}

impl App {
    /// Ends what goes on.
    pub(super) fn close(&self) {
        self.hub.close();
        self.camera.iter().for_each(|camera| camera.close());
        self.desk.close();
    }

    fn album(&self) -> MutexGuard<'_, Album> {
        self.album.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The album as it is now; where others have changed it, whoever guesses is told.
    fn looked(&self) -> Result<MutexGuard<'_, Album>, Refusal> {
        let mut album = self.album();
        if album.look()? {
            self.guesser.photos_changed();
        }
        drop(album);
        self.look_at_store();
        Ok(self.album())
    }

    /// Where another program has changed the store, whoever guesses is told.
    fn look_at_store(&self) {
        let (known, now) = (self.guesser.known(), self.desk.store().map(|store| store.current()));
        if known.generation != now && known.fault.is_none() && !self.desk.status().running {
            self.desk.find_left();
            self.guesser.settle();
            self.hub.tell("generations", &serde_json::json!({}));
        }
    }

    /// Answers a request.
    pub(super) fn answer(self: &Arc<Self>, request: Request<'_>) -> Answered {
        let Request { head, body, local, .. } = request;
        self.access.check_source(&head, local.ip())?;
        let method = if head.method == Method::Head { Method::Get } else { head.method };
        let parts = head.parts();
        if let (Method::Get, [name]) = (method, &parts[..])
            && let Some(file) = page::file(name)
        {
            return Ok(file);
        }
        if (method, &parts[..]) == (Method::Get, &[]) {
            let shows = head.query("token").is_some();
            return match self.access.is_paired(&head)? {
                true if shows => Ok(self.access.pair().unwrap_or_else(page::index)),
                true => Ok(page::index()),
                false => Ok(page::locked()),
            };
        }
        // A guess changes nothing.
        self.access.check(&head, method.changes() && parts != ["api", "predict"])?;
        let query = |name: &str| head.query(name);
        match (method, &parts[..]) {
            (Method::Get, ["api", "openapi.json"]) => Ok(page::description()),
            (Method::Get, ["api", "state"]) => self.state(),
            (Method::Get, ["api", "events"]) => Ok(self.events()),
            (Method::Get, ["api", "stream"]) => self.stream(),
            (Method::Get, ["api", "frame"]) => self.frame(),
            (Method::Post, ["api", "predict"]) => self.predict(body, query("top"), query("from")),
            (Method::Get, ["api", "classes"]) => self.classes(),
            (Method::Post, ["api", "classes"]) => self.make_class(&json(body)?),
            (Method::Post, ["api", "classes", "rename"]) => self.rename_class(&json(body)?),
            (Method::Delete, ["api", "classes", name]) => self.remove_class(name),
            (Method::Get, ["api", "photos"]) => self.photos(query("class")),
            (Method::Post, ["api", "photos"]) => self.add_photo(body, query("class"), query("from")),
            (Method::Post, ["api", "photos", "move"]) => self.move_photos(&json(body)?),
            (Method::Post, ["api", "photos", "delete"]) => self.remove_photos(&json(body)?),
            (Method::Get, ["api", "photos", number]) => self.photo(id(number)?),
            (Method::Delete, ["api", "photos", number]) => self.remove_photo(id(number)?),
            (Method::Get, ["api", "lesson"]) => Ok(Answer::json(200, &self.desk.status())),
            (Method::Get, ["api", "lesson", "plan"]) => self.plan(),
            (Method::Post, ["api", "lesson"]) => self.begin_lesson(&json_or_default(body)?),
            (Method::Delete, ["api", "lesson"]) => self.stop_lesson(),
            (Method::Get, ["api", "generations"]) => self.generations(),
            (Method::Post, ["api", "rollback"]) => self.rollback(&json_or_default(body)?),
            (Method::Post, ["api", "forget"]) => self.forget(&json(body)?),
            (Method::Get, ["api", "report.html"]) => self.download_report(),
            (Method::Get, ["api", "store.tar"]) => self.download_store(),
            (Method::Get, ["api", "adapter.tar"]) => self.download_adapter(),
            (Method::Get, ["api", "model.onnx"]) => self.download_onnx(),
            (_, ["api", ..]) => {
                Err(Refusal::new(404, "there is no such address; /api/openapi.json describes all that there are"))
            }
            _ => Err(Refusal::new(404, "there is no such page")),
        }
    }

    /// What a page needs to know when it is opened.
    fn state(&self) -> Answered {
        let album = self.looked()?;
        let (bytes, limit, photos, classes) = (album.bytes(), album.limit(), album.len(), album.classes().count());
        drop(album);
        let camera = self.camera.as_ref().map(|camera| {
            let (fps, fault) = camera.state();
            serde_json::json!({ "fps": fps, "fault": fault })
        });
        let known = self.guesser.known();
        let preprocess = &self.bundle.preprocess;
        Ok(Answer::json(
            200,
            &serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"),
                "bundle": self.bundle.path.file_name().map(|name| name.to_string_lossy()),
                "input": [preprocess.height, preprocess.width],
                "generation": known.generation,
                "known": known,
                "classes": classes,
                "photos": photos,
                "photos_bytes": bytes,
                "photos_limit_bytes": limit,
                "camera": camera,
                "lesson": self.desk.status(),
            }),
        ))
    }

    fn events(self: &Arc<Self>) -> Answer {
        let hub = self.hub.clone();
        let content = Content::Stream(None, Box::new(move |to| hub.stream(to)));
        Answer::new(200, "text/event-stream", content)
    }

    /// The photos have changed: whoever guesses, and all pages, are told.
    fn photos_changed(&self) {
        self.guesser.photos_changed();
        self.hub.tell("photos", &serde_json::json!({}));
    }

    /// A place for a photo in memory.
    fn hold(&self) -> Result<Held<'_>, Refusal> {
        let mut held = self.occupied.held.lock().unwrap_or_else(PoisonError::into_inner);
        if *held >= MOST_UPLOADS_IN_MEMORY {
            return Err(Refusal::new(503, "other photos are being looked at; send it again"));
        }
        *held += 1;
        Ok(Held(self))
    }
}

/// A photo in memory.
struct Held<'a>(&'a App);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.occupied.held.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

/// The number of a photo in an address.
fn id(text: &str) -> Result<Id, Refusal> {
    Id::parse(text).ok_or_else(no_photo)
}

fn no_photo() -> Refusal {
    Refusal::new(404, "there is no such photo")
}

/// A class in an address.
fn class(name: Option<&str>) -> Result<&str, Refusal> {
    name.ok_or_else(|| Refusal::new(400, "say which class: ?class=NAME"))
}

fn json<T: DeserializeOwned>(body: &mut Body) -> Result<T, Refusal> {
    let bytes = body.whole(MOST_JSON_BYTES)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Refusal::new(400, format_args!("the body is not the JSON that is expected here: {e}")))
}

/// The same, where nothing may be sent.
fn json_or_default<T: DeserializeOwned + Default>(body: &mut Body) -> Result<T, Refusal> {
    if body.length() == 0 { Ok(T::default()) } else { json(body) }
}

fn done(value: &impl Serialize) -> Answered {
    Ok(Answer::json(200, value))
}
