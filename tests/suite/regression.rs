//! One test for each fault that the old super-servers had, named after it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::peer::{ask, hear};
use crate::common::*;
use crate::programs::DATAGRAM_ONCE;
use crate::tests;

tests![
    six_datagrams_to_a_server_that_reads_one_are_all_served,
    a_datagram_nobody_reads_starts_no_server_after_the_other,
    a_datagram_service_recovers_from_a_server_that_did_not_read,
    a_flood_from_denied_peers_uses_up_nothing,
    a_start_with_descriptors_0_to_2_closed,
    a_huge_limit_on_descriptors_costs_no_time,
    clients_that_reset_before_accept_are_survived,
    a_full_table_of_descriptors_is_waited_out,
    a_full_file_table_of_the_host_is_waited_out,
    tcpmux_reads_a_name_in_any_pieces,
    tcpmux_leaves_the_bytes_after_the_name_to_the_server,
    tcpmux_lists_its_names,
    tcpmux_clients_that_say_nothing_hold_nobody_up,
    tcpmux_keeps_the_rules_of_the_service_behind_it,
    tcpmux_refuses_what_is_no_name,
    a_thousand_ends_at_once_are_all_reaped_and_counted: 120,
    a_pipeline_in_a_server_dies_of_sigpipe,
    a_grandchild_with_the_socket_ends_with_its_server,
    mapped_peers_are_ipv4_in_rules_and_variables,
    no_deadline_depends_on_the_clock_on_the_wall,
    a_missing_program_closes_the_connection_and_is_tried_again,
    a_program_that_cannot_be_entered_names_the_step,
    a_crashing_server_never_closes_its_port,
    a_server_that_leaves_its_socket_nonblocking_harms_nobody,
    a_slow_client_of_one_service_does_not_delay_another,
    a_banner_to_a_peer_that_does_not_read_blocks_nothing,
];

fn cat(port: u16, more: &str) -> String {
    format!("[service.cat]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\n{more}\n")
}

fn shell(name: &str, port: u16, command: &str, more: &str) -> String {
    format!(
        "[service.{name}]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/sh\", \"-c\", '''{command}''']\n{more}\n"
    )
}

fn six_datagrams_to_a_server_that_reads_one_are_all_served() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script("server", DATAGRAM_ONCE);
    let _daemon = Daemon::start(
        &dir,
        &format!("[service.one]\nlisten = \"udp:127.0.0.1:{port}\"\nexec = [\"{program}\"]\n"),
    );
    let peer = UdpPeer::new(port);
    for nth in 0..6 {
        peer.send(format!("datagram {nth}"));
    }
    let mut answers: Vec<String> = (0..6)
        .map(|_| String::from_utf8_lossy(&peer.receive()).into_owned())
        .collect();
    answers.sort();
    for (nth, answer) in answers.iter().enumerate() {
        assert!(
            answer.starts_with(&format!("datagram {nth} from ")),
            "{answers:?}"
        );
    }
}

/// A UDP service that counts its starts in a file and does not read, and a
/// good TCP service beside it.
fn unread(dir: &Dir, bad: u16, good: u16) -> (String, String) {
    let counter = dir.open_folder("count") + "/starts";
    let program = dir.script(
        "lazy",
        &format!(
            "#!/bin/sh\necho start >>{counter}\n[ -e {counter}.read ] && exec head -c1\nexit 0\n"
        ),
    );
    let table = format!(
        "[service.lazy]\nlisten = \"udp:127.0.0.1:{bad}\"\nexec = [\"{program}\"]\n{}",
        cat(good, "")
    );
    (table, counter)
}

fn starts(counter: &str) -> usize {
    std::fs::read_to_string(counter).map_or(0, |text| text.lines().count())
}

