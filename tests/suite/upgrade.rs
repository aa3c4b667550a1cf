//! One usherd after the other in the same process (`usherctl upgrade`): no
//! connection is lost, no server ends, nothing is forgotten.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use socket2::Type;

use crate::common::opening::proxy1;
use crate::common::*;
use crate::programs::DATAGRAM_LOOP;
use crate::shared_port::*;
use crate::tests;
use crate::usherctl::{says, usherctl};

tests![
    two_hundred_connections_a_second_lose_none_over_ten_upgrades,
    a_running_server_is_counted_and_limited_and_its_end_is_known,
    a_running_server_is_ended_by_who_did_not_start_it,
    the_run_time_of_a_server_goes_on,
    what_the_front_answers_is_answered_to_its_end,
    the_undecided_are_served_by_the_next,
    what_a_proxy_said_is_not_asked_again,
    who_waits_for_a_place_goes_on_waiting,
    who_names_a_tcpmux_service_gets_it,
    unix_sockets_stay_where_they_are,
    a_server_keeps_the_socket_that_it_owns,
    datagram_services_that_share_a_port_stay_apart,
    what_an_operator_holds_stays_held,
    what_was_frozen_goes_on,
    sandboxes_stand_as_long_as_their_servers,
    a_program_that_cannot_take_over_is_refused,
    a_wrong_table_refuses_the_upgrade,
    an_upgrade_may_bring_a_new_table,
    a_program_that_others_may_change_is_refused,
    a_drain_ends_what_old_fronts_still_serve,
];

/// Opens connections at fixed moments, whatever becomes of those before, as the
/// world does; a client that waits for its answer before it comes again would
/// hide a gap.
pub struct Load {
    going: std::sync::Arc<AtomicBool>,
    thread: thread::JoinHandle<BTreeMap<String, usize>>,
}

impl Load {
    /// `per_second` of them, in turn to each of `ports`, which send back what they get.
    pub fn start(ports: &[u16], per_second: u32) -> Self {
        let going = std::sync::Arc::new(AtomicBool::new(true));
        let (ports, flag) = (ports.to_vec(), std::sync::Arc::clone(&going));
        let thread = thread::spawn(move || {
            let (began, pause) = (Instant::now(), Duration::from_secs(1) / per_second);
            let mut clients = Vec::new();
            for number in 0.. {
                if !flag.load(Ordering::Relaxed) {
                    break;
                }
                // The pace is what this is about.
                thread::sleep((began + pause * number).saturating_duration_since(Instant::now()));
                let port = ports[number as usize % ports.len()];
                clients.push(thread::spawn(move || client(port, number)));
            }
            let mut outcomes = BTreeMap::new();
            for outcome in clients.into_iter().map(|client| client.join().unwrap()) {
                *outcomes.entry(outcome).or_default() += 1;
            }
            outcomes
        });
        Self { going, thread }
    }

