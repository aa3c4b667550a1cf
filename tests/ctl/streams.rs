//! What goes on: log, events, stats --watch.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};
use usherd::control::message::Reply;

use crate::fake::{Fake, statistics};

fn event(sequence: u64, kind: &str, more: Value) -> Value {
    let mut event = json!({
        "sequence": sequence, "time_us": 1_795_378_085_123_456_u64, "kind": kind, "text": "",
    });
    let fields = event.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    event
}

fn some() -> Value {
    json!([
        event(
            1,
            "started",
            json!({
                "service": "git", "connection": "1-42", "peer": "192.0.2.7:50112", "text": "pid=4711",
            })
        ),
        event(
            2,
            "stderr",
            json!({"service": "git", "text": "fatal: \u{1b}[2J\u{9b}1m"})
        ),
        event(3, "changed", json!({"text": "reloaded"})),
    ])
}

const LINES: &str = "\
2026-11-22T20:08:05.123Z started service=git conn=1-42 peer=192.0.2.7:50112 pid=4711
2026-11-22T20:08:05.123Z stderr service=git fatal: \\x1b[2J\\u{9b}1m
2026-11-22T20:08:05.123Z changed reloaded
";

#[test]
fn log_prints_lines_as_the_daemon_does() {
    let fake = Fake::start();
    fake.says("Status.WatchEvents", json!({"events": some(), "lost": 0}));
    fake.run(&["log"]).said(LINES);
    fake.run(&["log", "-n", "5", "git"]).said(LINES);
    assert_eq!(
        fake.asked("Status.WatchEvents"),
        [
            json!({"backlog": 20}),
            json!({"backlog": 5, "service": "git"})
        ]
    );
}

#[test]
fn events_are_chosen_by_kind_and_service() {
    let fake = Fake::start();
    fake.says("Status.WatchEvents", json!({"events": some(), "lost": 0}));
    let words = [
        "events",
        "--service",
        "git",
        "--kind",
        "stderr",
        "--kind",
        "exited",
        "-n",
        "3",
    ];
    fake.run(&words).said(LINES);
    assert_eq!(
        fake.asked("Status.WatchEvents"),
        [json!({"backlog": 3, "service": "git", "kinds": ["stderr", "exited"]})]
    );
    let ended = fake.run(&["events", "--kind", "nonsense"]);
    assert_eq!(ended.code, 64);
    assert!(
        ended.err.contains("accepted, started, exited"),
        "{}",
        ended.err
    );
}

#[test]
fn each_event_is_a_line_of_json() {
    let fake = Fake::start();
    fake.says("Status.WatchEvents", json!({"events": some(), "lost": 4}));
    let ended = fake.run(&["events", "--json"]);
    let lines: Vec<Value> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0], json!({"lost": 4}));
    assert_eq!(json!(lines[1..]), some());
    assert!(!ended.out.contains('\u{9b}'));
}

#[test]
fn following_goes_on_until_the_daemon_ends() {
    let fake = Fake::start();
    fake.does("Status.WatchEvents", |call| {
        assert!(call.more);
        vec![
            Reply::Continues(json!({"events": some(), "lost": 0})),
            Reply::Continues(json!({"events": [], "lost": 0})),
            Reply::Last(
                json!({"events": [event(9, "changed", json!({"text": "end"}))], "lost": 5}),
            ),
        ]
    });
    fake.run(&["log", "--follow"]).said(&format!(
        "{LINES}-- 5 lost: events came faster than they were read\n\
         2026-11-22T20:08:05.123Z changed end\n"
    ));
    assert_eq!(fake.run(&["events", "-f", "--json"]).out.lines().count(), 5);
}

/// A command that would go on for ever.
struct Endless {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Endless {
    fn start(fake: &Fake, words: &[&str]) -> Self {
        let mut child = fake.command(words).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    /// Closes its stdout: it ends by itself.
    fn closed(mut self) -> Option<i32> {
        drop(self.out);
        self.child.wait().unwrap().code()
    }
}

/// Ten more requests at each asking.
fn counting(fake: &Fake) {
    let mut accepted = 100;
    fake.does("Status.GetStatistics", move |_| {
        accepted += 10;
        let reply = json!({"total": statistics(accepted), "services": {}, "sources": []});
        vec![Reply::Last(reply)]
    });
}

#[test]
fn watched_stats_are_rates() {
    let fake = Fake::start();
    counting(&fake);
    let mut watch = Endless::start(&fake, &["stats", "git", "--watch", "100ms"]);
    assert!(watch.line().starts_with("TIME     ACCEPT/s REFUSE/s"));
    for _ in 0..2 {
        let line = watch.line();
        let words: Vec<&str> = line.split_whitespace().collect();
        // Ten in a tenth of a second, or in what a busy machine makes of it.
        let accepted: f64 = words[1].parse().unwrap();
        assert!(accepted > 0.0 && accepted <= 101.0, "{line}");
        assert_eq!((words[2], words[6], words[7]), ("0", "3", "-"), "{line}");
    }
    assert_eq!(watch.closed(), Some(0));
}

#[test]
fn watched_stats_as_json_are_the_counters() {
    let fake = Fake::start();
    counting(&fake);
    let mut watch = Endless::start(&fake, &["stats", "--watch", "100ms", "--json"]);
    for accepted in [110, 120, 130] {
        let reply: Value = serde_json::from_str(&watch.line()).unwrap();
        assert_eq!(reply["total"]["accepted"], accepted);
    }
    assert_eq!(watch.closed(), Some(0));
    assert_eq!(fake.run(&["stats", "--watch", "1ms"]).code, 64);
}

#[test]
fn top_as_json_is_a_reading_a_line() {
    let fake = Fake::start();
    counting(&fake);
    let mut top = Endless::start(&fake, &["top", "--every", "100ms", "--json"]);
    for accepted in [110, 120] {
        let reading: Value = serde_json::from_str(&top.line()).unwrap();
        assert_eq!(reading["statistics"]["total"]["accepted"], accepted);
        assert_eq!(reading["instances"][0]["id"], 7);
    }
    assert_eq!(top.closed(), Some(0));
}
