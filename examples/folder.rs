//! Learns a folder of photos, and measures what came of it on others.
//!
//!     cargo run --release --example folder -- BUNDLE PHOTOS OTHERS STORE

use std::path::Path;

use srlora::bundle::Bundle;
use srlora::session::{Dataset, EvalRequest, Lesson, Progress, Store, evaluate, train};

fn main() -> srlora::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, photos, others, store] = &arguments[..] else {
        println!("usage: folder BUNDLE PHOTOS OTHERS STORE");
        return Ok(());
    };
    let bundle = Bundle::open(Path::new(bundle))?;
    // Warnings name photos that cannot be read, and whatever else is worth knowing.
    let mut observer = |progress: Progress| {
        if let Progress::Warning(text) = progress {
            println!("warning: {text}");
        }
    };
    let report = train(&bundle, &Lesson::new(photos.as_str()), Path::new(store), &mut observer)?;
    println!("{} steps on {} photos of {}", report.steps, report.train_images, report.classes.join(", "));

    let store = Store::open(Path::new(store))?;
    let evaluation =
        evaluate(&bundle, Some(&store), &Dataset::open(Path::new(others))?, &EvalRequest::default(), &mut observer)?;
    println!("{:.1} % of {} other photos are recognized", 100.0 * evaluation.accuracy, evaluation.n);
    Ok(())
}
