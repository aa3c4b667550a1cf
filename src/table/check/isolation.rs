//! What `isolation` means for one service, and which of its keys contradict
//! each other.
//!
//! A key that only follows from another (`network = "host"` needs no namespace)
//! is set silently; one that the operator wrote and that cannot hold is a complaint.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::{Check, Draft};
use crate::sandbox::blueprint::{HOMES, STATE, SYSTEM, TMP};
use crate::sandbox::calls;
use crate::table::complaint::Place;
use crate::table::host::Found;
use crate::table::isolation::{
    Dev, Family, Home, Isolation, Level, Mechanism, Network, Preset, Proc, Root, Sys, Tmp,
};
use crate::table::schema::RawIsolation;

/// Where an operator wrote the keys of one `isolation`.
struct Written<'a> {
    raw: Option<&'a RawIsolation>,
    place: Place,
}

impl<'a> Written<'a> {
    fn of(draft: Draft<'a>) -> Self {
        let picked = draft.pick(|k| &k.isolation);
        Self {
            raw: picked.as_ref().map(|picked| picked.value),
            place: picked.as_ref().map_or(draft.place(), |picked| picked.place),
        }
    }

    fn place_of(&self, key: &str) -> Option<Place> {
        self.raw?.place_of(key)
    }

    /// How to write that `path` is to be seen, beside what is there already: a
    /// preset by its bare name cannot be added to.
    fn to_show(&self, path: &Path) -> String {
        let path = path.display();
        match self.raw {
            None => format!("add isolation.visible = [\"{path}\"]"),
            Some(raw) if raw.given.is_empty() => format!(
                "write isolation = {{ preset = \"{}\", visible = [\"{path}\"] }}",
                raw.isolation.preset.name()
            ),
            Some(_) => format!("have \"{path}\" in isolation.visible"),
        }
    }
}

