//! `top` in a terminal, and what else asks there.

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use usherd::control::message::Reply;

use crate::fake::{Fake, run, services, statistics};
use crate::terminal::Terminal;

const WIDE: (u16, u16) = (120, 20);

/// git has ten requests more at each asking, web three.
fn busy() -> Fake {
    let fake = Fake::start();
    let mut turn = 0;
    fake.does("Status.GetStatistics", move |_| {
        turn += 1;
        let reply = json!({
            "total": statistics(1_000 + 13 * turn),
            "services": {
                "git": statistics(1_000 + 10 * turn),
                "web": statistics(1_000 + 3 * turn),
                "old": statistics(1_000),
            },
            "sources": [],
        });
        vec![Reply::Last(reply)]
    });
    fake
}

fn top(fake: &Fake) -> Terminal {
    Terminal::start(fake, &["top", "--every", "100ms"], WIDE)
}

#[test]
fn top_shows_rates_and_ends_with_q() {
    let fake = busy();
    let mut top = top(&fake);
    let rates = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words
            .get(3)
            .and_then(|word| word.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let screen = top.shows("rates", |screen| {
        screen.rows() == ["git", "web", "old"] && rates(&screen.lines[5]) > 0.0
    });
    assert!(screen.lines[0].starts_with("usherd 0.1.0  up 3h12m  every 100ms  sorted by accepted"));
    assert!(
        screen.lines[1].starts_with("accepted "),
        "{:?}",
        screen.lines
    );
    let heading: Vec<&str> = screen.lines[4].split_whitespace().collect();
    assert_eq!(heading[..4], ["SERVICE", "STATE", "RUN", "ACC/s"]);
    // 5 MiB of one instance; the other's is not known.
    assert!(screen.lines[5].contains(" 5.0M"), "{:?}", screen.lines);
    assert!(
        screen.has("unable to exec /usr/bin/webd"),
        "{:?}",
        screen.lines
    );
    assert!(screen.lines[19].starts_with("? help"));
    assert_eq!(screen.lines.len(), 20);
    top.press("q");
    assert_eq!(top.gave_back().code(), Some(0));
}

#[test]
fn top_sorts_reverses_and_selects() {
    let fake = busy();
    let mut top = top(&fake);
    top.shows("three rows", |screen| {
        screen.rows() == ["git", "web", "old"]
    });
    top.press("sssssss");
    top.shows("names", |screen| {
        screen.has("sorted by name") && screen.rows() == ["git", "old", "web"]
    });
    top.press("r");
    top.shows("names reversed", |screen| {
        screen.has("sorted by name, reversed") && screen.rows() == ["web", "old", "git"]
    });
    // git was never moved to: the first row is selected.
    top.press("j\x1b[B");
    top.shows("git selected", |screen| screen.has_selected("git "));
    top.press("r");
    top.shows("git still selected", |screen| {
        screen.rows()[0] == "git" && screen.has_selected("git ")
    });
    top.press("\x03");
    assert_eq!(top.gave_back().code(), Some(0));
}

#[test]
fn top_freezes_until_told_otherwise() {
    let fake = busy();
    let mut top = top(&fake);
    top.shows("three rows", |screen| screen.rows().len() == 3);
    top.press(" ");
    top.shows("frozen", |screen| screen.has(", frozen"));
    let asked = fake.asked("Status.GetServices").len();
    // A key is answered by a new screen, and the figures on it are the old ones.
    top.press("?");
    top.shows("help", |screen| screen.has("freeze what is shown"));
    top.press("j");
    top.shows("no help", |screen| screen.rows().len() == 3);
    assert!(fake.asked("Status.GetServices").len() <= asked + 1);
    top.press(" ");
    top.shows("no longer frozen", |screen| !screen.has(", frozen"));
    let asked = fake.asked("Status.GetServices").len();
    top.shows("new figures", |_| {
        fake.asked("Status.GetServices").len() > asked + 1
    });
    top.press("q");
    top.gave_back();
}

#[test]
fn top_ends_an_instance_after_asking() {
    let fake = busy();
    let mut top = top(&fake);
    top.shows("three rows", |screen| screen.rows().len() == 3);
    top.press("\r");
    top.shows("instances", |screen| {
        screen.has("instances of git") && screen.rows() == ["7", "9"]
    });
    top.press("jx");
    top.shows("a question", |screen| {
        screen.has("end instance 9 of git, pid 4712? [y/N]")
    });
    top.press("n");
    top.shows("no question", |screen| screen.has("escape back"));
    assert_eq!(fake.asked("Admin.Kill").len(), 0);
    top.press("xy");
    top.shows("that it is done", |screen| {
        screen.has("instance 9 is being ended")
    });
    assert_eq!(fake.asked("Admin.Kill"), [json!({"instance": 9})]);
    top.press("\x1b");
    top.shows("services", |screen| screen.rows().len() == 3);
    top.press("q");
    top.gave_back();
}

#[test]
fn top_drains_after_asking_and_tells_what_came_of_it() {
    let fake = busy();
    let mut top = top(&fake);
    top.shows("three rows", |screen| screen.rows().len() == 3);
    top.press("jd");
    top.shows("a question", |screen| {
        screen.has("drain web: no new requests")
    });
    top.press("y");
    top.shows("that it is done", |screen| {
        screen.has("web takes no new requests; 3 instances may finish")
    });
    assert_eq!(fake.asked("Admin.Drain"), [json!({"service": "web"})]);
    fake.refuses("Admin.Drain", "PermissionDenied", json!({}));
    top.press("dy");
    top.shows("why not", |screen| screen.has("not permitted: "));
    top.press("q");
    assert_eq!(top.gave_back().code(), Some(0));
}

#[test]
fn top_follows_the_size_of_its_terminal() {
    let fake = busy();
    let mut top = top(&fake);
    top.shows("all", |screen| {
        screen.lines.len() == 20 && screen.has("MEMORY")
    });
    top.resize(40, 10);
    let screen = top.shows("less", |screen| {
        screen.lines.len() == 10 && screen.rows().len() == 3
    });
    assert!(!screen.has("MEMORY"), "{:?}", screen.lines);
    assert!(screen.lines.iter().all(|line| line.chars().count() <= 40));
    top.resize(7, 2);
    top.shows("two lines", |screen| screen.lines.len() == 2);
    top.resize(120, 30);
    top.shows("more", |screen| {
        screen.lines.len() == 30 && screen.has("MEMORY")
    });
    top.press("q");
    top.gave_back();
}

#[test]
fn signals_end_top_and_the_terminal_is_as_it_was() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let fake = busy();
        let mut top = top(&fake);
        top.shows("a screen", |screen| screen.rows().len() == 3);
        top.signal(signal);
        assert_eq!(top.gave_back().signal(), Some(signal as i32));
    }
}

