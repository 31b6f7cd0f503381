//! The command line: arguments become library requests, results become text or JSON, errors become sentences and exit
//! codes (0 done, 1 the work could not be done, 2 wrong usage).

mod args;
mod bench;
mod change;
mod compare;
mod demo;
mod eval;
mod export;
mod flags;
mod grammar;
mod import;
mod inspect;
mod output;
mod pack;
mod picture;
mod predict;
mod report;
mod serve;
mod signals;
mod simulate;
mod train;
mod values;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::adapter::kernel::reserve;
use crate::error::{Error, ErrorKind, Result};
use crate::session::{Store, begin_process};
use args::{Cli, Command};
use output::{Output, tell};

/// A panic says where it was and why, without a backtrace, whatever `RUST_BACKTRACE` is: the standard library asks for memory while it prints
/// one, and where none is left it waits for ever for a lock that it holds itself.
fn panic_without_memory() {
    std::panic::set_hook(Box::new(|panic| drop(writeln!(io::stderr(), "{panic}"))));
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    begin_process();
    panic_without_memory();
    reserve();
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let output = Output::new(cli.json);
    match run(&cli.command, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("error: {error}"));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Whether `arguments` are a command line, the program's name aside: nothing is done but parsing. For fuzzing.
#[doc(hidden)]
#[must_use]
pub fn parses<'a>(arguments: impl IntoIterator<Item = &'a str>) -> bool {
    Cli::read(["srlora"].into_iter().chain(arguments)).is_ok()
}

/// The command line as clap describes it: what manual pages and completions are made of (`examples/pages.rs`).
#[doc(hidden)]
#[must_use]
pub fn grammar() -> clap::Command {
    Cli::grammar()
}

fn run(command: &Command, output: &Output) -> Result<()> {
    match command {
        Command::Pack(args) => pack::run(args, output),
        Command::Train(args) => train::run(args, output),
        Command::Rollback(args) => change::rollback(args, output),
        Command::Forget(args) => change::forget(args, output),
        Command::Eval(args) => eval::run(args, output),
        Command::Predict(args) => predict::run(args, output),
        Command::Export(args) => export::run(args, output),
        Command::Import(args) => import::run(args, output),
        Command::Inspect(args) => inspect::run(args, output),
        Command::Serve(args) => serve::run(args, output),
        Command::Bench(args) => bench::run(args, output),
        Command::Compare(args) => compare::run(args, output),
        Command::Simulate(args) => simulate::run(args, output),
        Command::Demo => demo::run(output),
    }
}

/// Opens the store that was asked for, and says so where its newest generation is damaged.
fn open_store(path: Option<&Path>) -> Result<Option<Store>> {
    path.map(existing_store).transpose()
}

fn existing_store(path: &Path) -> Result<Store> {
    let store = Store::open(path)?;
    if let Some(warning) = store.warning() {
        tell(format_args!("warning: {warning}"));
    }
    Ok(store)
}

fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        // As of a process that SIGTERM ends, which a supervisor does not take for a failure.
        ErrorKind::Stopped => 143,
        ErrorKind::Usage | ErrorKind::Sites => 2,
        _ => 1,
    }
}
