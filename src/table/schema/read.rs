//! Readers of the values that are more than a word, a number or a choice.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::resource::Resource;
use toml::de::{DeTable, DeValue};

use super::{
    BANNER_KEYS, DAEMON_LOG_KEYS, FORWARD_KEYS, KEEPALIVE_KEYS, RawSocket, SOCKET_KEYS,
    SOURCE_PREFIX_KEYS, STOP_KEYS, SpeaksFirst,
};
use crate::table::access::{BadPrefix, Prefix};
use crate::table::address::{self, Listen, UnixName};
use crate::table::complaint::{At, Fault};
use crate::table::reader::{Reader, Value};
use crate::table::{
    Activation, Banner, Builtin, Forward, Hours, Keepalive, Limit, LogEvents, LogFormat, LogLevel,
    LogSettings, LogTarget, OnFull, ProxyVersion, Rate, SourcePrefix, Stderr, Stop, Upstream,
    value,
};

pub const BUILTINS: [(&str, Builtin); 6] = [
    ("echo", Builtin::Echo),
    ("discard", Builtin::Discard),
    ("chargen", Builtin::Chargen),
    ("daytime", Builtin::Daytime),
    ("time", Builtin::Time),
    ("tcpmux", Builtin::Tcpmux),
];
pub const ACTIVATIONS: [(&str, Activation); 2] = [
    ("inetd", Activation::Inetd),
    ("listen-fds", Activation::ListenFds),
];
pub const SPEAKS_FIRST: [(&str, SpeaksFirst); 2] = [
    ("client", SpeaksFirst::Client),
    ("server", SpeaksFirst::Server),
];
pub const STDERRS: [(&str, Stderr); 3] = [
    ("log", Stderr::Log),
    ("socket", Stderr::Socket),
    ("null", Stderr::Null),
];
pub const ON_FULL: [(&str, OnFull); 2] = [("queue", OnFull::Queue), ("refuse", OnFull::Refuse)];

/// How a limit is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Count,
    Bytes,
    Seconds,
}

/// The keys of `limits`.
pub const LIMITS: [(&str, Resource, Unit); 10] = [
    ("nofile", Resource::RLIMIT_NOFILE, Unit::Count),
    ("nproc", Resource::RLIMIT_NPROC, Unit::Count),
    ("core", Resource::RLIMIT_CORE, Unit::Bytes),
    ("fsize", Resource::RLIMIT_FSIZE, Unit::Bytes),
    ("as", Resource::RLIMIT_AS, Unit::Bytes),
    ("data", Resource::RLIMIT_DATA, Unit::Bytes),
    ("stack", Resource::RLIMIT_STACK, Unit::Bytes),
    ("rss", Resource::RLIMIT_RSS, Unit::Bytes),
    ("memlock", Resource::RLIMIT_MEMLOCK, Unit::Bytes),
    ("cpu", Resource::RLIMIT_CPU, Unit::Seconds),
];

/// The words of `log`.
pub const LOG_EVENTS: [&str; 4] = ["accept", "start", "exit", "refuse"];

