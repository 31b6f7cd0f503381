//! Where results and progress go: JSON alone on stdout, or text; bars on a terminal, plain lines elsewhere.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result, with_options};
pub(super) use crate::report::words::{count, percent, plain, size};
use crate::session::{CachePlace, Forecast, Progress};

/// Without a terminal, a line at most this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How to answer.
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Output { json }
    }

    /// Prints the result: as JSON, or as `text` makes it.
    pub(super) fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        if self.json { self.json(value) } else { print(text(value)) }
    }

    /// A line of the result that only --json has.
    pub(super) fn json(&self, value: &impl Serialize) -> Result<()> {
        if !self.json {
            return Ok(());
        }
        print(serde_json::to_string(value).map_err(|e| Error::new(ErrorKind::Internal, "--json", e))?)
    }

    /// Something to read before the result; not printed with --json.
    pub(super) fn say(&self, text: &str) -> Result<()> {
        if self.json { Ok(()) } else { print(text.to_owned()) }
    }
}

/// Text that ends a line, on stdout.
fn print(mut text: String) -> Result<()> {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A reader that has gone away (`| head`) is no failure of ours.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(ErrorKind::Io, "standard output", format_args!("the result cannot be written: {e}")))
        }
        _ => Ok(()),
    }
}

/// One line on stderr. A stderr that is full or closed takes nothing, and stops nothing.
pub(super) fn tell(text: impl Display) {
    let _ = writeln!(io::stderr(), "{}", plain(in_flags(&text.to_string())));
}

/// The library speaks of "option `ram_limit`"; who reads this has typed --ram-limit.
pub(super) fn in_flags(text: &str) -> String {
    with_options(text, |name| format!("--{}", name.replace('_', "-")))
}

/// [`plain`] of a path.
pub(super) fn shown(path: &Path) -> String {
    plain(path.display())
}

/// A path as one word of a shell's command line, and one line of a terminal: bare, in single quotes, or, with control characters or
/// bytes that are no text, as bash and zsh take it, `$'...'` with these as octal numbers.
pub(super) fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    // It would be taken for a flag.
    let before = if bytes.starts_with(b"-") { "./" } else { "" };
    match path.to_str() {
        Some(text) if !text.contains(char::is_control) => {
            let is_bare = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
            let is_word = !text.is_empty() && text.chars().all(is_bare);
            if is_word { format!("{before}{text}") } else { format!("'{before}{}'", text.replace('\'', r"'\''")) }
        }
        _ => {
            let octal = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:03o}")).collect::<String>();
            let escape = |c: char| match c {
                '\'' | '\\' => format!("\\{c}"),
                c if c.is_control() => octal(c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => c.to_string(),
            };
            let chunks = bytes.utf8_chunks();
            let text =
                chunks.map(|chunk| chunk.valid().chars().map(escape).collect::<String>() + &octal(chunk.invalid()));
            format!("$'{before}{}'", text.collect::<String>())
        }
    }
}

/// Shows [`Progress`] on stderr.
pub(super) struct Meter {
    bar: Option<ProgressBar>,
    terminal: bool,
    phase: String,
    total: u64,
    done: u64,
    last_line: Instant,
}

