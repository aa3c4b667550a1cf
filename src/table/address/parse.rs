//! Reads the texts of `listen`. Nothing is looked up but the names of ports
//! and RPC programs, which the caller brings along.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::{Family, Inet, Listen, Transport, UnixKind, UnixName};
use crate::table::complaint::{Fault, did_you_mean};
use crate::table::names::Names;

const SCHEMES: [&str; 14] = [
    "tcp",
    "tcp4",
    "tcp6",
    "udp",
    "udp4",
    "udp6",
    "unix",
    "unix-dgram",
    "unix-seqpacket",
    "vsock",
    "tcpmux",
    "rpc-tcp",
    "rpc-udp",
    "fd",
];

/// `sun_path` without its last byte, which some programs need for a NUL.
const LONGEST_UNIX: usize = 107;

/// One entry of `listen`.
pub fn listen(text: &str, names: &Names) -> Result<Listen, Fault> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(no_scheme(text));
    };
    match scheme {
        "tcp" => inet(Transport::Tcp, Family::Any, rest, names).map(Listen::Inet),
        "tcp4" => inet(Transport::Tcp, Family::V4, rest, names).map(Listen::Inet),
        "tcp6" => inet(Transport::Tcp, Family::V6, rest, names).map(Listen::Inet),
        "udp" => inet(Transport::Udp, Family::Any, rest, names).map(Listen::Inet),
        "udp4" => inet(Transport::Udp, Family::V4, rest, names).map(Listen::Inet),
        "udp6" => inet(Transport::Udp, Family::V6, rest, names).map(Listen::Inet),
        "unix" => unix(UnixKind::Stream, rest),
        "unix-dgram" => unix(UnixKind::Datagram, rest),
        "unix-seqpacket" => unix(UnixKind::Seqpacket, rest),
        "vsock" => vsock(rest),
        "tcpmux" => tcpmux(rest),
        "rpc-tcp" => rpc(Transport::Tcp, rest, names),
        "rpc-udp" => rpc(Transport::Udp, rest, names),
        "fd" => inherited(rest),
        _ => Err(unknown_scheme(text, scheme)),
    }
}

fn no_scheme(text: &str) -> Fault {
    let fault = Fault::new(format!(
        "\"{text}\" does not say what kind of address it is"
    ));
    if text.starts_with('/') || text.starts_with('@') {
        fault.help(format!("write \"unix:{text}\""))
    } else {
        fault.help(format!("write \"tcp:{text}\" or \"udp:{text}\""))
    }
}

fn unknown_scheme(text: &str, scheme: &str) -> Fault {
    if scheme.parse::<Ipv4Addr>().is_ok() || text.starts_with('[') {
        return no_scheme(text);
    }
    let fault = Fault::new(format!("no kind of address \"{scheme}\""));
    match did_you_mean(scheme, SCHEMES) {
        _ if scheme == "rpc" => fault.help("did you mean \"rpc-tcp\" or \"rpc-udp\"?"),
        Some(known) => fault.help(format!("did you mean \"{known}\"?")),
        None => fault.help("the kinds are tcp, udp, unix, unix-dgram, unix-seqpacket, vsock, tcpmux, rpc-tcp, rpc-udp and fd"),
    }
}

/// `[ADDR:]PORT-or-name`.
fn inet(transport: Transport, family: Family, text: &str, names: &Names) -> Result<Inet, Fault> {
    let (host, port) = split_host(text)?;
    let (addr, zone) = match host {
        None => (None, None),
        Some(host) => {
            let (addr, zone) = parse_host(host)?;
            (Some(addr), zone)
        }
    };
    let fits = match (family, addr) {
        (Family::Any, _) | (_, None) => true,
        (Family::V4, Some(addr)) => addr.is_ipv4(),
        (Family::V6, Some(addr)) => addr.is_ipv6(),
    };
    if !fits {
        return Err(Fault::new(format!("\"{text}\" is of the other family"))
            .help(format!("write \"{transport}:{text}\"")));
    }
    Ok(Inet {
        transport,
        family,
        addr,
        zone,
        port: parse_port(port, transport, names)?,
    })
}

/// Splits `ADDR:PORT`; IPv6 addresses are in brackets, which are taken off.
fn split_host(text: &str) -> Result<(Option<&str>, &str), Fault> {
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once("]:") {
            Some((host, port)) => Ok((Some(host), port)),
            None => Err(
                Fault::new(format!("\"{text}\" has no port after the bracket"))
                    .help("an IPv6 address and port are written \"[2001:db8::1]:80\""),
            ),
        };
    }
    match text.rsplit_once(':') {
        None => Ok((None, text)),
        Some((host, _)) if host.contains(':') || host.is_empty() => {
            Err(Fault::new(format!("\"{text}\" is no address and port"))
                .help("an IPv6 address stands in brackets: \"[2001:db8::1]:80\""))
        }
        Some((host, port)) => Ok((Some(host), port)),
    }
}

