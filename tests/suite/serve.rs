//! Connections and datagrams reach the right server, and the server finds the
//! world as the table says.

use std::collections::BTreeMap;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};

use socket2::Type;

use crate::common::peer::{ask, hear};
use crate::common::*;
use crate::programs::*;
use crate::tests;

tests![
    a_stream_server_echoes_and_sees_the_end,
    many_connections_at_once_are_kept_apart,
    a_datagram_server_gets_the_socket,
    a_stream_server_with_wait_gets_the_listener,
    a_unix_stream_reaches_its_server,
    a_unix_datagram_reaches_its_server,
    a_unix_sequence_of_packets_reaches_its_server,
    an_abstract_unix_socket_reaches_its_server,
    listen_fds_passes_the_listener,
    listen_fds_passes_one_connection,
    listen_fds_passes_all_listeners_of_a_service,
    the_environment_holds_the_facts_of_the_connection_and_nothing_inherited,
    pass_env_and_env_add_to_the_environment,
    a_datagram_server_knows_who_woke_it,
    a_server_has_descriptors_0_1_2_and_no_more,
    every_signal_is_at_its_default_and_none_is_blocked,
    a_server_has_a_session_of_its_own,
    the_socket_of_a_server_blocks,
    dir_umask_and_nice_are_as_the_table_says,
    resource_limits_are_as_the_table_says,
    a_server_runs_as_its_user_with_its_groups,
    a_group_of_the_table_replaces_the_users_own,
    argv0_is_the_base_name_or_what_the_table_says,
    stderr_goes_to_the_log_with_the_name_of_the_service,
    stderr_can_go_to_the_peer,
    stderr_can_go_nowhere,
    a_disabled_service_is_not_listened_for,
    two_services_at_different_addresses_share_a_port,
    tcpmux_leads_to_a_server_by_name,
];

/// A TCP service that runs a shell command, with more keys.
fn shell(port: u16, command: &str, more: &str) -> String {
    format!(
        "[service.shell]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/sh\", \"-c\", '''{command}''']\n{more}\n"
    )
}

fn cat(port: u16) -> String {
    format!("[service.cat]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\n")
}

/// What a shell command prints when it is a server.
fn output_of(command: &str, more: &str) -> String {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &shell(port, command, more));
    hear(port)
}

fn a_stream_server_echoes_and_sees_the_end() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &cat(port));
    let sent = Seeded::new(1).bytes(300_000);
    let received = Peer::tcp(port).exchange(&sent);
    assert_eq!(received.len(), sent.len());
    assert!(received == sent, "the bytes came back changed");
}

fn many_connections_at_once_are_kept_apart() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &cat(port));
    let mut peers: Vec<Peer> = (0..40).map(|_| Peer::tcp(port)).collect();
    for (nth, peer) in peers.iter_mut().enumerate() {
        peer.send(format!("peer {nth}\n"));
    }
    for (nth, peer) in peers.iter_mut().enumerate().rev() {
        assert_eq!(peer.read_line(), format!("peer {nth}\n"));
    }
}

fn a_datagram_server_gets_the_socket() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script("server", DATAGRAM_LOOP);
    let daemon = Daemon::start(
        &dir,
        &format!("[service.dgram]\nlisten = \"udp:127.0.0.1:{port}\"\nexec = [\"{program}\"]\n"),
    );
    let first = UdpPeer::new(port).ask("one");
    let second = UdpPeer::new(port).ask("two");
    assert!(first.starts_with("one from "), "{first}");
    assert_eq!(
        first.split(' ').next_back(),
        second.split(' ').next_back(),
        "one server answers while it lives"
    );
    daemon.wait_servers(0);
    let third = UdpPeer::new(port).ask("three");
    assert_ne!(first.split(' ').next_back(), third.split(' ').next_back());
}

