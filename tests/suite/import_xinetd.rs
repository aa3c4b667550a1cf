//! `usherd import` of an xinetd.conf: the same requests get the same answers from
//! xinetd with the old file and from usherd with the table that comes of it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::common::daemon::{Setup, USHERD};
use crate::common::peer::UdpPeer;
use crate::common::*;
use crate::tests;

tests![
    an_imported_table_answers_and_refuses_as_xinetd_did,
    xinetd_itself_answers_and_refuses_so,
    the_files_of_the_package_xinetd_become_a_table,
    a_socket_unit_becomes_a_service,
];

const FRIEND: [u8; 4] = [127, 0, 0, 1];
const OTHER: [u8; 4] = [127, 0, 0, 2];

/// The services that are asked, each at a port of its own.
struct Old {
    text: String,
    ports: Vec<u16>,
}

/// An xinetd.conf with everything that can be asked for from outside.
fn old(dir: &Dir) -> Old {
    let tells = dir.script(
        "tells",
        "#!/bin/sh\necho \"$* $(id -un):$(id -gn) $(umask) $A $(ulimit -n) $(ulimit -t)\"\n",
    );
    let named = dir.script("named", "#!/usr/bin/env python3\nprint('named')\n");
    let holds = dir.script("holds", "#!/bin/sh\necho here\nread line\n");
    let warns = dir.script("warns", "#!/bin/sh\necho to the peer >&2\n");
    let greeting = dir.write("greeting", "welcome\n");
    let refusal = dir.write("refusal", "go away\n");
    let mut text = format!("defaults\n{{\n cps = 200 1\n banner_fail = {refusal}\n}}\n");
    let mut ports = Vec::new();
    let mut service = |server: &str, lines: &str| {
        let port = free_port();
        ports.push(port);
        text.push_str(&format!(
            "service s{0}\n{{\n type = UNLISTED\n port = {port}\n bind = 127.0.0.1\n socket_type = stream\n \
             protocol = tcp\n wait = no\n user = nobody\n server = {server}\n{lines}\n}}\n",
            ports.len()
        ));
        port
    };
    let plain = service(
        &tells,
        " server_args = a b\n env = A=x\n umask = 027\n rlimit_files = 99\n rlimit_cpu = 7",
    );
    service(&tells, " only_from = 127.0.0.2");
    service(&tells, " no_access = 127.0.0.2");
    service(&tells, " only_from = 127.0.0.0\n no_access = 127.0.0.2");
    service(&tells, " only_from = 127.0.0.2\n no_access = 127.0.0.0");
    service(&tells, " only_from =");
    service(&tells, " group = daemon\n access_times = 0:00-23:59");
    service(&tells, " disable = yes");
    service(&tells, " access_times = 22:00-2:00");
    service(&named, &format!(" banner_success = {greeting}"));
    service(&warns, "");
    service("/bin/true", &format!(" redirect = 127.0.0.1 {plain}"));
    service(
        "/bin/sh",
        " flags = NAMEINARGS\n server_args = other -c echo${IFS}$0",
    );
    service(
        &tells,
        " instances = 5 # a comment behind a value\n no_access = 127.0.0.1/32",
    );
    let held = service(&holds, " instances = 1");
    let shared = service(&holds, " per_source = 1");
    let echo = free_port();
    text.push_str(&format!(
        "service echo\n{{\n type = INTERNAL UNLISTED\n id = echo-dgram\n port = {echo}\n bind = 127.0.0.1\n \
         socket_type = dgram\n protocol = udp\n wait = yes\n}}\n"
    ));
    ports.extend([held, shared, echo]);
    Old { text, ports }
}

/// Asks each service once from each of two addresses, then what only some can tell.
fn answers(old: &Old) -> Vec<String> {
    let [asked @ .., _, _, held, shared, echo] = old.ports.as_slice() else {
        panic!("there are more services than that")
    };
    let mut all = Vec::new();
    for (number, port) in asked.iter().enumerate() {
        for source in [FRIEND, OTHER] {
            let address = (source, 0).into();
            let answer = match Peer::try_between(address, ([127, 0, 0, 1], *port).into()) {
                Ok(mut peer) => peer.read_text(),
                Err(_) => "nobody".to_owned(),
            };
            all.push(format!(
                "s{} {}: {}",
                number + 1,
                source[3],
                answer.trim_end()
            ));
        }
    }
    all.push(format!("held {}", beside(*held, FRIEND)));
    all.push(format!("shared {}", beside(*shared, FRIEND)));
    all.push(format!("shared by another {}", beside(*shared, OTHER)));
    all.push(format!("echo {}", UdpPeer::new(*echo).ask("abc")));
    all
}

/// What somebody hears while another one holds the service.
fn beside(port: u16, source: [u8; 4]) -> String {
    // The one before may not have been reaped yet.
    let mut first = until("a free place", Duration::from_secs(20), || {
        let mut peer = Peer::tcp_from(FRIEND, port);
        (peer.read_line().trim_end() == "here").then_some(peer)
    });
    let mut second = Peer::tcp_from(source, port);
    let heard = second.read_line().trim_end().to_owned();
    for peer in [&mut first, &mut second] {
        if peer.try_send("\n") {
            let _ = peer.read_all();
        }
    }
    heard
}

