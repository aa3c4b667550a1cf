//! The methods of `org.usherd.Admin`.
#![forbid(unsafe_code)]

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::os::fd::AsFd;
use std::time::Instant;

use serde_json::json;

use super::{Asked, Then, Wait, rule};
use crate::control::caller::{Sees, Who};
use crate::control::message::{Call, CallError, Reply};
use crate::control::server::Answer;
use crate::control::types::{self, What};
use crate::helper::core::{Helper, Phase};
use crate::helper::tree;
use crate::ids::{InstanceId, ServiceId};
use crate::sys::process::{pidfd_open, pidfd_signal};
use crate::table::complaint::Complaints;
use crate::table::effective::{daemon_lines, effective, service_lines};
use crate::table::value::signal;
use crate::table::{Table, diff};

impl Helper {
    pub(super) fn answer_call(
        &mut self,
        who: Who,
        caller: u64,
        call: Call,
        now: Instant,
    ) -> Answer<Wait> {
        if let Sees::Operation(id) = who.sees {
            return self.answer_operation(who, id, caller, call, now);
        }
        let (_, method) = call.target();
        match method {
            "Run" => return self.run_operation(who, caller, call, now),
            "GetOperations" => {
                let told = self.get_operations(who, caller, call);
                return Answer::Reply(told.unwrap_or_else(Reply::Error));
            }
            _ => {}
        }
        let looks = who.sees == Sees::Looks && method == "GetIsolation";
        if who.sees != Sees::Everything && !looks {
            self.tell_denied(who, now);
            return CallError::PermissionDenied.into();
        }
        self.carry_out_and_tell(who, caller, call, rule(who), now)
    }

    /// Carries out a call of somebody who may, by `rule`.
    pub(in crate::helper) fn carry_out_and_tell(
        &mut self,
        who: Who,
        caller: u64,
        mut call: Call,
        rule: &str,
        now: Instant,
    ) -> Answer<Wait> {
        let changes = changes_something(&call);
        if changes && let Err(error) = self.audit_asked(who, caller, &call, rule, now) {
            return error.into();
        }
        let answered = self.carry_out_call(caller, &mut call, now);
        let answer = answered.unwrap_or_else(Answer::from);
        if changes {
            let (_, method) = call.target();
            let refused = matches!(&answer, Answer::Reply(Reply::Error(_)));
            let outcome = if refused { "refused" } else { "taken" };
            log::info!(uid = who.uid, pid = who.pid, method; "admin call {outcome}");
            if let Answer::Reply(reply) = &answer {
                self.audit_done(caller, reply, now);
            }
        }
        answer
    }

    fn carry_out_call(
        &mut self,
        caller: u64,
        call: &mut Call,
        now: Instant,
    ) -> Result<Answer<Wait>, CallError> {
        let (_, method) = call.target();
        if self.phase == Phase::Draining && changes_something(call) {
            return Err(CallError::admin("Draining", json!({})));
        }
        if self.is_departing() && changes_something(call) {
            let why = "usherd is being upgraded or restarted; ask again in a moment";
            return Err(CallError::failed(why));
        }
        match method {
            "Reload" => self.ask_reload(call, caller),
            "ReloadLists" => self.ask_reload_of_lists(call, caller),
            "Upgrade" => {
                let _: Nothing = call.take()?;
                self.begin_upgrade(caller)?;
                Ok(Answer::Later(Wait::Upgrade))
            }
            "Describe" => self.describe(call).map(Answer::Reply),
            "GetIsolation" => self.get_isolation(call).map(Answer::Reply),
            "Enable" | "Disable" => {
                let enabled = method == "Enable";
                let types::TheService { service } = call.take()?;
                self.toggle(service, enabled, caller)
            }
            "SetKey" => call.take().and_then(|set| self.set_key(set, caller)),
            "Drain" => Ok(self
                .named(call)
                .map(|id| self.hold(id, true, Then::Drain))?),
            "Stop" => Ok(self.named(call).map(|id| self.hold(id, true, Then::Stop))?),
            "Start" => self.start_named(call, now),
            "Kill" => self.kill_instance(call, now).map(Answer::Reply),
            "Freeze" => self.named(call).and_then(|id| self.freeze(id, caller, now)),
            "Thaw" => {
                let types::ThawWhat { service, renewed } = call.take()?;
                let id = self.enabled(&service)?;
                self.thaw(id, caller, renewed == Some(true))
            }
            "GetRunning" => self.get_running(call).map(Answer::Reply),
            "GetResources" => self.get_resources(call).map(Answer::Reply),
            "SetResources" => self.set_resources(call).map(Answer::Reply),
            "Ban" => call.take().and_then(|whom| self.ban(whom)),
            "Unban" => {
                let types::ThePrefix { prefix } = call.take()?;
                self.unban(&prefix)
            }
            "CheckPermission" => self.check_permission(call).map(Answer::Reply),
            "GetBans" => {
                let _: Nothing = call.take()?;
                Ok(Answer::Reply(Reply::last(&self.show_bans())))
            }
            _ => Err(CallError::MethodNotFound(call.method.clone())),
        }
    }

    fn ask_reload(&mut self, call: &mut Call, caller: u64) -> Result<Answer<Wait>, CallError> {
        let how: types::ReloadHow = call.take()?;
        if how.check_only == Some(true) {
            return self.check_reload().map(Answer::Reply);
        }
        self.queue_reload(Asked {
            caller: Some(caller),
            token: how.token,
            ..Asked::default()
        })?;
        Ok(Answer::Later(Wait::Reload))
    }

    fn ask_reload_of_lists(
        &mut self,
        call: &mut Call,
        caller: u64,
    ) -> Result<Answer<Wait>, CallError> {
        let _: Nothing = call.take()?;
        self.queue_reload(Asked {
            caller: Some(caller),
            lists: true,
            ..Asked::default()
        })?;
        Ok(Answer::Later(Wait::Reload))
    }

