//! A new table: sockets and instances survive, a bad file changes nothing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::common::peer::ask;
use crate::common::*;
use crate::programs::DATAGRAM_LOOP;
use crate::tests;

tests![
    a_new_service_answers_after_a_reload,
    a_changed_program_serves_new_connections_only,
    no_bad_file_stops_anything: 120,
    a_refused_table_says_why_with_line_and_column,
    an_unchanged_address_keeps_its_socket_and_its_queue,
    a_removed_service_closes_but_its_instance_goes_on,
    a_removed_service_that_comes_back_counts_its_old_instance,
    a_removed_service_may_still_complain,
    an_address_can_move_from_one_service_to_another,
    a_changed_bind_while_a_datagram_server_runs,
    from_one_address_to_all_and_back,
    who_waits_at_an_address_that_goes_is_served,
    a_renamed_service_keeps_the_port_open,
    a_changed_device_is_put_in_force,
    a_datagram_service_can_be_renamed_while_its_server_runs,
    many_reloads_in_a_row_lose_no_connection,
    a_signal_before_ready_is_not_lost,
    limits_change_with_the_table_and_count_what_runs,
    a_mended_program_is_tried_at_once_after_a_reload,
];

fn service(name: &str, port: u16, more: &str) -> String {
    format!("[service.{name}]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\n{more}\n")
}

fn says(name: &str, port: u16, word: &str) -> String {
    format!(
        "[service.{name}]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/echo\", \"{word}\"]\n"
    )
}

fn echoes(peer: &mut Peer, line: &str) {
    peer.send(line);
    assert_eq!(peer.read_line(), line);
}

fn a_new_service_answers_after_a_reload() {
    let (dir, one, two) = (Dir::new(), free_port(), free_port());
    let daemon = Daemon::start(&dir, &service("one", one, ""));
    assert!(Peer::try_tcp(two).is_err());
    assert!(daemon.reload(&dir, &(service("one", one, "") + &service("two", two, ""))));
    assert_eq!(ask(two, "new"), "new");
    assert_eq!(ask(one, "old"), "old");
}

fn a_changed_program_serves_new_connections_only() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &service("s", port, ""));
    let mut held = Peer::tcp(port);
    echoes(&mut held, "old\n");
    assert!(daemon.reload(&dir, &says("s", port, "new")));
    assert_eq!(ask(port, ""), "new\n");
    echoes(&mut held, "still old\n");
}

/// What has become of the file of the table.
enum Spoiled {
    Missing,
    Folder,
    Text(Vec<u8>),
}

fn no_bad_file_stops_anything() {
    let (dir, port) = (Dir::new(), free_port());
    let good = daemon::table(&dir, &service("cat", port, ""));
    let daemon = Daemon::start(&dir, &service("cat", port, ""));
    let mut held = Peer::tcp(port);
    echoes(&mut held, "before\n");
    let (listeners, front) = (process::listeners(port), daemon.front());
    let path = Path::new(&daemon.config);
    let write = |text: &[u8]| fs::write(path, text).expect("unable to write the table");
    let with = |more: &str| Spoiled::Text(format!("{good}\n{more}\n").into_bytes());
    let bad = [
        ("missing", Spoiled::Missing),
        ("empty", Spoiled::Text(Vec::new())),
        (
            "only a comment",
            Spoiled::Text(b"# nothing here\n".to_vec()),
        ),
        (
            "half-written",
            Spoiled::Text(good.as_bytes()[..good.len() - 9].to_vec()),
        ),
        ("a syntax error", with("listen = = 3")),
        ("an unknown key", with("lissten = \"tcp:1\"")),
        ("an unknown section", with("[sevrice.x]")),
        ("a wrong type", with("instances = \"many\"")),
        ("the same name twice", with(&service("cat", 1, ""))),
        ("binary garbage", Spoiled::Text(Seeded::new(3).bytes(5_000))),
        ("a folder", Spoiled::Folder),
    ];
    for (what, how) in bad {
        match how {
            Spoiled::Text(text) => write(&text),
            Spoiled::Missing => fs::remove_file(path).expect("unable to remove"),
            Spoiled::Folder => {
                fs::remove_file(path).expect("unable to remove");
                fs::create_dir(path).expect("unable to create");
            }
        }
        assert!(!daemon.reload_as_it_is(), "{what}: taken for a table");
        assert_eq!(ask(port, what), what, "{what}: no longer served");
        echoes(&mut held, "still here\n");
        assert_eq!(
            process::listeners(port),
            listeners,
            "{what}: the listener changed"
        );
        assert_eq!(daemon.front(), front, "{what}: the front was replaced");
    }
    fs::remove_dir(path).expect("unable to remove");
    write(good.as_bytes());
    assert!(
        daemon.reload_as_it_is(),
        "a good table is refused after bad ones"
    );
    assert_eq!(ask(port, "good again"), "good again");
    echoes(&mut held, "to the end\n");
}

