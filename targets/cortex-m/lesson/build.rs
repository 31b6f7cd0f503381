//! Makes constants of `models/digits8/network.safetensors`: a microcontroller reads its network where it lies in flash.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, error::Error, fs};

use safetensors::{Dtype, SafeTensors};

fn main() -> Result<(), Box<dyn Error>> {
    let file = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../../models/digits8/network.safetensors");
    println!("cargo::rerun-if-changed={}", file.display());
    let bytes = fs::read(&file).map_err(|e| format!("{}: {e}; models/recipes/digits8.py makes it", file.display()))?;
    let mut source = format!(
        "/// CRC-32 of the network's file: no state is read beside another network.\npub(crate) const BINDING: u32 = {:#x};\n",
        crc32(&bytes)
    );
    for (name, tensor) in SafeTensors::deserialize(&bytes)?.iter() {
        let (kind, elements) = elements(tensor.dtype(), tensor.data())?;
        let (constant, count) = (name.to_uppercase().replace('.', "_"), elements.len());
        writeln!(source, "pub(crate) static {constant}: [{kind}; {count}] = [{}];", elements.join(", "))?;
    }
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("network.rs"), source)?;
    Ok(())
}

/// Rust's type of the elements, and each as an expression that keeps its bits.
fn elements(dtype: Dtype, data: &[u8]) -> Result<(&'static str, Vec<String>), String> {
    Ok(match dtype {
        Dtype::I8 => ("i8", data.iter().map(|&byte| (byte as i8).to_string()).collect()),
        Dtype::F16 => {
            let bits = data.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
            ("half::f16", bits.map(|bits| format!("half::f16::from_bits({bits:#x})")).collect())
        }
        Dtype::F32 => {
            let bits = data.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            ("f32", bits.map(|bits| format!("f32::from_bits({bits:#x})")).collect())
        }
        other => return Err(format!("network.safetensors holds {other:?}, not I8, F16 or F32")),
    })
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}
