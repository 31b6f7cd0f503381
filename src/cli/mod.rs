//! The command line: arguments become library requests, results become text or JSON, errors become sentences and exit
//! codes (0 done, 1 the work could not be done, 2 wrong usage).

mod args;
mod bench;
mod demo;
mod eval;
mod inspect;
mod output;
mod pack;
mod predict;
mod train;

use std::process::ExitCode;

use clap::Parser;

use crate::error::{Error, ErrorKind, Result};
use args::{Cli, Command};
use output::Output;

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    match run(&cli.command, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(command: &Command, output: &Output) -> Result<()> {
    match command {
        Command::Pack(args) => pack::run(args, output),
        Command::Train(args) => train::run(args, output),
        Command::Eval(args) => eval::run(args, output),
        Command::Predict(args) => predict::run(args, output),
        Command::Inspect(args) => inspect::run(args, output),
        Command::Bench(args) => bench::run(args, output),
        Command::Demo => demo::run(output),
    }
}

fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Usage | ErrorKind::Sites => 2,
        _ => 1,
    }
}
