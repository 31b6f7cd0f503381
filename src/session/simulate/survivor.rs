//! What a reader finds in a store after a power cut: tried on the real files.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::session::store::{Store, file};

/// The generation that opens where `durable` generations of `store` were written, and, where `saving`, half of the next one is
/// there under its name: a medium may keep the name and lose the bytes. `None` where the store had not appeared yet.
///
/// # Errors
/// `Io`; `Store` where nothing opens that should.
pub(super) fn after_cut(store: &Path, durable: u64, saving: bool) -> Result<Option<u64>> {
    if durable == 0 {
        return Ok(None);
    }
    let place = TempDir::with_prefix("srlora-cut-").map_err(|e| Error::io(&std::env::temp_dir(), e))?;
    let copy = |number: u64, share: usize| {
        let (from, to) = (file(store, number), file(place.path(), number));
        let bytes = fs::read(&from).map_err(|e| Error::io(&from, e))?;
        fs::write(&to, &bytes[..bytes.len() / share]).map_err(|e| Error::io(&to, e))
    };
    (1..=durable).try_for_each(|number| copy(number, 1))?;
    if saving {
        copy(durable + 1, 2)?;
    }
    Ok(Some(Store::open(place.path())?.current()))
}
