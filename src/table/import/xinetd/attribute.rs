//! The attributes that xinetd.conf(5) knows: those of xinetd.org's 2.3.15 and
//! of the fork that Debian and openSUSE package.
#![forbid(unsafe_code)]

/// How many values an attribute takes, and with which operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// So many, with `=`, once.
    Exactly(usize),
    /// Any number, with `=`, once.
    List,
    /// Any number; `=`, `+=` and `-=` may follow each other.
    Set,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute {
    pub name: &'static str,
    pub values: Values,
    pub place: Place,
    /// Whether a line of it that xinetd ignores may have been meant to keep
    /// somebody out, to bound something or to take a right away.
    pub limits: bool,
}

/// Where an attribute may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Service,
    Defaults,
    Both,
}

const fn row(name: &'static str, values: Values, place: Place, limits: bool) -> Attribute {
    Attribute {
        name,
        values,
        place,
        limits,
    }
}

use Place::{Both, Defaults, Service};
use Values::{Exactly, List, Set};

const ONE: Values = Exactly(1);

/// `interface` is `bind` by another name and is read as such.
pub(super) const ATTRIBUTES: [Attribute; 48] = [
    row("id", ONE, Service, false),
    row("type", List, Service, false),
    row("flags", List, Service, true),
    row("disable", ONE, Service, true),
    row("socket_type", ONE, Service, false),
    row("protocol", ONE, Service, false),
    row("wait", ONE, Service, false),
    row("user", ONE, Service, true),
    row("group", ONE, Service, true),
    row("groups", ONE, Both, true),
    row("umask", ONE, Both, true),
    row("nice", ONE, Service, true),
    row("server", ONE, Service, false),
    row("server_args", List, Service, false),
    row("instances", ONE, Both, true),
    row("per_source", ONE, Both, true),
    row("cps", Exactly(2), Both, true),
    row("leaky_bucket", Exactly(4), Both, true),
    row("max_load", ONE, Both, true),
    row("only_from", Set, Both, true),
    row("no_access", Set, Both, true),
    row("access_times", List, Service, true),
    row("log_type", List, Both, false),
    row("log_on_success", Set, Both, false),
    row("log_on_failure", Set, Both, false),
    row("env", Set, Service, false),
    row("passenv", Set, Both, true),
    row("port", ONE, Service, false),
    row("redirect", Exactly(2), Service, false),
    row("bind", ONE, Both, true),
    row("interface", ONE, Both, true),
    row("banner", ONE, Both, false),
    row("banner_success", ONE, Both, false),
    row("banner_fail", ONE, Both, false),
    row("rpc_version", ONE, Service, false),
    row("rpc_number", ONE, Service, false),
    row("deny_time", ONE, Service, true),
    row("libwrap", ONE, Service, true),
    row("rlimit_as", ONE, Service, true),
    row("rlimit_cpu", ONE, Service, true),
    row("rlimit_data", ONE, Service, true),
    row("rlimit_files", ONE, Service, true),
    row("rlimit_rss", ONE, Service, true),
    row("rlimit_stack", ONE, Service, true),
    row("v6only", ONE, Both, true),
    row("mdns", ONE, Both, false),
    row("enabled", Set, Defaults, true),
    row("disabled", Set, Defaults, true),
];

/// Words of `flags`.
pub(super) const FLAGS: [&str; 12] = [
    "INTERCEPT",
    "NORETRY",
    "IDONLY",
    "NAMEINARGS",
    "NODELAY",
    "KEEPALIVE",
    "NOLIBWRAP",
    "SENSOR",
    "IPv4",
    "IPv6",
    "LABELED",
    "REUSE",
];

/// Words of `type`.
pub(super) const TYPES: [&str; 5] = ["RPC", "INTERNAL", "UNLISTED", "TCPMUX", "TCPMUXPLUS"];

/// Attributes whose defaults a service takes when the whole configuration has
/// been read, wherever in it they stand.
pub(super) const FILLED_AT_THE_END: [&str; 8] = [
    "instances",
    "per_source",
    "umask",
    "groups",
    "cps",
    "leaky_bucket",
    "max_load",
    "bind",
];

pub(super) fn find(name: &str) -> Option<&'static Attribute> {
    ATTRIBUTES
        .iter()
        .find(|a| a.name.eq_ignore_ascii_case(name))
}

impl Attribute {
    pub fn in_service(&self) -> bool {
        self.place != Defaults
    }

    pub fn in_defaults(&self) -> bool {
        self.place != Service
    }

    /// The name it is kept under.
    pub fn key(&self) -> &'static str {
        if self.name == "interface" {
            "bind"
        } else {
            self.name
        }
    }
}
