//! `enable`, `disable`, `drain`, `stop`, `start`, `kill`, `upgrade`: one call each, and a
//! line that says what is in force now.
#![forbid(unsafe_code)]

use serde_json::{Map, Value};

use super::console::Console;
use super::failure::Failure;
use super::text::{count, escape};
use crate::control::types::{Drain, KillWhat, Start, Stop, TheService, Upgrade};

/// `enable` and `disable`.
pub fn enable(console: &Console, service: String, on: bool) -> Result<(), Failure> {
    let (method, what) = match on {
        true => ("Enable", "enabled"),
        false => ("Disable", "disabled"),
    };
    let text = format!("{} is {what}, and the table says so\n", escape(&service));
    let asked = TheService { service };
    let done: Value = console.admin()?.call(method, &asked)?;
    console.answer(&done, |_| text)
}

pub fn upgrade(console: &Console) -> Result<(), Failure> {
    let nothing = Value::Object(Map::new());
    let done: Upgrade = console.admin()?.call("Upgrade", &nothing)?;
    console.answer(&done, |done| {
        let (from, to) = (escape(&done.from), escape(&done.to));
        match from == to {
            true => format!("usherd {to} was started anew and has taken over\n"),
            false => format!("usherd {to} has taken over from {from}\n"),
        }
    })
}

pub fn drain(console: &Console, service: String) -> Result<(), Failure> {
    let name = escape(&service).into_owned();
    let done: Drain = console.admin()?.call("Drain", &TheService { service })?;
    console.answer(&done, |done| {
        let rest = match done.running {
            0 => "none of its instances runs".to_owned(),
            running => format!("{} may finish", count(running.into(), "instance")),
        };
        format!("{name} takes no new requests; {rest}\n")
    })
}

pub fn stop(console: &Console, service: String) -> Result<(), Failure> {
    let name = escape(&service).into_owned();
    let done: Stop = console.admin()?.call("Stop", &TheService { service })?;
    console.answer(&done, |done| {
        let rest = match done.stopped {
            0 => "none of its instances ran".to_owned(),
            stopped => format!("{} ended", count(stopped.into(), "instance")),
        };
        format!("{name} takes no new requests; {rest}\n")
    })
}

pub fn start(console: &Console, service: String) -> Result<(), Failure> {
    let name = escape(&service).into_owned();
    let done: Start = console.admin()?.call("Start", &TheService { service })?;
    console.answer(&done, |done| match done.instance {
        Some(instance) => format!("{name} is started: instance {instance}\n"),
        None => format!("{name} takes requests\n"),
    })
}

pub fn kill(console: &Console, instance: u64, signal: Option<String>) -> Result<(), Failure> {
    let text = match &signal {
        Some(signal) => format!("instance {instance} was sent {signal}\n"),
        None => format!("instance {instance} is being ended\n"),
    };
    let asked = KillWhat { instance, signal };
    let done: Value = console.admin()?.call("Kill", &asked)?;
    console.answer(&done, |_| text)
}
