//! `usherd doctor`: what this kernel and host have of what sandboxes are made
//! of, as root and as an ordinary user, and what to do about the rest.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use nix::unistd::Uid;
use serde_json::{Value, json};

use crate::ctl::grid::{Cell, Grid, left};
use crate::error::Exit;
use crate::sandbox::probe::feature::{self, Feature};
use crate::sandbox::probe::{Host, Missing, Probe, Role, feature_of_setting};
use crate::table::isolation::{Isolation, Level, Mechanism, Preset};

/// So many reasons are told for one remedy.
const REASONS: usize = 3;
const CGROUPS: &str = "cgroups of version 2";

/// What was found out: by root for both, by a user for himself.
#[derive(Debug)]
struct Findings {
    own: Probe,
    /// As an ordinary user, if `own` is root's and root may become one.
    user: Option<Probe>,
}

/// Prints it; 0 if everything is there that the preset `standard` requires.
#[must_use]
pub fn doctor(as_json: bool) -> Exit {
    let findings = Findings {
        own: Probe::take(),
        user: match Uid::effective().is_root() {
            true => Probe::take_as_user().ok(),
            false => None,
        },
    };
    let text = match as_json {
        true => match serde_json::to_string_pretty(&document(&findings)) {
            Ok(text) => text + "\n",
            Err(err) => {
                eprintln!("usherd: unable to write JSON: {err}");
                return Exit::System;
            }
        },
        false => page(&findings),
    };
    match super::say(&text) {
        Exit::Ok if !blocked(&findings.own).is_empty() => Exit::Refused,
        said => said,
    }
}

/// What `standard` requires and is not there.
fn blocked(probe: &Probe) -> Vec<Mechanism> {
    let lacks = probe.lacks(&Isolation::preset(Preset::Standard));
    let required = lacks.iter().filter(|lack| lack.level == Level::Require);
    required.map(|lack| lack.mechanism).collect()
}

fn page(findings: &Findings) -> String {
    let Findings { own, user } = findings;
    let probes: Vec<&Probe> = [Some(own), user.as_ref()].into_iter().flatten().collect();
    let mut out = about(&own.host);
    let mut columns = vec![left("WHAT", 0)];
    columns.extend(probes.iter().map(|probe| left(title(probe.role), 0)));
    columns.push(left("FOR", 0));
    let mut grid = Grid::new(&columns);
    for feature in Feature::ALL {
        let mut row: Vec<Cell> = vec![feature.title().into()];
        row.extend(probes.iter().map(|probe| answer(probe, feature).into()));
        row.push(wanted_by(feature).into());
        grid.row(row);
    }
    let mut row: Vec<Cell> = vec![CGROUPS.into()];
    row.extend(
        probes
            .iter()
            .map(|probe| yes_or_no(probe.cgroup().is_ok()).into()),
    );
    row.push("all presets, if there".into());
    grid.row(row);
    let _ = write!(out, "\n{}", grid.render(None, false));
    if own.role == Role::Root && user.is_none() {
        out.push_str("\nnot tried as an ordinary user: usherd may not become one here\n");
    }
    out.push_str(&remedies(&probes));
    out.push_str(landlock_without_network(own));
    out.push_str(&conclusion(own));
    out
}

fn title(role: Role) -> &'static str {
    match role {
        Role::Root => "ROOT",
        Role::User => "USER",
    }
}

fn yes_or_no(works: bool) -> &'static str {
    if works { "yes" } else { "no" }
}

fn answer(probe: &Probe, feature: Feature) -> String {
    let found = probe.facts().iter().find(|found| found.feature == feature);
    match found.map(|found| &found.outcome) {
        Some(Ok(Some(version))) => format!("yes ({version})"),
        Some(outcome) => yes_or_no(outcome.is_ok()).to_owned(),
        None => String::new(),
    }
}

/// A few lines on what host this is.
fn about(host: &Host) -> String {
    let modules = match host.modules.as_slice() {
        [] => "none that can be seen".to_owned(),
        modules => modules.join(", "),
    };
    let container = host.container.as_deref().unwrap_or("none that can be seen");
    let moves = match (&host.cgroup2, host.favours_dynamic_moves()) {
        (None, _) => "not mounted".to_owned(),
        (Some(found), true) => format!("on {}, with favordynmods", found.at),
        (Some(found), false) => format!("on {}", found.at),
    };
    format!(
        "usherd {} on Linux {}\n  container         {container}\n  \
         security modules  {modules}\n  cgroup2           {moves}\n",
        env!("CARGO_PKG_VERSION"),
        host.kernel,
    )
}

