//! What was learned, to take away: the lesson as a page, the store and the adapter of PyTorch's PEFT as archives, the network as an ONNX file.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::http::{Answer, Content, Refusal};
use crate::backbone::Precision;
use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::export::{OnnxRequest, export_onnx};
use crate::peft::{Naming, PeftRank, PeftRequest, export_peft};
use crate::report::{Origin, training};
use crate::session::{Progress, Store, TrainReport, course};

/// Bytes of a block of an archive.
const BLOCK: u64 = 512;

/// The files of a folder, its hidden ones aside, as a tar archive (POSIX ustar): they are read while it is sent.
fn archive(folder: &Path, name: &str) -> Result<Answer> {
    let mut files: Vec<(String, PathBuf, u64)> = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let Some(file) = path.file_name().and_then(|file| file.to_str()).filter(|file| !file.starts_with('.')) else {
            continue;
        };
        let about = fs::symlink_metadata(&path).map_err(|e| Error::io(&path, e))?;
        if about.is_file() {
            files.push((format!("{name}/{file}"), path.clone(), about.len()));
        }
    }
    files.sort();
    let size = |length: u64| BLOCK + length.div_ceil(BLOCK) * BLOCK;
    let length = files.iter().map(|(_, _, length)| size(*length)).sum::<u64>() + 2 * BLOCK;
    // Opened now, so that one that gives way to a newer one while others are sent is still read.
    let opened = files
        .into_iter()
        .map(|(name, path, length)| Ok((name, File::open(&path).map_err(|e| Error::io(&path, e))?, length)));
    let opened = opened.collect::<Result<Vec<_>>>()?;
    let write = move |to: &mut dyn Write| {
        for (name, file, length) in opened {
            to.write_all(&header(&name, length))?;
            let mut file = file.take(length);
            io::copy(&mut file, to)?;
            // A journal grows, but no file becomes shorter.
            let missing = file.limit() + (BLOCK - length % BLOCK) % BLOCK;
            io::copy(&mut io::repeat(0).take(missing), to)?;
        }
        to.write_all(&[0; 2 * BLOCK as usize])
    };
    let answer = Answer::new(200, "application/x-tar", Content::Stream(Some(length), Box::new(write)));
    Ok(answer.with("Content-Disposition", format!("attachment; filename=\"{name}.tar\"")))
}

/// The header of a file in a tar archive: octal numbers in ASCII, and a checksum in which its own place counts as spaces.
fn header(name: &str, length: u64) -> [u8; BLOCK as usize] {
    let mut header = [0; BLOCK as usize];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    let cut: String = name.chars().take(99).filter(char::is_ascii).collect();
    put(0, &cut);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{length:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// The store, as `srlora predict --store` takes it.
pub(super) fn store(store: &Path) -> std::result::Result<Answer, Refusal> {
    Store::open(store)?;
    Ok(archive(store, "store")?)
}

/// The network with what the store has learned.
pub(super) fn onnx(bundle: &Bundle, store: &Store) -> std::result::Result<Answer, Refusal> {
    let place = place()?;
    let output = place.path().join("model.onnx");
    let request =
        OnnxRequest { output: output.clone(), precision: Precision::Keep, with_preprocessing: false, photos: None };
    export_onnx(bundle, store, &request, &mut |_: Progress<'_>| ())?;
    let file = File::open(&output).map_err(|e| Error::io(&output, e))?;
    let length = file.metadata().map_err(|e| Error::io(&output, e))?.len();
    let answer = Answer::new(200, "application/octet-stream", Content::File(file, length));
    Ok(answer.with("Content-Disposition", "attachment; filename=\"model.onnx\""))
}

/// The adapter of the store, in a folder as PyTorch's PEFT has it.
pub(super) fn adapter(bundle: &Bundle, store: &Store) -> std::result::Result<Answer, Refusal> {
    let place = place()?;
    let output = place.path().join("adapter");
    let request = PeftRequest {
        output: output.clone(),
        rank: PeftRank::Exact,
        naming: Naming { torch: None, map: None },
        photos: None,
    };
    export_peft(bundle, store, &request, &mut |_: Progress<'_>| ())?;
    Ok(archive(&output, "adapter")?)
}

/// The page of a lesson: it stands alone, as a browser shows it that nothing serves it to.
pub(super) fn report(
    bundle: &Bundle,
    photos: &Path,
    store: &Path,
    report: &TrainReport,
) -> std::result::Result<Answer, Refusal> {
    let origin = Origin {
        command: "srlora serve".to_owned(),
        bundle,
        photos: photos.display().to_string(),
        store: Some(store.display().to_string()),
    };
    let html = training(&origin, report, &course(store, &report.shown.record)?);
    let answer = Answer::new(200, "text/html; charset=utf-8", Content::Bytes(html.into_bytes().into()));
    Ok(answer.with("Content-Disposition", "attachment; filename=\"lesson.html\""))
}

/// A folder that leaves with what is in it; what is sent is open then.
fn place() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|e| Error::io(&std::env::temp_dir(), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_tar_reads() {
        let folder = tempfile::tempdir().unwrap();
        let files =
            [("a.txt", vec![b'a'; 511]), ("b.txt", vec![b'b'; 512]), ("c.txt", vec![b'c'; 513]), ("d.txt", vec![])];
        files.iter().for_each(|(name, bytes)| fs::write(folder.path().join(name), bytes).unwrap());
        fs::write(folder.path().join(".lock"), b"x").unwrap();
        let answer = archive(folder.path(), "store").unwrap();
        let length = answer.content.length().unwrap();
        let Content::Stream(_, write) = answer.content else { panic!("a stream") };
        let mut bytes = Vec::new();
        write(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, length);
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("x.tar"), bytes).unwrap();
        let tar = std::process::Command::new("tar").args(["-xf", "x.tar"]).current_dir(place.path()).status();
        if !tar.is_ok_and(|status| status.success()) {
            println!("NOT CHECKED: the archive (tar is not installed, or refused it)");
            return;
        }
        for (name, bytes) in files {
            assert_eq!(fs::read(place.path().join("store").join(name)).unwrap(), bytes, "{name}");
        }
        assert!(!place.path().join("store/.lock").exists());
    }
}
