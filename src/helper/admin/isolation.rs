//! `GetIsolation`: what a service asked for beside what its oldest instance is
//! really in. Only looks; read anew for each call.
#![forbid(unsafe_code)]

use std::path::Path;

use crate::control::message::{Call, CallError, Reply};
use crate::control::types;
use crate::helper::admin::calls::no_such_service;
use crate::helper::core::Helper;
use crate::ids::ServiceId;
use crate::sandbox::effective::Seen;
use crate::sandbox::report::{self, Found};
use crate::table::Serve;

impl Helper {
    pub(super) fn get_isolation(&mut self, call: &mut Call) -> Result<Reply, CallError> {
        let types::TheService { service: name } = call.take()?;
        let id = self.services.known(&name);
        let mut services = self.table.services.iter();
        let service = services.find(|service| service.name == name);
        let service = service.ok_or_else(|| no_such_service(&name))?;
        let lacks = match &service.serve {
            Serve::Exec(exec) => self.foundation.probe.lacks(&exec.isolation),
            Serve::Builtin(_) | Serve::Forward(_) => Vec::new(),
        };
        let found = id.and_then(|id| self.look_at_oldest(id));
        let isolation = report::isolation(service, &lacks, found.as_ref());
        Ok(Reply::last(&types::GetIsolation { isolation }))
    }

    fn look_at_oldest(&self, service: ServiceId) -> Option<Found> {
        let instances = self.instances.iter().filter(|one| one.service == service);
        let oldest = instances.min_by_key(|instance| instance.id.0)?;
        let pressure = self.cgroups.pressure(&oldest.name).unwrap_or_default();
        let cgroup2 = self.foundation.probe.host.cgroup2.as_ref();
        Some(Found {
            id: oldest.id.0,
            pid: oldest.pid,
            seen: Seen::read(oldest.pid, cgroup2.map(|found| Path::new(&found.at))),
            pressure,
        })
    }
}
