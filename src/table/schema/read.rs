//! Readers of choices, limits and texts: values that are more than a word or a number.
#![forbid(unsafe_code)]

use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::{AUDIT_KEYS, BANNER_KEYS, DAEMON_LOG_KEYS, SOURCE_PREFIX_KEYS, UNDECIDED_KEYS};
use crate::table::complaint::{At, Fault};
use crate::table::reader::{Reader, Value};
use crate::table::value::{cpus, size};
use crate::table::{
    Activation, Audit, Banner, Builtin, DaemonCpus, Hours, LogEvents, LogFormat, LogLevel,
    LogSettings, LogTarget, OnFull, Rate, Side, SourcePrefix, Stderr, Undecided, value,
};

pub const BUILTINS: [(&str, Builtin); 8] = [
    ("echo", Builtin::Echo),
    ("discard", Builtin::Discard),
    ("chargen", Builtin::Chargen),
    ("daytime", Builtin::Daytime),
    ("time", Builtin::Time),
    ("tcpmux", Builtin::Tcpmux),
    ("metrics", Builtin::Metrics),
    ("status", Builtin::Status),
];
pub const ACTIVATIONS: [(&str, Activation); 2] = [
    ("inetd", Activation::Inetd),
    ("listen-fds", Activation::ListenFds),
];
pub const SPEAKS_FIRST: [(&str, Side); 2] = [("client", Side::Client), ("server", Side::Server)];
pub const STDERRS: [(&str, Stderr); 3] = [
    ("log", Stderr::Log),
    ("socket", Stderr::Socket),
    ("null", Stderr::Null),
];
pub const ON_FULL: [(&str, OnFull); 2] = [("queue", OnFull::Queue), ("refuse", OnFull::Refuse)];

/// The words of `log`.
pub const LOG_EVENTS: [&str; 4] = ["accept", "start", "exit", "refuse"];

/// Puts a value that could be read in its place. One that could not has been
/// complained about, and its neighbours are read all the same.
pub fn keep<T>(slot: &mut T, read: Option<T>) {
    if let Some(read) = read {
        *slot = read;
    }
}

pub fn hours(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<Hours>> {
    const WANTED: &str = "hours such as \"mon-fri 08:00-18:00\"";
    if v.get_ref().is_str() {
        return r.parsed(v, WANTED, value::hours).map(|one| vec![one]);
    }
    r.list(v, WANTED, |r, v| r.parsed(v, WANTED, value::hours))
}

/// `"none"` switches off what `[defaults]` or usherd itself would set.
pub fn or_none<'i, T>(
    r: &mut Reader<'_>,
    v: &Value<'i>,
    read: impl FnOnce(&mut Reader<'_>, &Value<'i>) -> Option<T>,
) -> Option<Option<T>> {
    if v.get_ref().as_str() == Some("none") {
        return Some(None);
    }
    read(r, v).map(Some)
}

pub fn source_prefix(r: &mut Reader<'_>, v: &Value<'_>) -> Option<SourcePrefix> {
    let table = r.table(v, "a table such as { v4 = 24, v6 = 56 }")?;
    let mut prefix = SourcePrefix { v4: 32, v6: 64 };
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "v4" => keep(&mut prefix.v4, r.number(value, 1..=32)),
            "v6" => keep(&mut prefix.v6, r.number(value, 1..=128)),
            _ => {
                r.unknown(key, "source_prefix", SOURCE_PREFIX_KEYS);
            }
        }
    }
    Some(prefix)
}