#[test]
fn top_outlives_its_daemon() {
    let fake = busy();
    let mut top = top(&fake);
    top.shows("a screen", |screen| screen.rows().len() == 3);
    fake.does("Status.GetDaemon", |_| Vec::new());
    top.shows("trouble", |screen| {
        screen.has("usherd closed the connection") && screen.rows().len() == 3
    });
    fake.says("Status.GetDaemon", fake_daemon());
    top.shows("that it is there again", |screen| {
        !screen.has("usherd closed")
    });
    top.press("q");
    assert_eq!(top.gave_back().code(), Some(0));
}

fn fake_daemon() -> Value {
    json!({"daemon": {
        "version": "0.1.0", "helper_pid": 20, "front_pid": 21, "uptime_ms": 100, "fronts": 1,
        "draining": false, "services": 3, "listeners": 3, "undecided": 0, "running": 0,
        "degraded": [],
    }})
}

#[test]
fn nothing_the_daemon_says_moves_the_terminal() {
    let fake = busy();
    let mut wicked = services();
    wicked[0]["name"] = json!("g\u{1b}[2J\u{9b}it\r\n");
    wicked[1]["reason"] = json!("\u{1b}]0;owned\u{7}");
    fake.says("Status.GetServices", json!({"services": wicked}));
    let mut top = top(&fake);
    // The reader of the screen refuses every order that is not one of ours.
    top.shows("escapes", |screen| {
        screen.has("g\\x1b[2J\\u{9b}it\\r\\n") && screen.has("\\x07")
    });
    top.press("jk\r");
    top.shows("escapes again", |screen| {
        screen.has("instances of g\\x1b[2J")
    });
    top.press("q");
    top.gave_back();
    assert!(!top.written.contains("\x1b[2J") && !top.written.contains('\u{9b}'));
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let fake = busy();
    for (name, value, coloured) in [
        ("TERM", "xterm", true),
        ("NO_COLOR", "", true),
        ("NO_COLOR", "1", false),
        ("TERM", "dumb", false),
    ] {
        let mut command = fake.command(&["status"]);
        command.env(name, value);
        let mut terminal = Terminal::run(&command, WIDE);
        terminal.reads("disabled");
        assert!(terminal.ended().success());
        let found = terminal.written.contains("\x1b[32mserving");
        assert_eq!(found, coloured, "{name}={value}");
    }
}

