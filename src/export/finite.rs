//! Whether what came from outside can be run: values may be finite, and their products not.

use std::sync::{Arc, RwLock};

use super::check::noise;
use crate::adapter::Adapter;
use crate::autodiff::Network;
use crate::backbone::{Backbone, Site};
use crate::bundle::Bundle;
use crate::error::Result;
use crate::session::load;

/// Whether the logits of pictures of noise are all finite.
///
/// # Errors
/// Those of a network that cannot be planned or run with such an adapter.
pub(crate) fn makes_finite(bundle: &Bundle, backbone: &Backbone, sites: &[Site], adapter: &Adapter) -> Result<bool> {
    let (head, shared) = (adapter.head.clone(), Arc::new(RwLock::new(adapter.clone())));
    let mut network = Network::inference(backbone, sites, &shared)?;
    for picture in noise(&bundle.preprocess)? {
        let images = load(&picture, &bundle.preprocess, None)?.repeat(network.batch());
        let boundary = network.prefix(&images)?;
        let mut features = network.forward(&boundary)?;
        features.truncate(network.features());
        if !head.logits(&features).iter().all(|logit| logit.is_finite()) {
            return Ok(false);
        }
    }
    Ok(true)
}
