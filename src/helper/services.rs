//! The table as the helper uses it: by number, compiled.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::demux::Rule;
use crate::front::plan::{Disabled, ListenerPlan, MuxPlan, Plan, ServePlan, ServicePlan};
use crate::helper::sockets::listener::Listener;
use crate::helper::sockets::registry::Registry;
use crate::ids::{ListenerId, ServiceId};
use crate::sandbox::blueprint::Blueprint;
use crate::sandbox::cgroup::{Controllers, fallback};
use crate::sandbox::confinement::{Confinement, Ground};
use crate::sandbox::plan::ExecPlan;
use crate::table::address::Listen;
use crate::table::isolation::{Level, Mechanism, Preset};
use crate::table::show_rule;
use crate::table::{Routing, Rules, Serve, Service, Stderr, Stop, Table};

/// A service of the table in force.
#[derive(Debug)]
pub struct Active {
    pub name: Rc<str>,
    pub rules: Rules,
    pub routing: Routing,
    /// Each rule of `match` as text, for its servers.
    rules_shown: Vec<String>,
    /// `None`: the front serves it.
    pub program: Option<Rc<Program>>,
    /// Bound ones, in table order.
    pub listeners: Vec<ListenerId>,
    /// Names for `LISTEN_FDNAMES`, one for each of `listeners`.
    pub names: Vec<String>,
    /// Reached through a tcpmux listener too.
    pub muxed: bool,
}

/// Octets of a rule in the environment of a server. A list of names may be longer than
/// execve(2) takes.
const LONGEST_RULE: usize = 256;

/// A rule as text, cut where it is too long.
fn shown(rule: &Rule) -> String {
    const CUT: &str = "...";
    let mut text = show_rule(rule);
    if text.len() > LONGEST_RULE {
        let mut end = LONGEST_RULE - CUT.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(CUT);
    }
    text
}

impl Active {
    /// The text of a rule, by its number.
    #[must_use]
    pub fn rule(&self, number: Option<u16>) -> Option<&str> {
        let shown = self.rules_shown.get(usize::from(number?));
        shown.map(String::as_str)
    }
}

/// How to start it and how to end it.
#[derive(Debug)]
pub struct Program {
    pub plan: Rc<ExecPlan>,
    pub path: String,
    pub stderr: Stderr,
    pub stop: Stop,
    /// What has to stand before it is started, if anything.
    pub blueprint: Option<Rc<Blueprint>>,
    /// Every instance uses one up.
    pub per_instance: bool,
    /// Why it may not be started: this host lacks what its isolation requires.
    pub blocked: Option<String>,
    /// What it would prefer and this host lacks.
    pub degraded: Vec<String>,
    /// Whether an instance gets a cgroup.
    pub cgroup: Level,
    /// Its servers have less rights than their user, be that root.
    pub isolated: bool,
}

/// A pipe for what the instances of one service write to stderr. Both ends
/// stay here, so that it outlives fronts.
#[derive(Debug)]
pub struct StderrPipe {
    pub read: OwnedFd,
    pub write: OwnedFd,
}

/// What usherd itself was started with, for its servers.
#[derive(Clone, Debug)]
pub struct Inheritance {
    pub environment: Vec<(OsString, OsString)>,
    /// NOFILE, soft and hard.
    pub files: (u64, u64),
    /// What cgroups can limit here.
    pub controllers: Controllers,
}

/// A table ready to be put in force.
#[derive(Debug)]
pub struct Compiled {
    active: HashMap<ServiceId, Active>,
    muxes: Vec<ServiceId>,
}

impl Compiled {
    /// Why a service may not be started.
    #[must_use]
    pub fn blocked(&self, service: ServiceId) -> Option<String> {
        blocked(self.active.get(&service)?)
    }
}

fn blocked(service: &Active) -> Option<String> {
    let why = service.program.as_ref()?.blocked.as_ref()?;
    Some(why.clone())
}

/// How far this usherd has come.
#[derive(Clone, Copy, Debug)]
pub struct Age {
    /// Of the front that is told.
    pub epoch: u32,
    /// Fronts so far, but for those that made room for the next.
    pub fronts: u32,
    /// Milliseconds.
    pub uptime: u64,
}