fn a_refused_table_says_why_with_line_and_column() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &service("cat", port, ""));
    let mark = daemon.log.mark();
    let table = service("cat", port, "instanecs = 3\n");
    assert!(!daemon.reload(&dir, &table));
    let line = daemon::table(&dir, &table)
        .lines()
        .position(|l| l.starts_with("instanecs"));
    let place = format!("usherd.toml:{}:1", line.expect("the line is there") + 1);
    daemon.log.wait_after(mark, &[&place]);
    daemon.log.wait_after(mark, &["instances"]);
}

fn an_unchanged_address_keeps_its_socket_and_its_queue() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let daemon = Daemon::start(&dir, &service("cat", port, ""));
    let (listeners, front) = (process::listeners(port), daemon.front());
    process::kill(front, Signal::SIGSTOP);
    // The stopped front accepts nothing: these wait in the queue of the listener.
    let mut queued: Vec<Peer> = (0..10).map(|_| Peer::tcp(port)).collect();
    for peer in &mut queued {
        peer.send("queued\n");
    }
    let table = service("cat", port, "instances = 50\n") + &service("more", other, "");
    fs::write(&daemon.config, daemon::table(&dir, &table)).expect("unable to write the table");
    let mark = daemon.log.mark();
    daemon.signal(Signal::SIGHUP);
    process::kill(front, Signal::SIGCONT);
    daemon.log.wait_after(mark, &["reloaded"]);
    for peer in &mut queued {
        assert_eq!(peer.read_line(), "queued\n", "a queued connection was lost");
    }
    assert_eq!(process::listeners(port), listeners);
    assert_eq!(ask(other, "new"), "new");
}

fn a_removed_service_closes_but_its_instance_goes_on() {
    let (dir, stays, goes) = (Dir::new(), free_port(), free_port());
    let daemon = Daemon::start(
        &dir,
        &(service("stays", stays, "") + &service("goes", goes, "")),
    );
    let mut held = Peer::tcp(goes);
    echoes(&mut held, "before\n");
    assert!(daemon.reload(&dir, &service("stays", stays, "")));
    until("a closed port", SOON, || {
        Peer::try_tcp(goes).is_err().then_some(())
    });
    echoes(&mut held, "after\n");
    held.finish();
    assert_eq!(held.read_all(), b"");
    daemon.wait_servers(0);
    assert_eq!(ask(stays, "x"), "x");
}

fn a_removed_service_that_comes_back_counts_its_old_instance() {
    let (dir, stays, goes) = (Dir::new(), free_port(), free_port());
    let both = service("stays", stays, "") + &service("goes", goes, "instances = 1\n");
    let daemon = Daemon::start(&dir, &both);
    let mut held = Peer::tcp(goes);
    echoes(&mut held, "before\n");
    assert!(daemon.reload(&dir, &service("stays", stays, "")));
    assert!(daemon.reload(&dir, &both));
    let mut next = until("an open port", SOON, || Peer::try_tcp(goes).ok());
    next.send("next\n");
    assert!(
        next.hears_nothing_for(Duration::from_millis(300)),
        "two instances instead of one"
    );
    held.finish();
    assert_eq!(next.read_line(), "next\n");
}

/// Answers each line on both sides.
const COMPLAINS: &str = r#"#!/usr/bin/perl
$| = 1;
while (<STDIN>) { print STDERR "heard $_"; print "heard $_" }
"#;