    /// Ends it. How many connections had which end; "served" is the good one.
    pub fn stop(self) -> BTreeMap<String, usize> {
        self.going.store(false, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn client(port: u16, number: u32) -> String {
    let mut peer = match Peer::try_tcp(port) {
        Ok(peer) => peer.patience(Duration::from_secs(60)),
        Err(err) => return format!("port {port}: connect: {err}"),
    };
    let question = format!("a line of client {number}\n");
    if !peer.try_send(&question) {
        return format!("port {port}: unable to send");
    }
    match peer.read_line() {
        answer if answer == question => {}
        other => return format!("port {port}: answer {other:?}"),
    }
    match peer.finish().read_text() {
        rest if rest.is_empty() => "served".into(),
        rest => format!("port {port}: more: {rest:?}"),
    }
}

/// A copy of the binary under test, in the place of which another may come.
pub fn own_program(dir: &Dir) -> String {
    let path = dir.file("usherd");
    copy_program(daemon::USHERD.as_ref(), path.as_ref());
    path
}

/// Another file in its place, as a package manager does it.
fn install(dir: &Dir, program: &str, content: &[u8], mode: u32) {
    let (draft, new) = (dir.write("usherd.draft", content), dir.file("usherd.new"));
    copy_program(draft.as_ref(), new.as_ref());
    set_mode(new.as_ref(), mode);
    fs::rename(new, program).unwrap();
}

fn start(dir: &Dir, services: &str) -> (Daemon, String) {
    let program = own_program(dir);
    let daemon = Setup::new(dir, services).program(&program).start();
    (daemon, program)
}

fn upgrade(dir: &Dir) {
    assert!(says(dir, "upgrade").contains("has taken over"));
}

/// Why it was refused.
fn not_upgraded(dir: &Dir) -> String {
    let output = usherctl(dir, &["upgrade"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn echo(port: u16) -> String {
    format!("[service.echo]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"echo\"\n")
}

pub fn cat(port: u16, name: &str, more: &str) -> String {
    format!("[service.{name}]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\n{more}\n")
}

pub fn held(port: u16) -> Peer {
    let mut peer = Peer::tcp(port);
    peer.send("x\n");
    assert_eq!(peer.read_line(), "x\n");
    peer
}

fn two_hundred_connections_a_second_lose_none_over_ten_upgrades() {
    let (dir, direct, shared, front) = (Dir::new(), free_port(), free_port(), free_port());
    let services = [
        cat(direct, "direct", ""),
        cat(shared, "one", "match = { prefix = \"a line\" }"),
        cat(shared, "other", "match = { prefix = \"another\" }"),
        echo(front),
    ];
    let (daemon, _) = start(&dir, &services.concat());
    let load = Load::start(&[direct, shared, front], 200);
    for _ in 0..10 {
        upgrade(&dir);
    }
    let outcomes = load.stop();
    let served = outcomes.get("served").copied().unwrap_or(0);
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    assert!(served > 20, "{served} connections are no load");
    assert_eq!(daemon.log.count(&["has taken over"]), 10);
}

fn a_running_server_is_counted_and_limited_and_its_end_is_known() {
    let (dir, port) = (Dir::new(), free_port());
    let script = dir.script("seven", "#!/bin/sh\necho here\nread line\nexit 7\n");
    let services = format!(
        "[service.seven]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{script}\"]\n\
         instances = 1\non_full = \"refuse\"\n"
    );
    let (daemon, _) = start(&dir, &services);
    let mut first = Peer::tcp(port);
    assert_eq!(first.read_line(), "here\n");
    let before = says(&dir, "instances --json");
    upgrade(&dir);
    let (id, pid) = (
        first_instance(&before, "id"),
        first_instance(&before, "pid"),
    );
    let after = says(&dir, "instances --json");
    assert_eq!(first_instance(&after, "id"), id);
    assert_eq!(first_instance(&after, "pid"), pid);
    assert_eq!(Peer::tcp(port).read_text(), "", "there is one place only");
    first.send("go\n");
    let ended = daemon.log.wait_for("exited service=seven");
    for what in ["conn=1-1", &format!("pid={pid}"), "status=7"] {
        assert!(ended.contains(what), "{ended}");
    }
    // The front hears of it a moment after the log.
    let _next = until("there is place again", SOON, || {
        let mut next = Peer::tcp(port);
        (next.read_line() == "here\n").then_some(next)
    });
    assert!(first_instance(&says(&dir, "instances --json"), "id") > id);
}

pub fn first_instance(shown: &str, key: &str) -> u64 {
    let shown: serde_json::Value = serde_json::from_str(shown).unwrap();
    shown["instances"][0][key].as_u64().unwrap()
}

fn a_running_server_is_ended_by_who_did_not_start_it() {
    let (dir, port) = (Dir::new(), free_port());
    let script = dir.script(
        "stubborn",
        "#!/bin/sh\ntrap 'echo told' TERM\necho here\nwhile :; do read line && echo $line; done\n",
    );
    let services = format!(
        "[service.stubborn]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{script}\"]\n\
         stop = {{ grace = \"1s\" }}\n"
    );
    let (daemon, _) = start(&dir, &services);
    let mut peer = Peer::tcp(port);
    assert_eq!(peer.read_line(), "here\n");
    upgrade(&dir);
    says(&dir, "kill 1");
    assert_eq!(peer.read_line(), "told\n");
    // The grace ends in the next one.
    upgrade(&dir);
    assert_eq!(peer.read_text(), "");
    let ended = daemon.log.wait_for("killed service=stubborn");
    assert!(ended.contains("signal=9"), "{ended}");
}

fn the_run_time_of_a_server_goes_on() {
    let (dir, port) = (Dir::new(), free_port());
    let (daemon, _) = start(&dir, &cat(port, "cat", "max_runtime = \"2s\""));
    let mut peer = held(port);
    upgrade(&dir);
    assert_eq!(peer.read_text(), "");
    daemon.log.wait_for("stopping service=cat");
}

fn what_the_front_answers_is_answered_to_its_end() {
    let (dir, port) = (Dir::new(), free_port());
    let (daemon, _) = start(&dir, &echo(port));
    let mut old = held(port);
    let front = daemon.front();
    upgrade(&dir);
    let mut new = held(port);
    old.send("still\n");
    assert_eq!(old.read_line(), "still\n");
    new.send("new\n");
    assert_eq!(new.read_line(), "new\n");
    assert!(process::is_alive(front));
    assert_eq!(old.finish().read_text(), "");
    until("the end of the old front", SOON, || {
        (!process::is_alive(front)).then_some(())
    });
    assert_eq!(daemon.log.count(&["the front ended"]), 0);
    new.send("on\n");
    assert_eq!(new.read_line(), "on\n");
}

fn the_undecided_are_served_by_the_next() {
    let (dir, port) = (Dir::new(), free_port());
    let services = table(
        port,
        &[
            ("a", "{ prefix = \"what a\" }"),
            ("b", "{ prefix = \"what b\" }"),
        ],
    );
    let (daemon, _) = start(&dir, &services);
    let (mut half, mut silent) = (Peer::tcp(port), Peer::tcp(port));
    half.send("what ");
    until_undecided(&dir, 2);
    upgrade(&dir);
    half.send("b?");
    assert_eq!(server(half.finish()), "b");
    assert_eq!(half.read_text(), "what b?");
    assert_eq!(served_by(&mut silent, b"what a?"), "a");
    assert_eq!(daemon.log.count(&["refused"]), 0);
}

pub fn until_undecided(dir: &Dir, count: u64) {
    until(&format!("{count} undecided"), SOON, || {
        let shown: serde_json::Value = serde_json::from_str(&says(dir, "status --json")).unwrap();
        let shown = shown.to_string();
        shown
            .contains(&format!("\"undecided\":{count}"))
            .then_some(())
    });
}

fn what_a_proxy_said_is_not_asked_again() {
    let (dir, port) = (Dir::new(), free_port());
    let from_proxy = "proxy_protocol = [\"127.0.0.1\"]\n";
    let services = [
        on(
            port,
            "a",
            &format!("match = {{ prefix = \"a\" }}\n{from_proxy}"),
        ),
        on(
            port,
            "b",
            &format!("match = {{ prefix = \"b\" }}\n{from_proxy}"),
        ),
    ];
    let (daemon, _) = start(&dir, &services.concat());
    let mut peer = Peer::tcp(port);
    peer.send(proxy1("192.0.2.7:1234", "198.51.100.1:443"));
    until_undecided(&dir, 1);
    // The header is read when nothing is left of it in the kernel.
    let front = daemon.front();
    until("the header to be read", SOON, || {
        (unread(peer.local_port()) == Some(0)).then_some(front)
    });
    upgrade(&dir);
    peer.send("b");
    let (name, said) = greeting(&mut peer);
    assert_eq!(name, "b");
    assert_eq!(value(&said, "peer"), "192.0.2.7:1234");
    assert_eq!(value(&said, "v"), "1");
}

/// Octets that nobody has read yet of what came from this port, by /proc/net/tcp.
fn unread(from: u16) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!(":{from:04X}");
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, unread) = fields.get(4)?.split_once(':')?;
        let unread = u64::from_str_radix(unread, 16).ok();
        unread.filter(|_| fields[2].ends_with(&remote))
    })
}

fn who_waits_for_a_place_goes_on_waiting() {
    let (dir, port) = (Dir::new(), free_port());
    let small = "match = { prefix = \"a\" }\ninstances = 1\non_full = \"queue\"\n";
    let services = [
        on(port, "a", small),
        on(port, "b", "match = { prefix = \"b\" }\n"),
    ];
    let (_daemon, _) = start(&dir, &services.concat());
    let mut first = Peer::tcp(port);
    first.send("a");
    assert_eq!(server(&mut first), "a");
    let mut second = Peer::tcp(port);
    second.send("a second");
    // It is there, and has not been answered.
    assert!(second.hears_nothing_for(Duration::from_millis(200)));
    upgrade(&dir);
    assert!(second.hears_nothing_for(Duration::from_millis(200)));
    first.finish();
    assert_eq!(server(second.finish()), "a");
    assert_eq!(second.read_text(), "a second");
}

fn who_names_a_tcpmux_service_gets_it() {
    let (dir, port) = (Dir::new(), free_port());
    let services = format!(
        "[service.mux]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"tcpmux\"\n\
         [service.cat]\nlisten = \"tcpmux:+cat\"\nexec = [\"/bin/cat\"]\n"
    );
    let (_daemon, _) = start(&dir, &services);
    let mut peer = Peer::tcp(port);
    peer.send("ca");
    let name = thread::spawn(move || {
        peer.send("t\r\n");
        assert!(peer.read_line().starts_with('+'));
        peer.send("x\n");
        assert_eq!(peer.read_line(), "x\n");
    });
    upgrade(&dir);
    name.join().unwrap();
}

fn unix_sockets_stay_where_they_are() {
    let dir = Dir::new();
    let path = dir.file("socket");
    let services = format!(
        "[service.a]\nlisten = [\"unix:{path}\", \"unix:@usherd-test-{0}\"]\nexec = [\"/bin/cat\"]\nsocket = {{ mode = \"0666\" }}\n",
        process::this()
    );
    let (daemon, _) = start(&dir, &services);
    let sockets = ["run/status.sock", "run/admin.sock", "socket"].map(|name| dir.file(name));
    let inodes = || {
        sockets
            .each_ref()
            .map(|path| fs::metadata(path).unwrap().ino())
    };
    let before = inodes();
    upgrade(&dir);
    assert_eq!(inodes(), before);
    for name in [path.clone(), format!("\0usherd-test-{}", process::this())] {
        let mut peer = Peer::unix(Type::STREAM, &name);
        assert_eq!(peer.send("x\n").read_line(), "x\n");
    }
    // They are known well enough to be removed in the end.
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.exit_code(), Some(0));
    assert!(sockets.iter().all(|path| fs::metadata(path).is_err()));
}

fn a_server_keeps_the_socket_that_it_owns() {
    let (dir, port) = (Dir::new(), free_port());
    let script = dir.script("loop", DATAGRAM_LOOP);
    let services =
        format!("[service.loop]\nlisten = \"udp:127.0.0.1:{port}\"\nexec = [\"{script}\"]\n");
    let (daemon, _) = start(&dir, &services);
    let peer = UdpPeer::new(port);
    let first = peer.ask("one");
    upgrade(&dir);
    let who = |said: &str| said.rsplit(' ').next().unwrap().to_owned();
    assert_eq!(who(&peer.ask("two")), who(&first));
    // It ends by itself after three seconds; then the next one is started.
    daemon.log.wait_for("exited service=loop");
    assert_ne!(who(&peer.ask("three")), who(&first));
}

fn datagram_services_that_share_a_port_stay_apart() {
    let (dir, port) = (Dir::new(), free_port());
    let script = |name: &str| {
        let says = DATAGRAM_LOOP.replace("\"$bytes from $$\"", &format!("\"{name} got $bytes\""));
        let path = dir.script(name, &says);
        format!(
            "[service.{name}]\nlisten = \"udp:127.0.0.1:{port}\"\nmatch = {{ prefix = \"{name}\" }}\nexec = [\"{path}\"]\n"
        )
    };
    let services = [script("one"), script("two")].concat();
    let (daemon, _) = start(&dir, &services);
    let peer = UdpPeer::new(port);
    assert_eq!(peer.ask("one 1"), "one got one 1");
    for number in 0..3 {
        upgrade(&dir);
        for name in ["one", "two"] {
            let question = format!("{name} {number}");
            assert_eq!(peer.ask(&question), format!("{name} got {question}"));
        }
    }
    assert_eq!(process::udp_sockets(port).len(), 3, "two and the sink");
    for level in ["Z warn ", "Z error "] {
        assert_eq!(daemon.log.count(&[level]), 0);
    }
}

fn what_an_operator_holds_stays_held() {
    let (dir, port) = (Dir::new(), free_port());
    let (_daemon, _) = start(&dir, &cat(port, "cat", "on_full = \"refuse\""));
    says(&dir, "drain cat");
    upgrade(&dir);
    assert_eq!(Peer::tcp(port).read_text(), "");
    // The next program writes down what came of the request that the last one was asked.
    let written = says(&dir, "audit query --json --operation Upgrade").replace(' ', "");
    assert!(written.contains("\"result\":\"ok\""), "{written}");
    says(&dir, "start cat");
    drop(held(port));
}

/// Whoever froze it has lost his connection, and cannot thaw it any more.
fn what_was_frozen_goes_on() {
    for more in ["", "isolation = { preset = \"none\", cgroup = \"off\" }"] {
        let (dir, port) = (Dir::new(), free_port());
        let (_daemon, _) = start(&dir, &cat(port, "cat", more));
        let mut peer = held(port);
        let mut caller = crate::control::admin(&dir);
        let frozen: serde_json::Value = caller
            .call(
                "org.usherd.Admin.Freeze",
                &serde_json::json!({ "service": "cat" }),
            )
            .unwrap();
        assert_eq!(frozen["instances"], 1);
        peer.send("on\n");
        assert!(peer.hears_nothing_for(Duration::from_millis(100)));
        upgrade(&dir);
        assert_eq!(peer.read_line(), "on\n");
        drop(held(port));
    }
}

fn sandboxes_stand_as_long_as_their_servers() {
    needs_root();
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let services = [
        cat(port, "standard", "isolation = \"standard\""),
        cat(other, "strict", "isolation = \"strict\""),
    ];
    let (daemon, _) = start(&dir, &services.concat());
    let (mut one, mut two) = (held(port), held(other));
    upgrade(&dir);
    for (peer, port) in [(&mut one, port), (&mut two, other)] {
        drop(held(port));
        peer.send("on\n");
        assert_eq!(peer.read_line(), "on\n");
        assert_eq!(peer.finish().read_text(), "");
    }
    daemon
        .log
        .wait_count(2, &["exited", "service=standard", "status=0"]);
    daemon
        .log
        .wait_count(2, &["exited", "service=strict", "status=0"]);
}

fn a_program_that_cannot_take_over_is_refused() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let (daemon, program) = start(&dir, &[cat(port, "cat", ""), echo(other)].concat());
    let (mut running, mut talking) = (held(port), held(other));
    let says_no = "#!/bin/sh\necho it is of no use >&2\nexit 3\n";
    let cases: [(&[u8], u32, &str); 5] = [
        (b"\x7fELF of no use", 0o755, "unable to execute"),
        (says_no.as_bytes(), 0o755, "it is of no use"),
        (b"#!/bin/sh\nexit 64\n", 0o755, "restart usherd"),
        (b"#!/bin/sh\nkill -SEGV $$\n", 0o755, "died of signal 11"),
        (b"#!/bin/sh\nexit 0\n", 0o644, "chmod +x"),
    ];
    for (content, mode, why) in cases {
        install(&dir, &program, content, mode);
        let told = not_upgraded(&dir);
        assert!(told.contains(why), "{told}");
        daemon.log.wait_for("upgrade refused");
        for peer in [&mut running, &mut talking] {
            peer.send("on\n");
            assert_eq!(peer.read_line(), "on\n");
        }
        drop((held(port), held(other)));
    }
    fs::remove_file(&program).unwrap();
    assert!(not_upgraded(&dir).contains("No such file"));
    // One that says yes and cannot be executed then: the script's interpreter is gone.
    let sh = dir.script("sh", "#!/bin/sh\nrm -f \"$0\"\nexit 0\n");
    install(&dir, &program, format!("#!{sh}\n").as_bytes(), 0o755);
    let told = not_upgraded(&dir);
    assert!(told.contains("No such file"), "{told}");
    for peer in [&mut running, &mut talking] {
        peer.send("on\n");
        assert_eq!(peer.read_line(), "on\n");
    }
    drop((held(port), held(other)));
    own_program(&dir);
    upgrade(&dir);
    drop((held(port), held(other)));
}