    fn start_named(&mut self, call: &mut Call, now: Instant) -> Result<Answer<Wait>, CallError> {
        let id = self.named(call)?;
        let taken = self.services.find(id).filter(|service| {
            service.rules.wait && (service.listeners.iter()).any(|l| self.instances.is_taken(*l))
        });
        if let Some(service) = taken {
            let why = "its server is running";
            return Err(super::hold::not_startable(&service.name, why));
        }
        Ok(self.release(id, now))
    }

    fn named(&mut self, call: &mut Call) -> Result<ServiceId, CallError> {
        let types::TheService { service } = call.take()?;
        self.enabled(&service)
    }

    fn enabled(&mut self, name: &str) -> Result<ServiceId, CallError> {
        let mut services = self.table.services.iter();
        let found = services.find(|service| service.name == name);
        let service = found.ok_or_else(|| no_such_service(name))?;
        match &service.unmet {
            _ if service.enabled => Ok(self.services.id(name)),
            Some(reason) => {
                let said = json!({ "service": name, "reason": reason });
                Err(CallError::admin("NotHere", said))
            }
            None => Err(CallError::admin("NotEnabled", json!({ "service": name }))),
        }
    }

    fn check_reload(&self) -> Result<Reply, CallError> {
        let loaded = self
            .source
            .load()
            .map_err(|complaints| table_wrong(&complaints))?;
        let warnings = loaded.warnings.rendered().collect();
        let reload = shown_reload(&self.table, &loaded.table, warnings);
        Ok(Reply::last(&reload))
    }

    fn describe(&self, call: &mut Call) -> Result<Reply, CallError> {
        let types::OfService { service } = call.take()?;
        let lines = match &service {
            None => daemon_lines(&self.table.daemon),
            Some(name) => {
                let mut services = self.table.services.iter();
                let service = services.find(|service| service.name == *name);
                service_lines(service.ok_or_else(|| no_such_service(name))?)
            }
        };
        let keys = lines.into_iter().map(|(key, value)| types::Key {
            key: key.to_owned(),
            value,
        });
        let sharing = service.iter().flat_map(|name| self.sharing(name));
        Ok(Reply::last(&types::Describe {
            keys: keys.collect(),
            sharing: sharing.map(str::to_owned).collect(),
        }))
    }

    fn kill_instance(&mut self, call: &mut Call, now: Instant) -> Result<Reply, CallError> {
        let types::KillWhat {
            instance,
            signal: name,
        } = call.take()?;
        let Some(found) = self.instances.find(InstanceId(instance)) else {
            let parameters = json!({ "instance": instance });
            return Err(CallError::admin("NoSuchInstance", parameters));
        };
        if !found.is_there() {
            return Ok(Reply::Last(json!({})));
        }
        let pid = found.pid;
        match name.as_deref().map(signal) {
            None => self.stop_all(&[InstanceId(instance)], now),
            Some(Ok(libc::SIGKILL)) => tree::kill_all(&[pid]),
            Some(Ok(number)) => {
                // Our own child, not reaped yet, or one that was there a moment ago.
                let done = pidfd_open(pid).and_then(|pidfd| pidfd_signal(pidfd.as_fd(), number));
                done.map_err(|err| CallError::failed(err.to_string()))?;
            }
            Some(Err(_)) => return Err(CallError::InvalidParameter("signal".into())),
        }
        Ok(Reply::Last(json!({})))
    }
}

/// The parameters of a method that takes none.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(in crate::helper) fn changes_something(call: &Call) -> bool {
    let (_, method) = call.target();
    matches!(
        method,
        "Reload"
            | "Enable"
            | "Disable"
            | "Drain"
            | "Stop"
            | "Start"
            | "Kill"
            | "Ban"
            | "Unban"
            | "Upgrade"
            | "Freeze"
            | "Thaw"
            | "SetResources"
            | "SetKey"
            | "ReloadLists"
    )
}

pub(super) fn no_such_service(name: &str) -> CallError {
    CallError::admin("NoSuchService", json!({ "service": name }))
}

/// Every complaint, as `usherd check` shows it.
pub(in crate::helper) fn table_wrong(complaints: &Complaints) -> CallError {
    let shown: Vec<String> = complaints.rendered().collect();
    CallError::admin("TableWrong", json!({ "complaints": shown }))
}

/// What a reload from `old` to `new` changes.
pub(in crate::helper) fn shown_reload(
    old: &Table,
    new: &Table,
    warnings: Vec<String>,
) -> types::Reload {
    let changes = diff::diff(old, new).into_iter().map(|change| {
        let keys = |keys: Vec<&str>| keys.into_iter().map(str::to_owned).collect();
        let (service, what, keys) = match change {
            diff::Change::Daemon { keys: changed } => (None, What::Changed, keys(changed)),
            diff::Change::Added { service } => (Some(service), What::Added, Vec::new()),
            diff::Change::Removed { service } => (Some(service), What::Removed, Vec::new()),
            diff::Change::Changed {
                service,
                keys: changed,
            } => (Some(service), What::Changed, keys(changed)),
        };
        types::Change {
            service,
            what,
            keys,
        }
    });
    types::Reload {
        changes: changes.collect(),
        warnings,
        token: token_of(new),
    }
}

/// Tells one table from another; no secret.
pub(in crate::helper) fn token_of(table: &Table) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(effective(table).as_bytes());
    for service in &table.services {
        service.unmet.hash(&mut hasher);
    }
    hasher.write(format!("{:?}", table.catalogue).as_bytes());
    format!("{:016x}", hasher.finish())
}