fn a_datagram_nobody_reads_starts_no_server_after_the_other() {
    let (dir, bad, good) = (Dir::new(), free_port(), free_port());
    let (table, counter) = unread(&dir, bad, good);
    let daemon = Daemon::start(&dir, &table);
    UdpPeer::new(bad).send("nobody reads this");
    until("a first start", SOON, || {
        (starts(&counter) > 0).then_some(())
    });
    let (began, ticks) = (Instant::now(), daemon.cpu_ticks());
    let mut asked = 0;
    while began.elapsed() < Duration::from_secs(2) {
        assert_eq!(ask(good, "x"), "x");
        asked += 1;
    }
    let (started, used) = (starts(&counter), daemon.cpu_ticks() - ticks);
    assert!(
        started <= 20,
        "{started} starts within two seconds for one datagram"
    );
    assert!(
        asked > 20,
        "only {asked} good connections within two seconds"
    );
    assert!(used < 150, "{used} clock ticks");
}

fn a_datagram_service_recovers_from_a_server_that_did_not_read() {
    let (dir, port) = (Dir::new(), free_port());
    let flag = dir.open_folder("flag") + "/good";
    let lazy = format!("#!/usr/bin/perl\nexit 0 unless -e '{flag}';\n");
    let body = DATAGRAM_ONCE.split_once('\n').expect("two lines").1;
    let program = dir.script("server", &(lazy + body));
    let _daemon = Daemon::start(
        &dir,
        &format!("[service.one]\nlisten = \"udp:127.0.0.1:{port}\"\nexec = [\"{program}\"]\n"),
    );
    let peer = UdpPeer::new(port);
    for _ in 0..3 {
        peer.send("lost");
    }
    std::fs::write(&flag, "").expect("unable to write");
    let healed = until("an answer", SOON * 2, || {
        UdpPeer::new(port).try_ask("found", Duration::from_millis(500))
    });
    assert!(healed.starts_with("found from "), "{healed}");
}

fn a_flood_from_denied_peers_uses_up_nothing() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(
        &dir,
        &cat(
            port,
            "allow = [\"127.0.0.1/32\"]\ninstances = 4\nper_source = 4\n\
             rate = \"1/h burst 3\"\nrate_per_source = \"1/h burst 3\"\non_full = \"refuse\"\n",
        ),
    );
    for nth in 0..200_u8 {
        let source = [127, 0, 0, 2 + nth % 50];
        assert_eq!(
            Peer::tcp_from(source, port).read_text(),
            "",
            "served from {source:?}"
        );
    }
    for nth in 0..3 {
        let word = format!("admitted {nth}");
        assert_eq!(ask(port, &word), word);
    }
    assert_eq!(
        ask(port, "the fourth"),
        "",
        "the rate counts admitted peers"
    );
}

fn a_start_with_descriptors_0_to_2_closed() {
    let (dir, port) = (Dir::new(), free_port());
    let table = shell(
        "fds",
        port,
        "exec ls -l /proc/self/fd",
        "stderr = \"socket\"\n",
    );
    let daemon = Setup::new(&dir, &table)
        .through(&["/bin/sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh"])
        .begin();
    until("a listener", SOON, || {
        (!process::listeners(port).is_empty()).then_some(())
    });
    for _ in 0..3 {
        let listed = hear(port);
        let targets: Vec<&str> = listed
            .lines()
            .filter_map(|line| Some(line.split_once(" -> ")?.1))
            .filter(|target| !target.starts_with("/proc/"))
            .collect();
        assert_eq!(targets.len(), 3, "{listed}");
        assert!(
            targets.iter().all(|target| target.starts_with("socket:")),
            "{listed}"
        );
    }
    assert!(daemon.is_running());
}

fn a_huge_limit_on_descriptors_costs_no_time() {
    needs_root();
    let prlimit = needs("prlimit", "util-linux");
    let (dir, port) = (Dir::new(), free_port());
    // More than this the kernel grants to nobody: proc(5), fs.nr_open.
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").expect("fs.nr_open");
    let most = most.trim().parse::<u64>().expect("a number").min(1 << 30);
    let limit = format!("--nofile={most}:{most}");
    let try_it = std::process::Command::new(&prlimit)
        .args([&limit, "true"])
        .status();
    if !try_it.is_ok_and(|status| status.success()) {
        skip("needs CAP_SYS_RESOURCE");
    }
    let began = Instant::now();
    let _daemon = Setup::new(&dir, &shell("limit", port, "ulimit -Sn; ulimit -Hn", ""))
        .through(&[prlimit.to_str().expect("UTF-8"), &limit])
        .start();
    assert_eq!(
        hear(port),
        format!("{most}\n{most}\n"),
        "servers inherit the limit"
    );
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(3),
        "{took:?} with a limit of {most}"
    );
}

