//! What a command has found, as a page to look at: one HTML file without scripts and without links to elsewhere.
//!
//! ```text
//! words, verdict      figures, and what a trial has decided, in words that the terminal has, too
//! markup              elements and text; whatever comes from outside is escaped there, and nowhere else
//! table, chart        a table with a caption; pictures as SVG, which `inspect --svg` draws, too
//! photos              thumbnails, within limits
//! page                the frame: title, contents, sections, style
//! settings, curves, guesses
//!                     sections that several pages have
//! training, evaluation, comparison, simulation
//!                     what each command says; a simulation tells of its lesson as `training` does
//! ```
//!
//! Each uses only those above it. In come the typed results of the library, the same that become JSON. The same results give the
//! same bytes: the page has no date, and of times only those that the results have.

mod base64;
pub(crate) mod chart;
mod comparison;
mod curves;
mod evaluation;
mod guesses;
mod markup;
mod page;
mod photos;
mod settings;
pub(crate) mod simulation;
mod table;
mod training;
pub(crate) mod verdict;
pub(crate) mod words;

pub(crate) use comparison::comparison;
pub(crate) use evaluation::evaluation;
pub(crate) use simulation::simulation;
pub(crate) use training::training;

use crate::bundle::Bundle;

/// Where a result comes from.
pub(crate) struct Origin<'o> {
    /// The command line, as it was typed.
    pub(crate) command: String,
    pub(crate) bundle: &'o Bundle,
    /// The folder of photos.
    pub(crate) photos: String,
    /// The store that was read or written.
    pub(crate) store: Option<String>,
}
