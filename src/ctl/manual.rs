//! A manual page from the definition of a command line: one page for a program
//! with all its commands.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use clap::Command;
use clap_mangen::Man;

/// A program, and what its definition does not say.
#[derive(Debug)]
pub struct Program {
    pub command: Command,
    pub section: &'static str,
    /// What `--help` has below the options: headings, and lines with two columns.
    pub after: &'static str,
    pub see_also: &'static [&'static str],
}

/// An apostrophe that stays one; clap_mangen writes this before each section.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// The page, as man(7) has it.
pub fn manual(program: Program) -> io::Result<Vec<u8>> {
    let Program {
        command,
        section,
        after,
        see_also,
    } = program;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let man = Man::new(command.clone())
        .section(section)
        .title(command.get_name().to_uppercase());
    let mut parts = Vec::new();
    man.render_title(&mut parts)?;
    man.render_name_section(&mut parts)?;
    man.render_synopsis_section(&mut parts)?;
    man.render_description_section(&mut parts)?;
    man.render_options_section(&mut parts)?;
    let mut page = format!("{PREAMBLE}{}", without_preamble(parts)).into_bytes();
    writeln!(page, ".SH COMMANDS")?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        put_command(&mut page, sub)?;
    }
    put_after(&mut page, after)?;
    writeln!(page, ".SH \"SEE ALSO\"\n{}", see_also.join(", "))?;
    Ok(page)
}

/// What it is called with, what it does, and the options that only it has.
fn put_command(page: &mut Vec<u8>, command: &Command) -> io::Result<()> {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    writeln!(page, ".SS \"{}\"", escape(usage).replace('"', "\\(dq"))?;
    let about = command.get_about().map(ToString::to_string);
    writeln!(page, "{}.", escape(&about.unwrap_or_default()))?;
    let own = command
        .get_arguments()
        .filter(|argument| !argument.is_global_set() && argument.get_id() != "help")
        .count();
    if own == 0 {
        return Ok(());
    }
    let shown = command.clone().mut_args(|argument| {
        let everywhere = argument.is_global_set() || argument.get_id() == "help";
        argument.hide(everywhere)
    });
    let mut options = Vec::new();
    Man::new(shown).render_options_section(&mut options)?;
    let options = without_preamble(options);
    for line in options.lines().filter(|line| !line.starts_with(".SH")) {
        writeln!(page, "{line}")?;
    }
    Ok(())
}

fn without_preamble(part: Vec<u8>) -> String {
    String::from_utf8_lossy(&part).replace(PREAMBLE, "")
}

/// The headings of `--help` as sections; a line that begins with a word and
/// two spaces more begins an entry.
fn put_after(page: &mut Vec<u8>, after: &str) -> io::Result<()> {
    for line in after.lines().filter(|line| !line.is_empty()) {
        let Some(entry) = line.strip_prefix("  ") else {
            let heading = line.trim_end_matches(':').to_uppercase();
            writeln!(page, ".SH \"{heading}\"")?;
            continue;
        };
        match entry.split_once("  ") {
            Some((term, text)) if !term.is_empty() => {
                writeln!(
                    page,
                    ".TP\n\\fB{}\\fR\n{}",
                    escape(term),
                    escape(text.trim())
                )?;
            }
            Some(_) => writeln!(page, "{}", escape(entry.trim()))?,
            None => writeln!(page, ".TP\n\\fB{}\\fR", escape(entry.trim()))?,
        }
    }
    Ok(())
}

/// roff takes a point or an apostrophe at the beginning of a line for an order.
fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    match escaped.starts_with(['.', '\'']) {
        true => format!("\\&{escaped}"),
        false => escaped,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn columns_become_entries() {
        let mut page = Vec::new();
        let after =
            "Exit codes:\n  0   done\n  64  no\n      sense\n\nEnvironment:\n  A, B,\n      both";
        put_after(&mut page, after).unwrap();
        assert_eq!(
            String::from_utf8(page).unwrap(),
            ".SH \"EXIT CODES\"\n.TP\n\\fB0\\fR\ndone\n.TP\n\\fB64\\fR\nno\nsense\n\
             .SH \"ENVIRONMENT\"\n.TP\n\\fBA, B,\\fR\nboth\n"
        );
    }

    #[test]
    fn nothing_is_taken_for_an_order() {
        assert_eq!(escape(".x"), "\\&.x");
        assert_eq!(escape("a\\b --c"), "a\\eb \\-\\-c");
    }
}
