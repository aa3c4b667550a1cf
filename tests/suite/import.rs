//! Old files: `usherd import`, and `[import]`, which reads them at every load.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::daemon::USHERD;
use crate::common::peer::ask;
use crate::common::*;
use crate::tests;

tests![
    an_imported_inetd_conf_serves_and_refuses_as_before,
    every_old_file_becomes_a_table_that_passes,
    a_restriction_is_not_lost_silently,
    what_cannot_be_imported_is_said_and_nothing_is_written,
    update_inetd_and_a_signal_change_what_is_served,
    a_bad_line_of_an_old_file_refuses_no_reload,
    a_service_of_the_table_stands_in_for_an_imported_one,
];

fn usherd(words: &[&str]) -> Output {
    let run = Command::new(USHERD)
        .args(words)
        .stdin(Stdio::null())
        .output();
    run.expect("unable to run usherd")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn passes(table: &str) {
    let checked = usherd(&["check", table]);
    assert!(checked.status.success(), "{}", said(&checked));
}

/// Where peers of a test are: what Peer connects from.
const FRIEND: [u8; 4] = [127, 0, 0, 1];
const FOE: [u8; 4] = [127, 0, 0, 66];

/// What a server that tells who it is says to a peer.
fn heard(source: [u8; 4], port: u16) -> String {
    Peer::tcp_from(source, port).read_text()
}

fn an_imported_inetd_conf_serves_and_refuses_as_before() {
    needs_root();
    let dir = Dir::new();
    let [wrapped, plain, warned] = [free_port(), free_port(), free_port()];
    let tells = dir.script("tells", "#!/bin/sh\necho \"$0 $* $(id -un) $(id -gn)\"\n");
    let warns = dir.script("warns", "#!/bin/sh\necho to the peer >&2\n");
    let old = dir.write(
        "inetd.conf",
        format!(
            "#:TEST: of this test\n\
             127.0.0.1:{wrapped} stream tcp nowait nobody.daemon /usr/sbin/tcpd {tells} -x\n\
             127.0.0.1:{plain} stream tcp nowait\n  nobody {tells} tells 'two words'\n\
             127.0.0.1:{warned} stream tcp4 nowait.100 nobody {warns} warns\n\
             #<off># 127.0.0.1:{plain} stream tcp nowait root {tells} tells\n"
        ),
    );
    let allow = dir.write("hosts.allow", "tells: 127.0.0.1\n");
    let deny = dir.write("hosts.deny", "ALL: ALL\n");
    let table = dir.file("imported.toml");
    let words = [
        "import",
        &old,
        "--hosts-allow",
        &allow,
        "--hosts-deny",
        &deny,
        "--output",
        &table,
    ];
    let done = usherd(&words);
    assert!(done.status.success(), "{}", said(&done));
    assert!(done.stdout.is_empty());
    assert!(
        said(&done).contains("4 entries: 3 carried over exactly, 1 with another meaning"),
        "{}",
        said(&done)
    );
    passes(&table);

    let text = fs::read_to_string(&table).unwrap();
    assert!(text.contains("#| #:TEST: of this test\n"), "{text}");
    let runtime = dir.file("run");
    let head = format!("[daemon]\nruntime_dir = \"{runtime}\"\nuser = \"nobody\"\n");
    let _daemon = Setup::raw(&dir, &format!("{head}{text}")).start();
    assert_eq!(
        heard(FRIEND, wrapped),
        format!("{tells} -x nobody daemon\n")
    );
    assert_eq!(heard(FOE, wrapped), "");
    assert_eq!(
        heard(FOE, plain),
        format!("{tells} 'two words' nobody nogroup\n")
    );
    assert_eq!(heard(FRIEND, warned), "to the peer\n");
    // Another import does not write over it.
    let again = usherd(&words);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert!(
        said(&again).contains("is there already"),
        "{}",
        said(&again)
    );
    assert_eq!(fs::read_to_string(&table).unwrap(), text);
}

fn every_old_file_becomes_a_table_that_passes() {
    needs_root();
    let dir = Dir::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/old");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let mut seen = 0;
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let table = dir.file(&format!("{name}.toml"));
        let words = [
            "import",
            file.to_str().unwrap(),
            "--no-hosts",
            "--allow-loss",
            "--output",
            &table,
        ];
        let done = usherd(&words);
        assert!(done.status.success(), "{name}: {}", said(&done));
        passes(&table);
        let text = fs::read_to_string(&table).unwrap();
        assert!(text.contains("[service."), "{name}: {text}");
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} old files");
}