/// All services, and the numbers given out for names.
#[derive(Debug, Default)]
pub struct Services {
    ids: HashMap<String, ServiceId>,
    active: HashMap<ServiceId, Active>,
    /// Services that answer tcpmux themselves, whose listeners lead to others.
    muxes: Vec<ServiceId>,
    pub pipes: HashMap<ServiceId, StderrPipe>,
}

impl Services {
    /// The number of a service: the same for a name for ever.
    pub fn id(&mut self, name: &str) -> ServiceId {
        let next = ServiceId(u32::try_from(self.ids.len()).unwrap_or(u32::MAX));
        *self.ids.entry(name.to_owned()).or_insert(next)
    }

    /// All names that have had a number.
    #[must_use]
    pub fn names(&self) -> HashMap<ServiceId, &str> {
        let ids = self.ids.iter();
        ids.map(|(name, id)| (*id, name.as_str())).collect()
    }

    /// The number of a service that has had one.
    #[must_use]
    pub fn known(&self, name: &str) -> Option<ServiceId> {
        self.ids.get(name).copied()
    }

    #[must_use]
    pub fn find(&self, id: ServiceId) -> Option<&Active> {
        self.active.get(&id)
    }

    /// Services that may not be started, and why.
    #[must_use]
    pub fn all_blocked(&self) -> HashMap<ServiceId, String> {
        let active = self.active.iter();
        let found = active.filter_map(|(id, service)| Some((*id, blocked(service)?)));
        found.collect()
    }

    /// Everything that can be started, with the names of the services.
    pub fn programs(&self) -> impl Iterator<Item = (&str, &Program)> {
        let active = self.active.values();
        active.filter_map(|active| Some((&*active.name, &**active.program.as_ref()?)))
    }

    /// The number of a service of the table in force.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<ServiceId> {
        let id = self.ids.get(name)?;
        self.active.contains_key(id).then_some(*id)
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.active.len()
    }

    /// Whether requests that came in at `listener` may be for `service`.
    #[must_use]
    pub fn leads_to(&self, listener: ListenerId, service: &Active) -> bool {
        let through_mux = || {
            let mut muxes = self.muxes.iter().filter_map(|id| self.active.get(id));
            muxes.any(|mux| mux.listeners.contains(&listener))
        };
        service.listeners.contains(&listener) || service.muxed && through_mux()
    }

    /// Makes a table ready to be used. Fails only on a string with a NUL in
    /// it, which the table's check has ruled out.
    pub fn compile(
        &mut self,
        table: &Table,
        inheritance: &Inheritance,
        ground: &Ground<'_>,
    ) -> Result<Compiled, String> {
        let mut active = HashMap::with_capacity(table.services.len());
        let mut muxes = Vec::new();
        for service in table.services.iter().filter(|service| service.enabled) {
            let id = self.id(&service.name);
            active.insert(id, compile(service, inheritance, ground)?);
            if matches!(service.serve, Serve::Builtin(crate::table::Builtin::Tcpmux)) {
                muxes.push(id);
            }
        }
        Ok(Compiled { active, muxes })
    }

    /// Puts a compiled table in force. A service that is gone keeps its pipe
    /// as long as servers of it run: to write to one that nobody holds ends them.
    pub fn put(&mut self, compiled: Compiled, runs: impl Fn(ServiceId) -> bool) {
        self.active = compiled.active;
        self.muxes = compiled.muxes;
        let active = &self.active;
        self.pipes
            .retain(|id, _| active.contains_key(id) || runs(*id));
    }

    /// Who may come in, of a table whose servers are those in force.
    pub fn put_rules(&mut self, table: &Table) {
        for service in table.services.iter().filter(|service| service.enabled) {
            let id = self.id(&service.name);
            if let Some(active) = self.active.get_mut(&id) {
                active.rules = service.rules.clone();
            }
        }
    }

    /// Takes note of which listeners each service has.
    pub fn attach(&mut self, registry: &Registry) {
        for service in self.active.values_mut() {
            service.listeners.clear();
            service.names.clear();
        }
        for (listener, _) in registry.bound() {
            for id in listener.services() {
                let Some(service) = self.active.get_mut(&id) else {
                    continue;
                };
                service.listeners.push(listener.id);
                service.names.push(match &listener.listen {
                    Listen::Inherited { name } => name.clone(),
                    _ => service.name.to_string(),
                });
            }
        }
    }

    /// What the front is told; `next` if it is not in force yet.
    pub fn plan<'a>(
        &mut self,
        table: &Table,
        listeners: impl Iterator<Item = &'a Listener>,
        age: Age,
        blocked: impl Fn(ServiceId) -> Option<String>,
    ) -> Plan {
        let mut plan = Plan {
            epoch: age.epoch,
            fronts: age.fronts,
            log: table.daemon.log.clone(),
            undecided: table.daemon.undecided,
            services: Vec::new(),
            listeners: Vec::new(),
            tcpmux: Vec::new(),
            disabled: disabled(table),
            helper_pid: i32::try_from(std::process::id()).unwrap_or(0),
            uptime: age.uptime,
        };
        for service in table.services.iter().filter(|service| service.enabled) {
            let id = self.id(&service.name);
            plan.services.push(ServicePlan {
                blocked: blocked(id),
                ..service_plan(id, service)
            });
            plan.tcpmux
                .extend(service.listen.iter().filter_map(|listen| match listen {
                    Listen::Tcpmux { name, greet } => Some(MuxPlan {
                        name: name.clone(),
                        greet: *greet,
                        service: id,
                    }),
                    _ => None,
                }));
        }
        for listener in listeners {
            let bound_kind = listener
                .bound()
                .map(|bound| bound.kind == socket2::Type::DGRAM);
            plan.listeners.push(ListenerPlan {
                bound: bound_kind.is_some(),
                id: listener.id,
                services: listener.services().collect(),
                label: listener.listen.to_string(),
                datagram: bound_kind
                    .or(listener.listen.is_datagram())
                    .unwrap_or(false),
            });
        }
        plan
    }
}

