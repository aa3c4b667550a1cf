#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use nix::fcntl::openat;
use nix::sys::stat::mkdirat;
use tempfile::TempDir;

use super::manifest::{Archive, What, hex};
use super::*;
use crate::admin::operations::{Caller, Parameters, Places};

/// A service "mail" whose state is "mail-state"; `running` instances.
struct Fake {
    running: u64,
    /// Somebody thaws it behind our back.
    lets_go: bool,
    /// Other services with the same state.
    sharing: Vec<&'static str>,
    /// Whose servers cannot be stopped.
    busy: Option<&'static str>,
    called: Vec<String>,
}

impl Usherd for Fake {
    fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Failed> {
        let about = parameters["service"].as_str().unwrap_or_default();
        self.called.push(match about {
            "mail" => method.to_owned(),
            other => format!("{method} {other}"),
        });
        if method == "Freeze" && self.busy == Some(about) {
            return Err(Failed::new(Kind::Busy, "somebody else has frozen it"));
        }
        Ok(match method {
            "Describe" if parameters["service"] == "stateless" => json!({ "keys": [] }),
            "Describe" => json!({ "keys": [
                { "key": "user", "value": "\"mail\"" },
                { "key": "state", "value": "\"mail-state\"" },
            ], "sharing": self.sharing }),
            "Freeze" => json!({ "instances": self.running }),
            "GetRunning" => {
                let all: Vec<Value> = (0..self.running).map(|id| json!({ "id": id })).collect();
                json!({ "instances": all })
            }
            "Thaw" => json!({ "was_frozen": !self.lets_go }),
            other => panic!("{other} is none of its calls"),
        })
    }

    fn progress(&mut self, _: &str) {}
}

struct World {
    dir: TempDir,
    usherd: Fake,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("lib/mail-state");
        fs::create_dir_all(state.join("spool/deep")).unwrap();
        Former::of(&dir.path().join("lib"), "mail-state").unwrap();
        fs::write(state.join("spool/deep/one"), "one\n".repeat(10_000)).unwrap();
        fs::write(state.join("spool/empty"), "").unwrap();
        fs::write(state.join("tool"), "#!/bin/sh\n").unwrap();
        let mode = |mode| fs::Permissions::from_mode(mode);
        fs::set_permissions(state.join("tool"), mode(0o4750)).unwrap();
        fs::set_permissions(state.join("spool"), mode(0o2500)).unwrap();
        symlink("/etc/shadow", state.join("away")).unwrap();
        for (name, target) in [
            ("again", "spool//./deep/../deep/".to_owned()),
            ("long", "/x//".repeat(30)),
            ("long-to-short", "/".repeat(300) + "x"),
            ("exact", "x".repeat(100)),
        ] {
            symlink(target, state.join(name)).unwrap();
        }
        nix::unistd::mkfifo(&state.join("pipe"), Mode::S_IRUSR).unwrap();
        let usherd = Fake {
            running: 0,
            lets_go: false,
            sharing: Vec::new(),
            busy: None,
            called: Vec::new(),
        };
        Self { dir, usherd }
    }

    fn states(&self) -> PathBuf {
        self.dir.path().join("lib")
    }

    fn state(&self) -> PathBuf {
        self.states().join("mail-state")
    }

    /// What was asked of usherd since, but for what the table says.
    fn stood_still(&mut self) -> Vec<String> {
        let called = std::mem::take(&mut self.usherd.called).into_iter();
        called.filter(|call| call != "Describe").collect()
    }

    /// How many there are, with former and new ones.
    fn all_states(&self) -> usize {
        let count = |dir: PathBuf| fs::read_dir(dir).unwrap().count();
        count(self.states()) - 1 + count(self.states().join("usherd-old"))
    }

    fn request(&self, parameters: Value) -> Request {
        let Value::Object(parameters) = parameters else {
            panic!("an object");
        };
        Request {
            operation: "backup".into(),
            parameters: Parameters(parameters),
            dry_run: false,
            caller: Caller {
                uid: 0,
                service: None,
                instance: None,
            },
            places: Places {
                state_dir: self.dir.path().join("usherd"),
                runtime_dir: self.dir.path().join("run"),
                table: None,
                host: "host".into(),
            },
        }
    }

    fn create(&mut self) -> Value {
        let request = self.request(json!({ "service": "mail", "note": "first" }));
        create_in(&self.states(), 30, &request, &mut self.usherd).unwrap()
    }

    fn restore(&mut self, more: Value) -> Outcome {
        let request = self.request(more);
        restore_in(&self.states(), 10, &request, &mut self.usherd)
    }

    fn verify(&mut self, id: &Value) -> Value {
        let request = self.request(json!({ "id": id }));
        verify(&request, &mut self.usherd).unwrap()
    }

    fn files(&self, id: &Value) -> [PathBuf; 2] {
        let dir = self.dir.path().join("usherd/backups/mail");
        let id = id.as_str().unwrap();
        [
            dir.join(format!("{id}.tar.zst")),
            dir.join(format!("{id}.json")),
        ]
    }
}

