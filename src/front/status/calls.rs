//! The methods of `org.usherd.Status`.
#![forbid(unsafe_code)]

use std::time::Instant;

use serde_json::json;

use super::{Wait, views};
use crate::control::caller::{Sees, Who};
use crate::control::message::{Call, CallError, Reply};
use crate::control::server::Answer;
use crate::control::types::{self, OfService, Watch};
use crate::control::{STATUS, types::EventKind};
use crate::front::event_loop::Front;
use crate::ids::ServiceId;
use crate::stats::prometheus;

/// The most events that a call without `more` returns.
const MOST_EVENTS: usize = 4096;

impl Front {
    pub(super) fn answer_call(&mut self, who: Who, mut call: Call, now: Instant) -> Answer<Wait> {
        let (_, method) = call.target();
        let answered = match method {
            "GetDaemon" => self.get_daemon(who, &mut call, now),
            "GetServices" => self.get_services(who, &mut call, now),
            "GetInstances" => {
                return self
                    .get_instances(who, &mut call, now)
                    .unwrap_or_else(Answer::from);
            }
            "GetStatistics" => self.get_statistics(who, &mut call),
            "GetMetrics" => self.get_metrics(who, &mut call, now),
            "WatchEvents" => {
                return self
                    .watch_events(who, &mut call)
                    .unwrap_or_else(Answer::from);
            }
            _ => Err(CallError::MethodNotFound(call.method.clone())),
        };
        Answer::Reply(answered.unwrap_or_else(Reply::Error))
    }

    fn get_daemon(&self, who: Who, call: &mut Call, now: Instant) -> Result<Reply, CallError> {
        let _: Nothing = call.take()?;
        if who.sees != Sees::Everything {
            return Err(CallError::PermissionDenied);
        }
        let daemon = self.show_daemon(now);
        Ok(Reply::last(&types::GetDaemon { daemon }))
    }

    fn get_services(
        &mut self,
        who: Who,
        call: &mut Call,
        now: Instant,
    ) -> Result<Reply, CallError> {
        let OfService { service } = call.take()?;
        let disabled = self
            .disabled
            .iter()
            .find(|d| Some(&d.name) == service.as_ref());
        if let Some(disabled) = disabled.filter(|_| who.sees == Sees::Everything) {
            let services = vec![views::disabled(disabled)];
            return Ok(Reply::last(&types::GetServices { services }));
        }
        let only = self.scope(who, service)?;
        let services = self.show_services(only, now);
        Ok(Reply::last(&types::GetServices { services }))
    }

    fn get_instances(
        &mut self,
        who: Who,
        call: &mut Call,
        now: Instant,
    ) -> Result<Answer<Wait>, CallError> {
        let OfService { service } = call.take()?;
        let only = self.scope(who, service)?;
        if self.status.is_fresh(now) || self.instances.runs_none() {
            let shown = self.show_instances(only, now);
            return Ok(Answer::Reply(Reply::last(&shown)));
        }
        self.ask_for_usage();
        Ok(Answer::Later(Wait::Usage(only)))
    }

    fn get_statistics(&self, who: Who, call: &mut Call) -> Result<Reply, CallError> {
        let OfService { service } = call.take()?;
        let only = self.scope(who, service)?;
        Ok(Reply::last(&self.statistics(only)))
    }

    fn get_metrics(&self, who: Who, call: &mut Call, now: Instant) -> Result<Reply, CallError> {
        let _: Nothing = call.take()?;
        if who.sees != Sees::Everything {
            return Err(CallError::PermissionDenied);
        }
        let text = prometheus::text(&self.show_daemon(now), &self.statistics(None));
        Ok(Reply::last(&types::GetMetrics { text }))
    }

    fn watch_events(&mut self, who: Who, call: &mut Call) -> Result<Answer<Wait>, CallError> {
        let Watch {
            service,
            kinds,
            backlog,
        } = call.take()?;
        let only = self.scope(who, service)?;
        let mut kinds: Vec<EventKind> = kinds.unwrap_or_default();
        // Each is compared with each event.
        kinds.sort_unstable();
        kinds.dedup();
        let backlog = usize::try_from(backlog.unwrap_or(0)).unwrap_or(usize::MAX);
        let mut watcher = self.events.watch(only, kinds, backlog);
        if call.more {
            return Ok(Answer::Later(Wait::Events(watcher)));
        }
        let (events, lost) = self.events.read(&mut watcher, MOST_EVENTS);
        let shown = views::events(&events, lost, &self.services);
        Ok(Answer::Reply(Reply::Last(shown)))
    }

    /// Which service a call is about: the one it names, if the caller may know
    /// of it, or else all that he may know of.
    fn scope(&self, who: Who, name: Option<String>) -> Result<Option<ServiceId>, CallError> {
        let own = match who.sees {
            Sees::Everything | Sees::Looks | Sees::Operation(_) => None,
            Sees::Service(id) => Some(id),
            Sees::Asks | Sees::Nothing => return Err(CallError::PermissionDenied),
        };
        let Some(name) = name else { return Ok(own) };
        let mut named = self.services.iter().filter(|s| *s.name == *name && !s.gone);
        match named.next() {
            Some(service) if own.is_none_or(|own| own == service.id) => Ok(Some(service.id)),
            _ => Err(no_such_service(&name)),
        }
    }
}

/// The parameters of a method that takes none.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn no_such_service(name: &str) -> CallError {
    let error = format!("{}.NoSuchService", STATUS.name);
    CallError::Own(error, json!({ "service": name }))
}
