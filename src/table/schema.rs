//! The keys of the table: what the operator may write, and the type of each
//! value. What the values mean together is `check`'s affair.
//!
//! Each key stands once, in `service_keys!`, beside the reader of its value.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::access::{Peers, Prefix};
use super::address::Listen;
use super::complaint::{At, Fault, Place};
use super::reader::{Reader, Value};
use super::{
    Activation, Audit, Banner, Builtin, DaemonCpus, Forward, Grant, Hours, IoPriority, Keepalive,
    Limit, LogEvents, LogSettings, OnFull, OnlyIf, Rate, Resources, Side, SourcePrefix, Stderr,
    Stop, Undecided,
};

mod address;
mod admin;
mod content;
mod import;
mod isolation;
mod layering;
mod matches;
mod process;
pub(crate) mod read;
mod socket;

pub use admin::GRANT_KEYS;
pub use content::{QUIC_VERSIONS, TLS_VERSIONS, keys_of};
pub use import::{IMPORT_KEYS, RawImport, read_import};
pub use isolation::{IO_KEYS, ISOLATION_KEYS, RESOURCES_KEYS, RawIsolation};
pub use layering::ONLY_IF_KEYS;
pub use matches::{PROTOCOLS, RawRule, match_keys};
pub use process::{LIMITS, Unit};
pub use read::LOG_EVENTS;

/// Top level of a file.
pub const FILE_KEYS: &[&str] = &[
    "include", "layers", "import", "daemon", "defaults", "service",
];
pub const DAEMON_KEYS: &[&str] = &[
    "user",
    "runtime_dir",
    "state_dir",
    "status_group",
    "admin_group",
    "cpus",
    "log",
    "undecided",
    "audit",
    "resources",
    "operations",
];
pub const DAEMON_LOG_KEYS: &[&str] = &["to", "format", "level"];
pub const AUDIT_KEYS: &[&str] = &["max_size", "keep", "on_failure"];
pub const UNDECIDED_KEYS: &[&str] = &["total", "per_listener", "per_source"];
pub const SOCKET_KEYS: &[&str] = &[
    "freebind",
    "device",
    "mark",
    "transparent",
    "receive_buffer",
    "send_buffer",
    "keepalive",
    "nodelay",
    "dscp",
    "fast_open",
    "defer_accept",
    "owner",
    "group",
    "mode",
];
pub const KEEPALIVE_KEYS: &[&str] = &["idle", "interval", "probes"];
pub const BANNER_KEYS: &[&str] = &["admitted", "refused"];
pub const STOP_KEYS: &[&str] = &["signal", "grace"];
pub const FORWARD_KEYS: &[&str] = &["to", "proxy", "connect_timeout"];
pub const SOURCE_PREFIX_KEYS: &[&str] = &["v4", "v6"];

/// Keys that say what one service is, and so have no place in `[defaults]`.
pub const NOT_DEFAULTS: &[&str] = &[
    "listen",
    "exec",
    "argv0",
    "builtin",
    "forward",
    "match",
    "state",
    "credentials",
    "admin",
    "description",
    "from",
    "unset",
    "only_if",
];

/// `socket`, with accounts still by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawSocket {
    pub freebind: Option<At<bool>>,
    pub device: Option<At<String>>,
    pub mark: Option<At<u32>>,
    pub transparent: Option<At<bool>>,
    pub receive_buffer: Option<At<u64>>,
    pub send_buffer: Option<At<u64>>,
    pub keepalive: Option<At<Option<Keepalive>>>,
    pub nodelay: Option<At<bool>>,
    pub dscp: Option<At<u8>>,
    pub fast_open: Option<At<u32>>,
    pub defer_accept: Option<At<Duration>>,
    pub owner: Option<At<String>>,
    pub group: Option<At<String>>,
    pub mode: Option<At<u32>>,
}

/// `[daemon]`.
#[derive(Clone, Debug, Default)]
pub struct RawDaemon {
    pub user: Option<At<String>>,
    pub runtime_dir: Option<At<PathBuf>>,
    pub state_dir: Option<At<PathBuf>>,
    pub status_group: Option<At<String>>,
    pub admin_group: Option<At<String>>,
    pub cpus: Option<At<DaemonCpus>>,
    pub log: Option<At<LogSettings>>,
    pub undecided: Option<At<Undecided>>,
    pub audit: Option<At<Audit>>,
    pub resources: Option<At<Resources>>,
    /// Files of the catalogue, or patterns for them.
    pub operations: Option<At<Vec<At<String>>>>,
}

