//! Services put together from several places: drop-ins, layers, `from`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use super::*;

/// A folder with these files, loaded by its `usherd.toml`.
fn load_files(files: &[(&str, &str)]) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let main = dir.path().join("usherd.toml");
    load(Source::File(&main), &host(true)).map_err(|complaints| {
        let root = format!("{}/", dir.path().display());
        complaints.to_string().replace(&root, "")
    })
}

fn table_of(files: &[(&str, &str)]) -> Table {
    let loaded = load_files(files).unwrap_or_else(|complaints| panic!("{complaints}"));
    loaded.table
}

fn service<'t>(table: &'t Table, name: &str) -> &'t Service {
    let mut services = table.services.iter();
    services.find(|s| s.name == name).unwrap()
}

fn value<'t>(lines: &'t effective::Lines, key: &str) -> &'t str {
    let line = lines.iter().find(|(name, _)| *name == key);
    line.map_or("", |(_, value)| value)
}

/// The lines of a service that are told apart from those of another table.
fn differs(files: &[(&str, &str)], plain: &str) {
    let (put_together, plain) = (table_of(files), load_ok(plain));
    assert_eq!(effective(&put_together), effective(&plain));
}

const SITE: &str = r#"
[service.site]
listen = "tcp:4000"
exec = ["/bin/cat"]
user = "nobody"
isolation = "strict"
limits = { nofile = 100, core = "0" }
env = { A = "1", B = "2" }
allow = ["192.0.2.0/24"]
"#;

#[test]
fn a_drop_in_changes_single_keys() {
    differs(
        &[
            ("usherd.toml", "include = [\"s.d/*.toml\"]"),
            ("s.d/site.toml", SITE),
            (
                "s.d/site.toml.d/10.toml",
                "[service.site]\nlimits.nofile = 7\nenv = { B = \"3\", C = \"4\" }\ninstances = 5\n",
            ),
            (
                "s.d/site.toml.d/20.toml",
                "[service.site]\ninstances = 6\nunset = [\"allow\", \"env.A\", \"env.NONE\"]\n\
                 isolation = { network = \"host\" }\n",
            ),
        ],
        r#"
[service.site]
listen = "tcp:4000"
exec = ["/bin/cat"]
user = "nobody"
isolation = { preset = "strict", network = "host" }
limits = { core = "0", nofile = 7 }
env = { B = "3", C = "4" }
instances = 6
"#,
    );
}

#[test]
fn what_is_unset_and_set_in_one_drop_in_is_there_anew() {
    let files = [
        ("usherd.toml", SITE),
        (
            "usherd.toml.d/a.toml",
            "[service.site]\nunset = [\"limits\", \"isolation\"]\nlimits = { nofile = 9 }\nisolation.home = \"hidden\"\n",
        ),
    ];
    let table = table_of(&files);
    let Serve::Exec(exec) = &service(&table, "site").serve else {
        panic!("no exec");
    };
    assert_eq!(exec.limits.len(), 1);
    assert_eq!(exec.isolation.preset.name(), "standard");
}

#[test]
fn a_layer_above_replaces_masks_and_changes() {
    let table = table_of(&[
        (
            "usherd.toml",
            "include = [\"s.d/*.toml\"]\nlayers = [\"lib\", \"local\"]",
        ),
        (
            "lib/s.d/a.toml",
            "[service.a]\nlisten = \"tcp:4000\"\nbuiltin = \"echo\"\n",
        ),
        (
            "s.d/a.toml",
            "[service.b]\nlisten = \"tcp:4001\"\nbuiltin = \"time\"\n",
        ),
        (
            "lib/s.d/masked.toml",
            "[service.m]\nlisten = \"tcp:4002\"\nbuiltin = \"echo\"\n",
        ),
        ("s.d/masked.toml", ""),
        ("s.d/masked.toml.d/x.toml", "[service.m]\ninstances = 7\n"),
        (
            "lib/s.d/c.toml",
            "[service.c]\nlisten = \"tcp:4003\"\nbuiltin = \"echo\"\n",
        ),
        (
            "lib/s.d/c.toml.d/z.toml",
            "[service.c]\ninstances = 1\nper_source = 3\n",
        ),
        (
            "local/s.d/c.toml.d/y.toml",
            "[service.c]\ninstances = 2\nmax_load = 1.5\n",
        ),
        ("s.d/c.toml.d/a.toml", "[service.c]\ninstances = 3\n"),
        ("s.d/c.toml.d/y.toml", "[service.c]\n"),
    ]);
    let names: Vec<&str> = table.services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["b", "c"]);
    let rules = &service(&table, "c").rules;
    assert_eq!((rules.instances, rules.per_source), (3, Some(3)));
    assert_eq!(rules.max_load, None, "its drop-in is replaced");
}

