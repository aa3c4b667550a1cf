//! The launcher: from nothing to a loop that serves, then the helper's life.
#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Uid;

use crate::admin;
use crate::error::{Exit, Fatal};
use crate::helper::admin::{Control, Sockets};
use crate::helper::announce::Signs;
use crate::helper::cgroups;
use crate::helper::core::{Helper, Parts};
use crate::helper::cpus::Cpus;
use crate::helper::foundation::Foundation;
use crate::helper::front_process::Fronts;
use crate::helper::handover::before::Before;
use crate::helper::handover::executable::Executable;
use crate::helper::handover::journal::Journal;
use crate::helper::handover::store::{self, Store};
use crate::helper::handover::takeover::{self, Taken};
use crate::helper::load::Source;
use crate::helper::logs;
use crate::helper::pid_file::{NoPidFile, PidFile};
use crate::helper::services::{Inheritance, Services};
use crate::helper::sockets::inherited::{self, Inherited, is_datagram};
use crate::helper::sockets::registry::{AGAIN, Registry, Trouble};
use crate::logging;
use crate::sandbox::cgroup::Cgroups;
use crate::sandbox::launch::{Launcher, open_null};
use crate::sys::process::reset_signals;
use crate::table::host::InheritedKind;
use crate::table::{LogTarget, Table};

/// More open files than this are not asked for, whatever the hard limit:
/// containers set 2^30, and the kernel itself says no above fs.nr_open.
const ENOUGH_FILES: u64 = 1 << 20;

/// With fewer there is no room for listeners, which start at
/// [`FIRST_LISTENER`](crate::sandbox::launch::FIRST_LISTENER).
const FEWEST_FILES: u64 = 128;

/// What the command line said.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `None`: the embedded table.
    pub config: Option<PathBuf>,
    pub runtime_dir: Option<PathBuf>,
    /// Where to say that everything is served (s6's notification-fd).
    pub ready_fd: Option<i32>,
}

/// Runs usherd in the foreground until it is asked to stop.
#[must_use]
pub fn run(options: &Options) -> Exit {
    let executable = Executable::ours();
    let taken = takeover::take();
    // A program that came by an upgrade has said so long ago.
    let asked = options.ready_fd.filter(|_| matches!(taken, Ok(None)));
    let ready = asked.map(crate::sys::inherit::take);
    if let (Some(number), Some(None)) = (asked, &ready) {
        eprintln!("usherd: --ready-fd {number}: no such descriptor is open");
        return Exit::Usage;
    }
    let given = match &taken {
        Ok(None) => inherited::take(),
        _ => Vec::new(),
    };
    reset_signals();
    logging::init("helper");
    let (executable, mut taken) = match (executable, taken) {
        (Ok(executable), Ok(taken)) => (executable, taken),
        (Err(err), _) => {
            log::error!("unable to find out where usherd itself is: {err}");
            return Exit::System;
        }
        (_, Err(Fatal(why))) => {
            log::error!("{why}");
            return Exit::System;
        }
    };
    let mut store = Store::open();
    let given = match &mut taken {
        Some(taken) => taken.inherited(),
        None => {
            let mut found = store::sort(given);
            if let Some(store) = &mut store {
                store.remember(&found);
            }
            let descriptors = found.descriptors;
            taken = found.state.take().map(|state| Taken { state, descriptors });
            found.given
        }
    };
    // Children share our memory until they exec, and are of their service's user by then,
    // some of them in a sandbox with no more rights than the server next to them: nobody
    // but root may look into it, nor trace them, nor have a core of it.
    if let Err(err) = nix::sys::prctl::set_dumpable(false) {
        log::error!("unable to become undumpable: {err}");
        return Exit::System;
    }
    warn_of_dumps();
    let kinds = given
        .iter()
        .map(|socket| {
            let kind = match is_datagram(socket) {
                Some(true) => InheritedKind::Datagram,
                _ => InheritedKind::Listener,
            };
            (socket.name.clone(), kind)
        })
        .collect();
    let source = Source::new(options.config.clone(), kinds);
    let table = match source.load() {
        Ok(loaded) => {
            loaded.warnings.log_warnings();
            loaded.table
        }
        Err(complaints) => {
            let count = complaints.count("complaint");
            eprintln!("{complaints}usherd: {count}; nothing was started");
            return Exit::Config;
        }
    };
    let origin = Origin {
        executable,
        given,
        taken,
        store,
        ready: ready.flatten(),
    };
    match serve(options, source, table, origin) {
        Ok(()) => Exit::Ok,
        Err(Fatal(why)) => {
            log::error!("{why}");
            Exit::System
        }
    }
}

