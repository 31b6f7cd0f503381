//! A table with a caption, a heading for every column, and one for every row.

use super::markup::{Markup, tag};
use crate::limits::MOST_REPORT_ROWS;

/// More columns than these may be wider than a phone: such a table scrolls by itself, by keyboard too.
const NARROW: usize = 3;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// Set to the right, its digits of equal width.
    Number,
}

/// A table that is being filled.
pub(crate) struct Table {
    caption: String,
    columns: Vec<(&'static str, Kind)>,
    rows: Vec<Markup>,
    left_out: usize,
}

impl Table {
    /// With `columns`, of which the first names its row.
    pub(crate) fn new(caption: impl Into<String>, columns: &[(&'static str, Kind)]) -> Self {
        Table { caption: caption.into(), columns: columns.to_vec(), rows: Vec::new(), left_out: 0 }
    }

    /// Of two columns, a word and what there is to say of it.
    pub(crate) fn facts(caption: impl Into<String>, facts: impl IntoIterator<Item = (&'static str, Markup)>) -> Markup {
        let mut table = Table::new(caption, &[("what", Kind::Text), ("value", Kind::Text)]);
        for (word, fact) in facts {
            table.row([word.into(), fact]);
        }
        tag("div").class("facts").holding(table.markup())
    }

    /// A row; those beyond the limit are counted.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Markup>) {
        if self.rows.len() >= MOST_REPORT_ROWS {
            self.left_out += 1;
            return;
        }
        let cells = cells.into_iter().zip(&self.columns).enumerate().map(|(at, (cell, (_, kind)))| match at {
            0 => tag("th").with("scope", "row").holding(cell),
            _ => tag("td").class(class(*kind)).holding(cell),
        });
        self.rows.push(tag("tr").all(cells).line());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn markup(self) -> Markup {
        let heading = |(at, (title, kind)): (usize, &(&'static str, Kind))| {
            let class = if at == 0 { "" } else { class(*kind) };
            tag("th").with("scope", "col").class(class).holding(*title)
        };
        let head = tag("thead").holding(tag("tr").all(self.columns.iter().enumerate().map(heading)));
        let caption = match self.left_out {
            0 => self.caption,
            more => format!("{}; {more} more are left out", self.caption),
        };
        let parts = [tag("caption").holding(caption.clone()), head.line(), tag("tbody").all(self.rows)];
        scrolling(&caption, self.columns.len() > NARROW, tag("table").all(parts))
    }
}

/// A long table, shown when it is asked for, and on paper; nothing where there is none.
pub(crate) fn folded(summary: &str, table: Markup) -> Option<Markup> {
    let parts = [tag("summary").holding(summary), table];
    (!parts[1].is_empty()).then(|| tag("details").all(parts).line())
}

fn class(kind: Kind) -> &'static str {
    if kind == Kind::Number { "n" } else { "" }
}

/// Something in a box that may be wider than the page.
pub(crate) fn scrolling(label: &str, is_wide: bool, contents: Markup) -> Markup {
    let place = tag("div").class("scroll");
    let place =
        if is_wide { place.with("role", "region").with("aria-label", label).with("tabindex", 0) } else { place };
    place.holding(contents).line()
}
