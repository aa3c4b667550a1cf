//! What a newcomer without a table sees: what listens where, and what to type.
#![forbid(unsafe_code)]

use std::fmt::Write;

use crate::table::address::{Inet, Listen, Transport};
use crate::table::{Builtin, Serve, Service, Table};

/// Programs of the embedded table that only speak. What was sent to them would
/// make the kernel reset the connection when they end.
const READ_NOTHING: [&str; 2] = ["date", "uptime"];

/// For each service of the embedded table where it listens, what it does, and
/// a line for the shell that shows it. `watched`: there are control sockets.
#[must_use]
pub fn text(table: &Table, watched: bool) -> String {
    let mut out = String::from("\nNo table was given, so this is the built-in one. Try:\n\n");
    for service in table.services.iter().filter(|service| service.enabled) {
        let listen: Vec<_> = service.listen.iter().map(Listen::to_string).collect();
        let what = service.description.as_deref().unwrap_or("");
        let _ = writeln!(out, "  {:<9}{what}", service.name);
        let _ = writeln!(out, "           {}", listen.join("  "));
        for command in service
            .listen
            .iter()
            .filter_map(|l| command(table, service, l))
        {
            let _ = writeln!(out, "             {command}");
        }
    }
    out.push_str(match watched {
        true => {
            "\nWhat it does, and to change that: usherctl status, usherctl top, usherctl --help\n"
        }
        false => {
            "\nFor usherctl it needs a runtime directory: $XDG_RUNTIME_DIR or --runtime-dir DIR\n"
        }
    });
    out.push_str("Ctrl-C ends it. A table of your own: usherd --config FILE\n\n");
    out
}

/// A line for any shell; bash can speak TCP and UDP, so nothing need be installed.
fn command(table: &Table, service: &Service, listen: &Listen) -> Option<String> {
    match listen {
        Listen::Inet(inet) => Some(inet_command(service, inet)),
        Listen::Tcpmux { name, .. } => {
            let mux = table
                .services
                .iter()
                .find(|service| matches!(service.serve, Serve::Builtin(Builtin::Tcpmux)))?;
            let Some(Listen::Inet(inet)) = mux.listen.first() else {
                return None;
            };
            Some(dialogue(inet, &format!("printf \"{name}\\r\\n\"")))
        }
        _ => None,
    }
}

fn inet_command(service: &Service, inet: &Inet) -> String {
    let device = device(inet);
    let datagrams = inet.transport == Transport::Udp;
    match &service.serve {
        Serve::Builtin(Builtin::Discard) => format!("bash -c 'echo hello >{device}'"),
        Serve::Builtin(Builtin::Chargen) => format!("bash -c 'head -n 3 <{device}'"),
        Serve::Builtin(Builtin::Tcpmux) => dialogue(inet, "printf \"HELP\\r\\n\""),
        Serve::Builtin(Builtin::Time) => {
            let ask = if datagrams { "echo >&0; " } else { "" };
            let number = "od -An -tu4 --endian=big";
            format!("bash -c '({ask}head -c 4) <>{device} | {number}'")
        }
        Serve::Builtin(Builtin::Daytime) if datagrams => dialogue(inet, "echo"),
        Serve::Builtin(Builtin::Daytime) => format!("bash -c 'cat <{device}'"),
        Serve::Builtin(Builtin::Metrics) => {
            dialogue(inet, "printf \"GET /metrics HTTP/1.0\\r\\n\\r\\n\"")
        }
        Serve::Builtin(Builtin::Status) => {
            dialogue(inet, "printf \"GET /snapshot.json HTTP/1.0\\r\\n\\r\\n\"")
        }
        _ if READ_NOTHING.contains(&&*service.name) => format!("bash -c 'cat <{device}'"),
        _ => dialogue(inet, "echo hello"),
    }
}

/// Says something and shows for a second what comes back.
fn dialogue(inet: &Inet, say: &str) -> String {
    let device = device(inet);
    format!("bash -c '({say} >&0; timeout 1 cat) <>{device}'")
}

fn device(inet: &Inet) -> String {
    let proto = match inet.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let host = match inet.addr {
        Some(addr) if !addr.is_unspecified() => addr.to_string(),
        _ => "localhost".to_owned(),
    };
    format!("/dev/{proto}/{host}/{}", inet.port)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::table::{Host, load, source_or_default};

    #[test]
    fn every_address_of_the_embedded_table_has_a_line_that_any_shell_takes() {
        let table = load(source_or_default(None), &Host::probe()).unwrap().table;
        let said = text(&table, true);
        let lines: Vec<_> = said
            .lines()
            .filter(|line| line.contains("/dev/"))
            .map(str::trim)
            .collect();
        let addresses: usize = table.services.iter().map(|s| s.listen.len()).sum();
        assert_eq!(lines.len(), addresses, "{said}");
        for line in lines {
            assert!(line.starts_with("bash -c '"), "{line}");
            assert_eq!(line.matches('\'').count(), 2, "{line}");
        }
    }

    #[test]
    fn the_silent_programs_are_in_the_embedded_table() {
        let table = load(source_or_default(None), &Host::probe()).unwrap().table;
        for name in READ_NOTHING {
            assert!(table.services.iter().any(|service| service.name == name));
        }
    }
}