/// The lowest preset that makes use of it, and how.
fn wanted_by(feature: Feature) -> &'static str {
    let level = |preset| {
        let isolation = Isolation::preset(preset);
        let uses = |mechanism: &Mechanism| {
            feature::made_of(*mechanism).contains(&feature)
                || feature_of_setting(&isolation, *mechanism) == Some(feature)
        };
        let mut mechanisms = Mechanism::ALL.into_iter();
        let mechanism = mechanisms.find(uses);
        mechanism.map_or(Level::Off, |mechanism| isolation.level(mechanism))
    };
    match (level(Preset::Standard), level(Preset::Strict)) {
        (Level::Require, _) => "standard",
        (Level::Prefer, Level::Require) => "strict; standard, if there",
        (Level::Prefer, _) => "standard, if there",
        (Level::Off, Level::Require) => "strict",
        (Level::Off, Level::Prefer) => "strict, if there",
        (Level::Off, Level::Off) => match feature {
            Feature::Loopback => "network = \"loopback\"",
            Feature::SwitchUser => "user = ...",
            _ => "speed",
        },
    }
}

/// Things with one remedy, and why each is not there.
#[derive(Debug)]
struct Ailment {
    names: Vec<String>,
    reasons: Vec<String>,
    remedy: String,
}

/// What to do, once for all that have the same answer.
fn remedies(probes: &[&Probe]) -> String {
    let mut told: Vec<Ailment> = Vec::new();
    for probe in probes {
        let whom = match (probes.len(), probe.role) {
            (1, _) => "",
            (_, Role::Root) => " (root)",
            (_, Role::User) => " (user)",
        };
        let facts = probe.facts().iter();
        let features = facts.filter_map(|f| Some((f.feature.title(), f.outcome.as_ref().err()?)));
        let cgroup = probe.cgroup().err().map(|why| (CGROUPS, why));
        for (what, Missing { reason, remedy }) in features.chain(cgroup) {
            let name = format!("{what}{whom}");
            let Some(known) = told.iter_mut().find(|known| known.remedy == *remedy) else {
                told.push(Ailment {
                    names: vec![name],
                    reasons: vec![reason.clone()],
                    remedy: remedy.clone(),
                });
                continue;
            };
            known.names.push(name);
            if !known.reasons.contains(reason) {
                known.reasons.push(reason.clone());
            }
        }
    }
    let shown = told.iter().map(|ailment| {
        let names = merged(&ailment.names);
        let (first, more) = ailment.reasons.split_at(ailment.reasons.len().min(REASONS));
        let more = match more.len() {
            0 => String::new(),
            more => format!("; and {more} more like these"),
        };
        let reasons = first.join("; ") + &more;
        format!("\n{names}\n  why  {reasons}\n  do   {}\n", ailment.remedy)
    });
    shown.collect()
}

/// Landlock is there and works, but is too old for one of its uses.
fn landlock_without_network(own: &Probe) -> &'static str {
    match own.landlock() {
        Some(1..4) => {
            "\nLandlock\n  why  its version has no rules for TCP: a server with network = \"none\" could \
             connect the socket it was given anew\n  do   Linux 6.7 or later\n"
        }
        _ => "",
    }
}

/// What root and users lack alike is named once.
fn merged(names: &[String]) -> String {
    let mut shown: Vec<String> = Vec::new();
    for name in names {
        let twin = name
            .strip_suffix(" (user)")
            .map(|plain| format!("{plain} (root)"));
        match twin.and_then(|twin| shown.iter_mut().find(|seen| **seen == twin)) {
            Some(seen) => *seen = name.trim_end_matches(" (user)").to_owned(),
            None => shown.push(name.clone()),
        }
    }
    shown.join(", ")
}

fn conclusion(own: &Probe) -> String {
    let blocked = blocked(own);
    if blocked.is_empty() {
        return "\neverything is there that isolation = \"standard\" requires\n".to_owned();
    }
    let names: Vec<&str> = blocked.iter().map(|mechanism| mechanism.name()).collect();
    format!(
        "\nisolation = \"standard\" requires what is not there: {}\n",
        names.join(", ")
    )
}

