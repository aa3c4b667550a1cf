//! What a newcomer without a table sees: what listens where, and what to type.
#![forbid(unsafe_code)]

use std::fmt::Write;

use crate::table::address::{Inet, Listen, Transport};
use crate::table::{Builtin, Serve, Service, Table};

/// A few lines for each service of the embedded table.
#[must_use]
pub fn text(table: &Table) -> String {
    let mut out = String::from("\nNo table was given, so this is the built-in one. Try:\n\n");
    for service in table.services.iter().filter(|service| service.enabled) {
        for listen in &service.listen {
            let Some(command) = command(table, service, listen) else {
                continue;
            };
            let what = service.description.as_deref().unwrap_or("");
            let _ = writeln!(
                out,
                "  {:<12} {:<22} {command}",
                service.name,
                listen.to_string()
            );
            if Some(listen) == service.listen.first() && !what.is_empty() {
                let _ = writeln!(out, "  {:<12} {what}", "");
            }
        }
    }
    out.push_str("\nCtrl-C ends it. A table of your own: usherd --config FILE\n\n");
    out
}

/// A line for the shell; `bash` itself can speak TCP, so nothing need be installed.
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
            Some(dialogue(inet, &format!("{name}\\r\\nhello\\n")))
        }
        _ => None,
    }
}

fn inet_command(service: &Service, inet: &Inet) -> String {
    match &service.serve {
        Serve::Builtin(Builtin::Daytime | Builtin::Time | Builtin::Chargen) => {
            let filter = match service.serve {
                Serve::Builtin(Builtin::Time) => "od -An -tu4 --endian=big",
                _ => "head -n 3",
            };
            match inet.transport {
                Transport::Tcp => format!("{filter} < {}", device(inet)),
                Transport::Udp => dialogue(inet, "\\n"),
            }
        }
        Serve::Builtin(Builtin::Tcpmux) => dialogue(inet, "HELP\\r\\n"),
        _ => dialogue(inet, "hello\\n"),
    }
}

fn dialogue(inet: &Inet, send: &str) -> String {
    let device = device(inet);
    format!("bash -c 'exec 3<>{device}; printf \"{send}\" >&3; timeout 1 cat <&3'")
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