impl Meter {
    pub(super) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Meter { bar: None, terminal, phase: String::new(), total: 0, done: 0, last_line: Instant::now() }
    }

    pub(super) fn show(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Begin { phase, total } => self.begin(phase, total),
            Progress::Advance => self.advance(""),
            Progress::Step { loss, accuracy, .. } => {
                self.advance(&format!("loss {loss:.3}  accuracy {:5.1} %", accuracy * 100.0));
            }
            Progress::End => self.end(),
            Progress::Planned(forecast) => self.line(&planned(forecast)),
            Progress::Note(text) => self.line(text),
            Progress::Warning(text) => self.line(&format!("warning: {text}")),
        }
    }

    /// A phase without a known length.
    pub(super) fn working(&mut self, what: &str) {
        if !self.terminal {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        bar.set_message(what.to_string());
    }

    fn begin(&mut self, phase: &str, total: u64) {
        self.end();
        (self.phase, self.total, self.done) = (phase.trim().to_string(), total, 0);
        self.last_line = Instant::now();
        if self.terminal {
            let template = "{prefix:>16} [{wide_bar:.cyan/blue}] {pos}/{len}  {msg}  eta {eta}";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(total).with_style(style.progress_chars("=> ")).with_prefix(self.phase.clone());
            bar.enable_steady_tick(Duration::from_millis(250));
            self.bar = Some(bar);
        }
    }

    fn advance(&mut self, message: &str) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
            if !message.is_empty() {
                bar.set_message(message.to_string());
            }
        } else if self.last_line.elapsed() >= LINE_EVERY || (self.done == self.total && !message.is_empty()) {
            self.last_line = Instant::now();
            tell(format_args!("{} {}/{}  {message}", self.phase, self.done, self.total));
        }
    }

    pub(super) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell(text)),
            None => tell(text),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.end();
    }
}

/// A forecast in a line.
fn planned(forecast: &Forecast) -> String {
    let memory =
        forecast.peak_rss_bytes.map_or_else(String::new, |bytes| format!("{} of memory at most, ", size(bytes)));
    let cache = match forecast.cache {
        CachePlace::Off => "no cache".to_owned(),
        CachePlace::Ram => format!("a cache of {} in memory", size(forecast.cache_bytes)),
        CachePlace::Disk => format!("a cache of {} on disk", size(forecast.cache_bytes)),
    };
    let again = if forecast.recompute { ", activations computed again" } else { "" };
    let (threads, writes) = (count(forecast.threads, "thread"), size(forecast.write_bytes));
    let cross_validation = match forecast.cross_validated_steps {
        0 => String::new(),
        more => format!(
            ", {} and up to {more} to cross-validate them",
            count(usize::try_from(forecast.steps).unwrap_or(usize::MAX), "step")
        ),
    };
    let (step, seconds) = (forecast.step_ms, forecast.seconds);
    format!(
        "plan: {memory}{threads}{again}, {cache}, {writes} to write{cross_validation}, {step:.0} ms a step, about {seconds:.0} s and decoding"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_path_are_escaped() {
        assert_eq!(shown(Path::new("a\rb/c")), "a\\rb/c");
    }

    #[test]
    fn options_of_the_library_are_flags_here_and_names_of_nodes_stay() {
        let told = in_flags("node `data`: give an option `ram_limit` of 40, or option `cache` off; option `");
        assert_eq!(told, "node `data`: give a --ram-limit of 40, or --cache off; option `");
    }

    #[cfg(unix)]
    #[test]
    fn a_quoted_path_is_read_by_a_shell_as_that_path() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;

        for (bytes, word) in [
            (&b"plain/path-1.2_x+y,z:@%=.store"[..], "plain/path-1.2_x+y,z:@%=.store"),
            (b"my photos", "'my photos'"),
            (b"it's $(rm) `x` \"q\" \\ * ? ~ ! # & ; | < >", r#"'it'\''s $(rm) `x` "q" \ * ? ~ ! # & ; | < >'"#),
            ("Übung 薔薇".as_bytes(), "'Übung 薔薇'"),
            (b"-o", "./-o"),
            (b"- o", "'./- o'"),
            (b"a\nb\x1b[2J'\\\xff", r"$'a\012b\033[2J\'\\\377'"),
            ("-\u{9b}1".as_bytes(), r"$'./-\302\2331'"),
        ] {
            let path = Path::new(OsStr::from_bytes(bytes));
            assert_eq!(quoted(path), word);
            assert!(!quoted(path).contains(char::is_control), "{word:?}");
            let printed =
                std::process::Command::new("bash").args(["-c", &format!("printf %s {word}")]).output().unwrap();
            assert_eq!(printed.stdout.strip_prefix(b"./").unwrap_or(&printed.stdout), bytes, "{word}");
        }
        assert_eq!(quoted(Path::new("")), "''");
    }
}
