//! Where the daemon listens: families, Unix sockets, late addresses, inherited sockets.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use nix::sys::signal::Signal;
use socket2::Type;

use crate::common::peer::ask;
use crate::common::*;
use crate::tests;

tests![
    the_ready_line_counts_services_and_listeners,
    a_tcp_port_takes_both_families,
    tcp4_and_tcp6_take_one_family_each,
    a_service_can_have_several_addresses,
    an_address_in_use_is_tried_again_until_it_is_free,
    a_unix_socket_has_the_mode_of_the_table,
    a_stale_unix_socket_is_replaced,
    a_file_that_is_no_socket_is_left_alone,
    a_unix_socket_goes_with_the_daemon,
    a_link_in_place_of_a_unix_socket_is_not_followed,
    a_refused_reload_leaves_no_socket_behind,
    an_inherited_socket_is_served,
    a_port_below_1024_needs_root_and_says_so,
    no_listener_leaks_into_a_server,
];

fn service(name: &str, listen: &str) -> String {
    format!("[service.{name}]\nlisten = {listen}\nexec = [\"/bin/cat\"]\n")
}

fn on_v6(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::LOCALHOST, port))
}

fn needs_v6() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        skip("needs IPv6");
    }
}

fn the_ready_line_counts_services_and_listeners() {
    let (dir, one, two, three) = (Dir::new(), free_port(), free_port(), free_port());
    let daemon = Daemon::start(
        &dir,
        &(service(
            "a",
            &format!("[\"tcp:127.0.0.1:{one}\", \"tcp:127.0.0.1:{two}\"]"),
        ) + &service("b", &format!("\"tcp:127.0.0.1:{three}\""))),
    );
    let line = daemon.log.wait_for("ready: ");
    assert!(line.contains("ready: 2 services, 3 listeners"), "{line}");
}

fn a_tcp_port_takes_both_families() {
    needs_v6();
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &service("dual", &format!("\"tcp:{port}\"")));
    assert_eq!(ask(port, "four"), "four");
    assert_eq!(
        Peer::to(on_v6(port)).send("six").finish().read_text(),
        "six"
    );
}

fn tcp4_and_tcp6_take_one_family_each() {
    needs_v6();
    let (dir, four, six) = (Dir::new(), free_port(), free_port());
    let _daemon = Daemon::start(
        &dir,
        &(service("four", &format!("\"tcp4:{four}\""))
            + &service("six", &format!("\"tcp6:{six}\""))),
    );
    assert_eq!(ask(four, "four"), "four");
    assert!(TcpStream::connect(on_v6(four)).is_err());
    assert_eq!(Peer::to(on_v6(six)).send("six").finish().read_text(), "six");
    assert!(Peer::try_tcp(six).is_err());
}

fn a_service_can_have_several_addresses() {
    let (dir, one, two) = (Dir::new(), free_port(), free_port());
    let path = dir.open_folder("sockets") + "/s";
    let _daemon = Daemon::start(
        &dir,
        &service(
            "many",
            &format!("[\"tcp:127.0.0.1:{one}\", \"tcp:127.0.0.2:{two}\", \"unix:{path}\"]"),
        ),
    );
    assert_eq!(ask(one, "one"), "one");
    let mut second = Peer::to(SocketAddr::from(([127, 0, 0, 2], two)));
    assert_eq!(second.send("two").finish().read_text(), "two");
    assert_eq!(
        Peer::unix(Type::STREAM, &path)
            .send("three")
            .finish()
            .read_text(),
        "three"
    );
}

fn an_address_in_use_is_tried_again_until_it_is_free() {
    let (dir, good, taken) = (Dir::new(), free_port(), free_port());
    let squatter = TcpListener::bind(("127.0.0.1", taken)).expect("unable to bind");
    let daemon = Daemon::start(
        &dir,
        &(service("good", &format!("\"tcp:127.0.0.1:{good}\""))
            + &service("late", &format!("\"tcp:127.0.0.1:{taken}\""))),
    );
    assert_eq!(ask(good, "here"), "here");
    daemon.log.wait_after(0, &["unable to bind", "late"]);
    drop(squatter);
    // For a moment a process that another test starts may still hold the old
    // listener, and take a connection down with it.
    until("the late listener", SOON * 4, || {
        let mut peer = Peer::try_tcp(taken).ok()?;
        (peer.send("at last").finish().read_text() == "at last").then_some(())
    });
}

fn a_unix_socket_has_the_mode_of_the_table() {
    let dir = Dir::new();
    let folder = dir.open_folder("sockets");
    let listen = |name: &str| format!("\"unix:{folder}/{name}\"");
    let mut table = service("narrow", &listen("narrow"));
    table += &(service("wide", &listen("wide")) + "socket = { mode = \"0660\" }\n");
    let _daemon = Daemon::start(&dir, &table);
    let meta = |name: &str| std::fs::metadata(format!("{folder}/{name}")).expect("no socket");
    assert!(meta("wide").file_type().is_socket());
    assert_eq!(meta("wide").permissions().mode() & 0o777, 0o660);
    let narrow = meta("narrow").permissions().mode() & 0o777;
    assert_eq!(
        narrow & 0o002,
        0,
        "the world may connect by default: {narrow:o}"
    );
}

