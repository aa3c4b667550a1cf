//! Writes a table out as TOML with every default filled in and every name
//! resolved: what `usherd check --effective` shows, there with comments on
//! where each value comes from. It loads again to the same table, and `diff` compares services by the lines written here.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::path::PathBuf;

use super::access::{List, Prefix};
use super::confinement::{confinement_lines, show_resources};
pub use super::confinement::{isolation_settings, resource_settings};
use super::schema::{LIMITS, LOG_EVENTS, Unit};
use super::show_rule::show_rules;
use super::value::{show_cpus, show_duration, show_hours, show_rate, show_signal, show_size};
use super::{
    Activation, Audit, Banner, Builtin, Daemon, DaemonCpus, Exec, Forward, Keepalive, Limit,
    LogEvents, LogFormat, LogLevel, LogTarget, OnFull, OnlyIf, ProxyVersion, Rules, Serve, Service,
    Side, SocketOptions, Stderr, Table, Undecided,
};

/// The lines of one table: key and value as TOML.
pub type Lines = Vec<(&'static str, String)>;

/// The whole table.
#[must_use]
pub fn effective(table: &Table) -> String {
    let mut out = String::from("[daemon]\n");
    write_lines(&mut out, &daemon_lines(&table.daemon));
    for service in &table.services {
        let _ = write!(out, "\n[service.{}]\n", key(&service.name));
        write_lines(&mut out, &service_lines(service));
    }
    out
}

fn write_lines(out: &mut String, lines: &Lines) {
    for (key, value) in lines {
        let _ = writeln!(out, "{key} = {value}");
    }
}

/// One line with a comment on it.
pub(super) fn write_line(out: &mut String, key: &str, value: &str, comment: &str) {
    let line = format!("{key} = {value}");
    let _ = writeln!(out, "{line:40}  # {comment}");
}

/// `[daemon]`.
#[must_use]
pub fn daemon_lines(daemon: &Daemon) -> Lines {
    let mut lines = Lines::new();
    if let Some(user) = &daemon.user {
        let name = user.name.clone().unwrap_or_else(|| user.uid.to_string());
        lines.push(("user", text(&name)));
    }
    if let Some(dir) = &daemon.runtime_dir {
        lines.push(("runtime_dir", path(dir)));
    }
    if let Some(dir) = &daemon.state_dir {
        lines.push(("state_dir", path(dir)));
    }
    for (key, group) in [
        ("status_group", &daemon.status_group),
        ("admin_group", &daemon.admin_group),
    ] {
        lines.extend(group.iter().map(|group| (key, text(&group.name))));
    }
    let cpus = match &daemon.cpus {
        DaemonCpus::One => "one".to_owned(),
        DaemonCpus::All => "all".to_owned(),
        DaemonCpus::Listed(cpus) => show_cpus(cpus),
    };
    lines.push(("cpus", text(&cpus)));
    let to = match &daemon.log.to {
        LogTarget::Stderr => text("stderr"),
        LogTarget::Syslog => text("syslog"),
        LogTarget::File(file) => path(file),
    };
    let format = match daemon.log.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let level = match daemon.log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    let log = [("to", to), ("format", text(format)), ("level", text(level))];
    lines.push(("log", inline(log)));
    let Undecided {
        total,
        per_listener,
        per_source,
    } = daemon.undecided;
    let undecided = [
        ("total", total),
        ("per_listener", per_listener),
        ("per_source", per_source),
    ];
    lines.push(("undecided", inline(undecided)));
    let Audit {
        max_size,
        keep,
        refuse,
    } = daemon.audit;
    let audit = [
        ("max_size", text(&show_size(max_size))),
        ("keep", keep.to_string()),
        ("on_failure", text(if refuse { "refuse" } else { "warn" })),
    ];
    lines.push(("audit", inline(audit)));
    lines.push(("resources", show_resources(&daemon.resources)));
    let operations = daemon.operations.iter().map(|file| path(file));
    lines.push(("operations", list(operations)));
    lines
}

/// `[service.NAME]`.
#[must_use]
pub fn service_lines(service: &Service) -> Lines {
    let mut lines = Lines::new();
    if let Some(description) = &service.description {
        lines.push(("description", text(description)));
    }
    lines.push(("enabled", service.wanted().to_string()));
    lines.extend(service.only_if.iter().map(|c| ("only_if", show_only_if(c))));
    lines.push((
        "listen",
        list(service.listen.iter().map(|l| text(&l.to_string()))),
    ));
    match &service.serve {
        Serve::Exec(exec) => exec_lines(&mut lines, exec, service.rules.wait),
        Serve::Builtin(builtin) => lines.push(("builtin", text(builtin.name()))),
        Serve::Forward(forward) => lines.push(("forward", show_forward(forward))),
    }
    routing_lines(&mut lines, service);
    rules_lines(&mut lines, service);
    socket_lines(&mut lines, &service.socket);
    lines
}

fn exec_lines(lines: &mut Lines, exec: &Exec, wait: bool) {
    let program = std::iter::once(path(&exec.program));
    let usual = exec
        .program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let argv0 = exec.argv0.as_deref().unwrap_or(&usual);
    lines.push((
        "exec",
        list(program.chain(exec.args.iter().map(|a| text(a)))),
    ));
    if !argv0.is_empty() {
        lines.push(("argv0", text(argv0)));
    }
    lines.push(("wait", wait.to_string()));
    let activation = match exec.activation {
        Activation::Inetd => "inetd",
        Activation::ListenFds => "listen-fds",
    };
    lines.push(("activation", text(activation)));
    if let Some(user) = &exec.user {
        lines.push(("user", text(&user.user)));
        if !user.dynamic {
            lines.push(("group", text(&user.gid.to_string())));
            let groups = user.groups.iter().map(|g| text(&g.to_string()));
            lines.push(("groups", list(groups)));
        }
    }
    lines.push(("dir", path(&exec.dir)));
    lines.push(("umask", text(&format!("{:03o}", exec.umask))));
    if let Some(nice) = exec.nice {
        lines.push(("nice", nice.to_string()));
    }
    lines.push(("env", inline(exec.env.iter().map(|(k, v)| (k, text(v))))));
    lines.push(("pass_env", list(exec.pass_env.iter().map(|v| text(v)))));
    lines.push((
        "limits",
        inline(exec.limits.iter().map(|l| (l.name, show_limit(l)))),
    ));
    let stderr = match exec.stderr {
        Stderr::Log => "log",
        Stderr::Socket => "socket",
        Stderr::Null => "null",
    };
    lines.push(("stderr", text(stderr)));
    let stop = [
        ("signal", text(&show_signal(exec.stop.signal))),
        ("grace", text(&show_duration(exec.stop.grace))),
    ];
    lines.push(("stop", inline(stop)));
    confinement_lines(lines, exec);
}

fn routing_lines(lines: &mut Lines, service: &Service) {
    let routing = &service.routing;
    if !routing.rules.is_empty() {
        lines.push(("match", show_rules(&routing.rules)));
    }
    let deadlines = [
        ("match_timeout", routing.match_timeout),
        ("first_byte_timeout", routing.first_byte_timeout),
    ];
    for (key, deadline) in deadlines {
        if let Some(deadline) = deadline {
            lines.push((key, text(&show_duration(deadline))));
        }
    }
    if let Some(sources) = &routing.proxy_protocol {
        let sources = sources.iter().map(|p| text(&p.to_string()));
        lines.push(("proxy_protocol", list(sources)));
    }
    if service.listen.iter().any(|l| l.is_datagram() != Some(true)) {
        let who = match routing.speaks_first {
            Side::Client => "client",
            Side::Server => "server",
        };
        lines.push(("speaks_first", text(who)));
    }
}

fn rules_lines(lines: &mut Lines, service: &Service) {
    let rules: &Rules = &service.rules;
    let peers = |prefixes: &[Prefix], lists: &[List]| {
        let prefixes = prefixes.iter().map(|prefix| text(&prefix.to_string()));
        let lists = lists
            .iter()
            .map(|list| text(&format!("list:{}", list.name)));
        list(prefixes.chain(lists).collect::<Vec<_>>().into_iter())
    };
    let access = &rules.access;
    if let Some(allow) = &access.allow {
        lines.push(("allow", peers(allow, &access.allow_lists)));
    }
    if !access.deny.is_empty() || !access.deny_lists.is_empty() {
        lines.push(("deny", peers(&access.deny, &access.deny_lists)));
    }
    lines.push((
        "hours",
        list(rules.hours.iter().map(|h| text(&show_hours(h)))),
    ));
    lines.push(("instances", rules.instances.to_string()));
    lines.push(("per_source", or_none(rules.per_source, |n| n.to_string())));
    let prefix = rules.source_prefix;
    lines.push((
        "source_prefix",
        inline([("v4", prefix.v4), ("v6", prefix.v6)]),
    ));
    lines.push(("rate", or_none(rules.rate, |r| text(&show_rate(r)))));
    lines.push((
        "rate_per_source",
        or_none(rules.rate_per_source, |r| text(&show_rate(r))),
    ));
    let on_full = match rules.on_full {
        OnFull::Queue => "queue",
        OnFull::Refuse => "refuse",
    };
    lines.push(("on_full", text(on_full)));
    lines.push((
        "max_load",
        or_none(rules.max_load, |load| format!("{load:?}")),
    ));
    lines.push(("banner", show_banner(&rules.banner)));
    if !matches!(service.serve, Serve::Exec(_)) {
        lines.push((
            "idle_timeout",
            or_none(rules.idle_timeout, |d| text(&show_duration(d))),
        ));
        lines.push((
            "max_bytes",
            or_none(rules.max_bytes, |n| text(&show_size(n))),
        ));
    }
    lines.push((
        "max_runtime",
        or_none(rules.max_runtime, |d| text(&show_duration(d))),
    ));
    lines.push(("log", show_events(rules.log)));
    if service.listen.iter().any(|l| l.is_datagram() != Some(true)) {
        let backlog = service.socket.backlog.unwrap_or(super::DEFAULT_BACKLOG);
        lines.push(("backlog", backlog.to_string()));
    }
}

fn socket_lines(lines: &mut Lines, socket: &SocketOptions) {
    let number = |n: Option<u32>| n.map(|n| n.to_string());
    let size = |n: Option<u64>| n.map(|n| text(&show_size(n)));
    let account = |id: Option<u32>| id.map(|id| text(&id.to_string()));
    let options = [
        ("freebind", Some(socket.freebind.to_string())),
        ("device", socket.device.as_deref().map(text)),
        ("mark", number(socket.mark)),
        ("transparent", Some(socket.transparent.to_string())),
        ("receive_buffer", size(socket.receive_buffer)),
        ("send_buffer", size(socket.send_buffer)),
        ("keepalive", Some(show_keepalive(socket.keepalive.as_ref()))),
        ("nodelay", Some(socket.nodelay.to_string())),
        ("dscp", socket.dscp.map(|n| n.to_string())),
        ("fast_open", number(socket.fast_open)),
        (
            "defer_accept",
            socket.defer_accept.map(|d| text(&show_duration(d))),
        ),
        ("owner", account(socket.owner)),
        ("group", account(socket.group)),
        ("mode", socket.mode.map(|m| text(&format!("{m:04o}")))),
    ];
    let given = options.into_iter().filter_map(|(k, v)| Some((k, v?)));
    lines.push(("socket", inline(given)));
}

fn show_only_if(only_if: &OnlyIf) -> String {
    let paths = |of: &[PathBuf]| (!of.is_empty()).then(|| list(of.iter().map(|p| path(p))));
    let hosts = &only_if.host;
    let hosts = (!hosts.is_empty()).then(|| list(hosts.iter().map(|host| text(host))));
    let parts = [
        ("path_exists", paths(&only_if.path_exists)),
        ("path_missing", paths(&only_if.path_missing)),
        ("host", hosts),
    ];
    inline(parts.into_iter().filter_map(|(k, v)| Some((k, v?))))
}

fn show_keepalive(keepalive: Option<&Keepalive>) -> String {
    let Some(keepalive) = keepalive else {
        return "false".to_owned();
    };
    let parts = [
        ("idle", keepalive.idle.map(|d| text(&show_duration(d)))),
        (
            "interval",
            keepalive.interval.map(|d| text(&show_duration(d))),
        ),
        ("probes", keepalive.probes.map(|n| n.to_string())),
    ];
    if parts.iter().all(|(_, part)| part.is_none()) {
        return "true".to_owned();
    }
    inline(parts.into_iter().filter_map(|(k, v)| Some((k, v?))))
}

fn show_forward(forward: &Forward) -> String {
    let mut parts = vec![("to", list(forward.to.iter().map(|u| text(&u.to_string()))))];
    match forward.proxy {
        Some(ProxyVersion::V1) => parts.push(("proxy", text("v1"))),
        Some(ProxyVersion::V2) => parts.push(("proxy", text("v2"))),
        None => {}
    }
    parts.push((
        "connect_timeout",
        text(&show_duration(forward.connect_timeout)),
    ));
    inline(parts)
}

fn show_banner(banner: &Banner) -> String {
    let parts = [("admitted", &banner.admitted), ("refused", &banner.refused)];
    inline(
        parts
            .into_iter()
            .filter_map(|(k, v)| Some((k, text(v.as_ref()?)))),
    )
}

fn show_events(log: LogEvents) -> String {
    let on = [log.accept, log.start, log.exit, log.refuse];
    let chosen = LOG_EVENTS.iter().zip(on).filter(|(_, on)| *on);
    list(chosen.map(|(event, _)| text(event)))
}

fn show_limit(limit: &Limit) -> String {
    let unit = LIMITS
        .iter()
        .find(|(name, ..)| *name == limit.name)
        .map_or(Unit::Count, |(_, _, unit)| *unit);
    let show = |value: u64| match unit {
        _ if value == u64::MAX => text("unlimited"),
        Unit::Count => value.to_string(),
        Unit::Bytes => text(&show_size(value)),
        Unit::Seconds => text(&show_duration(std::time::Duration::from_secs(value))),
    };
    inline([("soft", show(limit.soft)), ("hard", show(limit.hard))])
}

impl Builtin {
    /// As in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Builtin::Echo => "echo",
            Builtin::Discard => "discard",
            Builtin::Chargen => "chargen",
            Builtin::Daytime => "daytime",
            Builtin::Time => "time",
            Builtin::Tcpmux => "tcpmux",
            Builtin::Metrics => "metrics",
            Builtin::Status => "status",
        }
    }
}

fn or_none<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| text("none"), show)
}

pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

pub(super) fn inline<K: AsRef<str>, V: ToString>(
    parts: impl IntoIterator<Item = (K, V)>,
) -> String {
    let parts: Vec<String> = parts
        .into_iter()
        .map(|(k, v)| format!("{} = {}", key(k.as_ref()), v.to_string()))
        .collect();
    if parts.is_empty() {
        return "{}".to_owned();
    }
    format!("{{ {} }}", parts.join(", "))
}

/// Paths come from TOML strings, so nothing is lost.
pub(super) fn path(path: &std::path::Path) -> String {
    text(&path.to_string_lossy())
}

pub(super) fn key(name: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !name.is_empty() && name.bytes().all(bare) {
        name.to_owned()
    } else {
        text(name)
    }
}

/// A basic string of TOML.
pub(super) fn text(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
