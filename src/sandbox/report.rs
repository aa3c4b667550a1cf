//! Isolation as the control sockets and `usherctl` show it: asked for, found,
//! missing, and how exposed the rest leaves the host.
#![forbid(unsafe_code)]

use crate::control::types;
use crate::sandbox::cgroup::Pressure;
use crate::sandbox::effective::Seen;
use crate::sandbox::exposure::Exposure;
use crate::sandbox::probe::{Lack, Missing};
use crate::table::effective::{isolation_settings, resource_settings};
use crate::table::isolation::{Level, Mechanism};
use crate::table::{Exec, Serve, Service};

/// An instance that was looked at.
#[derive(Clone, Debug)]
pub struct Found {
    pub id: u64,
    pub pid: i32,
    pub seen: Seen,
    /// Of the service's cgroup, all its instances together.
    pub pressure: Pressure,
}

/// `lacks`: what this host is known not to have of what the service wants.
#[must_use]
pub fn isolation(service: &Service, lacks: &[Lack<'_>], found: Option<&Found>) -> types::Isolation {
    match &service.serve {
        Serve::Exec(exec) => of_exec(&service.name, exec, lacks, found),
        Serve::Builtin(_) | Serve::Forward(_) => types::Isolation {
            service: service.name.clone(),
            preset: None,
            settings: Vec::new(),
            mechanisms: Vec::new(),
            instance: None,
            exposure: None,
        },
    }
}

fn of_exec(name: &str, exec: &Exec, lacks: &[Lack<'_>], found: Option<&Found>) -> types::Isolation {
    let lack = |mechanism| lacks.iter().find(|lack| lack.mechanism == mechanism);
    let mechanisms = Mechanism::ALL
        .into_iter()
        .map(|mechanism| shown_mechanism(mechanism, exec, lack(mechanism), found));
    let settings = isolation_settings(&exec.isolation).into_iter();
    let settings = settings.chain(resource_settings(&exec.resources));
    let exposure = Exposure::of_exec(exec, |mechanism| lack(mechanism).is_some());
    types::Isolation {
        service: name.to_owned(),
        preset: Some(exec.isolation.preset.name().to_owned()),
        settings: settings.map(key).collect(),
        mechanisms: mechanisms.collect(),
        instance: found.map(|found| types::SeenInstance {
            id: found.id,
            pid: found.pid,
            facts: facts(found).map(key).collect(),
        }),
        exposure: Some(shown_exposure(&exposure)),
    }
}

fn facts(found: &Found) -> impl Iterator<Item = (&'static str, String)> {
    let Pressure { cpu, memory, io } = found.pressure;
    let pressure = [
        ("pressure.cpu", cpu),
        ("pressure.memory", memory),
        ("pressure.io", io),
    ];
    let shown = pressure.into_iter().filter_map(|(key, stalled)| {
        let lately = stalled?.lately;
        let percent = format!("{}.{:02}% of 10 s", lately / 100, lately % 100);
        Some((key, percent))
    });
    found.seen.facts().into_iter().chain(shown)
}

fn key((key, value): (&'static str, String)) -> types::Key {
    types::Key {
        key: key.to_owned(),
        value,
    }
}

fn shown_mechanism(
    mechanism: Mechanism,
    exec: &Exec,
    lack: Option<&Lack<'_>>,
    found: Option<&Found>,
) -> types::Mechanism {
    let verdict = found.map(|found| found.seen.verdict(mechanism, &exec.isolation));
    let (effective, note) = verdict.map_or((None, None), |found| (found.in_force, found.note));
    types::Mechanism {
        name: mechanism.name().to_owned(),
        level: match exec.isolation.level(mechanism) {
            Level::Off => types::Level::Off,
            Level::Prefer => types::Level::Prefer,
            Level::Require => types::Level::Require,
        },
        effective,
        note,
        missing: lack.map(|lack| {
            let Missing { reason, remedy } = lack.missing.clone();
            types::Missing { reason, remedy }
        }),
    }
}

#[must_use]
pub fn shown_exposure(exposure: &Exposure) -> types::Exposure {
    let score = exposure.score();
    let reasons = exposure.items.iter().map(|item| types::ExposureReason {
        key: item.what.to_owned(),
        adds: (exposure.share(item) * 100.0).round() / 100.0,
        text: item.reason.clone(),
    });
    types::Exposure {
        score: score.value(),
        grade: score.grade().word().to_owned(),
        reasons: reasons.collect(),
    }
}
