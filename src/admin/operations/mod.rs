//! What administrative servers do: one file per family of operations.
//!
//! A function here runs in a process of its own that the helper has started for
//! this one request, with the privileges that the catalogue gives the operation
//! and no others. Its parameters have been checked against the catalogue; what
//! they mean on this host has not.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod accounts;
mod audit;
mod authorisation;
mod backup;
mod configuration;
mod drivers;
#[cfg(test)]
mod fake;
mod files;
mod firewall;
mod host;
mod licences;
mod network;
mod packages;
mod permission;
mod remote_access;
mod resources;
mod security;
mod services;
mod spam;
mod statistics;
mod tool;

/// What is to be done, as the helper says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// `"backup.create"`
    pub operation: String,
    pub parameters: Parameters,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    pub caller: Caller,
    pub places: Places,
}

/// Who asked; the kernel has said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    pub uid: u32,
    /// `Some`: an instance of this service; `None`: an operator.
    pub service: Option<String>,
    pub instance: Option<u64>,
}

impl Caller {
    /// By which he is remembered as the one who wanted something: `"service mail"`, `"uid 0"`.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.service {
            Some(service) => format!("service {service}"),
            None => format!("uid {}", self.uid),
        }
    }

    /// Whether he may undo or change what `by` wanted: operators may all of it, a service
    /// its own.
    #[must_use]
    pub fn may_change(&self, by: Option<&str>) -> bool {
        self.service.is_none() || by == Some(&*self.name())
    }
}

/// Where things of this usherd are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// What outlasts a restart: `/var/lib/usherd`.
    pub state_dir: PathBuf,
    pub runtime_dir: PathBuf,
    /// The main file of the table; `None`: the one that is built in.
    pub table: Option<PathBuf>,
    /// The name of the host.
    pub host: String,
}

/// Checked parameters by name. One that is optional and was not given is not there.
///
/// Durations are whole milliseconds, sizes are bytes; all others are as the catalogue says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parameters(pub Map<String, Value>);

impl Parameters {
    /// A text: string, choice, path, user, group, service, prefix.
    pub fn text(&self, name: &str) -> Result<&str, Failed> {
        self.some_text(name).ok_or_else(|| Failed::lacks(name))
    }

    #[must_use]
    pub fn some_text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A number: integer, instance, duration in milliseconds, size in bytes.
    pub fn number(&self, name: &str) -> Result<i64, Failed> {
        self.some_number(name).ok_or_else(|| Failed::lacks(name))
    }

    #[must_use]
    pub fn some_number(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.as_i64()
    }

    /// `false` if it was not given.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Every text of a list; none if it was not given.
    #[must_use]
    pub fn texts(&self, name: &str) -> Vec<&str> {
        let list = self.0.get(name).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }
}

/// Why an operation came to nothing. Whatever it had begun is undone, unless it was ended from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub kind: Kind,
    /// What, where, and what to do about it, for the one who asked. No secrets.
    pub reason: String,
}

/// What a program can tell failures apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What a parameter names is not there.
    NotFound,
    /// It is there already.
    Exists,
    /// The rules of this host forbid it: an allow-list, a range.
    Forbidden,
    /// A parameter makes no sense here.
    Invalid,
    /// Somebody else is at it, or has all there is.
    Busy,
    /// This host lacks what it takes.
    Unavailable,
    /// The table is wrong, or would be; the reason is every complaint, a compiler's way.
    TableWrong,
    /// Anything else.
    Failed,
}

