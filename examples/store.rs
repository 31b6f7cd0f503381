//! Reads what a store holds: its generations, their classes, and how they came to be.
//!
//!     cargo run --release --example store -- STORE

use std::path::Path;

use srlora::session::{Store, history};

fn main() -> srlora::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path] = &arguments[..] else {
        println!("usage: store STORE");
        return Ok(());
    };
    let store = Store::open(Path::new(path))?;
    let ([generations, aside], record) = (store.numbers()?, store.record()?);
    println!("generation {} of {generations:?}, {} lessons kept aside", store.current(), aside.len());
    println!("{} after {} steps: {}", record.lesson.method, record.steps, record.classes.join(", "));
    for (site, history) in history(Path::new(path), &record)? {
        let last: Vec<String> =
            history.pairs.iter().filter_map(|pair| pair.last()).map(|importance| format!("{importance:.1e}")).collect();
        println!("importance of the pairs at {site}: {}", last.join(" "));
    }
    Ok(())
}
