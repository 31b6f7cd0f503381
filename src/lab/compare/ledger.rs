//! Runs that are done, one JSON object a line, each with its settings: a comparison that was stopped goes on where it was.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bundle::sync_folder_of;
use crate::error::{Error, ErrorKind, Result};
use crate::session::policy::CrossValidation;
use crate::session::store::hold;

/// What begins a line; a file of anything else is not touched.
const MARK: &str = "{\"compare\":5,";

/// What all runs of a comparison share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonSettings {
    /// Of the program.
    pub version: String,
    /// Hash of the bundle.
    pub bundle_sha256: String,
    /// Hash of names and contents of the photos trained on.
    pub data_sha256: String,
    /// Hash of those that accuracy is measured on.
    pub val_sha256: String,
    /// Passes over the photos; null where steps are given.
    pub epochs: Option<u32>,
    /// Steps of each run; null where epochs are given.
    pub steps: Option<u32>,
    /// Photos per step.
    pub batch: usize,
    /// The head's rate beside pairs.
    pub head_lr: f32,
    /// Steps between recompositions, 0 for none; null: once.
    pub interval: Option<u32>,
    /// Times that a run is measured on its way.
    pub points: u32,
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To choose a learning rate, on a part of the training photos that its seed decides.
    Rate,
    /// To be told of.
    Result,
}

/// What tells runs of one comparison apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// The contender's name.
    pub method: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Its seed.
    pub seed: u64,
    /// The rate of the pairs; null without pairs.
    pub lr: Option<f32>,
    /// The rate of the head; null where it is only imprinted.
    pub head_lr: Option<f32>,
}

/// One finished run; times in seconds or milliseconds, sizes in bytes, accuracies in 0..1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Which one it is.
    #[serde(flatten)]
    pub key: Key,
    /// On the photos that were measured, at the end; null where the loss stopped being a number.
    pub accuracy: Option<f64>,
    /// (step, accuracy) on the way.
    pub curve: Vec<(u64, f64)>,
    /// Mean cross-entropy over the last epoch; null where nothing was trained.
    pub train_loss: Option<f32>,
    /// Optimizer steps.
    pub steps: u64,
    /// Photos trained on.
    pub images: usize,
    /// Photos measured on.
    pub val_images: usize,
    /// Numbers that the optimizer moves.
    pub trainable_params: usize,
    /// Pairs that were fused and started anew.
    pub recompositions: usize,
    /// How many of these were taken back.
    pub undone: usize,
    /// How lessons did on photos left out, where photos are few: it decides whether pairs learn; null elsewhere.
    pub cross_validation: Option<CrossValidation>,
    /// Threads that photos were run on.
    pub threads: usize,
    /// Median time of one batch, the prefix's outputs at hand.
    pub step_ms_median: Option<f64>,
    /// Imprinting and training, the prefix's outputs at hand; measuring is not in it.
    pub seconds: f64,
    /// The largest resident size of the process during the run; null where the system cannot count it for a part of its life.
    pub peak_rss_bytes: Option<u64>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line<S, R> {
    compare: u32,
    settings: S,
    run: R,
}

/// The runs so far, and the file that keeps them.
pub(super) struct RunFile {
    settings: ComparisonSettings,
    /// Locked for as long as it is open.
    file: Option<(PathBuf, File)>,
    runs: Vec<Run>,
}

