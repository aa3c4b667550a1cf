//! Who may ask what on the control sockets, and callers that mean no good.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};
use usherd::control::types::{GetDaemon, GetServices};

use crate::common::peer::{ask, hear};
use crate::common::*;
use crate::control::{socket, status};
use crate::tests;

tests![
    a_stranger_is_refused_and_counted,
    a_member_of_the_group_may_ask,
    a_server_sees_its_own_service_and_nothing_else,
    what_is_no_call_ends_the_connection_and_nothing_else,
    half_a_call_is_not_waited_for: 90,
    descriptors_that_callers_send_are_closed,
    a_thousand_idle_callers_keep_nobody_out,
    who_connects_without_end_keeps_no_peer_waiting,
    a_caller_that_does_not_read_costs_a_bounded_amount,
    calls_sent_ahead_are_answered_in_their_order,
];

const GET_DAEMON: &[u8] = b"{\"method\":\"org.usherd.Status.GetDaemon\"}\0";

fn echo(port: u16) -> String {
    format!("[service.echo]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"echo\"\n")
}

/// Asks both sockets as somebody else: what status.sock and admin.sock answer.
fn ask_as(dir: &Dir, who: &[&str]) -> [Value; 2] {
    let script = dir.write(
        "ask.py",
        r#"
import json, socket, sys
for path, method in zip(sys.argv[1:], ["Status.GetDaemon", "Admin.GetBans"]):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendall(json.dumps({"method": "org.usherd." + method}).encode() + b"\0")
    print(b"".join(iter(lambda: s.recv(1), b"\0")).decode())
"#,
    );
    let output = Command::new(needs("setpriv", "util-linux"))
        .args(who)
        .arg(needs("python3", "python3"))
        .arg(script)
        .args([socket(dir, "status.sock"), socket(dir, "admin.sock")])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut answers = said.lines().map(|line| serde_json::from_str(line).unwrap());
    [answers.next().unwrap(), answers.next().unwrap()]
}

fn denied(dir: &Dir) -> u64 {
    let told: GetDaemon = status(dir)
        .call("org.usherd.Status.GetDaemon", &json!({}))
        .unwrap();
    told.daemon.denied
}

fn a_stranger_is_refused_and_counted() {
    needs_root();
    let dir = Dir::new();
    let daemon = Daemon::start(&dir, &echo(free_port()));
    let answers = ask_as(&dir, &["--reuid=65534", "--regid=65534", "--clear-groups"]);
    for answer in answers {
        assert_eq!(answer["error"], "org.varlink.service.PermissionDenied");
    }
    assert_eq!(denied(&dir), 1);
    daemon
        .log
        .wait_for("a call on status.sock was denied: uid 65534");
    daemon
        .log
        .wait_for("a call on admin.sock was denied: uid 65534");
}

fn a_member_of_the_group_may_ask() {
    needs_root();
    let dir = Dir::new();
    let table = daemon::table(&dir, &echo(free_port())).replacen(
        "[daemon]\n",
        "[daemon]\nstatus_group = \"4321\"\nadmin_group = \"4322\"\n",
        1,
    );
    let _daemon = Setup::raw(&dir, &table).start();
    let nobody = ["--reuid=65534", "--regid=65534"];
    let [status, admin] = ask_as(&dir, &[&nobody[..], &["--groups=4321"]].concat());
    assert!(status["parameters"]["daemon"].is_object(), "{status}");
    assert_eq!(admin["error"], "org.varlink.service.PermissionDenied");
    let [status, admin] = ask_as(&dir, &["--reuid=65534", "--regid=4322", "--clear-groups"]);
    assert!(status["parameters"]["daemon"].is_object(), "{status}");
    assert!(admin["parameters"]["bans"].is_array(), "{admin}");
}

