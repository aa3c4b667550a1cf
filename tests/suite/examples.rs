//! Every table that usherd ships passes its own checker.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::daemon::USHERD;
use crate::common::*;
use crate::tests;

tests![
    every_table_in_config_and_examples_passes_the_checker,
    the_ready_tables_lie_together_and_switch_nothing_on,
    the_checker_says_no_to_nonsense_with_code_78,
    the_checker_says_no_to_a_missing_file,
    help_and_version_are_there,
    the_readme_tells_of_signals_and_exit_codes_what_the_help_tells,
];

/// All tables below `folder`; what is no table by itself (the operations' catalogue) is left out.
fn tables(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() && !path.ends_with("operations.d") {
            tables(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            found.push(path);
        }
    }
}

fn check(path: &Path) -> (Option<i32>, String) {
    let output = Command::new(USHERD)
        .arg("check")
        .arg(path)
        .output()
        .expect("usherd check");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said.into_owned())
}

fn every_table_in_config_and_examples_passes_the_checker() {
    needs_root();
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["config", "examples"] {
        tables(&home.join(folder), &mut found);
    }
    if found.is_empty() {
        skip("there is no table in config/ or examples/ yet");
    }
    found.sort();
    let failed: Vec<String> = found
        .iter()
        .filter_map(|path| match check(path) {
            (Some(0), _) => None,
            (code, said) => Some(format!("{} ({code:?})\n{said}", path.display())),
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// As they are meant to be used: all of them included, some enabled later.
fn the_ready_tables_lie_together_and_switch_nothing_on() {
    needs_root();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/services.d");
    let mut found = Vec::new();
    tables(&folder, &mut found);
    let readme = std::fs::read_to_string(folder.join("README.md")).expect("README.md");
    for path in &found {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(path).expect("a table");
        let heading = format!("\n[service.{name}]\n");
        assert!(format!("\n{text}").contains(&heading), "{heading}");
        let row = format!("| [{name}]({name}.toml) |");
        assert!(readme.contains(&row), "README.md has no row {row}");
    }
    let dir = Dir::new();
    let all = format!("include = [\"{}/*.toml\"]\n", folder.display());
    let (code, said) = check(Path::new(&dir.write("all.toml", all)));
    assert_eq!(code, Some(0), "{said}");
    let sum = format!("{} services, no complaints, 1 warning", found.len());
    assert!(said.contains(&sum), "{said}");
    assert!(said.contains("no service is enabled"), "{said}");
}

fn the_checker_says_no_to_nonsense_with_code_78() {
    let dir = Dir::new();
    let path = dir.write(
        "bad.toml",
        "[service.x]\nlisten = \"tcp:99999\"\nexek = [\"cat\"]\n",
    );
    let (code, said) = check(Path::new(&path));
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("bad.toml:2:") && said.contains("bad.toml:3:"),
        "{said}"
    );
    assert!(said.contains("exec"), "did you mean: {said}");
}

fn the_checker_says_no_to_a_missing_file() {
    let dir = Dir::new();
    let (code, said) = check(Path::new(&dir.file("absent.toml")));
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("absent.toml"), "{said}");
}

fn help_and_version_are_there() {
    for (option, word) in [
        ("--help", "--config"),
        ("--version", env!("CARGO_PKG_VERSION")),
    ] {
        let output = Command::new(USHERD).arg(option).output().expect("usherd");
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains(word));
    }
}

/// The entries below `heading` of the help: a word or two, then a text that may
/// go on in the next lines.
fn entries(help: &str, heading: &str) -> Vec<(String, String)> {
    let below = help
        .split_once(heading)
        .expect(heading)
        .1
        .trim_start_matches('\n');
    let mut found: Vec<(String, String)> = Vec::new();
    for line in below.lines().take_while(|line| line.starts_with("  ")) {
        match (line[2..].split_once("  "), found.last_mut()) {
            (Some((name, text)), _) if !name.is_empty() => {
                found.push((name.to_owned(), text.trim().to_owned()));
            }
            (_, Some((_, text))) => *text = format!("{text} {}", line.trim()),
            (_, None) => panic!("no entry: {line}"),
        }
    }
    found
}

fn the_readme_tells_of_signals_and_exit_codes_what_the_help_tells() {
    let output = Command::new(USHERD).arg("--help").output().expect("usherd");
    let help = String::from_utf8_lossy(&output.stdout);
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))
        .expect("README.md");
    for (heading, section) in [("Signals:", "## Signals"), ("Exit codes:", "## Exit codes")] {
        let section = readme.split_once(section).expect(section).1;
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows: Vec<_> = section
            .lines()
            .filter(|line| line.starts_with("| "))
            .collect();
        let entries = entries(&help, heading);
        let wanted: Vec<_> = entries
            .iter()
            .map(|(name, text)| format!("| {name} | {text} |"))
            .collect();
        assert_eq!(rows[1..], wanted, "the rows below the head of {heading}");
    }
}
