//! What a reader finds in a store after a power cut: tried on the real files.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::session::store::{Series, Store};

/// The generation that opens where `durable` generations of `store` were written, and, where `saving`, half of the next one is
/// there under its name: a medium may keep the name and lose the bytes. `None` where the store had not appeared yet. It is tried in
/// `folder`, of which nothing is left.
///
/// # Errors
/// `Io`; `Store` where nothing opens that should.
pub(super) fn after_cut(store: &Path, durable: u64, saving: bool, folder: &Path) -> Result<Option<u64>> {
    if durable == 0 {
        return Ok(None);
    }
    let place = TempDir::new_in(folder).map_err(|e| Error::io(folder, e))?;
    let copy = |series: Series, number: u64, share: usize| {
        let (from, to) = (series.file(store, number), series.file(place.path(), number));
        let bytes = fs::read(&from).map_err(|e| Error::io(&from, e))?;
        fs::write(&to, &bytes[..bytes.len() / share]).map_err(|e| Error::io(&to, e))
    };
    (1..=durable).try_for_each(|number| copy(Series::Generation, number, 1))?;
    if saving {
        // The lesson may have been kept aside.
        let is_aside = Series::Aside.file(store, durable + 1).exists();
        copy(if is_aside { Series::Aside } else { Series::Generation }, durable + 1, 2)?;
    }
    Ok(Some(Store::open(place.path())?.current()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Container, Kind};

    #[test]
    fn half_a_generation_is_passed_over_for_the_one_before() {
        let store = tempfile::tempdir().unwrap();
        for number in [1, 2] {
            let mut container = Container::new(Kind::Store);
            container.insert_u32("head/age", &[1], vec![number]).unwrap();
            container.write_new(&Series::Generation.file(store.path(), number.into())).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let left = |durable, saving| after_cut(store.path(), durable, saving, folder.path()).unwrap();
        assert_eq!([left(0, true), left(1, false), left(1, true), left(2, false)], [None, Some(1), Some(1), Some(2)]);
        let [second, aside] = [Series::Generation, Series::Aside].map(|series| series.file(store.path(), 2));
        fs::rename(second, aside).unwrap();
        assert_eq!(left(1, true), Some(1), "half of a lesson kept aside");
    }
}
