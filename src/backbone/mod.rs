//! The frozen network: an ONNX file, the maps in it that can carry pairs, and the graphs made of it.
//!
//! Here and in `autodiff` are the only places that name tract; nothing of it shows in a public signature.
//!
//! What a file is made of goes through the rooms once, from the top down; a room uses only those above it that it names:
//!
//! ```text
//! onnx       bytes              -> a decoded and checked model
//! splice     bytes, changes     -> the bytes of the changed file                   onnx
//! weights    tensors            -> constants in the precision in which they ship   onnx
//! quantized  quantized nodes    -> the graph in float form                         onnx, weights
//! maps       graph, constants   -> frozen maps, out of the graph                   onnx, weights
//! shapes     graph, image, maps -> every shape and integer, or a refusal           onnx, weights, maps
//! kernels    tensors, maps      -> what a node computes                            weights, maps
//! graph      bytes              -> the network, and the plans that run             all of them
//! merge      bytes, weights     -> the file with what was learned                  onnx, splice, weights, quantized, graph
//! ```

pub(crate) mod graph;
mod kernels;
mod maps;
mod merge;
mod onnx;
mod quantized;
mod shapes;
mod splice;
mod weights;

use std::collections::HashSet;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2};
use tract_onnx::prelude::TypedModel;
use tract_onnx::tract_core::internal::TractResult;

use crate::adapter::Adapter;
use crate::error::{Error, ErrorKind, Result};
use graph::{Features, OnnxFile, default_features, sites};
use maps::{Frozen, Map};

pub(crate) use graph::plan;
pub use graph::{Doubt, FeaturesFrom, FirstLayer, Ineligible, NodeCost, Selection, Site, Yardstick};
pub use kernels::SharedAdapter;
pub(crate) use kernels::{expand, map_op, views};
pub(crate) use merge::{Base, Basing, Branch, Given, Merged, Merging, Normalize, with_given};
pub use onnx::ImageInput;
pub(crate) use onnx::{WeightSources, nearest};
pub use quantized::{Precision, encode};
pub(crate) use splice::inline;

/// What the frozen network costs in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resident {
    /// Weights of convolutions and linear maps, in the precision in which they ship.
    pub weight_bytes: usize,
    /// Biases, norms and other constants, in f32.
    pub f32_bytes: usize,
}

/// What one map's weight W has lost by being rounded to W'.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounding {
    /// The ONNX node's name.
    pub name: String,
    /// ||W - W'|| / ||W|| (Frobenius).
    pub error: f64,
    /// The share of a row's weights that have become 0, in the row that lost most: one outlier sets the scale of all.
    pub zeroed: f64,
}

impl Rounding {
    fn of(map: &Map, source: &Map) -> Self {
        let (ours, theirs) = (map.frozen.weight.dense(), source.frozen.weight.dense());
        let zeroed = ours.rows().into_iter().zip(theirs.rows()).map(|(ours, theirs)| {
            let lost = ours.iter().zip(theirs).filter(|(our, their)| **our == 0.0 && **their != 0.0).count();
            lost as f64 / theirs.iter().filter(|w| **w != 0.0).count().max(1) as f64
        });
        let zeroed = zeroed.fold(0.0, f64::max);
        Rounding { name: map.name.clone(), error: Self::error(ours.view(), theirs.view()), zeroed }
    }

    /// ||W - W'|| / ||W|| (Frobenius), W being `theirs`.
    fn error(ours: ArrayView2<f32>, theirs: ArrayView2<f32>) -> f64 {
        let square = |v: f32| f64::from(v).powi(2);
        let lost: f64 = ours.iter().zip(theirs).map(|(our, their)| square(their - our)).sum();
        let whole: f64 = theirs.iter().map(|their| square(*their)).sum();
        (lost.sqrt()) / whole.sqrt().max(f64::MIN_POSITIVE)
    }
}

/// A frozen network with a features tensor and a fixed image size.
#[derive(Debug, Clone)]
pub struct Backbone {
    file: OnnxFile,
    features: Features,
    height: usize,
    width: usize,
    sites: Vec<Site>,
    ineligible: Vec<Ineligible>,
}

impl Backbone {
    /// Decodes an ONNX file.
    ///
    /// `subject` names the file in errors. `features` names the tensor or node that the head sees; without it, the input
    /// of the classifier's last layer, or the model's output. `size` is height and width in pixels, needed where the
    /// file leaves them open. Given by value, `bytes` are freed as soon as they are decoded.
    ///
    /// # Errors
    /// Kind `Model` for a file that cannot be used, `Usage` for features or a size that it does not have.
    pub fn read(
        bytes: impl AsRef<[u8]>,
        subject: &str,
        features: Option<&str>,
        size: Option<[usize; 2]>,
    ) -> Result<Self> {
        let file = OnnxFile::decode(bytes, subject)?;
        let named = |name| Ok(Features { tensor: file.tensor_named(name)?, from: FeaturesFrom::Flag, doubt: None });
        let features = features.map_or_else(|| Ok(default_features(&file)), named)?;
        let [height, width] = image_size(&file.input, size)?;
        let (sites, ineligible) = sites::survey(&file, &features.tensor);
        Ok(Backbone { file, features, height, width, sites, ineligible })
    }