fn a_removed_service_may_still_complain() {
    let (dir, one, two) = (Dir::new(), free_port(), free_port());
    let program = dir.script("server", COMPLAINS);
    let loud =
        format!("[service.loud]\nlisten = \"tcp:127.0.0.1:{one}\"\nexec = [\"{program}\"]\n");
    let other = service("other", two, "");
    let daemon = Daemon::start(&dir, &(loud + &other));
    let mut peer = Peer::tcp(one);
    peer.send("first\n");
    assert_eq!(peer.read_line(), "heard first\n");
    assert!(daemon.reload(&dir, &other));
    process::kill(daemon.front(), Signal::SIGKILL);
    daemon.log.wait_for("the front ended");
    peer.send("second\n");
    assert_eq!(peer.read_line(), "heard second\n");
    daemon.log.wait_for("heard second");
}

fn an_address_can_move_from_one_service_to_another() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let daemon = Daemon::start(&dir, &(says("a", port, "a") + &says("b", other, "b")));
    assert_eq!(
        (ask(port, ""), ask(other, "")),
        ("a\n".into(), "b\n".into())
    );
    assert!(daemon.reload(&dir, &(says("a", other, "a") + &says("b", port, "b"))));
    until("swapped addresses", SOON, || {
        (ask(port, "") == "b\n" && ask(other, "") == "a\n").then_some(())
    });
}

fn datagram(dir: &Dir, listen: &str) -> String {
    let program = dir.script("server", DATAGRAM_LOOP);
    format!("[service.dgram]\nlisten = \"{listen}\"\nexec = [\"{program}\"]\n")
}

fn a_changed_bind_while_a_datagram_server_runs() {
    let (dir, old, new) = (Dir::new(), free_port(), free_port());
    let daemon = Daemon::start(&dir, &datagram(&dir, &format!("udp:127.0.0.1:{old}")));
    let pid = |answer: String| answer.rsplit(' ').next().map(str::to_owned);
    let before = pid(UdpPeer::new(old).ask("one"));
    assert!(daemon.reload(&dir, &datagram(&dir, &format!("udp:127.0.0.1:{new}"))));
    let after = pid(UdpPeer::new(new).ask("two"));
    assert_ne!(before, after, "the new address has a server of its own");
    daemon.wait_servers(0);
    assert!(
        process::udp_sockets(old).is_empty(),
        "the old socket is still open"
    );
}

fn from_one_address_to_all_and_back() {
    let (dir, port) = (Dir::new(), free_port());
    let one = datagram(&dir, &format!("udp4:127.0.0.1:{port}"));
    let all = datagram(&dir, &format!("udp4:{port}"));
    let daemon = Daemon::start(&dir, &one);
    assert!(UdpPeer::new(port).ask("one").starts_with("one "));
    for (nth, table) in [&all, &one, &all].into_iter().enumerate() {
        assert!(daemon.reload(&dir, table));
        // The old server still holds the old address for up to three seconds.
        until(&format!("an answer after change {nth}"), SOON * 2, || {
            let peer = UdpPeer::new(port);
            peer.try_ask("again", Duration::from_millis(500))
        });
    }
}

fn who_waits_at_an_address_that_goes_is_served() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &service("s", port, ""));
    let front = daemon.front();
    process::kill(front, Signal::SIGSTOP);
    let mut peers: Vec<_> = (0..40).map(|_| Peer::tcp(port)).collect();
    let all = service("s", port, "").replace("127.0.0.1:", "");
    fs::write(&daemon.config, daemon::table(&dir, &all)).expect("unable to write the table");
    let mark = daemon.log.mark();
    daemon.signal(Signal::SIGHUP);
    // The helper has told the front once it holds both sockets.
    until("the new socket", SOON, || {
        (process::listeners(port).len() == 2).then_some(())
    });
    process::kill(front, Signal::SIGCONT);
    daemon.log.wait_after(mark, &["reloaded"]);
    for peer in &mut peers {
        echoes(peer, "served\n");
    }
}

