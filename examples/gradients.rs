//! The gradients of every pair on one image, to be held against another framework's.
//!
//!     cargo run --release --example gradients -- BUNDLE IMAGE.f32 OUT.safetensors
//!
//! IMAGE holds the [3, H, W] values that the network reads, f32, little-endian. OUT holds the `features` of the image, the head `w`
//! [2, features] and `b` that the cross-entropy of class 0 was taken with, and for each site its `SITE/weight` [out, in], `SITE/a`
//! [rank, in], and `SITE/b`: the transpose of dL/dB, [rank, out]. As B is 0, dL/dB = dL/dW A^T.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, RwLock};

use safetensors::tensor::{Dtype, View};
use srlora::adapter::{Adapter, SiteSeed, SiteSettings};
use srlora::autodiff::Network;
use srlora::bundle::Bundle;

const CLASSES: usize = 2;

/// An f32 tensor.
struct Values(Vec<usize>, Vec<u8>);

impl Values {
    fn new(shape: &[usize], values: &[f32]) -> Self {
        Values(shape.to_vec(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }
}

impl View for Values {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.0
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.1).into()
    }

    fn data_len(&self) -> usize {
        self.1.len()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, image, out] = &arguments[..] else {
        println!("usage: gradients BUNDLE IMAGE.f32 OUT.safetensors");
        return Ok(());
    };
    let bundle = Bundle::open(Path::new(bundle))?;
    let backbone = bundle.backbone()?;
    let sites = bundle.sites_in(&backbone)?;
    let image: Vec<f32> =
        std::fs::read(image)?.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();

    let seeds = sites
        .iter()
        .enumerate()
        .map(|(index, site)| SiteSeed::new(&*site.name, [site.out_dim, site.in_dim], bundle.directions(index).clone()));
    let mut adapter = Adapter::start(seeds, bundle.rank, SiteSettings::default(), CLASSES, backbone.feature_dim()?)?;
    let width = adapter.head.features();
    // A wave: any head that is not 0 will do, and the file says which it was.
    let w: Vec<f32> = (0..CLASSES * width).map(|i| (i as f32).sin() / (width as f32).sqrt()).collect();
    adapter.head.values_mut()[..CLASSES * width].copy_from_slice(&w);

    let mut tensors = BTreeMap::new();
    for (site, buffers) in sites.iter().zip(&mut adapter.sites) {
        let a = &buffers.values_mut()[..bundle.rank * site.in_dim];
        tensors.insert(format!("{}/a", site.name), Values::new(&[bundle.rank, site.in_dim], a));
        let weight: Vec<f32> = backbone.weight(site)?.iter().copied().collect();
        tensors.insert(format!("{}/weight", site.name), Values::new(&[site.out_dim, site.in_dim], &weight));
    }
    let adapter = Arc::new(RwLock::new(adapter));
    let mut network = Network::training(&backbone, &sites, &adapter)?;
    // A file may fix the size of a batch: the image then fills it, and counts once.
    let batch = network.batch();
    let boundary = network.prefix(&image.repeat(batch))?;
    let features = network.forward(&boundary)?;
    let step = network.step(&boundary, &vec![0; batch])?;

    tensors.insert("features".into(), Values::new(&[width], &features[..width]));
    tensors.insert("w".into(), Values::new(&[CLASSES, width], &w));
    tensors.insert("b".into(), Values::new(&[CLASSES], &[0.0; CLASSES]));
    for (site, plane) in sites.iter().zip(&step.pairs) {
        let b_t: Vec<f32> = plane[bundle.rank * site.in_dim..].iter().map(|value| value / batch as f32).collect();
        tensors.insert(format!("{}/b", site.name), Values::new(&[bundle.rank, site.out_dim], &b_t));
    }
    safetensors::serialize_to_file(tensors, None, Path::new(out))?;
    Ok(())
}
