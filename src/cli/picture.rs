//! Importance over a lesson as a line of blocks per site, for a terminal.

use crate::report::chart::importance::{height, largest};
use crate::session::{Event, History, Outcome};

/// Blocks of a terminal's line, from nothing to all.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Columns of a terminal's line.
const COLUMNS: usize = 60;

/// The most important pair's course, its columns spread evenly over the notes; under it a mark where pairs started anew.
pub(super) fn line(history: &History, events: &[&Event]) -> [String; 2] {
    let (notes, most) = (history.steps.len(), largest(history));
    let columns = COLUMNS.min(notes);
    let column = |at: usize| at * columns / notes.max(1);
    let mut heights = vec![0.0f32; columns];
    for pair in &history.pairs {
        pair.iter()
            .enumerate()
            .for_each(|(at, &value)| heights[column(at)] = heights[column(at)].max(height(value, most)));
    }
    let mut marks = vec![' '; columns];
    for event in events {
        let after = history.steps.partition_point(|&step| step <= event.step).saturating_sub(1);
        let mark = if event.outcome == Outcome::Undone { 'x' } else { '^' };
        marks.get_mut(column(after)).into_iter().for_each(|place| *place = mark);
    }
    let block = |h: &f32| BLOCKS[(h * (BLOCKS.len() - 1) as f32).round() as usize];
    [heights.iter().map(block).collect(), marks.into_iter().collect()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(step: u64, outcome: Outcome) -> Event {
        Event { step, site: "a<b".into(), pair: 0, direction: 3, importance: 0.1, max_error: 0.0, outcome }
    }

    #[test]
    fn a_line_shows_the_course_and_marks_where_pairs_started_anew() {
        let history = History { steps: vec![1, 2, 3, 4], pairs: vec![vec![1e-9, 1e-3, 1.0, 1.0], vec![0.0; 4]] };
        let [course, marks] = line(&history, &[&event(2, Outcome::Kept), &event(4, Outcome::Undone)]);
        assert_eq!((course.as_str(), marks.as_str()), ("▁▅██", " ^ x"));
        assert_eq!(line(&History::default(), &[&event(1, Outcome::Open)]), [String::new(), String::new()]);
    }
}