impl Check<'_> {
    pub(super) fn isolation(&mut self, draft: Draft<'_>, program: &Path) -> Isolation {
        let isolation = self.settled_isolation(draft);
        if draft.enabled() {
            let written = Written::of(draft);
            self.is_seen(draft, &isolation, program, &written);
            self.dir_is_seen(draft, &isolation, &written);
            self.shown_is_there(draft, &isolation, &written);
        }
        isolation
    }

    /// Each key in accord with the others, whatever this host has.
    pub(super) fn settled_isolation(&mut self, draft: Draft<'_>) -> Isolation {
        let written = Written::of(draft);
        let mut isolation = match written.raw {
            Some(raw) => raw.isolation.clone(),
            None => Isolation::preset(Preset::Standard),
        };
        self.settle_network(draft, &mut isolation, &written);
        self.settle_mounts(draft, &mut isolation, &written);
        self.settle_processes(draft, &mut isolation, &written);
        self.settle_calls(draft, &mut isolation, &written);
        isolation
    }

    fn contradiction(&mut self, draft: Draft<'_>, place: Place, problem: &str, help: &str) {
        self.complain(place, draft.fault(problem).help(help));
    }

    fn settle_network(&mut self, draft: Draft<'_>, to: &mut Isolation, written: &Written<'_>) {
        let namespace = Mechanism::NetworkNamespace;
        match (
            written.place_of("network"),
            written.place_of(namespace.name()),
        ) {
            (Some(place), Some(_)) if (to.network == Network::Host) == to.wants(namespace) => {
                self.contradiction(
                    draft,
                    place,
                    "`network` and `network_namespace` contradict each other",
                    "network = \"host\" goes without a namespace, the others need one; leave one of the two out",
                );
            }
            (_, Some(_)) if !to.wants(namespace) => to.network = Network::Host,
            (_, Some(_)) if to.network == Network::Host => to.network = Network::None,
            _ if to.network == Network::Host => to.levels.set(namespace, Level::Off),
            _ if !to.wants(namespace) => to.levels.set(namespace, Level::Require),
            _ => {}
        }
        // Whoever may reach a network may make sockets for it.
        if to.network != Network::None
            && written.place_of("address_families").is_none()
            && let Some(families) = &mut to.address_families
        {
            families.extend([Family::Inet, Family::Inet6]);
            families.sort_unstable();
            families.dedup();
        }
    }

    fn settle_mounts(&mut self, draft: Draft<'_>, to: &mut Isolation, written: &Written<'_>) {
        const MADE_OF_IT: [&str; 10] = [
            "root", "visible", "writable", "hidden", "tmp", "tmp_size", "home", "dev", "proc",
            "sys",
        ];
        let namespace = Mechanism::MountNamespace;
        let asked = MADE_OF_IT.iter().find_map(|key| written.place_of(key));
        if to.wants(namespace) {
            return self.settle_paths(draft, to, written);
        }
        match asked {
            // Said beside a preset that has none: then it is wanted.
            Some(_) if written.place_of(namespace.name()).is_none() => {
                to.levels.set(namespace, Level::Require);
                self.settle_paths(draft, to, written);
            }
            Some(place) => self.contradiction(
                draft,
                place,
                "this needs a mount namespace, and `mount_namespace` is \"off\"",
                "leave one of the two out",
            ),
            None => {
                to.root = Root::Host;
                to.tmp = Tmp::Host;
                to.home = Home::Host;
                to.dev = Dev::Host;
                to.proc = Proc::Host;
                to.sys = Sys::Host;
            }
        }
    }

    fn settle_paths(&mut self, draft: Draft<'_>, to: &Isolation, written: &Written<'_>) {
        for key in ["visible", "writable", "hidden"] {
            let paths = match key {
                "visible" => &to.visible,
                "writable" => &to.writable,
                _ => &to.hidden,
            };
            if let Some(path) = paths.iter().find(|path| **path == Path::new("/")) {
                let place = written.place_of(key).unwrap_or(written.place);
                let problem = format!("`{key}` cannot name {}", path.display());
                self.contradiction(
                    draft,
                    place,
                    &problem,
                    "`root` says what is seen of the whole tree",
                );
            }
        }
        let both = to
            .hidden
            .iter()
            .find(|path| to.visible.contains(path) || to.writable.contains(path));
        if let Some(path) = both {
            let problem = format!("{} is hidden and visible at once", path.display());
            let place = written.place_of("hidden").unwrap_or(written.place);
            self.contradiction(draft, place, &problem, "leave it out of one of the two");
        }
    }

    fn settle_processes(&mut self, draft: Draft<'_>, to: &mut Isolation, written: &Written<'_>) {
        let namespace = Mechanism::PidNamespace;
        if to.wants(namespace) && to.wants(Mechanism::MountNamespace) && to.proc == Proc::Host {
            match written.place_of("proc") {
                Some(place) => self.contradiction(
                    draft,
                    place,
                    "the host's /proc does not know the processes of another pid namespace",
                    "set pid_namespace = \"off\" beside it, or proc = \"own\"",
                ),
                None => to.proc = Proc::Own,
            }
        }
        if !to.wants(namespace) && to.proc != Proc::Host && written.place_of("proc").is_none() {
            to.proc = Proc::Host;
        }
        if to.wants(namespace) && !to.wants(Mechanism::MountNamespace) {
            match written.place_of(namespace.name()) {
                Some(place) => self.contradiction(
                    draft,
                    place,
                    "a pid namespace needs a /proc of its own, and so a mount namespace",
                    "set mount_namespace = \"require\" beside it",
                ),
                None => to.levels.set(namespace, Level::Off),
            }
        }
    }

    fn settle_calls(&mut self, draft: Draft<'_>, to: &mut Isolation, written: &Written<'_>) {
        if to.wants(Mechanism::Seccomp) {
            if let Some(call) = calls::refuses_to_start(to) {
                let place = written.place_of("deny_calls").unwrap_or(written.place);
                let problem = format!("no server can be started without the system call `{call}`");
                let help = "deny single calls instead of its group, or leave it out";
                self.contradiction(draft, place, &problem, help);
            }
            return;
        }
        const MADE_OF_IT: [&str; 4] = [
            "system_calls",
            "allow_calls",
            "deny_calls",
            "address_families",
        ];
        let no_code = Mechanism::MemoryDenyWriteExecute;
        let wanted = to.wants(no_code).then(|| written.place_of(no_code.name()));
        to.levels.set(no_code, Level::Off);
        let calls = MADE_OF_IT.iter().find_map(|key| written.place_of(key));
        if let Some(place) = calls.or(wanted.flatten()) {
            self.contradiction(
                draft,
                place,
                "this needs seccomp, which is \"off\" here",
                "set seccomp = \"require\" beside it",
            );
        }
    }

    /// A program that its own sandbox hides can never be executed.
    fn is_seen(&mut self, draft: Draft<'_>, by: &Isolation, program: &Path, written: &Written<'_>) {
        let Some(key) = hides(by, program) else {
            return;
        };
        let shown = program.display();
        let problem = format!("its sandbox does not show it its own program {shown}");
        let place = draft
            .own
            .exec
            .as_ref()
            .map_or(written.place, |exec| exec.place);
        let parent = program.parent().unwrap_or(program);
        let help = format!("{key}; {}", written.to_show(parent));
        self.complain(place, draft.fault(&problem).help(help));
    }

    /// No server can be started in a directory that its sandbox hides. One that
    /// is there all the same, because something below is shown, passes.
    fn dir_is_seen(&mut self, draft: Draft<'_>, by: &Isolation, written: &Written<'_>) {
        let Some(dir) = draft.pick(|k| &k.dir) else {
            return;
        };
        let state = draft.pick(|k| &k.state);
        let state = state.map(|name| Path::new(STATE).join(name.value));
        let mut shown = by.visible.iter().chain(&by.writable).chain(&state);
        let leads_on = shown.any(|path| path.starts_with(dir.value));
        let is_state = state.iter().any(|state| dir.value.starts_with(state));
        let is_kept = KEPT.iter().any(|kept| dir.value.starts_with(kept));
        let is_top = dir.value.parent().is_none_or(|up| up == Path::new("/"));
        let mut emptied = TMP.iter().chain(&HOMES);
        let is_emptied = emptied.any(|path| dir.value == Path::new(path));
        if leads_on || is_state || is_kept || is_top || is_emptied {
            return;
        }
        let Some(key) = hides(by, dir.value) else {
            return;
        };
        let path = dir.value.display();
        let problem = format!("its sandbox does not show it its own `dir` {path}");
        let help = format!("{key}; {}", written.to_show(dir.value));
        self.complain(dir.place, draft.fault(&problem).help(help));
    }
}

