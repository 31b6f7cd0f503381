//! A warm training step allocates nothing of its own: what a counting allocator sees are the tensors and the bookkeeping of
//! tract's plan, which it prints.

use std::path::Path;

use serde_json::Value;
use srlora::bundle::Bundle;
use srlora::session::{Length, Lesson, Progress, train};

#[global_allocator]
static COUNTED: dhat::Alloc = dhat::Alloc;

/// The step that is counted: every buffer has its size by then, and it lies within an epoch.
const WARM: u64 = 11;

/// Who asked for memory: the innermost function that belongs to us or to tract.
fn owner<'p>(point: &Value, frames: &[&'p str]) -> &'p str {
    let stack = point["fs"].as_array().unwrap().iter().map(|at| frames[at.as_u64().unwrap() as usize]);
    let mut stack = stack.filter(|frame| frame.contains("srlora::") || frame.contains("tract_"));
    stack.next().unwrap_or("nobody known")
}

#[test]
fn a_warm_step_allocates_nothing_but_tracts_tensors() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/handwriting");
    let bundle = Bundle::open(&models.join("handwriting.bundle")).unwrap();
    let lesson = Lesson { length: Length::Steps(WARM as u32 + 2), ..Lesson::new(models.join("train")) };
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("heap.json");
    let mut counting = None;
    let mut observer = |progress: Progress| match progress {
        Progress::Step { step: WARM, .. } => {
            let builder = dhat::Profiler::builder().file_name(&report).trim_backtraces(None);
            counting = Some(builder.build());
        }
        Progress::Step { .. } => drop(counting.take()),
        _ => {}
    };
    train(&bundle, &lesson, &folder.path().join("store"), &mut observer).unwrap();

    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let frames: Vec<&str> = report["ftbl"].as_array().unwrap().iter().map(|frame| frame.as_str().unwrap()).collect();
    let (mut blocks, mut bytes, mut ours) = (0, 0, Vec::new());
    for point in report["pps"].as_array().unwrap() {
        let (asked, size) = (point["tbk"].as_u64().unwrap(), point["tb"].as_u64().unwrap());
        blocks += asked;
        bytes += size;
        let owner = owner(point, &frames);
        if !owner.contains("tract_") {
            ours.push(format!("{asked} blocks, {size} bytes: {owner}"));
        }
    }
    println!("a warm step: tract allocates {blocks} blocks of {bytes} bytes in all");
    assert!(blocks > 0, "nothing was counted");
    assert!(ours.is_empty(), "{}", ours.join("\n"));
}
