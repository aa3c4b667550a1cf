//! Bans: whom operators keep out, for how long, and over a restart.

use std::time::Duration;

use serde_json::json;
use usherd::control::types::GetStatistics;

use crate::common::peer::ask;
use crate::common::*;
use crate::control::{ADMIN, STATUS, cat, change, refused, status};
use crate::tests;

tests![
    a_ban_keeps_out_connections_and_datagrams_until_it_is_over,
    a_ban_reaches_a_socket_that_a_server_owns,
    bans_outlast_a_restart,
];

fn a_ban_keeps_out_connections_and_datagrams_until_it_is_over() {
    let (dir, port, udp) = (Dir::new(), free_port(), free_port());
    let table = format!(
        "{}\n[service.echo]\nlisten = \"udp:127.0.0.1:{udp}\"\nbuiltin = \"echo\"\n",
        cat(port, "")
    );
    let _daemon = Daemon::start(&dir, &table);
    let ban = json!({ "prefix": "127.0.0.0/8", "for_s": 3600, "reason": "a test" });
    let banned = change(&dir, "Ban", &ban).unwrap();
    assert_eq!(banned["ban"]["prefix"], "127.0.0.0/8");
    assert_eq!(ask(port, ""), "");
    let peer = UdpPeer::new(udp);
    peer.send("x");
    let refusals = until("both are refused", SOON, || {
        let method = format!("{STATUS}.GetStatistics");
        let reply: GetStatistics = status(&dir).call(&method, &json!({})).unwrap();
        reply
            .total
            .refused
            .get("banned")
            .copied()
            .filter(|count| *count == 2)
    });
    assert_eq!(refusals, 2);
    let listed = change(&dir, "GetBans", &json!({})).unwrap();
    assert_eq!(listed["bans"][0]["reason"], "a test");
    let shorter = json!({ "prefix": "127.0.0.0/8", "for_s": 1 });
    change(&dir, "Ban", &shorter).unwrap();
    until("the ban is over", SOON, || {
        (ask(port, "x\n") == "x\n").then_some(())
    });
    assert_eq!(peer.ask("y"), "y");
    for (prefix, error) in [
        ("127.0.0.1/8", format!("{ADMIN}.Failed")),
        (
            "localhost",
            "org.varlink.service.InvalidParameter".to_owned(),
        ),
    ] {
        let (name, _) = refused(change(&dir, "Ban", &json!({ "prefix": prefix })));
        assert_eq!(name, error);
    }
    let (name, _) = refused(change(&dir, "Unban", &json!({ "prefix": "10.0.0.0/8" })));
    assert_eq!(name, format!("{ADMIN}.NoSuchBan"));
}

fn a_ban_reaches_a_socket_that_a_server_owns() {
    let python = needs("python3", "python3");
    let (dir, port) = (Dir::new(), free_port());
    let script = dir.write(
        "answers.py",
        "import socket\ns = socket.socket(fileno=0)\nwhile True:\n    data, peer = s.recvfrom(99)\n    s.sendto(data, peer)\n",
    );
    let table = format!(
        "[service.answers]\nlisten = \"udp:127.0.0.1:{port}\"\nexec = [\"{}\", \"{script}\"]\n",
        python.display()
    );
    let daemon = Daemon::start(&dir, &table);
    let peer = UdpPeer::new(port);
    assert_eq!(peer.ask("one"), "one");
    let ban = |seconds: u64| json!({ "prefix": "127.0.0.1", "for_s": seconds });
    change(&dir, "Ban", &ban(3600)).unwrap();
    peer.send("two");
    // From another address the same server answers, and "two" has not reached it.
    let other = UdpPeer::from_source([127, 0, 0, 2], port);
    assert_eq!(other.ask("three"), "three");
    assert_eq!(peer.try_receive(Duration::from_millis(50)), None);
    change(&dir, "Reload", &json!({})).unwrap();
    peer.send("four");
    assert_eq!(other.ask("five"), "five");
    assert_eq!(peer.try_receive(Duration::from_millis(50)), None);
    change(&dir, "Ban", &ban(1)).unwrap();
    until("the ban is over", SOON, || {
        peer.try_ask("six", Duration::from_millis(100))
    });
    assert_eq!(daemon.servers().len(), 1);
}

fn bans_outlast_a_restart() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    change(&dir, "Ban", &json!({ "prefix": "127.0.0.1" })).unwrap();
    drop(daemon);
    let _daemon = Daemon::start(&dir, &cat(port, ""));
    assert_eq!(ask(port, ""), "");
    change(&dir, "Unban", &json!({ "prefix": "127.0.0.1" })).unwrap();
    assert_eq!(ask(port, "x\n"), "x\n");
}
