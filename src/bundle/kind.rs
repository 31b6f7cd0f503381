//! What a safetensors file of ours is for.

use crate::error::ErrorKind;

/// What a file is for: decides its `format` entry, and the kind and the advice of every error about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What ships to the device.
    Bundle,
    /// One generation of a personal store.
    Store,
    /// A lesson under way.
    Checkpoint,
    /// Examples of photos, for later lessons.
    Replay,
}

impl Kind {
    pub(super) const fn format(self) -> &'static str {
        match self {
            Kind::Bundle => "srlora-bundle",
            Kind::Store => "srlora-store",
            Kind::Checkpoint => "srlora-checkpoint",
            Kind::Replay => "srlora-replay",
        }
    }

    pub(super) const fn noun(self) -> &'static str {
        match self {
            Kind::Bundle => "a bundle",
            Kind::Store => "a store generation",
            Kind::Checkpoint => "a lesson under way",
            Kind::Replay => "a replay buffer",
        }
    }

    pub(super) const fn remedy(self) -> &'static str {
        match self {
            Kind::Bundle => "copy it again from where it came, or make it anew with `srlora pack`",
            Kind::Store => "go on from an earlier generation, or restore this file from a copy",
            Kind::Checkpoint => "remove it: the lesson begins anew",
            Kind::Replay => "remove it: later lessons go on without its examples",
        }
    }

    pub(super) const fn error_kind(self) -> ErrorKind {
        match self {
            Kind::Bundle => ErrorKind::Bundle,
            Kind::Store | Kind::Checkpoint | Kind::Replay => ErrorKind::Store,
        }
    }
}
