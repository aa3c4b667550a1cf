//! `builtin = "status"`: the page over plain HTTP. `status_browser` looks at it with a browser.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use socket2::Type;

use crate::common::peer::ask;
use crate::common::*;
use crate::tests;

tests![
    the_page_is_whole_without_a_script_and_may_load_nothing,
    words_of_the_table_and_of_servers_are_shown_as_text,
    the_snapshot_is_json_with_the_figures_of_now,
    a_stream_begins_at_once_and_goes_on_every_second,
    what_happens_is_in_the_stream,
    only_get_and_head_are_answered,
    whoever_asks_for_another_host_is_sent_away,
    what_is_no_request_is_refused_and_harms_nobody,
    requests_sent_ahead_are_left_unanswered,
    a_unix_socket_serves_the_page_too,
    no_more_than_32_watch_and_a_place_is_given_back,
    who_does_not_read_holds_up_nobody,
    a_page_that_is_open_does_not_stop_a_drain,
    nothing_is_done_while_nobody_watches,
];

fn status(port: u16) -> String {
    format!("[service.page]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"status\"\n")
}

fn echo(port: u16, more: &str) -> String {
    format!("[service.echo]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"echo\"\n{more}\n")
}

fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Head and body of what is answered.
fn get(port: u16, path: &str) -> (String, String) {
    split(&ask(port, request(&format!("GET {path}"))))
}

fn split(answer: &str) -> (String, String) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

/// Opens a stream and reads its head.
fn watch(port: u16) -> Peer {
    let mut peer = Peer::tcp(port);
    peer.send(request("GET /events"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let line = peer.read_line();
        assert!(!line.is_empty(), "it ended: {head}");
        head += &line;
    }
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(
        head.contains("Content-Type: text/event-stream\r\n"),
        "{head}"
    );
    peer
}

/// The next message of this kind in a stream.
fn next(stream: &mut Peer, kind: &str) -> Value {
    loop {
        let line = stream.read_line();
        assert!(!line.is_empty(), "the stream has ended");
        if line == format!("event: {kind}\n") {
            let data = stream.read_line();
            let data = data.strip_prefix("data: ").expect("data");
            return serde_json::from_str(data).expect("JSON");
        }
    }
}

fn service<'a>(snapshot: &'a Value, name: &str) -> &'a Value {
    let services = snapshot["services"].as_array().expect("a list");
    let found = services.iter().find(|service| service["name"] == name);
    found.expect("the service")
}

/// A number that /proc/PID/status has.
fn figure(pid: Pid, name: &str) -> u64 {
    let value = process::status(pid, name).expect(name);
    let digits = value.split_whitespace().next().expect("a value");
    digits.parse().expect("a number")
}

fn the_page_is_whole_without_a_script_and_may_load_nothing() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let _daemon = Daemon::start(&dir, &(status(port) + &echo(other, "")));
    assert_eq!(ask(other, "x"), "x");
    let (head, page) = get(port, "/");
    for line in [
        "Content-Type: text/html; charset=utf-8",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "Cross-Origin-Resource-Policy: same-origin",
    ] {
        assert!(head.lines().any(|has| has == line), "{line}: {head}");
    }
    let policy = head
        .lines()
        .find(|l| l.starts_with("Content-Security-Policy: "));
    let policy = policy.expect("a policy");
    assert!(policy.contains("default-src 'none';"), "{policy}");
    for none in [
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(none), "{policy}");
    }
    assert!(
        !policy.contains("unsafe") && !policy.contains('*'),
        "{policy}"
    );
    assert!(!head.contains("Access-Control"), "{head}");
    assert!(page.contains(&format!("echo at tcp:127.0.0.1:{other}")));
    assert!(page.contains("<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>"));
    assert!(
        !page.contains("://") && !page.contains("src="),
        "nothing from elsewhere"
    );
    assert!(!page.contains(" style=") && !page.contains(" onclick="));
}

fn words_of_the_table_and_of_servers_are_shown_as_text() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let nasty = "<img src=x onerror=alert(1)>";
    let program = dir.script(
        "nasty",
        &format!("#!/bin/sh\necho '</script>{nasty}' >&2\n"),
    );
    let table = format!(
        "{}[service.nasty]\nlisten = \"tcp:127.0.0.1:{other}\"\nexec = [\"{program}\"]\n\
         description = \"{nasty}\"\n",
        status(port)
    );
    let daemon = Daemon::start(&dir, &table);
    assert_eq!(ask(other, ""), "");
    // The helper tells of the end; what was said, the front does, which makes the page.
    daemon.log.wait_for("stderr=true");
    let (_, page) = get(port, "/");
    assert!(!page.contains("<img"), "{page}");
    assert_eq!(page.matches("</script>").count(), 1);
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;"));
    assert!(
        page.contains("&lt;/script&gt;&lt;img"),
        "its stderr: {page}"
    );
    let (_, json) = get(port, "/snapshot.json");
    assert!(!json.contains('<'), "{json}");
    let mut stream = watch(port);
    let events = next(&mut stream, "events").to_string();
    assert!(events.contains("</script><img"), "{events}");
}

