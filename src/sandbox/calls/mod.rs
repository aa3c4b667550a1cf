//! seccomp(2): which system calls a server may make, as one program per service.
//!
//! A service's `system_calls`, `allow_calls`, `deny_calls` and
//! `address_families` become rules ([`rules`]), and these a program
//! ([`program`]) that the child installs as its last step before exec.
//! Everything here happens when a table is loaded.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::sys::bpf::Instruction;
use crate::table::isolation::Isolation;

mod program;
mod rules;
mod table;

#[cfg(test)]
mod tests;

pub use table::{Architecture, Call, Fate, Group, groups, is_known, names};

use rules::{Settings, Verdict};

/// The program for this machine. Whether the service wants one at all
/// ([`Mechanism::Seccomp`]) is the caller's question.
pub fn compile(isolation: &Isolation) -> Result<Vec<Instruction>, String> {
    compile_for(Architecture::of_this_machine()?, &Settings::of(isolation))
}

fn compile_for(machine: Architecture, settings: &Settings) -> Result<Vec<Instruction>, String> {
    Ok(program::assemble(
        machine,
        &rules::rules(machine, settings)?,
    ))
}

/// Whether `call` does anything at all for a service that wants seccomp, perhaps with some
/// arguments only. Says no to names that are unknown.
#[must_use]
pub fn permits(isolation: &Isolation, call: &str) -> bool {
    let Some((group, call)) = table::find(call) else {
        return false;
    };
    let verdict = rules::verdict(group, call, &Settings::of(isolation));
    !matches!(verdict, Verdict::Refuse(_))
}

/// A call without which no server can be started, if `isolation` refuses one:
/// what a child does once the filter is on.
#[must_use]
pub fn refuses_to_start(isolation: &Isolation) -> Option<&'static str> {
    const ALWAYS: [&str; 9] = [
        "execve",
        "execveat",
        "exit",
        "exit_group",
        "write",
        "prctl",
        "dup3",
        "fcntl",
        "close_range",
    ];
    /// The user is switched under the filter.
    const AS_ROOT: [&str; 6] = [
        "setgroups",
        "setresgid",
        "setresuid",
        "capset",
        "chdir",
        "umask",
    ];
    let mut needed = ALWAYS.iter().chain(&AS_ROOT).copied();
    needed.find(|call| !permits(isolation, call))
}

/// Programs that were compiled, so that services of equal settings share one.
#[derive(Debug, Default)]
pub struct Compiled {
    // Few: most services of a table say the same about calls.
    programs: Vec<(Settings, Arc<[Instruction]>)>,
}

impl Compiled {
    /// As [`compile`], but once for equal settings.
    pub fn program(&mut self, isolation: &Isolation) -> Result<Arc<[Instruction]>, String> {
        let settings = Settings::of(isolation);
        if let Some((_, program)) = self.programs.iter().find(|(known, _)| *known == settings) {
            return Ok(Arc::clone(program));
        }
        let program = compile_for(Architecture::of_this_machine()?, &settings)?;
        let program: Arc<[Instruction]> = program.into();
        self.programs.push((settings, Arc::clone(&program)));
        Ok(program)
    }
}
