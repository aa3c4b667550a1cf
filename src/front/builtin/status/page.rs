//! The page as HTML, with everything that can be said without a script.
//!
//! Whatever the table or a peer says goes through [`Text`] and nothing else.
#![forbid(unsafe_code)]

use std::fmt::{self, Display, Write};
use std::time::{Duration, UNIX_EPOCH};

use super::snapshot::{Row, Snapshot, Spans};
use super::{SCRIPT, STYLE};
use crate::control::types::{Daemon, Event, Exit, Service, State};

/// Comments in it name what belongs in their place.
const TEMPLATE: &str = include_str!("page.html");

const SPARK: &str = "<svg class=\"spark\" viewBox=\"0 0 100 20\" preserveAspectRatio=\"none\" \
    aria-hidden=\"true\"><path class=\"area\"/><path class=\"line\"/></svg>";

/// The whole page; `events` with the oldest first.
#[must_use]
pub fn page(snapshot: &Snapshot, events: &[Event]) -> String {
    let mut out = String::new();
    let mut pieces = TEMPLATE.split("<!--");
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (name, rest) = piece.split_once("-->").unwrap_or((piece, ""));
        // Writing to a String cannot fail.
        let _ = fill(&mut out, name, snapshot, events);
        out.push_str(rest);
    }
    out
}

