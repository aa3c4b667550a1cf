//! What the keys mean together: fills in defaults, resolves accounts, and
//! collects every complaint before it gives up.
//!
//! A key of the service itself that makes no sense there is a complaint; the
//! same key from `[defaults]` is meant for others and passed over.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::complaint::{At, Complaint, Complaints, Fault, Place, SourceFile};
use super::host::{Found, Host};
use super::import::Origin;
use super::import::live::{self, Refused};
use super::origins::Origins;
use super::provenance::Provenance;
use super::schema::{Keys, RawService};
use super::source::{self, Source};
use super::{Builtin, Daemon, Listen, Serve, Service, Table};

mod accounts;
mod admin;
mod conflicts;
mod daemon;
mod datagrams;
mod exec;
pub mod isolation;
mod listeners;
mod matching;
mod one_socket;
mod only_if;
mod operations;
mod pam;
mod rules;
mod shared;
mod sharing;
mod sockets;

use accounts::Directory;
pub use daemon::FREE_UIDS;

/// A table that can be used, and what is doubtful about it.
#[derive(Debug)]
pub struct Loaded {
    pub table: Table,
    pub warnings: Complaints,
    /// Its files are those of `warnings`.
    pub provenance: Provenance,
    /// Services that come by `[import]`, and from where.
    pub imported: Vec<(String, Origin)>,
}

/// Reads and checks a table. The error carries every complaint there is.
pub fn load(source: Source<'_>, host: &Host) -> Result<Loaded, Complaints> {
    let mut refused = Refused::new();
    loop {
        match attempt(source, host, &refused) {
            Err((_, more)) if !more.is_empty() => refused.extend(more),
            Err((complaints, _)) => return Err(complaints),
            Ok(loaded) => return Ok(loaded),
        }
    }
}

/// The error has the imported services too that the table would be better off
/// without: they are never those refused already.
fn attempt(
    source: Source<'_>,
    host: &Host,
    refused: &Refused,
) -> Result<Loaded, (Complaints, Refused)> {
    let mut written = source::read(source, &host.names, host.edited.as_ref());
    let live = live::join(&mut written, host, refused);
    let mut check = Check {
        host,
        directory: Directory::new(host),
        complaints: std::mem::take(&mut written.complaints),
        warnings: std::mem::take(&mut written.warnings),
        partial: written.partial,
        found: HashMap::new(),
        lent: HashSet::new(),
        states: HashMap::new(),
    };
    let daemon = check.daemon(&written.daemon);
    check.lent.extend(daemon.user.as_ref().map(|user| user.uid));
    let mut services = check.services(&mut written.services, &written.defaults, &written.origins);
    let groups = check.distinct(&written.services, &services);
    check.share(&written.services, &written.defaults, &groups, &mut services);
    let services: Vec<Service> = services.into_iter().flatten().collect();
    let catalogue = Arc::new(check.catalogue(&written));
    check.grants(&written.services, &catalogue);
    let daemon = Daemon {
        operations: std::mem::take(&mut written.operations_files),
        ..daemon
    };
    check.something_to_do(&services, &written.files);

    let files = written.files;
    if !check.complaints.is_empty() {
        let blamed = live.blame(&check.complaints);
        return Err((Complaints::new(files, check.complaints), blamed));
    }
    Ok(Loaded {
        table: Table {
            daemon,
            services,
            catalogue,
        },
        imported: live.origins().collect(),
        provenance: Provenance {
            overrides: files
                .iter()
                .map(|file| written.layers.overrides_of(file.path()))
                .collect(),
            origins: written.origins,
            daemon: written.daemon,
            defaults: written.defaults,
            services: written.services,
        },
        warnings: Complaints::new(files, check.warnings),
    })
}

/// The state of one check.
struct Check<'a> {
    host: &'a Host,
    directory: Directory<'a>,
    complaints: Vec<Complaint>,
    warnings: Vec<Complaint>,
    partial: bool,
    /// What is at each path, asked once.
    found: HashMap<PathBuf, Found>,
    /// User numbers that belong to no account and are in use all the same.
    lent: HashSet<u32>,
    /// Who has each `state`, in words.
    states: HashMap<String, String>,
}

/// A service on its way through the check, with the defaults behind it.
#[derive(Clone, Copy)]
struct Draft<'a> {
    raw: &'a RawService,
    own: &'a Keys,
    defaults: &'a Keys,
    /// Why it is not for this host.
    unmet: Option<&'a str>,
    /// `"service"`, or what else has a process.
    what: &'static str,
}

