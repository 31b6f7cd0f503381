//! Prints `srlora.h`, which is made of the declarations and comments in `targets/c/src`.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let config = cbindgen::Config::from_file(place.join("cbindgen.toml"))?;
    // In the order that a reader needs.
    let modules = [
        "version",
        "error",
        "frame",
        "bundle",
        "store",
        "prediction",
        "classifier",
        "photos",
        "lesson",
        "event",
        "report",
        "trainer",
    ];
    let start = cbindgen::Builder::new().with_config(config);
    let header = modules.iter().fold(start, |header, name| header.with_src(place.join(format!("src/{name}.rs"))));
    header.generate()?.write(std::io::stdout());
    Ok(())
}