fn clients_that_reset_before_accept_are_survived() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let front = daemon.front();
    for _ in 0..3 {
        process::kill(front, Signal::SIGSTOP);
        for nth in 0..50 {
            let mut peer = Peer::tcp(port);
            if nth % 2 == 0 {
                peer.send("a word before the end");
            }
            peer.reset();
        }
        process::kill(front, Signal::SIGCONT);
        assert_eq!(ask(port, "after the storm"), "after the storm");
    }
    assert_eq!(daemon.front(), front, "the front did not survive");
    daemon.wait_servers(0);
}

fn a_full_table_of_descriptors_is_waited_out() {
    let prlimit = needs("prlimit", "util-linux");
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Setup::new(
        &dir,
        &format!(
            "[service.echo]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"echo\"\ninstances = 1000\n"
        ),
    )
    .through(&[prlimit.to_str().expect("UTF-8"), "--nofile=128:128"])
    .start();
    let mut peers: Vec<Peer> = (0..300).map(|_| Peer::tcp(port)).collect();
    for peer in &mut peers {
        peer.send("x");
    }
    assert_eq!(peers[0].read_exact(1), b"x");
    let last = peers.last_mut().expect("three hundred");
    assert!(
        last.hears_nothing_for(Duration::from_millis(500)),
        "no limit was met"
    );
    // Full: it has to sleep instead of trying again and again.
    let (ticks, front) = (daemon.cpu_ticks(), daemon.front());
    assert!(last.hears_nothing_for(Duration::from_secs(2)));
    let used = daemon.cpu_ticks() - ticks;
    assert!(
        used <= 40,
        "{used} of 200 clock ticks while nothing can be accepted"
    );
    assert_eq!(daemon.front(), front);
    // As places get free, those who wait are served.
    for mut peer in peers.drain(..) {
        peer.finish();
        assert!(peer.read_text().ends_with(['x']) || peer.read_text().is_empty());
    }
    assert_eq!(ask(port, "room again"), "room again");
}

fn a_full_file_table_of_the_host_is_waited_out() {
    skip("the limit on open files is the whole host's: needs a kernel of its own");
}

/// A multiplexer with a plain and a greeted service, and one with rules.
fn mux(port: u16, more: &str) -> String {
    format!(
        "[service.mux]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"tcpmux\"\n{more}\n\
         [service.plain]\nlisten = \"tcpmux:plain\"\nexec = [\"/bin/cat\"]\n\
         [service.greeted]\nlisten = \"tcpmux:+greeted\"\nexec = [\"/bin/cat\"]\n\
         [service.guarded]\nlisten = \"tcpmux:guarded\"\nexec = [\"/bin/cat\"]\n\
         allow = [\"127.0.0.1/32\"]\ninstances = 1\non_full = \"refuse\"\n"
    )
}

fn tcpmux_reads_a_name_in_any_pieces() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &mux(port, ""));
    let request = b"plain\r\npayload";
    for cut in 1..request.len() {
        let mut peer = Peer::tcp(port);
        peer.send(&request[..cut]);
        // Gives the first piece time to be read by itself.
        if cut < 7 {
            assert!(peer.hears_nothing_for(Duration::from_millis(5)));
        }
        let answer = peer.send(&request[cut..]).finish().read_text();
        assert_eq!(answer, "payload", "cut after {cut} bytes");
    }
    assert_eq!(ask(port, "plain\nonly a line feed"), "only a line feed");
}

fn tcpmux_leaves_the_bytes_after_the_name_to_the_server() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &mux(port, ""));
    let payload = Seeded::new(4).bytes(100_000);
    let request = [b"plain\r\n", &payload[..]].concat();
    assert!(
        Peer::tcp(port).exchange(&request) == payload,
        "bytes were lost or changed"
    );
    let answer = ask(port, "greeted\r\nhello");
    let (line, rest) = answer
        .split_once("\r\n")
        .expect("a line of the multiplexer");
    assert!(
        line.starts_with('+') && !answer.contains('\0'),
        "{answer:?}"
    );
    assert_eq!(rest, "hello");
}

