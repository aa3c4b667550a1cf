//! `GetResources` and `SetResources`: what servers may use, changed while they
//! run, within what the table gives them.
#![forbid(unsafe_code)]

use serde_json::json;

use super::calls::no_such_service;
use crate::control::message::{Call, CallError, Reply};
use crate::control::types::{
    GetResources, Missing, ResourceSet, ResourceUse, ResourcesFor, ResourcesOf, SetResources,
};
use crate::helper::core::Helper;
use crate::helper::instances::Instance;
use crate::ids::InstanceId;
use crate::sandbox::cgroup::{Lack, NotSet, State};
use crate::table::isolation::{Mechanism, Resources};
use crate::table::value::show_size;
use crate::table::{Exec, Serve};

impl Helper {
    pub(super) fn get_resources(&self, call: &mut Call) -> Result<Reply, CallError> {
        let asked: ResourcesOf = call.take()?;
        let resources = match (asked.service, asked.instance) {
            (service, Some(id)) => {
                vec![self.use_of_instance(self.instance(service.as_deref(), id)?)]
            }
            (Some(name), None) => vec![self.use_of(&name, self.server_of(&name)?)],
            (None, None) => {
                let services = self.table.services.iter().filter(|service| service.enabled);
                let servers = services.filter_map(|service| match &service.serve {
                    Serve::Exec(exec) => Some((&service.name, exec)),
                    Serve::Builtin(_) | Serve::Forward(_) => None,
                });
                servers
                    .map(|(name, exec)| self.use_of(name, exec))
                    .collect()
            }
        };
        Ok(Reply::last(&GetResources { resources }))
    }

    pub(super) fn set_resources(&mut self, call: &mut Call) -> Result<Reply, CallError> {
        let asked: ResourcesFor = call.take()?;
        let wanted = wanted(&asked)?;
        let exec = self.server_of(&asked.service)?;
        if !exec.isolation.wants(Mechanism::Cgroup) {
            let lack = Lack {
                why: "the service's `isolation.cgroup` is off, so nothing counts what it uses"
                    .into(),
                remedy: "let `isolation` of the service have it, and reload".into(),
            };
            return Err(unavailable(&lack));
        }
        let most = most(&exec.resources, &self.table.daemon.resources);
        within(&asked.service, &wanted, &most)?;
        let done = match asked.instance {
            Some(id) => {
                let id = self.instance(Some(&asked.service), id)?.id;
                self.limit_instance(id, &wanted)
            }
            None => {
                let now = self.cgroups.live(&asked.service);
                let now = now.unwrap_or(&exec.resources).clone();
                self.cgroups
                    .set_live(&asked.service, &changed(now, &wanted))
            }
        };
        done.map_err(|not| match not {
            NotSet::Lack(lack) => unavailable(&lack),
            NotSet::Trouble(trouble) => CallError::failed(trouble.to_string()),
        })?;
        let resources = match asked.instance {
            Some(id) => self.use_of_instance(self.instance(None, id)?),
            None => self.use_of(&asked.service, self.server_of(&asked.service)?),
        };
        Ok(Reply::last(&SetResources { resources }))
    }

    fn limit_instance(&mut self, id: InstanceId, wanted: &ResourceSet) -> Result<(), NotSet> {
        let leaf = self.instances.find_mut(id).map(|one| &mut one.leaf);
        match leaf {
            Some(Some(leaf)) => {
                let resources = changed(Resources::default(), wanted);
                self.cgroups.set_leaf(leaf, &resources)
            }
            _ => Err(NotSet::Lack(self.why_no_leaf())),
        }
    }

    fn why_no_leaf(&self) -> Lack {
        match self.cgroups.state() {
            State::Degraded(lack) => lack.clone(),
            State::Ready { .. } => Lack {
                why: "the instance has no cgroup of its own".into(),
                remedy: "the next instance of the service will have one".into(),
            },
        }
    }

    fn server_of(&self, name: &str) -> Result<&Exec, CallError> {
        let mut services = self.table.services.iter();
        let found = services.find(|service| service.name == name && service.enabled);
        match &found.ok_or_else(|| no_such_service(name))?.serve {
            Serve::Exec(exec) => Ok(exec),
            Serve::Builtin(_) | Serve::Forward(_) => Err(CallError::failed(format!(
                "service \"{name}\" is answered by usherd itself and has no servers to limit"
            ))),
        }
    }

    /// One that is of `service`, where that is given.
    fn instance(&self, service: Option<&str>, id: u64) -> Result<&Instance, CallError> {
        let found = self.instances.find(InstanceId(id));
        let found = found.filter(|one| service.is_none_or(|name| *one.name == *name));
        found.ok_or_else(|| CallError::admin("NoSuchInstance", json!({ "instance": id })))
    }

    fn use_of(&self, name: &str, exec: &Exec) -> ResourceUse {
        let live = self.cgroups.live(name).unwrap_or(&exec.resources);
        let used = self.cgroups.in_use(name);
        ResourceUse {
            service: name.to_owned(),
            instance: None,
            limits: set(live),
            most: most(&exec.resources, &self.table.daemon.resources),
            memory: used.memory,
            cpu_us: used.cpu_micros,
            tasks: used.tasks,
            missing: self.missing(Some(name)),
        }
    }

