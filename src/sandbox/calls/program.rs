//! Rules as a classic BPF program over `struct seccomp_data` (seccomp(2)).
//!
//! The number is searched for by halves. It matters at each call whose arguments
//! are looked at, and more at each start: the kernel then runs a new filter
//! once for every number, to learn which ones it need not be asked about.
//! seccompiler's programs ask for one number after the other, and installing
//! them takes 4 (deny-list) to 12 times (allow-list) as long.
#![forbid(unsafe_code)]

use std::collections::HashMap;

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
pub fn assemble(machine: Architecture, rules: &[(u32, Verdict)]) -> Vec<Instruction> {
    let mut writer = Writer::default();
    let start = writer.decide(rules);
    writer.go_to(start);
    let mut program = vec![
        plain(LOAD_WORD, ARCHITECTURE),
        branch(JUMP_IF_EQUAL, machine.audit(), 1, 0),
        plain(RETURN, KILL_PROCESS),
        plain(LOAD_WORD, NUMBER),
    ];
    program.extend(writer.backwards.into_iter().rev());
    program
}

/// Writes a program from its end to its beginning. Jumps lead forward only, so what is
/// jumped to is there by then, and a verdict that many numbers share is written
/// once: at each start the kernel compiles all of the program.
#[derive(Debug, Default)]
struct Writer<'a> {
    backwards: Vec<Instruction>,
    /// Where each of them was written last.
    looks: HashMap<&'a Look, Place>,
    ends: HashMap<u32, Place>,
}

/// Of an instruction, counted from the end.
type Place = usize;

/// A conditional jump skips 255 instructions, a plain one any number. What is
/// farther off than this may be out of reach when it is jumped to.
const NEAR: usize = 200;

impl<'a> Writer<'a> {
    /// The number is in the accumulator, and not below the first rule's.
    fn decide(&mut self, rules: &'a [(u32, Verdict)]) -> Place {
        let (below, above) = match rules {
            [] => return self.end(KILL_PROCESS),
            [(_, Verdict::Allow)] => return self.end(ALLOW),
            [(_, Verdict::Refuse(errno))] => return self.end(refusal(*errno)),
            [(_, Verdict::Look(look))] => return self.look_at(look),
            _ => rules.split_at(rules.len() / 2),
        };
        let to_above = self.decide(above);
        let to_below = self.decide(below);
        self.branch(JUMP_IF_AT_LEAST, above[0].0, to_above, to_below)
    }

    fn look_at(&mut self, look: &'a Look) -> Place {
        if let Some(place) = self.looks.get(look).filter(|place| self.is_near(**place)) {
            return *place;
        }
        let (allow, refuse) = (ALLOW, refusal(look.errno));
        let (mask, values, found, otherwise) = match &look.wanted {
            Wanted::Without(bits) => (Some(*bits), &[0][..], allow, refuse),
            Wanted::NotAll(bits) => (Some(*bits), std::slice::from_ref(bits), refuse, allow),
            Wanted::OneOf(values) => (None, &**values, allow, refuse),
            Wanted::NoneOf(values) => (None, &**values, refuse, allow),
        };
        let found = self.end(found);
        let otherwise = self.end(otherwise);
        let first = values.iter().rev().fold(otherwise, |next, value| {
            self.branch(JUMP_IF_EQUAL, *value, found, next)
        });
        self.go_to(first);
        if let Some(mask) = mask {
            self.put(plain(AND, mask));
        }
        let place = self.put(plain(LOAD_WORD, ARGUMENTS + 8 * look.argument));
        self.looks.insert(look, place);
        place
    }

    fn end(&mut self, with: u32) -> Place {
        if let Some(place) = self.ends.get(&with).filter(|place| self.is_near(**place)) {
            return *place;
        }
        let place = self.put(plain(RETURN, with));
        self.ends.insert(with, place);
        place
    }

    fn branch(&mut self, condition: u16, k: u32, holds: Place, otherwise: Place) -> Place {
        let holds = self.reach(holds);
        let otherwise = self.reach(otherwise);
        let [jt, jf] = [holds, otherwise].map(|place| self.skip(place));
        let [jt, jf] = [jt, jf].map(|skip| u8::try_from(skip).unwrap_or(u8::MAX));
        self.put(branch(condition, k, jt, jf))
    }

    /// `place`, or a jump to it that is not far.
    fn reach(&mut self, place: Place) -> Place {
        match self.is_near(place) {
            true => place,
            false => self.put(self.jump(place)),
        }
    }

    /// What is written next goes on at `place`.
    fn go_to(&mut self, place: Place) {
        if self.skip(place) > 0 {
            self.put(self.jump(place));
        }
    }

    fn jump(&self, place: Place) -> Instruction {
        plain(JUMP, u32::try_from(self.skip(place)).unwrap_or(u32::MAX))
    }

    /// How many instructions lie between the next one that is written and `place`.
    fn skip(&self, place: Place) -> usize {
        self.backwards.len() - 1 - place
    }

    fn is_near(&self, place: Place) -> bool {
        self.skip(place) < NEAR
    }

    fn put(&mut self, instruction: Instruction) -> Place {
        self.backwards.push(instruction);
        self.backwards.len() - 1
    }
}

fn refusal(errno: i32) -> u32 {
    ERRNO | (errno.cast_unsigned() & 0xffff)
}