/// Everything that a restore must bring back.
fn picture(root: &Path) -> BTreeMap<PathBuf, (u32, i64, String)> {
    let mut seen = BTreeMap::new();
    let mut look = vec![root.to_owned()];
    while let Some(path) = look.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let what = if about.is_dir() {
            look.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            "directory".to_owned()
        } else if about.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if about.is_file() {
            String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
        } else {
            continue;
        };
        let mode = if about.is_symlink() { 0 } else { about.mode() };
        let path = path.strip_prefix(root).unwrap().to_owned();
        seen.insert(path, (mode, about.mtime(), what));
    }
    seen
}

/// Directories that something was in for a while are changed.
fn without_times(root: &Path) -> BTreeMap<PathBuf, (u32, i64, String)> {
    let mut seen = picture(root);
    seen.values_mut().for_each(|(_, time, _)| *time = 0);
    seen
}

#[test]
fn what_was_backed_up_comes_back_whole_and_the_old_state_is_kept() {
    let mut world = World::new();
    let before = picture(&world.state());
    let made = world.create();
    assert_eq!(made["files"], before.len());
    assert_eq!(made["note"], "first");
    assert_eq!(made["skipped_first"][0]["path"], "pipe");
    assert_eq!(made["skipped"], 1);
    assert_eq!(world.usherd.called, ["Describe", "Freeze", "Thaw"]);
    for file in world.files(&made["id"]) {
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
    }
    fs::remove_file(world.state().join("tool")).unwrap();
    fs::write(world.state().join("new"), "new").unwrap();
    let changed = picture(&world.state());
    let restored = world
        .restore(json!({ "id": made["id"], "service": "mail" }))
        .unwrap();
    assert_eq!(picture(&world.state()), before);
    let old = PathBuf::from(restored["old"].as_str().unwrap());
    assert_eq!(picture(&old), changed);
    assert_eq!(world.all_states(), 2, "nothing else is left");
}

#[test]
fn a_state_that_is_gone_comes_back() {
    let mut world = World::new();
    let before = picture(&world.state());
    let made = world.create();
    fs::rename(world.state(), world.dir.path().join("gone")).unwrap();
    let restored = world.restore(json!({ "id": made["id"] })).unwrap();
    assert_eq!(restored["old"], Value::Null);
    assert_eq!(picture(&world.state()), before);
}

#[test]
fn servers_that_run_are_not_left_with_the_old_state_unasked() {
    let mut world = World::new();
    let made = world.create();
    world.usherd.running = 2;
    let before = picture(&world.state());
    let mut dry = world.request(json!({ "id": made["id"] }));
    dry.dry_run = true;
    let would = restore_in(&world.states(), 10, &dry, &mut world.usherd).unwrap_err();
    let failed = world.restore(json!({ "id": made["id"] })).unwrap_err();
    assert_eq!(failed.kind, Kind::Busy);
    assert_eq!(would, failed);
    assert_eq!(picture(&world.state()), before);
    assert_eq!(world.all_states(), 1);
    assert_eq!(world.usherd.called.last().unwrap(), "Thaw");
    let asked = json!({ "id": made["id"], "while_running": true });
    assert_eq!(world.restore(asked).unwrap()["running_with_old"], 2);
}

