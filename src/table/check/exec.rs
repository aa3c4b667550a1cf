//! A program of the host and the account, limits and signals it runs under.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use nix::sys::resource::Resource;

use super::daemon::{FREE_UIDS, is_self};
use super::{Check, Draft, Picked};
use crate::table::address::{Listen, Transport};
use crate::table::complaint::{At, Place};
use crate::table::host::Found;
use crate::table::{Activation, Exec, Identity, IoPriority, Limit, Stderr};

/// The word for `user` that lends a number for the service alone.
pub(super) const DYNAMIC: &str = "dynamic";

/// rexecd and rshd answer on descriptor 2: the protocol's first byte is
/// written there (rcmd(3)). Everybody else's stderr is for the log.
fn usual_stderr(listen: &[Listen]) -> Stderr {
    const EXEC: u16 = 512;
    const SHELL: u16 = 514;
    let is_remote_shell = |listen: &Listen| match listen {
        Listen::Inet(inet) => inet.transport == Transport::Tcp && matches!(inet.port, EXEC | SHELL),
        _ => false,
    };
    if listen.iter().any(is_remote_shell) {
        Stderr::Socket
    } else {
        Stderr::Log
    }
}

/// An account that is not there, with the number of nobody: no mistake may
/// make a server of it that has more.
fn stranger(name: &str) -> Identity {
    const NOBODY: u32 = 65534;
    Identity {
        user: name.to_owned(),
        uid: NOBODY,
        gid: NOBODY,
        groups: Vec::new(),
        home: PathBuf::from("/"),
        shell: PathBuf::from("/usr/sbin/nologin"),
        dynamic: false,
    }
}