fn fill(out: &mut String, name: &str, snapshot: &Snapshot, events: &[Event]) -> fmt::Result {
    match name {
        "style" => out.push_str(STYLE),
        "script" => out.push_str(SCRIPT),
        "daemon" => state(out, &snapshot.daemon)?,
        "facts" => facts(out, &snapshot.daemon)?,
        "cards" => cards(out, snapshot)?,
        "services" => {
            for row in &snapshot.services {
                service(out, row)?;
            }
        }
        "row" => service(out, &empty_row())?,
        "reasons" => {
            for (service, reason, count) in snapshot.reasons() {
                let (service, reason) = (Text(service.unwrap_or("–")), Text(&reason));
                let count = grouped(count);
                writeln!(
                    out,
                    "<tr><th scope=\"row\" class=\"service\">{service}</th>\
                     <td class=\"reason\">{reason}</td><td class=\"number\">{count}</td></tr>"
                )?;
            }
        }
        "events" => {
            for one in events.iter().rev() {
                event(out, one)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn state(out: &mut String, daemon: &Daemon) -> fmt::Result {
    let state = if daemon.draining {
        "draining"
    } else {
        "serving"
    };
    write!(
        out,
        "<span class=\"soft\" id=\"version\">{}</span>\n\
         <span class=\"badge\" id=\"state\" data-is=\"{state}\">{state}</span>",
        Text(&daemon.version)
    )
}

fn facts(out: &mut String, daemon: &Daemon) -> fmt::Result {
    let uptime = span(daemon.uptime_ms.saturating_mul(1000));
    out.push_str("<dl class=\"facts\">\n");
    for (name, id, value) in [
        ("Uptime", "uptime", uptime),
        ("Services", "services", grouped(daemon.services)),
        ("Listeners", "listeners", grouped(daemon.listeners)),
        ("Fronts so far", "fronts", grouped(daemon.fronts.into())),
    ] {
        writeln!(
            out,
            "<div><dt>{name}</dt><dd id=\"{id}\">{value}</dd></div>"
        )?;
    }
    let hidden = if daemon.degraded.is_empty() {
        " hidden"
    } else {
        ""
    };
    write!(
        out,
        "</dl>\n<div class=\"notice\" id=\"degraded\"{hidden}>\
         This host does not let usherd do all it should:<ul id=\"degraded-list\">"
    )?;
    for what in &daemon.degraded {
        write!(out, "<li>{}</li>", Text(what))?;
    }
    out.push_str("</ul></div>");
    Ok(())
}

/// Without a script there are no rates, so the sums are there in their place.
fn cards(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let refused = grouped(snapshot.total.refused.values().sum());
    let accepted = grouped(snapshot.total.accepted);
    let (running, undecided) = (snapshot.daemon.running, snapshot.daemon.undecided);
    out.push_str("<div class=\"cards\">\n");
    for (id, title, value, note) in [
        ("requests", "Requests", accepted, "in all"),
        ("running", "Running", grouped(running), ""),
        ("refused", "Refused", refused, "in all"),
        ("undecided", "Undecided", grouped(undecided), ""),
    ] {
        writeln!(
            out,
            "<section class=\"card\" id=\"card-{id}\"><h3>{title}</h3>\
             <p><span class=\"value\">{value}</span> <small>{note}</small></p>{SPARK}</section>"
        )?;
    }
    out.push_str("</div>");
    Ok(())
}

fn service(out: &mut String, row: &Row) -> fmt::Result {
    let service = &row.service;
    let listeners: Vec<&str> = service.listeners.iter().map(|l| &*l.address).collect();
    let state = state_name(service.state);
    write!(
        out,
        "<tr role=\"row\"><th scope=\"row\" role=\"rowheader\">\
         <span class=\"name\">{}</span><small class=\"description\">{}</small>\
         <small class=\"serves\">{} at {}</small></th>\
         <td role=\"cell\" class=\"state\"><span class=\"badge\" data-is=\"{state}\">{state}</span>\
         <small class=\"reason\">{}</small></td>",
        Text(&service.name),
        Text(service.description.as_deref().unwrap_or_default()),
        Text(&service.serves),
        Text(&listeners.join(", ")),
        Text(service.reason.as_deref().unwrap_or_default()),
    )?;
    let limit = match service.instances {
        0 => String::new(),
        some => format!("of {}", grouped(some.into())),
    };
    let running = format!(
        "<span class=\"running\">{}</span><small class=\"limit\">{limit}</small>",
        grouped(service.running.into()),
    );
    let requests = format!(
        "<span class=\"rate\"></span>{SPARK}<small class=\"accepted\">{}</small>",
        grouped(service.accepted)
    );
    for (label, cell) in [
        ("Running", running),
        ("Requests", requests),
        ("Refused", count("refused", service.refused)),
        ("Failed", count("failed worry", service.failed)),
        ("Start p50 / p99", percentiles("start", &row.start)),
        ("Duration p50 / p99", percentiles("run", &row.run)),
        ("CPU, memory", usage(row)),
    ] {
        write!(
            out,
            "<td role=\"cell\" class=\"number\" data-label=\"{label}\">{cell}</td>"
        )?;
    }
    writeln!(
        out,
        "<td role=\"cell\" class=\"exit\" data-label=\"Last exit\">\
         <span class=\"last-exit\">{}</span><small class=\"ago\">{}</small></td></tr>",
        exit(service.last_exit),
        service.last_exit.map_or_else(String::new, ago),
    )
}

/// The time so far; the script puts the share of a processor in its place.
fn usage(row: &Row) -> String {
    let cpu = match row.cpu_us {
        0 => "–".to_owned(),
        micros => span(micros),
    };
    format!(
        "<span class=\"cpu\">{cpu}</span><small class=\"memory\">{}</small>",
        memory(row.memory)
    )
}

/// In MiB, as `top` shows it.
fn memory(octets: u64) -> String {
    match octets {
        0 => String::new(),
        some => format!("{} MiB", grouped(some.div_ceil(1 << 20))),
    }
}

fn event(out: &mut String, event: &Event) -> fmt::Result {
    let at = UNIX_EPOCH + Duration::from_micros(event.time_us);
    let at = humantime::format_rfc3339_seconds(at).to_string();
    let (day, time) = at.split_once('T').unwrap_or(("", &at));
    let kind = event.kind.name();
    writeln!(
        out,
        "<tr role=\"row\"><td role=\"cell\" class=\"when\"><time datetime=\"{at}\">{day} {time}</time></td>\
         <td role=\"cell\" class=\"kind\"><span class=\"badge\" data-is=\"{kind}\">{kind}</span></td>\
         <td role=\"cell\" class=\"of\">{}</td><td role=\"cell\" class=\"peer\">{}</td>\
         <td role=\"cell\" class=\"text\">{}</td></tr>",
        Text(event.service.as_deref().unwrap_or_default()),
        Text(event.peer.as_deref().unwrap_or_default()),
        Text(&event.text),
    )
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Serving => "serving",
        State::Full => "full",
        State::Resting => "resting",
        State::Held => "held",
        State::Unbound => "unbound",
        State::Blocked => "blocked",
        State::Disabled => "disabled",
    }
}

fn count(class: &str, count: u64) -> String {
    let more = match count {
        0 => " zero",
        _ if class.contains("worry") => " alarm",
        _ => "",
    };
    format!("<span class=\"{class}{more}\">{}</span>", grouped(count))
}

fn percentiles(class: &str, spans: &Spans) -> String {
    let told = match (percentile(spans, 50), percentile(spans, 99)) {
        (Some(half), Some(most)) => format!("{half} / {most}"),
        _ => "–".to_owned(),
    };
    format!("<span class=\"{class}\">{}</span>", Text(&told))
}

/// What so many of a hundred did not exceed.
fn percentile(spans: &Spans, of_hundred: u64) -> Option<String> {
    let all: u64 = spans.iter().map(|(_, count)| count).sum();
    let mut seen = 0;
    for (bound, count) in spans {
        seen += count;
        if seen.saturating_mul(100) >= all.saturating_mul(of_hundred) {
            return Some(bound.map_or_else(|| "> 1 h".to_owned(), span));
        }
    }
    None
}

fn exit(exit: Option<Exit>) -> String {
    let Some(exit) = exit else {
        return "–".to_owned();
    };
    match (exit.signal, exit.status) {
        (Some(signal), _) if exit.core => format!("signal {signal}, core"),
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(status)) => format!("status {status}"),
        (None, None) => "gone".to_owned(),
    }
}

fn ago(exit: Exit) -> String {
    format!("{} ago", span(exit.ago_ms.saturating_mul(1000)))
}

/// A span of time in microseconds, for people: two or three digits.
#[must_use]
pub fn span(micros: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", micros / unit, micros % unit * 10 / unit);
    let minutes = micros / 60_000_000;
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{} ms", tenths(1_000)),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..10_000_000 => format!("{} s", tenths(1_000_000)),
        10_000_000..60_000_000 => format!("{} s", micros / 1_000_000),
        _ if minutes < 60 => format!("{minutes} min"),
        _ if minutes < 48 * 60 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} d {} h", minutes / 60 / 24, minutes / 60 % 24),
    }
}