#[test]
fn top_can_be_suspended() {
    let fake = busy();
    let mut top = top(&fake);
    top.shows("a screen", |screen| screen.rows().len() == 3);
    top.press("\x1a");
    // There is no shell here that could go on with something else: it is back at once.
    top.reads("\x1b[?1049l\x1b[?1049h");
    top.press("?");
    top.shows("help", |screen| screen.has("freeze what is shown"));
    top.press("q");
    assert_eq!(top.gave_back().code(), Some(0));
}

#[test]
fn tables_fit_a_narrow_terminal() {
    let fake = Fake::start();
    let mut terminal = Terminal::start(&fake, &["status"], (44, 24));
    terminal.reads("old");
    terminal.ended();
    terminal.reads("disabled");
    let rows = terminal
        .written
        .split("\r\n")
        .filter(|line| line.contains("git") || line.contains("web"));
    for row in rows {
        let bare: String = row
            .split('\x1b')
            .map(|part| part.split_once('m').map_or(part, |(_, rest)| rest))
            .collect();
        assert!(bare.chars().count() <= 44, "{bare}");
    }
}

#[test]
fn reload_asks_at_a_terminal() {
    for (answer, code, reloads, said) in [
        ("y\n", 0, 2, "reloaded, 4 changes"),
        ("\n", 1, 1, "nothing was reloaded"),
        ("no\n", 1, 1, "nothing was reloaded"),
        ("\x04", 1, 1, "nothing was reloaded"),
    ] {
        let fake = Fake::start();
        let mut terminal = Terminal::start(&fake, &["reload"], WIDE);
        terminal.reads("reload? [y/N] ");
        assert!(terminal.written.contains("git: instances, exec"));
        terminal.press(answer);
        terminal.reads(said);
        assert_eq!(terminal.ended().code(), Some(code), "{answer:?}");
        assert_eq!(fake.asked("Admin.Reload").len(), reloads);
    }
}

#[test]
fn top_wants_a_terminal_or_prints_json() {
    let fake = busy();
    let ended = fake.run(&["top"]);
    ended.failed(
        64,
        "usherctl: top needs a terminal; `usherctl stats --watch` prints lines\n",
    );
    assert_eq!(run(fake.command(&["top", "--every", "1ms"])).code, 64);
    let fake = Fake::bare();
    let mut terminal = Terminal::start(&fake, &["top"], WIDE);
    terminal.reads("usherd is not running");
    assert_eq!(terminal.ended().code(), Some(69));
}
