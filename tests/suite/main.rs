//! Black-box tests: the real binary, real sockets, real servers and clients.
//! `tests/README.md` says how to run one of them and how to write another.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_imports,
    reason = "a test that cannot go on should say so and end"
)]

#[path = "../common/mod.rs"]
mod common;

mod programs;
mod shared_port;

mod attack;
mod audit;
mod bans;
mod builtin;
mod callers;
mod cgroups;
mod control;
mod cpus;
mod datagrams;
mod escape;
mod examples;
mod explain;
mod forward;
mod handover;
mod held;
mod helper;
mod hidden;
mod import;
mod import_xinetd;
mod layers;
mod limits;
mod listeners;
mod logging;
mod matching;
mod metrics;
mod operations;
mod options;
mod orders;
mod origins;
mod pending;
mod proxied;
mod regression;
mod reload;
mod restart;
mod security;
mod serve;
mod servers;
mod session;
mod signals;
mod status_browser;
mod status_page;
mod traffic;
mod upgrade;
mod usherctl;

use std::process::ExitCode;

fn main() -> ExitCode {
    if escape::was_attacker() || operations::was_asker() {
        return ExitCode::SUCCESS;
    }
    common::runner::main(&[
        serve::TESTS,
        listeners::TESTS,
        options::TESTS,
        layers::TESTS,
        limits::TESTS,
        builtin::TESTS,
        forward::TESTS,
        metrics::TESTS,
        status_page::TESTS,
        status_browser::TESTS,
        reload::TESTS,
        signals::TESTS,
        cgroups::TESTS,
        cpus::TESTS,
        helper::TESTS,
        logging::TESTS,
        matching::TESTS,
        origins::TESTS,
        proxied::TESTS,
        pending::TESTS,
        held::TESTS,
        handover::TESTS,
        attack::TESTS,
        regression::TESTS,
        servers::TESTS,
        traffic::TESTS,
        datagrams::TESTS,
        examples::TESTS,
        security::TESTS,
        session::TESTS,
        hidden::TESTS,
        explain::TESTS,
        import::TESTS,
        import_xinetd::TESTS,
        control::TESTS,
        upgrade::TESTS,
        restart::TESTS,
        usherctl::TESTS,
        operations::methods::TESTS,
        operations::backup::TESTS,
        operations::services::TESTS,
        operations::spam::TESTS,
        audit::TESTS,
        bans::TESTS,
        callers::TESTS,
        orders::TESTS,
        operations::runtime::TESTS,
        operations::hostile::TESTS,
        operations::accounts::TESTS,
        operations::network::TESTS,
        operations::firewall::TESTS,
        operations::files::TESTS,
        escape::kernel::TESTS,
        escape::files::TESTS,
        escape::processes::TESTS,
        escape::network::TESTS,
        escape::resources::TESTS,
        escape::root::TESTS,
    ])
}
