//! The page of a device: photos are collected, lessons run and undone, and what was learned is seen at work, from a phone's browser.
//!
//! ```text
//! http      requests and answers, with limits on everything
//! access    who may ask: token, Host, Origin
//! album     the photos: a folder per class, as `train --data` takes it
//! camera    a command's MJPEG, split into pictures
//! guesser   a thread that classifies, also during a lesson
//! lessons   a thread for each lesson; what became of it
//! hub       what happens, told to all pages
//! routes    what each address does
//! page      what the browser gets, embedded
//! ```
//!
//! Each uses only those above it, `hub` and `page` aside, which use none. All of it is an HTTP API (`page/openapi.json`), which the page
//! itself uses.

mod access;
mod album;
mod camera;
mod download;
mod guesser;
mod http;
mod hub;
mod lessons;
mod page;
mod routes;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use access::Access;
use album::Album;
use camera::Camera;
use guesser::{Guesser, Workplace};
use http::{Handler, Server, Stopper};
use hub::Hub;
use lessons::{Desk, Terms};
use routes::{App, Occupied};

use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};
use crate::session::Store;

/// Where it listens when nothing else is said: on this machine alone.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
/// Bytes that photos may take when nothing else is said: two thousand photos of a page.
pub const DEFAULT_PHOTOS_LIMIT: u64 = 512 << 20;
const DEFAULT_PORT: u16 = 8080;

/// What is served.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What lessons learn with.
    pub bundle: Bundle,
    /// Where they are kept; it need not be there yet.
    pub store: PathBuf,
    /// The photos, a folder for each class; it need not be there yet.
    pub photos: PathBuf,
    /// An address, with a port or without.
    pub listen: String,
    /// A command that writes MJPEG on its stdout.
    pub camera: Option<String>,
    /// A file with a token; made where there is none.
    pub token: Option<PathBuf>,
    /// Names of this device beside its own.
    pub hosts: Vec<String>,
    /// Bytes that photos may take.
    pub photos_limit: u64,
    /// Threads of lessons.
    pub threads: usize,
    /// Its certificate and its key, PEM files both; then it speaks TLS.
    pub tls: Option<[PathBuf; 2]>,
    /// Memory of lessons, as of [`Lesson::ram_limit`](crate::session::Lesson).
    pub ram_limit: Option<u64>,
}

/// A server that is ready.
pub struct Page {
    server: Server,
    app: Arc<App>,
    url: String,
    warnings: Vec<String>,
}

/// Ends a server from another thread, once or more often.
#[derive(Clone)]
pub struct Ender {
    stopper: Stopper,
    app: Arc<App>,
}

impl Ender {
    /// A lesson under way stops with a checkpoint; then [`Page::run`] returns.
    pub fn end(&self) {
        self.app.close();
        self.stopper.stop();
    }
}

impl Page {
    /// Opens everything, and listens.
    ///
    /// # Errors
    /// `Usage` for an address or a name that is none, or a token file that holds none; `Busy` where the photos are served already; `Mismatch`,
    /// `Store`, `Io`.
    pub fn open(settings: Settings) -> Result<Self> {
        let address = address(&settings.listen)?;
        access::check_names(&settings.hosts)?;
        refuse_store_among_photos(&settings)?;
        let album = Arc::new(Mutex::new(Album::open(&settings.photos, settings.photos_limit)?));
        let mut warnings = Vec::new();
        if settings.store.exists() {
            match Store::open(&settings.store) {
                Ok(store) => {
                    warnings.extend(store.warning());
                    store.load(&settings.bundle)?;
                }
                // A first lesson that was cut off before its first generation.
                Err(error) if !is_unborn(&settings.store) => return Err(error),
                Err(_) => {}
            }
        }
        let identity = settings.tls.as_ref().map(|[certificate, key]| http::identity(certificate, key)).transpose()?;
        let server = Server::listen(address, identity)?;
        let bound = server.address()?;
        let token = match &settings.token {
            Some(file) => Some(access::read_token(file)?),
            None if bound.ip().is_loopback() => None,
            None => Some(access::new_token()?),
        };
        let access = Access::new(token, bound.port(), &settings.hosts, server.is_encrypted());
        let scheme = if server.is_encrypted() { "https" } else { "http" };
        let url = format!("{scheme}://{}/{}", SocketAddr::new(shown(bound.ip()), bound.port()), access.query());
        let app = App::start(settings, album, access)?;
        Ok(Page { server, app, url, warnings })
    }

    /// Its address, with the token where one is needed.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether others than this machine can reach it: then its address is worth a code to scan.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.app.access.is_guarded()
    }

    /// What to know before it runs.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What ends it.
    #[must_use]
    pub fn ender(&self) -> Ender {
        Ender { stopper: self.server.stopper(), app: self.app.clone() }
    }

    /// Answers until it is ended.
    pub fn run(self) {
        let app = self.app.clone();
        let handler: Arc<Handler> = Arc::new(move |request| app.answer(request));
        self.server.run(handler);
        self.app.close();
    }
}