fn the_snapshot_is_json_with_the_figures_of_now() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let table = status(port) + &echo(other, "deny = [\"127.0.0.9\"]");
    let _daemon = Daemon::start(&dir, &table);
    for nth in 1..=2 {
        assert_eq!(ask(other, "x"), "x");
        assert_eq!(Peer::tcp_from([127, 0, 0, 9], other).read_all(), b"");
        let (head, body) = get(port, "/snapshot.json?again");
        assert!(
            head.contains("Content-Type: application/json\r\n"),
            "{head}"
        );
        let snapshot: Value = serde_json::from_str(&body).expect("JSON");
        let echo = service(&snapshot, "echo");
        assert_eq!(echo["state"], "serving");
        assert_eq!(echo["accepted"], 2 * nth);
        assert_eq!(echo["refused_by"]["address_denied"], nth);
        assert_eq!(snapshot["total"]["refused"]["address_denied"], nth);
        assert_eq!(snapshot["daemon"]["services"], 2);
    }
}

fn a_stream_begins_at_once_and_goes_on_every_second() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &status(port));
    let mut streams: Vec<Peer> = (0..3).map(|_| watch(port)).collect();
    let mut last = 0;
    for _ in 0..3 {
        let times: Vec<u64> = streams
            .iter_mut()
            .map(|stream| {
                next(stream, "snapshot")["time_us"]
                    .as_u64()
                    .expect("a time")
            })
            .collect();
        assert!(times.iter().all(|time| *time == times[0]), "{times:?}");
        assert!(last == 0 || times[0] - last >= 900_000, "{last} {times:?}");
        last = times[0];
    }
}

fn what_happens_is_in_the_stream() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let table = status(port) + &echo(other, "deny = [\"127.0.0.9\"]");
    let _daemon = Daemon::start(&dir, &table);
    let mut stream = watch(port);
    assert_eq!(
        service(&next(&mut stream, "snapshot"), "echo")["accepted"],
        0
    );
    assert_eq!(ask(other, "x"), "x");
    assert_eq!(Peer::tcp_from([127, 0, 0, 9], other).read_all(), b"");
    assert_eq!(
        service(&next(&mut stream, "snapshot"), "echo")["accepted"],
        2
    );
    let news = next(&mut stream, "events");
    assert_eq!(news["events"][0]["kind"], "refused", "{news}");
    assert_eq!(news["events"][0]["service"], "echo", "{news}");
    assert_eq!(news["lost"], 0);
}

fn only_get_and_head_are_answered() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &status(port));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"] {
        for path in ["/", "/snapshot.json", "/events", "/none"] {
            let answer = ask(port, request(&format!("{method} {path}")));
            assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
            assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"), "{answer}");
        }
    }
    for (path, kind) in [
        ("/", "text/html"),
        ("/snapshot.json", "application/json"),
        ("/events", "text/event-stream"),
    ] {
        let (head, body) = split(&ask(port, request(&format!("HEAD {path}"))));
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains(kind) && body.is_empty(), "{head} {body}");
    }
    for path in ["/metrics", "/favicon.ico", "//", "/events/", "/../", "/%2e"] {
        let (head, body) = get(port, path);
        assert!(head.starts_with("HTTP/1.1 404 "), "{path}: {head}");
        assert!(
            !body.contains(path) || path == "/events/",
            "no echo: {body}"
        );
    }
}

