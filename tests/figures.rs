//! Every figure outside `docs/` stands on a page of `docs/`, beside the command that gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const UNITS: [&str; 11] = ["%", "ms", "s", "min", "KiB", "MiB", "GiB", "MB", "GB", "TB", "points"];
/// How a command begins, in a block of a page.
const COMMANDS: [&str; 5] = ["    srlora ", "    cargo ", "    python", "    targets/", "    tests/"];

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Numbers with their units, as they are written: "84.2 %", "38 MiB".
fn figures(text: &str) -> BTreeSet<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let figure = |pair: &[&str]| {
        let number = pair[0].trim_start_matches(|c: char| !c.is_ascii_digit() && c != '-');
        let unit = pair[1].trim_end_matches([',', '.', ':', ';', ')', '*']);
        let is_number = number.starts_with(|c: char| c.is_ascii_digit()) && !number.ends_with([',', '.']);
        (is_number && UNITS.contains(&unit)).then(|| format!("{number} {unit}"))
    };
    words.windows(2).filter_map(figure).collect()
}

/// The lines of tables, and of blocks that show what a program says, that hold a figure.
fn shown(page: &str) -> Vec<&str> {
    let mut within = false;
    let lines = page.lines().filter(|line| {
        within ^= line.starts_with("```");
        (within || line.starts_with('|'))
            && line.contains(|c: char| c.is_ascii_digit())
            && !line.starts_with("srlora =")
    });
    lines.collect()
}

/// The pages of `docs/`, each of which must have a command.
fn pages() -> BTreeMap<PathBuf, String> {
    let files = fs::read_dir(project("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages =
        files.filter(|path| path.extension().is_some_and(|end| end == "md")).map(|path| (path.clone(), read(&path)));
    pages
        .filter(|(_, text)| text.lines().any(|line| COMMANDS.iter().any(|command| line.starts_with(command))))
        .collect()
}

#[test]
fn every_figure_of_a_readme_stands_on_a_page_with_its_command() {
    let pages = pages();
    let known: BTreeSet<String> = pages.values().flat_map(|text| figures(text)).collect();
    let lines: BTreeSet<&str> = pages.values().flat_map(|text| text.lines()).map(str::trim).collect();
    let readmes =
        ["README.md", "targets/raspberry-pi/README.md", "targets/jetson/README.md", "targets/cortex-m/README.md"];
    let (mut checked, mut missing) = (0, Vec::new());
    for readme in readmes {
        let text = read(&project(readme));
        let found = figures(&text);
        checked += found.len();
        missing.extend(found.difference(&known).map(|figure| format!("{readme}: {figure}")));
        if readme == "README.md" {
            let absent = shown(&text).into_iter().filter(|line| !lines.contains(line.trim()));
            missing.extend(absent.map(|line| format!("{readme}: this line: {line}")));
        }
    }
    println!("{checked} figures, on {} pages", pages.len());
    assert!(checked > 40, "the READMEs have figures, {checked} were found");
    assert!(missing.is_empty(), "not on any page of docs/:\n  {}", missing.join("\n  "));
}

#[test]
fn a_figure_is_a_number_with_a_unit() {
    let text = "About 84.2 % (srlora), 1.5 GiB; up to 38 MiB. `--ram-limit 56MiB`, 3 classes, 5 points";
    let expected = ["1.5 GiB", "38 MiB", "5 points", "84.2 %"].map(str::to_owned);
    assert_eq!(figures(text), BTreeSet::from(expected));
    assert_eq!(shown("a 1\n| b 2 |\n```text\nc 3\nd\n```\ne 4"), ["| b 2 |", "c 3"]);
}