fn tcpmux_lists_its_names() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &mux(port, ""));
    let listed = ask(port, "help\r\n");
    let mut names: Vec<&str> = listed
        .split("\r\n")
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["greeted", "guarded", "plain"], "{listed:?}");
}

fn tcpmux_clients_that_say_nothing_hold_nobody_up() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &mux(port, "instances = 200\n"));
    let _idle: Vec<Peer> = (0..50).map(|_| Peer::tcp(port)).collect();
    for _ in 0..20 {
        assert_eq!(ask(port, "plain\r\nx"), "x");
    }
    daemon.wait_servers(0); // an idle client costs no process
}

fn tcpmux_keeps_the_rules_of_the_service_behind_it() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &mux(port, ""));
    let mut stranger = Peer::tcp_from([127, 0, 0, 2], port);
    let answer = stranger.send("guarded\r\nhello").finish().read_text();
    assert!(
        !answer.contains("hello"),
        "a denied peer was served: {answer:?}"
    );
    let mut holder = Peer::tcp(port);
    holder.send("guarded\r\nhold\n");
    assert_eq!(holder.read_line(), "hold\n");
    let answer = ask(port, "guarded\r\nhello");
    assert!(
        !answer.contains("hello"),
        "two instances instead of one: {answer:?}"
    );
}

fn tcpmux_refuses_what_is_no_name() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &mux(port, ""));
    let answer = ask(port, "mux\r\n");
    assert!(
        answer.starts_with('-'),
        "a service that is not behind it: {answer:?}"
    );
    let long = ask(port, vec![b'a'; 5_000]);
    assert!(long.is_empty() || long.starts_with('-'), "{long:?}");
    assert_eq!(ask(port, "\0\r\n").chars().next(), Some('-'));
    assert_eq!(ask(port, "plain\r\nx"), "x");
}

fn a_thousand_ends_at_once_are_all_reaped_and_counted() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, "instances = 1000\nrate = \"100000/s\"\n"));
    let mut peers: Vec<Peer> = (0..200).map(|_| Peer::tcp(port)).collect();
    for round in 0..5 {
        for peer in &mut peers {
            peer.send("x");
            assert_eq!(peer.read_exact(1), b"x");
        }
        // All servers end as fast as two hundred ends of file can be sent.
        peers.clear();
        if round < 4 {
            peers = (0..200).map(|_| Peer::tcp(port)).collect();
        }
    }
    daemon.wait_servers(0);
    until("no zombie", SOON, || {
        let mut children = process::children(daemon.pid).into_iter();
        children.all(process::is_alive).then_some(())
    });
    // Right counts: after a reload to four, exactly four fit.
    assert!(daemon.reload(&dir, &cat(port, "instances = 4\non_full = \"queue\"\n")));
    let mut held: Vec<Peer> = (0..4).map(|_| Peer::tcp(port)).collect();
    for peer in &mut held {
        peer.send("held\n");
        assert_eq!(peer.read_line(), "held\n");
    }
    let mut fifth = Peer::tcp(port);
    fifth.send("fifth\n");
    assert!(fifth.hears_nothing_for(Duration::from_millis(300)));
    held.clear();
    assert_eq!(fifth.read_line(), "fifth\n");
}

fn a_pipeline_in_a_server_dies_of_sigpipe() {
    let (dir, port) = (Dir::new(), free_port());
    let table = shell(
        "pipe",
        port,
        "yes | head -n 1; echo done",
        "stderr = \"socket\"\n",
    );
    let _daemon = Setup::new(&dir, &table)
        .through(&["/bin/sh", "-c", "trap '' PIPE; exec \"$@\"", "sh"])
        .start();
    assert_eq!(hear(port), "y\ndone\n");
}

