//! From tests to a classic BPF program (socket(7), `SO_ATTACH_FILTER` and
//! `SO_ATTACH_REUSEPORT_CBPF`).
//!
//! All jumps lead forward, so the program is put together from its end: where
//! an instruction leads is known by then, and one that leads too far for a
//! conditional jump gets a plain one beside it.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;

use super::tree::{Test, Tests, Width};
use crate::sys::bpf::{
    ADD, AND, IPV4_DESTINATION, IPV4_SOURCE, IPV6_DESTINATION, IPV6_SOURCE, Instruction, JUMP,
    JUMP_IF_AT_LEAST, JUMP_IF_EQUAL, JUMP_IF_GREATER, LOAD_BYTE, LOAD_HALF, LOAD_LENGTH, LOAD_WORD,
    MOST_INSTRUCTIONS, NETWORK, REMAINDER, RETURN, SUBTRACT, SUBTRACT_INDEX, TO_INDEX, branch,
    plain,
};
use crate::table::access::Prefix;

/// Where a program's offset 0 lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Behind the UDP header: the program of a group (`SO_ATTACH_REUSEPORT_CBPF`).
    Payload,
    /// At the UDP header: the filter of one UDP socket (`SO_ATTACH_FILTER`).
    Transport,
}

impl Base {
    /// Octets before the payload.
    fn skew(self) -> u32 {
        match self {
            Base::Payload => 0,
            Base::Transport => 8,
        }
    }
}

/// The rules take more instructions than a program may have; this many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong(pub usize);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the rules take {} instructions of a BPF program, of which the kernel allows {MOST_INSTRUCTIONS}",
            self.0
        )
    }
}

impl std::error::Error for TooLong {}

/// The program that returns the verdict of the first of `rules` that holds, in
/// the order given, and `otherwise` if none does.
pub fn program(
    rules: &[(Tests, u32)],
    otherwise: u32,
    at: Base,
) -> Result<Vec<Instruction>, TooLong> {
    let mut draft = Draft {
        steps: Vec::new(),
        labels: 0,
        skew: at.skew(),
    };
    for (tests, verdict) in rules {
        let (yes, no) = (draft.label(), draft.label());
        draft.tests(tests, 0, yes, no);
        draft.steps.push(Step::Here(yes));
        draft.plain(RETURN, *verdict);
        draft.steps.push(Step::Here(no));
    }
    draft.plain(RETURN, otherwise);
    let program = assemble(&draft.steps, draft.labels);
    if program.len() > MOST_INSTRUCTIONS {
        return Err(TooLong(program.len()));
    }
    Ok(program)
}

/// A place in the program that is not known yet.
type Label = usize;

#[derive(Clone, Copy)]
enum Step {
    Plain(Instruction),
    /// Goes on behind it if the condition is as `when` says, else to the label.
    Unless {
        code: u16,
        k: u32,
        when: bool,
        to: Label,
    },
    Jump(Label),
    Here(Label),
}

struct Draft {
    steps: Vec<Step>,
    labels: usize,
    skew: u32,
}

impl Draft {
    fn label(&mut self) -> Label {
        self.labels += 1;
        self.labels - 1
    }

    fn plain(&mut self, code: u16, k: u32) {
        self.steps.push(Step::Plain(plain(code, k)));
    }

    /// Goes to `no` unless the condition is `when`.
    fn unless(&mut self, (code, k): (u16, u32), when: bool, no: Label) {
        let to = no;
        self.steps.push(Step::Unless { code, k, when, to });
    }

    /// Runs on into what follows, or to `yes`, if `tests` hold, else to `no`.
    /// The payload is known to have `known` octets; gives back how many it is
    /// known to have where they hold. Nothing is loaded before its place is
    /// known to be there: a load beyond the end would end the program.
    fn tests(&mut self, tests: &Tests, known: u32, yes: Label, no: Label) -> u32 {
        let floor = tests.floor();
        if floor > known {
            self.plain(LOAD_LENGTH, 0);
            let least = floor.saturating_add(self.skew);
            self.unless((JUMP_IF_AT_LEAST, least), true, no);
        }
        let known = known.max(floor);
        match tests {
            Tests::One(test) => {
                self.one(*test, no);
                known
            }
            Tests::All(all) => all.iter().fold(known, |known, tests| {
                let next = self.label();
                let known = self.tests(tests, known, next, no);
                self.steps.push(Step::Here(next));
                known
            }),
            Tests::Any(any) => {
                let mut least = u32::MAX;
                for tests in any {
                    let other = self.label();
                    least = least.min(self.tests(tests, known, yes, other));
                    self.steps.push(Step::Jump(yes));
                    self.steps.push(Step::Here(other));
                }
                self.steps.push(Step::Jump(no));
                known.max(if any.is_empty() { 0 } else { least })
            }
        }
    }

