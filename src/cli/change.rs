//! `srlora rollback` and `srlora forget`: a store changes without photos.

use std::path::Path;

use serde::Serialize;

use super::args::{ForgetArgs, RollbackArgs};
use super::output::{Output, plain, shown, tell};
use crate::error::Result;
use crate::session::StoreWriter;

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

/// The store, and the steps of a lesson under way, which a change lets go.
fn open(path: &Path) -> Result<(StoreWriter, Option<u64>)> {
    let store = StoreWriter::open(path)?;
    if let Some(warning) = store.warning() {
        tell(format_args!("warning: {warning}"));
    }
    let under_way = store.steps_under_way()?;
    Ok((store, under_way))
}

fn let_go(under_way: Option<u64>) {
    if let Some(step) = under_way {
        tell(format_args!("warning: a lesson under way, after step {step}, is let go"));
    }
}

pub(super) fn rollback(args: &RollbackArgs, output: &Output) -> Result<()> {
    let (mut store, under_way) = open(&args.store)?;
    let number = store.rollback(args.to)?;
    let_go(under_way);
    let changed = Changed { generation: store.current(), contents_of: Some(number), classes: store.record()?.classes };
    output.result(&changed, |changed| {
        let store = shown(&args.store);
        format!("{store}: generation {} holds what generation {number} held\n", changed.generation)
    })
}

pub(super) fn forget(args: &ForgetArgs, output: &Output) -> Result<()> {
    let (mut store, under_way) = open(&args.store)?;
    store.forget(&args.class)?;
    let_go(under_way);
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
