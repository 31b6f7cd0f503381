//! Classifies pixels in a loop, as they come from a camera.
//!
//!     cargo run --release --example classify -- BUNDLE STORE PHOTO

use std::path::Path;

use srlora::bundle::Bundle;
use srlora::session::{Classifier, Layout, Picture, Pixels, Store};

fn main() -> srlora::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, store, photo] = &arguments[..] else {
        println!("usage: classify BUNDLE STORE PHOTO");
        return Ok(());
    };
    let bundle = Bundle::open(Path::new(bundle))?;
    let store = Store::open(Path::new(store))?;
    let mut classifier = Classifier::new(&bundle, Some(&store))?;

    // A file, and the bytes of one.
    let from_file = classifier.predict(Path::new(photo), 3)?;
    let bytes = std::fs::read(photo).map_err(|error| srlora::Error::io(Path::new(photo), error))?;
    let from_bytes = classifier.predict(Picture::encoded("photo", bytes), 3)?;
    assert_eq!(from_file.top, from_bytes.top);
    for guess in &from_file.top {
        println!("{:5.1} %  {}", 100.0 * guess.probability, guess.label);
    }

    // Frames of a camera: grey, 64 x 48, ever brighter.
    for level in [0, 80, 160, 240] {
        let frame = vec![level; 64 * 48];
        let pixels = Pixels::new(&frame, Layout::Grey8, [64, 48], 64)?;
        let prediction = classifier.predict(Picture::pixels("frame", pixels.clone()), 1)?;
        let features = classifier.embed(Picture::pixels("frame", pixels))?;
        println!("a frame of {level}: {} ({} features)", prediction.top[0].label, features.len());
    }
    Ok(())
}