fn a_stream_server_with_wait_gets_the_listener() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script("server", ACCEPT_LOOP);
    let daemon = Daemon::start(
        &dir,
        &format!(
            "[service.pool]\nlisten = \"tcp:127.0.0.1:{port}\"\nwait = true\nexec = [\"{program}\"]\n"
        ),
    );
    let first = Peer::tcp(port).send("one\n").read_text();
    let second = Peer::tcp(port).send("two\n").read_text();
    let pid = |answer: &str| answer.split(' ').next().map(str::to_owned);
    assert!(first.ends_with(" one\n"), "{first}");
    assert_eq!(pid(&first), pid(&second), "one server takes both");
    daemon.wait_servers(0);
    let third = Peer::tcp(port).send("three\n").read_text();
    assert!(third.ends_with(" three\n"), "{third}");
    assert_ne!(pid(&first), pid(&third));
}

fn unix_service(dir: &Dir, scheme: &str, exec: &str, more: &str) -> (Daemon, String) {
    let folder = dir.open_folder("sockets");
    let path = format!("{folder}/s");
    let daemon = Daemon::start(
        dir,
        &format!("[service.unix]\nlisten = \"{scheme}:{path}\"\nexec = [\"{exec}\"]\n{more}"),
    );
    (daemon, path)
}

fn a_unix_stream_reaches_its_server() {
    let dir = Dir::new();
    let (_daemon, path) = unix_service(&dir, "unix", "/bin/cat", "socket = { mode = \"0666\" }\n");
    let answer = Peer::unix(Type::STREAM, &path)
        .send("hello")
        .finish()
        .read_text();
    assert_eq!(answer, "hello");
    let mode = std::fs::metadata(&path).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
        0o666
    );
}

fn a_unix_datagram_reaches_its_server() {
    let dir = Dir::new();
    let program = dir.script("server", DATAGRAM_ONCE);
    let (_daemon, path) = unix_service(
        &dir,
        "unix-dgram",
        &program,
        "socket = { mode = \"0666\" }\n",
    );
    let name = UnixAddr::from_abstract_name(format!("usherd-test-{}", process::this())).unwrap();
    let socket = UnixDatagram::bind_addr(&name).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    for question in ["one", "two"] {
        socket.send_to(question.as_bytes(), &path).unwrap();
        let mut answer = [0; 100];
        let count = socket.recv(&mut answer).expect("no answer");
        let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
        assert!(answer.starts_with(&format!("{question} from ")), "{answer}");
    }
}

fn a_unix_sequence_of_packets_reaches_its_server() {
    let dir = Dir::new();
    let (_daemon, path) = unix_service(
        &dir,
        "unix-seqpacket",
        "/bin/cat",
        "socket = { mode = \"0666\" }\n",
    );
    let mut peer = Peer::unix(Type::SEQPACKET, &path);
    for packet in ["one", "three and a half", "2"] {
        peer.send(packet);
        assert_eq!(
            peer.read_packet(),
            packet.as_bytes(),
            "packets keep their borders"
        );
    }
}

fn an_abstract_unix_socket_reaches_its_server() {
    let dir = Dir::new();
    let name = format!("@usherd-abstract-{}", process::this());
    let _daemon = Daemon::start(
        &dir,
        &format!("[service.abstract]\nlisten = \"unix:{name}\"\nexec = [\"/bin/cat\"]\n"),
    );
    let answer = Peer::unix(Type::STREAM, &name)
        .send("hello")
        .finish()
        .read_text();
    assert_eq!(answer, "hello");
}

fn listen_fds_passes_the_listener() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script("server", LISTEN_FDS);
    let _daemon = Daemon::start(
        &dir,
        &format!(
            "[service.web]\nlisten = \"tcp:127.0.0.1:{port}\"\nwait = true\n\
             activation = \"listen-fds\"\nexec = [\"{program}\"]\n"
        ),
    );
    for word in ["one", "two"] {
        let answer = Peer::tcp(port).send(format!("{word}\n")).read_text();
        assert!(
            answer.starts_with("1 [") && answer.ends_with(&format!("] {word}\n")),
            "{answer}"
        );
    }
}

