//! The catalogue of operations: files laid over each other, and what comes of them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::admin::catalogue::shipped::SHIPPED;
use crate::admin::catalogue::{Catalogue, Kind, Operation, Serve};
use crate::admin::operations::ALL;
use crate::table::isolation::{Level, Mechanism, Preset};

const MAIN: &str = "[service.echo]\nlisten = \"tcp:4007\"\nbuiltin = \"echo\"\n";

/// The table in a folder with these files of the catalogue.
fn try_files(files: &[(&str, &str)], root: bool) -> Result<Table, String> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("operations.d")).unwrap();
    fs::write(dir.path().join("usherd.toml"), MAIN).unwrap();
    for (name, text) in files {
        fs::write(dir.path().join("operations.d").join(name), text).unwrap();
    }
    let main = dir.path().join("usherd.toml");
    let loaded = load(Source::File(&main), &host(root));
    loaded.map(|loaded| loaded.table).map_err(|complaints| {
        let root = format!("{}/", dir.path().display());
        complaints.to_string().replace(&root, "")
    })
}

fn catalogue(files: &[(&str, &str)]) -> std::sync::Arc<Catalogue> {
    let table = try_files(files, true).unwrap_or_else(|complaints| panic!("{complaints}"));
    table.catalogue
}

fn operation<'c>(catalogue: &'c Catalogue, name: &str) -> &'c Operation {
    catalogue.named(name).unwrap()
}

const OWN: &str = r#"
[operation."site.publish"]
description = "Publishes the site"
exec = ["/usr/bin/publish", "--to={where}", "--", "{files}"]
dry_run_exec = ["/usr/bin/publish", "-n"]
user = "git"
operators = { users = ["alice"], groups = ["www", "adm"] }
services = true
time_limit = "2m"
output_limit = "1M"
concurrency = 1
rate = "10/m burst 3"
nice = 5
limits = { nofile = 64 }
env = { LANG = "C" }
isolation = { writable = ["{where}", "{state_dir}/site/"], capabilities = ["CHOWN"] }

[operation."site.publish".parameters]
where = { type = "path", roots = ["/srv/"], description = "Where to" }
files = { type = "string", list = true, default = ["index.html"] }
"#;

#[test]
fn shipped_operations_are_right_and_each_is_built_in() {
    let table = load_ok(MAIN);
    assert!(!table.catalogue.operations.is_empty());
    assert!(table.daemon.operations.is_empty());
    let names: Vec<&str> = table
        .catalogue
        .operations
        .iter()
        .map(|o| o.name.as_str())
        .collect();
    assert!(names.is_sorted());
    for operation in &table.catalogue.operations {
        if let Serve::Builtin(builtin) = &operation.serve {
            assert!(ALL.iter().any(|(name, _)| name == builtin), "{builtin}");
        }
        assert!(operation.description.len() > 10, "{}", operation.name);
    }
    // Tried as an operator's own, so that patterns and defaults are tried too.
    for (name, text) in SHIPPED {
        let text = format!("{text}\n# and a line of ours\n");
        let tried = try_files(&[(name, &text)], true);
        // Accounts of the shipped files need not be on this machine of the tests.
        if let Err(complaints) = tried {
            let others = complaints.lines().filter(|line| line.contains(".toml:"));
            let mut others = others.filter(|line| !line.contains("is named"));
            assert_eq!(others.next(), None, "{complaints}");
        }
    }
}

#[test]
fn every_shipped_file_is_built_in() {
    let mut there: Vec<String> = fs::read_dir("config/operations.d")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    there.sort();
    let mut built_in: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
    built_in.sort_unstable();
    assert_eq!(there, built_in);
}

#[test]
fn an_ordinary_user_has_the_same_operations() {
    let names = |table: &Table| -> Vec<String> {
        let all = table.catalogue.operations.iter();
        all.map(|operation| operation.name.clone()).collect()
    };
    let own = try_files(&[("own.toml", OWN)], false).unwrap();
    assert_eq!(
        names(&own),
        names(&try_files(&[("own.toml", OWN)], true).unwrap())
    );
    let publish = operation(&own.catalogue, "site.publish");
    assert_eq!(publish.exec.user, None);
    assert!(publish.enabled);
}

