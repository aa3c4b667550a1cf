//! Names of ports and RPC programs: services(5) and rpc(5), read once.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::address::Transport;

/// What `/etc/services` and `/etc/rpc` say.
#[derive(Clone, Debug, Default)]
pub struct Names {
    ports: HashMap<(String, Transport), u16>,
    programs: HashMap<String, u32>,
}

impl Names {
    /// From the texts of the two files. Lines that make no sense are passed over: they are not ours.
    #[must_use]
    pub fn new(services: &str, rpc: &str) -> Self {
        let mut names = Self::default();
        for mut words in services.lines().map(words_of) {
            let (Some(name), Some(port)) = (words.next(), words.next()) else {
                continue;
            };
            let Some((port, transport)) = parse_port(port) else {
                continue;
            };
            // The first line that has a name wins, as in getservbyname(3).
            for name in std::iter::once(name).chain(words) {
                let key = (name.to_owned(), transport);
                names.ports.entry(key).or_insert(port);
            }
        }
        for mut words in rpc.lines().map(words_of) {
            let (Some(name), Some(Ok(number))) = (words.next(), words.next().map(str::parse))
            else {
                continue;
            };
            for name in std::iter::once(name).chain(words) {
                names.programs.entry(name.to_owned()).or_insert(number);
            }
        }
        names
    }

    #[must_use]
    pub fn port(&self, name: &str, transport: Transport) -> Option<u16> {
        self.ports.get(&(name.to_owned(), transport)).copied()
    }

    #[must_use]
    pub fn program(&self, name: &str) -> Option<u32> {
        self.programs.get(name).copied()
    }

    /// Every port name of a transport, for "did you mean".
    pub fn port_names(&self, transport: Transport) -> impl Iterator<Item = &str> {
        self.ports
            .keys()
            .filter(move |(_, t)| *t == transport)
            .map(|(name, _)| name.as_str())
    }
}

fn words_of(line: &str) -> impl Iterator<Item = &str> {
    line.split('#')
        .next()
        .unwrap_or("")
        .split_ascii_whitespace()
}

fn parse_port(text: &str) -> Option<(u16, Transport)> {
    let (port, transport) = text.split_once('/')?;
    let transport = match transport {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        _ => return None,
    };
    Some((port.parse().ok()?, transport))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_by_transport() {
        let names = Names::new(
            "# top\nftp 21/tcp # file\ntftp\t69/udp\ntime 37/tcp timserver\nbad\nx y/tcp\n",
            "portmapper 100000 portmap sunrpc rpcbind\n",
        );
        assert_eq!(names.port("ftp", Transport::Tcp), Some(21));
        assert_eq!(names.port("ftp", Transport::Udp), None);
        assert_eq!(names.port("timserver", Transport::Tcp), Some(37));
        assert_eq!(names.program("rpcbind"), Some(100_000));
    }
}