impl RunFile {
    /// Reads what the file at `path` holds, and keeps other comparisons from writing to it; where there is none it is made. Without
    /// a `path` nothing is kept. A last line that was cut off is dropped, and `warn` told.
    ///
    /// # Errors
    /// `Mismatch` where it holds anything else, or runs with other settings; `Busy` where another comparison writes to it;
    /// `Unsynced` where its folder cannot be synced; `Io` where it cannot be read or written.
    pub(super) fn open(path: Option<&Path>, settings: ComparisonSettings, warn: impl FnOnce(&str)) -> Result<Self> {
        let mut ledger = RunFile { settings, file: None, runs: Vec::new() };
        let Some(path) = path else { return Ok(ledger) };
        let (file, bytes) = held(path, sync_folder_of)?;
        let other = |what: String| Error::new(ErrorKind::Mismatch, path.display(), what);
        let strange = |line: usize| other(format!("line {line} is no run of this `srlora compare`; choose another -o"));
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for (nth, line) in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
            let Line { settings, run, .. } = serde_json::from_slice::<Line<Value, Run>>(line)
                .ok()
                .filter(|_| line.starts_with(MARK.as_bytes()))
                .ok_or_else(|| strange(nth + 1))?;
            if let Some(what) = ledger.unlike(&settings) {
                let message =
                    format!("holds runs with other settings: {what}; choose another -o, or the same settings");
                return Err(other(message));
            }
            ledger.runs.push(run);
        }
        let torn = &bytes[whole..];
        if !torn.is_empty() {
            let begun = torn.len().min(MARK.len());
            if torn[..begun] != MARK.as_bytes()[..begun] {
                return Err(strange(ledger.runs.len() + 1));
            }
            file.set_len(whole as u64).map_err(|e| Error::io(path, e))?;
            warn(&format!("{}: its last line was cut off and is dropped; that run is done again", path.display()));
        }
        ledger.file = Some((path.to_path_buf(), file));
        Ok(ledger)
    }

    /// Which settings differ from ours, theirs first.
    fn unlike(&self, theirs: &Value) -> Option<String> {
        // By way of text, as theirs came: an f32 is another number as a value than as the text of one.
        let ours = serde_json::to_string(&self.settings).ok();
        let ours: Value = ours.and_then(|text| serde_json::from_str(&text).ok())?;
        let fields = ours.as_object()?.iter();
        let differ = fields.filter(|(name, value)| theirs.get(name.as_str()) != Some(value));
        let told: Vec<String> = differ
            .map(|(name, value)| format!("{name} {}, not {value}", theirs.get(name.as_str()).unwrap_or(&Value::Null)))
            .collect();
        (!told.is_empty()).then(|| told.join(", "))
    }

    pub(super) fn settings(&self) -> &ComparisonSettings {
        &self.settings
    }

    /// The run of this key, if it is done.
    pub(super) fn find(&self, key: &Key) -> Option<&Run> {
        self.runs.iter().find(|run| run.key == *key)
    }

    /// Takes a run over, durably where there is a file; gives it back with the digits that a later start reads.
    ///
    /// # Errors
    /// `Io` where it cannot be written.
    pub(super) fn add(&mut self, run: &Run) -> Result<&Run> {
        let fault = |e: serde_json::Error| Error::new(ErrorKind::Internal, &run.key.method, e);
        let mut line = serde_json::to_string(&Line { compare: 5, settings: &self.settings, run }).map_err(fault)?;
        let read = serde_json::from_str::<Line<Value, Run>>(&line).map_err(fault)?.run;
        line.push('\n');
        if let Some((path, file)) = &mut self.file {
            file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).map_err(|e| Error::io(path, e))?;
        }
        self.runs.push(read);
        Ok(&self.runs[self.runs.len() - 1])
    }
}

