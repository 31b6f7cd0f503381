//! Adapters as PyTorch's PEFT keeps them: a folder with `adapter_config.json` and `adapter_model.safetensors`, in and out.
//!
//! PEFT adds (alpha / r) B A to the weight of a module. A site's pairs, its start and its delta come to such a product, exactly or cut
//! to a rank; and such a product becomes pairs, and a delta where it has more than the bundle's rank.
//!
//! ```text
//! modules  which module of the PyTorch network each site is
//! torch    the same, found in the network's weights, with the batch norms that the file has folded
//! factors  what was learned at a site, as a product
//! folder   the two files
//! pairs    what they hold, module by module
//! export   a store as such a folder
//! import   such a folder as a store
//! ```

mod export;
mod factors;
mod folder;
mod import;
mod modules;
mod pairs;
mod torch;

#[cfg(test)]
mod tests;

pub(crate) use export::EXACT;
pub(crate) use factors::Factors;

pub use export::{PeftReport, PeftRequest, PeftSite, export_peft};
pub use factors::PeftRank;
pub use import::{ImportReport, ImportRequest, ImportedSite, import_peft};
pub use modules::Naming;
