//! `backup.*` on a service's real state directory, as root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, chown};
use serde_json::{Value, json};

use super::{asking, failed, order, run, run_dry};
use crate::common::*;
use crate::control::refused;
use crate::tests;

tests![
    a_state_comes_back_as_it_was_and_servers_that_start_see_it,
    a_service_asks_for_a_copy_of_its_own_state_and_of_no_other,
    a_copy_that_was_changed_is_found_and_not_restored,
    a_running_server_is_not_left_behind_unasked,
];

/// /var/lib/NAME, gone with the test.
struct State(PathBuf);

impl State {
    fn new(name: &str) -> Self {
        needs_root();
        let nobody = User::from_name("nobody").unwrap().unwrap().uid;
        let state = Self(Path::new("/var/lib").join(name));
        fs::create_dir_all(state.0.join("spool")).unwrap();
        fs::write(state.0.join("spool/one"), "first\n").unwrap();
        fs::set_permissions(state.0.join("spool/one"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("/etc/shadow", state.0.join("away")).unwrap();
        for path in ["", "spool", "spool/one"] {
            chown(&state.0.join(path), Some(nobody), None).unwrap();
        }
        state
    }

    fn name() -> String {
        format!("usherd-test-{}", std::process::id())
    }

    fn one(&self) -> String {
        fs::read_to_string(self.0.join("spool/one")).unwrap()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let name = self.0.file_name().unwrap().to_string_lossy().into_owned();
        let _ = fs::remove_dir_all(&self.0);
        let former = fs::read_dir("/var/lib/usherd-old").into_iter().flatten();
        for entry in former.flatten() {
            let found = entry.file_name().to_string_lossy().into_owned();
            if found.starts_with(&format!("{name}@")) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        // Unless others have some there.
        let _ = fs::remove_dir("/var/lib/usherd-old");
    }
}

/// A server that says what its state holds, and waits.
fn teller(port: u16, state: &str) -> String {
    format!(
        "[service.mail]\nlisten = \"tcp:127.0.0.1:{port}\"\nisolation = \"standard\"\nstate = \"{state}\"\n\
         exec = [\"/bin/sh\", \"-c\", \"cat /var/lib/{state}/spool/one; cat\"]\n"
    )
}

fn told(port: u16) -> String {
    Peer::tcp(port).read_line()
}

fn a_state_comes_back_as_it_was_and_servers_that_start_see_it() {
    let (dir, port, name) = (Dir::new(), free_port(), State::name() + "-a");
    let state = State::new(&name);
    let daemon = Daemon::start(&dir, &teller(port, &name));
    assert_eq!(told(port), "first\n");
    daemon.wait_servers(0);
    let asked = json!({ "service": "mail", "note": "before" });
    let would = run_dry(&dir, "backup.create", &asked).unwrap();
    assert_eq!(would["files"], 4, "{would}");
    let made = run(&dir, "backup.create", &asked).unwrap();
    assert_eq!(made["files"], 4, "{made}");
    let listed = run(&dir, "backup.list", &json!({})).unwrap();
    assert_eq!(listed["backups"][0]["note"], "before");
    fs::write(state.0.join("spool/one"), "second\n").unwrap();
    fs::remove_file(state.0.join("away")).unwrap();
    assert_eq!(told(port), "second\n");
    daemon.wait_servers(0);
    let id = json!({ "id": made["id"] });
    let restored = run(&dir, "backup.restore", &id).unwrap();
    assert_eq!(state.one(), "first\n");
    let about = fs::metadata(state.0.join("spool/one")).unwrap();
    let nobody = User::from_name("nobody").unwrap().unwrap().uid;
    assert_eq!(
        (about.mode() & 0o7777, Uid::from_raw(about.uid())),
        (0o600, nobody)
    );
    let link = fs::read_link(state.0.join("away")).unwrap();
    assert_eq!(link, Path::new("/etc/shadow"));
    // A sandbox that stood shows the old one no more.
    assert_eq!(told(port), "first\n");
    let old = Path::new(restored["old"].as_str().unwrap());
    assert_eq!(
        fs::read_to_string(old.join("spool/one")).unwrap(),
        "second\n"
    );
    run(&dir, "backup.delete", &id).unwrap();
    let gone = failed(run(&dir, "backup.verify", &id));
    assert_eq!(gone.0, "not_found");
}

fn a_service_asks_for_a_copy_of_its_own_state_and_of_no_other() {
    let (dir, ports, name) = (Dir::new(), [free_port(), free_port()], State::name() + "-b");
    let _state = State::new(&name);
    let keys = format!(
        "state = \"{name}\"\nadmin = [\"backup.create\", \"backup.list\", \"backup.verify\"]"
    );
    let other = "admin = [\"backup.verify\", \"backup.list\", \"backup.create\"]";
    let table = asking(&dir, "mail", ports[0], "standard", &keys)
        + &asking(&dir, "other", ports[1], "standard", other);
    let _daemon = Daemon::start(&dir, &table);
    let mut own = Peer::tcp(ports[0]);
    let made = order(&mut own, "run backup.create {}");
    let id = made["result"]["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{made}"))
        .to_owned();
    let verified = order(&mut own, &format!("run backup.verify {{\"id\":\"{id}\"}}"));
    assert_eq!(verified["result"]["intact"], true, "{verified}");
    let refused = order(&mut own, "run backup.create {\"service\":\"other\"}");
    assert!(refused["error"].is_string(), "{refused}");
    let mut foreign = Peer::tcp(ports[1]);
    let refused = order(
        &mut foreign,
        &format!("run backup.verify {{\"id\":\"{id}\"}}"),
    );
    assert!(refused.to_string().contains("forbidden"), "{refused}");
    let listed = order(&mut foreign, "run backup.list {}");
    assert_eq!(listed["result"]["backups"], json!([]), "{listed}");
}

fn a_copy_that_was_changed_is_found_and_not_restored() {
    let (dir, port, name) = (Dir::new(), free_port(), State::name() + "-c");
    let state = State::new(&name);
    let _daemon = Daemon::start(&dir, &teller(port, &name));
    let made = run(&dir, "backup.create", &json!({ "service": "mail" })).unwrap();
    let id = made["id"].as_str().unwrap();
    let file = dir.file(&format!("state/backups/mail/{id}.tar.zst"));
    let mut octets = fs::read(&file).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    fs::write(&file, octets).unwrap();
    let verdict = run(&dir, "backup.verify", &json!({ "id": id })).unwrap();
    assert_eq!(verdict["intact"], false);
    fs::write(state.0.join("spool/one"), "second\n").unwrap();
    failed(run(&dir, "backup.restore", &json!({ "id": id })));
    assert_eq!(state.one(), "second\n");
    let (name, _) = refused(run(&dir, "backup.verify", &json!({ "id": "../../etc" })));
    assert!(name.ends_with(".WrongParameter"), "{name}");
}

fn a_running_server_is_not_left_behind_unasked() {
    let (dir, port, name) = (Dir::new(), free_port(), State::name() + "-d");
    let state = State::new(&name);
    let _daemon = Daemon::start(&dir, &teller(port, &name));
    let mut peer = Peer::tcp(port);
    assert_eq!(peer.read_line(), "first\n");
    // Frozen while it is read, and not for longer.
    let made = run(&dir, "backup.create", &json!({ "service": "mail" })).unwrap();
    peer.send("x\n");
    assert_eq!(peer.read_line(), "x\n");
    fs::write(state.0.join("spool/one"), "second\n").unwrap();
    let asked = json!({ "id": made["id"] });
    let (kind, _) = failed(run(&dir, "backup.restore", &asked));
    assert_eq!((kind.as_str(), state.one().as_str()), ("busy", "second\n"));
    let asked = json!({ "id": made["id"], "while_running": true });
    let done: Value = run(&dir, "backup.restore", &asked).unwrap();
    assert_eq!(done["running_with_old"], 1);
    assert_eq!(state.one(), "first\n");
}