fn a_grandchild_with_the_socket_ends_with_its_server() {
    let (dir, port) = (Dir::new(), free_port());
    // The shell waits; what holds the socket is its child's child.
    let command = "(sleep 1000 & sleep 1000 & wait) & echo started; wait";
    let daemon = Daemon::start(&dir, &shell("tree", port, command, ""));
    let mut peer = Peer::tcp(port);
    assert_eq!(peer.read_line(), "started\n");
    let tree = daemon.wait_servers(4);
    daemon.signal(Signal::SIGTERM);
    until("a closed port", SOON, || {
        Peer::try_tcp(port).is_err().then_some(())
    });
    daemon.signal(Signal::SIGTERM);
    assert_eq!(peer.read_all(), b"", "somebody still holds the connection");
    assert!(daemon.wait_end(SOON).is_some());
    let left: Vec<Pid> = tree
        .into_iter()
        .filter(|&pid| process::is_alive(pid))
        .collect();
    assert!(left.is_empty(), "still running: {left:?}");
}

fn mapped_peers_are_ipv4_in_rules_and_variables() {
    let (dir, port, denied) = (Dir::new(), free_port(), free_port());
    let env = "echo $REMOTE_HOST $TCPREMOTEIP $TCPLOCALIP $PROTO";
    let dual = |text: String| text.replace("tcp:127.0.0.1:", "tcp:");
    let table = dual(shell(
        "env",
        port,
        env,
        "allow = [\"127.0.0.1/32\"]\nper_source = 50\n",
    )) + &dual(shell("denied", denied, env, "deny = [\"127.0.0.0/8\"]\n"));
    let daemon = Daemon::start(&dir, &table);
    assert_eq!(hear(port), "127.0.0.1 127.0.0.1 127.0.0.1 TCP\n");
    assert_eq!(hear(denied), "");
    assert_eq!(Peer::tcp_from([127, 0, 0, 2], port).read_text(), "");
    let v6 = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, denied));
    assert_eq!(Peer::to(v6).read_text(), "::1 ::1 ::1 TCP\n");
    assert!(
        !daemon.log.text().contains("::ffff:"),
        "a mapped address in the log"
    );
}

