//! The importance of pairs over a lesson: a panel per site, in a file of its own or in a page.

use std::collections::BTreeMap;

use super::{at, block, label};
use crate::report::markup::{Markup, tag};
use crate::session::{Event, History, Outcome};

/// Width and height of a site's panel, the room above it for a name, and that to its left for numbers.
const PANEL: [f64; 4] = [640.0, 72.0, 36.0, 60.0];
/// The same in a page.
const SMALL: [f64; 4] = [264.0, 64.0, 20.0, 46.0];
/// Parts that a panel's steps are divided into, with upright lines between them.
const TICKS: u64 = 5;
/// Powers of ten below the largest importance that a picture shows.
pub(crate) const DECADES: f32 = 6.0;
/// What a file of its own brings along; in a page, the page's style does it. Colours are told apart by who sees few, and what became of
/// an event is told by its form as well.
const STYLE: &str = "path{fill:none;stroke-width:1.2} .tick{stroke:#ddd} .course{stroke:#83878e;stroke-opacity:.55} \
                     .top{stroke:#0b5f9e;stroke-width:1.8} .kept{stroke:#1c1d1f} .undone{stroke:#b54708;stroke-dasharray:3} \
                     .open{stroke:#83878e;stroke-dasharray:1 2} .low{fill:#5b5f66;font-size:9px}";

/// Where `value` lies between the largest importance (1) and six powers of ten below it (0).
pub(crate) fn height(value: f32, largest: f32) -> f32 {
    let below = (largest / value.max(f32::MIN_POSITIVE)).log10();
    (1.0 - below / DECADES).clamp(0.0, 1.0)
}

pub(crate) fn largest(history: &History) -> f32 {
    history.pairs.iter().flatten().copied().fold(f32::MIN_POSITIVE, f32::max)
}

/// A file: a panel per site, with a line per pair on a logarithmic scale, and an upright one where pairs started anew.
pub(crate) fn file(sites: &BTreeMap<String, History>, events: &[Event]) -> String {
    let [width, high, title, left] = PANEL;
    let total = sites.len() as f64 * (high + title) + 2.0 * title;
    let place = tag("svg").with("xmlns", "http://www.w3.org/2000/svg");
    let place = place.with("viewBox", format_args!("0 0 {} {total}", left + width + 20.0));
    let place = place.with("font-family", "sans-serif").with("font-size", 11);
    let paper = tag("rect").with("width", "100%").with("height", "100%").with("fill", "#fff").empty();
    let about = format!(
        "importance of every pair over the lesson's steps, each site on its own scale of {DECADES} powers of ten; the one that ends \
         highest is blue"
    );
    let legend = "upright: fused and started anew (solid), taken back (broken, red), or too late to be judged (dots)";
    let words = [label("", [10.0, 14.0], about), label("", [10.0, 28.0], legend)];
    let panels = sites.iter().enumerate().map(|(nth, (name, history))| {
        let top = nth as f64 * (high + title) + 2.0 * title;
        let moved = tag("g").with("transform", format_args!("translate({left} {top})"));
        let drawn = Panel { size: PANEL, history, events: &of(events, name), columns: usize::MAX };
        let heading = tag("text").with("y", -5).holding(name.as_str()).line();
        moved.holding(heading.then(drawn.draw())).line()
    });
    let style = tag("style").holding(STYLE).line();
    let head = [style, paper.line()].into_iter().chain(words.map(Markup::line));
    place.all(head.chain(panels)).line().into_text()
}

/// A picture of one site in a page, with no more than `columns` points a pair.
pub(crate) fn small(name: &str, history: &History, events: &[Event], columns: usize) -> Markup {
    let [width, high, above, left] = SMALL;
    let own = of(events, name);
    let panel = Panel { size: SMALL, history, events: &own, columns }.draw();
    let moved = tag("g").with("transform", format_args!("translate({left} {above})")).holding(panel);
    let heading = label("name", [left, 13.0], super::short(name, 40));
    let about = format!(
        "Importance of {} over the lesson's steps, on a logarithmic scale; recomposed {} times.",
        super::super::words::count(history.pairs.len(), "pair"),
        own.len()
    );
    super::picture([left + width + 8.0, above + high + 16.0], name, &about, vec![heading, moved])
}

fn of<'e>(events: &'e [Event], site: &str) -> Vec<&'e Event> {
    events.iter().filter(|event| event.site == site).collect()
}

/// One site, its upper left corner at the origin.
struct Panel<'p> {
    size: [f64; 4],
    history: &'p History,
    events: &'p [&'p Event],
    columns: usize,
}