#[test]
fn keys_become_values() {
    let catalogue = catalogue(&[("own.toml", OWN)]);
    let publish = operation(&catalogue, "site.publish");
    assert_eq!(publish.operators.users, [1000]);
    assert_eq!(publish.operators.groups, [33, 4]);
    assert_eq!(
        publish.operators.names,
        ["user alice", "group www", "group adm"]
    );
    assert!(publish.services && publish.dry_run && publish.enabled);
    assert_eq!(publish.time_limit, Duration::from_secs(120));
    assert_eq!((publish.output_limit, publish.concurrency), (1 << 20, 1));
    assert_eq!(publish.rate.unwrap().burst, 3);
    let exec = &publish.exec;
    assert_eq!(exec.program, PathBuf::from("/proc/self/exe"));
    assert_eq!(exec.args, ["--administer"]);
    assert_eq!(exec.user.as_ref().unwrap().uid, 200);
    assert_eq!((exec.nice, exec.umask), (Some(5), 0o077));
    assert_eq!(exec.limits.len(), 1);
    let isolation = &exec.isolation;
    assert_eq!(isolation.preset, Preset::Strict);
    assert_eq!(isolation.level(Mechanism::UserNamespace), Level::Off);
    assert_eq!(
        isolation.writable,
        [PathBuf::from("{where}"), PathBuf::from("{state_dir}/site")]
    );
    assert_eq!(publish.parameters[0].name, "where");
    assert_eq!(
        publish.parameters[0].kind,
        Kind::Path {
            roots: vec![PathBuf::from("/srv")]
        }
    );
    assert!(publish.parameters[1].list);
}

#[test]
fn what_is_not_said_has_a_default() {
    let catalogue = catalogue(&[(
        "own.toml",
        "[operation.least]\ndescription = \"as little as there is\"\nexec = [\"/bin/true\"]\n",
    )]);
    let least = operation(&catalogue, "least");
    assert_eq!(least.exec.user.as_ref().unwrap().uid, 0);
    assert_eq!(least.exec.isolation.preset, Preset::Strict);
    assert_eq!(
        least.exec.isolation.level(Mechanism::UserNamespace),
        Level::Off
    );
    assert_eq!(least.exec.isolation.capabilities, Some(Vec::new()));
    assert_eq!(least.time_limit, Duration::from_secs(30));
    assert_eq!((least.output_limit, least.concurrency), (64 << 10, 4));
    assert!(least.operators.users.is_empty() && !least.services && !least.dry_run);
}

#[test]
fn later_files_change_single_keys() {
    let catalogue = catalogue(&[
        ("1.toml", OWN),
        (
            "2.toml",
            r#"
[operation."site.publish"]
time_limit = "1s"
operators = { users = ["git"] }
isolation = "standard"

[operation."site.publish".parameters]
where = { roots = ["/srv/www"] }
more = { type = "boolean", optional = true }
"#,
        ),
        ("3.toml", "[operation.\"report.host\"]\nenabled = false\n"),
        (
            "4.toml",
            "[operation.\"site.publish\".parameters.where]\ndescription = \"other words\"\n",
        ),
    ]);
    let publish = operation(&catalogue, "site.publish");
    assert_eq!(publish.time_limit, Duration::from_secs(1));
    assert_eq!(publish.concurrency, 1);
    assert_eq!(publish.operators.users, [200]);
    assert!(publish.operators.groups.is_empty(), "replaced as a whole");
    assert_eq!(publish.exec.isolation.preset, Preset::Standard);
    assert!(publish.exec.isolation.writable.is_empty());
    let names: Vec<&str> = publish.parameters.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["where", "files", "more"]);
    let place = &publish.parameters[0];
    assert_eq!(place.description, "other words");
    assert_eq!(
        place.kind,
        Kind::Path {
            roots: vec![PathBuf::from("/srv/www")]
        }
    );
    assert!(catalogue.find("report.host").is_none());
    assert!(!operation(&catalogue, "report.host").enabled);
}

#[test]
fn a_program_takes_the_place_of_a_built_in() {
    let catalogue = catalogue(&[(
        "own.toml",
        "[operation.\"report.host\"]\nexec = [\"/usr/bin/uptime\"]\n",
    )]);
    let report = operation(&catalogue, "report.host");
    assert!(matches!(&report.serve, Serve::Program { argv, .. } if argv == &["/usr/bin/uptime"]));
}

#[test]
fn a_copy_of_a_shipped_file_changes_nothing() {
    assert_eq!(catalogue(SHIPPED), load_ok(MAIN).catalogue);
}

#[test]
fn a_reload_sees_other_operations_and_where_they_are_is_in_the_effective_table() {
    let before = try_files(&[], true).unwrap();
    let after = try_files(&[("own.toml", OWN)], true).unwrap();
    let changed = Change::Daemon {
        keys: vec!["operations"],
    };
    let changed = [changed];
    assert_eq!(diff(&before, &after), changed);
    let mut same_files = after.clone();
    same_files.catalogue = before.catalogue.clone();
    assert_eq!(diff(&after, &same_files), changed);
    assert!(effective(&after).contains("/operations.d/own.toml\"]"));
    assert!(diff(&after, &after.clone()).is_empty());
}

#[test]
fn a_table_that_is_no_file_names_files_by_absolute_paths() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("own.toml"), OWN).unwrap();
    let text = |file: &str| format!("[daemon]\noperations = [\"{file}\"]\n{MAIN}");
    let pattern = format!("{}/*.toml", dir.path().display());
    let table = load_ok(&text(&pattern));
    assert!(table.catalogue.find("site.publish").is_some());
    let again = load_ok(&effective(&table));
    assert_eq!(again, table);
    assert!(complaints(&text("own.toml"), true).contains("is no file"));
}
