//! Importance over a lesson, as a picture: an SVG file, or a line of blocks per site for a terminal.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::output::plain;
use crate::session::{Event, History, Outcome};

/// Blocks of a terminal's line, from nothing to all.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Columns of a terminal's line.
const COLUMNS: usize = 60;
/// Width and height of a site's panel, and the room that its name takes above it, in pixels.
const PANEL: [f64; 3] = [640.0, 72.0, 20.0];
/// Powers of ten below the largest importance that a picture shows.
const DECADES: f32 = 6.0;

/// Where `value` lies between the largest importance (1) and six powers of ten below it (0).
fn height(value: f32, largest: f32) -> f32 {
    let below = (largest / value.max(f32::MIN_POSITIVE)).log10();
    (1.0 - below / DECADES).clamp(0.0, 1.0)
}

fn largest(history: &History) -> f32 {
    history.pairs.iter().flatten().copied().fold(f32::MIN_POSITIVE, f32::max)
}

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

/// A panel per site: a line per pair on a logarithmic scale, and an upright one where pairs started anew.
pub(super) fn svg(sites: &BTreeMap<String, History>, events: &[Event]) -> String {
    let [width, panel, title] = PANEL;
    let total = sites.len() as f64 * (panel + title) + 2.0 * title;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {total}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <style>path{{fill:none;stroke-width:1.2}} .kept{{stroke:#2a7}} .undone{{stroke:#c33;stroke-dasharray:3}} .open{{stroke:#888}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"14\">importance of every pair over the lesson, {DECADES} powers of ten; upright: fused and started \
         anew (green) or taken back (red)</text>\n",
        width + 20.0
    );
    for (nth, (name, history)) in sites.iter().enumerate() {
        let (top, most) = (nth as f64 * (panel + title) + 2.0 * title, largest(history));
        let end = history.steps.last().copied().unwrap_or(1).max(1) as f64;
        let x = |step: u64| 10.0 + width * step as f64 / end;
        let _ = writeln!(text, "<text x=\"10\" y=\"{}\">{} (at most {most:.1e})</text>", top - 4.0, escaped(name));
        let _ = writeln!(text, "<rect x=\"10\" y=\"{top}\" width=\"{width}\" height=\"{panel}\" fill=\"#f6f6f6\"/>");
        for (pair, values) in history.pairs.iter().enumerate() {
            let point = |(&step, &value): (&u64, &f32)| {
                format!("{:.1} {:.1}", x(step), top + panel * f64::from(1.0 - height(value, most)))
            };
            let course: Vec<String> = history.steps.iter().zip(values).map(point).collect();
            let hue = 360 * pair / history.pairs.len();
            let _ = writeln!(text, "<path stroke=\"hsl({hue},60%,45%)\" d=\"M{}\"/>", course.join("L"));
        }
        for event in events.iter().filter(|event| event.site == *name) {
            let class = match event.outcome {
                Outcome::Kept => "kept",
                Outcome::Undone => "undone",
                Outcome::Open => "open",
            };
            let at = x(event.step);
            let _ = writeln!(text, "<path class=\"{class}\" d=\"M{at:.1} {top}v{panel}\"/>");
        }
    }
    text + "</svg>\n"
}

fn escaped(name: &str) -> String {
    plain(name).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
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

    #[test]
    fn a_picture_has_a_course_per_pair_and_a_line_per_event() {
        let history = History { steps: vec![0, 10], pairs: vec![vec![1.0, 0.1], vec![0.01, 1.0]] };
        let text = svg(&[("a<b".to_owned(), history)].into(), &[event(5, Outcome::Kept)]);
        assert!(text.contains("a&lt;b") && !text.contains("a<b"));
        // Two decades of six below the top of a panel that is 72 high.
        assert!(text.contains("d=\"M10.0 64.0L650.0 40.0\""), "{text}");
        assert!(text.contains("class=\"kept\" d=\"M330.0 40v72\"") && text.ends_with("</svg>\n"), "{text}");
    }
}
