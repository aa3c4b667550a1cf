//! Classic BPF as data: the instructions that usherd's programs use, and what
//! makes them. Nothing is attached here; see [`super::socket`].
#![forbid(unsafe_code)]

pub use super::socket::Instruction;

/// Loads from here on count from the start of the network header
/// (linux/filter.h, `SKF_NET_OFF`), wherever the program's own data begins.
pub const NETWORK: u32 = 0xfff0_0000;
pub const IPV4_SOURCE: u32 = NETWORK + 12;
pub const IPV4_DESTINATION: u32 = NETWORK + 16;
pub const IPV6_SOURCE: u32 = NETWORK + 8;
pub const IPV6_DESTINATION: u32 = NETWORK + 24;

/// Into the accumulator: 4, 2 or 1 octets in network order, or the packet's length.
pub const LOAD_WORD: u16 = 0x20;
pub const LOAD_HALF: u16 = 0x28;
pub const LOAD_BYTE: u16 = 0x30;
pub const LOAD_LENGTH: u16 = 0x80;
/// The accumulator with a constant.
pub const ADD: u16 = 0x04;
pub const SUBTRACT: u16 = 0x14;
pub const AND: u16 = 0x54;
pub const REMAINDER: u16 = 0x94;
/// The accumulator less the index register, and the accumulator into that register.
pub const SUBTRACT_INDEX: u16 = 0x1c;
pub const TO_INDEX: u16 = 0x07;
/// Forward only: a plain jump reaches any instruction, a conditional one 255.
pub const JUMP: u16 = 0x05;
pub const JUMP_IF_EQUAL: u16 = 0x15;
pub const JUMP_IF_GREATER: u16 = 0x25;
pub const JUMP_IF_AT_LEAST: u16 = 0x35;
pub const RETURN: u16 = 0x06;

/// What a socket filter returns: as many octets of the packet are kept.
pub const PASS: u32 = u32::MAX;
pub const DROP: u32 = 0;

/// `BPF_MAXINSNS`.
pub const MOST_INSTRUCTIONS: usize = 4096;

#[must_use]
pub fn plain(code: u16, k: u32) -> Instruction {
    branch(code, k, 0, 0)
}

/// Skips `jt` instructions if the condition holds, else `jf`.
#[must_use]
pub fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Two socket filters as one: a packet must pass both. An empty one passes all.
#[must_use]
pub fn both(mut first: Vec<Instruction>, second: Vec<Instruction>) -> Vec<Instruction> {
    if first.is_empty() || second.is_empty() {
        return if first.is_empty() { second } else { first };
    }
    // Instead of letting a packet pass, the first goes on with the second.
    let length = first.len();
    for (at, passes) in first.iter_mut().enumerate() {
        if passes.code == RETURN && passes.k == PASS {
            let behind = u32::try_from(length - at - 1).unwrap_or(u32::MAX);
            *passes = plain(JUMP, behind);
        }
    }
    first.extend(second);
    first
}

/// What the kernel does with a program, for tests.
#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests"
)]
pub mod machine {
    use super::*;

    /// Runs `program` on `packet` (its data, from where the program counts) and
    /// the `network` header. Unlike the kernel, which returns 0 then, it
    /// panics where a load lies beyond the end: usherd's programs test first.
    pub fn run(program: &[Instruction], packet: &[u8], network: &[u8]) -> u32 {
        assert!(program.len() <= MOST_INSTRUCTIONS);
        let (mut at, mut a, mut x) = (0, 0u32, 0u32);
        loop {
            let i = program[at];
            at += 1;
            let load = |width: usize| {
                let (data, from) = match i.k.checked_sub(NETWORK) {
                    Some(offset) => (network, offset as usize),
                    None => (packet, i.k as usize),
                };
                let octets = data[from..from + width].iter();
                octets.fold(0, |sum, octet| sum << 8 | u32::from(*octet))
            };
            let skip = |holds: bool| usize::from(if holds { i.jt } else { i.jf });
            match i.code {
                LOAD_WORD => a = load(4),
                LOAD_HALF => a = load(2),
                LOAD_BYTE => a = load(1),
                LOAD_LENGTH => a = packet.len() as u32,
                ADD => a = a.wrapping_add(i.k),
                SUBTRACT => a = a.wrapping_sub(i.k),
                AND => a &= i.k,
                REMAINDER => a %= i.k,
                SUBTRACT_INDEX => a = a.wrapping_sub(x),
                TO_INDEX => x = a,
                JUMP => at += i.k as usize,
                JUMP_IF_EQUAL => at += skip(a == i.k),
                JUMP_IF_GREATER => at += skip(a > i.k),
                JUMP_IF_AT_LEAST => at += skip(a >= i.k),
                RETURN => return i.k,
                code => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    /// A network header with these addresses and nothing else of use.
    pub fn network(from: std::net::IpAddr, to: std::net::IpAddr) -> Vec<u8> {
        use std::net::IpAddr;
        let mut header = vec![0; 40];
        match (from.to_canonical(), to.to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.truncate(20);
                header[0] = 0x45;
                header[12..16].copy_from_slice(&from.octets());
                header[16..20].copy_from_slice(&to.octets());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                header[0] = 0x60;
                header[8..24].copy_from_slice(&from.octets());
                header[24..40].copy_from_slice(&to.octets());
            }
            (from, to) => panic!("{from} cannot speak to {to}"),
        }
        header
    }
}
