//! A camera of the device: a command that writes MJPEG on its stdout, run while somebody watches and started again when it ends.

mod split;

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use split::Splitter;

use crate::limits::MOST_VIEWERS;

/// How long the camera runs on when nobody watches any more: a page that is opened again finds it running.
const RUNS_ON: Duration = Duration::from_secs(10);
/// Time before a command that has ended is started again; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(15);
/// A command that has given pictures for so long is started again at once.
const IS_WELL: Duration = Duration::from_secs(10);
/// Without a picture for so long, the command is ended and started again.
const IS_STUCK: Duration = Duration::from_secs(20);
/// Bytes of what the command says that are told.
const TOLD_BYTES: usize = 300;

/// A picture of a camera, and its number.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) number: u64,
    pub(crate) jpeg: Arc<[u8]>,
}

#[derive(Default)]
struct Inside {
    frame: Option<Frame>,
    viewers: usize,
    watched: Option<Instant>,
    /// What went wrong last.
    fault: Option<String>,
    child: Option<Child>,
    is_closed: bool,
    /// Pictures of the last moments, to tell how many a second.
    times: std::collections::VecDeque<Instant>,
}

/// A camera, and who watches it.
pub(crate) struct Camera {
    command: String,
    inside: Mutex<Inside>,
    changed: Condvar,
}

/// Somebody who watches.
pub(crate) struct Viewer(Arc<Camera>);

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut inside = self.0.inside();
        inside.viewers -= 1;
        inside.watched = Some(Instant::now());
    }
}

impl Viewer {
    /// The next picture after `number`; `None` where none comes for `wait`, or the server ends.
    pub(crate) fn next(&self, number: u64, wait: Duration) -> Option<Frame> {
        self.0.after(number, wait)
    }

    /// Whether the server ends.
    pub(crate) fn is_over(&self) -> bool {
        self.0.inside().is_closed
    }
}