#[test]
fn a_backup_of_servers_that_were_let_go_is_none() {
    let mut world = World::new();
    world.usherd.lets_go = true;
    let request = world.request(json!({ "service": "mail" }));
    let failed = create_in(&world.states(), 30, &request, &mut world.usherd).unwrap_err();
    assert_eq!(failed.kind, Kind::Busy);
    let request = world.request(json!({}));
    let listed = list(&request, &mut world.usherd).unwrap();
    assert_eq!(listed["backups"], json!([]));
    let dir = world.dir.path().join("usherd/backups/mail");
    assert_eq!(
        fs::read_dir(dir).unwrap().count(),
        1,
        "nothing but the lock"
    );
}

#[test]
fn every_flipped_octet_is_found() {
    let mut world = World::new();
    let made = world.create();
    assert_eq!(world.verify(&made["id"])["intact"], true);
    for file in world.files(&made["id"]) {
        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&file, &bad).unwrap();
            let verdict = world.verify(&made["id"]);
            assert_eq!(verdict["intact"], false, "octet {at} of {}", file.display());
        }
        for bad in [&good[..good.len() - 1], &[good.as_slice(), b"\0"].concat()] {
            fs::write(&file, bad).unwrap();
            assert_eq!(world.verify(&made["id"])["intact"], false);
        }
        fs::write(&file, good).unwrap();
    }
    let before = picture(&world.state());
    let [archive, _] = world.files(&made["id"]);
    fs::write(archive, "no archive at all").unwrap();
    world.restore(json!({ "id": made["id"] })).unwrap_err();
    assert_eq!(picture(&world.state()), before);
    assert_eq!(world.all_states(), 1);
}

/// An archive with one entry more, its manifest as `change` has it.
fn forged(world: &mut World, change: impl Fn(&mut tar::Builder<Vec<u8>>, &mut Manifest)) -> Value {
    let made = world.create();
    let [archive, file] = world.files(&made["id"]);
    let (mut manifest, _) = Manifest::open(&fs::read_to_string(&file).unwrap()).unwrap();
    manifest.files.truncate(1);
    let mut tar = tar::Builder::new(Vec::new());
    let mut root = tar::Header::new_gnu();
    root.set_entry_type(tar::EntryType::Directory);
    root.set_size(0);
    tar.append_data(&mut root, ".", std::io::empty()).unwrap();
    change(&mut tar, &mut manifest);
    let packed = zstd::encode_all(tar.into_inner().unwrap().as_slice(), 1).unwrap();
    use sha2::Digest;
    manifest.archive = Archive {
        size: packed.len() as u64,
        sha256: hex(&sha2::Sha256::digest(&packed)),
    };
    fs::write(archive, packed).unwrap();
    fs::write(file, manifest.seal().unwrap().0).unwrap();
    made["id"].clone()
}

