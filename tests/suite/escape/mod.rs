//! Attempts to get out of a running instance, through the real daemon.
//!
//! A table has a service for each preset whose server is this test binary as an
//! attacker ([`attacker`]), and a neighbour. Tests say what each attempt has to
//! come to under each preset; under `none` most attempts succeed, or fail for the
//! user's sake alone, so that a test that proves nothing shows. Afterwards
//! the neighbour still answers, and nothing of the attacker is left.

use std::path::PathBuf;

use crate::common::peer::ask;
use crate::common::*;

mod attacker;
mod calls;
mod raw;
mod walk;

pub mod files;
pub mod kernel;
pub mod network;
pub mod processes;
pub mod resources;
pub mod root;

/// Whether this process is to be the attacker, which it then was.
pub fn was_attacker() -> bool {
    let asked = std::env::args()
        .nth(1)
        .is_some_and(|word| word == "--attack");
    if asked {
        attacker::run();
    }
    asked
}

pub const PRESETS: [&str; 3] = ["none", "standard", "strict"];

/// Where a test plays.
pub struct Stage {
    pub daemon: Daemon,
    pub dir: Dir,
    /// Of each service, in the order they were given.
    ports: Vec<(String, u16)>,
    neighbour: u16,
}

/// A service that attacks: its name, what it says of `isolation`, and other keys.
/// Unless it says itself what is `visible`, the attacker is.
pub struct Service<'a> {
    pub name: &'a str,
    pub preset: &'a str,
    pub refined: &'a str,
    pub keys: &'a str,
}

/// A service for each preset, with the same keys.
pub fn presets<'a>(refined: &'a str, keys: &'a str) -> Vec<Service<'a>> {
    let service = |name| Service {
        name,
        preset: name,
        refined: if name == "none" { "" } else { refined },
        keys,
    };
    PRESETS.into_iter().map(service).collect()
}

impl Stage {
    /// With services that have nothing beyond their presets.
    pub fn plain() -> Self {
        Self::new(&presets("", ""))
    }

    pub fn new(services: &[Service<'_>]) -> Self {
        Self::in_folder(Dir::apart(), services)
    }

    pub fn in_folder(dir: Dir, services: &[Service<'_>]) -> Self {
        let program = program(&dir);
        let neighbour = free_port();
        let mut table = format!(
            "[service.neighbour]\nlisten = \"tcp:{neighbour}\"\nexec = [\"/bin/cat\"]\nisolation = \"standard\"\n"
        );
        let mut ports = Vec::new();
        for service in services {
            let port = free_port();
            ports.push((service.name.to_owned(), port));
            let isolation = match service.preset {
                "none" => "\"none\"".to_owned(),
                preset if service.refined.contains("visible") => {
                    format!("{{ preset = \"{preset}\", {} }}", service.refined)
                }
                preset => format!(
                    "{{ preset = \"{preset}\", visible = [\"{program}\"], {} }}",
                    service.refined
                ),
            };
            table += &format!(
                "[service.{}]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{program}\", \"--attack\"]\nisolation = {isolation}\n{}\n",
                service.name, service.keys
            );
        }
        let daemon = Daemon::start(&dir, &table);
        Self {
            daemon,
            dir,
            ports,
            neighbour,
        }
    }

    pub fn port(&self, service: &str) -> u16 {
        let found = self.ports.iter().find(|(name, _)| name == service);
        found.unwrap_or_else(|| panic!("no service {service}")).1
    }

    /// A new instance of a service, ready to attack.
    pub fn instance(&self, service: &str) -> Instance {
        Instance(Peer::tcp(self.port(service)).patience(SOON * 2))
    }

    pub fn neighbour_answers(&self) {
        assert_eq!(ask(self.neighbour, "well?\n"), "well?\n", "the neighbour");
    }

    /// Ends the daemon; neither it nor its neighbour has noticed anything, and nothing is left.
    pub fn end(self) {
        self.neighbour_answers();
        let Self { daemon, dir, .. } = self;
        let program = dir.path().join(PROGRAM);
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(daemon.exit_code(), Some(0), "usherd ends as it should");
        until("the end of all attackers", SOON, || {
            attackers(&program).is_empty().then_some(())
        });
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = dir.path().display().to_string();
        assert!(!mounts.contains(&ours), "mounts are left:\n{mounts}");
    }
}

const PROGRAM: &str = "attacker";

/// The test binary, by a name of the test's own.
fn program(dir: &Dir) -> String {
    let path = dir.file(PROGRAM);
    let own = std::env::current_exe().unwrap();
    if std::fs::hard_link(&own, &path).is_err() {
        copy_program(&own, path.as_ref());
    }
    path
}

/// All processes that run the attacker, whatever their root.
pub fn attackers(program: &std::path::Path) -> Vec<Pid> {
    let name = program.display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let runs = |pid: &Pid| {
        let exe: PathBuf = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        exe.display().to_string().ends_with(&name) && process::is_alive(*pid)
    };
    pids.filter(runs).collect()
}

/// An instance that attacks.
pub struct Instance(pub Peer);

impl Instance {
    /// What an attempt comes to: `= RESULT` or an errno.
    pub fn tries(&mut self, attempt: &str) -> String {
        self.0.send(format!("{attempt}\n"));
        self.0.read_line().trim_end_matches('\n').to_owned()
    }

    /// The result of an attempt that has to succeed.
    pub fn gets(&mut self, attempt: &str) -> String {
        let said = self.tries(attempt);
        let result = said.strip_prefix("= ");
        result
            .unwrap_or_else(|| panic!("{attempt}: {said}"))
            .to_owned()
    }
}

/// One attempt and what it has to come to under `none`, `standard` and `strict`:
/// an errno, `= RESULT`, `=` for any result, or several of them with `|` between them.
pub type Case<'a> = (&'a str, [&'a str; 3]);

/// Tries each case in an instance of each preset.
pub fn all_come_to(stage: &Stage, cases: &[Case<'_>]) {
    let mut wrong = Vec::new();
    for (nth, preset) in PRESETS.into_iter().enumerate() {
        let mut instance = stage.instance(preset);
        for (attempt, wanted) in cases {
            let wanted = wanted[nth];
            let said = instance.tries(attempt);
            let fits = |wanted| said == wanted || wanted == "=" && said.starts_with("= ");
            if !wanted.split('|').any(fits) {
                wrong.push(format!(
                    "{preset}: {attempt}: {said:?} instead of {wanted:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
