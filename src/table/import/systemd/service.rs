//! `[Service]`: account, surroundings and end of the server.
#![forbid(unsafe_code)]

use toml_edit::InlineTable;

use super::words::{size, span, specify, split};
use super::{Builder, Impossible};
use crate::table::import::Effect;
use crate::table::value;

/// LimitX=, and what it is called here.
const LIMITS: [(&str, &str); 10] = [
    ("LimitCPU", "limits.cpu"),
    ("LimitFSIZE", "limits.fsize"),
    ("LimitDATA", "limits.data"),
    ("LimitSTACK", "limits.stack"),
    ("LimitCORE", "limits.core"),
    ("LimitRSS", "limits.rss"),
    ("LimitNOFILE", "limits.nofile"),
    ("LimitAS", "limits.as"),
    ("LimitNPROC", "limits.nproc"),
    ("LimitMEMLOCK", "limits.memlock"),
];

impl Builder<'_> {
    /// A unit without `User` is root's.
    pub fn account(&mut self) -> Result<(), Impossible> {
        let named = |key| {
            let text = self.service_text(key).unwrap_or_default();
            specify(text, self.service, self.accepts).map_err(Impossible)
        };
        let (user, group) = (named("User")?, named("Group")?);
        if self.service.yes("Service", "DynamicUser") {
            self.draft.set("user", "dynamic");
            for key in ["User", "Group", "SupplementaryGroups"] {
                let text = "a dynamic user has a number and a group of its own and no other";
                self.about(Effect::Changed, "Service", key, text);
            }
            return Ok(());
        }
        let user = if user.is_empty() {
            "root".to_owned()
        } else {
            user
        };
        let accounts = &self.world.host.accounts;
        let account = match user.parse() {
            Ok(uid) => accounts.user_by_uid(uid),
            Err(_) => accounts.user(&user),
        };
        if account.is_none() && user.parse::<u32>().is_err() {
            self.draft
                .off
                .get_or_insert(format!("there is no user {user}"));
        }
        self.draft.set("user", user);
        if !group.is_empty() {
            self.draft.set("group", group);
        }
        let more = self.service.all("Service", "SupplementaryGroups");
        let more: Vec<String> = more
            .iter()
            .flat_map(|s| s.value.split_whitespace())
            .map(str::to_owned)
            .collect();
        if !more.is_empty() {
            let own = account.map(|account| accounts.groups_of(&account.name, account.gid));
            let own = own
                .unwrap_or_default()
                .into_iter()
                .map(|gid| gid.to_string());
            self.draft.set_list("groups", own.chain(more));
        }
        Ok(())
    }

    pub fn surroundings(&mut self) {
        self.folder();
        self.environment();
        for (theirs, ours) in [("UMask", "umask"), ("PAMName", "pam")] {
            if let Some(text) = self.service_text(theirs).map(str::to_owned) {
                self.draft.set(ours, text);
            }
        }
        for (theirs, ours) in [("Nice", "nice"), ("OOMScoreAdjust", "oom_score")] {
            match self.service_text(theirs).map(str::parse::<i64>) {
                Some(Ok(number)) => self.draft.set(ours, number),
                Some(Err(_)) => self.unknown("Service", theirs),
                None => {}
            }
        }
        if let Some(cpus) = self.service_text("CPUAffinity") {
            let cpus: Vec<&str> = cpus
                .split([' ', ','])
                .filter(|part| !part.is_empty())
                .collect();
            let cpus = cpus.join(",");
            if cpus
                .bytes()
                .all(|b| b.is_ascii_digit() || b"-,".contains(&b))
            {
                self.draft.set("cpus", cpus);
            } else {
                self.unknown("Service", "CPUAffinity");
            }
        }
        self.io_priority();
        for (theirs, ours) in LIMITS {
            self.resource_limit(theirs, ours);
        }
        self.credentials();
    }

    fn folder(&mut self) {
        let Some(text) = self.service_text("WorkingDirectory") else {
            return;
        };
        let text = text.trim_start_matches('-');
        if text == "~" {
            return self.about(
                Effect::Changed,
                "Service",
                "WorkingDirectory",
                "usherd does not change to the user's home; name it in `dir`",
            );
        }
        match specify(text, self.service, self.accepts) {
            Ok(path) if path.starts_with('/') => self.draft.set("dir", path),
            _ => self.unknown("Service", "WorkingDirectory"),
        }
    }

    fn environment(&mut self) {
        let mut table = InlineTable::new();
        for (name, value) in self.variables() {
            table.insert(&name, value.into());
        }
        if !table.is_empty() {
            self.draft.set("env", table);
        }
        let text = "the variables are now in the table; a change of the file counts no more";
        self.about(Effect::Changed, "Service", "EnvironmentFile", text);
        let passed = self.service.all("Service", "PassEnvironment");
        let names: Vec<&str> = passed
            .iter()
            .flat_map(|s| s.value.split_whitespace())
            .collect();
        if !names.is_empty() {
            self.draft.set_list("pass_env", names);
        }
    }

    fn io_priority(&mut self) {
        let Some(class) = self.service_text("IOSchedulingClass") else {
            return;
        };
        let level = self.service_text("IOSchedulingPriority").unwrap_or("4");
        let text = match class {
            "idle" | "3" => "idle".to_owned(),
            "best-effort" | "2" => format!("best-effort/{level}"),
            "realtime" | "1" => format!("realtime/{level}"),
            _ => return self.unknown("Service", "IOSchedulingClass"),
        };
        self.draft.set("io_priority", text);
    }

    /// One value, or soft:hard.
    fn resource_limit(&mut self, theirs: &str, ours: &str) {
        let Some(text) = self.service_text(theirs) else {
            return;
        };
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        let one = |text: &str| -> Option<toml_edit::Value> {
            if text == "infinity" {
                return Some("unlimited".into());
            }
            match ours {
                "limits.nofile" | "limits.nproc" => text.parse::<i64>().ok().map(Into::into),
                "limits.cpu" => Some(format!("{}s", span(text)??.as_secs()).into()),
                _ => Some(value::show_size(size(text)??).into()),
            }
        };
        match (one(soft), one(hard)) {
            (Some(both), Some(_)) if soft == hard => self.draft.set(ours, both),
            (Some(soft), Some(hard)) => {
                let mut table = InlineTable::new();
                table.insert("soft", soft);
                table.insert("hard", hard);
                self.draft.set(ours, table);
            }
            _ => self.unknown("Service", theirs),
        }
    }

    /// The name of a file of its own and where it comes from.
    fn credentials(&mut self) {
        let mut table = InlineTable::new();
        for setting in self.service.all("Service", "LoadCredential") {
            if let Some((name, path)) = setting
                .value
                .split_once(':')
                .filter(|(_, p)| p.starts_with('/'))
            {
                table.insert(name, path.into());
            }
        }
        if !table.is_empty() {
            self.draft.set("credentials", table);
        }
        if let Some(names) = self.service_text("StateDirectory").map(str::to_owned) {
            let name = names.split_whitespace().next().unwrap_or_default();
            if name == names && !name.contains([':', '/']) {
                self.draft.set("state", name);
            } else {
                let text = "`state` is one directory right below /var/lib; make these yourself and name them in \
                            isolation.writable";
                self.about(Effect::Unsupported, "Service", "StateDirectory", text);
            }
        }
    }

    /// How a server is ended.
    pub fn ends(&mut self) {
        if let Some(Some(Some(time))) = self.service_text("RuntimeMaxSec").map(span) {
            self.draft.set("max_runtime", value::show_duration(time));
        }
        let signal = self
            .service_text("KillSignal")
            .map(|s| s.trim_start_matches("SIG").to_owned());
        let grace = self
            .service_text("TimeoutStopSec")
            .or(self.service_text("TimeoutSec"));
        let grace = grace
            .and_then(span)
            .map(|time| time.map_or_else(|| "90s".to_owned(), value::show_duration));
        if signal.is_some() || grace.is_some() {
            let mut table = InlineTable::new();
            if let Some(signal) = signal {
                table.insert("signal", signal.into());
            }
            table.insert("grace", grace.unwrap_or_else(|| "90s".to_owned()).into());
            self.draft.set("stop", table);
        }
        let kind = self.service_text("Type").unwrap_or("simple").to_owned();
        match kind.as_str() {
            "forking" => {
                let text = "the service counts as ended when the process that usherd has started ends; let the server \
                            stay in the foreground";
                self.about(Effect::Changed, "Service", "Type", text);
            }
            "notify" | "notify-reload" | "dbus" => {
                let text =
                    "usherd does not wait until a server is ready; its socket is there before";
                self.about(Effect::Remark, "Service", "Type", text);
            }
            _ => {}
        }
    }

    pub fn split_all(&self, key: &str) -> Vec<String> {
        let settings = self.service.all("Service", key);
        settings
            .iter()
            .flat_map(|s| split(&s.value).unwrap_or_default())
            .collect()
    }
}
