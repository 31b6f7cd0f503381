//! The frame of a page: what it is called, what it holds, and its sections.

use sha2::{Digest, Sha256};

use super::base64;
use super::markup::{Markup, tag};

const STYLE: &str = concat!("\n", include_str!("page.css"));

/// A page that is being written.
pub(crate) struct Page {
    /// Which command made it.
    command: &'static str,
    title: String,
    lead: Markup,
    sections: Vec<Section>,
}

/// A part of it, with a heading.
pub(crate) struct Section {
    id: &'static str,
    title: &'static str,
    body: Markup,
}

impl Section {
    /// `body` begins with what there is to say.
    pub(crate) fn new(id: &'static str, title: &'static str, body: impl IntoIterator<Item = Markup>) -> Self {
        Section { id, title, body: body.into_iter().collect() }
    }
}

impl Page {
    pub(crate) fn new(command: &'static str, title: String, lead: Markup) -> Self {
        Page { command, title, lead, sections: Vec::new() }
    }

    pub(crate) fn add(&mut self, section: impl Into<Option<Section>>) {
        self.sections.extend(section.into().filter(|section| !section.body.is_empty()));
    }

    /// The file.
    pub(crate) fn html(self) -> String {
        // This style alone, by its hash.
        let style = base64::of(&Sha256::digest(STYLE));
        let policy = format!("default-src 'none'; style-src 'sha256-{style}'; img-src data:");
        let meta = |name, content: &str| tag("meta").with("name", name).with("content", content).empty().line();
        let head = tag("head").all([
            tag("meta").with("charset", "utf-8").empty().line(),
            tag("meta").with("http-equiv", "Content-Security-Policy").with("content", policy).empty().line(),
            meta("viewport", "width=device-width, initial-scale=1"),
            meta("color-scheme", "light dark"),
            meta("generator", concat!("srlora ", env!("CARGO_PKG_VERSION"))),
            tag("title").holding(format!("{} - srlora {}", self.title, self.command)).line(),
            Markup::style(STYLE).line(),
        ]);
        let header = tag("header").all([
            tag("p").class("kind").holding(format!("srlora {}", self.command)),
            tag("h1").holding(self.title),
            self.lead,
        ]);
        let entry = |section: &Section| {
            tag("li").holding(tag("a").with("href", format_args!("#{}", section.id)).holding(section.title))
        };
        let contents =
            tag("nav").with("aria-label", "Contents").holding(tag("ol").all(self.sections.iter().map(entry)));
        let sections = self.sections.into_iter().map(|Section { id, title, body }| {
            let heading = tag("h2").with("id", format_args!("{id}-title")).holding(title).line();
            let place = tag("section").with("id", id).with("aria-labelledby", format_args!("{id}-title"));
            place.all([heading, body]).line()
        });
        let sections: Markup = sections.collect();
        let footer = tag("footer").holding(concat!(
            "Written by srlora ",
            env!("CARGO_PKG_VERSION"),
            ". The same run writes the same page, but for measured times."
        ));
        let main = tag("main").all([header.line(), contents.line(), sections]).line();
        let body = tag("body").all([main, footer]);
        let page = tag("html").with("lang", "en").all([head.line(), body]);
        format!("<!DOCTYPE html>\n{}\n", page.into_text())
    }
}
