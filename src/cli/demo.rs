//! `srlora demo`.

use super::output::Output;
use crate::error::Result;

pub(super) fn run(_output: &Output) -> Result<()> {
    Ok(())
}