fn listen_fds_passes_one_connection() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script("server", CONNECTION_ON_3);
    let _daemon = Daemon::start(
        &dir,
        &format!(
            "[service.one]\nlisten = \"tcp:127.0.0.1:{port}\"\n\
             activation = \"listen-fds\"\nexec = [\"{program}\"]\n"
        ),
    );
    let answer = Peer::tcp(port).send("hi\n").read_text();
    assert_eq!(answer, "stdin /dev/null, peer said hi\n");
}

fn listen_fds_passes_all_listeners_of_a_service() {
    let (dir, one, two) = (Dir::new(), free_port(), free_port());
    let program = dir.script("server", LISTEN_FDS);
    let _daemon = Daemon::start(
        &dir,
        &format!(
            "[service.both]\nlisten = [\"tcp:127.0.0.1:{one}\", \"tcp:127.0.0.1:{two}\"]\n\
             wait = true\nactivation = \"listen-fds\"\nexec = [\"{program}\"]\n"
        ),
    );
    let answer = Peer::tcp(one).send("hi\n").read_text();
    assert!(answer.starts_with("2 ["), "{answer}");
}

fn environment(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What a login shell would set anyway.
const ACCOUNT: [&str; 5] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL"];

fn the_environment_holds_the_facts_of_the_connection_and_nothing_inherited() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Setup::new(
        &dir,
        &format!("[service.env]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/usr/bin/env\"]\n"),
    )
    .env("USHERD_TEST_SECRET", "inherited")
    .start();
    let mut peer = Peer::tcp(port);
    let from = peer.local_port().to_string();
    let mut env = environment(&peer.read_text());
    let at = port.to_string();
    let expected = [
        ("PROTO", "TCP"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REMOTE_HOST", "127.0.0.1"),
        ("REMOTE_PORT", &from),
        ("TCPREMOTEIP", "127.0.0.1"),
        ("TCPREMOTEPORT", &from),
        ("TCPLOCALIP", "127.0.0.1"),
        ("TCPLOCALPORT", &at),
        ("USHERD_SERVICE", "env"),
    ];
    for (name, value) in expected {
        assert_eq!(env.remove(name).as_deref(), Some(value), "{name}");
    }
    let connection = env.remove("USHERD_CONNECTION").expect("USHERD_CONNECTION");
    let (epoch, count) = connection.split_once('-').expect("EPOCH-COUNT");
    assert!(
        epoch.parse::<u64>().is_ok() && count.parse::<u64>().is_ok(),
        "{connection}"
    );
    env.retain(|name, _| !ACCOUNT.contains(&name.as_str()));
    assert!(env.is_empty(), "more than was promised: {env:?}");
}

fn pass_env_and_env_add_to_the_environment() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Setup::new(
        &dir,
        &format!(
            "[service.env]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/usr/bin/env\"]\n\
             pass_env = [\"USHERD_TEST_A\", \"USHERD_TEST_ABSENT\"]\nenv = {{ USHERD_TEST_B = \"two words\" }}\n"
        ),
    )
    .env("USHERD_TEST_A", "inherited")
    .env("USHERD_TEST_C", "not wanted")
    .start();
    let env = environment(&hear(port));
    assert_eq!(
        env.get("USHERD_TEST_A").map(String::as_str),
        Some("inherited")
    );
    assert_eq!(
        env.get("USHERD_TEST_B").map(String::as_str),
        Some("two words")
    );
    assert!(!env.contains_key("USHERD_TEST_C"));
    assert!(!env.contains_key("USHERD_TEST_ABSENT"));
}

fn a_datagram_server_knows_who_woke_it() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script(
        "server",
        "#!/usr/bin/perl\nmy $peer = recv(STDIN, my $b, 65536, 0);\n\
         send(STDOUT, join(' ', @ENV{qw(PROTO REMOTE_HOST REMOTE_PORT USHERD_SERVICE)}), 0, $peer);\n",
    );
    let _daemon = Daemon::start(
        &dir,
        &format!("[service.dgram]\nlisten = \"udp:127.0.0.1:{port}\"\nexec = [\"{program}\"]\n"),
    );
    let peer = UdpPeer::new(port);
    assert_eq!(
        peer.ask("who am I"),
        format!("UDP 127.0.0.1 {} dgram", peer.local_port())
    );
}