impl Camera {
    /// Begins to wait for somebody to watch. `seen` is called after each picture.
    pub(crate) fn start(command: String, seen: impl Fn() + Send + 'static) -> std::io::Result<Arc<Self>> {
        let camera = Arc::new(Camera { command, inside: Mutex::default(), changed: Condvar::new() });
        let own = camera.clone();
        thread::Builder::new().name("camera".to_owned()).spawn(move || own.attend(&seen))?;
        Ok(camera)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody more who watches; `None` where there are too many.
    pub(crate) fn view(self: &Arc<Self>) -> Option<Viewer> {
        let mut inside = self.inside();
        if inside.viewers >= MOST_VIEWERS {
            return None;
        }
        inside.viewers += 1;
        self.changed.notify_all();
        Some(Viewer(self.clone()))
    }

    /// The newest picture after `number`, at once or within `wait`. Asking makes the camera run.
    pub(crate) fn after(&self, number: u64, wait: Duration) -> Option<Frame> {
        let deadline = Instant::now() + wait;
        let mut inside = self.inside();
        inside.watched = Some(Instant::now());
        self.changed.notify_all();
        loop {
            if let Some(frame) = inside.frame.as_ref().filter(|frame| frame.number > number) {
                return Some(frame.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || inside.is_closed {
                return None;
            }
            inside = self.changed.wait_timeout(inside, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The newest picture, where there is a fresh one and somebody watches.
    pub(crate) fn watched_frame(&self) -> Option<Frame> {
        let inside = self.inside();
        (inside.viewers > 0).then(|| inside.frame.clone()).flatten()
    }

    /// Pictures a second over the last moments, and what is wrong.
    pub(crate) fn state(&self) -> (f64, Option<String>) {
        let inside = self.inside();
        let rate = match (inside.times.front(), inside.times.back()) {
            (Some(first), Some(last)) if last > first && last.elapsed().as_secs() < 2 => {
                (inside.times.len() - 1) as f64 / (*last - *first).as_secs_f64()
            }
            _ => 0.0,
        };
        (rate, inside.fault.clone())
    }

    /// Ends the command, and starts no other.
    pub(crate) fn close(&self) {
        let mut inside = self.inside();
        inside.is_closed = true;
        let child = inside.child.take();
        drop(inside);
        self.changed.notify_all();
        child.into_iter().for_each(end);
    }

    /// Whether it has to run; waits until it has, where `wait`. `None` when the server ends.
    fn is_wanted(&self, wait: bool) -> Option<bool> {
        let mut inside = self.inside();
        loop {
            let is_watched = inside.viewers > 0 || inside.watched.is_some_and(|last| last.elapsed() < RUNS_ON);
            match () {
                () if inside.is_closed => return None,
                () if is_watched || !wait => return Some(is_watched),
                () => inside = self.changed.wait(inside).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn attend(self: Arc<Self>, seen: &impl Fn()) {
        let mut pause = FIRST_PAUSE;
        while self.is_wanted(true).is_some() {
            let begin = Instant::now();
            let fault = self.run(seen);
            let mut inside = self.inside();
            inside.frame = None;
            inside.fault = fault;
            if inside.is_closed {
                return;
            }
            if inside.fault.is_none() {
                continue;
            }
            pause = if begin.elapsed() > IS_WELL { FIRST_PAUSE } else { pause };
            let _ = self.changed.wait_timeout_while(inside, pause, |inside| !inside.is_closed);
            pause = (2 * pause).min(LAST_PAUSE);
        }
    }

    /// Runs the command for as long as somebody watches; what is wrong where it ends before.
    fn run(self: &Arc<Self>, seen: &impl Fn()) -> Option<String> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // What it starts in turn ends with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Some(format!("the camera's command cannot be started: {error}")),
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut inside = self.inside();
        if inside.is_closed {
            drop(inside);
            end(child);
            return None;
        }
        let number = child.id();
        inside.child = Some(child);
        inside.times.clear();
        drop(inside);
        let said = thread::Builder::new().name("camera says".to_owned()).spawn(move || stderr.map(last_words));
        let watch = self.clone();
        let _ = thread::Builder::new().name("camera watch".to_owned()).spawn(move || watch.end_where_unwanted(number));
        let mut is_wanted = true;
        if let Some(mut stdout) = stdout {
            let (mut splitter, mut piece) = (Splitter::default(), vec![0; 64 << 10]);
            while is_wanted && let Ok(read @ 1..) = stdout.read(&mut piece) {
                splitter.push(&piece[..read], |jpeg| self.take(jpeg));
                seen();
                is_wanted = self.is_wanted(false) == Some(true);
            }
        }
        let child = self.inside().child.take();
        child.into_iter().for_each(end);
        let said = said.ok().and_then(|said| said.join().ok().flatten()).unwrap_or_default();
        let is_wanted = is_wanted && self.is_wanted(false) == Some(true);
        is_wanted.then(|| {
            let said = if said.is_empty() { String::new() } else { format!("; it said: {said}") };
            format!("the camera's command has ended{said}")
        })
    }

    fn take(&self, jpeg: &[u8]) {
        let mut inside = self.inside();
        let number = inside.frame.as_ref().map_or(0, |frame| frame.number).max(inside.times.len() as u64) + 1;
        let number = number.max(since_start());
        (inside.frame, inside.fault) = (Some(Frame { number, jpeg: jpeg.into() }), None);
        inside.times.push_back(Instant::now());
        while inside.times.len() > 30 {
            inside.times.pop_front();
        }
        drop(inside);
        self.changed.notify_all();
    }

    /// A command that writes nothing is read from for ever: this ends the one of that number from another thread.
    fn end_where_unwanted(&self, number: u32) {
        let begin = Instant::now();
        loop {
            thread::sleep(Duration::from_secs(1));
            let is_wanted = self.is_wanted(false) == Some(true);
            let mut inside = self.inside();
            let last = inside.times.back().copied().unwrap_or(begin).max(begin);
            // It may have ended by itself, and another one have begun.
            if inside.child.as_ref().map(Child::id) != Some(number) {
                return;
            }
            if !is_wanted || last.elapsed() > IS_STUCK {
                let child = inside.child.take();
                drop(inside);
                return child.into_iter().for_each(end);
            }
        }
    }
}

/// Microseconds since the first picture of the process: numbers grow, also over commands.
fn since_start() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Ends a command with all that it has started.
fn end(mut child: Child) {
    #[cfg(unix)]
    drop(
        Command::new("sh")
            .arg("-c")
            .arg(format!("kill -TERM -{0} 2>/dev/null; sleep 0.3; kill -KILL -{0} 2>/dev/null", child.id()))
            .spawn()
            .and_then(|mut kill| kill.wait()),
    );
    let _ = child.kill();
    let _ = child.wait();
}

/// The end of what a command says, in a line.
fn last_words(mut stderr: impl Read) -> String {
    let (mut held, mut piece) = (Vec::new(), [0; 1024]);
    while let Ok(read @ 1..) = stderr.read(&mut piece) {
        held.extend_from_slice(&piece[..read]);
        let rest = held.len().saturating_sub(TOLD_BYTES);
        held.drain(..rest);
    }
    String::from_utf8_lossy(&held).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A picture as base64 would be long; this is the smallest stream that the splitter takes for one.
    const PICTURE: &str = r"printf '\377\330\377\332\000\002\007\377\331'";

    #[test]
    fn a_command_runs_while_somebody_watches_and_is_started_again_when_it_ends() {
        let camera = Camera::start(format!("{PICTURE}; sleep 0.2; echo broken >&2"), || ()).unwrap();
        assert!(camera.inside().child.is_none(), "nobody watches");
        let viewer = camera.view().unwrap();
        let first = viewer.next(0, Duration::from_secs(10)).unwrap();
        assert_eq!(&*first.jpeg, b"\xff\xd8\xff\xda\0\x02\x07\xff\xd9");
        let second = viewer.next(first.number, Duration::from_secs(20)).unwrap();
        assert!(second.number > first.number);
        let deadline = Instant::now() + Duration::from_secs(20);
        while camera.state().1.is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let fault = camera.state().1.unwrap();
        assert!(fault.contains("has ended; it said: broken"), "{fault}");
        camera.close();
        assert!(viewer.next(u64::MAX, Duration::from_secs(5)).is_none());
    }

    #[test]
    fn there_are_only_so_many_viewers() {
        let camera = Camera::start("sleep 60".to_owned(), || ()).unwrap();
        let viewers: Vec<Viewer> = (0..MOST_VIEWERS).map(|_| camera.view().unwrap()).collect();
        assert!(camera.view().is_none());
        drop(viewers);
        assert!(camera.view().is_some());
        camera.close();
    }
}
