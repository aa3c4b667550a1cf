//! The table: what the operator wrote, checked and turned into plain values.
//!
//! `source` reads the files, `schema` knows the keys, `check` decides what
//! they mean together and collects every complaint, `effective` writes the
//! result out again as TOML. Nothing here opens a socket or starts a process.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::admin::catalogue::Catalogue;

pub mod access;
pub mod address;
pub mod capability;
pub mod check;
pub mod complaint;
mod confinement;
pub mod diff;
mod dns_types;
pub mod edit;
pub mod effective;
pub mod host;
pub mod import;
pub mod isolation;
pub mod names;
pub mod origins;
pub mod provenance;
pub(crate) mod reader;
pub mod schema;
pub mod show_rule;
mod source;
pub mod value;

pub use access::{Access, BadPrefix, Prefix};
pub use address::Listen;
pub use check::{Loaded, load};
pub use complaint::{Complaint, Complaints};
pub use diff::{Change, diff};
pub use effective::effective;
pub use host::Host;
pub use isolation::{IoPriority, Isolation, Resources};
pub use show_rule::show_rule;
pub use source::Source;

/// The table used where there is no other: a demonstration on loopback ports.
pub const DEFAULT_TABLE: &str = include_str!("../../config/usherd.toml");

/// listen(2), where a service says nothing else.
pub const DEFAULT_BACKLOG: u32 = 1024;

/// From accept to the decision, where the table says nothing.
pub const MATCH_TIMEOUT: Duration = Duration::from_secs(5);
/// From accept to the first byte, where the table says nothing and silence is an answer.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(2);

/// A table without complaints.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub daemon: Daemon,
    /// In table order, disabled ones too.
    pub services: Vec<Service>,
    /// Which operations there are.
    pub catalogue: Arc<Catalogue>,
}

/// `[daemon]`: what belongs to no service.
#[derive(Clone, Debug, PartialEq)]
pub struct Daemon {
    /// Who the front runs as; `None` when usherd is not root and nobody is switched to.
    pub user: Option<FrontUser>,
    /// Where the pid file and the control sockets are, if the table says so.
    pub runtime_dir: Option<PathBuf>,
    /// Where bans and the audit log are kept, if the table says so.
    pub state_dir: Option<PathBuf>,
    /// Who may read the status socket besides root and usherd's own user.
    pub status_group: Option<NamedGroup>,
    /// The same for the admin socket.
    pub admin_group: Option<NamedGroup>,
    /// Where helper and front run.
    pub cpus: DaemonCpus,
    pub log: LogSettings,
    pub undecided: Undecided,
    /// What all servers may use together.
    pub resources: Resources,
    pub audit: Audit,
    /// The operator's files of the catalogue, by absolute path.
    pub operations: Vec<PathBuf>,
}

/// `daemon.cpus`: where helper and front run. Servers do not care.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DaemonCpus {
    /// Both on the same one, while requests come one at a time.
    #[default]
    One,
    /// Wherever the kernel puts them.
    All,
    /// On these.
    Listed(Vec<u16>),
}

/// `daemon.audit`: how much is kept of what was asked on the admin socket, and
/// what happens when nothing can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Octets of a file; a new one is begun beyond it.
    pub max_size: u64,
    /// Full files.
    pub keep: u32,
    /// A request that cannot be written down is refused, else carried out all the same.
    pub refuse: bool,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            max_size: 16 << 20,
            keep: 16,
            refuse: true,
        }
    }
}

/// `daemon.undecided`: connections whose service is not known yet. Beyond any
/// of these the oldest of the source with the most goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecided {
    pub total: u32,
    pub per_listener: u32,
    pub per_source: u32,
}

impl Default for Undecided {
    fn default() -> Self {
        Self {
            total: 10_000,
            per_listener: 5_000,
            per_source: 200,
        }
    }
}

/// The account of the front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontUser {
    /// `None`: the table names nobody, no account `usherd` exists, and the uid belongs to no account.
    pub name: Option<String>,
    pub uid: u32,
    pub gid: u32,
}

/// A group of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedGroup {
    pub name: String,
    pub gid: u32,
}

