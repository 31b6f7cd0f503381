//! Flags that several commands share.

use std::path::{Path, PathBuf};

use clap::Args;

use super::values::{parse_share, parse_whole};
use crate::bundle::{Bundle, Trust};
use crate::error::Result;
use crate::peft::Naming;
use crate::session::{Length, Lesson, Validation};

#[derive(Debug, Args)]
pub(super) struct LessonFlags {
    /// One folder per class, with JPEG or PNG files. Photos of other formats are counted and named.
    #[arg(long, value_name = "DIR")]
    pub(super) data: PathBuf,
    /// Photos held back to measure accuracy on, in folders as --data has them. None of them may be in --data.
    #[arg(long, value_name = "DIR", conflicts_with = "val_split")]
    val: Option<PathBuf>,
    /// Or the share of each class of --data to hold back for that, for instance 0.2.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    val_split: Option<f64>,
    /// Passes over the photos [default: 15].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "steps")]
    pub(super) epochs: Option<u32>,
    /// Or the number of steps; a step takes one batch.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) steps: Option<u32>,
    /// Photos per step [default: 16].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(super) batch: Option<u32>,
    /// Threads that photos run on. The result does not depend on their number.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
}

/// Whose bundles are taken; every command that takes one has these.
#[derive(Debug, Args)]
pub(super) struct TrustFlags {
    /// Take only a bundle signed by the owner of this Ed25519 public key, a PEM file [default: any bundle].
    #[arg(long, value_name = "KEYFILE")]
    verify_key: Option<PathBuf>,
    /// Take only a bundle of this release or a later one.
    #[arg(long, value_name = "N", requires = "verify_key", value_parser = parse_whole::<u64>)]
    min_release: Option<u64>,
}

impl TrustFlags {
    /// What is asked of a bundle, if anything is.
    pub(super) fn read(&self) -> Result<Option<Trust>> {
        self.verify_key.as_deref().map(|key| Trust::read(key, self.min_release.unwrap_or(0))).transpose()
    }

    pub(super) fn open(&self, path: &Path) -> Result<Bundle> {
        match self.read()? {
            Some(trust) => Bundle::open_trusted(path, &trust),
            None => Bundle::open(path),
        }
    }
}

impl LessonFlags {
    /// The lesson that these flags ask for, by default in all else.
    pub(super) fn lesson(&self) -> Lesson {
        let defaults = Lesson::new(self.data.clone());
        let validation = match (&self.val, self.val_split) {
            (Some(folder), _) => Validation::Photos(folder.clone().into()),
            (None, Some(share)) => Validation::Split(share),
            (None, None) => Validation::None,
        };
        let length = match (self.epochs, self.steps) {
            (_, Some(steps)) => Length::Steps(steps),
            (Some(epochs), None) => Length::Epochs(epochs),
            (None, None) => defaults.length,
        };
        let batch = self.batch.map_or(defaults.batch, |batch| batch as usize);
        Lesson { validation, length, batch, threads: self.threads as usize, ..defaults }
    }
}

/// How the modules of PyTorch's network are found.
#[derive(Debug, Args)]
pub(super) struct NamingFlags {
    /// The network's weights in PyTorch, a safetensors file. Modules are found by their weights, and batch norms that the ONNX file has
    /// folded are undone.
    #[arg(long, value_name = "WEIGHTS")]
    torch: Option<PathBuf>,
    /// A TOML file with a line `"site" = "path.of.the.module"` for each site whose name tells nothing, and `head = "..."` for the
    /// classifier [default: the names that PyTorch's exporters leave].
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
}

impl NamingFlags {
    pub(super) fn is_given(&self) -> bool {
        self.torch.is_some() || self.map.is_some()
    }

    pub(super) fn naming(&self) -> Naming {
        Naming { torch: self.torch.clone(), map: self.map.clone() }
    }
}
