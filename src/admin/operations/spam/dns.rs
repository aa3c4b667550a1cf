//! As much of a resolver as a block list needs: one question for A over UDP (RFC 1035),
//! answered by the host's name servers or not at all.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::admin::operations::{Failed, Kind};

const HEADER: usize = 12;
const A: u16 = 1;
const IN: u16 = 1;
/// Octets of an answer that is read (RFC 6891 lets servers send so much to those who ask).
const LONGEST: usize = 4096;

/// The name to ask for: octets or nibbles of the address in reverse, then the zone (RFC 5782).
#[must_use]
pub fn reversed(address: IpAddr, zone: &str) -> String {
    let zone = zone.trim_end_matches('.');
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.{zone}")
        }
        IpAddr::V6(v6) => {
            let octets = v6.octets();
            let nibbles = octets
                .iter()
                .rev()
                .flat_map(|octet| [octet & 15, octet >> 4]);
            let name: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
            name + zone
        }
    }
}

/// `nameserver` lines of resolv.conf(5), the first three as everybody takes.
#[must_use]
pub fn servers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next())?
    });
    let addresses = lines.filter_map(|word| word.split('%').next()?.parse::<IpAddr>().ok());
    addresses
        .map(|ip| SocketAddr::new(ip, 53))
        .take(3)
        .collect()
}

/// Addresses of `name`; none if it is not there. Each server is asked in turn.
pub fn ask(
    name: &str,
    servers: &[SocketAddr],
    patience: Duration,
) -> Result<Vec<Ipv4Addr>, Failed> {
    let id = fresh_id()
        .map_err(|err| Failed::new(Kind::Failed, format!("unable to number a question: {err}")))?;
    let question = question(name, id).ok_or_else(|| {
        Failed::new(
            Kind::Invalid,
            format!("{name} is no name that could be asked for"),
        )
    })?;
    let mut why = "no name server is known".to_owned();
    for server in servers {
        match exchange(&question, *server, patience) {
            Ok(Answer::Addresses(found)) => return Ok(found),
            Ok(Answer::Error(code)) => why = format!("{server} says error {code}"),
            Err(err) => why = format!("{server}: {err}"),
        }
    }
    Err(Failed::new(
        Kind::Unavailable,
        format!("no answer about {name}: {why}"),
    ))
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Addresses(Vec<Ipv4Addr>),
    /// RCODE.
    Error(u8),
}

/// Nobody on the way is to guess it.
fn fresh_id() -> io::Result<u16> {
    use std::io::Read;
    let mut octets = [0; 2];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut octets)?;
    Ok(u16::from_be_bytes(octets))
}

fn exchange(question: &[u8], server: SocketAddr, patience: Duration) -> io::Result<Answer> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // The kernel drops what others send.
    socket.connect(server)?;
    socket.send(question)?;
    let until = Instant::now() + patience;
    let mut answer = [0; LONGEST];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut answer) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => continue,
            received => received?,
        };
        // What does not answer this question is somebody's who guesses.
        if let Some(answer) = answer.get(..length).and_then(|told| read(told, question)) {
            return Ok(answer);
        }
    }
}

/// `None`: a part of the name is empty or too long.
fn question(name: &str, id: u16) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(HEADER + name.len() + 6);
    out.extend(id.to_be_bytes());
    // Recursion desired; one question.
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if !(1..=63).contains(&length) {
            return None;
        }
        out.push(length);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(A.to_be_bytes());
    out.extend(IN.to_be_bytes());
    (out.len() <= HEADER + 255 + 4).then_some(out)
}

/// `None`: it is no answer to `question`.
fn read(answer: &[u8], question: &[u8]) -> Option<Answer> {
    let two = |at: usize| Some(u16::from_be_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let flags = two(2)?;
    let is_answer = flags & 0x8000 != 0 && answer.get(..2)? == question.get(..2)?;
    let asked = answer.get(HEADER..question.len())?;
    if !is_answer || two(4)? != 1 || !asked.eq_ignore_ascii_case(question.get(HEADER..)?) {
        return None;
    }
    match u8::try_from(flags & 15).ok()? {
        0 => {}
        // There is no such name: it is not listed.
        3 => return Some(Answer::Addresses(Vec::new())),
        code => return Some(Answer::Error(code)),
    }
    let mut at = question.len();
    let mut found = Vec::new();
    for _ in 0..two(6)? {
        at = skip_name(answer, at)?;
        let (kind, class, length) = (two(at)?, two(at + 2)?, usize::from(two(at + 8)?));
        let data = answer.get(at + 10..at + 10 + length)?;
        if (kind, class) == (A, IN) {
            let octets: [u8; 4] = data.try_into().ok()?;
            found.push(octets.into());
        }
        at += 10 + length;
    }
    Some(Answer::Addresses(found))
}

/// Where a name that begins at `at` ends; a pointer ends it.
fn skip_name(answer: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *answer.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            0xc0.. => return (at + 2 <= answer.len()).then_some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub mod tests {
    use super::*;

    /// The answer of a name server that has these addresses.
    pub fn answer(question: &[u8], code: u8, addresses: &[[u8; 4]]) -> Vec<u8> {
        let mut out = question.to_vec();
        out[2] |= 0x80;
        out[3] = code;
        out[7] = u8::try_from(addresses.len()).unwrap();
        for address in addresses {
            out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            out.extend(address);
        }
        out
    }

    #[test]
    fn addresses_are_asked_for_in_reverse() {
        let ask = |ip: &str| reversed(ip.parse().unwrap(), "bl.example.");
        assert_eq!(ask("192.0.2.99"), "99.2.0.192.bl.example");
        // RFC 5782, section 2.4.
        assert_eq!(
            ask("2001:db8:1:2:3:4:567:89ab"),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.bl.example"
        );
    }

    #[test]
    fn name_servers_are_taken_from_resolv_conf() {
        let text =
            "# x\nsearch example\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\noptions rotate\n";
        let expected: Vec<SocketAddr> = vec![
            "192.0.2.1:53".parse().unwrap(),
            "[fe80::1]:53".parse().unwrap(),
        ];
        assert_eq!(servers(text), expected);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let asked = question("1.0.0.127.bl.example", 7).unwrap();
        let good = answer(&asked, 0, &[[127, 0, 0, 2], [127, 0, 0, 4]]);
        let found = vec![Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 4)];
        assert_eq!(read(&good, &asked), Some(Answer::Addresses(found)));
        assert_eq!(
            read(&answer(&asked, 3, &[]), &asked),
            Some(Answer::Addresses(Vec::new()))
        );
        assert_eq!(
            read(&answer(&asked, 2, &[]), &asked),
            Some(Answer::Error(2))
        );
        let other = question("1.0.0.127.bl.example", 8).unwrap();
        assert_eq!(read(&good, &other), None);
        let other = question("2.0.0.127.bl.example", 7).unwrap();
        assert_eq!(read(&good, &other), None);
        assert_eq!(read(&asked, &asked), None);
        for cut in 0..good.len() {
            assert_eq!(read(&good[..cut], &asked), None, "cut at {cut}");
        }
        assert_eq!(question(&"a".repeat(64), 1), None);
        assert_eq!(question("a..b", 1), None);
        assert_eq!(question(&"a.".repeat(200), 1), None);
    }
}
