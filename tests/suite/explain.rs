//! `usherd explain`: the way of a request that is only imagined.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::common::daemon::USHERD;
use crate::common::*;
use crate::tests;

tests![
    a_hello_is_explained_rule_by_rule,
    bytes_come_as_hexadecimal_as_text_and_from_a_file,
    what_is_undecided_tells_what_it_waits_for_and_what_then,
    everybody_learns_how_long_clients_may_wait,
    who_waits_for_a_banner_or_for_the_end_is_told_where_it_ends,
    addresses_decide_and_refusals_are_told,
    a_proxy_header_is_read_first,
    datagrams_are_explained_by_the_tests_of_the_kernel,
    a_wrong_question_gets_a_useful_answer,
];

const TABLE: &str = r#"
[service.shop]
listen = "tcp:127.0.0.1:4443"
match = { tls.sni = ["shop.example", "*.shop.example"] }
builtin = "discard"
[service.ssh-on-443]
listen = "tcp:127.0.0.1:4443"
match = { ssh = true }
speaks_first = "server"
exec = ["/bin/cat"]
[service.near]
listen = "tcp:127.0.0.1:4443"
match = { from = "192.0.2.0/24" }
deny = ["192.0.2.66"]
builtin = "discard"
[service.rest]
listen = "tcp:127.0.0.1:4443"
builtin = "discard"
[service.behind]
listen = "tcp:127.0.0.1:4444"
match = { http = true }
proxy_protocol = ["198.51.100.0/24"]
builtin = "discard"
[service.sshd]
listen = "tcp:127.0.0.1:4446"
match = { ssh = true }
builtin = "discard"
[service.ended]
listen = "tcp:127.0.0.1:4446"
match = { eof = true }
builtin = "discard"
[service.silent]
listen = "tcp:127.0.0.1:4446"
match = { timeout = true }
builtin = "discard"
[service.abc]
listen = "unix-seqpacket:@usherd-explained"
match = { prefix = "abc" }
builtin = "discard"
[service.others]
listen = "unix-seqpacket:@usherd-explained"
builtin = "discard"
[service.names]
listen = "udp:127.0.0.1:4453"
match = { dns = true }
builtin = "discard"
[service.times]
listen = "udp:127.0.0.1:4453"
match = { ntp = true }
builtin = "discard"
"#;

