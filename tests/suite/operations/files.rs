//! `file.install` below roots of the test's own, and `package.*` on a copy of the host's
//! packages that only this test's daemon sees.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use usherd::control::client::ClientError;

use super::runtime::catalogue;
use super::{failed, run, run_dry};
use crate::common::*;
use crate::control::{cat, refused};
use crate::tests;

tests![
    a_file_is_installed_below_a_root_and_nowhere_else,
    what_is_in_the_way_of_a_file_is_not_followed,
    packages_are_installed_from_the_list_alone: 180,
    a_package_that_fails_is_taken_back: 180,
    a_package_is_configured_anew: 180,
];

fn done(outcome: Result<Value, ClientError>) -> Value {
    outcome.unwrap_or_else(|err| panic!("{err:?}"))
}

fn with_roots(dir: &Dir) -> Daemon {
    needs_root();
    let root = dir.open_folder("root");
    catalogue(
        dir,
        &format!("[operation.\"file.install\".parameters]\npath = {{ roots = [\"{root}\"] }}\n"),
    );
    Daemon::start(dir, &cat(free_port(), ""))
}

fn a_file_is_installed_below_a_root_and_nowhere_else() {
    let dir = Dir::new();
    let _daemon = with_roots(&dir);
    let path = dir.file("root/app.conf");
    let wanted = json!({ "path": path, "content": "a = 1\n\u{e4}\n", "mode": "640", "owner": "games", "group": "mail" });
    let would = done(run_dry(&dir, "file.install", &wanted));
    assert_eq!(would["changed"], json!(true));
    assert!(!Path::new(&path).exists());
    done(run(&dir, "file.install", &wanted));
    let meta = fs::metadata(&path).unwrap();
    assert_eq!(
        (meta.mode() & 0o7777, meta.uid(), meta.gid()),
        (0o640, 5, 8)
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "a = 1\n\u{e4}\n");
    // It stays whose it is, and what it was is kept.
    let second = done(run(
        &dir,
        "file.install",
        &json!({ "path": path, "content": "a = 2\n" }),
    ));
    assert_eq!(second["kept_as"], json!(format!("{path}.usherd-old")));
    let old = format!("{path}.usherd-old");
    assert_eq!(fs::read_to_string(old).unwrap(), "a = 1\n\u{e4}\n");
    let meta = fs::metadata(&path).unwrap();
    assert_eq!(
        (meta.mode() & 0o7777, meta.uid(), meta.gid()),
        (0o640, 5, 8)
    );
    let same = done(run(
        &dir,
        "file.install",
        &json!({ "path": path, "content": "a = 2\n" }),
    ));
    assert_eq!(same["changed"], json!(false));
    let nobody = json!({ "path": path, "content": "", "owner": "usherd-nobody" });
    assert_eq!(failed(run(&dir, "file.install", &nobody)).0, "not_found");
    for odd in [
        json!({ "path": dir.file("app.conf"), "content": "" }),
        json!({ "path": dir.file("root/../app.conf"), "content": "" }),
        json!({ "path": "/etc/passwd", "content": "" }),
        json!({ "path": path, "content": "", "mode": "4755" }),
        json!({ "path": path, "content": 7 }),
    ] {
        let (error, _) = refused(run(&dir, "file.install", &odd));
        assert!(error.ends_with(".WrongParameter"), "{error}: {odd}");
    }
}

fn what_is_in_the_way_of_a_file_is_not_followed() {
    let dir = Dir::new();
    let _daemon = with_roots(&dir);
    let secret = dir.write("secret", "root's");
    let outside = dir.open_folder("outside");
    symlink(&secret, dir.file("root/pointer")).unwrap();
    fs::create_dir(dir.file("root/theirs")).unwrap();
    std::os::unix::fs::chown(dir.file("root/theirs"), Some(5), Some(5)).unwrap();
    symlink("../../outside", dir.file("root/theirs/folder")).unwrap();
    std::os::unix::fs::lchown(dir.file("root/theirs/folder"), Some(5), Some(5)).unwrap();
    let install = |path: &str| {
        run(
            &dir,
            "file.install",
            &json!({ "path": dir.file(path), "content": "x" }),
        )
    };
    assert_eq!(failed(install("root/pointer")).0, "forbidden");
    assert!(install("root/theirs/folder/app.conf").is_err());
    assert!(install("root/none/app.conf").is_err());
    done(install("root/theirs/app.conf"));
    // What root has linked leads where root wants it to.
    fs::create_dir(dir.file("root/real")).unwrap();
    symlink("real", dir.file("root/linked")).unwrap();
    done(install("root/linked/app.conf"));
    assert!(fs::exists(dir.file("root/real/app.conf")).unwrap());
    assert_eq!(fs::read_to_string(&secret).unwrap(), "root's");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let mode = fs::metadata(dir.file("root/theirs/app.conf"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o644);
}

/// A package in the test's own repository.
struct Package<'a> {
    name: &'a str,
    version: &'a str,
    /// More lines of its control file.
    control: &'a str,
    /// Files of DEBIAN/, with their contents.
    scripts: &'a [(&'a str, &'a str)],
}