fn whoever_asks_for_another_host_is_sent_away() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &status(port));
    let asked = |host: &str| {
        let paths = ["/", "/snapshot.json", "/events"].iter();
        let answers = paths
            .map(|path| ask(port, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")))
            .map(|answer| answer.split(' ').nth(1).unwrap_or_default().to_owned());
        answers.collect::<Vec<_>>().join(" ")
    };
    for own in ["localhost", "127.0.0.1", "[::1]"] {
        assert_eq!(asked(own), "200 200 200", "{own}");
        assert_eq!(asked(&format!("{own}:{port}")), "200 200 200", "{own}");
    }
    for other in [
        "evil.example",
        "localhost.evil.example:80",
        "192.0.2.1",
        "0.0.0.0",
    ] {
        assert_eq!(asked(other), "421 421 421", "{other}");
    }
    let absolute = "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(ask(port, absolute).starts_with("HTTP/1.1 421 "));
}

fn what_is_no_request_is_refused_and_harms_nobody() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &status(port));
    let mut seeded = Seeded::new(12);
    let good = request("GET /");
    for _ in 0..300 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..=seeded.below(3) {
            let at = seeded.below(bytes.len());
            bytes[at] = seeded.bytes(1)[0];
        }
        let answer = Peer::tcp(port).exchange(&bytes);
        let known = answer.starts_with(b"HTTP/1.1 ") || answer.is_empty();
        assert!(known, "{:?}: {answer:?}", String::from_utf8_lossy(&bytes));
    }
    let huge = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "y".repeat(60_000)
    );
    assert!(ask(port, huge).starts_with("HTTP/1.1 431 "));
    let body = "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi";
    assert!(ask(port, body).starts_with("HTTP/1.1 400 "));
    let mut slow = Peer::tcp(port);
    slow.send_one_by_one(good.as_bytes());
    assert!(slow.read_text().starts_with("HTTP/1.1 200 "));
}

fn requests_sent_ahead_are_left_unanswered() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &status(port));
    let answer = ask(port, request("GET /snapshot.json").repeat(5));
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1);
    assert!(answer.contains("\r\nConnection: close\r\n"));
}

fn a_unix_socket_serves_the_page_too() {
    let dir = Dir::new();
    let path = dir.file("page.sock");
    let table = format!("[service.page]\nlisten = \"unix:{path}\"\nbuiltin = \"status\"\n");
    let _daemon = Daemon::start(&dir, &table);
    let mut peer = Peer::unix(Type::STREAM, &path);
    peer.send("GET / HTTP/1.1\r\nHost: status.example\r\n\r\n");
    assert!(peer.read_text().starts_with("HTTP/1.1 200 "));
}

fn no_more_than_32_watch_and_a_place_is_given_back() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &status(port));
    let mut streams: Vec<Peer> = (0..32).map(|_| watch(port)).collect();
    for stream in &mut streams {
        next(stream, "snapshot");
    }
    let (head, _) = get(port, "/events");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    let (head, _) = get(port, "/");
    assert!(
        head.starts_with("HTTP/1.1 200 "),
        "the page is no stream: {head}"
    );
    drop(streams.pop());
    until("a place", SOON, || {
        let mut peer = Peer::tcp(port);
        peer.send(request("GET /events"));
        peer.read_line().starts_with("HTTP/1.1 200 ").then_some(())
    });
}

fn who_does_not_read_holds_up_nobody() {
    let (dir, port) = (Dir::new(), free_port());
    let text = "x".repeat(1000);
    let many: String = (0..300)
        .map(|nth| {
            format!(
                "[service.s{nth}]\nlisten = \"unix:@{}-{nth}\"\nbuiltin = \"echo\"\n\
                 description = \"{text}\"\n",
                dir.file("s")
            )
        })
        .collect();
    let daemon = Daemon::start(&dir, &(status(port) + &many));
    let deaf: Vec<Peer> = (0..10).map(|_| watch(port)).collect();
    let mut reader = watch(port);
    next(&mut reader, "snapshot");
    let before = figure(daemon.front(), "VmRSS");
    for _ in 0..5 {
        next(&mut reader, "snapshot");
    }
    let after = figure(daemon.front(), "VmRSS");
    // KiB; ten times five snapshots would be 15 MiB and more.
    assert!(after < before + (5 << 10), "{before} {after}");
    drop(deaf);
}

fn a_page_that_is_open_does_not_stop_a_drain() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &status(port));
    let mut stream = watch(port);
    next(&mut stream, "snapshot");
    daemon.signal(Signal::SIGTERM);
    let _ = stream.read_all();
    assert_eq!(daemon.exit_code(), Some(0));
}

fn nothing_is_done_while_nobody_watches() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &status(port));
    next(&mut watch(port), "snapshot");
    let front = daemon.front();
    until("the end of the stream", SOON, || {
        let (_, body) = get(port, "/snapshot.json");
        let snapshot: Value = serde_json::from_str(&body).expect("JSON");
        (service(&snapshot, "page")["running"] == 1).then_some(())
    });
    let before = figure(front, "voluntary_ctxt_switches");
    let mut silent = Peer::tcp(port);
    assert!(silent.hears_nothing_for(Duration::from_millis(2500)));
    let after = figure(front, "voluntary_ctxt_switches");
    assert!(after - before <= 4, "{} times awake", after - before);
}
