//! Options of the listening sockets, read back from the kernel, and addresses
//! that are not there yet.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use socket2::{SockRef, Type};

use crate::common::peer::ask;
use crate::common::*;
use crate::tests;

tests![
    every_option_of_the_table_is_on_the_socket,
    a_reload_changes_options_of_a_socket_that_stays,
    an_address_that_comes_later_is_served,
    freebind_serves_an_address_that_is_not_there,
    a_vsock_port_is_listened_on,
];

/// The daemon's own listener of this kind and port.
fn listener(daemon: &Daemon, kind: Type, port: u16) -> OwnedFd {
    let numbers = process::descriptors(daemon.pid).into_keys();
    let mut stolen = numbers.filter_map(|number| steal::steal(daemon.pid, number).ok());
    let found = stolen.find(|fd| {
        let socket = SockRef::from(fd);
        let local = socket.local_addr().ok().and_then(|local| local.as_socket());
        socket.r#type().is_ok_and(|found| found == kind)
            && local.is_some_and(|local| local.port() == port)
    });
    found.unwrap_or_else(|| skip("needs pidfd_getfd(2) on the daemon"))
}

fn every_option_of_the_table_is_on_the_socket() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(
        &dir,
        &format!(
            "[service.cat]\nlisten = \"tcp4:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\nspeaks_first = \"client\"\n\
             socket = {{ device = \"lo\", mark = 7, transparent = true, freebind = true, receive_buffer = \"64K\", \
             send_buffer = \"32K\", nodelay = true, dscp = 46, fast_open = 16, defer_accept = \"3s\", \
             keepalive = {{ idle = \"50s\", interval = \"5s\", probes = 4 }} }}\n"
        ),
    );
    let fd = listener(&daemon, Type::STREAM, port);
    let socket = SockRef::from(&fd);
    assert_eq!(socket.device().unwrap().as_deref(), Some(&b"lo"[..]));
    assert_eq!(socket.mark().unwrap(), 7);
    assert!(socket.ip_transparent_v4().unwrap());
    assert!(socket.freebind_v4().unwrap());
    // The kernel doubles them for its own bookkeeping (socket(7)).
    assert_eq!(socket.recv_buffer_size().unwrap(), 128 << 10);
    assert_eq!(socket.send_buffer_size().unwrap(), 64 << 10);
    assert!(socket.tcp_nodelay().unwrap());
    assert_eq!(socket.tos_v4().unwrap(), 46 << 2);
    assert!(socket.keepalive().unwrap());
    assert_eq!(
        socket.tcp_keepalive_time().unwrap(),
        Duration::from_secs(50)
    );
    assert_eq!(
        socket.tcp_keepalive_interval().unwrap(),
        Duration::from_secs(5)
    );
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
    assert_eq!(steal::tcp_option(fd.as_raw_fd(), libc::TCP_FASTOPEN), 16);
    // Counted in retransmissions, so rounded up (tcp(7)).
    assert!(steal::tcp_option(fd.as_raw_fd(), libc::TCP_DEFER_ACCEPT) >= 3);
    assert_eq!(ask(port, "through it all"), "through it all");
}

fn a_reload_changes_options_of_a_socket_that_stays() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let table = |nodelay: bool| {
        format!(
            "[service.cat]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\nsocket = {{ nodelay = {nodelay} }}\n"
        )
    };
    let daemon = Daemon::start(&dir, &table(false));
    let fd = listener(&daemon, Type::STREAM, port);
    assert!(!getsockopt(&fd.as_fd(), sockopt::TcpNoDelay).unwrap());
    assert!(daemon.reload(&dir, &table(true)));
    assert!(getsockopt(&fd.as_fd(), sockopt::TcpNoDelay).unwrap());
}

/// Runs `words` in the network namespace of the daemon.
fn inside(daemon: &Daemon, words: &[&str]) -> String {
    let pid = daemon.pid.to_string();
    let output = Command::new("nsenter")
        .args(["-t", &pid, "-n"])
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("nsenter(1) runs");
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A daemon with a network of its own: loopback only.
fn secluded(dir: &Dir, services: &str) -> Daemon {
    needs_root();
    let _ = needs("ip", "iproute2");
    let _ = needs("unshare", "util-linux");
    let script = "ip link set lo up && exec \"$@\"";
    let words = ["unshare", "-n", "sh", "-c", script, "sh"];
    Setup::new(dir, services).through(&words).start()
}

const ASK: &str = "exec 3<>/dev/tcp/192.0.2.1/7777 && echo hello >&3 && head -n 1 <&3";

fn an_address_that_comes_later_is_served() {
    let dir = Dir::new();
    let daemon = secluded(
        &dir,
        "[service.here]\nlisten = \"tcp:127.0.0.1:7776\"\nexec = [\"/bin/cat\"]\n\
         [service.late]\nlisten = \"tcp:192.0.2.1:7777\"\nexec = [\"/bin/cat\"]\n",
    );
    daemon
        .log
        .wait_after(0, &["unable to bind tcp:192.0.2.1:7777"]);
    inside(&daemon, &["ip", "addr", "add", "192.0.2.1/32", "dev", "lo"]);
    daemon.log.wait_for("address is there now");
    assert_eq!(inside(&daemon, &["bash", "-c", ASK]), "hello\n");
}

fn freebind_serves_an_address_that_is_not_there() {
    let dir = Dir::new();
    let daemon = secluded(
        &dir,
        "[service.late]\nlisten = \"tcp:192.0.2.1:7777\"\nexec = [\"/bin/cat\"]\nsocket = { freebind = true }\n",
    );
    assert_eq!(daemon.log.count(&["unable to bind"]), 0);
    inside(&daemon, &["ip", "addr", "add", "192.0.2.1/32", "dev", "lo"]);
    assert_eq!(inside(&daemon, &["bash", "-c", ASK]), "hello\n");
}

fn a_vsock_port_is_listened_on() {
    needs_root();
    let possible = socket2::Socket::new(socket2::Domain::VSOCK, Type::STREAM, None);
    if possible.is_err() {
        skip("needs AF_VSOCK in the kernel");
    }
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(
        &dir,
        &format!("[service.cat]\nlisten = \"vsock:{port}\"\nexec = [\"/bin/cat\"]\n"),
    );
    let numbers = process::descriptors(daemon.pid).into_keys();
    let mut stolen = numbers.filter_map(|number| steal::steal(daemon.pid, number).ok());
    assert!(stolen.any(|fd| {
        let local = SockRef::from(&fd).local_addr();
        local.is_ok_and(|local| {
            local
                .as_vsock_address()
                .is_some_and(|(_, at)| at == u32::from(port))
        })
    }));
    let mut peer = match socket2::Socket::new(socket2::Domain::VSOCK, Type::STREAM, None) {
        Ok(socket) => socket,
        Err(err) => skip(format!("needs AF_VSOCK: {err}")),
    };
    let local_cid = 1; // VMADDR_CID_LOCAL
    if let Err(err) = peer.connect(&socket2::SockAddr::vsock(local_cid, u32::from(port))) {
        skip(format!("needs a vsock loopback to connect through: {err}"));
    }
    std::io::Write::write_all(&mut peer, b"hello").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut peer, &mut answer).unwrap();
    assert_eq!(answer, "hello");
}
