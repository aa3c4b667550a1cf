//! `Run`: who asks for what, whether he may, and whether it makes sense.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::link::cut;
use super::{Asker, MOST_WAITING, MOST_WAITING_OF_ONE, Order, Source, USUAL_RATE};
use crate::admin::audit::What;
use crate::admin::authorise::{self, Standing};
use crate::admin::catalogue::Operation;
use crate::admin::catalogue::request::{self, Asking, Wrong};
use crate::admin::operations::{Caller, Parameters};
use crate::control::caller::{Sees, Who};
use crate::control::message::{Call, CallError};
use crate::control::server::Answer;
use crate::control::types::operations::RunWhat;
use crate::helper::admin::{Wait, rule};
use crate::helper::core::{Helper, Phase};
use crate::ids::InstanceId;
use crate::sandbox::blueprint::STATE;
use crate::table::{Exec, Rate};

impl Helper {
    pub(in crate::helper) fn run_operation(
        &mut self,
        who: Who,
        number: u64,
        mut call: Call,
        now: Instant,
    ) -> Answer<Wait> {
        let asked = self.ask_operation(who, number, &mut call, now);
        asked.map_or_else(Answer::from, |id| Answer::Later(Wait::Operation(id)))
    }

    /// The number of the order.
    fn ask_operation(
        &mut self,
        who: Who,
        number: u64,
        call: &mut Call,
        now: Instant,
    ) -> Result<u32, CallError> {
        let RunWhat {
            operation: name,
            parameters: given,
            dry_run,
        } = call.take()?;
        let name = cut_name(name);
        let wanted = Wanted {
            given: given.unwrap_or_default(),
            dry_run: dry_run == Some(true),
            name,
        };
        let looked_at = self.look_at(&wanted, who, number, now);
        let (operation, parameters, rule, asker) = match looked_at {
            Ok(looked_at) => looked_at,
            Err(error) => {
                self.tell_refused(who, &wanted.name, &error, now);
                return Err(error);
            }
        };
        let Wanted {
            name,
            given,
            dry_run,
        } = wanted;
        let caller = Caller {
            uid: who.uid,
            service: self.service_of(who).map(|(service, _)| service),
            instance: asker.instance.map(|instance| instance.0),
        };
        let asked = What::Asked {
            uid: who.uid,
            pid: who.pid,
            service: caller.service.clone(),
            instance: caller.instance,
            operation: if dry_run {
                format!("{name} (dry run)")
            } else {
                name.clone()
            },
            parameters: operation.masked(&given),
            rule,
        };
        self.audit_request(number, &name, asked, now)?;
        if let Some(rate) = rate_of(operation.rate, &who.sees) {
            let source = Source::of(who);
            let bucket = self.operations.buckets.entry((name.clone(), source));
            bucket.or_default().take(&rate, now);
        }
        let operations = &mut self.operations;
        operations.last = operations.last.wrapping_add(1);
        let id = operations.last;
        log::info!(
            uid = who.uid, pid = who.pid, service = caller.service.as_deref(), op = id;
            "operation {name} asked for"
        );
        operations.waiting.push_back(Order {
            id,
            asked_by: number,
            operation: Box::new(operation),
            parameters,
            dry_run,
            caller,
            who,
            asker,
        });
        Ok(id)
    }

    /// Everything that may be wrong with a request.
    fn look_at(
        &self,
        wanted: &Wanted,
        who: Who,
        number: u64,
        now: Instant,
    ) -> Result<(Operation, Parameters, String, Asker), CallError> {
        if self.phase == Phase::Draining {
            return Err(CallError::admin("Draining", json!({})));
        }
        if self.is_departing() {
            let why = "usherd is being upgraded or restarted; ask again in a moment";
            return Err(CallError::failed(why));
        }
        let asker = self.operations.asker(number).cloned();
        let mut asker = asker.unwrap_or_default();
        let runs = |id: &InstanceId| self.instances.find(*id).is_some();
        asker.instance = asker.instance.filter(runs);
        let (operation, rule) = self.permitted(&wanted.name, who, &asker)?;
        if wanted.dry_run && !operation.dry_run {
            let why = "it cannot tell what it would do";
            let parameters =
                json!({ "operation": operation.name, "parameter": "dry_run", "reason": why });
            return Err(CallError::admin("WrongParameter", parameters));
        }
        let parameters = self.sensible(&operation, &wanted.given, who, &asker)?;
        self.no_power(&operation, &parameters, who)?;
        self.has_room(&operation, who, now)?;
        Ok((operation, parameters, rule, asker))
    }