/// `daemon.log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    pub to: LogTarget,
    pub format: LogFormat,
    pub level: LogLevel,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            to: LogTarget::Stderr,
            format: LogFormat::Text,
            level: LogLevel::Info,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogTarget {
    Stderr,
    /// syslog(3) over /dev/log, facility `daemon`.
    Syslog,
    /// Appended to; opened again on SIGHUP.
    File(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

/// `[service.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub name: String,
    pub description: Option<String>,
    /// As the table has it and `only_if` lets it.
    pub enabled: bool,
    pub only_if: Option<OnlyIf>,
    /// Why it is not enabled although the table says so.
    pub unmet: Option<String>,
    pub listen: Vec<Listen>,
    pub socket: SocketOptions,
    pub serve: Serve,
    pub rules: Rules,
    pub routing: Routing,
}

/// `only_if`: what must hold of the host for the service to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnlyIf {
    /// All of them are there.
    pub path_exists: Vec<PathBuf>,
    /// None of them is.
    pub path_missing: Vec<PathBuf>,
    /// One of them is the host's name; patterns of glob(7). Empty: any host.
    pub host: Vec<String>,
}

/// Which requests at a shared address are for a service, and how long usherd
/// waits for the bytes that tell. What belongs to the address as a whole
/// (`match_timeout`, `first_byte_timeout`, `proxy_protocol`) is the same in every service there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Routing {
    /// `match`: one of these holds. Empty: whatever no other service takes.
    pub rules: Vec<crate::demux::Rule>,
    pub speaks_first: Side,
    /// From accept to the decision. `None`: nothing is waited for at its addresses.
    pub match_timeout: Option<Duration>,
    /// From accept to the first byte; never longer than `match_timeout`. `None` as there.
    pub first_byte_timeout: Option<Duration>,
    /// Sources that must send a PROXY header; never empty.
    pub proxy_protocol: Option<Vec<access::Prefix>>,
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    #[default]
    Client,
    Server,
}

/// What answers a request: exactly one of `exec`, `builtin`, `forward`.
#[derive(Clone, Debug, PartialEq)]
pub enum Serve {
    Exec(Box<Exec>),
    Builtin(Builtin),
    Forward(Forward),
}

/// A program of the host, and how it sees the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Absolute path.
    pub program: PathBuf,
    /// `argv[1..]`.
    pub args: Vec<String>,
    /// `argv[0]`; by default the last part of `program`.
    pub argv0: Option<String>,
    pub activation: Activation,
    /// `None` when usherd is not root: the server runs as whoever started usherd.
    pub user: Option<Identity>,
    pub dir: PathBuf,
    /// Mode bits, 0 to 0o777.
    pub umask: u32,
    pub nice: Option<i32>,
    pub env: Vec<(String, String)>,
    pub pass_env: Vec<String>,
    pub limits: Vec<Limit>,
    pub stderr: Stderr,
    pub stop: Stop,
    /// oom_score_adj of proc(5): -1000 to 1000.
    pub oom_score: Option<i32>,
    /// Empty: any CPU.
    pub cpus: Vec<u16>,
    pub io_priority: Option<IoPriority>,
    pub isolation: Isolation,
    /// Of all instances together.
    pub resources: Resources,
    /// A directory of this name under /var/lib belongs to the service.
    pub state: Option<String>,
    /// Name and source of each file that only the service can read.
    pub credentials: Vec<(String, PathBuf)>,
    /// A PAM service whose session each instance runs in.
    pub pam: Option<String>,
    /// Administrative operations that it may ask for.
    pub admin: Vec<Grant>,
}

/// An entry of `admin`: an operation, and what its parameters may be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub operation: String,
    /// Parameters, each with patterns as in glob(7), one of which its text must match.
    pub with: BTreeMap<String, Vec<String>>,
}

/// How the server is given its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// The socket on 0 and 1 (and 2, see [`Stderr`]).
    Inetd,
    /// sd_listen_fds(3): from descriptor 3 on, 0 is the null device.
    ListenFds,
}

/// Credentials resolved from the user database at load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, `gid` among them or not, as the table says.
    pub groups: Vec<u32>,
    pub home: PathBuf,
    pub shell: PathBuf,
    /// No account: usherd lends the service a number that is nobody else's.
    pub dynamic: bool,
}

/// One line of `limits`: see getrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The key: `nofile`, `core`, ... Of no use to who carries it out.
    #[serde(skip)]
    pub name: &'static str,
    /// `RLIMIT_*`.
    pub resource: i32,
    /// `u64::MAX` is unlimited.
    pub soft: u64,
    pub hard: u64,
}

/// Where the server's descriptor 2 goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stderr {
    Log,
    Socket,
    Null,
}

/// `stop`: how a running instance is ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub signal: i32,
    pub grace: Duration,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            signal: libc::SIGTERM,
            grace: Duration::from_secs(10),
        }
    }
}