impl Failed {
    pub fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }

    /// The catalogue requires it, so the helper has seen it.
    fn lacks(name: &str) -> Self {
        Self::new(Kind::Invalid, format!("there is no parameter \"{name}\""))
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failed {}

/// Says what was being done when `result` went wrong.
pub fn to<T, E: fmt::Display>(what: impl fmt::Display, result: Result<T, E>) -> Result<T, Failed> {
    result.map_err(|err| Failed::new(Kind::Failed, format!("unable to {what}: {err}")))
}

/// The usherd that an administrative server works for.
pub trait Usherd {
    /// Calls a method of `org.usherd.Admin`, by its bare name. Only those that the
    /// catalogue lists in the operation's `calls` are carried out.
    fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Failed>;

    /// Tells whoever waits how far it is, if he wants to know.
    fn progress(&mut self, text: &str);
}

/// What the table in force says of a service, key by key.
fn described_all(usherd: &mut dyn Usherd, service: &str) -> Result<toml::Table, Failed> {
    let told = usherd.call("Describe", serde_json::json!({ "service": service }))?;
    keys_of(&told)
}

/// Of a reply to `Describe`.
fn keys_of(told: &Value) -> Result<toml::Table, Failed> {
    let keys = told["keys"].as_array().into_iter().flatten();
    let mut all = toml::Table::new();
    for one in keys {
        let (Some(key), Some(text)) = (one["key"].as_str(), one["value"].as_str()) else {
            continue;
        };
        let text = format!("v = {text}");
        let mut table: toml::Table = to("read the table in force", toml::from_str(&text))?;
        all.extend(table.remove("v").map(|value| (key.to_owned(), value)));
    }
    Ok(all)
}

/// One change at a time in a folder of ours, which is made. A dry run reads what is there:
/// files are replaced as a whole, and it could not write there anyway.
fn lock(dir: &Path, request: &Request) -> Result<Option<Flock<File>>, Failed> {
    if request.dry_run {
        return Ok(None);
    }
    let what = format!("open {}", dir.display());
    match fs::create_dir(dir) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return to(what, Err(err)),
        _ => {}
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join(".lock"));
    let lock = Flock::lock(to(&what, file)?, FlockArg::LockExclusive);
    to(what, lock.map(Some).map_err(|(_, err)| err))
}

/// The result: an object, described in the catalogue.
pub type Outcome = Result<Value, Failed>;

type Function = fn(&Request, &mut dyn Usherd) -> Outcome;

/// Everything that is built in. A name here is what `builtin` may say in the catalogue.
pub const ALL: &[(&str, Function)] = &[
    ("audit.query", audit::query),
    ("audit.verify", audit::verify),
    ("auth.check", authorisation::check),
    ("backup.create", backup::create),
    ("backup.delete", backup::delete),
    ("backup.list", backup::list),
    ("backup.restore", backup::restore),
    ("backup.verify", backup::verify),
    ("config.get", configuration::get),
    ("config.set", configuration::set),
    ("driver.list", drivers::list),
    ("driver.load", drivers::load),
    ("driver.unload", drivers::unload),
    ("file.install", files::install),
    ("firewall.ban", firewall::ban),
    ("firewall.close", firewall::close),
    ("firewall.list", firewall::list),
    ("firewall.open", firewall::open),
    ("firewall.unban", firewall::unban),
    ("group.create", accounts::create_group),
    ("group.delete", accounts::delete_group),
    ("group.member", accounts::change_member),
    ("instance.signal", services::signal),
    ("license.acquire", licences::acquire),
    ("license.release", licences::release),
    ("license.status", licences::status),
    ("network.address.add", network::add_address),
    ("network.address.list", network::list_addresses),
    ("network.address.remove", network::remove_address),
    ("package.configure", packages::configure),
    ("package.install", packages::install),
    ("package.update", packages::update),
    ("permission.check", permission::check),
    ("remote_access.grant", remote_access::grant),
    ("remote_access.list", remote_access::list),
    ("remote_access.revoke", remote_access::revoke),
    ("report.host", host::report),
    ("report.services", host::services),
    ("resource.get", resources::get),
    ("resource.move", resources::shift),
    ("resource.set", resources::set),
    ("security.report", security::report),
    ("service.disable", services::disable),
    ("service.drain", services::drain),
    ("service.enable", services::enable),
    ("service.restart", services::restart),
    ("service.start", services::start),
    ("service.stop", services::stop),
    ("spam.allow", spam::block),
    ("spam.block", spam::block),
    ("spam.check", spam::check),
    ("spam.greylist", spam::greylist),
    ("spam.list", spam::list),
    ("spam.unlist", spam::unlist),
    ("stats.read", statistics::read),
    ("sysctl.get", network::get_setting),
    ("sysctl.set", network::set_setting),
    ("user.create", accounts::create_user),
    ("user.delete", accounts::delete_user),
    ("user.lock", accounts::lock_user),
    ("user.unlock", accounts::unlock_user),
];

/// Carries out a built-in operation.
pub fn run(builtin: &str, request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let found = ALL.iter().find(|(name, _)| *name == builtin);
    let (_, function) =
        found.ok_or_else(|| Failed::new(Kind::Failed, format!("no built-in \"{builtin}\"")))?;
    function(request, usherd)
}