pub fn listen(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<At<Listen>>> {
    const WANTED: &str = "an address such as \"tcp:7\", or a list of them";
    r.one_or_more(v, WANTED, |r, v| {
        r.at(v, |r, v| {
            let names = r.names;
            r.parsed(v, "an address such as \"tcp:7\"", |t| {
                address::listen(t, names)
            })
        })
    })
}

pub fn exec(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<String>> {
    const WANTED: &str = "a list: the program and its arguments";
    if let Some(line) = v.get_ref().as_str() {
        let words: Vec<String> = line.split_whitespace().map(|w| format!("{w:?}")).collect();
        let fault = Fault::new(format!("expected {WANTED}; no shell takes a line apart"))
            .help(format!("write [{}]", words.join(", ")));
        return r.complain(v, fault);
    }
    let words = r.list(v, WANTED, |r, v| r.string(v, "a text"))?;
    match words.first() {
        Some(program) if program.starts_with('/') => Some(words),
        Some(program) => {
            let fault = Fault::new(format!("\"{program}\" is no absolute path"))
                .help("no PATH is searched; write the whole path of the program");
            r.complain(v, fault)
        }
        None => r.complain(
            v,
            Fault::new(format!("expected {WANTED}, found an empty list")),
        ),
    }
}

pub fn forward(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Forward> {
    let mut forward = Forward {
        to: Vec::new(),
        proxy: None,
        connect_timeout: Duration::from_secs(5),
    };
    let Some(table) = v.get_ref().as_table() else {
        forward.to = upstreams(r, v)?;
        return Some(forward);
    };
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "to" => forward.to = upstreams(r, value)?,
            "proxy" => {
                let versions = [("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];
                forward.proxy = Some(r.choice(value, &versions)?);
            }
            "connect_timeout" => forward.connect_timeout = span(r, value)?,
            _ => r.unknown(key, "forward", FORWARD_KEYS),
        }
    }
    if !table.contains_key("to") {
        return r.complain(
            v,
            Fault::new("forward does not say where to: `to` is missing"),
        );
    }
    Some(forward)
}

fn upstreams(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<Upstream>> {
    const WANTED: &str = "an address such as \"tcp:192.0.2.1:80\", or a list of them";
    r.one_or_more(v, WANTED, |r, v| {
        r.parsed(v, "an address such as \"tcp:192.0.2.1:80\"", upstream)
    })
}

fn upstream(text: &str) -> Result<Upstream, Fault> {
    const FORMS: &str = "the forms are \"tcp:ADDRESS:PORT\", \"unix:/PATH\" and \"unix:@NAME\"";
    if let Some(name) = text.strip_prefix("unix:") {
        return address::unix_name(name).map(|name| match name {
            UnixName::Path(path) => Upstream::Unix(path),
            UnixName::Abstract(name) => Upstream::Abstract(name),
        });
    }
    let Some(rest) = text.strip_prefix("tcp:") else {
        return Err(Fault::new(format!("\"{text}\" is no address to forward to")).help(FORMS));
    };
    match rest.parse::<SocketAddr>() {
        Ok(addr) if addr.port() != 0 => Ok(Upstream::Tcp(addr)),
        Ok(_) => Err(Fault::new("0 is no port to connect to")),
        Err(_) if rest.parse::<u16>().is_ok() => {
            Err(Fault::new(format!("\"{text}\" names no address"))
                .help(format!("write \"tcp:127.0.0.1:{rest}\" or another address")))
        }
        Err(_) if rest.contains(|c: char| c.is_ascii_alphabetic()) && !rest.starts_with('[') => Err(
            Fault::new(format!("\"{rest}\" is no IP address and port")).help(
                "usherd does no DNS, so that no connection waits for it; write the address itself",
            ),
        ),
        Err(_) => Err(Fault::new(format!("\"{rest}\" is no IP address and port")).help(FORMS)),
    }
}

pub fn groups(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<At<String>>> {
    r.list(v, "a list of group names", |r, v| {
        r.at(v, |r, v| r.word(v, "a group name"))
    })
}

pub fn env(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<(String, String)>> {
    let table = r.table(v, "a table of variables, { NAME = \"value\" }")?;
    let mut env = Vec::with_capacity(table.len());
    for (key, value) in table {
        let name: &str = key.get_ref();
        if !is_variable(name) {
            r.complain::<_, ()>(key, Fault::new(format!("\"{name}\" can be no variable")));
        }
        let value = r.string(value, "a text")?;
        env.push((name.to_owned(), value));
    }
    Some(env)
}

pub fn pass_env(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<String>> {
    r.list(v, "a list of variables", |r, v| {
        let name = r.string(v, "the name of a variable")?;
        if is_variable(&name) {
            return Some(name);
        }
        r.complain(v, Fault::new(format!("\"{name}\" can be no variable")))
    })
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

pub fn limits(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<Limit>> {
    let table = r.table(v, "a table of limits, { nofile = 1024 }")?;
    let mut limits = Vec::with_capacity(table.len());
    for (key, value) in table {
        let name: &str = key.get_ref();
        let Some((name, resource, unit)) = LIMITS.iter().find(|(known, ..)| *known == name) else {
            let known: Vec<&str> = LIMITS.iter().map(|(name, ..)| *name).collect();
            r.unknown(key, "limits", &known);
            continue;
        };
        let Some((soft, hard)) = limit(r, value, *unit) else {
            continue;
        };
        limits.push(Limit {
            name,
            resource: *resource as i32,
            soft,
            hard,
        });
    }
    Some(limits)
}

/// A value for both, or `{ soft, hard }`.
fn limit(r: &mut Reader<'_>, v: &Value<'_>, unit: Unit) -> Option<(u64, u64)> {
    let Some(table) = v.get_ref().as_table() else {
        let both = limit_value(r, v, unit)?;
        return Some((both, both));
    };
    let (mut soft, mut hard) = (None, None);
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "soft" => soft = limit_value(r, value, unit),
            "hard" => hard = limit_value(r, value, unit),
            _ => r.unknown(key, "a limit", &["soft", "hard"]),
        }
    }
    if !table.contains_key("soft") || !table.contains_key("hard") {
        return r.complain(
            v,
            Fault::new("a limit in two parts has both, soft and hard"),
        );
    }
    let (soft, hard) = (soft?, hard?);
    if soft > hard {
        return r.complain(v, Fault::new("the soft limit is above the hard one"));
    }
    Some((soft, hard))
}

fn limit_value(r: &mut Reader<'_>, v: &Value<'_>, unit: Unit) -> Option<u64> {
    if v.get_ref().as_str() == Some("unlimited") {
        return Some(u64::MAX);
    }
    match unit {
        Unit::Count if v.get_ref().is_str() => r.mismatch(v, "a whole number, or \"unlimited\""),
        Unit::Count => r.number(v, 0..=i64::from(i32::MAX)),
        Unit::Bytes => r.parsed(v, "a size such as \"64M\", or \"unlimited\"", value::size),
        Unit::Seconds => {
            let span = r.parsed(
                v,
                "a duration such as \"10s\", or \"unlimited\"",
                value::duration,
            )?;
            if span.subsec_nanos() != 0 {
                return r.complain(v, Fault::new("processor time is limited in whole seconds"));
            }
            Some(span.as_secs())
        }
    }
}

pub fn allow(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<Prefix>> {
    let allowed = prefixes(r, v)?;
    if allowed.is_empty() {
        let fault = Fault::new("an empty `allow` admits nobody").help(
            "leave the key out for everybody, write [\"0.0.0.0/0\", \"::/0\"] over a default, \
             or enabled = false",
        );
        return r.complain(v, fault);
    }
    Some(allowed)
}

pub fn prefixes(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<Prefix>> {
    r.list(v, "a list of addresses such as \"192.0.2.0/24\"", |r, v| {
        r.parsed(v, "an address such as \"192.0.2.0/24\"", prefix)
    })
}

fn prefix(text: &str) -> Result<Prefix, Fault> {
    text.parse().map_err(|bad| match bad {
        BadPrefix::NotAnAddress => Fault::new(format!("\"{text}\" is no address or prefix")).help(
            "only numbers here, such as \"192.0.2.0/24\" or \"2001:db8::1\": a name would make \
             admission depend on DNS",
        ),
        BadPrefix::BadLength => Fault::new(format!("\"{text}\" has no such prefix length"))
            .help("0 to 32 bits for IPv4, 0 to 128 for IPv6"),
        BadPrefix::HostBits(meant) => {
            Fault::new(format!("\"{text}\" has bits set after its prefix"))
                .help(format!("did you mean \"{meant}\"?"))
        }
    })
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
            "v4" => prefix.v4 = r.number(value, 1..=32)?,
            "v6" => prefix.v6 = r.number(value, 1..=128)?,
            _ => r.unknown(key, "source_prefix", SOURCE_PREFIX_KEYS),
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
            "admitted" => banner.admitted = Some(banner_text(r, value)?),
            "refused" => banner.refused = Some(banner_text(r, value)?),
            _ => r.unknown(key, "banner", BANNER_KEYS),
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

pub fn stop(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Stop> {
    let table = r.table(v, "a table such as { signal = \"TERM\", grace = \"10s\" }")?;
    let mut stop = Stop::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "signal" if value.get_ref().is_integer() => stop.signal = r.number(value, 1..=64)?,
            "signal" => {
                stop.signal = r.parsed(value, "a signal such as \"TERM\"", value::signal)?
            }
            "grace" => {
                stop.grace = r.parsed(value, "a duration such as \"10s\"", value::duration)?;
            }
            _ => r.unknown(key, "stop", STOP_KEYS),
        }
    }
    Some(stop)
}

pub fn isolation(r: &mut Reader<'_>, v: &Value<'_>) -> Option<()> {
    match v.get_ref().as_str() {
        Some("none") => Some(()),
        Some(preset @ ("standard" | "strict" | "vps")) => {
            let fault = Fault::new(format!("isolation \"{preset}\" is not available yet"))
                .help("only \"none\" is; it is also the default");
            r.complain(v, fault)
        }
        _ if v.get_ref().is_table() => {
            let fault = Fault::new("a table that refines a preset is not available yet")
                .help("only \"none\" is; it is also the default");
            r.complain(v, fault)
        }
        _ => r.mismatch(v, "\"none\""),
    }
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

pub fn socket(r: &mut Reader<'_>, v: &Value<'_>) -> Option<RawSocket> {
    let table = r.table(v, "a table such as { nodelay = true }")?;
    let mut socket = RawSocket::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "freebind" => socket.freebind = r.at(value, Reader::boolean),
            "device" => socket.device = r.at(value, device),
            "mark" => socket.mark = r.at(value, |r, v| r.number(v, 0..=i64::from(u32::MAX))),
            "transparent" => socket.transparent = r.at(value, Reader::boolean),
            "receive_buffer" => socket.receive_buffer = r.at(value, buffer),
            "send_buffer" => socket.send_buffer = r.at(value, buffer),
            "keepalive" => socket.keepalive = r.at(value, keepalive),
            "nodelay" => socket.nodelay = r.at(value, Reader::boolean),
            "dscp" => socket.dscp = r.at(value, |r, v| r.number(v, 0..=63)),
            "fast_open" => socket.fast_open = r.at(value, |r, v| r.number(v, 1..=65_535)),
            "defer_accept" => socket.defer_accept = r.at(value, seconds),
            "owner" => socket.owner = r.at(value, |r, v| r.word(v, "a user name")),
            "group" => socket.group = r.at(value, |r, v| r.word(v, "a group name")),
            "mode" => {
                socket.mode = r.at(value, |r, v| {
                    r.parsed(v, "octal digits such as \"0660\"", value::mode)
                });
            }
            _ => r.unknown(key, "socket", SOCKET_KEYS),
        }
    }
    Some(socket)
}

fn device(r: &mut Reader<'_>, v: &Value<'_>) -> Option<String> {
    let name = r.string(v, "the name of a network interface")?;
    if address::is_interface_name(&name) {
        return Some(name);
    }
    r.complain(
        v,
        Fault::new(format!("no network interface can be named \"{name}\"")),
    )
}

/// The kernel keeps socket buffers in an `int`, doubled.
fn buffer(r: &mut Reader<'_>, v: &Value<'_>) -> Option<u64> {
    let size = some_size(r, v)?;
    if size > 1 << 30 {
        return r.complain(v, Fault::new("no socket buffer is larger than \"1G\""));
    }
    Some(size)
}

/// What tcp(7) counts in whole seconds.
fn seconds(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Duration> {
    let time = span(r, v)?;
    if time.subsec_nanos() != 0 || time.as_secs() > 32_767 {
        return r.complain(
            v,
            Fault::new("the kernel takes 1 to 32767 whole seconds here"),
        );
    }
    Some(time)
}

/// `false`, `true` for the kernel's own times, or a table.
fn keepalive(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Option<Keepalive>> {
    let mut keepalive = Keepalive {
        idle: None,
        interval: None,
        probes: None,
    };
    match v.get_ref() {
        DeValue::Boolean(on) => Some(on.then_some(keepalive)),
        DeValue::Table(table) => {
            for (key, value) in table {
                match key.get_ref().as_ref() {
                    "idle" => keepalive.idle = Some(seconds(r, value)?),
                    "interval" => keepalive.interval = Some(seconds(r, value)?),
                    "probes" => keepalive.probes = Some(r.number(value, 1..=127)?),
                    _ => r.unknown(key, "keepalive", KEEPALIVE_KEYS),
                }
            }
            Some(Some(keepalive))
        }
        _ => r.mismatch(v, "true, false or a table such as { idle = \"60s\" }"),
    }
}

pub fn daemon_log(r: &mut Reader<'_>, v: &Value<'_>) -> Option<LogSettings> {
    let table: &DeTable<'_> = r.table(v, "a table such as { to = \"syslog\" }")?;
    let mut log = LogSettings::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "to" => log.to = r.parsed(value, "\"stderr\", \"syslog\" or \"/path\"", log_target)?,
            "format" => {
                let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
                log.format = r.choice(value, &formats)?;
            }
            "level" => {
                let levels = [
                    ("error", LogLevel::Error),
                    ("warn", LogLevel::Warn),
                    ("info", LogLevel::Info),
                    ("debug", LogLevel::Debug),
                ];
                log.level = r.choice(value, &levels)?;
            }
            _ => r.unknown(key, "daemon.log", DAEMON_LOG_KEYS),
        }
    }
    Some(log)
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