    /// The operation, and the rule by which he may.
    pub(super) fn permitted(
        &self,
        name: &str,
        who: Who,
        asker: &Asker,
    ) -> Result<(Operation, String), CallError> {
        let Some(operation) = self.table.catalogue.find(name) else {
            let unknown = json!({ "operation": name });
            return Err(CallError::admin("NoSuchOperation", unknown));
        };
        match self.may(operation, who, asker) {
            Ok(rule) => Ok((operation.clone(), rule)),
            Err(reason) => Err(not_permitted(name, &reason)),
        }
    }

    /// The rule by which he may, or why not.
    pub(super) fn may(
        &self,
        operation: &Operation,
        who: Who,
        asker: &Asker,
    ) -> Result<String, String> {
        let service = self.service_of(who);
        let standing = match (&who.sees, &service) {
            (Sees::Everything, _) => Standing::Everything(rule(who)),
            // A server is no operator, whoever its user is.
            (Sees::Service(_), None) => {
                return Err(
                    "the service that it belongs to is not in the table any more".to_owned(),
                );
            }
            (Sees::Service(_), Some(_)) if asker.instance.is_none() => {
                return Err("the instance that it belongs to has ended".to_owned());
            }
            (Sees::Service(_), Some((service, exec))) => Standing::Service {
                name: service,
                grants: &exec.admin,
            },
            _ => Standing::Operator {
                uid: who.uid,
                groups: &asker.groups,
            },
        };
        authorise::may(operation, &standing)
    }

    /// The service that a caller is a server of, as the table has it now.
    pub(in crate::helper) fn service_of(&self, who: Who) -> Option<(String, &Exec)> {
        let Sees::Service(id) = who.sees else {
            return None;
        };
        let name = &*self.services.find(id)?.name;
        exec_of(self, name).map(|exec| (name.to_owned(), exec))
    }

    fn sensible(
        &self,
        operation: &Operation,
        given: &Map<String, Value>,
        who: Who,
        asker: &Asker,
    ) -> Result<Parameters, CallError> {
        let service = self.service_of(who);
        let service = service.as_ref().map(|(name, exec)| (name.as_str(), *exec));
        let checked = self.check_for(operation, given, service, asker.instance);
        let name = &operation.name;
        checked.map_err(|wrong| match wrong {
            Wrong::Parameter {
                name: parameter,
                reason,
            } => CallError::admin(
                "WrongParameter",
                json!({ "operation": name, "parameter": parameter, "reason": reason }),
            ),
            Wrong::NotPermitted {
                name: parameter,
                reason,
            } => not_permitted(name, &format!("{parameter}: {reason}")),
        })
    }

    /// Whether parameters would be taken, of an operator or of a service; why not.
    pub(super) fn would_take(
        &self,
        operation: &Operation,
        given: &Map<String, Value>,
        service: Option<&str>,
    ) -> Result<(), String> {
        let found = service.and_then(|name| Some((name, exec_of(self, name)?)));
        // Any of them: what is whose does not depend on which.
        let instance = found.and_then(|(name, _)| {
            let mut instances = self.instances.iter();
            let one = instances.find(|instance| &*instance.name == name);
            one.map(|one| one.id)
        });
        let instance = instance.or(found.map(|_| InstanceId(0)));
        let checked = self.check_for(operation, given, found, instance);
        checked.map(drop).map_err(|wrong| match wrong {
            Wrong::Parameter { name, reason } | Wrong::NotPermitted { name, reason } => {
                format!("{name}: {reason}")
            }
        })
    }

    fn check_for(
        &self,
        operation: &Operation,
        given: &Map<String, Value>,
        service: Option<(&str, &Exec)>,
        instance: Option<InstanceId>,
    ) -> Result<Parameters, Wrong> {
        let none = BTreeMap::new();
        let state = service.and_then(|(_, exec)| exec.state.as_ref());
        let state = state.map(|state| Path::new(STATE).join(state));
        let asking = match (service, instance) {
            (Some((name, exec)), Some(instance)) => Asking::Service {
                name,
                instance: instance.0,
                state: state.as_deref(),
                with: (exec.admin.iter())
                    .find(|grant| grant.operation == operation.name)
                    .map_or(&none, |grant| &grant.with),
            },
            _ => Asking::Operator,
        };
        operation.check(given, asking, &World(self))
    }