fn explain(words: &[&str], stdin: &[u8]) -> Output {
    let dir = Dir::new();
    let table = dir.path().join("table.toml");
    fs::write(&table, daemon::table(&dir, TABLE)).unwrap();
    let mut child = Command::new(USHERD)
        .arg("explain")
        .args(words)
        .arg("--config")
        .arg(&table)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn explained(words: &[&str]) -> String {
    let output = explain(words, b"");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

const ADDRESS: &str = "tcp:127.0.0.1:4443";

fn a_hello_is_explained_rule_by_rule() {
    let text = explained(&[ADDRESS, "--sni", "A.Shop.Example"]);
    assert!(text.contains("server name a.shop.example"), "{text}");
    assert!(text.contains("*.shop.example\"] -- yes"), "{text}");
    assert!(text.trim_end().ends_with("=> shop"), "{text}");
    let text = explained(&[ADDRESS, "--sni", "other.example"]);
    assert!(text.contains("*.shop.example\"] -- no"), "{text}");
    assert!(text.contains("ssh = true -- no"), "{text}");
    assert!(text.trim_end().ends_with("=> rest"), "{text}");
}

fn bytes_come_as_hexadecimal_as_text_and_from_a_file() {
    for sent in [
        ["--hex", "53 53 48 2d 32 2e 30"],
        ["--text", "SSH-2.0-x\\r\\n"],
    ] {
        let text = explained(&[ADDRESS, sent[0], sent[1]]);
        assert!(text.trim_end().ends_with("=> ssh-on-443"), "{text}");
    }
    let output = explain(&[ADDRESS, "--file", "-"], b"SSH-2.0-x\r\n");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.trim_end().ends_with("=> ssh-on-443"), "{text}");
}

fn what_is_undecided_tells_what_it_waits_for_and_what_then() {
    let text = explained(&[ADDRESS, "--hex", "160301"]);
    assert!(text.contains("not yet: needs 4 bytes in all"), "{text}");
    assert!(text.contains("=> undecided"), "{text}");
    assert!(text.contains("5 s after accept"), "{text}");
    assert!(text.trim_end().ends_with("=> rest"), "{text}");
    let text = explained(&[ADDRESS, "--ended", "timeout"]);
    assert!(text.trim_end().ends_with("=> ssh-on-443"), "{text}");
    let text = explained(&[ADDRESS, "--ended", "eof"]);
    assert!(text.contains("=> closed"), "{text}");
}

fn everybody_learns_how_long_clients_may_wait() {
    let text = explained(&[ADDRESS]);
    for line in [
        "ssh-on-443: up to 2 s, the client may wait for the server's banner",
        "near: not at all",
        "shop: until its first bytes tell, up to 5 s",
    ] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
}

fn who_waits_for_a_banner_or_for_the_end_is_told_where_it_ends() {
    let text = explained(&["tcp:127.0.0.1:4446"]);
    for line in [
        "waits for the server's banner goes to silent after 2 s",
        "ended: until the wait for bytes ends: up to 5 s",
        "silent: until the wait for bytes ends: 2 s if it says nothing, else up to 5 s",
    ] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
    // Of a record there is no more to come.
    let text = explained(&["unix-seqpacket:@usherd-explained", "--text", "ab"]);
    assert!(!text.contains("undecided"), "{text}");
    assert!(text.trim_end().ends_with("=> others"), "{text}");
}

fn addresses_decide_and_refusals_are_told() {
    let text = explained(&[ADDRESS, "--from", "192.0.2.7"]);
    assert!(text.trim_end().ends_with("=> near"), "{text}");
    let text = explained(&[ADDRESS, "--from", "192.0.2.66:5000"]);
    assert!(text.contains("=> near\n   refused there"), "{text}");
    let text = explained(&[ADDRESS, "--text", "hallo"]);
    assert!(
        text.contains("no: it asks for --from, not given here"),
        "{text}"
    );
    let text = explained(&[ADDRESS, "--from", "203.0.113.1", "--text", "hallo"]);
    assert!(text.contains("meant for other addresses"), "{text}");
    assert!(text.trim_end().ends_with("=> rest"), "{text}");
}

fn a_proxy_header_is_read_first() {
    let address = "tcp:127.0.0.1:4444";
    let request = "PROXY TCP4 192.0.2.1 192.0.2.2 5 80\\r\\nGET / HTTP/1.1\\r\\n\\r\\n";
    let text = explained(&[address, "--from", "198.51.100.9", "--text", request]);
    assert!(text.contains("it brings 192.0.2.1:5"), "{text}");
    assert!(text.trim_end().ends_with("=> behind"), "{text}");
    let bare = &[
        address,
        "--from",
        "198.51.100.9",
        "--text",
        "GET / HTTP/1.1\\r\\n",
    ];
    assert!(explained(bare).contains("=> closed: no good PROXY header"));
    let text = explained(&[address, "--from", "203.0.113.1", "--text", request]);
    assert!(text.contains("=> closed: no rule"), "{text}");
}

fn datagrams_are_explained_by_the_tests_of_the_kernel() {
    let address = "udp:127.0.0.1:4453";
    let query =
        "0007010000010000000000000161047465737400000100 01".replace("00000100 01", "0000010001");
    let text = explained(&[address, "--hex", &query]);
    assert!(text.trim_end().ends_with("=> names"), "{text}");
    let ntp = format!("23{}", "00".repeat(47));
    let text = explained(&[address, "--hex", &ntp]);
    assert!(text.trim_end().ends_with("=> times"), "{text}");
    let text = explained(&[address, "--text", "hallo"]);
    assert!(text.contains("=> dropped"), "{text}");
}

fn a_wrong_question_gets_a_useful_answer() {
    for (words, says) in [
        (
            &["tcp:127.0.0.1:4445"][..],
            "these are listened at: tcp:127.0.0.1:4443",
        ),
        (&["4443"], "4443"),
        (&[ADDRESS, "--hex", "123"], "two digits"),
        (
            &[ADDRESS, "--from", "example.org"],
            "expected an IP address",
        ),
        (&[ADDRESS, "--file", "/nonexistent"], "/nonexistent"),
    ] {
        let output = explain(words, b"");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{words:?}: {errors}");
        assert!(errors.contains(says), "{words:?}: {errors}");
    }
}
