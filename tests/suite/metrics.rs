//! `builtin = "metrics"`: figures for Prometheus over HTTP, by its own tools and by hand.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use socket2::Type;

use crate::common::peer::ask;
use crate::common::*;
use crate::tests;

tests![
    curl_gets_figures_that_promtool_finds_nothing_wrong_with,
    a_scrape_counts_what_happened_before_it,
    half_a_request_is_told_that_its_time_is_up,
    a_unix_socket_serves_whatever_name_is_asked_for,
    peers_beyond_loopback_ask_for_any_name,
    a_hundred_silent_peers_hold_no_scrape_up,
    whoever_leaves_in_the_middle_is_forgotten,
];

fn metrics(port: u16, more: &str) -> String {
    format!("[service.metrics]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"metrics\"\n{more}\n")
}

fn echo(port: u16) -> String {
    format!("[service.echo]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"echo\"\n")
}

const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The value of a sample.
fn sample(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn curl_gets_figures_that_promtool_finds_nothing_wrong_with() {
    let curl = needs("curl", "curl");
    let promtool = needs("promtool", "prometheus");
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let _daemon = Daemon::start(&dir, &(metrics(port, "") + &echo(other)));
    assert_eq!(ask(other, "x"), "x");
    let url = format!("http://localhost:{port}/metrics");
    let output = Command::new(curl)
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "-i",
            &url,
        ])
        .output()
        .expect("curl");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let kind = "Content-Type: text/plain; version=0.0.4; charset=utf-8";
    assert!(head.contains(kind), "{head}");

    let mut tool = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut stdin = tool.stdin.take().expect("a pipe");
    stdin.write_all(body.as_bytes()).expect("a pipe");
    drop(stdin);
    let output = tool.wait_with_output().expect("promtool");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{body}");
}

fn a_scrape_counts_what_happened_before_it() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let _daemon = Daemon::start(&dir, &(metrics(port, "") + &echo(other)));
    for nth in 1..=3 {
        assert_eq!(ask(other, "x"), "x");
        let text = ask(port, SCRAPE);
        let name = "usherd_service_accepted_requests_total{service=\"echo\"}";
        assert_eq!(sample(&text, name), Some(nth), "{text}");
    }
}

fn half_a_request_is_told_that_its_time_is_up() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &metrics(port, ""));
    let mut slow = Peer::tcp(port);
    slow.send("GET /metrics HTTP/1.1\r\nHost:");
    let mut silent = Peer::tcp(port);
    assert!(slow.read_text().starts_with("HTTP/1.1 408 "));
    assert_eq!(silent.read_text(), "");
}

fn a_unix_socket_serves_whatever_name_is_asked_for() {
    let dir = Dir::new();
    let path = dir.file("metrics.sock");
    let table = format!("[service.m]\nlisten = \"unix:{path}\"\nbuiltin = \"metrics\"\n");
    let _daemon = Daemon::start(&dir, &table);
    let mut peer = Peer::unix(Type::STREAM, &path);
    peer.send("GET /metrics HTTP/1.1\r\nHost: any.example\r\n\r\n");
    assert!(peer.read_text().starts_with("HTTP/1.1 200 "));
}

fn peers_beyond_loopback_ask_for_any_name() {
    let (dir, port) = (Dir::new(), free_port());
    let table = format!(
        "[service.m]\nlisten = \"tcp:{port}\"\nbuiltin = \"metrics\"\nallow = [\"127.0.0.1\"]\n"
    );
    let _daemon = Daemon::start(&dir, &table);
    let rebound = SCRAPE.replace("localhost", "evil.example");
    let heard = ask(port, rebound);
    assert!(heard.starts_with("HTTP/1.1 421 "), "over loopback: {heard}");
    let mut stranger = Peer::tcp_from([127, 0, 0, 2], port);
    stranger.try_send(SCRAPE);
    assert_eq!(stranger.read_text(), "", "not allowed");
}

fn a_hundred_silent_peers_hold_no_scrape_up() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &metrics(port, "instances = 200\n"));
    let silent: Vec<Peer> = (0..100).map(|_| Peer::tcp(port)).collect();
    assert!(ask(port, SCRAPE).starts_with("HTTP/1.1 200 "));
    let before = daemon.cpu_ticks();
    let mut last = Peer::tcp(port);
    assert!(last.hears_nothing_for(Duration::from_millis(500)));
    assert!(daemon.cpu_ticks() - before <= 5, "nobody asks for anything");
    drop(silent);
}

fn whoever_leaves_in_the_middle_is_forgotten() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &metrics(port, "instances = 2\n"));
    for nth in 0..20 {
        let mut peer = Peer::tcp(port);
        peer.send(&SCRAPE[..nth]);
        match nth % 2 {
            0 => peer.reset(),
            _ => drop(peer),
        }
    }
    assert!(ask(port, SCRAPE).starts_with("HTTP/1.1 200 "));
}
