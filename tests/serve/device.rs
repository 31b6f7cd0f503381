//! A device under test: the program itself, serving, and a client that speaks HTTP by hand.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub fn handwriting(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/handwriting").join(name)
}

/// The files of a class of the demo's photos.
pub fn photos(class: &str, from: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(handwriting(from).join(class)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// A server, which ends with this.
pub struct Device {
    child: Child,
    pub url: String,
    pub place: TempDir,
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

impl Device {
    pub fn command(place: &Path, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_srlora"));
        command.arg("serve").arg(handwriting("handwriting.bundle"));
        command.arg("--store").arg(place.join("store")).arg("--photos").arg(place.join("photos")).args(more);
        command
    }

    pub fn start(more: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), more)
    }

    /// A server on this machine alone, at a free port.
    pub fn start_in(place: TempDir, more: &[&str]) -> Self {
        let listens = if more.contains(&"--listen") { &[][..] } else { &["--listen", "127.0.0.1:0"] };
        let arguments = [&["--json"][..], listens, more].concat();
        let errors = fs::OpenOptions::new().create(true).append(true).open(place.path().join("stderr")).unwrap();
        let mut child = Self::command(place.path(), &arguments).stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said = || fs::read_to_string(place.path().join("stderr")).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}{}", said()));
        let url = ready["url"].as_str().unwrap().to_owned();
        Device { child, url, place }
    }

    /// What it was killed over.
    pub fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.place, TempDir::new().unwrap())
    }

    /// SIGTERM; how it ended.
    pub fn terminate(mut self) -> (Option<i32>, TempDir) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
        let ended = self.child.wait().unwrap();
        (ended.code(), std::mem::replace(&mut self.place, TempDir::new().unwrap()))
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.place.path().join("stderr")).unwrap()
    }

    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap().split('/').next().unwrap()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A number of /proc/PID/status, in KiB.
    pub fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream
    }

    /// Sends a head and a body as they are, and reads all that comes.
    pub fn raw(&self, head: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(head.replace('\n', "\r\n").as_bytes()).unwrap();
        // It may be refused before all of it was sent.
        let _ = stream.write_all(body);
        read(&mut stream)
    }

    /// Asks as a page does, which waits where it has asked too often.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let (host, length) = (self.address(), body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\nHost: {host}\nX-Srlora: 1\nContent-Length: {length}\nConnection: close\n\n"
        );
        loop {
            let answer = self.raw(&head, body);
            if answer.status != 429 {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, b"");
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, body.to_string().as_bytes())
    }

    /// Sends photos of a class.
    pub fn collect(&self, class: &str, photos: &[Vec<u8>]) {
        for photo in photos {
            let answer = self.ask("POST", &format!("/api/photos?class={class}"), photo);
            assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        }
    }

    /// Asks again and again until it is so.
    pub fn wait<T>(&self, what: &str, mut is_so: impl FnMut(&Self) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = is_so(self) {
                return found;
            }
            assert!(begin.elapsed() < Duration::from_secs(300), "{what} did not come: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the lesson's end, and what has become of it.
    pub fn lesson(&self) -> Value {
        self.wait("the end of the lesson", |device| {
            let status = device.get("/api/lesson");
            (status["running"] == false).then(|| status["last"].clone())
        })
    }

    pub fn best(&self, photo: &[u8]) -> Option<String> {
        let answer = self.ask("POST", "/api/predict", photo);
        (answer.status == 200).then(|| answer.json()["top"][0]["label"].as_str().unwrap().to_owned())
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

/// Reads an answer to the end of the connection, or of its length.
pub fn read(stream: &mut TcpStream) -> Answer {
    let (mut bytes, mut piece) = (Vec::new(), [0; 8192]);
    let end = |bytes: &[u8]| bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    loop {
        if let Some(end) = end(&bytes) {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = header(&head, "Content-Length").map(|length| length.parse::<usize>().unwrap());
            if length.is_some_and(|length| bytes.len() >= end + length) {
                break;
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
        }
    }
    let Some(end) = end(&bytes) else { return Answer { status: 0, head: String::new(), body: bytes } };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end..].to_vec() }
}