pub fn rate(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Rate> {
    r.parsed(v, "a rate such as \"50/s burst 100\"", value::rate)
}

pub fn load(r: &mut Reader<'_>, v: &Value<'_>) -> Option<f64> {
    let text = match v.get_ref() {
        DeValue::Float(float) => float.as_str(),
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
        _ => return r.mismatch(v, "a load average such as 8.0"),
    };
    let load = text
        .parse()
        .ok()
        .filter(|l: &f64| *l > 0.0 && l.is_finite());
    load.or_else(|| {
        r.complain(
            v,
            Fault::new(format!("{text} is no load average a host can have")),
        )
    })
}

/// A duration that is more than nothing.
pub fn span(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Duration> {
    let span = r.parsed(v, "a duration such as \"10s\"", value::duration)?;
    if span.is_zero() {
        return r.complain(
            v,
            Fault::new("no time at all").help("\"none\" or no such key stands for no limit"),
        );
    }
    Some(span)
}

/// A duration that ends: connections are never waited for without end.
pub fn deadline(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Duration> {
    let span = r.parsed(v, "a duration such as \"5s\"", value::duration)?;
    if span.is_zero() {
        return r.complain(v, Fault::new("no byte can come in no time at all"));
    }
    Some(span)
}

/// A size that is more than nothing.
pub fn some_size(r: &mut Reader<'_>, v: &Value<'_>) -> Option<u64> {
    let size = r.parsed(v, "a size such as \"64K\"", value::size)?;
    if size == 0 {
        return r.complain(v, Fault::new("nothing at all would fit"));
    }
    Some(size)
}

pub fn banner(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Banner> {
    let table = r.table(v, "a table such as { refused = \"come back later\\r\\n\" }")?;
    let mut banner = Banner::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "admitted" => banner.admitted = banner_text(r, value),
            "refused" => banner.refused = banner_text(r, value),
            _ => {
                r.unknown(key, "banner", BANNER_KEYS);
            }
        }
    }
    Some(banner)
}

/// Short enough to fit into any socket buffer at once: a slow peer cannot hold it up.
fn banner_text(r: &mut Reader<'_>, v: &Value<'_>) -> Option<String> {
    const LONGEST: usize = 2048;
    let text = r.word(v, "a text")?;
    if text.len() > LONGEST {
        let fault = Fault::new(format!(
            "a banner has at most {LONGEST} bytes, this one has {}",
            text.len()
        ));
        return r.complain(v, fault);
    }
    Some(text)
}

pub fn log_events(r: &mut Reader<'_>, v: &Value<'_>) -> Option<LogEvents> {
    let mut events = LogEvents {
        accept: false,
        start: false,
        exit: false,
        refuse: false,
    };
    let words: Vec<(&str, usize)> = LOG_EVENTS.iter().copied().zip(0..).collect();
    let chosen = r.list(
        v,
        "a list of events such as [\"start\", \"exit\"]",
        |r, v| r.choice(v, &words),
    )?;
    for event in chosen {
        match event {
            0 => events.accept = true,
            1 => events.start = true,
            2 => events.exit = true,
            _ => events.refuse = true,
        }
    }
    Some(events)
}

pub fn daemon_log(r: &mut Reader<'_>, v: &Value<'_>) -> Option<LogSettings> {
    let table: &DeTable<'_> = r.table(v, "a table such as { to = \"syslog\" }")?;
    let mut log = LogSettings::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "to" => keep(
                &mut log.to,
                r.parsed(value, "\"stderr\", \"syslog\" or \"/path\"", log_target),
            ),
            "format" => {
                let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
                keep(&mut log.format, r.choice(value, &formats));
            }
            "level" => {
                let levels = [
                    ("error", LogLevel::Error),
                    ("warn", LogLevel::Warn),
                    ("info", LogLevel::Info),
                    ("debug", LogLevel::Debug),
                ];
                keep(&mut log.level, r.choice(value, &levels));
            }
            _ => {
                r.unknown(key, "daemon.log", DAEMON_LOG_KEYS);
            }
        }
    }
    Some(log)
}

pub fn undecided(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Undecided> {
    let table = r.table(v, "a table such as { total = 10000, per_source = 200 }")?;
    let mut undecided = Undecided::default();
    for (key, value) in table {
        let slot = match key.get_ref().as_ref() {
            "total" => &mut undecided.total,
            "per_listener" => &mut undecided.per_listener,
            "per_source" => &mut undecided.per_source,
            _ => {
                r.unknown(key, "undecided", UNDECIDED_KEYS);
                continue;
            }
        };
        keep(slot, r.number(value, 1..=1_000_000));
    }
    Some(undecided)
}

/// `operations`: files of the catalogue. Those that make sense are read even if others do not.
pub fn operations(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<At<String>>> {
    let Some(items) = v.get_ref().as_array() else {
        return r.mismatch(v, "a list of files such as [\"operations.d/*.toml\"]");
    };
    let entries = items.iter();
    let read = entries.filter_map(|v| r.at(v, |r, v| r.word(v, "a file or a pattern")));
    Some(read.collect())
}

/// A file holds at least one entry of the longest kind.
const SMALLEST_AUDIT: u64 = 64 << 10;

/// `daemon.cpus`.
pub fn daemon_cpus(r: &mut Reader<'_>, v: &Value<'_>) -> Option<DaemonCpus> {
    let expected = "\"one\", \"all\" or CPUs such as \"0-3,6\"";
    r.parsed(v, expected, |text| match text {
        "one" => Ok(DaemonCpus::One),
        "all" => Ok(DaemonCpus::All),
        _ => match cpus(text) {
            Ok(listed) => Ok(DaemonCpus::Listed(listed)),
            Err(_) => Err(Fault::new(format!("\"{text}\" names no CPUs"))
                .help(format!("write {expected}, with numbers from 0 to 1023"))),
        },
    })
}

pub fn audit(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Audit> {
    let table = r.table(v, "a table such as { max_size = \"16M\", keep = 16 }")?;
    let mut audit = Audit::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "max_size" => keep(
                &mut audit.max_size,
                r.parsed(value, "a size such as \"16M\"", audit_size),
            ),
            "keep" => keep(&mut audit.keep, r.number(value, 1..=1_000)),
            "on_failure" => {
                let choices = [("refuse", true), ("warn", false)];
                keep(&mut audit.refuse, r.choice(value, &choices));
            }
            _ => {
                r.unknown(key, "audit", AUDIT_KEYS);
            }
        }
    }
    Some(audit)
}

fn audit_size(text: &str) -> Result<u64, Fault> {
    match size(text)? {
        octets if octets >= SMALLEST_AUDIT => Ok(octets),
        _ => Err(
            Fault::new(format!("{text} is too small for a file of the audit log"))
                .help("it is at least 64K"),
        ),
    }
}

fn log_target(text: &str) -> Result<LogTarget, Fault> {
    match text {
        "stderr" => Ok(LogTarget::Stderr),
        "syslog" => Ok(LogTarget::Syslog),
        path if path.starts_with('/') => Ok(LogTarget::File(path.into())),
        _ => Err(Fault::new(format!("the log cannot go to \"{text}\""))
            .help("write \"stderr\", \"syslog\" or the absolute path of a file")),
    }
}