impl Panel<'_> {
    fn draw(&self) -> Markup {
        let ([width, high, ..], history) = (self.size, self.history);
        let most = largest(history);
        let end = history.steps.last().copied().unwrap_or(1).max(1);
        let x = |step: u64| width * step as f64 / end as f64;
        let mut parts = vec![block("ground", [0.0, 0.0], [width, high])];
        let least = most * 10f32.powf(-DECADES);
        parts.push(label("low end", [-4.0, 8.0], format!("{most:.1e}")));
        parts.push(label("low end", [-4.0, high], format!("{least:.1e}")));
        let mut ticks: Vec<u64> = (0..=TICKS).map(|tick| (end as f64 * tick as f64 / TICKS as f64) as u64).collect();
        ticks.dedup();
        for step in ticks {
            parts.push(upright("tick", x(step), high));
            parts.push(label("low mid", [x(step), high + 11.0], step.to_string()));
        }
        parts.extend(self.courses(x, most));
        for event in self.events {
            let class = match event.outcome {
                Outcome::Kept => "kept",
                Outcome::Undone => "undone",
                Outcome::Open => "open",
            };
            parts.push(upright(class, x(event.step), high));
        }
        parts.into_iter().map(Markup::line).collect()
    }

    /// A line per pair, the one that ends highest last.
    fn courses(&self, x: impl Fn(u64) -> f64, most: f32) -> Vec<Markup> {
        let (high, history) = (self.size[1], self.history);
        let end_of = |pair: &usize| history.pairs[*pair].last().copied().unwrap_or(0.0);
        let mut order: Vec<usize> = (0..history.pairs.len()).collect();
        order.sort_by(|a, b| end_of(a).total_cmp(&end_of(b)));
        let each = history.steps.len().div_ceil(self.columns.max(2)).max(1);
        let course = |(nth, pair): (usize, &usize)| {
            let values = &history.pairs[*pair];
            let last = values.len().saturating_sub(1);
            let shown = (0..values.len()).filter(|note| note.is_multiple_of(each) || *note == last);
            let point = |note: usize| {
                let y = high * f64::from(1.0 - height(values[note], most));
                format!("{} {}", at(x(history.steps[note])), at(y))
            };
            let points: Vec<String> = shown.map(point).collect();
            let class = if nth + 1 == order.len() { "top" } else { "course" };
            let path = tag("path").class(class).with("d", format_args!("M{}", points.join("L")));
            path.holding(tag("title").holding(format!("pair {pair}")))
        };
        order.iter().enumerate().map(course).collect()
    }
}

fn upright(class: &'static str, x: f64, high: f64) -> Markup {
    tag("path").class(class).with("d", format_args!("M{} 0v{}", at(x), at(high))).empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(step: u64, outcome: Outcome) -> Event {
        Event { step, site: "a<b".into(), pair: 0, direction: 3, importance: 0.1, max_error: 0.0, outcome }
    }

    #[test]
    fn a_picture_has_a_course_per_pair_and_a_line_per_event() {
        let history = History { steps: vec![0, 10], pairs: vec![vec![1.0, 0.1], vec![0.01, 1.0]] };
        let text = file(&[("a<b".to_owned(), history)].into(), &[event(5, Outcome::Kept)]);
        assert!(text.contains("a&lt;b") && !text.contains("a<b"));
        // Two decades of six below the top of a panel that is 72 high; the pair that ends highest stands out.
        assert!(text.contains("class=\"top\" d=\"M0 24L640 0\""), "{text}");
        assert!(text.contains("class=\"course\" d=\"M0 0L640 12\""), "{text}");
        assert!(text.contains("class=\"kept\" d=\"M320 0v72\"") && text.ends_with("</svg>\n"), "{text}");
        assert!(text.contains(">1.0e0<") && text.contains(">1.0e-6<") && text.contains(">8</text>"), "{text}");
    }

    #[test]
    fn a_page_shows_no_more_points_than_it_may_and_the_last_one_always() {
        let steps: Vec<u64> = (1..=100).collect();
        let history = History { pairs: vec![steps.iter().map(|step| 1.0 / *step as f32).collect()], steps };
        let text = small("a", &history, &[event(5, Outcome::Undone)], 10).into_text();
        assert_eq!(text.matches('L').count(), 10, "{text}");
        assert!(text.contains("L264 "), "{text}");
        assert!(!text.contains("undone"), "the event is of another site");
    }
}
