//! `security.report`: where a host is weaker than its table looks. It reads and asks,
//! and changes nothing; every finding says what to do.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::statistics::{ask, connect};
use super::{Failed, Outcome, Request, Usherd, described_all};
use crate::sandbox::blueprint::STATE;

/// Reasons for an exposure that are told.
const MOST_REASONS: usize = 5;
/// A service that may ask for more than so many operations is looked at.
const MANY: usize = 5;
/// Whoever may ask for one of these without bounds has the host, or nearly.
const POWERFUL: [&str; 16] = [
    "backup.restore",
    "config.set",
    "driver.load",
    "file.install",
    "firewall.open",
    "group.member",
    "instance.signal",
    "network.address.add",
    "package.configure",
    "package.install",
    "remote_access.grant",
    "resource.set",
    "service.disable",
    "service.stop",
    "sysctl.set",
    "user.create",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    High,
    Medium,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    weight: Weight,
    service: Option<String>,
    what: String,
    remedy: &'static str,
}

impl Finding {
    fn show(&self) -> Value {
        let weight = match self.weight {
            Weight::High => "high",
            Weight::Medium => "medium",
        };
        json!({ "weight": weight, "service": self.service, "what": self.what, "remedy": self.remedy })
    }
}

pub fn report(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let mut link = connect(request)?;
    let told = ask(&mut link, "GetServices", None)?;
    let names = told["services"].as_array().into_iter().flatten();
    let names: Vec<&str> = names.filter_map(|one| one["name"].as_str()).collect();
    let mut findings = Vec::new();
    own_files(request, &mut findings);
    let mut exposures = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if at % 50 == 0 {
            usherd.progress(&format!("{at} of {} services", names.len()));
        }
        if let Some(exposure) = exposure(name, usherd)? {
            exposures.push(exposure);
        }
        service(name, usherd, &mut findings)?;
    }
    exposures.sort_by(|a, b| {
        let score = |one: &Value| one["score"].as_f64().unwrap_or(0.0);
        score(b).total_cmp(&score(a))
    });
    findings.sort_by_key(|finding| finding.weight);
    findings.dedup();
    let findings: Vec<Value> = findings.iter().map(Finding::show).collect();
    Ok(json!({ "services": names.len(), "exposures": exposures, "findings": findings }))
}

/// As `usherctl security` shows it; `None`: usherd answers for the service itself.
fn exposure(name: &str, usherd: &mut dyn Usherd) -> Result<Option<Value>, Failed> {
    let told = usherd.call("GetIsolation", json!({ "service": name }))?;
    let exposure = &told["isolation"]["exposure"];
    if exposure.is_null() {
        return Ok(None);
    }
    let reasons = exposure["reasons"].as_array().into_iter().flatten();
    let reasons: Vec<&Value> = reasons.take(MOST_REASONS).collect();
    Ok(Some(json!({
        "service": name,
        "score": exposure["score"],
        "grade": exposure["grade"],
        "reasons": reasons,
    })))
}

/// usherd's own: who may write to these is usherd.
fn own_files(request: &Request, findings: &mut Vec<Finding>) {
    let places = &request.places;
    let mut paths = vec![places.state_dir.clone(), places.runtime_dir.clone()];
    if let Some(table) = &places.table {
        paths.push(table.clone());
        let folders = ["services.d", "operations.d"];
        for folder in folders.map(|name| table.with_file_name(name)) {
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            paths.extend(entries.map(|entry| entry.path()));
            paths.push(folder);
        }
    }
    for path in paths {
        for (path, why) in weak_on_the_way(&path, 0) {
            findings.push(Finding {
                weight: Weight::High,
                service: None,
                what: format!("{} is usherd's, and {why}", path.display()),
                remedy: "chown root and chmod go-w",
            });
        }
    }
}

fn service(name: &str, usherd: &mut dyn Usherd, findings: &mut Vec<Finding>) -> Result<(), Failed> {
    let keys = described_all(usherd, name)?;
    let mut tell = |weight, what: String, remedy| {
        findings.push(Finding {
            weight,
            service: Some(name.to_owned()),
            what,
            remedy,
        });
    };
    let text = |key: &str| keys.get(key).and_then(toml::Value::as_str);
    let exec = keys.get("exec").and_then(toml::Value::as_array);
    let Some(program) = exec.and_then(|exec| exec.first()?.as_str()) else {
        return Ok(());
    };
    let program = Path::new(program);
    for (path, why) in weak_on_the_way(program, 0) {
        let what = format!("{} is on the way to its program, and {why}", path.display());
        tell(Weight::High, what, "chown root and chmod go-w");
    }
    let mode = fs::metadata(program).map_or(0, |about| about.mode());
    if mode & 0o6000 != 0 {
        let what = format!(
            "its program {} is set-user-id or set-group-id",
            program.display()
        );
        tell(
            Weight::Medium,
            what,
            "give the service the user that it needs, and isolation",
        );
    }
    let isolation = keys.get("isolation");
    let preset =
        isolation.and_then(|value| value.as_str().or_else(|| value.get("preset")?.as_str()));
    if text("user") == Some("root") && preset == Some("none") {
        let what = "its servers are root, and nothing isolates them".to_owned();
        tell(
            Weight::High,
            what,
            "give it a user of its own, or isolation = \"standard\"",
        );
    }
    if let Some(state) = text("state") {
        let path = Path::new(STATE).join(state);
        let mode = fs::symlink_metadata(&path).map_or(0, |about| about.mode());
        if mode & 0o007 != 0 {
            let what = format!("everybody gets into its state, {}", path.display());
            tell(Weight::Medium, what, "chmod o= it");
        }
    }
    let credentials = keys.get("credentials").and_then(toml::Value::as_table);
    for source in credentials.into_iter().flat_map(|table| table.values()) {
        let Some(path) = source.as_str() else {
            continue;
        };
        let mode = fs::metadata(path).map_or(0, |about| about.mode());
        if mode & 0o044 != 0 {
            let what = format!("others than its owner can read its credential {path}");
            tell(Weight::Medium, what, "chmod go= it: usherd hands it on");
        }
    }
    for what in wide(keys.get("admin")) {
        tell(
            Weight::Medium,
            what,
            "take out what it does not ask for, and bound the rest by `with`",
        );
    }
    Ok(())
}

