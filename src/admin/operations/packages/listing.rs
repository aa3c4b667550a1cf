//! What apt-get and dpkg print, for programs.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::named;

/// What `apt-get --simulate` says it would install.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    name: String,
    old: Option<String>,
    new: String,
}

impl Plan {
    /// Of its lines only `Inst NAME [OLD] (NEW ORIGIN [ARCH])`.
    pub fn read(text: &str) -> Self {
        Self(text.lines().filter_map(Step::read).collect())
    }

    pub fn installs(&self) -> Vec<Value> {
        let new = self.0.iter().filter(|step| step.old.is_none());
        new.map(|step| named(&step.name, &step.new)).collect()
    }

    /// What there is `after` that was not there `before`, of what was to be installed:
    /// others install as well.
    pub fn brought(&self, before: &Versions, after: &Versions) -> Vec<String> {
        let bare = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
        let mut new = after.beyond(before);
        new.retain(|name| self.0.iter().any(|step| bare(&step.name) == bare(name)));
        new
    }

    pub fn upgrades(&self) -> Vec<Value> {
        let all = self.0.iter();
        all.filter_map(|step| Some(changed(&step.name, step.old.as_deref()?, &step.new)))
            .collect()
    }
}

impl Step {
    fn read(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("Inst ")?;
        let (name, rest) = rest.split_once(' ')?;
        let (old, rest) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (old, rest) = rest.split_once("] ")?;
                (Some(old.to_owned()), rest)
            }
            None => (None, rest),
        };
        let new = rest.strip_prefix('(')?.split([' ', ')']).next()?;
        Some(Self {
            name: name.to_owned(),
            old,
            new: new.to_owned(),
        })
    }
}

fn changed(name: &str, old: &str, new: &str) -> Value {
    json!({ "name": name, "from": old, "version": new })
}

/// What is on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(BTreeMap<String, String>);

impl Versions {
    /// Of dpkg-query: name, version and three letters of status, with tabs between. What
    /// is unpacked and not configured counts as well; what only left its files in /etc does not.
    pub fn read(text: &str) -> Self {
        let mut all = BTreeMap::new();
        for line in text.lines() {
            let mut fields = line.split('\t');
            let fields = (fields.next(), fields.next(), fields.next());
            let (Some(name), Some(version), Some(status)) = fields else {
                continue;
            };
            let is_there = !matches!(status.as_bytes().get(1), None | Some(b'n' | b'c'));
            if is_there && !version.is_empty() {
                all.insert(name.to_owned(), version.to_owned());
            }
        }
        Self(all)
    }

    pub fn of(&self, package: &str) -> Option<&str> {
        // Of what can be there for several architectures at once, the name has one.
        let with_architecture = |name: &str| {
            let (bare, _) = name.split_once(':')?;
            (bare == package).then_some(())
        };
        let mut all = self.0.iter();
        let exact = self.0.get(package);
        exact
            .or_else(|| all.find_map(|(name, version)| with_architecture(name).map(|()| version)))
            .map(String::as_str)
    }

    /// Names that the other has not.
    pub fn beyond(&self, other: &Self) -> Vec<String> {
        let new = self.0.keys().filter(|name| !other.0.contains_key(*name));
        new.cloned().collect()
    }

    /// From this to `after`.
    pub fn changes(&self, after: &Self) -> Value {
        let new = after
            .0
            .iter()
            .filter(|(name, _)| !self.0.contains_key(*name));
        let installed: Vec<Value> = new.map(|(name, version)| named(name, version)).collect();
        let gone = self
            .0
            .iter()
            .filter(|(name, _)| !after.0.contains_key(*name));
        let removed: Vec<Value> = gone.map(|(name, version)| named(name, version)).collect();
        let both = self.0.iter().filter_map(|(name, old)| {
            let new = after.0.get(name)?;
            (old != new).then(|| changed(name, old, new))
        });
        let upgraded: Vec<Value> = both.collect();
        json!({ "installed": installed, "upgraded": upgraded, "removed": removed })
    }
}

/// `pmstatus:dash:40.00:Unpacking dash (amd64)`, of apt's status descriptor; `dlstatus` is
/// about what is fetched. Names may have a colon in them.
pub fn progress(line: &str) -> Option<String> {
    let (kind, rest) = line.split_once(':')?;
    if !matches!(kind, "pmstatus" | "dlstatus" | "pmerror" | "pmconffile") {
        return None;
    }
    let mut from = rest;
    while let Some((_, behind)) = from.split_once(':') {
        if let Some((number, text)) = behind.split_once(':')
            && let Ok(percent) = number.parse::<f32>()
        {
            return Some(format!("{percent:.0}% {}", text.trim()));
        }
        from = behind;
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_is_read() {
        let text = "Reading package lists...\n\
            Inst libc6 [2.36-9+deb12u9] (2.36-9+deb12u10 Debian:12.15/oldstable [amd64]) []\n\
            Inst cowsay (3.03+dfsg2-8 Debian:12.15/oldstable [all])\n\
            Conf cowsay (3.03+dfsg2-8 Debian:12.15/oldstable [all])\n\
            Inst odd\nInst odd [1\nInst odd 2\n";
        let plan = Plan::read(text);
        assert_eq!(plan.installs(), [named("cowsay", "3.03+dfsg2-8")]);
        let upgraded =
            json!({ "name": "libc6", "from": "2.36-9+deb12u9", "version": "2.36-9+deb12u10" });
        assert_eq!(plan.upgrades(), [upgraded]);
    }

    #[test]
    fn what_others_installed_meanwhile_is_theirs() {
        let plan = Plan::read("Inst cowsay (3 Debian [all])\nInst libd (4 Debian [amd64])\n");
        let before = Versions::read("a\t1\tii \n");
        let after =
            Versions::read("a\t1\tii \ncowsay\t3\tiU \nlibd:amd64\t4\tiU \nnginx\t1\tii \n");
        assert_eq!(plan.brought(&before, &after), ["cowsay", "libd:amd64"]);
    }

    #[test]
    fn two_states_of_a_host_are_compared() {
        let before = Versions::read("a\t1\tii \nb\t1\tii \nc\t1\trc \nlibd:amd64\t4\thi \n");
        let after = Versions::read("a\t2\tii \nc\t1\tiU \nlibd:amd64\t4\tii \nodd\n");
        let wanted = json!({
            "installed": [{ "name": "c", "version": "1" }],
            "upgraded": [{ "name": "a", "from": "1", "version": "2" }],
            "removed": [{ "name": "b", "version": "1" }],
        });
        assert_eq!(before.changes(&after), wanted);
        assert_eq!(after.beyond(&before), ["c"]);
        assert_eq!((before.of("libd"), before.of("c")), (Some("4"), None));
    }

    #[test]
    fn only_lines_about_progress_are_progress() {
        let line = "pmstatus:libc6:amd64:40.0000:Unpacking libc6 (amd64)";
        assert_eq!(progress(line).unwrap(), "40% Unpacking libc6 (amd64)");
        let line = "pmstatus:dash:40.0000:Unpacking dash (amd64)";
        assert_eq!(progress(line).unwrap(), "40% Unpacking dash (amd64)");
        assert_eq!(
            progress("dlstatus:1:0:Retrieving file 1 of 1").unwrap(),
            "0% Retrieving file 1 of 1"
        );
        assert_eq!(progress("Inst dash (1)"), None);
    }
}