#[test]
fn a_link_to_the_null_device_masks_too() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for folder in ["lib/s.d", "s.d"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    fs::write(
        at("usherd.toml"),
        "include = [\"s.d/*.toml\"]\nlayers = [\"lib\"]",
    )
    .unwrap();
    for name in ["a", "b"] {
        let text = format!("[service.{name}]\nlisten = \"unix:/tmp/{name}\"\nbuiltin = \"echo\"\n");
        fs::write(at(&format!("lib/s.d/{name}.toml")), text).unwrap();
    }
    let load = || {
        let loaded = load(Source::File(&at("usherd.toml")), &host(true)).unwrap();
        loaded.table.services.len()
    };
    assert_eq!(load(), 2);
    for (name, left) in [("a", 1), ("b", 0)] {
        let link = at(&format!("s.d/{name}.toml"));
        std::os::unix::fs::symlink(Path::new("/dev/null"), link).unwrap();
        assert_eq!(load(), left);
    }
}

#[test]
fn from_goes_through_several_and_needs_no_order() {
    let table = load_ok(
        r#"
[service.child]
from = "parent"
match = { tls.sni = "child.example" }
limits = { nofile = 7 }
isolation = { network = "host" }

[service.parent]
from = "site"
unset = ["allow"]
description = "the middle"
match = { tls.sni = "parent.example" }
limits = { nofile = 6, cpu = "1m" }

[service.site]
enabled = false
listen = "tcp:4000"
exec = ["/bin/cat"]
user = "nobody"
isolation = "strict"
limits = { nofile = 100, core = "0" }
allow = ["192.0.2.0/24"]
"#,
    );
    let [child, parent, site] = ["child", "parent", "site"].map(|n| service(&table, n));
    assert!(child.enabled && parent.enabled && !site.enabled);
    assert_eq!(child.description, None);
    assert_eq!(child.listen, site.listen);
    assert!(child.rules.access.allow.is_none() && site.rules.access.allow.is_some());
    let lines = effective::service_lines(child);
    assert_eq!(
        value(&lines, "limits"),
        "{ core = { soft = \"0B\", hard = \"0B\" }, cpu = { soft = \"1m\", hard = \"1m\" }, nofile = { soft = 7, hard = 7 } }"
    );
    let Serve::Exec(exec) = &child.serve else {
        panic!("no exec");
    };
    assert_eq!(exec.isolation.preset.name(), "strict");
    assert_eq!(exec.isolation.network, isolation::Network::Host);
}

#[test]
fn what_is_only_there_to_be_taken_from_need_not_be_whole() {
    let table = load_ok(
        "[service.t]\nenabled = false\nexec = [\"/bin/cat\"]\nisolation = \"none\"\n\
         [service.a]\nfrom = \"t\"\nlisten = \"tcp:4000\"\nuser = \"nobody\"\n",
    );
    let names: Vec<&str> = table.services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["a"]);
    let alone = "[service.t]\nenabled = false\nexec = [\"/bin/cat\"]\n";
    assert!(complaints(alone, true).contains("no address to listen at"));
}

#[test]
fn a_drop_in_may_say_from_and_its_complaints_are_its_own() {
    let files = |more: &'static str| {
        [
            ("usherd.toml", "include = [\"s.d/*.toml\"]"),
            ("s.d/a.toml", "[service.a]\nlisten = \"tcp:4001\"\n"),
            ("s.d/a.toml.d/x.toml", more),
            ("s.d/z.toml", SITE),
        ]
    };
    let table = table_of(&files(
        "[service.a]\nfrom = \"site\"\nunset = [\"allow\"]\n",
    ));
    assert!(service(&table, "a").rules.access.allow.is_none());
    let said = load_files(&files("[service.a]\n\nfrom = \"site\"\ninstances = -1\n")).unwrap_err();
    assert!(
        said.starts_with("s.d/a.toml.d/x.toml:4:13: expected a whole number"),
        "{said}"
    );
}

#[test]
fn a_condition_that_fails_disables() {
    let text = |only_if: &str| {
        format!(
            "[service.a]\nlisten = \"tcp:21\"\nexec = [\"/bin/cat\"]\nuser = \"none-such\"\nonly_if = {only_if}\n"
        )
    };
    // No account, and no complaint either.
    let table = load_ok(&text("{ path_exists = [\"/bin\", \"/usr/bin/missing\"] }"));
    let a = service(&table, "a");
    assert!(!a.enabled);
    assert_eq!(
        a.unmet.as_deref(),
        Some("only_if: /usr/bin/missing is not there")
    );
    let table = load_ok(&text("{ host = \"other*\" }"));
    let reason = service(&table, "a").unmet.clone().unwrap();
    assert!(reason.starts_with("only_if: this host is \""), "{reason}");
    let written = effective(&table);
    assert!(written.contains("enabled = true"), "{written}");
    assert!(load_ok(&written) == table);

    let holds = text("{ path_missing = \"/usr/bin/missing\", host = \"*\" }");
    assert!(complaints(&holds, true).contains("none-such"));
}

#[test]
fn another_answer_to_a_condition_is_a_change() {
    let table = |path: &str| {
        load_ok(&format!(
            "[service.a]\nlisten = \"tcp:4000\"\nbuiltin = \"echo\"\nonly_if = {{ path_exists = \"{path}\" }}\n"
        ))
    };
    let met = table("/bin");
    let mut unmet = met.clone();
    unmet.services[0].enabled = false;
    unmet.services[0].unmet = Some("only_if: /bin is not there".to_owned());
    let said: Vec<String> = diff(&met, &unmet).iter().map(ToString::to_string).collect();
    assert_eq!(said, ["service \"a\" changed: only_if"]);
}
