//! What a unit takes from its server, in the words of `isolation` and
//! `resources`. A unit says what is taken away, beginning with nothing: so does
//! the table, with the preset `none`.
#![forbid(unsafe_code)]

use toml_edit::{Array, InlineTable, Value};

use super::Builder;
use super::words::{size, specify};
use crate::sandbox::calls;
use crate::table::capability;
use crate::table::import::Effect;
use crate::table::value;

/// Switches that one key of ours, or the filter of system calls, does the same as.
const SWITCHES: [(&str, &str, &str); 17] = [
    ("NoNewPrivileges", "no_new_privs", "require"),
    ("PrivateTmp", "tmp", "private"),
    ("PrivateDevices", "dev", "minimal"),
    ("PrivateNetwork", "network", "none"),
    ("PrivateUsers", "user_namespace", "require"),
    ("PrivateIPC", "ipc_namespace", "require"),
    ("PrivateMounts", "mount_namespace", "require"),
    ("ProtectKernelTunables", "sys", "read-only"),
    (
        "MemoryDenyWriteExecute",
        "memory_deny_write_execute",
        "require",
    ),
    ("ProtectKernelModules", "seccomp", "require"),
    ("ProtectKernelLogs", "seccomp", "require"),
    ("ProtectClock", "seccomp", "require"),
    ("ProtectHostname", "seccomp", "require"),
    ("RestrictNamespaces", "seccomp", "require"),
    ("LockPersonality", "seccomp", "require"),
    ("ProtectControlGroups", "sys", "read-only"),
    ("SystemCallArchitectures", "seccomp", "require"),
];

