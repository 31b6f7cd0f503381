//! A further lesson with photos that came later, and the way back.
//!
//!     cargo run --release --example further -- BUNDLE STORE PHOTOS

use std::path::Path;

use srlora::bundle::Bundle;
use srlora::session::{Keep, Lesson, Progress, StoreWriter, Trainer};

fn main() -> srlora::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, store, photos] = &arguments[..] else {
        println!("usage: further BUNDLE STORE PHOTOS");
        return Ok(());
    };
    let bundle = Bundle::open(Path::new(bundle))?;
    let keep = Keep { further: true, ..Keep::new(store) };
    let lesson = Lesson { seed: 1, ..Lesson::new(photos.as_str()) };
    let report = Trainer::new(&bundle, lesson, keep)?.run(&mut |progress: Progress| {
        if let Progress::Warning(text) = progress {
            println!("warning: {text}");
        }
    })?;
    if let Some(trial) = &report.trial {
        println!("before {:.1} %, after {:.1} % of {} photos", 100.0 * trial.before, 100.0 * trial.after, trial.photos);
    }
    match report.aside {
        Some(number) => println!("kept aside as number {number}: generation {} is still current", report.generation),
        None => println!("generation {} is current", report.generation),
    }

    // The writer keeps others out while it lives.
    let mut writer = StoreWriter::open(Path::new(store))?;
    let back = writer.rollback(Some(1))?;
    println!("what generation {back} held is current again, as number {}", writer.current());
    Ok(())
}
