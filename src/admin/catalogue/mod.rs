//! The catalogue of operations: what each is for, who may ask for it, what its
//! parameters may be, and what the process that serves it may do.
//!
//! - [`shipped`], [`read`], [`parameter`], [`merge`]: its files
//! - [`check`]: what they mean together
//! - [`request`], [`values`], [`pattern`]: what a caller may give
//! - `shown`: what callers are told of it
//! - [`template`]: `{NAME}` in arguments and paths
#![forbid(unsafe_code)]

pub(crate) mod check;
pub(crate) mod merge;
pub(crate) mod parameter;
pub mod pattern;
pub(crate) mod read;
pub mod request;
pub mod shipped;
mod shown;
pub mod template;
pub mod values;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::table::{Exec, Rate};

/// All operations, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalogue {
    pub operations: Vec<Operation>,
}

impl Catalogue {
    /// One that is enabled.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Operation> {
        self.named(name).filter(|found| found.enabled)
    }

    /// One that is there, enabled or not.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Operation> {
        let at = self
            .operations
            .binary_search_by(|one| one.name.as_str().cmp(name));
        self.operations.get(at.ok()?)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Words and dots: `"backup.create"`.
    pub name: String,
    pub description: String,
    /// What the result holds, in a sentence.
    pub result: String,
    /// As the catalogue has it and the host lets it.
    pub enabled: bool,
    /// Why it is not enabled although the catalogue says so.
    pub unmet: Option<String>,
    pub parameters: Vec<Parameter>,
    /// Who may ask besides root, usherd's own user and `daemon.admin_group`.
    pub operators: Operators,
    /// Whether a service may have it in its `admin` list.
    pub services: bool,
    pub serve: Serve,
    /// It can tell what it would do.
    pub dry_run: bool,
    /// The administrative server: account, limits, isolation. `program` and `args` are
    /// our own. Paths of `visible` and `writable` may hold placeholders such as `{state_dir}`.
    pub exec: Exec,
    /// Methods of `org.usherd.Admin` that it may call.
    pub calls: Vec<String>,
    pub time_limit: Duration,
    /// It goes on when whoever asked has left: what it does is worse undone by half.
    pub finishes: bool,
    /// Octets of the result as JSON, and of a program's output.
    pub output_limit: u64,
    /// At the same time.
    pub concurrency: u32,
    /// Of one caller: a uid, or a service.
    pub rate: Option<Rate>,
}

/// Accounts by number, resolved at load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operators {
    pub users: Vec<u32>,
    pub groups: Vec<u32>,
    /// The same in words: `user backup`, `group operator`.
    pub names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serve {
    /// One of [`super::operations::ALL`].
    Builtin(String),
    /// A program of the host. `{NAME}` in an argument is the parameter of this name; an
    /// argument with one that was not given is left out.
    Program {
        argv: Vec<String>,
        /// The same for a dry run.
        dry_run: Option<Vec<String>>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    pub name: String,
    pub description: String,
    pub kind: Kind,
    /// An array of such.
    pub list: bool,
    pub optional: bool,
    pub default: Option<Value>,
    /// Never logged, never in the audit log.
    pub secret: bool,
    /// A service may only name what is its own: itself, one of its instances, a path in its
    /// own state directory. Left out, a service names itself.
    pub own: bool,
}

/// What a parameter may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Text {
        /// A regular expression that the whole text matches.
        pattern: Option<String>,
        /// Characters.
        min_length: u32,
        max_length: u32,
        /// Patterns as in glob(7), one of which must match.
        allow: Option<Vec<String>>,
        /// It may have line ends and tabs.
        lines: bool,
    },
    Integer {
        min: i64,
        max: i64,
    },
    Boolean,
    Choice(Vec<String>),
    /// Absolute, without `.` and `..`, and below one of these.
    Path {
        roots: Vec<PathBuf>,
    },
    /// An account that is there.
    User,
    Group,
    /// A service of the table.
    Service,
    /// A running instance, by its number.
    Instance,
    /// An address or a network.
    Prefix,
    Duration {
        max: Duration,
    },
    Size {
        max: u64,
    },
}