impl Builder<'_> {
    pub fn sandbox(&mut self) {
        let mut keys = InlineTable::new();
        keys.insert("preset", "none".into());
        for (theirs, ours, level) in SWITCHES {
            let on = match self.service_text(theirs) {
                None => false,
                Some(_) if theirs == "SystemCallArchitectures" => true,
                Some(word) => !["0", "no", "n", "false", "f", "off"].contains(&word),
            };
            if on {
                keys.insert(ours, level.into());
                self.not_quite(theirs);
            }
        }
        self.files(&mut keys);
        self.processes(&mut keys);
        self.calls(&mut keys);
        self.families(&mut keys);
        self.capabilities(&mut keys);
        for (theirs, ours) in [
            ("AppArmorProfile", "apparmor"),
            ("SELinuxContext", "selinux"),
        ] {
            if let Some(text) = self.service_text(theirs).map(str::to_owned) {
                keys.insert(ours, text.trim_start_matches('-').into());
            }
        }
        if self.service_text("KeyringMode") == Some("private") {
            keys.insert("keyring", "require".into());
        }
        if keys.contains_key("memory_deny_write_execute") {
            keys.insert("seccomp", "require".into());
        }
        if keys.len() == 1 {
            self.draft.set("isolation", "none");
        } else {
            self.draft.set("isolation", keys);
        }
    }

    /// `ProtectProc` and `ProcSubset`: a /proc of its own comes with a pid namespace.
    fn processes(&mut self, keys: &mut InlineTable) {
        let hides = !matches!(self.service_text("ProtectProc"), None | Some("default"));
        let only = self.service_text("ProcSubset") == Some("pid");
        if hides || only {
            keys.insert("pid_namespace", "require".into());
            keys.insert("proc", if only { "subset" } else { "own" }.into());
            let key = if hides { "ProtectProc" } else { "ProcSubset" };
            let text = "the server has a pid namespace and a /proc of its own: it sees no other processes at all";
            self.about(Effect::Changed, "Service", key, text);
        }
        if self.service.yes("Service", "RestrictRealtime") {
            keys.insert("seccomp", "require".into());
            keys.insert(
                "deny_calls",
                texts(
                    ["sched_setscheduler", "sched_setparam", "sched_setattr"]
                        .map(str::to_owned)
                        .to_vec(),
                ),
            );
            let text = "no scheduling policy at all can be set";
            self.about(Effect::Changed, "Service", "RestrictRealtime", text);
        }
    }

    /// What a switch means here besides, or does not.
    fn not_quite(&mut self, key: &str) {
        let (effect, text) = match key {
            "ProtectKernelTunables" => (
                Effect::Loss,
                "/sys is read-only here and /proc/sys is not, unless isolation.pid_namespace = \"require\" gives the \
                 server a /proc of its own",
            ),
            "ProtectKernelModules"
            | "ProtectKernelLogs"
            | "ProtectClock"
            | "ProtectHostname"
            | "RestrictNamespaces"
            | "LockPersonality" => (
                Effect::Changed,
                "the filter of system calls with usherd's deny-list does it, and keeps the server from more than that",
            ),
            "PrivateNetwork" => (
                Effect::Changed,
                "the network of the server has no loopback either that is up; isolation.network = \"loopback\" has one",
            ),
            _ => return,
        };
        self.about(effect, "Service", key, text);
    }

    fn files(&mut self, keys: &mut InlineTable) {
        let mut writable = self.paths("ReadWritePaths");
        match self.service_text("ProtectSystem") {
            None | Some("no" | "false" | "0" | "off") => {}
            Some("strict") => {
                keys.insert("root", "read-only".into());
                let text = "root = \"read-only\", which also hides /etc/shadow and its kin, /boot and the state of other services";
                self.about(Effect::Changed, "Service", "ProtectSystem", text);
            }
            Some(level) => {
                let full = level == "full";
                keys.insert("root", "read-only".into());
                writable.push("/var".to_owned());
                if !full {
                    writable.push("/etc".to_owned());
                }
                let text = "all but isolation.writable is read-only here, and /etc/shadow and its kin are hidden; name \
                            there what else the server writes to";
                self.about(Effect::Changed, "Service", "ProtectSystem", text);
            }
        }
        match self.service_text("ProtectHome") {
            Some("read-only") => {
                keys.insert("home", "read-only".into());
            }
            Some("tmpfs") => {
                keys.insert("home", "hidden".into());
            }
            Some(word) if super::unit::is_yes(word) => {
                keys.insert("home", "hidden".into());
            }
            _ => {}
        }
        let hidden = self.paths("InaccessiblePaths");
        for (key, paths) in [("writable", writable), ("hidden", hidden)] {
            if !paths.is_empty() {
                keys.insert(key, texts(paths));
            }
        }
        if self.service_text("ReadOnlyPaths").is_some() && !keys.contains_key("root") {
            let text = "with isolation.root = \"read-only\" all is read-only that isolation.writable does not name";
            self.about(Effect::Loss, "Service", "ReadOnlyPaths", text);
        }
    }

    /// Without marks and specifiers.
    fn paths(&self, key: &str) -> Vec<String> {
        let words = self.split_all(key).into_iter();
        let plain = words.map(|word| word.trim_start_matches(['-', '+']).to_owned());
        let known = plain.filter_map(|word| specify(&word, self.service, self.accepts).ok());
        known
            .filter(|path| path.starts_with('/') && path != "/")
            .collect()
    }

    /// `SystemCallFilter`: a list of what is denied has names that are ours as well.
    fn calls(&mut self, keys: &mut InlineTable) {
        let lines: Vec<String> = self
            .service
            .all("Service", "SystemCallFilter")
            .iter()
            .map(|s| s.value.clone())
            .collect();
        let Some(first) = lines.first() else { return };
        keys.insert("seccomp", "require".into());
        if !first.starts_with('~') {
            keys.insert("system_calls", "allow-list".into());
            let (effect, text) = if first == "@system-service" {
                (
                    Effect::Changed,
                    "usherd's own allow-list is in force, which is much the same",
                )
            } else {
                (
                    Effect::Loss,
                    "usherd's own allow-list is in force; compare what it allows more with config/README.md and name \
                     it in isolation.deny_calls",
                )
            };
            self.about(effect, "Service", "SystemCallFilter", text);
        }
        let mut denied = Vec::new();
        for line in lines.iter().filter_map(|line| line.strip_prefix('~')) {
            for word in line.split_whitespace() {
                let name = word.split(':').next().unwrap_or(word);
                if calls::is_known(name) {
                    denied.push(name.to_owned());
                } else {
                    let text =
                        format!("{name} is not denied: usherd knows no such system call or group");
                    self.about(Effect::Loss, "Service", "SystemCallFilter", &text);
                }
            }
        }
        if !denied.is_empty() {
            let known = keys.get("deny_calls").and_then(Value::as_array);
            let known = known
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned);
            let all = known.chain(denied).collect();
            keys.insert("deny_calls", texts(all));
        }
    }

    fn families(&mut self, keys: &mut InlineTable) {
        const FAMILIES: [(&str, &str); 6] = [
            ("AF_UNIX", "unix"),
            ("AF_INET", "inet"),
            ("AF_INET6", "inet6"),
            ("AF_NETLINK", "netlink"),
            ("AF_PACKET", "packet"),
            ("AF_VSOCK", "vsock"),
        ];
        let Some(text) = self
            .service_text("RestrictAddressFamilies")
            .map(str::to_owned)
        else {
            return;
        };
        keys.insert("seccomp", "require".into());
        let all = self.service.all("Service", "RestrictAddressFamilies");
        let lines: Vec<String> = all.iter().map(|s| s.value.clone()).collect();
        let named: Vec<&str> = lines
            .iter()
            .flat_map(|l| l.trim_start_matches('~').split_whitespace())
            .collect();
        let denies = text.starts_with('~');
        let allowed = FAMILIES
            .iter()
            .filter(|(theirs, _)| named.contains(theirs) != denies);
        let allowed: Vec<String> = allowed.map(|(_, ours)| (*ours).to_owned()).collect();
        keys.insert("address_families", texts(allowed));
        let strange = named
            .iter()
            .any(|name| *name != "none" && !FAMILIES.iter().any(|(theirs, _)| theirs == name));
        if denies || strange {
            let text = "of families usherd knows unix, inet, inet6, netlink, packet and vsock, and allows no others";
            self.about(Effect::Changed, "Service", "RestrictAddressFamilies", text);
        }
    }

    /// Ambient capabilities are what somebody else than root has, the bounding set what root keeps.
    fn capabilities(&mut self, keys: &mut InlineTable) {
        let bounds = self.capability_set("CapabilityBoundingSet");
        let ambient = self.capability_set("AmbientCapabilities");
        if bounds.is_none() && ambient.is_none() {
            return;
        }
        let is_root = matches!(self.service_text("User"), None | Some("root" | "0"))
            && !self.service.yes("Service", "DynamicUser");
        let kept = if is_root {
            bounds.clone()
        } else {
            ambient.or(Some(Vec::new()))
        };
        let Some(kept) = kept else { return };
        keys.insert("capability_bounds", "require".into());
        keys.insert("capabilities", texts(kept));
        if !is_root {
            let text = "what the server is not given it cannot get from set-uid programs either";
            let key = if bounds.is_some() {
                "CapabilityBoundingSet"
            } else {
                "AmbientCapabilities"
            };
            self.about(Effect::Changed, "Service", key, text);
        }
    }

    /// Our names of a set; `~` stands for all others. `None`: nothing is said.
    fn capability_set(&self, key: &str) -> Option<Vec<String>> {
        let mut settings = self.service.settings.iter();
        let any = settings.any(|s| s.section == "Service" && s.key == key);
        if !any {
            return None;
        }
        let mut set: Vec<String> = Vec::new();
        for setting in self.service.all("Service", key) {
            let (denies, text) = match setting.value.strip_prefix('~') {
                Some(rest) => (true, rest),
                None => (false, setting.value.as_str()),
            };
            let named: Vec<String> = text
                .split_whitespace()
                .map(|name| name.trim_start_matches("CAP_").to_ascii_lowercase())
                .collect();
            if denies {
                if set.is_empty() {
                    set = capability::names()
                        .iter()
                        .map(|name| (*name).to_owned())
                        .collect();
                }
                set.retain(|name| !named.contains(name));
            } else {
                set.extend(
                    named
                        .into_iter()
                        .filter(|name| capability::names().contains(&name.as_str())),
                );
            }
        }
        Some(set)
    }

    /// Limits of the unit's cgroup. `Accept=yes`: of each instance there, of all of them here.
    pub fn resources(&mut self) {
        let mut keys = InlineTable::new();
        for (theirs, ours) in [
            ("MemoryMax", "memory"),
            ("MemoryLimit", "memory"),
            ("MemoryHigh", "memory_high"),
        ] {
            match self.service_text(theirs).map(size) {
                Some(Some(Some(bytes))) => {
                    keys.insert(ours, value::show_size(bytes).into());
                }
                Some(None) => self.unknown("Service", theirs),
                Some(Some(None)) | None => {}
            }
        }
        match self.service_text("TasksMax") {
            None | Some("infinity") => {}
            Some(text) => match text.parse::<i64>() {
                Ok(count) => {
                    keys.insert("tasks", count.into());
                }
                Err(_) => self.unknown("Service", "TasksMax"),
            },
        }
        if let Some(text) = self.service_text("CPUQuota").map(str::to_owned) {
            keys.insert("cpu", text.into());
        }
        if keys.is_empty() {
            return;
        }
        if self.accepts {
            let origin = self.service.origin();
            let text = "the limits of memory, tasks and CPU are for each instance in systemd and for all instances of \
                        the service together here: make them larger";
            self.note(Effect::Changed, &origin, text);
        }
        self.draft.set("resources", keys);
    }
}

fn texts(words: Vec<String>) -> Value {
    Value::Array(words.into_iter().collect::<Array>())
}