fn a_restriction_is_not_lost_silently() {
    let dir = Dir::new();
    let old = dir.write(
        "inetd.conf",
        "4321 stream tcp nowait root /usr/sbin/tcpd /bin/cat\n",
    );
    let deny = dir.write("hosts.deny", "cat: .foes.example\n");
    let allow = dir.file("no-such-file");
    let words = [
        "import",
        &old,
        "--hosts-allow",
        &allow,
        "--hosts-deny",
        &deny,
    ];
    let stopped = usherd(&words);
    assert_eq!(stopped.status.code(), Some(1), "{}", said(&stopped));
    assert!(stopped.stdout.is_empty());
    assert!(
        said(&stopped).contains("Restrictions that would be lost"),
        "{}",
        said(&stopped)
    );
    assert!(
        said(&stopped).contains(&format!("{deny}:1: 4321: ")),
        "{}",
        said(&stopped)
    );

    let accepted = usherd(&[&words[..], &["--allow-loss"]].concat());
    assert!(accepted.status.success(), "{}", said(&accepted));
    assert!(String::from_utf8_lossy(&accepted.stdout).contains("\n# LOST: "));
}

fn what_cannot_be_imported_is_said_and_nothing_is_written() {
    let dir = Dir::new();
    let table = dir.file("table.toml");
    let bad = dir.write("inetd.conf", "\nftp strem tcp nowait root /bin/cat cat\n");
    let done = usherd(&["import", &bad, "--output", &table]);
    assert_eq!(done.status.code(), Some(78), "{}", said(&done));
    assert!(
        said(&done).contains("inetd.conf:2:5: no type is called \"strem\""),
        "{}",
        said(&done)
    );
    assert!(said(&done).contains("^^^^^"), "{}", said(&done));
    let missing = dir.file("nowhere/inetd.conf");
    let done = usherd(&["import", &missing]);
    assert_eq!(done.status.code(), Some(78), "{}", said(&done));
    let strange = dir.write("strange", "nothing that anybody knows\n");
    let done = usherd(&["import", &strange]);
    assert_eq!(done.status.code(), Some(64), "{}", said(&done));
    assert!(said(&done).contains("--from"), "{}", said(&done));
    assert!(!Path::new(&table).exists());
}

/// A table that imports `old` and is judged by no hosts files of the host.
fn importing(dir: &Dir, old: &str, more: &str) -> String {
    let deny = dir.file("hosts.deny");
    let allow = dir.file("hosts.allow");
    format!(
        "[import]\ninetd = \"{old}\"\nhosts_allow = \"{allow}\"\nhosts_deny = \"{deny}\"\n{more}\n"
    )
}

fn update_inetd(words: &[&str]) {
    let program = needs("update-inetd", "update-inetd");
    let done = Command::new(program)
        .args(words)
        // It would look for an inetd to wake up.
        .env("UPDATE_INETD_FAKE_IT", "1")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .expect("unable to run update-inetd");
    assert!(done.status.success(), "{}", said(&done));
}

fn update_inetd_and_a_signal_change_what_is_served() {
    needs_root();
    let _ = needs("update-inetd", "update-inetd");
    let (dir, port) = (Dir::new(), free_port());
    let old = dir.write(
        "inetd.conf",
        "# by update-inetd\n#:STANDARD: standard\n#:OTHER: others\n",
    );
    let daemon = Daemon::start(&dir, &importing(&dir, &old, ""));
    let change = |words: &[&str]| {
        update_inetd(&[&["--file", &old], words].concat());
        assert!(daemon.reload_as_it_is());
    };
    let (name, entry) = (
        format!("127.0.0.1:{port}"),
        format!("127.0.0.1:{port}\tstream\ttcp\tnowait\tnobody\t/bin/cat\tcat"),
    );
    assert!(Peer::try_tcp(port).is_err());
    change(&["--group", "OTHER", "--add", &entry]);
    assert_eq!(ask(port, "added"), "added");
    change(&["--disable", &name]);
    assert!(fs::read_to_string(&old).unwrap().contains("#<off># "));
    assert!(Peer::try_tcp(port).is_err());
    change(&["--enable", &name]);
    assert_eq!(ask(port, "enabled"), "enabled");
    change(&["--remove", &name]);
    assert!(Peer::try_tcp(port).is_err());
    // Without the file there is nothing to import, and that is all.
    fs::remove_file(&old).unwrap();
    let mark = daemon.log.mark();
    assert!(daemon.reload_as_it_is());
    daemon.log.wait_after(mark, &["there is no", "inetd.conf"]);
}