fn a_stale_unix_socket_is_replaced() {
    let dir = Dir::new();
    let path = dir.open_folder("sockets") + "/s";
    drop(std::os::unix::net::UnixListener::bind(&path).expect("unable to bind"));
    let _daemon = Daemon::start(&dir, &service("unix", &format!("\"unix:{path}\"")));
    assert_eq!(
        Peer::unix(Type::STREAM, &path)
            .send("fresh")
            .finish()
            .read_text(),
        "fresh"
    );
}

fn a_file_that_is_no_socket_is_left_alone() {
    let (dir, port) = (Dir::new(), free_port());
    let path = dir.open_folder("sockets") + "/precious";
    std::fs::write(&path, "data").expect("unable to write");
    let daemon = Setup::new(
        &dir,
        &(service("good", &format!("\"tcp:127.0.0.1:{port}\""))
            + &service("unix", &format!("\"unix:{path}\""))),
    )
    .begin();
    daemon.log.wait_for("precious");
    assert_eq!(std::fs::read(&path).expect("it is gone"), b"data");
}

fn a_unix_socket_goes_with_the_daemon() {
    let dir = Dir::new();
    let path = dir.open_folder("sockets") + "/s";
    let daemon = Daemon::start(&dir, &service("unix", &format!("\"unix:{path}\"")));
    assert!(Path::new(&path).exists());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.exit_code(), Some(0));
    assert!(
        !Path::new(&path).exists(),
        "the socket is still in the file system"
    );
}

fn a_link_in_place_of_a_unix_socket_is_not_followed() {
    let dir = Dir::new();
    let folder = dir.open_folder("sockets");
    let (path, secret) = (folder.clone() + "/s", folder + "/secret");
    let table = service("unix", &format!("\"unix:{path}\"")) + "socket = { mode = \"0666\" }\n";
    let daemon = Daemon::start(&dir, &table);
    std::fs::write(&secret, "key").expect("unable to write");
    let mode = || {
        let meta = std::fs::metadata(&secret).expect("it is gone");
        meta.permissions().mode() & 0o777
    };
    set_mode(Path::new(&secret), 0o600);
    // Whoever may write the folder, such as the user of the service, can do this at any time.
    std::fs::remove_file(&path).expect("no socket");
    std::os::unix::fs::symlink(&secret, &path).expect("unable to link");
    assert!(daemon.reload_as_it_is());
    assert_eq!(mode(), 0o600, "the reload changed what the link points to");
    daemon.log.wait_for("another file has taken its place");
}

fn a_refused_reload_leaves_no_socket_behind() {
    let (dir, port) = (Dir::new(), free_port());
    let path = dir.open_folder("sockets") + "/s";
    let table = service("good", &format!("\"tcp:127.0.0.1:{port}\""));
    let daemon = Daemon::start(&dir, &table);
    let held = free_port();
    let _holder = std::net::TcpListener::bind(("127.0.0.1", held)).expect("unable to bind");
    let more = service("unix", &format!("\"unix:{path}\""))
        + &service("bad", &format!("\"tcp:127.0.0.1:{held}\""));
    assert!(!daemon.reload(&dir, &(table + &more)));
    assert!(!Path::new(&path).exists(), "a socket nobody serves");
}

/// Binds a listener on descriptor 3 and executes the rest of its arguments.
const INHERIT: &str = r#"#!/usr/bin/perl
use Socket; $^F = 20;
my $port = shift;
socket(my $listener, PF_INET, SOCK_STREAM, 0) or die;
setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, 1);
bind($listener, sockaddr_in($port, INADDR_LOOPBACK)) or die "bind: $!";
listen($listener, 10) or die;
require POSIX; POSIX::dup2(fileno($listener), 3) unless fileno($listener) == 3;
@ENV{qw(LISTEN_PID LISTEN_FDS LISTEN_FDNAMES)} = ($$, 1, "web");
exec @ARGV or die "exec: $!";
"#;

fn an_inherited_socket_is_served() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script("inherit", INHERIT);
    let _daemon = Setup::new(&dir, &service("web", "\"fd:web\""))
        .through(&[&program, &port.to_string()])
        .start();
    assert_eq!(ask(port, "handed down"), "handed down");
}

fn a_port_below_1024_needs_root_and_says_so() {
    if as_root() {
        skip("root may bind any port");
    }
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if start.is_ok_and(|start| start.trim() == "0") {
        skip("on this host everybody may bind any port");
    }
    let dir = Dir::new();
    let path = dir.write("low.toml", service("ftp", "\"tcp:127.0.0.1:21\""));
    let output = std::process::Command::new(daemon::USHERD)
        .args(["check", &path])
        .output()
        .expect("usherd check");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("21") && said.contains("root"), "{said}");
}

fn no_listener_leaks_into_a_server() {
    let (dir, port) = (Dir::new(), free_port());
    let ports: Vec<u16> = (0..20).map(|_| free_port()).collect();
    let mut table = service("cat", &format!("\"tcp:127.0.0.1:{port}\""));
    for (nth, other) in ports.iter().enumerate() {
        table += &service(
            &format!("other{nth}"),
            &format!("\"tcp:127.0.0.1:{other}\""),
        );
    }
    let daemon = Daemon::start(&dir, &table);
    let mut peer = Peer::tcp(port);
    peer.send("x\n");
    assert_eq!(peer.read_line(), "x\n");
    let servers = daemon.wait_servers(1);
    let open = process::descriptors(servers[0]);
    assert_eq!(
        open.keys().copied().collect::<Vec<i32>>(),
        [0, 1, 2],
        "{open:?}"
    );
}