#[test]
fn what_a_hostile_archive_holds_is_put_nowhere() {
    let hash = hex(&<sha2::Sha256 as sha2::Digest>::digest(b"x"));
    let file = |path: &str| {
        let what = What::File {
            size: 1,
            sha256: hash.clone(),
        };
        manifest::tests::entry(path, what)
    };
    type Change<'a> = Box<dyn Fn(&mut tar::Builder<Vec<u8>>, &mut Manifest) + 'a>;
    let append = |kind: tar::EntryType, path: &'static [u8]| {
        move |tar: &mut tar::Builder<Vec<u8>>| {
            let mut header = tar::Header::new_old();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path);
            header.set_entry_type(kind);
            header.as_mut_bytes()[157..160].copy_from_slice(b"/tm");
            header.set_size(u64::from(kind.is_file()));
            header.set_mode(0o600);
            header.set_cksum();
            let data: &[u8] = if kind.is_file() { b"x" } else { b"" };
            tar.append(&header, data).unwrap();
        }
    };
    use tar::EntryType as Is;
    let named = |path: &'static str, kind| -> Change<'_> {
        let (append, file) = (append(kind, path.as_bytes()), file(path));
        Box::new(move |tar, manifest| {
            append(tar);
            manifest.files.push(file.clone());
        })
    };
    let unnamed = |path: &'static str, kind| -> Change<'_> {
        let append = append(kind, path.as_bytes());
        Box::new(move |tar, _| append(tar))
    };
    let through_a_link: Change<'_> = {
        let (link, below) = (append(Is::Symlink, b"l"), append(Is::Regular, b"l/x"));
        let target = "/tm".to_owned();
        let entry = manifest::tests::entry("l", What::Link { target });
        let file = file("l/x");
        Box::new(move |tar, manifest| {
            link(tar);
            below(tar);
            manifest.files.extend([entry.clone(), file.clone()]);
        })
    };
    for (what, change) in [
        ("parent", named("../x", Is::Regular)),
        ("absolute", named("/tmp/usherd-escaped", Is::Regular)),
        ("not in the manifest", unnamed("x", Is::Regular)),
        ("a device", named("x", Is::Block)),
        ("a pipe", named("x", Is::Fifo)),
        ("a hard link", named("x", Is::Link)),
        ("a link", named("x", Is::Symlink)),
        ("a directory", named("x", Is::Directory)),
        ("through a link", through_a_link),
    ] {
        let mut world = World::new();
        let id = forged(&mut world, change);
        let before = without_times(world.dir.path());
        assert_eq!(world.verify(&id)["intact"], false, "{what}");
        assert!(world.restore(json!({ "id": id })).is_err(), "{what}");
        assert_eq!(without_times(world.dir.path()), before, "{what}");
    }
    if !nix::unistd::Uid::effective().is_root() {
        return; // nobody else gives the file to the one whose it was
    }
    let mut world = World::new();
    let id = forged(&mut world, named("x", Is::Regular));
    world.restore(json!({ "id": id })).unwrap();
    assert_eq!(fs::read(world.state().join("x")).unwrap(), b"x");
}

#[test]
fn a_service_sees_and_names_its_own_backups_only() {
    let mut world = World::new();
    let made = world.create();
    let mut request = world.request(json!({ "id": made["id"] }));
    request.caller.service = Some("other".into());
    for outcome in [
        verify(&request, &mut world.usherd),
        delete(&request, &mut world.usherd),
        restore_in(&world.states(), 10, &request, &mut world.usherd),
    ] {
        assert_eq!(outcome.unwrap_err().kind, Kind::Forbidden);
    }
    let listed = list(&request, &mut world.usherd).unwrap();
    assert_eq!(listed["backups"], json!([]));
    request.caller.service = Some("mail".into());
    let listed = list(&request, &mut world.usherd).unwrap();
    assert_eq!(listed["backups"][0]["id"], made["id"]);
    delete(&request, &mut world.usherd).unwrap();
    let failed = verify(&request, &mut world.usherd).unwrap_err();
    assert_eq!(failed.kind, Kind::NotFound);
}

#[test]
fn a_dry_run_leaves_nothing() {
    let mut world = World::new();
    let mut request = world.request(json!({ "service": "mail" }));
    request.dry_run = true;
    let would = create_in(&world.states(), 30, &request, &mut world.usherd).unwrap();
    assert_eq!(would["would"], true);
    assert_eq!(world.usherd.called, ["Describe"]);
    assert!(!world.dir.path().join("usherd").exists());
    let request = world.request(json!({ "service": "stateless" }));
    let failed = create_in(&world.states(), 30, &request, &mut world.usherd).unwrap_err();
    assert_eq!(failed.kind, Kind::NotFound);
}

#[test]
fn names_sort_as_times_do() {
    assert_eq!(stamp(0, 42), "19700101T000000.000042Z");
    assert!(stamp(1_700_000_000, 0) < stamp(1_700_000_000, 1));
}