/// A value and whether the service itself has it.
struct Picked<'a, T> {
    value: &'a T,
    place: Place,
    own: bool,
}

/// The service's own value, else that of `[defaults]`.
fn pick<'a, T>(own: Option<&'a At<T>>, default: Option<&'a At<T>>) -> Option<Picked<'a, T>> {
    let is_own = own.is_some();
    own.or(default).map(|At { value, place }| Picked {
        value,
        place: *place,
        own: is_own,
    })
}

impl<'a> Draft<'a> {
    fn pick<T: 'a>(&self, key: impl Fn(&'a Keys) -> &'a Option<At<T>>) -> Option<Picked<'a, T>> {
        pick(key(self.own).as_ref(), key(self.defaults).as_ref())
    }

    /// A copy of the value in force.
    fn value<T: Clone + 'a>(&self, key: impl Fn(&'a Keys) -> &'a Option<At<T>>) -> Option<T> {
        self.pick(key).map(|picked| picked.value.clone())
    }

    /// What the table says.
    fn wanted(&self) -> bool {
        self.value(|k| &k.enabled).unwrap_or(true)
    }

    /// Whether it is to serve here and now.
    fn enabled(&self) -> bool {
        self.wanted() && self.unmet.is_none()
    }

    fn place(&self) -> Place {
        self.raw.name.place
    }

    /// A fault of this one: `service "ftp": ...`.
    fn fault(&self, problem: &str) -> Fault {
        Fault::new(format!(
            "{} \"{}\": {problem}",
            self.what, self.raw.name.value
        ))
    }
}