    /// Every map before the features that can carry pairs, in graph order.
    #[must_use]
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// The tensor that the head sees.
    #[must_use]
    pub fn features(&self) -> &str {
        &self.features.tensor
    }

    /// How that tensor was found.
    #[must_use]
    pub fn features_from(&self) -> FeaturesFrom {
        self.features.from
    }

    /// What it may have to be instead, where it is the model's output and that may be scores.
    #[must_use]
    pub fn doubt(&self) -> Option<&Doubt> {
        self.features.doubt.as_ref()
    }

    /// The layer that reads the image, where it tells which values it was made for.
    #[must_use]
    pub fn first_layer(&self) -> Option<FirstLayer> {
        graph::first_layer(&self.file)
    }

    /// The model's own output tensor.
    #[must_use]
    pub fn output(&self) -> &str {
        self.file.output()
    }

    /// Whether the model's own output is that of a classifier, one vector per image.
    ///
    /// # Errors
    /// Kind `Model` where the graph up to its output cannot be prepared.
    pub(crate) fn has_classifier(&self) -> Result<bool> {
        if default_features(&self.file).from == FeaturesFrom::Output {
            return Ok(false);
        }
        let model = self.classifier_graph()?;
        Ok(self.told(model.output_fact(0).and_then(graph::concrete))?.len() == 2)
    }

    /// Height and width of the input in pixels.
    #[must_use]
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// The image as the file takes it.
    #[must_use]
    pub fn image(&self) -> &ImageInput {
        &self.file.input
    }

    /// Images in one run: the batch that the file fixes, else 1 (one image at a time is fastest and smallest).
    #[must_use]
    pub fn batch(&self) -> usize {
        self.file.input.batch.unwrap_or(1)
    }

    /// Length of an image's feature vector.
    ///
    /// # Errors
    /// Kind `Model` where the graph up to the features cannot be prepared.
    pub fn feature_dim(&self) -> Result<usize> {
        let model = self.features_graph(&[], None)?;
        self.told(model.output_fact(0).and_then(graph::concrete)).map(|shape| shape[1])
    }

    /// Selects sites by `last:N`, `all` or a regular expression over their names.
    ///
    /// # Errors
    /// Kind `Sites`: nothing matches (with the nearest names), a match cannot be a site, the rank does not fit.
    pub fn select(&self, spec: &str, rank: usize) -> Result<Selection> {
        let fixed = |site: &Site| self.weight(site).is_ok_and(|w| sites::is_fixed_shortcut(&w));
        sites::select(spec, rank, &self.sites, &self.ineligible, fixed)
    }

    /// The sites of the given names, in the order given.
    ///
    /// # Errors
    /// Kind `Mismatch` names the one that this backbone does not have.
    pub fn sites_named<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<Vec<Site>> {
        let find = |name: &str| {
            let site = self.sites.iter().find(|site| site.name == name).cloned();
            site.ok_or_else(|| Error::new(ErrorKind::Mismatch, name, "the backbone has no site of that name"))
        };
        names.into_iter().map(find).collect()
    }

