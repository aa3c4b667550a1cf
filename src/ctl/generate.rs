//! `completions`, and the files of config/man and config/completions, all made
//! from the definitions of the command lines; the pages of section 5 from the references, and
//! config/operations.d/SHIPPED.md from the catalogue.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

use super::arguments::{self, Arguments};
use super::completion::asking;
use super::console::Console;
use super::failure::Failure;
use super::manual::{Program, manual};
use super::shipped::shipped_operations;
use super::table_manual::{Page, table_manual};
use crate::commands;
use crate::error::Exit;

/// The references of every key, and their pages.
const TABLE: &str = include_str!("../../config/README.md");
const TABLE_PAGE: Page = Page {
    name: "usherd.toml",
    about: "the table of the super-server usherd",
    file: "/etc/usherd/usherd.toml",
    file_is: "the table of the host",
    see_also: "usherd(8), usherctl(1), usherd-operations(5)",
};
const OPERATIONS: &str = include_str!("../../config/operations.d/README.md");
const OPERATIONS_PAGE: Page = Page {
    name: "usherd-operations",
    about: "the catalogue of administrative operations of the super-server usherd",
    file: "/etc/usherd/operations.d/*.toml",
    file_is: "operations of the host, over those that usherd brings along",
    see_also: "usherd(8), usherctl(1), usherd.toml(5)",
};
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

pub fn completions(console: &Console, shell: Shell) -> Result<(), Failure> {
    let text = completion(&Arguments::command(), shell);
    console.answer(&json!({ "script": text }), |_| text.clone())
}

/// Writes every file below `dir` that is made from the command lines.
pub fn generate(console: &Console, dir: &Path) -> Result<(), Failure> {
    let mut written = Vec::new();
    for (name, text) in files().map_err(|err| failure(dir, &err))? {
        let path = dir.join(&name);
        let parent = path.parent().unwrap_or(dir);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .map_err(|err| failure(&path, &err))?;
        written.push(name);
    }
    console.answer(&json!({ "written": written }), |_| {
        written.join("\n") + "\n"
    })
}

fn failure(path: &Path, err: &io::Error) -> Failure {
    let text = format!("unable to write {}: {err}", path.display());
    Failure::new(Exit::System, text)
}

/// Name below config/ and content.
pub fn files() -> io::Result<Vec<(String, Vec<u8>)>> {
    let programs = [
        Program {
            command: commands::arguments::Arguments::command(),
            section: "8",
            after: commands::arguments::AFTER_HELP,
            see_also: &[
                "usherctl(1)",
                "usherd.toml(5)",
                "usherd-operations(5)",
                "inetd(8)",
            ],
        },
        Program {
            command: Arguments::command(),
            section: "1",
            after: arguments::AFTER_HELP,
            see_also: &["usherd(8)", "usherd.toml(5)", "usherd-operations(5)"],
        },
    ];
    let mut files = Vec::new();
    for (about, text) in [(TABLE_PAGE, TABLE), (OPERATIONS_PAGE, OPERATIONS)] {
        let page = table_manual(&about, text).into_bytes();
        files.push((format!("man/{}.5", about.name), page));
    }
    let shipped = shipped_operations().into_bytes();
    files.push(("operations.d/SHIPPED.md".to_owned(), shipped));
    for program in programs {
        let name = program.command.get_name().to_owned();
        for shell in SHELLS {
            let text = completion(&program.command, shell);
            let file = match shell {
                Shell::Zsh => format!("_{name}"),
                shell => format!("{name}.{shell}"),
            };
            files.push((format!("completions/{file}"), text.into_bytes()));
        }
        let file = format!("man/{name}.{}", program.section);
        files.push((file, manual(program)?));
    }
    Ok(files)
}

fn completion(command: &Command, shell: Shell) -> String {
    let mut text = Vec::new();
    let name = command.get_name().to_owned();
    let is_ctl = name == "usherctl";
    clap_complete::generate(shell, &mut command.clone(), name, &mut text);
    let script = String::from_utf8_lossy(&text).into_owned();
    match is_ctl {
        true => asking(&script, shell),
        false => script,
    }
}