impl RawDaemon {
    /// Where the value of a key stands, if it does.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Option<Place> {
        fn place<T>(at: &Option<At<T>>) -> Option<Place> {
            at.as_ref().map(|at| at.place)
        }
        match key {
            "user" => place(&self.user),
            "runtime_dir" => place(&self.runtime_dir),
            "state_dir" => place(&self.state_dir),
            "status_group" => place(&self.status_group),
            "admin_group" => place(&self.admin_group),
            "cpus" => place(&self.cpus),
            "log" => place(&self.log),
            "undecided" => place(&self.undecided),
            "resources" => place(&self.resources),
            "audit" => place(&self.audit),
            "operations" => place(&self.operations),
            _ => None,
        }
    }
}

/// A service as written.
#[derive(Clone, Debug)]
pub struct RawService {
    pub name: At<String>,
    pub keys: Keys,
    /// Another service has its keys `from` this one.
    pub is_taken: bool,
}

/// `match` is a word of Rust, so its field has another name.
macro_rules! key_name {
    (matches) => {
        "match"
    };
    ($key:ident) => {
        stringify!($key)
    };
}

macro_rules! service_keys {
    ($($(#[$doc:meta])* $key:ident: $type:ty = $read:expr;)*) => {
        /// Every key of `[service.NAME]`.
        pub const SERVICE_KEYS: &[&str] = &[$(key_name!($key)),*];

        /// The keys that a `[service.NAME]` or `[defaults]` has.
        #[derive(Clone, Debug, Default)]
        pub struct Keys {
            $($(#[$doc])* pub $key: Option<At<$type>>,)*
            /// Keys that are there, whatever became of their values.
            present: Vec<(&'static str, Place)>,
            /// Keys inside those that are tables: `isolation` has `preset`.
            inside: Vec<(&'static str, String, Place)>,
            /// Keys that unknown ones seem to stand for.
            meant: Vec<&'static str>,
        }

        impl Keys {
            /// Reads one key; false if there is no such key.
            fn read(&mut self, reader: &mut Reader<'_>, key: &Spanned<DeString<'_>>, value: &Value<'_>) -> bool {
                let place = reader.place(key);
                $(if key.get_ref() == key_name!($key) {
                    self.present.push((key_name!($key), place));
                    self.look_inside(reader, key_name!($key), "", value);
                    self.$key = reader.at(value, $read);
                    return true;
                })*
                false
            }
        }
    };
}

service_keys! {
    listen: Vec<At<Listen>> = address::listen;
    exec: Vec<String> = process::exec;
    argv0: String = |r, v| r.word(v, "a name");
    builtin: Builtin = |r, v| r.choice(v, &read::BUILTINS);
    forward: Forward = address::forward;
    wait: bool = Reader::boolean;
    activation: Activation = |r, v| r.choice(v, &read::ACTIVATIONS);
    matches: Vec<RawRule> = matches::matches;
    match_timeout: Duration = read::deadline;
    first_byte_timeout: Duration = read::deadline;
    proxy_protocol: Vec<Prefix> = matches::prefixes;
    speaks_first: Side = |r, v| r.choice(v, &read::SPEAKS_FIRST);
    user: String = |r, v| r.word(v, "a user name");
    group: String = |r, v| r.word(v, "a group name");
    /// May be empty: then the server has no supplementary group.
    groups: Vec<At<String>> = process::groups;
    dir: PathBuf = Reader::absolute;
    umask: u32 = |r, v| r.parsed(v, "octal digits such as \"022\"", super::value::mode);
    nice: i32 = |r, v| r.number(v, -20..=19);
    env: Vec<(String, String)> = process::env;
    pass_env: Vec<String> = process::pass_env;
    limits: Vec<Limit> = process::limits;
    stderr: Stderr = |r, v| r.choice(v, &read::STDERRS);
    allow: Vec<Peers> = address::allow;
    deny: Vec<Peers> = address::peers;
    hours: Vec<Hours> = read::hours;
    instances: u32 = |r, v| r.number(v, 1..=1_000_000);
    per_source: Option<u32> = |r, v| read::or_none(r, v, |r, v| r.number(v, 1..=1_000_000));
    source_prefix: SourcePrefix = read::source_prefix;
    rate: Option<Rate> = |r, v| read::or_none(r, v, read::rate);
    rate_per_source: Option<Rate> = |r, v| read::or_none(r, v, read::rate);
    on_full: OnFull = |r, v| r.choice(v, &read::ON_FULL);
    max_load: Option<f64> = |r, v| read::or_none(r, v, read::load);
    banner: Banner = read::banner;
    backlog: u32 = |r, v| r.number(v, 1..=65_535);
    idle_timeout: Option<Duration> = |r, v| read::or_none(r, v, read::span);
    max_runtime: Option<Duration> = |r, v| read::or_none(r, v, read::span);
    max_bytes: Option<u64> = |r, v| read::or_none(r, v, read::some_size);
    stop: Stop = process::stop;
    oom_score: i32 = |r, v| r.number(v, -1000..=1000);
    cpus: Vec<u16> = isolation::cpus;
    io_priority: IoPriority = isolation::io_priority;
    isolation: RawIsolation = isolation::isolation;
    resources: Resources = isolation::resources;
    state: String = isolation::state;
    credentials: Vec<(String, PathBuf)> = isolation::credentials;
    pam: String = |r, v| r.word(v, "the name of a PAM service");
    admin: Vec<At<Grant>> = admin::admin;
    log: LogEvents = read::log_events;
    socket: RawSocket = socket::socket;
    /// The service that the other keys are from where it has none itself.
    from: String = |r, v| r.word(v, "the name of another service");
    /// Keys that are not to come from there.
    unset: Vec<String> = layering::unset;
    only_if: OnlyIf = layering::only_if;
    enabled: bool = Reader::boolean;
    description: String = |r, v| r.string(v, "a text");
}

impl Keys {
    /// Reads the table of a service or of `[defaults]`.
    pub fn read_table(reader: &mut Reader<'_>, table: &DeTable<'_>, whose: &str) -> Self {
        let mut keys = Self::default();
        for (key, value) in table {
            if !keys.read(reader, key, value) {
                keys.meant.extend(unknown_key(reader, key, whose));
            }
        }
        keys
    }

    fn look_inside(
        &mut self,
        reader: &Reader<'_>,
        key: &'static str,
        above: &str,
        value: &Value<'_>,
    ) {
        for (inner, value) in value.get_ref().as_table().into_iter().flatten() {
            let path = format!("{above}{}", inner.get_ref());
            match value.get_ref() {
                DeValue::Table(table) if !table.is_empty() => {
                    self.look_inside(reader, key, &format!("{path}."), value);
                }
                _ => self.inside.push((key, path, reader.place(inner))),
            }
        }
    }

    /// What is written inside of a key that is a table, and where.
    pub fn inside(&self, key: &str) -> impl Iterator<Item = (&str, Place)> {
        let inside = self.inside.iter().filter(move |(of, ..)| *of == key);
        inside.map(|(_, path, place)| (path.as_str(), *place))
    }

    /// Whether a key is there, be it misspelt.
    #[must_use]
    pub fn mentions(&self, key: &str) -> bool {
        self.place_of(key).is_some() || self.meant.contains(&key)
    }

    /// Where a key stands, if it does.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Option<Place> {
        let found = self.present.iter().find(|(name, _)| *name == key)?;
        Some(found.1)
    }
}

/// Words of inetd, xinetd and systemd for keys that are called otherwise here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("server", "exec"),
    ("server_args", "exec"),
    ("program", "exec"),
    ("command", "exec"),
    ("port", "listen"),
    ("bind", "listen"),
    ("interface", "listen"),
    ("protocol", "listen"),
    ("socket_type", "listen"),
    ("type", "listen"),
    ("redirect", "forward"),
    ("only_from", "allow"),
    ("no_access", "deny"),
    ("access_times", "hours"),
    ("cps", "rate"),
    ("max_connections", "instances"),
    ("disable", "enabled"),
    ("disabled", "enabled"),
    ("passenv", "pass_env"),
    ("environment", "env"),
    ("log_on_success", "log"),
    ("log_on_failure", "log"),
    ("log_type", "log"),
    ("rlimit_as", "limits"),
    ("rlimit_cpu", "limits"),
    ("directory", "dir"),
];

fn unknown_key(
    reader: &mut Reader<'_>,
    key: &Spanned<DeString<'_>>,
    whose: &str,
) -> Option<&'static str> {
    let name: &str = key.get_ref();
    let fault = Fault::new(format!("no key \"{name}\" in {whose}"));
    if let Some(parent) = isolation::parent_of(name) {
        let help = format!("it is a key of `{parent}`: write {parent}.{name}");
        reader.complain::<_, ()>(key, fault.help(help));
        return None;
    }
    let Some((_, ours)) = ELSEWHERE.iter().find(|(theirs, _)| *theirs == name) else {
        return reader.unknown(key, whose, SERVICE_KEYS);
    };
    reader.complain::<_, ()>(key, fault.help(format!("here it is `{ours}`")));
    Some(ours)
}

/// `[defaults]`, without the keys that belong to one service.
pub fn read_defaults(reader: &mut Reader<'_>, value: &Value<'_>) -> Keys {
    let Some(table) = reader.table(value, "a table of keys") else {
        return Keys::default();
    };
    for (key, _) in table {
        let name: &str = key.get_ref();
        if NOT_DEFAULTS.contains(&name) {
            let fault = Fault::new(format!("\"{name}\" says what one service is"))
                .help("it has no place in [defaults]; write it in each service");
            reader.complain::<_, ()>(key, fault);
        }
    }
    Keys::read_table(reader, table, "[defaults]")
}

/// `[service.NAME]`.
pub fn read_service(
    reader: &mut Reader<'_>,
    key: &Spanned<DeString<'_>>,
    value: &Value<'_>,
) -> Option<RawService> {
    let name: &str = key.get_ref();
    let keys = match value.get_ref() {
        DeValue::Table(table) => Keys::read_table(reader, table, &format!("service \"{name}\"")),
        _ if SERVICE_KEYS.contains(&name) => {
            let fault = Fault::new("this service has no name")
                .help("a service is headed [service.NAME], with a name of yours");
            return reader.complain(key, fault);
        }
        _ => return reader.mismatch(value, "the table of a service"),
    };
    check_name(reader, key);
    Some(RawService {
        name: At {
            value: name.to_owned(),
            place: reader.place(key),
        },
        keys,
        is_taken: false,
    })
}

/// Names go into logs, variables and (later) directory names.
fn check_name(reader: &mut Reader<'_>, key: &Spanned<DeString<'_>>) {
    let name: &str = key.get_ref();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.@+".contains(&b);
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if starts_well && name.len() <= 64 && name.bytes().all(plain) {
        return;
    }
    let fault = Fault::new(format!("\"{name}\" can be no name of a service"))
        .help("1 to 64 letters, digits and - _ . @ +, beginning with a letter, a digit or _");
    reader.complain::<_, ()>(key, fault);
}

/// `[daemon]`.
pub fn read_daemon(reader: &mut Reader<'_>, value: &Value<'_>) -> RawDaemon {
    let mut daemon = RawDaemon::default();
    let Some(table) = reader.table(value, "a table of keys") else {
        return daemon;
    };
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "user" => daemon.user = reader.at(value, |r, v| r.word(v, "a user name")),
            "runtime_dir" => daemon.runtime_dir = reader.at(value, Reader::absolute),
            "state_dir" => daemon.state_dir = reader.at(value, Reader::absolute),
            "status_group" => {
                daemon.status_group = reader.at(value, |r, v| r.word(v, "a group name"));
            }
            "admin_group" => {
                daemon.admin_group = reader.at(value, |r, v| r.word(v, "a group name"));
            }
            "cpus" => daemon.cpus = reader.at(value, read::daemon_cpus),
            "log" => daemon.log = reader.at(value, read::daemon_log),
            "undecided" => daemon.undecided = reader.at(value, read::undecided),
            "audit" => daemon.audit = reader.at(value, read::audit),
            "resources" => daemon.resources = reader.at(value, isolation::resources),
            "operations" => daemon.operations = reader.at(value, read::operations),
            _ => {
                reader.unknown(key, "[daemon]", DAEMON_KEYS);
            }
        }
    }
    daemon
}