fn a_wrong_table_refuses_the_upgrade() {
    let (dir, port) = (Dir::new(), free_port());
    let (daemon, _) = start(&dir, &cat(port, "cat", ""));
    let good = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, good.replace("exec", "exce")).unwrap();
    let told = not_upgraded(&dir);
    assert!(told.contains("exce"), "{told}");
    drop(held(port));
    fs::write(&daemon.config, good).unwrap();
    upgrade(&dir);
    drop(held(port));
}

fn an_upgrade_may_bring_a_new_table() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let (daemon, _) = start(&dir, &cat(port, "cat", ""));
    let mut running = held(port);
    fs::write(&daemon.config, daemon::table(&dir, &cat(other, "dog", ""))).unwrap();
    upgrade(&dir);
    drop(held(other));
    assert!(Peer::try_tcp(port).is_err());
    running.send("on\n");
    assert_eq!(running.read_line(), "on\n");
    assert_eq!(running.finish().read_text(), "");
    daemon.log.wait_for("exited service=cat");
}

fn a_program_that_others_may_change_is_refused() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let (_daemon, program) = start(&dir, &cat(port, "cat", ""));
    set_mode(program.as_ref(), 0o775);
    let told = not_upgraded(&dir);
    assert!(told.contains("chmod go-w"), "{told}");
    drop(held(port));
}

fn a_drain_ends_what_old_fronts_still_serve() {
    let (dir, port) = (Dir::new(), free_port());
    let (daemon, _) = start(&dir, &echo(port));
    let mut old = held(port);
    upgrade(&dir);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.exit_code(), Some(0));
    assert_eq!(old.read_text(), "");
}