    /// Runs on if `test` holds, else goes to `no`. That the payload is as long
    /// as the test's floor has been seen to.
    fn one(&mut self, test: Test, no: Label) {
        match test {
            Test::Length(_, u32::MAX) => {}
            Test::Length(_, high) => {
                self.plain(LOAD_LENGTH, 0);
                let most = high.saturating_add(self.skew);
                self.unless((JUMP_IF_GREATER, most), false, no);
            }
            Test::MultipleOf(number) => {
                self.length();
                self.plain(REMAINDER, number);
                self.unless((JUMP_IF_EQUAL, 0), true, no);
            }
            Test::Number {
                at,
                width,
                mask,
                low,
                high,
            } => {
                let (load, all) = match width {
                    Width::One => (LOAD_BYTE, 0xff),
                    Width::Two => (LOAD_HALF, 0xffff),
                    Width::Four => (LOAD_WORD, u32::MAX),
                };
                self.plain(load, at.saturating_add(self.skew));
                if mask & all != all {
                    self.plain(AND, mask);
                }
                self.between(low, high, mask & all, no);
            }
            Test::Announced { at, plus, slack } => {
                self.plain(LOAD_HALF, at.saturating_add(self.skew));
                self.plain(ADD, plus);
                self.plain(TO_INDEX, 0);
                self.length();
                self.plain(SUBTRACT_INDEX, 0);
                // Where the payload is too short this wraps, beyond any slack that makes sense.
                self.unless((JUMP_IF_GREATER, slack.min(0xffff)), false, no);
            }
            Test::Ipv4(wanted) => {
                self.plain(LOAD_BYTE, NETWORK);
                self.plain(AND, 0xf0);
                self.unless((JUMP_IF_EQUAL, 0x40), wanted, no);
            }
            Test::From(prefix) => self.prefix(prefix, IPV4_SOURCE, IPV6_SOURCE, no),
            Test::To(prefix) => self.prefix(prefix, IPV4_DESTINATION, IPV6_DESTINATION, no),
        }
    }

    fn length(&mut self) {
        self.plain(LOAD_LENGTH, 0);
        if self.skew > 0 {
            self.plain(SUBTRACT, self.skew);
        }
    }

    /// The accumulator, which is at most `most`.
    fn between(&mut self, low: u32, high: u32, most: u32, no: Label) {
        if low == high {
            return self.unless((JUMP_IF_EQUAL, low), true, no);
        }
        if low > 0 {
            self.unless((JUMP_IF_AT_LEAST, low), true, no);
        }
        if high < most {
            self.unless((JUMP_IF_GREATER, high), false, no);
        }
    }

    /// Word by word, only as many as the prefix has. The family is known.
    fn prefix(&mut self, prefix: Prefix, v4: u32, v6: u32, no: Label) {
        let (offset, words): (u32, Vec<u32>) = match prefix.addr {
            IpAddr::V4(addr) => (v4, vec![addr.into()]),
            IpAddr::V6(addr) => {
                let word = |octets: &[u8]| octets.iter().fold(0, |n, o| n << 8 | u32::from(*o));
                (v6, addr.octets().chunks(4).map(word).collect())
            }
        };
        let mut bits = u32::from(prefix.bits);
        for (at, word) in (offset..).step_by(4).zip(words) {
            let of_it = bits.min(32);
            bits -= of_it;
            let mask = u32::MAX.checked_shl(32 - of_it).unwrap_or(0);
            if mask == 0 {
                break;
            }
            self.plain(LOAD_WORD, at);
            if mask != u32::MAX {
                self.plain(AND, mask);
            }
            self.unless((JUMP_IF_EQUAL, word & mask), true, no);
        }
    }
}

/// From the last step to the first. `places` of labels count from the end.
fn assemble(steps: &[Step], labels: usize) -> Vec<Instruction> {
    let mut places = vec![0; labels];
    let mut reversed: Vec<Instruction> = Vec::with_capacity(steps.len());
    let far = |distance: usize| plain(JUMP, u32::try_from(distance).unwrap_or(u32::MAX));
    for step in steps.iter().rev() {
        let here = reversed.len();
        match *step {
            Step::Plain(instruction) => reversed.push(instruction),
            Step::Here(label) => places[label] = here,
            Step::Jump(label) if here == places[label] => {}
            Step::Jump(label) => reversed.push(far(here - places[label])),
            Step::Unless { code, k, when, to } => {
                let distance = here - places[to];
                let (on, away) = match u8::try_from(distance) {
                    Ok(distance) => (0, distance),
                    Err(_) => {
                        reversed.push(far(distance));
                        (1, 0)
                    }
                };
                let (jt, jf) = if when { (on, away) } else { (away, on) };
                reversed.push(branch(code, k, jt, jf));
            }
        }
    }
    reversed.reverse();
    reversed
}