/// The file at `path` with a durable name, locked, to be written at its end; and what it holds.
fn held(path: &Path, sync_name: impl FnOnce(&Path) -> io::Result<()>) -> Result<(File, Vec<u8>)> {
    let fault = |e| Error::io(path, e);
    if path.symlink_metadata().is_ok() && !path.is_file() {
        return Err(Error::new(ErrorKind::Mismatch, path.display(), "is no file; choose another -o"));
    }
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(fault)?;
    if !hold(&file).map_err(fault)? {
        let message = "another comparison is writing to it; wait until it has ended, or choose another -o";
        return Err(Error::new(ErrorKind::Busy, path.display(), message));
    }
    sync_name(path).map_err(|e| Error::unsynced(path, "is there", "try again, or choose another -o", e))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(fault)?;
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn settings() -> ComparisonSettings {
        ComparisonSettings {
            version: "1".into(),
            bundle_sha256: "b".into(),
            data_sha256: "d".into(),
            val_sha256: "v".into(),
            epochs: None,
            steps: Some(30),
            batch: 16,
            head_lr: 1e-3,
            interval: None,
            points: 12,
        }
    }

    fn run(seed: u64) -> Run {
        let key = Key { method: "lora".into(), purpose: Purpose::Result, seed, lr: Some(3e-3), head_lr: Some(1e-3) };
        Run {
            key,
            accuracy: Some(1.0 / 3.0),
            curve: vec![(0, 0.1), (30, 1.0 / 3.0)],
            train_loss: Some(0.7),
            steps: 30,
            images: 8,
            val_images: 8,
            trainable_params: 10,
            recompositions: 0,
            threads: 1,
            step_ms_median: Some(0.1),
            seconds: 0.2,
            undone: 0,
            cross_validation: None,
            peak_rss_bytes: None,
        }
    }

    fn quiet(path: &Path) -> Result<RunFile> {
        RunFile::open(Some(path), settings(), |warning| panic!("{warning}"))
    }

    #[test]
    fn runs_come_back_and_a_line_that_was_cut_off_is_dropped() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("compare.jsonl");
        let mut ledger = quiet(&path).unwrap();
        for seed in 0..3 {
            ledger.add(&run(seed)).unwrap();
        }
        let runs = std::mem::take(&mut ledger.runs);
        drop(ledger);
        let again = quiet(&path).unwrap();
        assert_eq!(again.runs, runs);
        assert!(again.find(&run(2).key).is_some() && again.find(&run(3).key).is_none());
        drop(again);

        let whole = fs::read(&path).unwrap();
        let second = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(1).unwrap().0 + 1;
        for cut in [second + 1, second + 20, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut warnings = 0;
            let mut ledger = RunFile::open(Some(&path), settings(), |_| warnings += 1).unwrap();
            assert_eq!((ledger.runs.len(), warnings), (2, 1));
            ledger.add(&run(2)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn a_second_comparison_in_the_same_file_is_refused_while_the_first_one_lives() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("compare.jsonl");
        let mut first = quiet(&path).unwrap();
        for seed in 0..2 {
            let error = quiet(&path).err().unwrap();
            assert!(error.kind() == ErrorKind::Busy && error.message().contains("another comparison"), "{error}");
            first.add(&run(seed)).unwrap();
        }
        drop(first);
        assert_eq!(quiet(&path).unwrap().runs.len(), 2);
    }

    #[test]
    fn a_file_whose_name_cannot_be_made_durable_is_refused_before_the_first_run() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("compare.jsonl");
        let error = held(&path, |_| Err(io::Error::other("worn out"))).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsynced);
        assert!(error.to_string().contains("compare.jsonl: is there, but a power cut may still take it"), "{error}");
        let mut asked = Vec::new();
        let sync = |path: &Path| {
            asked.push(path.to_path_buf());
            Ok(())
        };
        held(&path, sync).unwrap();
        assert_eq!(asked, [path], "whoever made the file may have been cut before its folder was synced");
    }

    #[test]
    fn files_of_other_settings_or_of_anything_else_are_refused_and_left_alone() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("compare.jsonl");
        quiet(&path).unwrap().add(&run(0)).unwrap();
        let before = fs::read(&path).unwrap();
        let other = ComparisonSettings { steps: Some(40), data_sha256: "e".into(), ..settings() };
        let error = RunFile::open(Some(&path), other, |_| ()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert!(error.message().contains("data_sha256 \"d\", not \"e\", steps 30, not 40"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);

        for text in ["my diary", "my diary\n", "{\"compare\":1}\n", "{\"compare\": 2}", "{}\n"] {
            fs::write(&path, text).unwrap();
            let error = quiet(&path).err().unwrap();
            assert!(error.message().contains("line 1 is no run"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let error = quiet(folder.path()).err().unwrap();
        assert!(error.message().contains("is no file"), "{error}");
    }
}
