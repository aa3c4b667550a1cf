//! `report.*`: what this host is and how it does.
#![forbid(unsafe_code)]

use std::fs;

use nix::sys::utsname::uname;
use serde_json::json;

use super::{Outcome, Request, Usherd, to};

/// Kernel, name, load, memory, uptime.
pub fn report(_: &Request, _: &mut dyn Usherd) -> Outcome {
    let names = to("ask for the kernel's name", uname())?;
    let text = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
    let load = to("read /proc/loadavg", fs::read_to_string("/proc/loadavg"))?;
    let load: Vec<f64> = load
        .split_whitespace()
        .take(3)
        .filter_map(|word| word.parse().ok())
        .collect();
    Ok(json!({
        "host": text(names.nodename()),
        "kernel": text(names.release()),
        "machine": text(names.machine()),
        "load": load,
    }))
}