/// What of an `admin` list gives more than a server should have.
fn wide(list: Option<&toml::Value>) -> Vec<String> {
    let entries = list
        .and_then(toml::Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let mut found = Vec::new();
    if entries.len() > MANY {
        found.push(format!(
            "its servers may ask for {} operations",
            entries.len()
        ));
    }
    for entry in entries {
        let bounded = entry
            .get("with")
            .and_then(toml::Value::as_table)
            .is_some_and(|with| !with.is_empty());
        let name = entry.as_str().or_else(|| entry.get("operation")?.as_str());
        if let Some(name) = name.filter(|name| !bounded && POWERFUL.contains(name)) {
            found.push(format!(
                "its servers may ask for {name} with any parameter that the catalogue takes"
            ));
        }
    }
    found
}

/// The path and its folders, as far as somebody else than `owner` or root can put
/// something in their place.
fn weak_on_the_way(path: &Path, owner: u32) -> Vec<(PathBuf, &'static str)> {
    let real = fs::canonicalize(path);
    let real = real.as_deref().unwrap_or(path);
    let mut found = Vec::new();
    for (at, part) in real.ancestors().enumerate() {
        let Ok(about) = fs::symlink_metadata(part) else {
            continue;
        };
        if let Some(why) = weak(about.mode(), about.uid(), owner, at > 0) {
            found.push((part.to_owned(), why));
        }
    }
    found
}

/// `is_way`: a folder on the way, where a sticky bit keeps others' names safe.
fn weak(mode: u32, uid: u32, owner: u32, is_way: bool) -> Option<&'static str> {
    let sticky = is_way && mode & 0o1000 != 0;
    if uid != 0 && uid != owner {
        return Some("somebody else than root owns it");
    }
    match mode & 0o022 {
        0 => None,
        _ if sticky => None,
        bits if bits & 0o002 != 0 => Some("everybody can write to it"),
        _ => Some("its group can write to it"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::admin::operations::fake::Fake;

    #[test]
    fn whoever_can_replace_a_file_is_found() {
        assert_eq!(weak(0o100_755, 0, 0, false), None);
        assert_eq!(weak(0o41_777, 0, 0, true), None, "/tmp on the way");
        assert!(weak(0o41_777, 0, 0, false).is_some(), "/tmp itself");
        assert!(weak(0o100_775, 0, 0, false).unwrap().contains("group"));
        assert!(weak(0o40_757, 0, 0, true).unwrap().contains("everybody"));
        assert!(weak(0o100_755, 7, 0, false).unwrap().contains("owns"));
        assert_eq!(weak(0o100_755, 7, 7, false), None);
    }

    #[test]
    fn a_list_is_wide_that_is_long_or_without_bounds() {
        let list = |text: &str| {
            let table: toml::Table = toml::from_str(&format!("v = {text}")).unwrap();
            wide(table.get("v")).len()
        };
        assert_eq!(list("[]"), 0);
        assert_eq!(
            list("[\"stats.read\", { operation = \"user.create\", with = { name = \"m-*\" } }]"),
            0
        );
        assert_eq!(list("[\"user.create\"]"), 1);
        assert_eq!(list("[{ operation = \"user.create\", with = {} }]"), 1);
        assert_eq!(list("[\"a\", \"b\", \"c\", \"d\", \"e\", \"f\"]"), 1);
    }

    #[test]
    fn a_program_that_anybody_can_replace_is_told_of() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("server");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4777)).unwrap();
        let keys = json!({ "keys": [
            { "key": "exec", "value": format!("[{:?}]", program.display().to_string()) },
            { "key": "user", "value": "\"root\"" },
            { "key": "isolation", "value": "{ preset = \"none\" }" },
            { "key": "admin", "value": "[\"package.install\"]" },
        ] });
        let mut fake = Fake::new(|_, _| Ok(keys.clone()));
        let mut findings = Vec::new();
        service("a", &mut fake, &mut findings).unwrap();
        let told = |word: &str| findings.iter().any(|one| one.what.contains(word));
        // Of who is not root it is worse already.
        let whose = match nix::unistd::Uid::effective().is_root() {
            true => "everybody can write",
            false => "somebody else than root owns it",
        };
        for word in [whose, "set-user-id", "are root", "package.install"] {
            assert!(told(word), "{word}: {findings:?}");
        }
    }
}
