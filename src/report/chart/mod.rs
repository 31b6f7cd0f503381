//! Pictures as SVG, drawn to be read at the width of a phone: 420 units wide, with a title and a description, in the colours of the
//! page's style. What differs by colour differs by form, too: a filled or an open mark, a solid or a broken line.

mod axis;
mod bars;
pub(crate) mod importance;
mod lines;
mod rows;

pub(crate) use axis::Axis;
pub(crate) use bars::{Bar, bars};
pub(crate) use lines::{Lines, Series};
pub(crate) use rows::{Dot, Row, Rows};

use super::markup::{Markup, tag};

/// Width of a picture, in units of which a line of text is 11 high.
pub(crate) const WIDTH: f64 = 420.0;

/// How something is drawn: what the picture is about, what it is compared with, and the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Main,
    Other,
    Rest,
}

impl Look {
    /// Its class in the style.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Look::Main => "a",
            Look::Other => "b",
            Look::Rest => "rest",
        }
    }

    /// What it looks like, for a legend: a mark of its form.
    pub(crate) fn key(self) -> Markup {
        let mark = tag("circle").class(self.class()).with("cx", 10).with("cy", 6).with("r", 4.5).empty();
        key(mark)
    }

    /// The same of a line.
    pub(crate) fn line_key(self) -> Markup {
        key(tag("line").class(self.class()).with("x1", 0).with("y1", 6).with("x2", 20).with("y2", 6).empty())
    }
}

fn key(mark: Markup) -> Markup {
    let picture = tag("svg").with("viewBox", "0 0 20 12").with("aria-hidden", "true").holding(mark);
    tag("span").class("key").holding(picture)
}

/// A picture of so many units.
pub(crate) fn picture([width, height]: [f64; 2], title: &str, about: &str, parts: Vec<Markup>) -> Markup {
    let words = [tag("title").holding(title), tag("desc").holding(about)];
    let place = tag("svg").with("viewBox", format_args!("0 0 {width:.0} {height:.0}")).with("role", "img");
    place.all(words.into_iter().chain(parts)).line()
}

/// A picture, and below it what its marks mean.
pub(crate) fn figure(picture: Markup, caption: impl Into<Markup>) -> Markup {
    tag("figure").holding(picture.then(tag("figcaption").holding(caption))).line()
}

/// A picture and the table of what it shows, side by side where there is room.
pub(crate) fn beside(figure: Markup, table: Markup) -> Markup {
    tag("div").class("pair").holding(figure.then(table)).line()
}

/// Text of a picture at a place.
pub(crate) fn label(class: &'static str, [x, y]: [f64; 2], text: impl Into<Markup>) -> Markup {
    tag("text").class(class).with("x", at(x)).with("y", at(y)).holding(text)
}

pub(crate) fn stroke(class: &'static str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) -> Markup {
    tag("line").class(class).with("x1", at(x1)).with("y1", at(y1)).with("x2", at(x2)).with("y2", at(y2)).empty()
}

pub(crate) fn mark(look: Look, [x, y]: [f64; 2], radius: f64) -> Markup {
    tag("circle").class(look.class()).with("cx", at(x)).with("cy", at(y)).with("r", at(radius)).empty()
}

pub(crate) fn block(class: &'static str, [x, y]: [f64; 2], [width, height]: [f64; 2]) -> Markup {
    let place = tag("rect").class(class).with("x", at(x)).with("y", at(y));
    place.with("width", at(width.max(0.0))).with("height", at(height)).empty()
}

/// A coordinate, to a tenth of a unit.
pub(crate) fn at(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// A name that fits in so many letters, its middle left out where it is longer: names often differ at their ends.
pub(crate) fn short(name: &str, letters: usize) -> String {
    let name = super::words::plain(name);
    match name.chars().count() {
        n if n > letters => {
            let (head, tail) = (letters / 2, letters.saturating_sub(letters / 2 + 1));
            name.chars().take(head).chain(['\u{2026}']).chain(name.chars().skip(n - tail)).collect()
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_its_ends() {
        assert_eq!(short("a class of many words, number 01", 18), "a class o\u{2026}umber 01");
        assert_eq!(
            (short("eighteen letters..", 18), short("\u{1b}", 18)),
            ("eighteen letters..".into(), "\\u{1b}".into())
        );
    }

    #[test]
    fn coordinates_have_a_digit_behind_the_point_where_they_need_one() {
        assert_eq!([0.0, 12.34, 12.96, -3.5].map(at), ["0", "12.3", "13", "-3.5"]);
    }
}
