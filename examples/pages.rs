//! Writes the manual pages and the completions of shells that go into archives and packages.
//!
//!     cargo run --release --example pages -- DIR
//!
//! DIR/man1 gets a page for the program and one for each command; DIR/completions gets files for bash, zsh and fish.

use std::fs;
use std::path::Path;

use clap_complete::Shell;
use clap_mangen::Man;

/// The date on the pages: none, so that the same source makes the same pages.
const DATE: &str = "";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(folder) = std::env::args_os().nth(1) else {
        println!("usage: pages DIR");
        return Ok(());
    };
    let (pages, completions) = (Path::new(&folder).join("man1"), Path::new(&folder).join("completions"));
    fs::create_dir_all(&pages)?;
    fs::create_dir_all(&completions)?;
    let mut grammar = srlora::cli::grammar();
    grammar.build();
    let commands = grammar.get_subcommands().filter(|command| command.get_name() != "help");
    let named = commands.map(|command| (format!("srlora-{}", command.get_name()), command.clone()));
    for (name, command) in [("srlora".to_owned(), grammar.clone())].into_iter().chain(named) {
        // `srlora train` is what is typed; `srlora-train` is how its page is asked for.
        let command = command.display_name(&name);
        let mut page = Vec::new();
        Man::new(command).date(DATE).render(&mut page)?;
        fs::write(pages.join(format!("{name}.1")), page)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut grammar, "srlora", &completions)?;
    }
    Ok(())
}