impl Check<'_> {
    fn complain(&mut self, place: Place, fault: Fault) {
        self.complaints.push(fault.at(place));
    }

    fn warn(&mut self, place: Place, fault: Fault) {
        self.warnings.push(fault.at(place));
    }

    /// One result for each service, `None` for those that cannot be built. What
    /// is only there to be taken `from` need not be a whole one, and is left out then.
    fn services(
        &mut self,
        raw: &mut Vec<RawService>,
        defaults: &Keys,
        origins: &Origins,
    ) -> Vec<Option<Service>> {
        let mut built = Vec::with_capacity(raw.len());
        raw.retain(|raw| {
            let own = &raw.keys;
            let unmet = own.only_if.as_ref();
            let unmet = unmet.and_then(|only_if| self.unmet(&only_if.value));
            let draft = Draft {
                raw,
                own,
                defaults,
                unmet: unmet.as_deref(),
                what: "service",
            };
            let (said, warned) = (self.complaints.len(), self.warnings.len());
            if raw.is_taken && !draft.wanted() {
                let states = self.states.clone();
                let service = self.service(draft);
                let is_whole = service.is_some() && self.complaints.len() == said;
                if is_whole {
                    built.push(service);
                } else {
                    self.complaints.truncate(said);
                    self.warnings.truncate(warned);
                    self.states = states;
                }
                return is_whole;
            }
            built.push(self.service(draft));
            let found = self.complaints.iter_mut().skip(said);
            for complaint in found.chain(self.warnings.iter_mut().skip(warned)) {
                say_from(raw, origins, complaint);
            }
            true
        });
        built
    }

    fn service(&mut self, draft: Draft<'_>) -> Option<Service> {
        self.unset_of_nothing(draft);
        let listen = self.listeners(draft);
        let kind = self.kind(draft)?;
        let listen = listen?;
        self.fitting_keys(draft, kind);
        let rules = self.rules(draft, kind, &listen);
        let routing = self.routing(draft, kind, &listen, rules.wait);
        let socket = self.socket(draft, kind, &listen, rules.wait);
        let serve = match kind {
            Kind::Exec => Serve::Exec(Box::new(self.exec(draft, &listen)?)),
            Kind::Builtin(builtin) => Serve::Builtin(builtin),
            Kind::Forward => Serve::Forward(draft.own.forward.as_ref()?.value.clone()),
        };
        Some(Service {
            name: draft.raw.name.value.clone(),
            description: draft.value(|k| &k.description),
            enabled: draft.enabled(),
            only_if: draft.own.only_if.as_ref().map(|at| at.value.clone()),
            unmet: draft.unmet.filter(|_| draft.wanted()).map(str::to_owned),
            listen,
            socket,
            serve,
            rules,
            routing,
        })
    }

    fn unset_of_nothing(&mut self, draft: Draft<'_>) {
        let (own, name) = (draft.own, draft.place());
        let in_place = own.unset.as_ref().filter(|at| at.place.file == name.file);
        if let Some(unset) = in_place.filter(|_| own.from.is_none()) {
            let fault = draft
                .fault("`unset` has nothing to take away")
                .help("it is for keys that come by `from`, or in a drop-in for those of the file");
            self.complain(unset.place, fault);
        }
    }

    /// Which of `exec`, `builtin` and `forward` there is.
    fn kind(&mut self, draft: Draft<'_>) -> Option<Kind> {
        let own = draft.own;
        let places = ["exec", "builtin", "forward"].map(|key| own.place_of(key));
        let mut given: Vec<Place> = places.iter().flatten().copied().collect();
        given.sort_unstable();
        match given.as_slice() {
            [] if ["exec", "builtin", "forward"]
                .iter()
                .any(|key| own.mentions(key)) =>
            {
                None
            }
            [] => {
                let fault = draft
                    .fault("nothing to serve with")
                    .help("give it one of `exec`, `builtin` or `forward`");
                self.complain(draft.place(), fault);
                None
            }
            [_] => match (&own.exec, &own.builtin, &own.forward) {
                (Some(_), _, _) => Some(Kind::Exec),
                (_, Some(builtin), _) => Some(Kind::Builtin(builtin.value)),
                (_, _, Some(_)) => Some(Kind::Forward),
                _ => None, // its value has been complained about
            },
            [first, second, ..] => {
                let fault = draft.fault("only one of `exec`, `builtin` and `forward` can serve it");
                self.complaints
                    .push(fault.at(*second).and(*first, "the first one"));
                None
            }
        }
    }

    /// Complains about the service's own keys that its kind has no use for.
    fn fitting_keys(&mut self, draft: Draft<'_>, kind: Kind) {
        const OF_A_PROCESS: [&str; 22] = [
            "argv0",
            "activation",
            "user",
            "group",
            "groups",
            "dir",
            "umask",
            "nice",
            "env",
            "pass_env",
            "limits",
            "stderr",
            "stop",
            "oom_score",
            "cpus",
            "io_priority",
            "isolation",
            "resources",
            "state",
            "credentials",
            "pam",
            "admin",
        ];
        const OF_A_RELAY: [&str; 2] = ["idle_timeout", "max_bytes"];
        let (keys, why): (&[&str], &str) = match kind {
            Kind::Exec => (
                &OF_A_RELAY,
                "the server has the socket itself, usherd does not see its bytes; `max_runtime` is what can end it",
            ),
            Kind::Builtin(_) => (&OF_A_PROCESS, "a builtin service has no process of its own"),
            Kind::Forward => (&OF_A_PROCESS, "a relay has no process of its own"),
        };
        for key in keys {
            if let Some(place) = draft.own.place_of(key) {
                let problem = format!("`{key}` means nothing here");
                self.complain(place, draft.fault(&problem).help(why));
            }
        }
    }

    fn something_to_do(&mut self, services: &[Service], files: &[SourceFile]) {
        if self.partial {
            return; // what could not be read has been named, and may be all there is
        }
        if !services.iter().any(|s| s.enabled) {
            // A file that was cut down to nothing must not pass for a wish to serve nothing.
            let says_nothing = |line: &str| line.trim().is_empty() || line.trim().starts_with('#');
            if files
                .first()
                .is_some_and(|file| file.text().lines().all(says_nothing))
            {
                let fault =
                    Fault::new("the table is empty").help("write at least one [service.NAME]");
                return self.complain(Place::whole(0), fault);
            }
            let fault = Fault::new("no service is enabled");
            self.warn(Place::whole(0), fault);
        }
    }

    /// What is at `path` now. It need not be there: a file system may be mounted later.
    fn look(&mut self, path: &Path) -> Found {
        if let Some(known) = self.found.get(path) {
            return *known;
        }
        let found = (self.host.look)(path);
        self.found.insert(path.to_owned(), found);
        found
    }
}

/// Adds how a service comes to have what another one's part of the files says.
fn say_from(raw: &RawService, origins: &Origins, complaint: &mut Complaint) {
    let name = &raw.name.value;
    let Some(from) = &raw.keys.from else {
        return;
    };
    let owner = origins.service(complaint.place);
    if complaint.other.is_none() && owner.is_some_and(|owner| owner != name) {
        let note = format!("service \"{name}\" has it by `from`");
        complaint.other = Some((from.place, note));
    }
}

/// What serves, without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Exec,
    Builtin(Builtin),
    Forward,
}

/// Whether some listener may bring connections rather than datagrams.
fn has_streams(listen: &[Listen]) -> bool {
    listen.iter().any(|l| l.is_datagram() != Some(true))
}