const EXPECTED: &[&str] = &[
    "s1 1: a b nobody:nogroup 0027 x 99 7",
    "s1 2: a b nobody:nogroup 0027 x 99 7",
    "s2 1: go away",
    "s2 2: SERVED",
    "s3 1: SERVED",
    "s3 2: go away",
    "s4 1: SERVED",
    "s4 2: go away",
    "s5 1: go away",
    "s5 2: go away",
    "s6 1: go away",
    "s6 2: go away",
    "s7 1: SERVED daemon",
    "s7 2: SERVED daemon",
    "s8 1: nobody",
    "s8 2: nobody",
    "s9 1: nobody",
    "s9 2: nobody",
    "s10 1: welcome\nnamed",
    "s10 2: welcome\nnamed",
    "s11 1: to the peer",
    "s11 2: to the peer",
    "s12 1: a b nobody:nogroup 0027 x 99 7",
    "s12 2: a b nobody:nogroup 0027 x 99 7",
    "s13 1: other",
    "s13 2: other",
    "s14 1: go away",
    "s14 2: SERVED",
    "held go away",
    "shared go away",
    "shared by another here",
    "echo abc",
];

/// What a server says of its limits where none are set is the host's affair.
fn plain(answer: &str) -> String {
    let Some((service, said)) = answer.split_once(": ") else {
        return answer.to_owned();
    };
    let words: Vec<&str> = said.split_whitespace().collect();
    match words.as_slice() {
        [who, "0022", _, _] if who.ends_with(":nogroup") => format!("{service}: SERVED"),
        [who, "0022", _, _] if who.ends_with(":daemon") => format!("{service}: SERVED daemon"),
        _ => answer.to_owned(),
    }
}

fn are_as_expected(old: &Old) {
    let answers: Vec<String> = answers(old).iter().map(|answer| plain(answer)).collect();
    assert_eq!(answers, EXPECTED);
}

fn import(words: &[&str]) -> Output {
    let mut command = Command::new(USHERD);
    command
        .args(["import", "--no-hosts"])
        .args(words)
        .stdin(Stdio::null());
    command.output().expect("unable to run usherd")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn an_imported_table_answers_and_refuses_as_xinetd_did() {
    needs_root();
    let dir = Dir::new();
    let old = old(&dir);
    let file = dir.write("xinetd.conf", &old.text);
    let table = dir.file("imported.toml");
    let refused = import(&[&file, "--output", &table]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(
        said(&refused).contains("a comment behind it counts as values too"),
        "{}",
        said(&refused)
    );
    assert!(!Path::new(&table).exists(), "a restriction would be lost");
    let done = import(&[&file, "--allow-loss", "--output", &table]);
    assert!(done.status.success(), "{}", said(&done));
    let services = fs::read_to_string(&table).unwrap();
    let whole = format!(
        "[daemon]\nruntime_dir = \"{}\"\nstate_dir = \"{}\"\nuser = \"nobody\"\n{services}",
        dir.file("run"),
        dir.file("state")
    );
    let _daemon = Setup::raw(&dir, &whole).start();
    are_as_expected(&old);
}

/// Ended by its pid when the test is over.
struct Xinetd(Child);

impl Drop for Xinetd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A check of what the other test expects.
fn xinetd_itself_answers_and_refuses_so() {
    needs_root();
    let program = needs("xinetd", "xinetd");
    let dir = Dir::new();
    let old = old(&dir);
    let file = dir.write("xinetd.conf", &old.text);
    let log = dir.file("xinetd.log");
    let words = [
        "-dontfork",
        "-f",
        &file,
        "-filelog",
        &log,
        "-pidfile",
        &dir.file("pid"),
    ];
    let child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .spawn();
    let _xinetd = Xinetd(child.expect("unable to start xinetd"));
    until("xinetd to serve", Duration::from_secs(20), || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.contains("Started working").then_some(())
    });
    are_as_expected(&old);
}

fn the_files_of_the_package_xinetd_become_a_table() {
    // Other packages have their services there, which an ordinary user may not switch to.
    needs_root();
    let Some(file) = ["/etc/xinetd.conf"]
        .into_iter()
        .find(|path| Path::new(path).exists())
    else {
        skip("needs /etc/xinetd.conf (package xinetd)")
    };
    let dir = Dir::new();
    let table = dir.file("imported.toml");
    let done = import(&[file, "--output", &table]);
    assert!(done.status.success(), "{}", said(&done));
    let text = fs::read_to_string(&table).unwrap();
    assert!(text.contains("builtin = \"echo\""), "{text}");
    let checked = Command::new(USHERD)
        .args(["check", &table])
        .output()
        .expect("unable to run usherd");
    assert!(checked.status.success(), "{}", said(&checked));
}

fn a_socket_unit_becomes_a_service() {
    needs_root();
    let dir = Dir::new();
    let port = free_port();
    let tells = dir.script("tells", "#!/bin/sh\necho \"$* $(id -un) $(umask) $A\"\n");
    let unit = dir.write(
        "tells.socket",
        format!("[Socket]\nListenStream=127.0.0.1:{port}\nAccept=yes\n"),
    );
    let service = format!(
        "[Service]\nExecStart=-{tells} 'a b' $A\nStandardInput=socket\nUser=nobody\nUMask=0077\nEnvironment=A=x\n\
         NoNewPrivileges=yes\n"
    );
    dir.write("tells@.service", service);
    let table = dir.file("imported.toml");
    let done = import(&[&unit, "--output", &table]);
    assert!(done.status.success(), "{}", said(&done));
    let services = fs::read_to_string(&table).unwrap();
    let whole = format!(
        "[daemon]\nruntime_dir = \"{}\"\nuser = \"nobody\"\n{services}",
        dir.file("run")
    );
    let _daemon = Setup::raw(&dir, &whole).start();
    assert_eq!(Peer::tcp(port).read_text(), "a b x nobody 0077 x\n");
}
