//! Who holds a port that could not be bound.
#![forbid(unsafe_code)]

use std::fs;

use crate::table::address::{Inet, Transport};

/// `"nginx" (pid 812)`, if the kernel tells us: another user's processes are
/// only visible to root.
#[must_use]
pub fn of_port(inet: &Inet) -> Option<String> {
    let files: [&str; 2] = match inet.transport {
        Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let inodes: Vec<String> = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .flat_map(|text| inodes_at_port(&text, inet))
        .collect();
    process_with_socket(&inodes)
}

/// The inodes of sockets bound to the port (and listening, for TCP), from a
/// table as proc(5) describes it.
fn inodes_at_port(text: &str, inet: &Inet) -> Vec<String> {
    const LISTEN: &str = "0A";
    let want = format!("{:04X}", inet.port);
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (_, port) = fields.get(1)?.rsplit_once(':')?;
            let state = fields.get(3)?;
            let counts = inet.transport == Transport::Udp || *state == LISTEN;
            (port == want && counts).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
        })
        .collect()
}

fn process_with_socket(inodes: &[String]) -> Option<String> {
    let wanted: Vec<String> = inodes
        .iter()
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if wanted.is_empty() {
        return None;
    }
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|text| text.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(fds) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = fds.flatten().any(|fd| {
            fs::read_link(fd.path())
                .is_ok_and(|to| wanted.iter().any(|want| to.as_os_str() == want.as_str()))
        });
        if holds {
            let comm = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!(
                "\"{}\" (pid {pid})",
                comm.trim_end().escape_debug()
            ));
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::table::address::Family;

    #[test]
    fn the_holder_of_a_port_is_found_by_pid() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inet = Inet {
            transport: Transport::Tcp,
            family: Family::V4,
            addr: None,
            zone: None,
            port: listener.local_addr().unwrap().port(),
        };
        let holder = of_port(&inet).unwrap();
        assert!(
            holder.contains(&format!("(pid {})", std::process::id())),
            "{holder}"
        );
    }
}