fn a_server_has_descriptors_0_1_2_and_no_more() {
    // `exec` so that the list is of the server itself; ls adds the folder it reads.
    let listed = output_of("exec ls -l /proc/self/fd", "");
    let mut found: Vec<(&str, &str)> = listed
        .lines()
        .filter_map(|line| {
            let (left, target) = line.split_once(" -> ")?;
            Some((left.split_whitespace().next_back()?, target))
        })
        .filter(|(_, target)| !target.starts_with("/proc/"))
        .collect();
    found.sort_unstable();
    assert_eq!(found.len(), 3, "{listed}");
    assert!(
        found[0].0 == "0" && found[0].1.starts_with("socket:"),
        "{listed}"
    );
    assert_eq!(found[0].1, found[1].1, "0 and 1 are one socket");
    assert!(
        found[2].0 == "2" && found[2].1 != found[0].1,
        "stderr is not the socket: {listed}"
    );
}

fn every_signal_is_at_its_default_and_none_is_blocked() {
    let (dir, port) = (Dir::new(), free_port());
    // A parent that ignores signals hands that down to the daemon.
    let _daemon = Setup::new(
        &dir,
        &format!(
            "[service.status]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\", \"/proc/self/status\"]\n"
        ),
    )
    .through(&["/bin/sh", "-c", "trap '' PIPE USR1 QUIT; exec \"$@\"", "sh"])
    .start();
    let status = hear(port);
    for set in ["SigIgn", "SigBlk", "SigCgt", "SigPnd"] {
        let mask = process::field(&status, set).expect(set);
        assert_eq!(mask.trim_start_matches('0'), "", "{set} is {mask}");
    }
}

fn a_server_has_a_session_of_its_own() {
    let line = output_of("exec cat /proc/self/stat", "");
    let (_, rest) = line.rsplit_once(')').expect("a line of /proc/PID/stat");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let pid = line.split(' ').next().unwrap();
    assert_eq!(fields[2], pid, "leader of its process group");
    assert_eq!(fields[3], pid, "leader of its session");
    assert_eq!(fields[4], "0", "no terminal");
}

fn the_socket_of_a_server_blocks() {
    let info = output_of("exec cat /proc/self/fdinfo/0", "");
    let flags = process::field(&info, "flags").expect("flags");
    let flags = u32::from_str_radix(&flags, 8).expect("octal");
    let nonblock = u32::try_from(libc::O_NONBLOCK).unwrap();
    assert_eq!(flags & nonblock, 0, "O_NONBLOCK is set: {flags:o}");
}

fn dir_umask_and_nice_are_as_the_table_says() {
    let said = output_of(
        "pwd; umask; nice",
        "dir = \"/usr\"\numask = \"0027\"\nnice = 15\n",
    );
    assert_eq!(said, "/usr\n0027\n15\n");
    let said = output_of("pwd; umask", "");
    assert_eq!(said, "/\n0022\n", "what nothing is said about");
}

fn resource_limits_are_as_the_table_says() {
    let said = output_of(
        "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc",
        "limits = { nofile = 64, core = \"0\" }\n",
    );
    assert_eq!(said, "64\n64\n0\n0\n");
}

fn a_server_runs_as_its_user_with_its_groups() {
    needs_root();
    let said = output_of("id -u; id -g; id -G", "user = \"daemon\"\n");
    let expected = std::process::Command::new("sh")
        .args(["-c", "id -u daemon; id -g daemon; id -G daemon"])
        .output()
        .expect("id(1)");
    assert_eq!(said, String::from_utf8_lossy(&expected.stdout));
    let all = output_of("cat /proc/self/status", "user = \"daemon\"\n");
    let uids = process::field(&all, "Uid").expect("Uid");
    assert_eq!(uids, "1\t1\t1\t1", "real, effective, saved, file system");
    let caps = process::field(&all, "CapEff").expect("CapEff");
    assert_eq!(
        caps.trim_start_matches('0'),
        "",
        "no capability is left: {caps}"
    );
}

