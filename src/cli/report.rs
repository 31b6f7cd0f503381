//! `--report FILE`: what a command has found, as a page.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{Output, quoted, shown};
use crate::bundle::{Bundle, check_output, write_new};
use crate::error::{Error, ErrorKind, Result};
use crate::report::Origin;

/// Commands that find something out have this.
#[derive(Debug, Args)]
pub(super) struct ReportFlag {
    /// Also write the result as a page with pictures into this HTML file, which must not exist yet. The file stands alone: it has no
    /// scripts, and small copies of photos that were classified wrongly.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl ReportFlag {
    /// Finds out before the work whether the page can be written: nothing may be in its place, nor may one of the command's own `outputs`
    /// come to be there.
    pub(super) fn check<'p>(&self, outputs: impl IntoIterator<Item = &'p Path>) -> Result<()> {
        let Some(file) = &self.report else { return Ok(()) };
        check_output(file)?;
        match outputs.into_iter().find(|output| placed(file).starts_with(placed(output))) {
            Some(output) => {
                let message = format!(
                    "lies at or in {}, which the command writes itself; choose another place",
                    output.display()
                );
                Err(Error::new(ErrorKind::Usage, format_args!("--report {}", file.display()), message))
            }
            None => Ok(()),
        }
    }

    /// Writes the page, where one was asked for.
    pub(super) fn write(&self, output: &Output, page: impl FnOnce() -> Result<String>) -> Result<()> {
        let Some(file) = &self.report else { return Ok(()) };
        write_new(file, page()?.as_bytes())?;
        output.say(&format!("report: {}", shown(file)))
    }
}

/// The path with its folder's links resolved, whether or not something is there.
fn placed(path: &Path) -> PathBuf {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    path.file_name().map_or_else(|| folder.clone(), |name| folder.join(name))
}

/// Where the result comes from.
pub(super) fn origin<'b>(bundle: &'b Bundle, photos: impl Into<String>, store: Option<&Path>) -> Origin<'b> {
    // What begins with a dash is a flag here, not the name of a file.
    let word = |word: OsString| match word.as_encoded_bytes() {
        [b'-', ..] => quoted(Path::new(&word)).replacen("./", "", 1),
        _ => quoted(Path::new(&word)),
    };
    let words = std::env::args_os().skip(1).map(word);
    let command = ["srlora".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ");
    Origin { command, bundle, photos: photos.into(), store: store.map(shown) }
}