fn parse_host(host: &str) -> Result<(IpAddr, Option<String>), Fault> {
    let (plain, zone) = match host.split_once('%') {
        Some((plain, zone)) => (plain, Some(zone)),
        None => (host, None),
    };
    let addr: IpAddr = plain.parse().map_err(|_| no_address(plain))?;
    if addr.to_canonical() != addr {
        return Err(
            Fault::new(format!("{addr} is an IPv4 address in IPv6 clothes"))
                .help(format!("write {}", addr.to_canonical())),
        );
    }
    let link_local = matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local());
    match zone {
        Some(zone) if link_local && is_interface_name(zone) => Ok((addr, Some(zone.to_owned()))),
        Some(zone) if link_local => {
            Err(Fault::new(format!("no interface can be named \"{zone}\"")))
        }
        Some(_) => Err(Fault::new(format!("{addr} takes no zone"))
            .help("only link-local IPv6 addresses (fe80::/10) have one; see `socket.device`")),
        None if link_local => Err(Fault::new(format!("{addr} is on every link"))
            .help(format!("name the interface: \"[{addr}%eth0]\""))),
        None => Ok((addr, None)),
    }
}

fn no_address(text: &str) -> Fault {
    if text == "*" {
        return Fault::new("\"*\" is no address").help("leave the address out: \"tcp:80\"");
    }
    Fault::new(format!("\"{text}\" is no IP address"))
        .help("usherd looks no host name up; write the address itself")
}

/// As the kernel has it: at most 15 bytes, no slash, no space.
#[must_use]
pub fn is_interface_name(name: &str) -> bool {
    let odd = |b: u8| b == b'/' || b == b':' || b <= b' ' || b == 127;
    !name.is_empty() && name.len() <= 15 && name != "." && name != ".." && !name.bytes().any(odd)
}

fn parse_port(text: &str, transport: Transport, names: &Names) -> Result<u16, Fault> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse() {
            Ok(port) if port != 0 => Ok(port),
            _ => Err(Fault::new(format!("\"{text}\" is no port"))
                .help("ports are 1 to 65535, or a name from /etc/services")),
        };
    }
    names.port(text, transport).ok_or_else(|| {
        let fault = Fault::new(format!(
            "no {transport} port is named \"{text}\" in /etc/services"
        ));
        match did_you_mean(text, names.port_names(transport)) {
            Some(near) => fault.help(format!("did you mean \"{near}\"?")),
            None => fault.help("write the number"),
        }
    })
}

fn unix(kind: UnixKind, text: &str) -> Result<Listen, Fault> {
    let name = unix_name(text)?;
    Ok(Listen::Unix { kind, name })
}

/// `/PATH` or `@NAME`.
pub fn unix_name(text: &str) -> Result<UnixName, Fault> {
    if text.len() > LONGEST_UNIX {
        return Err(Fault::new(format!(
            "the name of a unix socket has at most {LONGEST_UNIX} bytes, this one has {}",
            text.len()
        )));
    }
    if let Some(name) = text.strip_prefix('@') {
        if name.is_empty() {
            return Err(Fault::new("there is no name after the \"@\""));
        }
        return Ok(UnixName::Abstract(name.to_owned()));
    }
    if !text.starts_with('/') || text.ends_with('/') {
        return Err(
            Fault::new(format!("\"{text}\" is no absolute path of a socket"))
                .help("write \"unix:/run/NAME.sock\", or \"unix:@NAME\" for an abstract name"),
        );
    }
    Ok(UnixName::Path(PathBuf::from(text)))
}

fn vsock(text: &str) -> Result<Listen, Fault> {
    // The highest number of each stands for "any" in the kernel.
    let number = |part: &str| part.parse::<u32>().ok().filter(|n| *n != u32::MAX);
    let (cid, port) = match text.split_once(':') {
        Some((cid, port)) => (number(cid).map(Some), number(port)),
        None => (Some(None), number(text)),
    };
    match (cid, port) {
        (Some(cid), Some(port)) => Ok(Listen::Vsock { cid, port }),
        _ => Err(Fault::new(format!("\"{text}\" is no vsock address"))
            .help("write \"vsock:PORT\" or \"vsock:CID:PORT\", both numbers")),
    }
}