impl Check<'_> {
    /// No sandbox can be built that is to show what is not there.
    fn shown_is_there(&mut self, draft: Draft<'_>, by: &Isolation, written: &Written<'_>) {
        if !by.wants(Mechanism::MountNamespace) {
            return;
        }
        for (key, paths) in [("visible", &by.visible), ("writable", &by.writable)] {
            let place = written.place_of(key).unwrap_or(written.place);
            for path in paths {
                if self.look(path) == Found::Nothing {
                    let problem = format!("`{key}`: there is no {} now", path.display());
                    let help =
                        "requests fail until it is there; leave it out if the server does without";
                    self.warn(place, draft.fault(&problem).help(help));
                }
            }
        }
    }
}

/// Directories that every sandbox has, with a content of its own.
const KEPT: [&str; 3] = ["/dev", "/etc", "/proc"];

/// Which key hides `path` from a server, in words; `None` if it is seen.
#[must_use]
pub fn hides(by: &Isolation, path: &Path) -> Option<&'static str> {
    let named = |paths: &[PathBuf]| paths.iter().any(|known| path.starts_with(known));
    if !by.wants(Mechanism::MountNamespace) || named(&by.visible) || named(&by.writable) {
        return None;
    }
    let under = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
    if named(&by.hidden) {
        Some("it is under a `hidden` path")
    } else if by.tmp == Tmp::Private && under(&TMP) {
        Some("/tmp and /var/tmp are private to a sandbox (`tmp`)")
    } else if by.home == Home::Hidden && under(&HOMES) {
        Some("/home, /root and /run/user are hidden (`home`)")
    } else if by.root == Root::Minimal && !under(&SYSTEM) {
        Some("a minimal root has the system's own programs only (`root`)")
    } else {
        None
    }
}