impl Check<'_> {
    pub(super) fn exec(&mut self, draft: Draft<'_>, listen: &[Listen]) -> Option<Exec> {
        let command = draft.own.exec.as_ref()?;
        let (program, args) = command.value.split_first()?;
        let program = PathBuf::from(program);
        if draft.enabled() {
            self.program_runs(draft, &program, command.place);
            self.dir_is_there(draft);
        }
        let activation = draft.value(|k| &k.activation).unwrap_or(Activation::Inetd);
        let isolation = self.isolation(draft, &program);
        Some(Exec {
            argv0: self.argv0(draft, &program),
            args: args.to_vec(),
            activation,
            user: self.identity(draft),
            dir: draft
                .value(|k| &k.dir)
                .unwrap_or_else(|| PathBuf::from("/")),
            umask: draft.value(|k| &k.umask).unwrap_or(0o022),
            nice: self.nice(draft),
            env: draft.value(|k| &k.env).unwrap_or_default(),
            pass_env: draft.value(|k| &k.pass_env).unwrap_or_default(),
            limits: self.limits(draft),
            stderr: draft
                .value(|k| &k.stderr)
                .unwrap_or_else(|| usual_stderr(listen)),
            stop: draft.value(|k| &k.stop).unwrap_or_default(),
            oom_score: self.oom_score(draft),
            cpus: draft.value(|k| &k.cpus).unwrap_or_default(),
            io_priority: self.io_priority(draft),
            admin: self.admin(draft, &isolation),
            isolation,
            resources: draft.value(|k| &k.resources).unwrap_or_default(),
            state: self.state(draft),
            credentials: self.credentials(draft),
            pam: self.pam(draft),
            program,
        })
    }

    fn program_runs(&mut self, draft: Draft<'_>, program: &Path, place: Place) {
        let shown = program.display();
        let (problem, help) = match self.look(program) {
            Found::Program => return,
            Found::Nothing => (
                format!("there is no {shown} now"),
                "requests fail until it is there",
            ),
            Found::Folder | Found::File => (
                format!("{shown} is not an executable file"),
                "requests fail until it is one",
            ),
        };
        self.warn(place, draft.fault(&problem).help(help));
    }

    fn dir_is_there(&mut self, draft: Draft<'_>) {
        let Some(dir) = draft.pick(|k| &k.dir) else {
            return;
        };
        if self.look(dir.value) != Found::Folder {
            let fault = draft.fault(&format!("there is no folder {} now", dir.value.display()));
            self.warn(dir.place, fault.help("requests fail until it is there"));
        }
    }

    fn credentials(&mut self, draft: Draft<'_>) -> Vec<(String, PathBuf)> {
        let Some(given) = draft.pick(|k| &k.credentials) else {
            return Vec::new();
        };
        for (name, path) in given.value {
            if draft.enabled() && self.look(path) == Found::Nothing {
                let problem = format!("credential \"{name}\": there is no {} now", path.display());
                let fault = draft
                    .fault(&problem)
                    .help("the service is blocked until a reload finds it");
                self.warn(given.place, fault);
            }
        }
        given.value.clone()
    }

    /// `None` if it is what it would be anyway.
    fn argv0(&mut self, draft: Draft<'_>, program: &Path) -> Option<String> {
        let given = &draft.own.argv0.as_ref()?.value;
        let usual = program.file_name().is_some_and(|name| *name == **given);
        (!usual).then(|| given.clone())
    }

    fn nice(&mut self, draft: Draft<'_>) -> Option<i32> {
        let nice = draft.pick(|k| &k.nice)?;
        if *nice.value < 0 && !self.host.root {
            let fault = draft.fault(&format!("nice = {} needs root", nice.value));
            self.complain(nice.place, fault);
        }
        Some(*nice.value)
    }

    /// To be killed earlier is anybody's right, later root's.
    fn oom_score(&mut self, draft: Draft<'_>) -> Option<i32> {
        let score = draft.pick(|k| &k.oom_score)?;
        if *score.value < 0 && !self.host.root {
            let fault = draft.fault(&format!("oom_score = {} needs root", score.value));
            self.complain(score.place, fault);
        }
        Some(*score.value)
    }

    fn io_priority(&mut self, draft: Draft<'_>) -> Option<IoPriority> {
        let priority = draft.pick(|k| &k.io_priority)?;
        if matches!(priority.value, IoPriority::Realtime(_)) && !self.host.root {
            let fault = draft.fault("an io_priority of the class \"realtime\" needs root");
            self.complain(priority.place, fault);
        }
        Some(*priority.value)
    }

    /// A directory has one owner, so services that share one have one user.
    fn state(&mut self, draft: Draft<'_>) -> Option<String> {
        let state = draft.own.state.as_ref()?;
        if !self.host.root {
            let problem = format!(
                "state \"{}\" is a directory under /var/lib, which needs root",
                state.value
            );
            let help = "leave it out and name a directory of yours in isolation.writable";
            self.complain(state.place, draft.fault(&problem).help(help));
        }
        let user = draft.value(|k| &k.user).unwrap_or_default();
        let user = match user.as_str() {
            DYNAMIC => format!("the dynamic user of service \"{}\"", draft.raw.name.value),
            known => format!("user \"{known}\""),
        };
        let known = self.states.entry(state.value.clone());
        let owner = known.or_insert_with(|| user.clone()).clone();
        if owner != user {
            let problem = format!("state \"{}\" belongs to {owner} already", state.value);
            let help = "services that share a state directory need the same `user`";
            self.complain(state.place, draft.fault(&problem).help(help));
        }
        Some(state.value.clone())
    }

    pub(super) fn limits(&mut self, draft: Draft<'_>) -> Vec<Limit> {
        let Some(limits) = draft.pick(|k| &k.limits) else {
            return Vec::new();
        };
        for limit in limits.value {
            self.possible_limit(draft, limit, limits.place);
        }
        limits.value.clone()
    }

    fn possible_limit(&mut self, draft: Draft<'_>, limit: &Limit, place: Place) {
        let files = limit.resource == Resource::RLIMIT_NOFILE as i32;
        if files && limit.hard > self.host.nr_open {
            let problem = format!("the kernel allows at most {} open files", self.host.nr_open);
            self.complain(
                place,
                draft
                    .fault(&problem)
                    .help("see fs.nr_open in proc_sys_fs(5)"),
            );
            return;
        }
        let own = &self.host.hard_limits;
        let own = own.iter().find(|(resource, _)| *resource == limit.resource);
        if let Some((_, hard)) = own
            && limit.hard > *hard
            && !self.host.root
        {
            let problem = format!(
                "limit {} above the own hard limit of {hard} needs root",
                limit.name
            );
            self.complain(place, draft.fault(&problem));
        }
    }

    /// Who the server runs as. Not root: whoever started usherd, and the table may not say otherwise.
    pub(super) fn identity(&mut self, draft: Draft<'_>) -> Option<Identity> {
        let user = draft.pick(|k| &k.user);
        if !self.host.root {
            self.refuse_switching(draft, user.as_ref());
            return None;
        }
        let Some(user) = user else {
            let fault = draft
                .fault("no `user`, and no server becomes root by omission")
                .help("name one here or in [defaults]; user = \"root\" if it must be");
            self.complain(draft.place(), fault);
            return None;
        };
        if user.value == DYNAMIC {
            return self.dynamic(draft, user.place);
        }
        if !draft.enabled() && self.waits_for_an_account(draft, user.value) {
            return Some(stranger(user.value));
        }
        // All three are looked at before the first one that is wrong ends it.
        let found = self
            .directory
            .user(user.value)
            .map_err(|fault| self.complaints.push(fault.at(user.place)));
        let group = self.group(draft);
        let listed = draft
            .pick(|k| &k.groups)
            .filter(|groups| groups.own || draft.own.user.is_none())
            .map(|groups| self.group_list(groups.value));
        let (found, group) = (found.ok()?, group?);
        if !found.known && group.is_none() {
            let problem = format!(
                "no account has the number {}, so it has no group either",
                user.value
            );
            self.complain(
                user.place,
                draft.fault(&problem).help("name a `group` beside it"),
            );
            return None;
        }
        let account = found.account;
        let gid = group.unwrap_or(account.gid);
        let groups = match listed {
            Some(listed) => listed?,
            None if found.known => self.directory.groups_of(&account.name, gid),
            None => Vec::new(),
        };
        Some(Identity {
            user: account.name,
            uid: account.uid,
            gid,
            groups,
            home: account.home,
            shell: account.shell,
            dynamic: false,
        })
    }

    /// A ready table, disabled, need not have the package yet that brings its
    /// accounts; to enable it is to check it again.
    fn waits_for_an_account(&mut self, draft: Draft<'_>, user: &str) -> bool {
        let groups = draft.own.group.iter().map(|group| &group.value);
        let listed = draft.own.groups.iter().flat_map(|groups| &groups.value);
        let mut groups = groups.chain(listed.map(|group| &group.value));
        self.directory.user(user).is_err()
            || groups.any(|group| self.directory.group(group).is_err())
    }

    /// A number that no account and no other service of the table has. The
    /// same for the same name as long as nothing else takes it, so that files
    /// in its state directory stay its own.
    fn dynamic(&mut self, draft: Draft<'_>, place: Place) -> Option<Identity> {
        for key in ["group", "groups"] {
            if let Some(place) = draft.own.place_of(key) {
                let problem = format!("`{key}` means nothing beside user = \"dynamic\"");
                let help = "a dynamic user has a group of its own and no other";
                self.complain(place, draft.fault(&problem).help(help));
            }
        }
        let (first, last) = FREE_UIDS.into_inner();
        let room = last - first + 1;
        let hash = draft
            .raw
            .name
            .value
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
            });
        let found = (0..room)
            .map(|step| first + (hash % room + step) % room)
            .find(|uid| !self.lent.contains(uid) && self.is_free(*uid));
        let Some(uid) = found else {
            let problem = format!("every user number from {first} to {last} is taken");
            self.complain(place, draft.fault(&problem));
            return None;
        };
        self.lent.insert(uid);
        Some(Identity {
            user: DYNAMIC.to_owned(),
            uid,
            gid: uid,
            groups: Vec::new(),
            home: PathBuf::from("/"),
            shell: PathBuf::from("/usr/sbin/nologin"),
            dynamic: true,
        })
    }

    fn is_free(&self, uid: u32) -> bool {
        let accounts = &self.host.accounts;
        accounts.user_by_uid(uid).is_none() && !accounts.has_gid(uid)
    }

    /// `None` after a complaint, `Some(None)` if there is no `group`.
    ///
    /// A service that names its own user does not want the default user's groups with it.
    fn group(&mut self, draft: Draft<'_>) -> Option<Option<u32>> {
        let Some(group) = draft.pick(|k| &k.group) else {
            return Some(None);
        };
        if !group.own && draft.own.user.is_some() {
            return Some(None);
        }
        match self.directory.group(group.value) {
            Ok(gid) => Some(Some(gid)),
            Err(fault) => {
                self.complain(group.place, fault);
                None
            }
        }
    }

    fn group_list(&mut self, listed: &[At<String>]) -> Option<Vec<u32>> {
        let mut groups = Vec::with_capacity(listed.len());
        let mut complete = true;
        for At { value, place } in listed {
            match self.directory.group(value) {
                Ok(gid) => groups.push(gid),
                Err(fault) => {
                    self.complain(*place, fault);
                    complete = false;
                }
            }
        }
        complete.then_some(groups)
    }

    /// A service's own demand is refused; one from `[defaults]` is set aside
    /// with a warning, so that one table serves root and an ordinary user.
    fn refuse_switching(&mut self, draft: Draft<'_>, user: Option<&Picked<'_, String>>) {
        if let Some(user) = user
            && !is_self(self.host, user.value)
        {
            self.cannot_switch(draft, user, &format!("user \"{}\"", user.value));
        }
        if let Some(group) = draft.pick(|k| &k.group)
            && self.directory.group(group.value) != Ok(self.host.gid)
        {
            self.cannot_switch(draft, &group, &format!("group \"{}\"", group.value));
        }
        if let Some(groups) = draft.pick(|k| &k.groups)
            && !self.has_just(groups.value)
        {
            self.cannot_switch(draft, &groups, "other groups");
        }
    }

    fn cannot_switch<T>(&mut self, draft: Draft<'_>, picked: &Picked<'_, T>, to: &str) {
        if picked.own {
            let fault = draft.fault(&format!("switching to {to} needs root"));
            self.complain(picked.place, fault);
            return;
        }
        let me = match &self.host.user {
            Some(name) => format!("user \"{name}\""),
            None => format!("uid {}", self.host.uid),
        };
        let fault = crate::table::complaint::Fault::new(format!(
            "switching to {to} needs root; servers run as {me}"
        ));
        self.warn(picked.place, fault);
    }

    fn has_just(&mut self, listed: &[At<String>]) -> bool {
        let mut wanted: Vec<u32> = Vec::new();
        for At { value, .. } in listed {
            match self.directory.group(value) {
                Ok(gid) => wanted.push(gid),
                Err(_) => return false,
            }
        }
        wanted.sort_unstable();
        let mut own = self.host.groups.clone();
        own.sort_unstable();
        wanted == own
    }
}