fn tcpmux(text: &str) -> Result<Listen, Fault> {
    let (name, greet) = match text.strip_prefix('+') {
        Some(name) => (name, true),
        None => (text, false),
    };
    if name.eq_ignore_ascii_case("help") {
        return Err(Fault::new(
            "\"help\" is tcpmux's own word: it lists the names (RFC 1078)",
        ));
    }
    if name.is_empty() || name.len() > 255 || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Fault::new(format!("\"{name}\" can be no tcpmux name"))
            .help("1 to 255 visible ASCII characters, no spaces"));
    }
    let name = name.to_owned();
    Ok(Listen::Tcpmux { name, greet })
}

fn rpc(transport: Transport, text: &str, names: &Names) -> Result<Listen, Fault> {
    let (program, versions) = text.rsplit_once('/').ok_or_else(|| {
        Fault::new(format!("\"{text}\" names no version")).help(format!(
            "write \"rpc-{transport}:{text}/1\" or a range, \"/1-3\""
        ))
    })?;
    let program = parse_program(program, names)?;
    let (first, last) = versions.split_once('-').unwrap_or((versions, versions));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(Listen::Rpc {
            transport,
            program,
            first,
            last,
        }),
        _ => Err(
            Fault::new(format!("\"{versions}\" is no version or range of versions"))
                .help("write \"/2\" or \"/1-3\""),
        ),
    }
}

fn parse_program(text: &str, names: &Names) -> Result<u32, Fault> {
    text.parse()
        .ok()
        .filter(|n| *n != 0)
        .or_else(|| names.program(text))
        .ok_or_else(|| {
            Fault::new(format!("no RPC program is named \"{text}\" in /etc/rpc"))
                .help("write the number")
        })
}

fn inherited(name: &str) -> Result<Listen, Fault> {
    if name.is_empty()
        || name.len() > 255
        || name.contains(':')
        || name.chars().any(char::is_control)
    {
        return Err(Fault::new(format!("\"{name}\" can be no descriptor name"))
            .help("see FileDescriptorName= in systemd.socket(5)"));
    }
    let name = name.to_owned();
    Ok(Listen::Inherited { name })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("ftp 21/tcp\nntp 123/udp\n", "rstatd 100001\n")
    }

    #[test]
    fn every_form_comes_back_as_it_was_written() {
        for text in [
            "tcp:80",
            "tcp4:80",
            "tcp6:80",
            "udp:192.0.2.1:69",
            "tcp:[2001:db8::1]:80",
            "tcp6:[::]:80",
            "tcp:[fe80::1%eth0]:80",
            "unix:/run/a.sock",
            "unix-dgram:@log",
            "unix-seqpacket:/run/b",
            "vsock:1024",
            "vsock:3:1024",
            "tcpmux:who",
            "tcpmux:+who",
            "rpc-tcp:100001/2",
            "rpc-udp:100001/1-3",
            "fd:web",
        ] {
            let parsed = listen(text, &names()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn names_become_numbers() {
        let shown = |text| listen(text, &names()).unwrap().to_string();
        assert_eq!(shown("tcp:ftp"), "tcp:21");
        assert_eq!(shown("udp4:127.0.0.1:ntp"), "udp4:127.0.0.1:123");
        assert_eq!(shown("rpc-udp:rstatd/2-4"), "rpc-udp:100001/2-4");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "80",
            ":",
            "tcp:",
            "tcp:0",
            "tcp:65536",
            "tcp:+80",
            "tcp:ftpp",
            "udp:ftp",
            "tcp:::1:80",
            "tcp:[::1]",
            "tcp:[::1]80",
            "tcp4:[::1]:80",
            "tcp6:127.0.0.1:80",
            "tcp:localhost:80",
            "tcp:*:80",
            "tcp:[fe80::1]:80",
            "tcp:[::1%lo]:80",
            "tcp:[::ffff:127.0.0.1]:80",
            "unix:",
            "unix:a",
            "unix:@",
            "unix:/run/",
            "vsock:",
            "vsock:x",
            "vsock:4294967295",
            "tcpmux:",
            "tcpmux:+",
            "tcpmux:HELP",
            "tcpmux:a b",
            "rpc-tcp:rstatd",
            "rpc-tcp:nobody/1",
            "rpc-tcp:rstatd/3-1",
            "fd:",
            "fd:a:b",
            "/run/x",
            "htp:80",
        ] {
            assert!(listen(text, &names()).is_err(), "{text}");
        }
        let long = format!("unix:/{}", "x".repeat(200));
        assert!(listen(&long, &names()).is_err());
    }
}
