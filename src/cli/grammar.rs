//! How a command line is read.

use std::any::TypeId;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory, FromArgMatches};

use super::args::Cli;

impl Cli {
    /// Reads a command line that begins with the program's name.
    pub(super) fn read(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        Self::from_arg_matches(&Self::grammar().try_get_matches_from(arguments)?)
    }

    /// What clap derives, but a value that is no free text may begin with a hyphen: so `--lr -1` is refused by what reads rates, and
    /// not as an unknown flag.
    pub(super) fn grammar() -> Command {
        fn widen(grammar: Command) -> Command {
            let widen_flag = |arg: Arg| if takes_a_figure(&arg) { arg.allow_hyphen_values(true) } else { arg };
            grammar.mut_args(widen_flag).mut_subcommands(widen)
        }
        widen(Self::command())
    }
}

/// Whether it is a flag whose value is neither a path nor free text.
fn takes_a_figure(arg: &Arg) -> bool {
    let value = arg.get_value_parser().type_id();
    let is_text = [TypeId::of::<PathBuf>(), TypeId::of::<String>()].iter().any(|text| value == *text);
    !arg.is_positional() && arg.get_action().takes_values() && !is_text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_for_a_figure_gives_a_negative_one_to_what_reads_it() {
        let mut refusals = Vec::new();
        for command in Cli::grammar().get_subcommands() {
            for flag in command.get_arguments().filter(|arg| takes_a_figure(arg)).filter_map(Arg::get_long) {
                let flag = format!("--{flag}");
                let Err(error) = Cli::read(["srlora", command.get_name(), &flag, "-1"]) else { panic!("{flag}") };
                let said = error.to_string();
                // A mean may be negative; then other flags are missing.
                let is_read =
                    said.contains(&format!("invalid value '-1' for '{flag} <")) || flag == "--mean" || flag == "--std";
                assert!(is_read && !said.contains("tip:") && !said.contains("invalid digit"), "{flag}: {said}");
                refusals.push((command.get_name().to_owned() + " " + &flag, said));
            }
        }
        for (flag, words) in [
            ("train --lr", "write a number of at least 0"),
            ("train --head-lr", "write a number of at least 0"),
            ("train --val-split", "write a share between 0 and 1"),
            ("train --ram-limit", "-1 is no size"),
            ("train --checkpoint", "0 or more"),
            ("train --seed", "write a whole number"),
            ("simulate --seed", "write a whole number"),
            ("pack --rank", "write a whole number"),
            ("pack --range", "write 1 or 255"),
            ("rollback --to", "write a whole number"),
            ("eval --min-release", "write a whole number"),
            ("compare --lrs", "write a number of at least 0"),
            ("simulate --cut-at", "write a step"),
        ] {
            let refused = |(asked, said): &(String, String)| asked == flag && said.contains(words);
            assert!(refusals.iter().any(refused), "{flag}: {words}");
        }
        println!("{} flags", refusals.len());
    }
}