fn a_renamed_service_keeps_the_port_open() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &service("old", port, ""));
    let mut held = Peer::tcp(port);
    echoes(&mut held, "before\n");
    let listeners = process::listeners(port);
    assert!(daemon.reload(&dir, &service("new", port, "")));
    assert_eq!(ask(port, "x"), "x");
    assert_eq!(
        process::listeners(port),
        listeners,
        "the same address, the same socket"
    );
    echoes(&mut held, "after\n");
}

fn a_changed_device_is_put_in_force() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &service("s", port, ""));
    let before = process::listeners(port);
    let on_loopback = service("s", port, "socket = { device = \"lo\" }");
    assert!(daemon.reload(&dir, &on_loopback));
    let after = process::listeners(port);
    assert_ne!(
        before, after,
        "the old socket takes packets of every device"
    );
    assert_eq!(ask(port, "x"), "x");
    assert!(daemon.reload(&dir, &on_loopback));
    assert_eq!(process::listeners(port), after);
}

fn a_datagram_service_can_be_renamed_while_its_server_runs() {
    let (dir, port) = (Dir::new(), free_port());
    let old = datagram(&dir, &format!("udp:127.0.0.1:{port}"));
    let daemon = Daemon::start(&dir, &old);
    assert!(UdpPeer::new(port).ask("one").starts_with("one "));
    assert!(daemon.reload(&dir, &old.replace("service.dgram", "service.other")));
    daemon.wait_servers(0);
    assert!(UdpPeer::new(port).ask("two").starts_with("two "));
}

fn many_reloads_in_a_row_lose_no_connection() {
    let (dir, port) = (Dir::new(), free_port());
    let table = |n: usize| service("cat", port, &format!("instances = {}\n", 100 + n));
    let daemon = Daemon::start(&dir, &table(0));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let served = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut served = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(ask(port, "x"), "x");
                served += 1;
            }
            served
        });
        for nth in 1..=20 {
            assert!(daemon.reload(&dir, &table(nth)), "reload {nth} refused");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        asking.join().expect("a connection was lost")
    });
    assert!(served > 0);
}

fn a_signal_before_ready_is_not_lost() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Setup::new(&dir, &service("cat", port, "")).start();
    // Ten at once may become one reload, never none.
    let mark = daemon.log.mark();
    fs::write(
        &daemon.config,
        daemon::table(&dir, &says("cat", port, "new")),
    )
    .expect("unable to write");
    for _ in 0..10 {
        daemon.signal(Signal::SIGHUP);
    }
    daemon.log.wait_after(mark, &["reloaded"]);
    until("the new table", SOON, || {
        (ask(port, "") == "new\n").then_some(())
    });
}

fn limits_change_with_the_table_and_count_what_runs() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &service("cat", port, "instances = 5\n"));
    let mut held: Vec<Peer> = (0..3).map(|_| Peer::tcp(port)).collect();
    held.iter_mut().for_each(|peer| echoes(peer, "hold\n"));
    assert!(daemon.reload(
        &dir,
        &service("cat", port, "instances = 2\non_full = \"queue\"\n")
    ));
    let mut next = Peer::tcp(port);
    next.send("next\n");
    assert!(next.hears_nothing_for(Duration::from_millis(300)));
    held.pop();
    daemon.wait_servers(2);
    assert!(
        next.hears_nothing_for(Duration::from_millis(300)),
        "two still run, two may"
    );
    held.pop();
    assert_eq!(next.read_line(), "next\n");
    echoes(&mut held[0], "undisturbed\n");
}

fn a_mended_program_is_tried_at_once_after_a_reload() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.file("program");
    let services =
        format!("[service.x]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{program}\"]\n");
    let daemon = Daemon::start(&dir, &services);
    let mut waiting = Vec::new();
    until("it rests", SOON, || {
        waiting.push(Peer::tcp(port));
        (daemon.log.count(&["resting after failed starts"]) >= 2).then_some(())
    });
    drop(waiting);
    std::os::unix::fs::symlink("/bin/echo", &program).expect("a link");
    let since = std::time::Instant::now();
    assert!(daemon.reload(&dir, &services));
    assert_eq!(ask(port, ""), "\n");
    // The second rest that is logged lasts for more than twice as long.
    assert!(since.elapsed() < Duration::from_secs(1));
}