fn a_bad_line_of_an_old_file_refuses_no_reload() {
    needs_root();
    let dir = Dir::new();
    let [good, lossy, taken] = [free_port(), free_port(), free_port()];
    let line = |port: u16, rest: &str| format!("127.0.0.1:{port} stream tcp nowait {rest}\n");
    let old = dir.write("inetd.conf", line(good, "nobody /bin/cat cat"));
    let own = format!("[service.own]\nlisten = \"tcp:127.0.0.1:{taken}\"\nexec = [\"/bin/cat\"]\n");
    let daemon = Daemon::start(&dir, &importing(&dir, &old, &own));
    assert_eq!(ask(good, "before"), "before");

    dir.write("hosts.deny", "cat: .foes.example\n");
    let text = [
        "ftp strem tcp nowait root /bin/cat cat\n".to_owned(),
        line(good, "nobody /bin/cat cat"),
        line(lossy, "nobody /usr/sbin/tcpd /bin/cat"),
        line(taken, "nobody /bin/cat cat"),
        line(9, "no-such-user /bin/cat cat"),
        "short\n".to_owned(),
    ];
    dir.write("inetd.conf", text.concat());
    let mark = daemon.log.mark();
    assert!(daemon.reload_as_it_is());
    for words in [
        ["WARN", "inetd.conf:1:5: no type is called \"strem\""],
        ["ERROR", "a restriction would be lost"],
        ["WARN", "is already taken by service \"own\""],
        ["WARN", "no user is named \"no-such-user\""],
        ["WARN", "inetd.conf:6:1: fields are missing"],
    ] {
        let lower = words[0].to_lowercase();
        let found = daemon.log.find(SOON, |lines| {
            let after = lines.iter().skip(mark);
            after.clone().find(|line| line.contains(words[1])).cloned()
        });
        let found = found.unwrap_or_else(|| panic!("nothing about {words:?}"));
        assert!(found.to_lowercase().contains(&lower), "{words:?}: {found}");
    }
    assert_eq!(ask(good, "after"), "after");
    assert_eq!(ask(taken, "own"), "own");
    assert!(Peer::try_tcp(lossy).is_err());
}

fn a_service_of_the_table_stands_in_for_an_imported_one() {
    needs_root();
    let (dir, old_port, new_port) = (Dir::new(), free_port(), free_port());
    let old = dir.write(
        "inetd.conf",
        format!("127.0.0.1:{old_port} stream tcp nowait nobody /bin/cat cat\n"),
    );
    let own = format!(
        "[service.{old_port}]\nlisten = \"tcp:127.0.0.1:{new_port}\"\nexec = [\"/bin/cat\"]\n"
    );
    let daemon = Daemon::start(&dir, &importing(&dir, &old, &own));
    daemon.log.wait_for("of the table stands in its place");
    assert_eq!(ask(new_port, "new"), "new");
    assert!(Peer::try_tcp(old_port).is_err());

    // Without it the old line counts, and no file of ours has it to edit.
    let builtin =
        format!("[service.d]\nlisten = \"tcp:127.0.0.1:{new_port}\"\nbuiltin = \"discard\"\n");
    assert!(daemon.reload(&dir, &importing(&dir, &old, &builtin)));
    assert_eq!(ask(old_port, "old"), "old");
    let runtime = dir.file("run");
    let ctl = env!("CARGO_BIN_EXE_usherctl");
    let refused = Command::new(ctl)
        .args(["--runtime-dir", &runtime, "disable", &old_port.to_string()])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(
        said(&refused).contains("update-inetd --disable"),
        "{}",
        said(&refused)
    );
    assert_eq!(ask(old_port, "still"), "still");
}
