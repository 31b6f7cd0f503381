//! Lengths below each other: bytes, or seconds.

use super::{Axis, Look, WIDTH, block, label, picture, short};
use crate::report::markup::Markup;

/// Height of a row, and of its bar.
const HEIGHT: [f64; 2] = [24.0, 12.0];
/// Room for names, of so many letters; and for the figure on the right.
const NAMES: f64 = 118.0;
const LETTERS: usize = 18;
const FIGURES: f64 = 70.0;

pub(crate) struct Bar {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) look: Look,
}

/// A bar for each value from 0 on, its figure at its right.
pub(crate) fn bars(title: &str, about: &str, bars: &[Bar], word: fn(f64) -> String) -> Markup {
    let most = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let axis = Axis::new([0.0, most], [NAMES + 8.0, WIDTH - FIGURES], word);
    let [row, thick] = HEIGHT;
    let mut parts = Vec::new();
    for (nth, bar) in bars.iter().enumerate() {
        let (y, [from, to]) = (row * nth as f64 + 4.0, [0.0, bar.value].map(|value| axis.place(value)));
        parts.push(label("name end", [NAMES, y + 10.0], short(bar.name, LETTERS)));
        parts.push(block(bar.look.class(), [from, y], [(to - from).max(1.0), thick]));
        parts.push(label("value", [to + 6.0, y + 10.0], word(bar.value)));
    }
    picture([WIDTH, row * bars.len() as f64 + 4.0], title, about, parts)
}
