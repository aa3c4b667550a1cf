//! Rules as a classic BPF program over `struct seccomp_data` (seccomp(2)).
//!
//! The number is searched for by halves. It matters at each call whose arguments
//! are looked at, and more at each start: the kernel then runs a new filter
//! once for every number, to learn which ones it need not be asked about.
//! seccompiler's programs ask for one number after the other, and installing
//! them takes 4 (deny-list) to 12 times (allow-list) as long.
#![forbid(unsafe_code)]

use super::rules::{Look, Verdict, Wanted};
use super::table::Architecture;
use crate::sys::bpf::{
    AND, Instruction, JUMP, JUMP_IF_AT_LEAST, JUMP_IF_EQUAL, LOAD_WORD, RETURN, branch, plain,
};

/// Places in `struct seccomp_data`.
pub const NUMBER: u32 = 0;
pub const ARCHITECTURE: u32 = 4;
/// The lower half of the first of six arguments, on a little-endian machine.
pub const ARGUMENTS: u32 = 16;

/// `SECCOMP_RET_*` of linux/seccomp.h.
pub const ALLOW: u32 = 0x7fff_0000;
pub const ERRNO: u32 = 0x0005_0000;
pub const KILL_PROCESS: u32 = 0x8000_0000;

/// A program for `rules`: what holds from each number up to the next one's.
/// Calls by the numbers of another architecture kill the process: every one
/// of ours would mean something else there.
pub fn assemble(machine: Architecture, rules: Vec<(u32, Verdict)>) -> Vec<Instruction> {
    let mut program = vec![
        plain(LOAD_WORD, ARCHITECTURE),
        branch(JUMP_IF_EQUAL, machine.audit(), 1, 0),
        plain(RETURN, KILL_PROCESS),
        plain(LOAD_WORD, NUMBER),
    ];
    program.extend(decide(&rules));
    program
}

/// The number is in the accumulator, and not below the first rule's.
fn decide(rules: &[(u32, Verdict)]) -> Vec<Instruction> {
    let (below, above) = match rules {
        [] => return vec![plain(RETURN, KILL_PROCESS)],
        [(_, verdict)] => return carry_out(verdict),
        _ => rules.split_at(rules.len() / 2),
    };
    let split = above[0].0;
    let (below, above) = (decide(below), decide(above));
    // A conditional jump reaches 255 instructions, a plain one any.
    let mut program = match u8::try_from(below.len()) {
        Ok(length) => vec![branch(JUMP_IF_AT_LEAST, split, length, 0)],
        Err(_) => vec![
            branch(JUMP_IF_AT_LEAST, split, 0, 1),
            plain(JUMP, u32::try_from(below.len()).unwrap_or(u32::MAX)),
        ],
    };
    program.extend(below);
    program.extend(above);
    program
}

fn carry_out(verdict: &Verdict) -> Vec<Instruction> {
    match verdict {
        Verdict::Allow => vec![plain(RETURN, ALLOW)],
        Verdict::Refuse(errno) => vec![refuse(*errno)],
        Verdict::Look(look) => look_at(look),
    }
}

fn refuse(errno: i32) -> Instruction {
    plain(RETURN, ERRNO | (errno.cast_unsigned() & 0xffff))
}

fn look_at(look: &Look) -> Vec<Instruction> {
    let mut program = vec![plain(LOAD_WORD, ARGUMENTS + 8 * look.argument)];
    let (allow, refuse) = (plain(RETURN, ALLOW), refuse(look.errno));
    match &look.wanted {
        Wanted::Without(bits) => program.extend([
            plain(AND, *bits),
            branch(JUMP_IF_EQUAL, 0, 0, 1),
            allow,
            refuse,
        ]),
        Wanted::NotAll(bits) => program.extend([
            plain(AND, *bits),
            branch(JUMP_IF_EQUAL, *bits, 0, 1),
            refuse,
            allow,
        ]),
        Wanted::OneOf(values) => compare(&mut program, values, allow, refuse),
        Wanted::NoneOf(values) => compare(&mut program, values, refuse, allow),
    }
    program
}

/// `found` if the accumulator is one of `values` (a handful), else `otherwise`.
fn compare(
    program: &mut Vec<Instruction>,
    values: &[u32],
    found: Instruction,
    otherwise: Instruction,
) {
    for (value, behind) in values.iter().zip((0..values.len()).rev()) {
        let to_found = u8::try_from(behind + 1).unwrap_or(u8::MAX);
        program.push(branch(JUMP_IF_EQUAL, *value, to_found, 0));
    }
    program.extend([otherwise, found]);
}