impl Package<'_> {
    /// Its entry in the list of packages.
    fn build(&self, dir: &Dir) -> String {
        let (name, version) = (self.name, self.version);
        let tree = dir.path().join(format!("tree-{name}-{version}"));
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        fs::create_dir_all(tree.join("opt")).unwrap();
        fs::write(tree.join("opt").join(name), version).unwrap();
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@example.org>\n\
             Description: a test of usherd\n{}",
            self.control
        );
        fs::write(tree.join("DEBIAN/control"), &control).unwrap();
        for (script, text) in self.scripts {
            let path = tree.join("DEBIAN").join(script);
            fs::write(&path, text).unwrap();
            set_mode(&path, 0o755);
        }
        set_mode(&tree, 0o755);
        set_mode(&tree.join("DEBIAN"), 0o755);
        let file = format!("repository/{name}_{version}_all.deb");
        let built = Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .args([tree.to_str().unwrap(), &dir.file(&file)])
            .output()
            .unwrap();
        assert!(built.status.success(), "{built:?}");
        let sum = Command::new("sha256sum")
            .arg(dir.file(&file))
            .output()
            .unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        let size = fs::metadata(dir.file(&file)).unwrap().len();
        let (file, sum) = (&file["repository/".len()..], sum.split(' ').next().unwrap());
        format!("{control}Filename: {file}\nSize: {size}\nSHA256: {sum}\n\n")
    }
}

/// A daemon for which the host's packages are copies in memory, and its sources are ours.
fn with_packages(dir: &Dir, packages: &[Package<'_>]) -> Daemon {
    needs_root();
    let _ = needs("apt-get", "apt");
    let _ = needs("dpkg-deb", "dpkg");
    fs::create_dir(dir.file("repository")).unwrap();
    let list: String = packages.iter().map(|one| one.build(dir)).collect();
    dir.write("repository/Packages", list);
    let repository = dir.file("repository");
    let source = format!("deb [trusted=yes] copy:{repository} ./\n");
    let source = dir.write("test.list", source);
    let script = format!(
        "set -e\nfor d in /etc/apt /var/lib/dpkg /var/lib/apt /var/cache/apt /var/cache/debconf /var/log /opt; do\n\
         mkdir -p $d; m={}/copy$d; mkdir -p $m; mount -t tmpfs none $m; cp -a $d/. $m/; mount --bind $m $d\ndone\n\
         rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/* /etc/apt/apt.conf.d/*\n\
         cp {source} /etc/apt/sources.list.d/\nexec \"$@\"\n",
        dir.path().display()
    );
    let script = dir.write("private", script);
    catalogue(
        dir,
        "[operation.\"package.install\".parameters]\npackages = { allow = [\"usherd-test-*\"] }\n\
         [operation.\"package.configure\".parameters]\npackage = { allow = [\"usherd-test-*\"] }\n",
    );
    let through = ["unshare", "--mount", "sh", &script];
    let services = cat(free_port(), "");
    Setup::new(dir, &services).through(&through).start()
}

/// A file as the daemon sees it.
fn seen(daemon: &Daemon, path: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{}/root{path}", daemon.pid)).ok()
}

const PLAIN: Package<'_> = Package {
    name: "usherd-test-one",
    version: "1.0",
    control: "",
    scripts: &[],
};

