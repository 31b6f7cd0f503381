//! A row for each class or method, with its values along one axis.

use super::{Axis, Look, WIDTH, label, mark, picture, short, stroke};
use crate::report::markup::Markup;

/// Height of a row.
const HEIGHT: f64 = 22.0;
/// Room for names, of so many letters; and for the figure on the right.
const NAMES: f64 = 118.0;
const LETTERS: usize = 18;
const FIGURES: f64 = 64.0;

/// A value on a row.
pub(crate) struct Dot {
    pub(crate) look: Look,
    pub(crate) value: f64,
    /// How far it reaches to either side.
    pub(crate) spread: Option<f64>,
}

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) dots: Vec<Dot>,
    /// What is written at its end.
    pub(crate) figure: String,
    /// Whether a line joins its values.
    pub(crate) joined: bool,
}

/// A picture of rows.
pub(crate) struct Rows<'r> {
    pub(crate) title: &'r str,
    pub(crate) about: &'r str,
    pub(crate) rows: Vec<Row>,
    /// A value with an upright line.
    pub(crate) zero: Option<f64>,
}

impl Rows<'_> {
    /// The places between which values lie.
    pub(crate) const ACROSS: [f64; 2] = [NAMES + 8.0, WIDTH - FIGURES - 8.0];

    pub(crate) fn draw(&self, axis: &Axis) -> Markup {
        let low = HEIGHT * self.rows.len() as f64 + 6.0;
        let mut parts = Vec::new();
        for (value, word) in axis.ticks(4) {
            let place = axis.place(value);
            parts.push(stroke("rule", [place, 2.0], [place, low]));
            parts.push(label("mid", [place, low + 14.0], word));
        }
        if let Some(zero) = self.zero {
            parts.push(stroke("zero", [axis.place(zero), 2.0], [axis.place(zero), low]));
        }
        for (nth, row) in self.rows.iter().enumerate() {
            row.draw(axis, HEIGHT * (nth as f64 + 0.5) + 3.0, &mut parts);
        }
        picture([WIDTH, low + 20.0], self.title, self.about, parts)
    }
}

impl Row {
    fn draw(&self, axis: &Axis, y: f64, parts: &mut Vec<Markup>) {
        parts.push(label("name end", [NAMES, y + 4.0], short(&self.name, LETTERS)));
        parts.push(label("value end", [WIDTH - 2.0, y + 4.0], self.figure.as_str()));
        let places: Vec<f64> = self.dots.iter().map(|dot| axis.place(dot.value)).collect();
        if let (true, [first, .., last]) = (self.joined, &places[..]) {
            parts.push(stroke("shift", [*first, y], [*last, y]));
        }
        for (dot, &place) in self.dots.iter().zip(&places) {
            if let Some(spread) = dot.spread {
                let ends = [dot.value - spread, dot.value + spread].map(|end| axis.place(end));
                parts.push(stroke("spread", [ends[0], y], [ends[1], y]));
                parts.extend(ends.map(|end| stroke("spread", [end, y - 4.0], [end, y + 4.0])));
            }
            parts.push(mark(dot.look, [place, y], if dot.look == Look::Rest { 3.0 } else { 4.6 }));
        }
    }
}