fn document(findings: &Findings) -> Value {
    let Findings { own, user } = findings;
    let host = &own.host;
    let of = |role| {
        let mut probes = [Some(own), user.as_ref()].into_iter().flatten();
        probes.find(|probe| probe.role == role).map(features)
    };
    let names = blocked(own).into_iter().map(Mechanism::name);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": host.kernel,
        "container": host.container,
        "security_modules": host.modules,
        "cgroup2": host.cgroup2.as_ref().map(|found| json!({
            "at": found.at,
            "controllers": found.controllers,
            "favordynmods": host.favours_dynamic_moves(),
        })),
        "root": of(Role::Root),
        "user": of(Role::User),
        "standard_lacks": names.collect::<Vec<_>>(),
    })
}

fn features(probe: &Probe) -> Value {
    let show = |missing: Option<&Missing>, version: Option<u32>| match missing {
        None => json!({ "works": true, "version": version }),
        Some(Missing { reason, remedy }) => {
            json!({ "works": false, "reason": reason, "remedy": remedy })
        }
    };
    let mut all = serde_json::Map::new();
    for found in probe.facts() {
        let version = found.outcome.as_ref().ok().copied().flatten();
        let shown = show(found.outcome.as_ref().err(), version);
        all.insert(found.feature.name().to_owned(), shown);
    }
    all.insert("cgroup".to_owned(), show(probe.cgroup().err(), None));
    Value::Object(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// All works, but what `failing` says.
    fn probe(role: Role, failing: &[&str]) -> Probe {
        let lines = Feature::ALL.map(|feature| {
            let name = feature.name();
            let mut failing = failing.iter();
            let line = failing.find(|line| line.split(' ').next() == Some(name));
            line.map_or_else(|| format!("{name} works 0"), |line| (*line).to_owned())
        });
        let mut probe = Probe::of(role, Host::default(), &Ok(lines.join("\n")));
        probe.set_cgroup(Ok("version 2".into()));
        probe
    }

    #[test]
    fn a_host_that_has_everything_needs_nothing() {
        let findings = Findings {
            own: probe(Role::Root, &[]),
            user: Some(probe(Role::User, &[])),
        };
        let page = page(&findings);
        assert!(
            page.contains("WHAT                         ROOT  USER  FOR\n"),
            "{page}"
        );
        assert!(!page.contains("\n  do "), "{page}");
        assert!(page.ends_with("\neverything is there that isolation = \"standard\" requires\n"));
        assert_eq!(document(&findings)["standard_lacks"], json!([]));
    }

    #[test]
    fn the_same_remedy_is_told_once() {
        let failing = [
            "landlock fails 95 landlock",
            "uts_namespace fails 22 uts namespace",
        ];
        let findings = Findings {
            own: probe(Role::Root, &failing),
            user: Some(probe(Role::User, &failing[..1])),
        };
        let page = page(&findings);
        assert_eq!(page.matches("lsm=landlock").count(), 1, "{page}");
        assert!(page.contains("\nLandlock\n  why  "), "{page}");
        assert!(page.contains("\nuts namespace (root)\n  why  "), "{page}");
        assert!(
            page.ends_with("requires what is not there: uts_namespace\n"),
            "{page}"
        );
        assert!(!page.contains("rules for TCP"), "{page}");
        let document = document(&findings);
        assert_eq!(document["standard_lacks"], json!(["uts_namespace"]));
        assert_eq!(document["user"]["uts_namespace"]["works"], json!(true));
        assert_eq!(document["root"]["landlock"]["works"], json!(false));
    }

    #[test]
    fn a_landlock_without_network_is_told_of() {
        for (version, told) in [("3", true), ("4", false)] {
            let own = probe(Role::Root, &[&format!("landlock works {version}")]);
            let page = page(&Findings { own, user: None });
            assert_eq!(page.contains("rules for TCP"), told, "{page}");
        }
    }

    #[test]
    fn what_is_only_preferred_is_no_failure() {
        let own = probe(
            Role::User,
            &["landlock fails 38 landlock", "keyring fails 38 keyctl"],
        );
        assert_eq!(blocked(&own), []);
        let findings = Findings { own, user: None };
        let page = page(&findings);
        assert!(
            page.contains("WHAT                         USER  FOR\n"),
            "{page}"
        );
        assert!(page.contains("Landlock                     no    strict; standard, if there\n"));
    }
}
