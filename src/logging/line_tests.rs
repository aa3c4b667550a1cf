#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, UNIX_EPOCH};

use super::*;

/// 2026-11-22T20:08:05.123Z.
fn then() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_795_378_085_123)
}

fn line_of(style: Style, level: Level, event: &str, fields: &[(&str, Value<'_>)]) -> String {
    let mut out = b"left over".to_vec();
    let fields: Vec<(&str, Value<'_>)> = fields.to_vec();
    let record_fields = fields.as_slice();
    write(
        &mut out,
        style,
        then(),
        &Record::builder()
            .level(level)
            .args(format_args!("{event}"))
            .key_values(&record_fields)
            .build(),
    );
    String::from_utf8(out).unwrap()
}

fn info(style: Style, fields: &[(&str, Value<'_>)]) -> String {
    line_of(style, Level::Info, "started", fields)
}

#[test]
fn text_has_time_level_event_and_fields() {
    let fields = [
        ("service", Value::from("echo")),
        ("conn", Value::from_display(&"1-42")),
        ("peer", Value::from("192.0.2.1:555")),
        ("bytes", Value::from(17u64)),
    ];
    assert_eq!(
        info(Style::Text, &fields),
        "2026-11-22T20:08:05.123Z info started service=echo conn=1-42 peer=192.0.2.1:555 bytes=17\n"
    );
}

#[test]
fn json_is_one_object_with_numbers_as_numbers() {
    let fields = [
        ("service", Value::from("a\"b")),
        ("bytes", Value::from(17u64)),
        ("errno", Value::from(-2i64)),
        ("load", Value::from(0.5)),
        ("odd", Value::from(f64::NAN)),
        ("core", Value::from(true)),
        ("conn", Value::from_display(&"1-42")),
    ];
    let line = info(Style::Json, &fields);
    assert_eq!(
        line,
        "{\"time\":\"2026-11-22T20:08:05.123Z\",\"level\":\"info\",\"event\":\"started\",\
         \"service\":\"a\\\"b\",\"bytes\":17,\"errno\":-2,\"load\":0.5,\"odd\":\"NaN\",\
         \"core\":true,\"conn\":\"1-42\"}\n"
    );
    serde_json::from_str::<serde_json::Value>(&line).unwrap();
}

#[test]
fn the_journal_gets_a_priority_and_no_time() {
    let fields = [("service", Value::from("echo"))];
    let line = |level| line_of(Style::Journal, level, "ended", &fields);
    assert_eq!(line(Level::Error), "<3>ended service=echo\n");
    assert_eq!(line(Level::Warn), "<4>ended service=echo\n");
    assert_eq!(line(Level::Info), "<6>ended service=echo\n");
    assert_eq!(line(Level::Debug), "<7>ended service=echo\n");
}

#[test]
fn syslog_gets_facility_daemon_and_our_pid() {
    let pid = std::process::id();
    assert_eq!(
        line_of(Style::Syslog, Level::Warn, "ended", &[]),
        format!("<28>usherd[{pid}]: ended")
    );
}

#[test]
fn no_value_can_forge_split_or_colour_a_line() {
    for (raw, text, json) in [
        ("", "\"\"", "\"\""),
        ("a b", "\"a b\"", "\"a b\""),
        ("a=b", "\"a=b\"", "\"a=b\""),
        ("say \"hi\"", r#""say \"hi\"""#, r#""say \"hi\"""#),
        (r"a\n", r#""a\\n""#, r#""a\\n""#),
        ("a\nb\r\t", r#""a\nb\r\t""#, r#""a\nb\r\t""#),
        ("\x1b[31m", r#""\x1b[31m""#, r#""\u001b[31m""#),
        ("\0\x7f", r#""\x00\x7f""#, r#""\u0000\u007f""#),
        ("\u{9b}1m", r#""\u{9b}1m""#, r#""\u009b1m""#),
        ("x\u{202e}y", r#""x\u{202e}y""#, r#""x\u202ey""#),
        ("x\u{2028}y", r#""x\u{2028}y""#, r#""x\u2028y""#),
        ("gr\u{fc}n", "gr\u{fc}n", "\"gr\u{fc}n\""),
    ] {
        let fields = [("k", Value::from(raw))];
        let line = info(Style::Text, &fields);
        assert_eq!(
            line,
            format!("2026-11-22T20:08:05.123Z info started k={text}\n"),
            "{raw:?}"
        );
        let line = info(Style::Json, &fields);
        assert!(line.ends_with(&format!("\"k\":{json}}}\n")), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["k"], raw);
    }
}

#[test]
fn an_event_keeps_to_its_line() {
    assert_eq!(
        line_of(Style::Journal, Level::Info, "a\nb \"c\"\x1b", &[]),
        "<6>a\\nb \"c\"\\x1b\n"
    );
}

#[test]
fn bytes_that_are_no_text_are_escaped() {
    let raw = Bytes(b"a\xff\xfe\nb\xc3\xbc");
    let fields = [("k", Value::from_display(&raw))];
    assert_eq!(
        info(Style::Journal, &fields),
        "<6>started k=\"a\\\\xff\\\\xfe\\nb\u{fc}\"\n"
    );
}

#[test]
fn a_line_is_bounded_and_stays_well_formed() {
    let long = "\x1b".repeat(5000);
    let keys: Vec<String> = (0..10).map(|n| format!("k{n}")).collect();
    let fields: Vec<_> = keys
        .iter()
        .map(|key| (key.as_str(), Value::from(long.as_str())))
        .chain([("last", Value::from("here"))])
        .collect();
    for style in [Style::Text, Style::Json, Style::JsonJournal, Style::Syslog] {
        let line = line_of(style, Level::Info, &long, &fields);
        assert!(line.len() <= MAX_LINE, "{style:?}: {}", line.len());
        assert!(line.contains("cut"), "{line}");
        assert!(line.contains("here"), "{line}");
        if style == Style::Json {
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["cut"], true);
        }
    }
}

#[test]
fn a_style_survives_its_code() {
    use Style::{Journal, Json, JsonJournal, JsonSyslog, Syslog, Text};
    for style in [Text, Journal, Syslog, Json, JsonJournal, JsonSyslog] {
        assert_eq!(Style::from(u8::from(style)), style);
    }
}
