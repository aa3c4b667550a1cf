//! The catalogue: its operations, and the process of each by the same checks
//! as a service's.
//!
//! An ordinary user's usherd has the same catalogue. What cannot work without
//! root is refused when it is asked for, not here: the shipped files are for both.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Check, Draft};
use crate::admin::catalogue::check::serve;
use crate::admin::catalogue::read::RawOperation;
use crate::admin::catalogue::{Catalogue, Operation, Operators, Serve};
use crate::table::complaint::{At, Place};
use crate::table::isolation::{Isolation, Level, Mechanism, Preset};
use crate::table::schema::{Keys, RawIsolation, RawService};
use crate::table::source::Written;
use crate::table::{Activation, Exec, Identity, Stderr, Stop};

/// Where the catalogue says nothing.
const TIME_LIMIT: Duration = Duration::from_secs(30);
const OUTPUT_LIMIT: u64 = 64 << 10;
const CONCURRENCY: u32 = 4;

impl Check<'_> {
    pub(super) fn catalogue(&mut self, written: &Written) -> Catalogue {
        let shipped = written.shipped_from..written.shipped_until;
        let is_shipped = |place: Place| shipped.contains(&place.file);
        let built = written
            .operations
            .iter()
            .filter_map(|raw| self.operation(raw, &is_shipped));
        let mut operations: Vec<Operation> = built.collect();
        operations.sort_by(|a, b| a.name.cmp(&b.name));
        Catalogue { operations }
    }

    fn operation(
        &mut self,
        raw: &RawOperation,
        is_shipped: &dyn Fn(Place) -> bool,
    ) -> Option<Operation> {
        let serve = serve(raw, is_shipped, &mut self.complaints);
        let operators = self.operators(raw, is_shipped);
        let wanted = raw.enabled.as_ref().is_none_or(|at| at.value);
        let unmet = self.missing_account(&raw.keys, is_shipped);
        let exec = self.administrative_server(raw, unmet.is_some());
        let (serve, exec) = (serve?, exec?);
        let text = |at: &Option<At<String>>| at.as_ref().map(|at| at.value.clone());
        let dry_run = match &serve {
            Serve::Builtin(_) => raw.dry_run.as_ref().is_some_and(|at| at.value),
            Serve::Program { dry_run, .. } => dry_run.is_some(),
        };
        Some(Operation {
            name: raw.name.value.clone(),
            description: text(&raw.description).unwrap_or_default(),
            result: text(&raw.result).unwrap_or_default(),
            enabled: wanted && unmet.is_none(),
            unmet: unmet.filter(|_| wanted),
            parameters: raw.parameters.iter().map(|p| p.parameter.clone()).collect(),
            operators,
            services: raw.services.as_ref().is_some_and(|at| at.value),
            serve,
            dry_run,
            exec,
            calls: raw.calls.iter().map(|at| at.value.clone()).collect(),
            finishes: raw.finishes.as_ref().is_some_and(|at| at.value),
            time_limit: raw.time_limit.as_ref().map_or(TIME_LIMIT, |at| at.value),
            output_limit: raw
                .output_limit
                .as_ref()
                .map_or(OUTPUT_LIMIT, |at| at.value),
            concurrency: raw.concurrency.as_ref().map_or(CONCURRENCY, |at| at.value),
            rate: raw.rate.as_ref().map(|at| at.value),
        })
    }

    /// Accounts of `operators`. What a shipped file names need not be on this host.
    fn operators(&mut self, raw: &RawOperation, is_shipped: &dyn Fn(Place) -> bool) -> Operators {
        let mut operators = Operators::default();
        let users = raw.users.iter().map(|at| ("user", at));
        let groups = raw.groups.iter().map(|at| ("group", at));
        for (kind, At { value, place }) in users.chain(groups) {
            let (found, numbers) = match kind {
                "user" => {
                    let found = self.directory.user(value);
                    (found.map(|found| found.account.uid), &mut operators.users)
                }
                _ => (self.directory.group(value), &mut operators.groups),
            };
            match found {
                Ok(number) => {
                    numbers.push(number);
                    operators.names.push(format!("{kind} {value}"));
                }
                Err(_) if is_shipped(*place) => {}
                Err(fault) => self.complain(*place, fault),
            }
        }
        operators
    }

    /// An account of a shipped file that this host does not have.
    fn missing_account(
        &mut self,
        keys: &Keys,
        is_shipped: &dyn Fn(Place) -> bool,
    ) -> Option<String> {
        if !self.host.root {
            return None;
        }
        let user = keys.user.as_ref().filter(|at| is_shipped(at.place));
        if let Some(At { value, .. }) = user
            && value != super::exec::DYNAMIC
            && self.directory.user(value).is_err()
        {
            return Some(format!("this host has no user \"{value}\""));
        }
        let listed = keys.groups.iter().flat_map(|at| &at.value);
        let mut groups = keys.group.iter().chain(listed);
        groups
            .find(|at| is_shipped(at.place) && self.directory.group(&at.value).is_err())
            .map(|at| format!("this host has no group \"{}\"", at.value))
    }

    /// The process of a request. `None` after a complaint.
    fn administrative_server(&mut self, raw: &RawOperation, unmet: bool) -> Option<Exec> {
        let mut keys = raw.keys.clone();
        let place = raw.place();
        keys.user.get_or_insert_with(|| At {
            value: "root".to_owned(),
            place,
        });
        let isolation = keys.isolation.get_or_insert_with(|| At {
            value: RawIsolation {
                isolation: Isolation::preset(Preset::Strict),
                given: Vec::new(),
            },
            place,
        });
        // In a user namespace its capabilities and its uid would be worth nothing on the host.
        let namespace = Mechanism::UserNamespace;
        if isolation.value.place_of(namespace.name()).is_none() {
            isolation.value.isolation.levels.set(namespace, Level::Off);
        }
        let paths =
            |listed: &[At<String>]| listed.iter().map(|at| PathBuf::from(&at.value)).collect();
        isolation.value.isolation.visible = paths(&raw.visible);
        isolation.value.isolation.writable = paths(&raw.writable);
        let service = RawService {
            name: raw.name.clone(),
            keys,
            is_taken: false,
        };
        let none = Keys::default();
        let draft = Draft {
            raw: &service,
            own: &service.keys,
            defaults: &none,
            unmet: None,
            what: "operation",
        };
        let keys = &service.keys;
        let said = self.complaints.len();
        let user = match self.host.root && !unmet {
            true => Some(self.identity(draft)),
            false => None,
        };
        let exec = Exec {
            admin: Vec::new(),
            program: PathBuf::from("/proc/self/exe"),
            args: vec!["--administer".to_owned()],
            argv0: Some("usherd".to_owned()),
            activation: Activation::Inetd,
            user: user.clone().flatten(),
            dir: Path::new("/").to_owned(),
            umask: keys.umask.as_ref().map_or(0o077, |at| at.value),
            nice: keys.nice.as_ref().map(|at| at.value),
            env: draft.value(|k| &k.env).unwrap_or_default(),
            pass_env: Vec::new(),
            limits: match self.host.root {
                true => self.limits(draft),
                false => draft.value(|k| &k.limits).unwrap_or_default(),
            },
            stderr: Stderr::Log,
            stop: Stop::default(),
            oom_score: None,
            cpus: Vec::new(),
            io_priority: None,
            isolation: self.settled_isolation(draft),
            resources: draft.value(|k| &k.resources).unwrap_or_default(),
            state: None,
            credentials: Vec::new(),
            pam: None,
        };
        let lacks_user = matches!(user, Some(None::<Identity>));
        (self.complaints.len() == said && !lacks_user).then_some(exec)
    }
}
