//! Importance over a lesson, as a picture: an SVG file, or a line of blocks per site for a terminal.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::output::plain;
use crate::session::{Event, History, Outcome};

/// Blocks of a terminal's line, from nothing to all.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Columns of a terminal's line.
const COLUMNS: usize = 60;
/// Width and height of a site's panel, the room above it for a name, and that to its left for numbers, in pixels.
const PANEL: [f64; 4] = [640.0, 72.0, 36.0, 60.0];
/// Parts that a panel's steps are divided into, with upright lines between them.
const TICKS: u64 = 5;
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
    let [width, height, title, left] = PANEL;
    let total = sites.len() as f64 * (height + title) + 2.0 * title;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {total}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <style>path{{fill:none;stroke-width:1.2}} .tick{{stroke:#ddd}} .kept{{stroke:#2a7}} .undone{{stroke:#c33;stroke-dasharray:3}} \
         .open{{stroke:#888}} .low{{fill:#777;font-size:9px}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"14\">importance of every pair over the lesson's steps, each site on its own scale of {DECADES} powers of \
         ten</text>\n\
         <text x=\"10\" y=\"28\">upright: fused and started anew (green), taken back (red), or too late to be judged (grey)</text>\n",
        left + width + 20.0
    );
    for (nth, (name, history)) in sites.iter().enumerate() {
        let top = nth as f64 * (height + title) + 2.0 * title;
        let own: Vec<&Event> = events.iter().filter(|event| event.site == *name).collect();
        let _ = writeln!(text, "<g transform=\"translate({left} {top})\">\n{}</g>", panel(name, history, &own));
    }
    text + "</svg>\n"
}

/// One site, its upper left corner at the origin.
fn panel(name: &str, history: &History, events: &[&Event]) -> String {
    let ([width, high, ..], most) = (PANEL, largest(history));
    let end = history.steps.last().copied().unwrap_or(1).max(1);
    let x = |step: u64| width * step as f64 / end as f64;
    let y = |value: f32| high * f64::from(1.0 - height(value, most));
    let mut text =
        format!("<rect width=\"{width}\" height=\"{high}\" fill=\"#f6f6f6\"/>\n<text y=\"-5\">{}", escaped(name));
    let pairs = history.pairs.len().max(1);
    let hue = |pair: usize| format!("hsl({},60%,45%)", 360 * pair / pairs);
    for pair in 0..history.pairs.len() {
        let before = if pair == 0 { "  pairs " } else { " " };
        let _ = write!(text, "{before}<tspan fill=\"{}\">{pair}</tspan>", hue(pair));
    }
    text += "</text>\n";
    let least = most * 10f32.powf(-DECADES);
    let _ = writeln!(text, "<text class=\"low\" text-anchor=\"end\" x=\"-4\" y=\"8\">{most:.1e}</text>");
    let _ = writeln!(text, "<text class=\"low\" text-anchor=\"end\" x=\"-4\" y=\"{high}\">{least:.1e}</text>");
    let mut ticks: Vec<u64> = (0..=TICKS).map(|tick| (end as f64 * tick as f64 / TICKS as f64) as u64).collect();
    ticks.dedup();
    for step in ticks {
        let (at, below) = (x(step), high + 10.0);
        let _ = writeln!(text, "<path class=\"tick\" d=\"M{at:.1} 0v{high}\"/>");
        let _ = writeln!(text, "<text class=\"low\" text-anchor=\"middle\" x=\"{at:.1}\" y=\"{below}\">{step}</text>");
    }
    for (pair, values) in history.pairs.iter().enumerate() {
        let point = |(&step, &value): (&u64, &f32)| format!("{:.1} {:.1}", x(step), y(value));
        let course: Vec<String> = history.steps.iter().zip(values).map(point).collect();
        let _ = writeln!(text, "<path stroke=\"{}\" d=\"M{}\"/>", hue(pair), course.join("L"));
    }
    for event in events {
        let class = match event.outcome {
            Outcome::Kept => "kept",
            Outcome::Undone => "undone",
            Outcome::Open => "open",
        };
        let _ = writeln!(text, "<path class=\"{class}\" d=\"M{:.1} 0v{high}\"/>", x(event.step));
    }
    text
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
        assert!(text.contains("d=\"M0.0 24.0L640.0 0.0\""), "{text}");
        assert!(text.contains("class=\"kept\" d=\"M320.0 0v72\"") && text.ends_with("</svg>\n"), "{text}");
        assert!(text.contains(">1.0e0<") && text.contains(">1.0e-6<") && text.contains(">8</text>"), "{text}");
    }
}