/// A step of the host's clock would disturb whoever shares it, and a time
/// namespace moves only the monotonic clocks; so the proof is in the source:
/// the wall clock is read where a time of day is wanted, and nowhere else.
fn no_deadline_depends_on_the_clock_on_the_wall() {
    const WALL: [&str; 4] = [
        "SystemTime::now",
        "CLOCK_REALTIME",
        "gettimeofday",
        "Utc::now",
    ];
    // The time stamp of a log line; daytime and time; `hours`, and the turn of
    // the minute at which they are looked at again.
    // (The lists of system calls that cages allow name them, and call none.)
    // Events and bans are told with the date, and a ban outlasts the process.
    // usherctl shows dates to a person; so does the audit log. Lists of addresses and what
    // operations keep (backups, seats, keys) outlast the process too. How long ago a directory
    // was changed is known by that clock alone; set back or forward, nothing is believed that is wrong.
    const MAY: [&str; 15] = [
        "src/admin/audit/log.rs",
        "src/admin/lists.rs",
        "src/admin/operations/",
        "src/ctl/",
        "src/sandbox/calls/",
        "src/sandbox/keeper/known.rs",
        "src/front/events.rs",
        "src/helper/admin/bans.rs",
        "src/front/hours.rs",
        "src/front/cage/",
        "src/logging/",
        "src/sys/clock.rs",
        "src/front/builtin/",
        "src/front/services.rs",
        "src/front/poll_set.rs",
    ];
    let mut read = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut read,
    );
    assert!(read.len() > 10, "the source is not where it was");
    for path in read {
        let name = path.display().to_string();
        if MAY.iter().any(|word| name.contains(word)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("unable to read the source");
        // Inline tests come last.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in WALL {
            assert!(
                !code.contains(word),
                "{name} reads the clock on the wall: {word}"
            );
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder)
        .expect("unable to list the source")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn a_missing_program_closes_the_connection_and_is_tried_again() {
    let (dir, port, good) = (Dir::new(), free_port(), free_port());
    let path = dir.file("later");
    let table = format!(
        "[service.later]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{path}\"]\n{}",
        cat(good, "")
    );
    let daemon = Daemon::start(&dir, &table);
    assert_eq!(hear(port), "");
    let line = daemon.log.wait_after(0, &["later", "step=exec"]);
    assert!(
        line.contains("No such file") || line.contains("os error 2") || line.contains("errno=2"),
        "{line}"
    );
    assert_eq!(ask(good, "x"), "x");
    dir.script("later", "#!/bin/sh\necho here now\n");
    until("the program that has come", SOON * 2, || {
        (hear(port) == "here now\n").then_some(())
    });
}

fn a_program_that_cannot_be_entered_names_the_step() {
    let (dir, port) = (Dir::new(), free_port());
    let path = dir.write("plain.txt", "no program\n");
    let table = format!("[service.text]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{path}\"]\n");
    let daemon = Daemon::start(&dir, &table);
    assert_eq!(hear(port), "");
    let line = daemon.log.wait_after(0, &["text", "step=exec"]);
    assert!(
        line.contains("Permission denied") || line.contains("os error 13"),
        "{line}"
    );
}

fn a_crashing_server_never_closes_its_port() {
    let (dir, port) = (Dir::new(), free_port());
    let flag = dir.open_folder("flag") + "/good";
    let command = format!("[ -e {flag} ] && exec echo well; kill -SEGV $$");
    let daemon = Daemon::start(&dir, &shell("crash", port, &command, ""));
    let listeners = process::listeners(port);
    for _ in 0..60 {
        assert_eq!(hear(port), "");
    }
    assert_eq!(
        process::listeners(port),
        listeners,
        "the port was closed in between"
    );
    std::fs::write(&flag, "").expect("unable to write");
    until("a server that lives", SOON * 2, || {
        (hear(port) == "well\n").then_some(())
    });
    assert!(daemon.is_running());
}

fn a_server_that_leaves_its_socket_nonblocking_harms_nobody() {
    let (dir, port, good) = (Dir::new(), free_port(), free_port());
    let program = dir.script(
        "server",
        "#!/usr/bin/perl\nuse Fcntl;\nfcntl(STDIN, F_SETFL, fcntl(STDIN, F_GETFL, 0) | O_NONBLOCK);\n\
         my $p = recv(STDIN, my $b, 100, 0); send(STDOUT, \"got $b\", 0, $p);\n",
    );
    let table = format!(
        "[service.rude]\nlisten = \"udp:127.0.0.1:{port}\"\nexec = [\"{program}\"]\n{}",
        cat(good, "")
    );
    let _daemon = Daemon::start(&dir, &table);
    for nth in 0..5 {
        assert_eq!(
            UdpPeer::new(port).ask(&format!("{nth}")),
            format!("got {nth}")
        );
        assert_eq!(ask(good, "x"), "x");
    }
}

fn a_slow_client_of_one_service_does_not_delay_another() {
    let (dir, slow, good) = (Dir::new(), free_port(), free_port());
    let table = format!(
        "[service.chargen]\nlisten = \"tcp:127.0.0.1:{slow}\"\nbuiltin = \"chargen\"\n{}",
        cat(good, "")
    );
    let _daemon = Daemon::start(&dir, &table);
    let _deaf: Vec<Peer> = (0..20).map(|_| Peer::tcp(slow)).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut greedy = Peer::tcp(slow);
            while !stop.load(Ordering::Relaxed) {
                let _ = greedy.read_exact(10_000);
            }
        });
        for _ in 0..50 {
            let began = Instant::now();
            assert_eq!(ask(good, "x"), "x");
            assert!(
                began.elapsed() < Duration::from_secs(1),
                "{:?}",
                began.elapsed()
            );
        }
        stop.store(true, Ordering::Relaxed);
    });
}

fn a_banner_to_a_peer_that_does_not_read_blocks_nothing() {
    let (dir, port) = (Dir::new(), free_port());
    let table = cat(
        port,
        "deny = [\"127.0.0.2/32\"]\nbanner = { refused = \"go away\\n\" }\n",
    );
    let daemon = Daemon::start(&dir, &table);
    let _deaf: Vec<Peer> = (0..50)
        .map(|_| Peer::tcp_from([127, 0, 0, 2], port))
        .collect();
    assert_eq!(ask(port, "x"), "x");
    for _ in 0..20 {
        let mut peer = Peer::tcp_from([127, 0, 0, 2], port);
        peer.send("bytes nobody reads");
        peer.reset();
    }
    assert_eq!(ask(port, "y"), "y");
    assert!(daemon.is_running());
}