fn packages_are_installed_from_the_list_alone() {
    let dir = Dir::new();
    let more = Package {
        name: "usherd-test-two",
        control: "Depends: usherd-test-one\n",
        ..PLAIN
    };
    let hostile = Package {
        name: "usherd-test-three",
        control: "Conflicts: usherd-test-one\n",
        ..PLAIN
    };
    let newer = Package {
        version: "2.0",
        ..PLAIN
    };
    let daemon = with_packages(&dir, &[PLAIN, more, hostile]);
    let install = |names: &[&str]| run(&dir, "package.install", &json!({ "packages": names }));
    assert_eq!(
        failed(install(&["usherd-test-one"])).0,
        "not_found",
        "before the first update"
    );
    let updated = done(run(&dir, "package.update", &json!({})));
    assert_eq!(updated["upgradable"], json!([]));
    let two = json!({ "packages": ["usherd-test-two"] });
    let both = json!([
        { "name": "usherd-test-one", "version": "1.0" },
        { "name": "usherd-test-two", "version": "1.0" },
    ]);
    assert_eq!(
        done(run_dry(&dir, "package.install", &two))["installed"],
        both
    );
    assert_eq!(seen(&daemon, "/opt/usherd-test-two"), None);
    let result = done(install(&["usherd-test-two"]));
    assert_eq!(
        result,
        json!({ "installed": both, "upgraded": [], "removed": [] })
    );
    assert_eq!(
        seen(&daemon, "/opt/usherd-test-two").as_deref(),
        Some("1.0")
    );
    // Nothing goes to make room, and nothing that is not listed comes by name.
    let (kind, reason) = failed(install(&["usherd-test-three"]));
    assert_eq!(kind, "forbidden", "{reason}");
    for odd in [
        "bash",
        "usherd-test-one-",
        "usherd-test-one/x",
        "-y",
        "usherd-test-one=1",
    ] {
        let (error, _) = refused(install(&[odd]));
        assert!(error.ends_with(".WrongParameter"), "{odd}: {error}");
    }
    assert_eq!(failed(install(&["usherd-test-none"])).0, "not_found");

    let list = newer.build(&dir);
    dir.write("repository/Packages", list);
    let updated = done(run(&dir, "package.update", &json!({})));
    let newer = json!([{ "name": "usherd-test-one", "from": "1.0", "version": "2.0" }]);
    assert_eq!(updated["upgradable"], newer);
    assert_eq!(done(install(&["usherd-test-one"]))["upgraded"], newer);
    // Nothing of it is on the host itself.
    assert!(!Path::new("/opt/usherd-test-one").exists());
}

fn a_package_that_fails_is_taken_back() {
    let dir = Dir::new();
    let broken = Package {
        name: "usherd-test-broken",
        control: "Depends: usherd-test-one\n",
        scripts: &[("postinst", "#!/bin/sh\necho it is broken >&2\nexit 7\n")],
        ..PLAIN
    };
    let daemon = with_packages(&dir, &[PLAIN, broken]);
    done(run(&dir, "package.update", &json!({})));
    let wanted = json!({ "packages": ["usherd-test-broken"] });
    let (kind, reason) = failed(run(&dir, "package.install", &wanted));
    assert_eq!(kind, "failed", "{reason}");
    assert!(!reason.contains("half installed"), "{reason}");
    for file in ["/opt/usherd-test-broken", "/opt/usherd-test-one"] {
        assert_eq!(seen(&daemon, file), None, "{reason}");
    }
    // Whatever holds the lock is waited for by whoever asked, not by us.
    let status = seen(&daemon, "/var/lib/dpkg/status").unwrap();
    assert!(!status.contains("usherd-test-"), "{reason}");
}

fn a_package_is_configured_anew() {
    let dir = Dir::new();
    if !Path::new("/usr/share/debconf/confmodule").exists() {
        skip("needs /usr/share/debconf/confmodule (package debconf)");
    }
    let asks = Package {
        name: "usherd-test-asks",
        scripts: &[
            (
                "templates",
                "Template: usherd-test-asks/colour\nType: string\nDefault: blue\nDescription: Which colour?\n",
            ),
            (
                "config",
                "#!/bin/sh\n. /usr/share/debconf/confmodule\ndb_input medium usherd-test-asks/colour || true\ndb_go || true\n",
            ),
            (
                "postinst",
                "#!/bin/sh\nset -e\n. /usr/share/debconf/confmodule\ndb_get usherd-test-asks/colour\necho \"$RET\" >/opt/colour\n",
            ),
        ],
        ..PLAIN
    };
    let daemon = with_packages(&dir, &[asks]);
    done(run(&dir, "package.update", &json!({})));
    done(run(
        &dir,
        "package.install",
        &json!({ "packages": ["usherd-test-asks"] }),
    ));
    assert_eq!(seen(&daemon, "/opt/colour").as_deref(), Some("blue\n"));
    let answers = json!({ "package": "usherd-test-asks", "answers": ["usherd-test-asks/colour string dark red"] });
    done(run_dry(&dir, "package.configure", &answers));
    assert_eq!(seen(&daemon, "/opt/colour").as_deref(), Some("blue\n"));
    let result = done(run(&dir, "package.configure", &answers));
    assert_eq!(seen(&daemon, "/opt/colour").as_deref(), Some("dark red\n"));
    let before = "usherd-test-asks usherd-test-asks/colour string blue\n";
    assert_eq!(result["answers_before"], json!(before));
    let other =
        json!({ "package": "usherd-test-asks", "answers": ["debconf/priority select low"] });
    assert_eq!(
        failed(run(&dir, "package.configure", &other)).0,
        "forbidden"
    );
    assert_eq!(
        failed(run(
            &dir,
            "package.configure",
            &json!({ "package": "usherd-test-none" })
        ))
        .0,
        "not_found"
    );
    let none = done(run(&dir, "package.configure", &json!({})));
    assert_eq!(
        none,
        json!({ "installed": [], "upgraded": [], "removed": [] })
    );
}
