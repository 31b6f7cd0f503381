//! `srlora rollback` and `srlora forget`: a store changes without photos.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::args::{ForgetArgs, RollbackArgs};
use super::output::{Output, plain, shown, tell};
use crate::error::Result;
use crate::session::Store;
use crate::session::store::Disk;

/// A store's current generation after a change; a key without a value is null.
#[derive(Serialize)]
struct Changed {
    /// The new generation's number.
    generation: u64,
    /// The number whose contents it has.
    contents_of: Option<u64>,
    /// The classes that it knows.
    classes: Vec<String>,
}

fn open(path: &Path) -> Result<Store> {
    let store = Store::open_to_write(Arc::new(Disk), path)?;
    if let Some(warning) = store.warning() {
        tell(format_args!("warning: {warning}"));
    }
    if let Some(step) = store.steps_under_way()? {
        tell(format_args!("warning: a lesson under way, after step {step}, is let go"));
    }
    Ok(store)
}

pub(super) fn rollback(args: &RollbackArgs, output: &Output) -> Result<()> {
    let mut store = open(&args.store)?;
    let number = store.rollback(args.to)?;
    let changed = Changed { generation: store.current(), contents_of: Some(number), classes: store.record()?.classes };
    output.result(&changed, |changed| {
        let store = shown(&args.store);
        format!("{store}: generation {} holds what generation {number} held\n", changed.generation)
    })
}

pub(super) fn forget(args: &ForgetArgs, output: &Output) -> Result<()> {
    let mut store = open(&args.store)?;
    store.forget(&args.class)?;
    let changed = Changed { generation: store.current(), contents_of: None, classes: store.record()?.classes };
    output.result(&changed, |changed| {
        format!(
            "{}: generation {} knows {}, and no longer {}; older generations still do, until later ones take their place\n",
            shown(&args.store),
            changed.generation,
            plain(changed.classes.join(", ")),
            plain(&args.class)
        )
    })
}
