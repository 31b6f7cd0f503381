//! The lesson on the host, without a reset half-way: what it says must be what the firmware says.

use std::time::Instant;
use std::{env, fs, process::ExitCode, sync::LazyLock};

use lesson::nor::{PAGE, SimulatedNor};
use lesson::store::{PAGES, Store};
use lesson::{InFlash, Lesson, story};

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn milliseconds() -> u32 {
    BEGAN.elapsed().as_millis() as u32
}

fn main() -> ExitCode {
    let file = env::args().nth(1).unwrap_or_else(|| "models/digits8/digits.bin".into());
    let photos = match fs::read(&file) {
        Ok(photos) => photos,
        Err(error) => {
            eprintln!("{file}: {error}; name the file of photos");
            return ExitCode::from(2);
        }
    };
    let mut cells = vec![0; PAGES * PAGE];
    let range = 0..cells.len() as u32;
    let mut store = Store::new(SimulatedNor::new(&mut cells), range);
    match story::boot(&mut Lesson::empty(), &mut store, &mut InFlash(&photos), milliseconds, false) {
        Ok(_) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("{trouble:?}");
            ExitCode::FAILURE
        }
    }
}