    fn has_room(&self, operation: &Operation, who: Who, now: Instant) -> Result<(), CallError> {
        let source = Source::of(who);
        let name = &operation.name;
        let refuse = |reason: String| {
            let parameters = json!({ "operation": name, "reason": reason });
            Err(CallError::admin("TooManyOperations", parameters))
        };
        let operations = &self.operations;
        if operations.waiting.len() >= MOST_WAITING {
            return refuse(format!("{MOST_WAITING} are waiting for their turn already"));
        }
        let his = operations
            .waiting
            .iter()
            .filter(|order| order.source() == source);
        if who.sees != Sees::Everything && his.count() >= MOST_WAITING_OF_ONE {
            return refuse(format!(
                "{MOST_WAITING_OF_ONE} of yours are waiting already"
            ));
        }
        let bucket = operations.buckets.get(&(name.clone(), source));
        if let (Some(rate), Some(bucket)) = (rate_of(operation.rate, &who.sees), bucket)
            && let Some(at) = bucket.next_token(&rate, now)
        {
            let wait = at.saturating_duration_since(now).as_secs() + 1;
            return refuse(format!("its rate is used up; ask again in {wait} s"));
        }
        Ok(())
    }

    /// Buckets that are full and callers that are gone are forgotten, now and then.
    pub(super) fn tidy_operations(&mut self, now: Instant) {
        let operations = &mut self.operations;
        if operations.askers.len() < 2 * self.control.callers() + 64
            && operations.buckets.len() < MOST_WAITING
        {
            return;
        }
        operations.buckets.retain(|_, bucket| !bucket.is_full(now));
        operations.refusals.retain(|_, pace| !pace.is_over(now));
        let control = &self.control;
        let is_there = |number: &u64| control.is_there(*number);
        self.operations.askers.retain(|number, _| is_there(number));
    }
}

/// How often he may ask for it. Each request is on the disk before anything is done, and the
/// audit log has an end: nobody is to fill it alone but who may do everything anyway.
fn rate_of(own: Option<Rate>, sees: &Sees) -> Option<Rate> {
    own.or((*sees != Sees::Everything).then_some(USUAL_RATE))
}

/// What is asked for.
struct Wanted {
    name: String,
    given: Map<String, Value>,
    dry_run: bool,
}

/// No name is longer; what is none is not kept whole.
fn cut_name(mut name: String) -> String {
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        cut(&mut name, LONGEST);
        name.push_str("...");
    }
    name
}

pub(super) fn not_permitted(operation: &str, reason: &str) -> CallError {
    let parameters = json!({ "operation": operation, "reason": reason });
    CallError::admin("NotPermitted", parameters)
}

/// What is there at this moment.
struct World<'a>(&'a Helper);

impl request::World for World<'_> {
    /// The process looks: to ask the name service could take as long as it likes.
    fn has_user(&self, _: &str) -> bool {
        true
    }

    fn has_group(&self, _: &str) -> bool {
        true
    }

    fn has_service(&self, name: &str) -> bool {
        // Also one that is disabled: it can be enabled, and its state backed up.
        let mut services = self.0.table.services.iter();
        services.any(|service| service.name == name)
    }

    fn service_of(&self, instance: u64) -> Option<String> {
        let found = self.0.instances.find(InstanceId(instance))?;
        Some(found.name.to_string())
    }
}

pub(super) fn exec_of<'a>(helper: &'a Helper, name: &str) -> Option<&'a Exec> {
    let mut execs = helper.execs();
    execs
        .find(|(known, _)| *known == name)
        .map(|(_, exec)| exec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ServiceId;

    #[test]
    fn there_is_an_end_to_requests_but_of_who_may_do_everything() {
        let service = Sees::Service(ServiceId(1));
        for sees in [&service, &Sees::Asks] {
            assert_eq!(rate_of(None, sees), Some(USUAL_RATE));
        }
        assert_eq!(rate_of(None, &Sees::Everything), None);
        let own = Some(Rate {
            count: 1,
            ..USUAL_RATE
        });
        for sees in [&service, &Sees::Everything] {
            assert_eq!(rate_of(own, sees), own);
        }
    }
}
