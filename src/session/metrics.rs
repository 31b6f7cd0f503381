//! The journal beside a store's generations: one JSON object a line, for people and plots. It holds times, so it is no
//! part of what two equal runs must have in common.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::adapter::Gradients;
use crate::error::{Error, Result};

/// Its name inside the store.
pub const JOURNAL: &str = "metrics.jsonl";

/// Appends lines as the run goes.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    begin: Instant,
}

impl Journal {
    pub(super) fn create(store: &Path) -> Result<Self> {
        let path = store.join(JOURNAL);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(|e| Error::io(&path, e))?;
        Ok(Journal { file, path, begin: Instant::now() })
    }

    pub(super) fn step(&mut self, step: u64, epoch: u64, gradients: &Gradients, [lr, head_lr]: [f32; 2]) -> Result<()> {
        let (loss, accuracy, seconds) = (gradients.loss, gradients.accuracy(), self.begin.elapsed().as_secs_f64());
        self.line(&serde_json::json!({
            "step": step, "epoch": epoch, "loss": loss, "accuracy": accuracy,
            "lr": lr, "head_lr": head_lr, "seconds": seconds,
        }))
    }

    pub(super) fn evaluation(&mut self, step: u64, accuracy: f64) -> Result<()> {
        let seconds = self.begin.elapsed().as_secs_f64();
        self.line(&serde_json::json!({ "step": step, "val_accuracy": accuracy, "seconds": seconds }))
    }

    fn line(&mut self, value: &serde_json::Value) -> Result<()> {
        self.file.write_all(format!("{value}\n").as_bytes()).map_err(|e| Error::io(&self.path, e))
    }
}