    /// The precision of most frozen weights: `fp32`, `fp16` or `int8`.
    #[must_use]
    pub fn precision(&self) -> &'static str {
        let share = |name: &str| -> usize {
            let maps = self.file.maps.iter().filter(|map| map.frozen.weight.codes.precision() == name);
            maps.map(|map| map.frozen.weight.len()).sum()
        };
        ["int8", "fp16", "fp32"].into_iter().max_by_key(|name| share(name)).unwrap_or("fp32")
    }

    /// Bytes that the frozen network holds in memory; a weight that several maps share is held, and counted, once.
    #[must_use]
    pub fn resident(&self) -> Resident {
        let mut counted = HashSet::new();
        let own = |map: &&Map| counted.insert(map.frozen.weight.address());
        let weight_bytes = self.file.maps.iter().filter(own).map(|map| map.frozen.weight.bytes()).sum();
        let biases: usize = self.file.maps.iter().map(|map| 4 * map.frozen.bias.len()).sum();
        Resident { weight_bytes, f32_bytes: biases + self.file.constant_bytes }
    }

    /// What the weights of every map have lost against `source`, the same network in another precision.
    #[must_use]
    pub fn rounding(&self, source: &Backbone) -> Vec<Rounding> {
        let twins =
            self.file.maps.iter().filter_map(|map| Some((map, source.file.maps.iter().find(|m| m.name == map.name)?)));
        twins.map(|(map, twin)| Rounding::of(map, twin)).collect()
    }

    /// Height and width of the kernel of a site, in pixels, where it is a convolution.
    pub(crate) fn kernel(&self, site: &Site) -> Option<[usize; 2]> {
        match &self.file.maps.iter().find(|map| map.name == site.name)?.kind {
            maps::MapKind::Conv(geometry) => Some(geometry.kernel),
            maps::MapKind::Linear => None,
        }
    }

    /// W of a site, `out_dim` x `in_dim`.
    ///
    /// # Errors
    /// Kind `Model` where the file's weight is not what its node says.
    pub fn weight(&self, site: &Site) -> Result<Array2<f32>> {
        sites::weight(&self.file, site)
    }

    /// W of a node, be it a site or the classifier.
    pub(crate) fn weight_of(&self, node: &str) -> Option<Array2<f32>> {
        self.file.maps.iter().find(|map| map.name == node).map(|map| map.frozen.weight.dense())
    }

    /// Takes the pairs and deltas over from the adapter into the weights of its sites, W + D + scale (B A - B0 A0) in f32: for
    /// classifying, where they would be added anew for every photo. The map is the same up to rounding; a site's weight then takes
    /// 4 bytes a value, its pairs and delta none.
    pub(crate) fn absorb(&mut self, sites: &[Site], adapter: &mut Adapter) {
        for (site, buffers) in sites.iter().zip(adapter.sites.drain(..)) {
            if let Some(map) = self.file.maps.iter_mut().find(|map| map.name == site.name) {
                let weight = map.frozen.weight.adapted(&buffers);
                map.frozen = Arc::new(Frozen { weight, bias: map.frozen.bias.clone() });
            }
        }
    }

    /// Adds to the weight of a site what is given row by row, as many values as it has.
    pub(crate) fn add_to_weight(&mut self, site: &Site, change: &[f32]) {
        if let Some(map) = self.file.maps.iter_mut().find(|map| map.name == site.name) {
            let weight = map.frozen.weight.plus(change);
            map.frozen = Arc::new(Frozen { weight, bias: map.frozen.bias.clone() });
        }
    }

    /// The graph from image to pooled features, with pairs at each of `sites`.
    pub(crate) fn features_graph(&self, sites: &[Site], adapter: Option<&SharedAdapter>) -> Result<TypedModel> {
        let mut model =
            self.told(graph::typed(&self.file, &graph::Request { sites, adapter, ..self.request(self.features()) }))?;
        self.told(graph::pool_features(&mut model))?;
        Ok(model)
    }

    /// The same in tract's own ops, without pairs, before any of its rewriting.
    pub(crate) fn reference_graph(&self) -> Result<TypedModel> {
        let mut model = self.told(graph::reference(&self.file, &self.request(self.features())))?;
        self.told(graph::pool_features(&mut model))?;
        Ok(model)
    }

    /// The graph from image to the model's own output.
    pub(crate) fn classifier_graph(&self) -> Result<TypedModel> {
        self.told(graph::typed(&self.file, &self.request(self.file.output())))
    }

    fn request<'r>(&self, output: &'r str) -> graph::Request<'r> {
        let (batch, height, width) = (self.batch(), self.height, self.width);
        graph::Request { output, batch, height, width, sites: &[], adapter: None }
    }

    /// Names of the file's nodes.
    pub(crate) fn node_names(&self) -> Vec<String> {
        self.file.graph().node.iter().map(|n| n.name.clone()).collect()
    }

    /// The operator of the node of that name, as the file calls it.
    pub(crate) fn operator(&self, node: &str) -> Option<&str> {
        self.file.graph().node.iter().find(|n| n.name == node).map(|n| n.op_type.as_str())
    }

    /// Turns tract's error into one that names the file.
    pub(crate) fn told<T>(&self, result: TractResult<T>) -> Result<T> {
        result.map_err(|e| {
            let cause = e.root_cause().to_string();
            let fault = |what: &str| {
                Error::new(ErrorKind::Model, &self.file.subject, format!("the graph cannot be prepared: {what}"))
            };
            // What this crate has found names its node. tract's own words are of no use to whoever has the file.
            if ["node ", "the input", "tensor "].iter().any(|start| cause.starts_with(start)) {
                return fault(&cause);
            }
            let context = e.to_string();
            let quoted = [&context, &cause].into_iter().find_map(|text| text.split('"').nth(1).map(str::to_owned));
            let names = self.node_names();
            let node = quoted.map(|node| graph::onnx_name(&names, &node).to_owned()).filter(|node| names.contains(node));
            let place = node.map_or_else(|| "a part of it".to_owned(), |node| format!("node {node}"));
            fault(&format!("{place} is not of a kind that is taken; export the model with PyTorch's other exporter or another opset"))
                .because(cause)
        })
    }
}

fn image_size(input: &ImageInput, size: Option<[usize; 2]>) -> Result<[usize; 2]> {
    let fault = |message: String| Error::new(ErrorKind::Usage, "option `input`", message);
    match (input.height, input.width, size) {
        (Some(h), Some(w), None) => Ok([h, w]),
        (h, w, Some([height, width])) => {
            if h.is_none_or(|h| h == height) && w.is_none_or(|w| w == width) {
                Ok([height, width])
            } else {
                let say = |d: Option<usize>| d.map_or_else(|| "?".to_string(), |d| d.to_string());
                Err(fault(format!("the model takes images of {}x{}, not {height}x{width}", say(h), say(w))))
            }
        }
        _ => Err(fault("the model leaves the image size open; give it, for instance option `input` 224x224".into())),
    }
}