/// Services without a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Builtin {
    Echo,
    Discard,
    Chargen,
    Daytime,
    Time,
    Tcpmux,
    /// All figures over HTTP, as text for Prometheus.
    Metrics,
    /// The same as a page for people.
    Status,
}

impl Builtin {
    /// Whether it tells peers what usherd does.
    #[must_use]
    pub fn tells_figures(self) -> bool {
        matches!(self, Builtin::Metrics | Builtin::Status)
    }
}

/// A relay to another address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// Tried in turn, each new connection starting with the first.
    pub to: Vec<Upstream>,
    /// PROXY protocol header sent to the upstream.
    pub proxy: Option<ProxyVersion>,
    /// For each upstream.
    pub connect_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upstream {
    Tcp(std::net::SocketAddr),
    Unix(PathBuf),
    /// Without the leading NUL.
    Abstract(String),
}

/// As in the table.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Upstream::Tcp(addr) => write!(f, "tcp:{addr}"),
            Upstream::Unix(path) => write!(f, "unix:{}", path.display()),
            Upstream::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProxyVersion {
    V1,
    V2,
}

/// Who is let in, how many, and for how long: what the front needs to decide
/// about a request, whatever serves it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// The server gets the listener (or datagram socket) itself.
    pub wait: bool,
    /// With `wait` and `activation = "listen-fds"`: one server for all listeners of the service.
    pub whole: bool,
    pub access: Access,
    /// Empty: always open.
    pub hours: Vec<Hours>,
    pub instances: u32,
    pub per_source: Option<u32>,
    pub source_prefix: SourcePrefix,
    pub rate: Option<Rate>,
    pub rate_per_source: Option<Rate>,
    pub max_load: Option<f64>,
    pub on_full: OnFull,
    pub banner: Banner,
    /// No byte in either direction: builtin and forward.
    pub idle_timeout: Option<Duration>,
    pub max_runtime: Option<Duration>,
    /// Both directions together: builtin and forward.
    pub max_bytes: Option<u64>,
    pub log: LogEvents,
}

/// A weekly window in local time. Minutes since midnight; `until` may lie
/// before `from`, then the window runs into the next day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// Monday first.
    pub days: [bool; 7],
    pub from: u16,
    /// Exclusive; 1440 is the end of the day.
    pub until: u16,
}

/// Peers whose addresses agree in this many bits are one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePrefix {
    pub v4: u8,
    pub v6: u8,
}

/// A token bucket: `count` tokens per `per`, at most `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
    pub burst: u32,
}

/// What happens to requests beyond `instances`, `rate` or `max_load`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFull {
    /// They wait in the kernel's queue.
    Queue,
    /// They are accepted, told so if `banner.refused` is set, and closed.
    Refuse,
}

/// Texts sent to the peer by usherd itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Banner {
    /// Before the server starts.
    pub admitted: Option<String>,
    /// To a peer that is turned away.
    pub refused: Option<String>,
}

/// Which events of a service are logged. Failures always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEvents {
    pub accept: bool,
    pub start: bool,
    pub exit: bool,
    pub refuse: bool,
}

/// Options of the service's listening sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// listen(2); `None` is [`DEFAULT_BACKLOG`].
    pub backlog: Option<u32>,
    pub freebind: bool,
    pub device: Option<String>,
    pub mark: Option<u32>,
    pub transparent: bool,
    pub receive_buffer: Option<u64>,
    pub send_buffer: Option<u64>,
    pub keepalive: Option<Keepalive>,
    pub nodelay: bool,
    /// 0 to 63.
    pub dscp: Option<u8>,
    /// Queue length for TCP Fast Open.
    pub fast_open: Option<u32>,
    pub defer_accept: Option<Duration>,
    /// Unix sockets with a path.
    pub owner: Option<u32>,
    pub group: Option<u32>,
    pub mode: Option<u32>,
}

/// tcp(7): `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`; `None` is the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepalive {
    pub idle: Option<Duration>,
    pub interval: Option<Duration>,
    pub probes: Option<u32>,
}

impl Service {
    /// Whether the table has it enabled, be it for other hosts.
    #[must_use]
    pub fn wanted(&self) -> bool {
        self.enabled || self.unmet.is_some()
    }
}

/// The file, or the embedded table where no file is named.
#[must_use]
pub fn source_or_default(file: Option<&std::path::Path>) -> Source<'_> {
    let embedded = Source::Text {
        name: "built-in table",
        text: DEFAULT_TABLE,
    };
    file.map_or(embedded, Source::File)
}

#[cfg(test)]
mod tests;