/// What this process came with.
struct Origin {
    executable: Executable,
    given: Vec<Inherited>,
    /// From the usherd before this one.
    taken: Option<Taken>,
    store: Option<Store>,
    ready: Option<OwnedFd>,
}

fn serve(options: &Options, source: Source, mut table: Table, origin: Origin) -> Result<(), Fatal> {
    let Origin {
        mut executable,
        given,
        mut taken,
        store,
        ready,
    } = origin;
    let mut before = Before::of(taken.as_mut());
    if let Some(path) = before.program.take() {
        executable = Executable::at(path);
    }
    let settings = &table.daemon.log;
    match logs::open(settings) {
        Ok(log) => logging::attach(log, settings),
        // A syslogd that is not up yet must not keep the services down.
        Err(err) if settings.to == LogTarget::Syslog => {
            log::warn!("unable to open {err}; logging to stderr until a reload finds it");
        }
        Err(err) => return Err(Fatal(format!("unable to open {err}"))),
    }
    let pid_file = pid_file(options, &table, &mut before)?;
    let sockets = match &pid_file {
        Some(file) => Some(
            before
                .sockets(file.dir())
                .unwrap_or_else(|| Sockets::open(file.dir()))
                .map_err(|err| Fatal(format!("unable to make the control sockets: {err}")))?,
        ),
        None => None,
    };
    if let Err(err) = nix::sys::prctl::set_child_subreaper(true) {
        log::warn!("unable to adopt orphans of servers: {err}");
    }
    let runtime_dir = pid_file.as_ref().map(|file| file.dir().to_owned());
    let mut cgroups = match before.cgroup.take() {
        Some((state, lock)) => Cgroups::open_again(&state, lock),
        None => Cgroups::open(),
    };
    cgroups::tell_state(cgroups.state(), &table);
    cgroups::put_in_force(&mut cgroups, &table);
    let inheritance = Inheritance {
        environment: environment(),
        files: raise_files(before.files)?,
        controllers: cgroups.controllers(),
    };
    let files = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or(inheritance.files);
    let mut services = Services::default();
    let registry = match &mut taken {
        Some(Taken { state, descriptors }) => {
            let sockets = std::mem::take(&mut state.sockets);
            Registry::taken_over(sockets, descriptors, given, &mut |name| services.id(name))
        }
        None => Registry::new(given),
    };
    let mut control = Control::new(sockets, state_dir(&table));
    let _ = control.fill_lists(&mut table, None, Instant::now()); // told
    let mut parts = Parts {
        source,
        services,
        registry,
        launcher: Launcher::new()
            .map_err(|err| Fatal(format!("unable to open /proc/self/ns/pid: {err}")))?,
        foundation: Foundation::new(runtime_dir, state_dir(&table), cgroups.state()),
        cgroups,
        fronts: Fronts::new(inheritance.clone(), files),
        cpus: Cpus::found(),
        null: open_null().map_err(|err| Fatal(format!("unable to open /dev/null: {err}")))?,
        control,
        pid_file,
        executable,
        store,
        signs: Signs::new(ready),
        table,
    };
    listen(&mut parts, &inheritance)?;
    let mut helper = Helper::new(parts)?;
    helper.settle();
    helper.tell_confinement();
    go_on(&mut helper, taken);
    helper.run()
}

/// With what the last usherd had, be it this process or another one.
fn go_on(helper: &mut Helper, taken: Option<Taken>) {
    let now = Instant::now();
    let dir = helper.pid_file.as_ref().map(|file| file.dir().to_owned());
    let opened = dir.map(|dir| Journal::open(&dir)).transpose();
    let (journal, noted) = opened
        .inspect_err(|err| log::error!("unable to note which servers run: {err}"))
        .ok()
        .flatten()
        .unzip();
    helper.instances.journal = journal;
    let is_same_process = taken
        .as_ref()
        .is_some_and(|taken| taken.state.process.is_some());
    if let Some(taken) = taken {
        helper.take_over(taken, now);
    }
    if !is_same_process {
        helper.adopt_servers(noted.unwrap_or_default(), now);
    }
}