fn a_group_of_the_table_replaces_the_users_own() {
    needs_root();
    let said = output_of("id -un; id -gn", "user = \"daemon\"\ngroup = \"mail\"\n");
    assert_eq!(said, "daemon\nmail\n");
    let said = output_of(
        "id -G | tr ' ' '\\n' | sort -n",
        "user = \"daemon\"\ngroups = [\"mail\"]\n",
    );
    assert!(
        said.lines().any(|gid| gid == "8"),
        "mail is not among {said:?}"
    );
}

fn argv0_is_the_base_name_or_what_the_table_says() {
    let command = "exec cat /proc/$$/cmdline | tr '\\0' ' '";
    assert!(output_of(command, "").starts_with("sh -c "));
    assert!(output_of(command, "argv0 = \"-named\"\n").starts_with("-named -c "));
}

fn stderr_goes_to_the_log_with_the_name_of_the_service() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(
        &dir,
        &shell(port, "echo to the peer; echo to the log >&2", ""),
    );
    assert_eq!(hear(port), "to the peer\n");
    daemon.log.wait_after(0, &["to the log", "shell"]);
}

fn stderr_can_go_to_the_peer() {
    let said = output_of("echo one; echo two >&2", "stderr = \"socket\"\n");
    assert_eq!(said, "one\ntwo\n");
}

fn stderr_can_go_nowhere() {
    let said = output_of(
        "readlink /proc/self/fd/2 >&1; echo lost >&2",
        "stderr = \"null\"\n",
    );
    assert_eq!(said, "/dev/null\n");
}

fn a_disabled_service_is_not_listened_for() {
    let (dir, port, off) = (Dir::new(), free_port(), free_port());
    let _daemon = Daemon::start(
        &dir,
        &format!(
            "{}\n[service.off]\nenabled = false\nlisten = \"tcp:127.0.0.1:{off}\"\nexec = [\"/bin/cat\"]\n",
            cat(port)
        ),
    );
    assert_eq!(ask(port, "here"), "here");
    assert!(Peer::try_tcp(off).is_err());
}

fn two_services_at_different_addresses_share_a_port() {
    let (dir, port) = (Dir::new(), free_port());
    let service = |name: &str, host: &str| {
        format!(
            "[service.{name}]\nlisten = \"tcp:{host}:{port}\"\nexec = [\"/bin/echo\", \"{name}\"]\n"
        )
    };
    let _daemon = Daemon::start(
        &dir,
        &(service("one", "127.0.0.1") + &service("two", "127.0.0.2")),
    );
    assert_eq!(hear(port), "one\n");
    let mut other = Peer::to(std::net::SocketAddr::from(([127, 0, 0, 2], port)));
    assert_eq!(other.read_text(), "two\n");
}

fn tcpmux_leads_to_a_server_by_name() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(
        &dir,
        &format!(
            "[service.mux]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"tcpmux\"\n\
             [service.quiet]\nlisten = \"tcpmux:quiet\"\nexec = [\"/bin/cat\"]\n\
             [service.greeted]\nlisten = \"tcpmux:+greeted\"\nexec = [\"/bin/cat\"]\n"
        ),
    );
    assert_eq!(ask(port, "quiet\r\nhello"), "hello");
    let answer = ask(port, "GREETED\r\nhello");
    assert!(
        answer.starts_with('+') && answer.ends_with("\r\nhello"),
        "{answer:?}"
    );
    let answer = ask(port, "nobody\r\n");
    assert!(
        answer.starts_with('-') && answer.ends_with("\r\n"),
        "{answer:?}"
    );
}
