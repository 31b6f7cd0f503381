//! How important each pair was over a lesson, as its journal tells.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::metrics::JOURNAL;
use super::store::refuse_irregular;
use crate::error::{Error, Result};
use crate::limits::{MOST_PAIRS, MOST_SITES};

/// Bytes of a journal that are read: a lesson of a million steps.
const MOST_BYTES: u64 = 1 << 28;

/// Importance of a site's pairs over a lesson.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct History {
    /// The steps at which it was noted.
    pub steps: Vec<u64>,
    /// Per pair, its importance at each of them.
    pub pairs: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Line {
    step: u64,
    #[serde(default)]
    importance: BTreeMap<String, Vec<f32>>,
}

/// Reads the journal of `store`: a history per site. Lines of another kind, a last one that is torn, and what speaks of another
/// number of pairs than a site's first line, are passed over; so are more pairs and sites than there can be.
///
/// # Errors
/// Kind `Io` where there is no journal.
pub fn history(store: &Path) -> Result<BTreeMap<String, History>> {
    let path = store.join(JOURNAL);
    let file = refuse_irregular(&path).and_then(|()| File::open(&path)).map_err(|e| Error::io(&path, e))?;
    let mut sites: BTreeMap<String, History> = BTreeMap::new();
    for line in BufReader::new(file.take(MOST_BYTES)).split(b'\n') {
        let line = line.map_err(|e| Error::io(&path, e))?;
        let Ok(Line { step, importance }) = serde_json::from_slice(&line) else { continue };
        for (name, values) in importance {
            if values.len() > MOST_PAIRS || sites.len() == MOST_SITES && !sites.contains_key(&name) {
                continue;
            }
            let fresh = || History { steps: Vec::new(), pairs: vec![Vec::new(); values.len()] };
            let site = sites.entry(name).or_insert_with(fresh);
            // Never more than the file holds: a line that speaks of other pairs than the first is passed over.
            if site.pairs.len() == values.len() {
                // A lesson that was taken up again tells some steps twice.
                let known = site.steps.partition_point(|noted| *noted < step);
                site.steps.truncate(known);
                site.pairs.iter_mut().for_each(|history| history.truncate(known));
                site.pairs.iter_mut().zip(values).for_each(|(history, value)| history.push(value));
                site.steps.push(step);
            }
        }
    }
    Ok(sites)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read_line_by_line_and_what_is_torn_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let lines = [
            r#"{"step":1,"loss":2.0}"#,
            r#"{"step":1,"importance":{"a":[1.0,2.0],"b":[0.5]}}"#,
            r#"{"step":5,"importance":{"a":[3.0,4.0],"b":[0.25]}}"#,
            r#"{"step":6,"importance":{"a":[3.0]}}"#,
            r#"{"step":9,"importance":{"a":[3.0"#,
        ];
        std::fs::write(folder.path().join(JOURNAL), lines.join("\n")).unwrap();
        let sites = history(folder.path()).unwrap();
        assert_eq!(sites["a"], History { steps: vec![1, 5], pairs: vec![vec![1.0, 3.0], vec![2.0, 4.0]] });
        assert_eq!(sites["b"].pairs, [[0.5, 0.25]]);
        assert!(history(&folder.path().join("nothing")).is_err());
    }
}
