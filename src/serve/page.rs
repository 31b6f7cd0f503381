//! What the browser gets: a page, its styles and its modules, embedded as they are.

use super::http::Answer;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What a browser gets that is not paired.
pub(super) fn locked() -> Answer {
    Answer { status: 401, ..Answer::held(HTML, include_bytes!("page/locked.html")) }
}

pub(super) fn index() -> Answer {
    Answer::held(HTML, include_bytes!("page/index.html"))
}

/// A file that holds nothing of the device: anybody may have it.
pub(super) fn file(name: &str) -> Option<Answer> {
    let (kind, bytes): (&str, &'static [u8]) = match name {
        "page.css" => ("text/css; charset=utf-8", include_bytes!("page/page.css")),
        "icon.svg" => ("image/svg+xml", include_bytes!("page/icon.svg")),
        "page.js" => (SCRIPT, include_bytes!("page/page.js")),
        "device.js" => (SCRIPT, include_bytes!("page/device.js")),
        "parts.js" => (SCRIPT, include_bytes!("page/parts.js")),
        "picture.js" => (SCRIPT, include_bytes!("page/picture.js")),
        "see.js" => (SCRIPT, include_bytes!("page/see.js")),
        "collect.js" => (SCRIPT, include_bytes!("page/collect.js")),
        "learn.js" => (SCRIPT, include_bytes!("page/learn.js")),
        "undo.js" => (SCRIPT, include_bytes!("page/undo.js")),
        _ => return None,
    };
    // The program may be another one tomorrow.
    Some(Answer::held(kind, bytes).with("Cache-Control", "no-cache"))
}

/// The description of the API.
pub(super) fn description() -> Answer {
    Answer::held("application/json", include_bytes!("page/openapi.json"))
}
