//! Ready: said once, when the front serves for the first time.
#![forbid(unsafe_code)]

use std::io::Write;

use crate::helper::core::Helper;
use crate::table::{LogFormat, LogTarget};

/// What is served now, for the log and for `systemctl status`.
pub fn ready_line(helper: &Helper) -> String {
    let listeners = helper.registry.bound().count();
    let services = helper.services.count();
    format!("ready: {services} services, {listeners} listeners")
}

/// Called for each sign of life of the front; the first one means it has its plan.
pub fn when_ready(helper: &mut Helper) {
    if let Some(front) = &mut helper.front {
        front.ready = true;
    }
    if helper.announced {
        return;
    }
    helper.announced = true;
    helper.tell_upgraded();
    crate::sys::process::trim_heap();
    let line = ready_line(helper);
    let log = &helper.table.daemon.log;
    if log.to == LogTarget::Stderr && log.format == LogFormat::Text {
        // The bare line, for whoever waits for it.
        // In one write, or a line of the front may come between.
        let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    } else {
        log::info!("{line}");
    }
    let _ = sd_notify::notify(&[
        sd_notify::NotifyState::Ready,
        sd_notify::NotifyState::Status(&line),
    ]);
    if helper.source.is_embedded() {
        eprint!(
            "{}",
            crate::helper::welcome::text(&helper.table, helper.control.is_served())
        );
    }
}