fn compile(
    service: &Service,
    inheritance: &Inheritance,
    ground: &Ground<'_>,
) -> Result<Active, String> {
    let program = match &service.serve {
        Serve::Exec(exec) => {
            let Confinement {
                blueprint,
                per_instance,
                cage,
                blocked,
                degraded,
            } = Confinement::of(&service.name, exec, ground)?;
            let (environment, files) = (&inheritance.environment, inheritance.files);
            let mut plan = ExecPlan::compile(&service.name, exec, environment, files, cage)
                .map_err(|err| format!("service \"{}\": {err}", service.name))?;
            plan.limits
                .extend(fallback::limits(exec, inheritance.controllers));
            Some(Rc::new(Program {
                plan: Rc::new(plan),
                path: exec.program.display().to_string(),
                stderr: exec.stderr,
                stop: exec.stop.clone(),
                blueprint,
                per_instance,
                blocked,
                degraded,
                cgroup: exec.isolation.level(Mechanism::Cgroup),
                isolated: exec.isolation.preset != Preset::None,
            }))
        }
        Serve::Builtin(_) | Serve::Forward(_) => None,
    };
    Ok(Active {
        name: service.name.as_str().into(),
        rules: service.rules.clone(),
        routing: service.routing.clone(),
        rules_shown: service.routing.rules.iter().map(shown).collect(),
        program,
        listeners: Vec::new(),
        names: Vec::new(),
        muxed: service
            .listen
            .iter()
            .any(|listen| matches!(listen, Listen::Tcpmux { .. })),
    })
}

/// Services that the table switches off.
fn disabled(table: &Table) -> Vec<Disabled> {
    let off = table.services.iter().filter(|service| !service.enabled);
    let shown = off.map(|service| Disabled {
        name: service.name.clone(),
        description: service.description.clone(),
        reason: service.unmet.clone(),
        serves: match &service.serve {
            Serve::Exec(_) => "exec".to_owned(),
            Serve::Forward(_) => "forward".to_owned(),
            Serve::Builtin(builtin) => builtin.name().to_owned(),
        },
        listen: service.listen.iter().map(ToString::to_string).collect(),
    });
    shown.collect()
}

fn service_plan(id: ServiceId, service: &Service) -> ServicePlan {
    let serve = match &service.serve {
        Serve::Exec(_) => ServePlan::Exec,
        Serve::Builtin(builtin) => ServePlan::Builtin(*builtin),
        Serve::Forward(forward) => ServePlan::Forward(forward.clone()),
    };
    ServicePlan {
        id,
        name: service.name.clone(),
        description: service.description.clone(),
        serve,
        rules: service.rules.clone(),
        routing: service.routing.clone(),
        blocked: None,
    }
}