    fn use_of_instance(&self, one: &Instance) -> ResourceUse {
        let exec = self.server_of(&one.name).ok();
        let table = exec.map(|exec| exec.resources.clone()).unwrap_or_default();
        let leaf = one.leaf.as_ref();
        let used = leaf.and_then(|leaf| leaf.usage().ok());
        let missing = match leaf {
            Some(_) => self.missing(None),
            None => Some(shown(&self.why_no_leaf())),
        };
        ResourceUse {
            service: one.name.to_string(),
            instance: Some(one.id.0),
            limits: leaf.map(|leaf| set(&leaf.limits())).unwrap_or_default(),
            most: most(&table, &self.table.daemon.resources),
            memory: used.and_then(|used| used.memory),
            cpu_us: used.map(|used| used.cpu_micros),
            tasks: used.map(|used| used.tasks),
            missing,
        }
    }

    fn missing(&self, service: Option<&str>) -> Option<Missing> {
        let degraded = match self.cgroups.state() {
            State::Degraded(lack) => Some(lack),
            State::Ready { .. } => None,
        };
        let lack = degraded.or_else(|| self.cgroups.unenforced(service).first());
        lack.map(shown)
    }
}

fn shown(lack: &Lack) -> Missing {
    Missing {
        reason: lack.why.clone(),
        remedy: lack.remedy.clone(),
    }
}

fn unavailable(lack: &Lack) -> CallError {
    let said = json!({ "reason": lack.why, "remedy": lack.remedy });
    CallError::admin("Unavailable", said)
}

/// What is to change; there must be something.
fn wanted(asked: &ResourcesFor) -> Result<ResourceSet, CallError> {
    let named = [
        ("memory", asked.memory),
        ("memory_high", asked.memory_high),
        ("cpu", asked.cpu.map(u64::from)),
        ("tasks", asked.tasks.map(u64::from)),
    ];
    if let Some((name, _)) = named.iter().find(|(_, value)| *value == Some(0)) {
        return Err(CallError::InvalidParameter((*name).into()));
    }
    if named.iter().all(|(_, value)| value.is_none()) {
        let why = "nothing is to change: name one of memory, memory_high, cpu, tasks";
        return Err(CallError::failed(why));
    }
    Ok(ResourceSet {
        memory: asked.memory,
        memory_high: asked.memory_high,
        cpu: asked.cpu,
        tasks: asked.tasks,
    })
}

/// What the table lets a service have: its own limits, or else those of all.
fn most(own: &Resources, all: &Resources) -> ResourceSet {
    let memory = own.memory.or(all.memory);
    ResourceSet {
        memory,
        memory_high: own.memory_high.or(all.memory_high).or(memory),
        cpu: own.cpu.or(all.cpu),
        tasks: own.tasks.or(all.tasks),
    }
}

fn within(service: &str, wanted: &ResourceSet, most: &ResourceSet) -> Result<(), CallError> {
    let plain = |number: u64| number.to_string();
    let percent = |number: u64| format!("{number}%");
    type Show<'a> = &'a dyn Fn(u64) -> String;
    let pairs: [(&str, Option<u64>, Option<u64>, Show<'_>); 4] = [
        ("memory", wanted.memory, most.memory, &show_size),
        (
            "memory_high",
            wanted.memory_high,
            most.memory_high,
            &show_size,
        ),
        (
            "cpu",
            wanted.cpu.map(u64::from),
            most.cpu.map(u64::from),
            &percent,
        ),
        (
            "tasks",
            wanted.tasks.map(u64::from),
            most.tasks.map(u64::from),
            &plain,
        ),
    ];
    for (key, wanted, most, show) in pairs {
        if let (Some(wanted), Some(most)) = (wanted, most)
            && wanted > most
        {
            let reason = format!(
                "the table gives service \"{service}\" a {key} of {} at most; give it more there and reload",
                show(most)
            );
            return Err(CallError::admin("BeyondTable", json!({ "reason": reason })));
        }
    }
    Ok(())
}

fn changed(now: Resources, wanted: &ResourceSet) -> Resources {
    Resources {
        memory: wanted.memory.or(now.memory),
        memory_high: wanted.memory_high.or(now.memory_high),
        cpu: wanted.cpu.or(now.cpu),
        tasks: wanted.tasks.or(now.tasks),
        io: now.io,
    }
}

fn set(of: &Resources) -> ResourceSet {
    ResourceSet {
        memory: of.memory,
        memory_high: of.memory_high,
        cpu: of.cpu,
        tasks: of.tasks,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_the_table_gives() {
        let own = Resources {
            memory: Some(64 << 20),
            ..Resources::default()
        };
        let all = Resources {
            memory: Some(1 << 30),
            tasks: Some(10),
            ..Resources::default()
        };
        let most = most(&own, &all);
        assert_eq!(
            (most.memory, most.memory_high),
            (Some(64 << 20), Some(64 << 20))
        );
        assert_eq!((most.tasks, most.cpu), (Some(10), None));
        let ask = |memory, tasks, cpu| ResourceSet {
            memory,
            memory_high: None,
            cpu,
            tasks,
        };
        assert_eq!(
            within("a", &ask(Some(64 << 20), Some(10), Some(900)), &most),
            Ok(())
        );
        let error = within("a", &ask(Some(65 << 20), None, None), &most).unwrap_err();
        let text = error.to_value().to_string();
        assert!(text.contains("a memory of 64M at most"), "{text}");
        assert!(within("a", &ask(None, Some(11), None), &most).is_err());
    }
}
