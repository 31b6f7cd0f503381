//! How important each pair was over a lesson, as its journal tells.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Record, RecordedLesson, refuse_irregular};
use crate::error::{Error, Result};
use crate::limits::{MOST_PAIRS, MOST_SITES};

/// The journal's name inside a store.
pub const JOURNAL: &str = "metrics.jsonl";

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

#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    /// Heads the lines of a lesson.
    lesson: Option<RecordedLesson>,
    parent: u64,
    step: u64,
    importance: BTreeMap<String, Vec<f32>>,
}

/// Reads what the journal of `store` tells of the steps of `record`: a history per site, empty where there is no journal. Lines of
/// another lesson or kind, a last one that is torn, and what speaks of another number of pairs than a site's first line, are passed
/// over; so are more pairs and sites than there can be.
///
/// # Errors
/// Kind `Io` where the journal cannot be read.
pub fn history(store: &Path, record: &Record) -> Result<BTreeMap<String, History>> {
    let path = store.join(JOURNAL);
    let mut sites: BTreeMap<String, History> = BTreeMap::new();
    let file = match refuse_irregular(&path).and_then(|()| File::open(&path)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(sites),
        file => file.map_err(|e| Error::io(&path, e))?,
    };
    let mut is_told = true;
    for line in BufReader::new(file.take(MOST_BYTES)).split(b'\n') {
        let line = line.map_err(|e| Error::io(&path, e))?;
        let Ok(Line { lesson: head, parent, step, importance }) = serde_json::from_slice(&line) else { continue };
        is_told = head.map_or(is_told, |head| head == record.lesson && parent == record.parent);
        if !is_told || step > record.steps {
            continue;
        }
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
    use crate::session::Lesson;

    /// The end of a lesson of 10 steps.
    fn record() -> Record {
        let json = serde_json::json!({ "bundle_sha256": "", "backbone_sha256": "", "precision": "", "steps": 10, "classes": [] });
        let lesson = serde_json::to_value(RecordedLesson::of(&Lesson::new("photos"))).unwrap();
        let fields = json.as_object().unwrap().iter().chain(lesson.as_object().unwrap());
        serde_json::from_value(fields.map(|(name, value)| (name.clone(), value.clone())).collect()).unwrap()
    }

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
        let sites = history(folder.path(), &record()).unwrap();
        assert_eq!(sites["a"], History { steps: vec![1, 5], pairs: vec![vec![1.0, 3.0], vec![2.0, 4.0]] });
        assert_eq!(sites["b"].pairs, [[0.5, 0.25]]);
        assert_eq!(history(&folder.path().join("nothing"), &record()).unwrap(), BTreeMap::new());
    }

    #[test]
    fn only_the_lesson_that_is_asked_for_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        // The second one with the same settings, going out from the end of the first.
        let [first, second] = [1, 2].map(|parent| Record { parent, ..record() });
        let head =
            |record: &Record| serde_json::json!({ "lesson": record.lesson, "parent": record.parent }).to_string();
        let note = |step: u64, importance: f32| format!(r#"{{"step":{step},"importance":{{"a":[{importance:.1}]}}}}"#);
        let lines = [head(&first), note(1, 1.0), note(9, 2.0), head(&second), note(1, 3.0), note(5, 4.0)];
        // The first lesson was cut off and taken up again before the second one.
        let journal = [&lines[..3], &lines[..1], &[note(9, 2.5)], &lines[3..]].concat().join("\n");
        std::fs::write(folder.path().join(JOURNAL), journal).unwrap();
        let told = |record: &Record| history(folder.path(), record).unwrap()["a"].clone();
        assert_eq!(told(&first), History { steps: vec![1, 9], pairs: vec![vec![1.0, 2.5]] });
        assert_eq!(told(&second), History { steps: vec![1, 5], pairs: vec![vec![3.0, 4.0]] });
        let earlier = Record { steps: 4, ..second };
        assert_eq!(told(&earlier), History { steps: vec![1], pairs: vec![vec![3.0]] }, "the lesson went on after it");
    }
}
