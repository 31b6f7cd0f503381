//! Learns photos from memory, as a camera gives them, with progress on the way; Enter, or a lesson of more than a minute, ends it.
//!
//!     cargo run --release --example memory -- BUNDLE STORE

use std::path::Path;
use std::time::{Duration, Instant};

use srlora::ErrorKind;
use srlora::bundle::Bundle;
use srlora::session::{Dataset, Flow, Happened, Keep, Layout, Lesson, Picture, Pixels, Progress, Trainer};

/// A frame that a camera might give: blue, green, red, and rows that are padded to 64 bytes.
fn frame(seed: usize, is_bright: bool) -> (Vec<u8>, [u32; 2], usize) {
    let (width, height, stride) = (50, 40, 192);
    let level = if is_bright { 150 } else { 30 };
    let bytes = (0..stride * height).map(|at| level + (at * (seed + 3) % 61) as u8).collect();
    (bytes, [width, height as u32], stride)
}

fn main() -> srlora::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, store] = &arguments[..] else {
        println!("usage: memory BUNDLE STORE");
        return Ok(());
    };
    let bundle = Bundle::open(Path::new(bundle))?;
    let mut photos = Dataset::default();
    for seed in 0..16 {
        for (class, is_bright) in [("bright", true), ("dark", false)] {
            let (bytes, size, stride) = frame(seed, is_bright);
            let pixels = Pixels::new(&bytes, Layout::Bgr8, size, stride)?;
            photos.add(class, Picture::pixels(&format!("{class} {seed}"), pixels))?;
        }
    }

    // The lesson can be stopped from another thread, and by what the observer answers.
    let keep = Keep::new(store);
    let stop = keep.stop.clone();
    std::thread::spawn(move || {
        if std::io::stdin().read_line(&mut String::new()).is_ok_and(|read| read > 0) {
            stop.set();
        }
    });
    let begin = Instant::now();
    let mut observer = |progress: Progress| match progress {
        Progress::Step { .. } if begin.elapsed() > Duration::from_secs(60) => Flow::Stop,
        _ => Flow::GoOn,
    };

    let mut trainer = Trainer::new(&bundle, Lesson::new(photos), keep)?;
    println!("{} steps, {:.1} s at most", trainer.forecast().steps, trainer.forecast().seconds);
    loop {
        match trainer.step(&mut observer) {
            Ok(Happened::Step { step, loss, accuracy }) if step % 10 == 0 => {
                println!("step {step}: loss {loss:.3}, {:.0} % right", 100.0 * accuracy);
            }
            Ok(Happened::Ended(report)) => {
                println!("generation {} is current", report.generation);
                return Ok(());
            }
            Ok(_) => {}
            // What was learned is in a checkpoint: `resume` in `Keep` goes on with it, to the same bytes.
            Err(error) if error.kind() == ErrorKind::Stopped => {
                println!("{error}");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}