/// Reads a request, and a camera's stream, as far as that needs no device: nothing is done but parsing. For fuzzing.
#[doc(hidden)]
pub fn reads(bytes: &[u8]) {
    let access = Access::new(Some("0123456789abcdef".to_owned()), 80, &[], false);
    if let Some(Ok(head)) = http::head_of_text(bytes) {
        let _ = access.check_source(&head, IpAddr::from([127, 0, 0, 1])).and_then(|()| access.check(&head, true));
        for part in head.parts() {
            let _ = album::Id::parse(part).map(|id| assert_eq!(id.to_string(), part));
            assert!(album::check_name(part).is_err() || Path::new("a").join(part).parent() == Some(Path::new("a")));
        }
    }
    let (mut splitter, mut pictures) = (camera::Splitter::default(), 0);
    for piece in bytes.chunks(7) {
        splitter.push(piece, |picture| pictures += picture.len());
    }
    assert!(pictures <= bytes.len(), "no byte belongs to two pictures");
}

/// The address that pages can be opened by: of all that a machine has, the one that leads out of it.
fn shown(ip: IpAddr) -> IpAddr {
    if !ip.is_unspecified() {
        return ip;
    }
    // Nothing is sent: the system only says from where it would be.
    let own = || {
        let socket = UdpSocket::bind((ip, 0)).ok()?;
        let elsewhere = if ip.is_ipv4() { "192.0.2.1:9" } else { "[2001:db8::1]:9" };
        socket.connect(elsewhere).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let loopback = if ip.is_ipv4() { IpAddr::from([127, 0, 0, 1]) } else { IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16]) };
    own().filter(|own| !own.is_unspecified()).unwrap_or(loopback)
}

fn address(listen: &str) -> Result<SocketAddr> {
    let as_ip = listen.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DEFAULT_PORT));
    let resolved = || listen.to_socket_addrs().ok()?.next();
    as_ip.or_else(resolved).or_else(|| (listen, DEFAULT_PORT).to_socket_addrs().ok()?.next()).ok_or_else(|| {
        let message = "is no address of this machine; give 0.0.0.0:8080 for all that it has, or 127.0.0.1:8080 for this machine alone";
        Error::new(ErrorKind::Usage, format_args!("option `listen` {listen}"), message)
    })
}

fn is_unborn(store: &Path) -> bool {
    crate::session::store::is_unborn(&crate::session::store::Disk, store).unwrap_or(false)
}

/// A store among the photos would be taken for a class.
fn refuse_store_among_photos(settings: &Settings) -> Result<()> {
    let folder = crate::session::store::beside(&settings.store).canonicalize();
    let photos = settings.photos.canonicalize();
    if let (Ok(folder), Ok(photos)) = (folder, photos)
        && folder.starts_with(&photos)
    {
        let message = format!("lies inside option `photos` {}; keep it elsewhere", settings.photos.display());
        return Err(Error::new(ErrorKind::Usage, settings.store.display(), message));
    }
    Ok(())
}

impl App {
    fn start(settings: Settings, album: Arc<Mutex<Album>>, access: Access) -> Result<Arc<Self>> {
        let hub = Arc::new(Hub::default());
        let camera: Arc<OnceLock<Arc<Camera>>> = Arc::default();
        let Settings { bundle, store, threads, ram_limit, camera: command, .. } = settings;
        let place = Workplace {
            bundle: bundle.clone(),
            store: store.clone(),
            album: album.clone(),
            camera: camera.clone(),
            hub: hub.clone(),
        };
        let guesser = Arc::new(Guesser::start(place)?);
        if let Some(command) = command {
            let seen = guesser.clone();
            let started = Camera::start(command, move || seen.look());
            let _ = camera.set(started.map_err(|e| Error::io(Path::new("a thread"), e))?);
        }
        let desk = Desk::new(bundle.clone(), store, album.clone(), hub.clone(), Terms { threads, ram_limit });
        let (desk, camera) = (Arc::new(desk), camera.get().cloned());
        Ok(Arc::new(App { bundle, album, access, hub, guesser, desk, camera, occupied: Occupied::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_with_a_port_and_without() {
        for (given, taken) in [
            ("0.0.0.0", "0.0.0.0:8080"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("::1", "[::1]:8080"),
            ("[::]:81", "[::]:81"),
            ("[::1]", "[::1]:8080"),
        ] {
            assert_eq!(address(given).unwrap().to_string(), taken);
        }
        assert!(address("localhost").unwrap().ip().is_loopback());
        for wrong in ["", ":", "no such name.invalid", "1.2.3.4.5:6", "127.0.0.1:99999"] {
            assert_eq!(address(wrong).unwrap_err().kind(), ErrorKind::Usage, "{wrong}");
        }
    }
}
