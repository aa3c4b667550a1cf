//! `allow` and `deny` for servers that own their listener: a classic BPF
//! program on the socket, so that a denied peer's packets never reach it.
//!
//! On a datagram socket it sees every datagram; on a stream listener the SYN,
//! and then the connection's own packets, whose source is the same.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sys::bpf::{
    AND, DROP, IPV4_SOURCE, IPV6_SOURCE, Instruction, JUMP, JUMP_IF_EQUAL, LOAD_BYTE, LOAD_WORD,
    NETWORK, PASS, RETURN, branch, plain,
};
use crate::table::Access;
use crate::table::access::Prefix;

/// The program for `access`; empty if everybody may come in.
///
/// Longer prefixes come first and deny before allow among equals, so that the
/// first match is the verdict.
#[must_use]
pub fn compile(access: &Access) -> Vec<Instruction> {
    if access.is_open() {
        return Vec::new();
    }
    let mut rules: Vec<(Prefix, bool)> = access.deny.iter().map(|p| (*p, false)).collect();
    rules.extend(access.allow.iter().flatten().map(|p| (*p, true)));
    rules.sort_by_key(|(prefix, allow)| (std::cmp::Reverse(prefix.bits), *allow));
    let otherwise = if access.allow.is_none() { PASS } else { DROP };

    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for (prefix, allow) in &rules {
        let verdict = if *allow { PASS } else { DROP };
        match prefix.addr {
            IpAddr::V4(addr) => match_v4(&mut v4, addr, prefix.bits, verdict),
            IpAddr::V6(addr) => match_v6(&mut v6, addr, prefix.bits, verdict),
        }
    }
    v4.push(plain(RETURN, otherwise));
    v6.push(plain(RETURN, otherwise));

    // The version is in the upper half of the first byte. A conditional jump
    // reaches 255 instructions, a plain one any number.
    let to_v6 = u32::try_from(v4.len()).unwrap_or(u32::MAX);
    let mut program = vec![
        plain(LOAD_BYTE, NETWORK),
        plain(AND, 0xf0),
        branch(JUMP_IF_EQUAL, 0x60, 0, 1),
        plain(JUMP, to_v6),
    ];
    program.append(&mut v4);
    program.append(&mut v6);
    program
}

/// The program that lets nobody in.
#[must_use]
pub fn nobody() -> Vec<Instruction> {
    vec![plain(RETURN, DROP)]
}

fn match_v4(program: &mut Vec<Instruction>, addr: Ipv4Addr, bits: u8, verdict: u32) {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    program.push(plain(LOAD_WORD, IPV4_SOURCE));
    program.push(plain(AND, mask));
    program.push(branch(JUMP_IF_EQUAL, u32::from(addr) & mask, 0, 1));
    program.push(plain(RETURN, verdict));
}

/// Word by word, only as many as the prefix has; a word that differs jumps
/// behind this rule's return.
fn match_v6(program: &mut Vec<Instruction>, addr: Ipv6Addr, bits: u8, verdict: u32) {
    let words: Vec<(u32, u32)> = (0..4u32)
        .map_while(|word| {
            let left = u32::from(bits).saturating_sub(word * 32).min(32);
            let mask = u32::MAX.checked_shl(32 - left).unwrap_or(0);
            let shift = 96 - word * 32;
            let value = u32::try_from(u128::from(addr) >> shift & 0xffff_ffff).unwrap_or(0);
            (left > 0).then_some((value & mask, mask))
        })
        .collect();
    for (at, (value, mask)) in words.iter().enumerate() {
        let offset = u32::try_from(at * 4).unwrap_or(0);
        // Behind each of the words that follow (three instructions) and the return.
        let skip = u8::try_from((words.len() - 1 - at) * 3 + 1).unwrap_or(u8::MAX);
        program.push(plain(LOAD_WORD, IPV6_SOURCE + offset));
        program.push(plain(AND, *mask));
        program.push(branch(JUMP_IF_EQUAL, *value, 0, skip));
    }
    program.push(plain(RETURN, verdict));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::bpf::machine;
    use crate::sys::socket::set_filter;

    fn verdict(program: &[Instruction], source: IpAddr) -> bool {
        machine::run(program, &[], &machine::network(source, source)) != DROP
    }

    fn access(allow: Option<&[&str]>, deny: &[&str]) -> Access {
        let list = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
        Access {
            allow: allow.map(list),
            deny: list(deny),
            ..Access::default()
        }
    }

    #[test]
    fn program_and_policy_always_agree() {
        let cases = [
            access(
                Some(&["10.0.0.0/8", "10.1.2.0/24", "2001:db8::/33"]),
                &["10.1.0.0/16"],
            ),
            access(None, &["192.0.2.0/25", "::/0", "2001:db8::1/128"]),
            access(Some(&[]), &[]),
            access(
                Some(&["0.0.0.0/0", "2001:db8:1::/48"]),
                &["2001:db8:1:2::/64"],
            ),
        ];
        let peers = [
            "10.1.2.3",
            "10.1.3.3",
            "10.2.0.1",
            "192.0.2.1",
            "192.0.2.200",
            "8.8.8.8",
            "::1",
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8:8000::1",
            "2001:db8:1::7",
            "2001:db8:1:2::7",
        ];
        for access in cases {
            let program = compile(&access);
            for peer in peers {
                let peer: IpAddr = peer.parse().unwrap();
                assert_eq!(
                    verdict(&program, peer),
                    access.permits(peer),
                    "{peer} by {access:?}"
                );
            }
        }
    }

    #[test]
    fn the_kernel_drops_a_denied_peers_datagrams() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let program = compile(&access(Some(&["127.0.0.2/32"]), &[]));
        set_filter(server.as_fd(), &program).unwrap();
        let to: SocketAddr = server.local_addr().unwrap();
        let denied = UdpSocket::bind("127.0.0.3:0").unwrap();
        let allowed = UdpSocket::bind("127.0.0.2:0").unwrap();
        denied.send_to(b"denied", to).unwrap();
        allowed.send_to(b"allowed", to).unwrap();
        let mut buffer = [0; 16];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"allowed");
        assert_eq!(from, allowed.local_addr().unwrap());
        set_filter(server.as_fd(), &[]).unwrap();
        denied.send_to(b"open again", to).unwrap();
        assert_eq!(server.recv(&mut buffer).unwrap(), 10);
    }
}