fn a_server_sees_its_own_service_and_nothing_else() {
    needs_root();
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let script = dir.write(
        "look.py",
        r#"
import json, os, socket, sys
def ask(path, method, **parameters):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\0")
    return json.loads(b"".join(iter(lambda: s.recv(1), b"\0")))
status, admin = sys.argv[1:]
if os.fork():  # a child of the server is the server too
    os.wait()
    sys.exit()
os.setsid()
S = "org.usherd.Status."
print(json.dumps([
    ask(status, S + "GetServices"),
    ask(status, S + "GetStatistics"),
    ask(status, S + "GetServices", service="echo"),
    ask(status, S + "WatchEvents", service="echo", backlog=9),
    ask(status, S + "GetDaemon"),
    ask(admin, "org.usherd.Admin.Drain", service="looks"),
]))
"#,
    );
    let python = needs("python3", "python3");
    let words = [
        python,
        script.into(),
        socket(&dir, "status.sock"),
        socket(&dir, "admin.sock"),
    ];
    let words: Vec<String> = words
        .iter()
        .map(|w| format!("\"{}\"", w.display()))
        .collect();
    let table = format!(
        "[service.looks]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [{}]\n{}",
        words.join(", "),
        echo(other)
    );
    let daemon = Daemon::start(&dir, &table);
    assert_eq!(ask(other, "x\n"), "x\n");
    let said: Vec<Value> = serde_json::from_str(&hear(port)).unwrap();
    let services: GetServices = serde_json::from_value(said[0]["parameters"].clone()).unwrap();
    let names: Vec<&str> = services.services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["looks"]);
    let figures = &said[1]["parameters"];
    assert_eq!(
        figures["services"].as_object().map(serde_json::Map::len),
        Some(1)
    );
    assert_eq!(figures["sources"], json!([]));
    assert_eq!(figures["total"]["accepted"], 1);
    for answer in &said[2..4] {
        assert_eq!(answer["error"], "org.usherd.Status.NoSuchService");
    }
    for answer in &said[4..] {
        assert_eq!(answer["error"], "org.varlink.service.PermissionDenied");
    }
    // A server that wants to change something is worth a line.
    daemon.log.wait_for("a call on admin.sock was denied: uid ");
}

/// Sends octets to a socket and reads until it is closed.
fn last_words(dir: &Dir, name: &str, octets: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket(dir, name)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let _ = stream.write_all(octets);
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => panic!("it stays open"),
        _ => said,
    }
}

fn still_served(dir: &Dir) {
    let services: GetServices = status(dir)
        .call("org.usherd.Status.GetServices", &json!({}))
        .unwrap();
    assert_eq!(services.services.len(), 1);
}

fn what_is_no_call_ends_the_connection_and_nothing_else() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &echo(port));
    let front = daemon.front();
    let deep = [b"{\"method\":".to_vec(), b"[".repeat(60_000), vec![0]].concat();
    let huge = vec![b'x'; 1 << 20];
    let mut noise = Seeded::new(7);
    let mut cases: Vec<Vec<u8>> = vec![
        b"\0".to_vec(),
        b"null\0".to_vec(),
        b"[]\0".to_vec(),
        b"{\"method\":7}\0".to_vec(),
        b"{\"method\":\"a.b\",\"parameters\":[]}\0".to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\0".to_vec(),
        b"{\"method\":\"\xff\xfe\"}\0".to_vec(),
        deep,
        huge,
    ];
    cases.extend((0..50).map(|_| [noise.bytes(300), vec![0]].concat()));
    for case in &cases {
        for name in ["status.sock", "admin.sock"] {
            // A random octet may end a message early; what follows is no call either.
            let said = last_words(&dir, name, case);
            assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
        }
    }
    // A call that asks for what is not there is answered.
    let unknown = b"{\"method\":\"org.example.X\"}\0{\"method\":\"org.usherd.Status.X\"}\0";
    let mut stream = UnixStream::connect(socket(&dir, "status.sock")).unwrap();
    stream.write_all(unknown).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(
        said.contains("InterfaceNotFound") && said.contains("MethodNotFound"),
        "{said}"
    );
    still_served(&dir);
    assert_eq!(daemon.front(), front, "the front has been replaced");
}

fn half_a_call_is_not_waited_for() {
    let dir = Dir::new();
    let _daemon = Daemon::start(&dir, &echo(free_port()));
    let mut halves: Vec<UnixStream> = ["status.sock", "admin.sock"]
        .map(|name| UnixStream::connect(socket(&dir, name)).unwrap())
        .into();
    for half in &mut halves {
        half.write_all(b"{\"method\":").unwrap();
        half.set_read_timeout(Some(Duration::from_secs(40)))
            .unwrap();
    }
    still_served(&dir);
    for half in &mut halves {
        assert_eq!(half.read(&mut [0; 1]).unwrap_or(0), 0);
    }
}

