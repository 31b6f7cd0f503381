//! Several lessons in one process, whose memory is the program's allocator's: each keeps to what was planned, and a second one runs under
//! the limit that the first one had; and with half as much again, on as many threads.

#![cfg(target_os = "linux")]

use std::path::Path;

use srlora::bundle::Bundle;
use srlora::session::{Keep, Length, Lesson, Progress, TrainReport, Trainer};
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn run(bundle: &Bundle, threads: usize, limit: Option<u64>) -> TrainReport {
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/handwriting/train");
    let place = TempDir::new().unwrap();
    let lesson = Lesson { threads, ram_limit: limit, length: Length::Epochs(2), ..Lesson::new(photos) };
    let trainer = Trainer::new(bundle, lesson, Keep::new(place.path().join("store"))).unwrap();
    let report = trainer.run(&mut |_: Progress| ()).unwrap();
    let [planned, measured] = [report.planned_peak_bytes, report.lesson_peak_bytes].map(|bytes| bytes.unwrap());
    println!("{threads} threads, limit {limit:?}: planned {planned}, measured {measured}");
    // In so small a process, what is counted once weighs more than a tenth. Threads reach their peaks together only by chance.
    let most = measured + measured / if threads > 1 { 4 } else { 10 } + (1 << 20);
    assert!((measured..=most).contains(&planned), "planned {planned}, measured {measured}");
    assert!(limit.is_none_or(|limit| measured <= limit), "limit {limit:?}, measured {measured}");
    report
}

#[test]
fn a_second_lesson_runs_under_the_limit_of_the_first_and_each_keeps_to_its_plan() {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/handwriting/handwriting.bundle");
    let bundle = Bundle::open(&bundle).unwrap();
    for threads in [1, 2] {
        let planned = run(&bundle, threads, None).planned_peak_bytes.unwrap();
        // What an earlier lesson has left in pieces may cost a later one a thread, but not the lesson.
        run(&bundle, threads, Some(planned + (4 << 20)));
        let limit = Some(planned + planned / 2);
        let reports = [run(&bundle, threads, limit), run(&bundle, threads, limit)];
        assert_eq!(reports.map(|report| report.threads), [threads; 2], "nothing had to be given up");
    }
}
