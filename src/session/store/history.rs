//! How a lesson went, as its journal tells: the loss of each step, and how important each pair was.

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

/// A step of a lesson.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSeen {
    /// Its number, from 1.
    pub step: u64,
    /// Mean cross-entropy of its batch before the update.
    pub loss: f32,
    /// Share of the batch that was classified right before the update.
    pub accuracy: f64,
}

/// How a lesson went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Course {
    /// Its steps, in order.
    pub steps: Vec<StepSeen>,
    /// A history per site.
    pub sites: BTreeMap<String, History>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    /// Heads the lines of a lesson.
    lesson: Option<RecordedLesson>,
    parent: u64,
    step: u64,
    loss: Option<f32>,
    accuracy: Option<f64>,
    importance: BTreeMap<String, Vec<f32>>,
}

/// Reads what the journal of `store` tells of the importance of pairs over the steps of `record`: the sites of its [`course`].
///
/// # Errors
/// Kind `Io` where the journal cannot be read.
pub fn history(store: &Path, record: &Record) -> Result<BTreeMap<String, History>> {
    course(store, record).map(|course| course.sites)
}

/// Reads what the journal of `store` tells of the steps of `record`; nothing where there is no journal. Lines of another lesson or kind, a
/// last one that is torn, and what speaks of another number of pairs than a site's first line, are passed over; so are more pairs and
/// sites than there can be.
///
/// # Errors
/// Kind `Io` where the journal cannot be read.
pub fn course(store: &Path, record: &Record) -> Result<Course> {
    let path = store.join(JOURNAL);
    let mut course = Course::default();
    let file = match refuse_irregular(&path).and_then(|()| File::open(&path)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(course),
        file => file.map_err(|e| Error::io(&path, e))?,
    };
    let mut is_told = true;
    for line in BufReader::new(file.take(MOST_BYTES)).split(b'\n') {
        let line = line.map_err(|e| Error::io(&path, e))?;
        let Ok(line) = serde_json::from_slice::<Line>(&line) else { continue };
        is_told = line.lesson.as_ref().map_or(is_told, |head| *head == record.lesson && line.parent == record.parent);
        if is_told && line.step <= record.steps {
            course.add(line);
        }
    }
    Ok(course)
}

impl Course {
    /// A lesson that was taken up again tells some steps twice; the later line counts.
    fn add(&mut self, Line { step, loss, accuracy, importance, .. }: Line) {
        if let (Some(loss), Some(accuracy)) = (loss, accuracy) {
            self.steps.truncate(self.steps.partition_point(|seen| seen.step < step));
            self.steps.push(StepSeen { step, loss, accuracy });
        }
        for (name, values) in importance {
            if values.len() > MOST_PAIRS || self.sites.len() == MOST_SITES && !self.sites.contains_key(&name) {
                continue;
            }
            let fresh = || History { steps: Vec::new(), pairs: vec![Vec::new(); values.len()] };
            let site = self.sites.entry(name).or_insert_with(fresh);
            // Never more than the file holds: a line that speaks of other pairs than the first is passed over.
            if site.pairs.len() == values.len() {
                let known = site.steps.partition_point(|noted| *noted < step);
                site.steps.truncate(known);
                site.pairs.iter_mut().for_each(|history| history.truncate(known));
                site.pairs.iter_mut().zip(values).for_each(|(history, value)| history.push(value));
                site.steps.push(step);
            }
        }
    }
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
            r#"{"step":2,"loss":1.5,"accuracy":0.5}"#,
            r#"{"step":3,"loss":1.0,"accuracy":0.75}"#,
            r#"{"step":3,"loss":1.25,"accuracy":0.5}"#,
            r#"{"step":1,"importance":{"a":[1.0,2.0],"b":[0.5]}}"#,
            r#"{"step":5,"importance":{"a":[3.0,4.0],"b":[0.25]}}"#,
            r#"{"step":6,"importance":{"a":[3.0]}}"#,
            r#"{"step":9,"importance":{"a":[3.0"#,
        ];
        std::fs::write(folder.path().join(JOURNAL), lines.join("\n")).unwrap();
        let sites = history(folder.path(), &record()).unwrap();
        assert_eq!(sites["a"], History { steps: vec![1, 5], pairs: vec![vec![1.0, 3.0], vec![2.0, 4.0]] });
        assert_eq!(sites["b"].pairs, [[0.5, 0.25]]);
        let steps = course(folder.path(), &record()).unwrap().steps;
        let told: Vec<_> = steps.iter().map(|seen| (seen.step, seen.loss, seen.accuracy)).collect();
        assert_eq!(told, [(2, 1.5, 0.5), (3, 1.25, 0.5)], "a step that is told twice counts once");
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