fn descriptors_that_callers_send_are_closed() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir, &echo(free_port()));
    still_served(&dir);
    let front = daemon.front();
    let count = || process::descriptors(front).len() + process::descriptors(daemon.pid).len();
    let before = count();
    let null = std::fs::File::open("/dev/null").unwrap();
    let many = [null.as_raw_fd(); 200];
    let mut senders = Vec::new();
    for name in ["status.sock", "admin.sock"] {
        let stream = UnixStream::connect(socket(&dir, name)).unwrap();
        for _ in 0..10 {
            let bytes = [std::io::IoSlice::new(b"{")];
            let rights = [ControlMessage::ScmRights(&many)];
            let flags = MsgFlags::MSG_NOSIGNAL;
            let sent = sendmsg::<()>(stream.as_raw_fd(), &bytes, &rights, flags, None);
            if sent.is_err() {
                break; // too many under way, or it has closed
            }
        }
        senders.push(stream);
    }
    still_served(&dir);
    let limit = before + 2 * senders.len() + 8;
    until("their descriptors are gone", SOON, || {
        (count() <= limit).then_some(())
    });
}

fn a_thousand_idle_callers_keep_nobody_out() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir, &echo(free_port()));
    let mut idle = Vec::new();
    for name in ["status.sock", "admin.sock"] {
        for _ in 0..500 {
            idle.push(UnixStream::connect(socket(&dir, name)).unwrap());
        }
    }
    still_served(&dir);
    let mut admin = usherd::control::client::Client::connect(&socket(&dir, "admin.sock")).unwrap();
    let _: Value = admin.call("org.usherd.Admin.GetBans", &json!({})).unwrap();
    let kept = |pid| process::descriptors(pid).len();
    until("most of them are dropped", SOON, || {
        (kept(daemon.front()) < 120 && kept(daemon.pid) < 120).then_some(())
    });
    still_served(&dir);
}

fn who_connects_without_end_keeps_no_peer_waiting() {
    for name in ["admin.sock", "status.sock"] {
        let (dir, port) = (Dir::new(), free_port());
        let table =
            format!("[service.cat]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\n");
        let _daemon = Daemon::start(&dir, &table);
        let path = socket(&dir, name);
        let (over, callers) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        drop(UnixStream::connect(&path));
                        callers.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            until("they come in a stream", SOON, || {
                (callers.load(Ordering::Relaxed) > 1_000).then_some(())
            });
            // Only the helper starts a server, and it answers callers as well.
            let said = std::panic::catch_unwind(|| ask(port, "x\n"));
            over.store(true, Ordering::Relaxed);
            assert_eq!(said.unwrap(), "x\n");
        });
    }
}

fn a_caller_that_does_not_read_costs_a_bounded_amount() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir, &echo(free_port()));
    let mut stream = UnixStream::connect(socket(&dir, "status.sock")).unwrap();
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let call = b"{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"org.usherd.Status\"}}\0";
    let mut sent = 0;
    while sent < 10_000 && stream.write_all(call).is_ok() {
        sent += 1;
    }
    assert!(sent < 10_000, "nobody holds it back");
    let resident = process::status(daemon.front(), "VmRSS").unwrap();
    let kib: u64 = resident.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kib < 64 * 1024, "the front holds {resident}");
    still_served(&dir);
}

fn calls_sent_ahead_are_answered_in_their_order() {
    let dir = Dir::new();
    let _daemon = Daemon::start(&dir, &echo(free_port()));
    let mut stream = UnixStream::connect(socket(&dir, "status.sock")).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let other = b"{\"method\":\"org.usherd.Status.GetServices\"}\0";
    let calls = [GET_DAEMON, other].concat().repeat(50);
    stream.write_all(&calls).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let answers: Vec<&str> = said.split_terminator('\0').collect();
    assert_eq!(answers.len(), 100);
    for pair in answers.chunks(2) {
        assert!(pair[0].contains("\"daemon\"") && pair[1].contains("\"services\""));
    }
}