/// Opens every listener. One that cannot be had is logged and tried again
/// later; only when there is none at all is there no point in going on.
fn listen(parts: &mut Parts, inheritance: &Inheritance) -> Result<(), Fatal> {
    let compiled = parts
        .services
        .compile(
            &parts.table,
            inheritance,
            &parts.foundation.ground(&parts.table),
        )
        .map_err(Fatal)?;
    parts.services.put(compiled, |_| false);
    let numbered: Vec<_> = parts
        .table
        .services
        .iter()
        .map(|service| (parts.services.id(&service.name), service))
        .collect();
    let prepared = parts.registry.prepare(&numbered, Instant::now());
    let troubles: Vec<_> = prepared.troubles.iter().map(Trouble::to_string).collect();
    parts.registry.commit(prepared);
    parts.services.attach(&parts.registry);
    let hopeless = !troubles.is_empty() && parts.registry.bound().next().is_none();
    for trouble in troubles {
        log::error!("{trouble}{}", if hopeless { "" } else { AGAIN });
    }
    if hopeless {
        return Err(Fatal(
            "not one address could be bound; nothing to serve".into(),
        ));
    }
    Ok(())
}

/// With 1, every change of user makes what shares our memory readable for that user.
fn warn_of_dumps() {
    let file = "/proc/sys/fs/suid_dumpable";
    if std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "1") {
        log::warn!(
            "fs.suid_dumpable is 1, so that servers may get at the memory of usherd; set it to 0"
        );
    }
}

/// Lets usherd open as many files as its hard limit allows. Returns the limits
/// as they were, which servers get back.
fn raise_files(before: Option<(u64, u64)>) -> Result<(u64, u64), Fatal> {
    let failed = |err| Fatal(format!("unable to read the limit of open files: {err}"));
    // The usherd before us in this process has raised it already.
    let found = match before {
        Some(found) => Ok(found),
        None => getrlimit(Resource::RLIMIT_NOFILE),
    };
    let (soft, hard) = found.map_err(failed)?;
    let want = hard.min(ENOUGH_FILES).max(soft);
    if let Err(err) = setrlimit(Resource::RLIMIT_NOFILE, want, hard) {
        log::warn!("unable to raise the limit of open files from {soft} to {want}: {err}");
    }
    if want < FEWEST_FILES {
        return Err(Fatal(format!(
            "only {want} open files are allowed, usherd needs {FEWEST_FILES} at the least; \
             see LimitNOFILE= and ulimit -n"
        )));
    }
    Ok((soft, hard))
}

/// A directory that was asked for must be ours alone; the default one is a
/// convenience that a second usherd goes without.
fn pid_file(
    options: &Options,
    table: &Table,
    before: &mut Before,
) -> Result<Option<PidFile>, Fatal> {
    let asked = options
        .runtime_dir
        .clone()
        .or_else(|| table.daemon.runtime_dir.clone());
    let Some(dir) = asked.clone().or_else(default_runtime_dir) else {
        return Ok(None);
    };
    let file = match before
        .pid_file
        .take_if(|(path, _)| path.parent() == Some(&*dir))
    {
        Some((path, file)) => PidFile::again(path, file),
        None => PidFile::create(&dir),
    };
    match (file, asked) {
        (Ok(file), _) => Ok(Some(file)),
        (Err(problem), Some(_)) => Err(Fatal(describe(&problem, &dir))),
        (Err(problem), None) => {
            log::info!(
                "running without a pid file and control sockets: {}",
                describe(&problem, &dir)
            );
            Ok(None)
        }
    }
}

fn describe(problem: &NoPidFile, dir: &Path) -> String {
    match problem {
        NoPidFile::Held(pid) => format!(
            "another usherd (pid {pid}) runs with {}; give this one a runtime_dir of its own",
            dir.display()
        ),
        NoPidFile::Io(path, err) => format!("unable to write {}: {err}", path.display()),
    }
}

/// Where that is kept which outlasts a restart.
fn state_dir(table: &Table) -> Option<PathBuf> {
    table.daemon.state_dir.clone().or_else(admin::state_dir)
}

/// What usherd was started with; nobody else is to take what was handed over to it.
fn environment() -> Vec<(OsString, OsString)> {
    let all = env::vars_os();
    all.filter(|(name, _)| name != takeover::VARIABLE).collect()
}

fn default_runtime_dir() -> Option<PathBuf> {
    if Uid::effective().is_root() {
        return Some(PathBuf::from("/run/usherd"));
    }
    env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("usherd"))
}