/// 1,234,567
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// What the script makes new rows of.
fn empty_row() -> Row {
    let service = Service {
        name: String::new(),
        description: None,
        state: State::Serving,
        reason: None,
        serves: String::new(),
        listeners: Vec::new(),
        running: 0,
        instances: 0,
        accepted: 0,
        refused: 0,
        failed: 0,
        last_exit: None,
    };
    Row::new(
        service,
        crate::control::types::Statistics::default(),
        crate::front::builtin::status::snapshot::Usage::default(),
    )
}

/// Shown as text, in an element or in a quoted attribute.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;"),
                '<' => f.write_str("&lt;"),
                '>' => f.write_str("&gt;"),
                '"' => f.write_str("&quot;"),
                '\'' => f.write_str("&#39;"),
                // No parser takes it, however it is written.
                '\0' => f.write_char(char::REPLACEMENT_CHARACTER),
                c => f.write_char(c),
            }?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::snapshot::tests::{NASTY, sample};
    use super::*;
    use crate::control::types::EventKind;

    fn events() -> Vec<Event> {
        vec![Event {
            sequence: 1,
            time_us: 1_700_000_000_000_000,
            kind: EventKind::Stderr,
            service: Some(NASTY.to_owned()),
            connection: Some(NASTY.to_owned()),
            peer: Some(NASTY.to_owned()),
            text: NASTY.to_owned(),
        }]
    }

    #[test]
    fn nothing_that_others_say_becomes_markup() {
        let page = page(&sample(), &events());
        assert!(!page.contains(NASTY) && !page.contains("<img"), "{page}");
        assert_eq!(page.matches("<script").count(), 1);
        assert_eq!(page.matches("</script").count(), 1);
        let said = Text(NASTY).to_string();
        assert!(!said.contains(['<', '>', '"', '\'', '\0']));
        // version, degraded, name, description, serves, address, reason, 6 in reasons, 3 in events.
        assert_eq!(page.matches(&said).count(), 7 + 5 + 3, "{page}");
    }

    #[test]
    fn every_place_of_the_template_is_filled() {
        let page = page(&sample(), &events());
        assert!(!page.contains("<!--"), "{page}");
        assert!(page.contains(STYLE) && page.contains(SCRIPT));
        assert!(page.contains("2023-11-14 22:13:20Z"), "{page}");
        assert!(
            page.contains(">1,234<") && page.contains(">1,240<"),
            "{page}"
        );
    }

    #[test]
    fn spans_are_short_and_never_rounded_up() {
        for (micros, text) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_536, "1.5 ms"),
            (24_576, "24 ms"),
            (999_999, "999 ms"),
            (1_999_999, "1.9 s"),
            (59_999_999, "59 s"),
            (60_000_000, "1 min"),
            (3_600_000_000, "1 h 0 min"),
            (200_000_000_000, "2 d 7 h"),
        ] {
            assert_eq!(span(micros), text);
        }
    }

    #[test]
    fn percentiles_are_bounds_of_buckets() {
        let row = &sample().services[0];
        assert_eq!(percentile(&row.start, 50).unwrap(), "96 µs");
        assert_eq!(percentile(&row.start, 99).unwrap(), "1.5 ms");
        assert_eq!(percentile(&row.start, 100).unwrap(), "> 1 h");
        assert_eq!(percentile(&row.run, 50), None);
    }

    #[test]
    fn long_numbers_are_grouped() {
        let told = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(told, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