#[test]
fn there_is_an_end_to_what_is_kept() {
    let mut world = World::new();
    let id = world.create()["id"].clone();
    let request = world.request(json!({ "service": "mail" }));
    let failed = create_in(&world.states(), 1, &request, &mut world.usherd).unwrap_err();
    assert_eq!(failed.kind, Kind::Busy, "{failed}");
    create_in(&world.states(), 2, &request, &mut world.usherd).unwrap();
    let request = world.request(json!({ "id": id }));
    restore_in(&world.states(), 1, &request, &mut world.usherd).unwrap();
    let before = without_times(&world.states());
    let failed = restore_in(&world.states(), 1, &request, &mut world.usherd).unwrap_err();
    assert_eq!(failed.kind, Kind::Busy, "{failed}");
    assert_eq!(without_times(&world.states()), before);
}

#[test]
fn what_a_restore_left_that_was_ended_goes_with_the_next() {
    let mut world = World::new();
    let id = world.create()["id"].clone();
    Former::of(&world.states(), "mail-state").unwrap();
    let beside = |name: &str| world.states().join("usherd-old").join(name);
    let left = beside(".new-mail-state@20200101T000000.000000Z");
    let others = beside(".new-mail-state2@20200101T000000.000000Z");
    for dir in [&left, &others] {
        fs::create_dir_all(dir.join("deep")).unwrap();
        fs::write(dir.join("deep/x"), "x").unwrap();
    }
    world.restore(json!({ "id": id })).unwrap();
    assert!(!left.exists());
    assert!(others.join("deep/x").exists());
}

/// Goes down from `root`, making `depth` directories whose names are as long as can be.
fn deep(root: &Path, depth: usize) -> OwnedFd {
    let name = "d".repeat(255);
    let mut dir = open(root).unwrap();
    for _ in 0..depth {
        mkdirat(&dir, name.as_str(), Mode::S_IRWXU).unwrap();
        dir = openat(&dir, name.as_str(), DIRECTORY, Mode::empty()).unwrap();
    }
    dir
}

#[test]
fn names_take_no_more_memory_than_they_may() {
    use nix::fcntl::OFlag;
    let make = |dir: &OwnedFd, name: &str| {
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
        openat(dir, name, flags, Mode::S_IRWXU).map(drop).unwrap();
    };
    let looked = |world: &World| {
        let root = open(&world.state()).unwrap();
        let mut manifest = Manifest::new("x@1".into(), "x", "x", None, 0);
        pack(&root, &mut manifest, &mut pack::Nowhere)
    };
    let world = World::new();
    // Fifteen and a slash behind each are 3,840; with a name behind them as many as a path may have.
    let deepest = deep(&world.state(), 15);
    make(&deepest, &"f".repeat(255));
    assert!(looked(&world).is_ok());
    mkdirat(&deepest, "g", Mode::S_IRWXU).unwrap();
    let below = openat(&deepest, "g", DIRECTORY, Mode::empty()).unwrap();
    make(&below, &"f".repeat(255));
    let failed = looked(&world).unwrap_err();
    assert_eq!(failed.kind, Kind::Forbidden);
    assert!(failed.reason.contains("4096 octets"), "{}", failed.reason);

    let world = World::new();
    let deepest = deep(&world.state(), 15);
    (0..17_500).for_each(|nth| make(&deepest, &nth.to_string()));
    let failed = looked(&world).unwrap_err();
    assert_eq!(failed.kind, Kind::Forbidden);
    assert!(failed.reason.contains("64 MiB"), "{}", failed.reason);
}

#[test]
fn all_that_write_to_a_state_stand_still() {
    let mut world = World::new();
    world.usherd.sharing = vec!["lists", "web"];
    let made = world.create();
    let all = [
        "Freeze",
        "Freeze lists",
        "Freeze web",
        "Thaw",
        "Thaw lists",
        "Thaw web",
    ];
    assert_eq!(world.stood_still(), all);
    world.restore(json!({ "id": made["id"] })).unwrap();
    assert_eq!(world.stood_still(), all);
    // Those who stood still already go on.
    world.usherd.busy = Some("web");
    let before = picture(&world.state());
    let failed = world.restore(json!({ "id": made["id"] })).unwrap_err();
    assert_eq!(failed.kind, Kind::Busy);
    let some = ["Freeze", "Freeze lists", "Freeze web", "Thaw", "Thaw lists"];
    assert_eq!(world.stood_still(), some);
    assert_eq!(picture(&world.state()), before);
}
