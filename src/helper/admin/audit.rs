//! What is asked on the admin socket is written down before it is done, and
//! what came of it after.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use nix::unistd::Uid;

use crate::admin::audit::log::Bounds;
use crate::admin::audit::{AuditLog, FOLDER, What, entry};
use crate::control::caller::Who;
use crate::control::message::{Call, CallError, Reply};
use crate::helper::core::Helper;
use crate::table::Audit;

/// The audit log of this daemon.
#[derive(Debug)]
pub(super) struct Trail {
    /// `None`: an ordinary user without a place for it; nothing is written then.
    dir: Option<PathBuf>,
    /// Opened with the first request: a daemon that nobody asks anything leaves no file.
    log: Option<AuditLog>,
    /// Requests without a result yet: by the number of the caller, who has one at a time.
    open: HashMap<u64, (u64, Instant)>,
    /// Entries have been lost since the last one that was written.
    failed: bool,
}

impl Trail {
    pub(super) fn new(state_dir: Option<PathBuf>) -> Self {
        Self {
            dir: state_dir.map(|dir| dir.join(FOLDER)),
            log: None,
            open: HashMap::new(),
            failed: false,
        }
    }

    /// What `caller` waits for: the number of the entry, and since when.
    pub(super) fn asked_of(&self, caller: u64) -> Option<(u64, Instant)> {
        self.open.get(&caller).copied()
    }

    /// The number of the entry; `None` where there is no log.
    fn write(&mut self, what: What, settings: Audit) -> io::Result<Option<u64>> {
        let Some(dir) = &self.dir else {
            return Ok(None);
        };
        let bounds = Bounds {
            max_size: settings.max_size,
            keep: settings.keep as usize,
        };
        let log = match &mut self.log {
            Some(log) => log,
            empty => empty.insert(AuditLog::open(dir, bounds)?),
        };
        log.set_bounds(bounds);
        let number = log.append(what)?;
        self.failed = false;
        Ok(Some(number))
    }

    /// Writes what is no reason to refuse anything; says so once if it cannot.
    fn note(&mut self, what: What, settings: Audit) {
        if let Err(err) = self.write(what, settings)
            && !std::mem::replace(&mut self.failed, true)
        {
            log::error!(
                "unable to write to the audit log: {err}; entries are lost until that is mended"
            );
        }
    }
}

impl Helper {
    /// Writes down what is about to be done for `caller`. An error is his answer.
    pub(super) fn audit_asked(
        &mut self,
        who: Who,
        caller: u64,
        call: &Call,
        rule: &str,
        now: Instant,
    ) -> Result<(), CallError> {
        let (_, method) = call.target();
        let on_behalf = self.operations.caller_of(who);
        let what = What::Asked {
            uid: who.uid,
            pid: who.pid,
            service: on_behalf.and_then(|caller| caller.service.clone()),
            instance: on_behalf.and_then(|caller| caller.instance),
            operation: method.to_owned(),
            parameters: entry::kept(call.parameters.as_ref()),
            rule: rule.to_owned(),
        };
        self.audit_request(caller, method, what, now)
    }

    /// The same for a request that has been looked at; `name` is what it is for.
    pub(in crate::helper) fn audit_request(
        &mut self,
        caller: u64,
        name: &str,
        what: What,
        now: Instant,
    ) -> Result<(), CallError> {
        let settings = self.table.daemon.audit;
        match self.control.trail.write(what, settings) {
            Ok(Some(number)) => {
                self.control.trail.open.insert(caller, (number, now));
            }
            Ok(None) => {}
            Err(err) if settings.refuse => {
                log::error!("unable to write to the audit log: {err}; refused {name}");
                return Err(CallError::failed(format!(
                    "unable to write to the audit log: {err}; nothing was done"
                )));
            }
            Err(err) => {
                log::error!("unable to write to the audit log: {err}; {name} is not in it");
            }
        }
        Ok(())
    }

    /// Writes down what `caller` is told, if that ends a request of his.
    pub(super) fn audit_done(&mut self, caller: u64, reply: &Reply, now: Instant) {
        let Some((of, began)) = self.control.trail.open.remove(&caller) else {
            return;
        };
        let (result, why) = match reply {
            Reply::Last(_) | Reply::Continues(_) => ("ok".to_owned(), None),
            Reply::Error(error) => {
                let mut error = error.to_value();
                let name = error["error"].as_str().unwrap_or_default();
                let name = name.rsplit('.').next().unwrap_or_default().to_owned();
                let why = error["parameters"].take();
                (name, why.as_object().map(|why| entry::kept(Some(why))))
            }
        };
        let took = now.saturating_duration_since(began).as_millis();
        let done = What::Done {
            of,
            result,
            why,
            ms: took.try_into().unwrap_or(u64::MAX),
        };
        self.control.trail.note(done, self.table.daemon.audit);
    }

    /// Writes down what came of something that the program before this one was asked.
    pub(in crate::helper) fn audit_upgraded(
        &mut self,
        asked: (u64, Instant),
        reply: &Reply,
        now: Instant,
    ) {
        const NOBODY: u64 = u64::MAX;
        self.control.trail.open.insert(NOBODY, asked);
        self.audit_done(NOBODY, reply, now);
    }

    /// Somebody was told that he may not, and `unwritten` before him. `what`: which
    /// operation, and why not, if he got so far.
    pub(super) fn audit_denied(
        &mut self,
        who: Who,
        what: Option<(&str, &CallError)>,
        unwritten: u64,
    ) {
        let service = self.service_of(who).map(|(service, _)| service);
        let denied = What::Denied {
            uid: who.uid,
            pid: who.pid,
            service,
            operation: what.map(|(name, _)| name.to_owned()),
            why: what.map(|(_, why)| entry::kept(why.to_value()["parameters"].as_object())),
            unwritten,
        };
        self.control.trail.note(denied, self.table.daemon.audit);
    }

    /// Those who asked and have left will be told nothing; what they asked for may go on.
    pub(super) fn audit_left(&mut self, now: Instant) {
        let control = &self.control;
        let reloads = control.queue.iter().chain(&control.current);
        let reloads: Vec<u64> = reloads.filter_map(|asked| asked.caller).collect();
        let is_gone = |caller: &u64| {
            control.server.place(*caller).is_none()
                && !reloads.contains(caller)
                && !self.operations.is_asked_by(*caller)
        };
        let gone: Vec<u64> = control.trail.open.keys().copied().filter(is_gone).collect();
        for caller in gone {
            let left = CallError::admin("CallerLeft", serde_json::json!({}));
            self.audit_done(caller, &Reply::Error(left), now);
        }
    }
}

/// Why he may.
pub(in crate::helper) fn rule(who: Who) -> &'static str {
    match who.uid {
        0 => "root",
        uid if uid == Uid::effective().as_raw() => "the user that usherd runs as",
        _ => "daemon.admin_group",
    }
}
