//! `status`, `list`, `instances`: what there is at this moment.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use serde::Serialize;

use super::console::Console;
use super::failure::Failure;
use super::grid::{Cell, Grid, Paint, elastic, left, right};
use super::text::{bytes, count, escape, exit, micros, millis, word};
use crate::control::types::{
    Daemon, GetDaemon, GetInstances, GetServices, Instance, OfService, Service, State,
};

#[derive(Debug, Serialize)]
struct Status {
    daemon: Daemon,
    services: Vec<Service>,
}

pub fn status(console: &Console, service: Option<String>) -> Result<(), Failure> {
    let mut link = console.status()?;
    let GetServices { services } = link.call("GetServices", &OfService { service })?;
    let GetDaemon { daemon } = link.call("GetDaemon", &serde_json::json!({}))?;
    console.answer(&Status { daemon, services }, |status| {
        let mut out = daemon_lines(console, &status.daemon);
        if !status.services.is_empty() {
            out.push('\n');
            out.push_str(&console.grid(&services_grid(&status.services)));
        }
        out
    })
}

/// The daemon in a line, and a line for each thing that is not as it should be.
fn daemon_lines(console: &Console, daemon: &Daemon) -> String {
    let mut out = format!(
        "usherd {}: up {}, {}, {}, {} running, {} undecided\n",
        escape(&daemon.version),
        millis(daemon.uptime_ms),
        count(daemon.services, "service"),
        count(daemon.listeners, "listener"),
        daemon.running,
        daemon.undecided
    );
    let mut mark = |paint: Paint, text: &str| {
        let _ = writeln!(out, "{}", console.paint(paint, text));
    };
    if daemon.draining {
        mark(
            Paint::Bad,
            "draining: it ends when its instances have ended",
        );
    }
    if daemon.fronts > 1 {
        let died = count(u64::from(daemon.fronts) - 1, "time");
        let anew = "counts and events are those of the one that runs now";
        mark(
            Paint::Doubtful,
            &format!("its front has died {died}; {anew}"),
        );
    }
    if daemon.denied > 0 {
        let denied = count(daemon.denied, "call");
        mark(
            Paint::Doubtful,
            &format!("{denied} here of those who may not ask"),
        );
    }
    for why in &daemon.degraded {
        mark(Paint::Doubtful, &format!("degraded: {}", escape(why)));
    }
    out
}

fn services_grid(services: &[Service]) -> Grid {
    let mut grid = Grid::new(&[
        left("SERVICE", 0),
        left("STATE", 0),
        right("RUNNING", 1),
        right("ACCEPTED", 3),
        right("REFUSED", 2),
        right("FAILED", 2),
        left("LAST EXIT", 4),
        elastic("WHY", 1),
    ]);
    for service in services {
        grid.row([
            service.name.as_str().into(),
            state(service.state),
            running(service).into(),
            Cell::number(service.accepted),
            Cell::trouble(service.refused),
            Cell::trouble(service.failed),
            last_exit(service),
            service.reason.as_deref().unwrap_or("").into(),
        ]);
    }
    grid
}

pub(super) fn state(state: State) -> Cell {
    let paint = match state {
        State::Serving => Paint::Good,
        State::Full | State::Held | State::Unbound => Paint::Doubtful,
        State::Resting | State::Blocked => Paint::Bad,
        State::Disabled => Paint::Faint,
    };
    Cell::painted(word(&state), paint)
}

pub(super) fn running(service: &Service) -> String {
    format!("{}/{}", service.running, service.instances)
}

pub(super) fn last_exit(service: &Service) -> Cell {
    let Some(last) = &service.last_exit else {
        return "".into();
    };
    let paint = match last.status {
        Some(0) => Paint::Plain,
        Some(_) | None => Paint::Doubtful,
    };
    Cell::painted(
        format!("{}, {} ago", exit(last), millis(last.ago_ms)),
        paint,
    )
}

pub fn list(console: &Console) -> Result<(), Failure> {
    let mut link = console.status()?;
    let services: GetServices = link.call("GetServices", &OfService::default())?;
    console.answer(&services, |services| {
        let mut grid = Grid::new(&[
            left("SERVICE", 0),
            elastic("ADDRESSES", 0),
            elastic("DESCRIPTION", 1),
        ]);
        for service in &services.services {
            grid.row([
                service.name.as_str().into(),
                addresses(service).into(),
                service.description.as_deref().unwrap_or("").into(),
            ]);
        }
        console.grid(&grid)
    })
}

fn addresses(service: &Service) -> String {
    let shown = service.listeners.iter().map(|listener| {
        let note = match (listener.bound, service.state) {
            (true, _) | (false, State::Disabled) => "",
            (false, _) => " (not bound)",
        };
        format!("{}{note}", listener.address)
    });
    let mut shown = shown.collect::<Vec<_>>().join(", ");
    if service.state == State::Disabled {
        shown.push_str(" (disabled)");
    }
    shown
}

pub fn instances(console: &Console, service: Option<String>) -> Result<(), Failure> {
    let mut link = console.status()?;
    let instances: GetInstances = link.call("GetInstances", &OfService { service })?;
    console.answer(&instances, |instances| {
        if instances.instances.is_empty() {
            return "no instance runs\n".to_owned();
        }
        console.grid(&instances_grid(&instances.instances))
    })
}

pub(super) fn instances_grid(instances: &[Instance]) -> Grid {
    let mut grid = Grid::new(&[
        right("INSTANCE", 0),
        left("SERVICE", 0),
        right("PID", 1),
        right("AGE", 2),
        right("CPU", 3),
        right("MEMORY", 3),
        left("CONN", 4),
        elastic("PEER", 1),
    ]);
    for instance in instances {
        grid.row([
            Cell::from(instance.id.to_string()),
            instance.service.as_str().into(),
            instance.pid.to_string().into(),
            millis(instance.age_ms).into(),
            instance.cpu_us.map(micros).unwrap_or_default().into(),
            instance.memory.map(bytes).unwrap_or_default().into(),
            instance.connection.as_str().into(),
            instance.peer.as_deref().unwrap_or("").into(),
        ]);
    }
    grid
}
