//! Elements and text. What is written is well-formed XML that a browser also reads as HTML, and text can only come in escaped: there is
//! no other way to make [`Markup`].

use std::fmt::{Display, Write};

use super::words::plain;

/// Elements that have no end tag in HTML, and parts of a picture, which never have contents.
const VOID: [&str; 8] = ["br", "img", "meta", "path", "line", "circle", "rect", "use"];

/// A piece of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Markup(String);

/// An element whose attributes are being written.
pub(crate) struct Tag {
    name: &'static str,
    open: String,
}

pub(crate) fn tag(name: &'static str) -> Tag {
    Tag { name, open: format!("<{name}") }
}

impl Tag {
    pub(crate) fn with(mut self, attribute: &'static str, value: impl Display) -> Self {
        let _ = write!(self.open, " {attribute}=\"{}\"", escaped(value));
        self
    }

    pub(crate) fn class(self, class: &'static str) -> Self {
        if class.is_empty() { self } else { self.with("class", class) }
    }

    pub(crate) fn holding(self, contents: impl Into<Markup>) -> Markup {
        let Markup(contents) = contents.into();
        Markup(format!("{}>{contents}</{}>", self.open, self.name))
    }

    pub(crate) fn all(self, contents: impl IntoIterator<Item = Markup>) -> Markup {
        self.holding(contents.into_iter().collect::<Markup>())
    }

    pub(crate) fn empty(self) -> Markup {
        let end = if VOID.contains(&self.name) { "/>".to_owned() } else { format!("></{}>", self.name) };
        Markup(self.open + &end)
    }
}

impl Markup {
    /// The style sheet, which is the program's own.
    pub(super) fn style(css: &'static str) -> Markup {
        Markup(format!("<style>{css}</style>"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }

    pub(crate) fn then(mut self, next: impl Into<Markup>) -> Self {
        self.0 += &next.into().0;
        self
    }

    /// A line of its own, for who reads the source.
    pub(crate) fn line(mut self) -> Self {
        self.0.push('\n');
        self
    }
}

impl FromIterator<Markup> for Markup {
    fn from_iter<I: IntoIterator<Item = Markup>>(pieces: I) -> Self {
        Markup(pieces.into_iter().map(|piece| piece.0).collect())
    }
}

impl From<&str> for Markup {
    fn from(text: &str) -> Self {
        Markup(escaped(text))
    }
}

impl From<String> for Markup {
    fn from(text: String) -> Self {
        Markup(escaped(text))
    }
}

/// A name from outside: whichever way its letters run, the sentence around it keeps its own.
pub(crate) fn name(text: impl Display) -> Markup {
    tag("bdi").holding(text.to_string())
}

/// A paragraph, in which no line ends between a number and its unit.
pub(crate) fn paragraph(text: impl Into<Markup>) -> Markup {
    let Markup(text) = text.into();
    tag("p").holding(Markup(bound(&text))).line()
}

/// Units that belong to the number before them.
const UNITS: [&str; 14] = ["%", "ms", "s", "min", "h", "B", "KiB", "MiB", "GiB", "TB", "W", "Wh", "mWh", "points"];

/// The text with spaces that do not break between a number and its unit, and between groups of digits.
fn bound(text: &str) -> String {
    let mut bound = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let next = || text[at + 1..].split(|c: char| !(c.is_alphanumeric() || c == '%')).next().unwrap_or("");
        let belongs = |next: &str| UNITS.contains(&next) || next.starts_with(|c: char| c.is_ascii_digit());
        let joins = c == ' ' && bound.ends_with(|c: char| c.is_ascii_digit()) && belongs(next());
        bound.push(if joins { '\u{a0}' } else { c });
    }
    bound
}

/// Text that neither ends an element or an attribute nor is anything that XML forbids.
fn escaped(text: impl Display) -> String {
    let mut escaped = String::new();
    for c in plain(text).chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            '\u{fffe}' | '\u{ffff}' => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_within_elements_and_attributes() {
        let hostile = "</td><script>alert('1')</script>\" onload=\"&\u{0}\u{ffff}";
        let made = tag("td").with("title", hostile).holding(hostile).into_text();
        assert_eq!(made.matches('<').count(), 2, "{made}");
        assert_eq!(made.matches('"').count(), 2, "{made}");
        assert!(made.contains("&lt;script&gt;alert(&#39;1&#39;)") && !made.contains(['\u{0}', '\u{ffff}']), "{made}");
    }

    #[test]
    fn a_number_keeps_its_unit_and_nothing_else() {
        let bound = paragraph("9.6 TB of 11 000 000, 60.0 %, 2 steps in 3 min; a s").into_text();
        let expected = "9.6\u{a0}TB of 11\u{a0}000\u{a0}000, 60.0\u{a0}%, 2 steps in 3\u{a0}min; a s";
        assert_eq!(bound, format!("<p>{expected}</p>\n"));
    }

    #[test]
    fn elements_without_contents_end_as_html_has_it() {
        assert_eq!(tag("br").empty().into_text(), "<br/>");
        assert_eq!(tag("td").empty().into_text(), "<td></td>");
        assert_eq!(tag("p").all([name("a<b"), " c".into()]).into_text(), "<p><bdi>a&lt;b</bdi> c</p>");
    }
}
