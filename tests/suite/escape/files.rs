//! What can be read and written from inside.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{Case, PRESETS, Service, Stage, all_come_to, presets};
use crate::common::*;
use crate::tests;

tests![
    secrets_of_the_host_are_not_read,
    state_and_credentials_of_another_service_are_not_read,
    sockets_of_usherd_are_not_there,
    nothing_but_what_is_listed_can_be_written,
    there_is_no_way_around_the_root,
    programs_with_the_set_uid_bit_give_nothing,
    what_is_hidden_below_something_visible_stays_hidden,
    a_link_in_a_writable_place_leads_nowhere,
    a_state_that_changes_hands_takes_nothing_of_others_along,
];

fn secrets_of_the_host_are_not_read() {
    let (stage, tmp) = (Stage::plain(), Dir::new());
    let outside = tmp.write("outside", "of the host\n");
    let read = format!("cat {outside}");
    let cases: [Case<'_>; 5] = [
        (
            "sys openat -100 text:/etc/shadow 0",
            ["EACCES", "EACCES", "ENOENT"],
        ),
        (
            "sys openat -100 text:/etc/gshadow 0",
            ["EACCES", "EACCES", "ENOENT"],
        ),
        ("list /root", ["EACCES", "= ", "ENOENT"]),
        (&read, ["= of the host", "ENOENT", "ENOENT"]),
        ("list /boot", ["=|ENOENT", "= |ENOENT", "ENOENT"]),
    ];
    all_come_to(&stage, &cases);
    for preset in &PRESETS[1..] {
        // In a /tmp of its own, if at all.
        stage
            .instance(preset)
            .tries(&format!("sys openat -100 text:{outside}.new 0x41 0x1b6"));
        assert!(!fs::exists(format!("{outside}.new")).unwrap(), "{preset}");
    }
    stage.end();
}

/// A directory under /var/lib that goes with the test.
struct State(String);

impl State {
    fn new(name: &str) -> Self {
        Self(format!("usherd-escape-{name}-{}", std::process::id()))
    }

    fn path(&self) -> String {
        format!("/var/lib/{}", self.0)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.path());
    }
}

fn state_and_credentials_of_another_service_are_not_read() {
    needs_root();
    let dir = Dir::new();
    let (owner, own) = (State::new("owner"), State::new("own"));
    let secret = dir.write("secret", "very secret\n");
    let keys = format!(
        "state = \"{}\"\ncredentials = {{ key = \"{secret}\" }}\n",
        owner.0
    );
    let own_keys = format!("state = \"{}\"\n", own.0);
    let mut services = presets("", "");
    services[2].keys = &own_keys;
    services.push(Service {
        name: "owner",
        preset: "standard",
        refined: "",
        keys: &keys,
    });
    let stage = Stage::in_folder(dir, &services);
    let mut owning = stage.instance("owner");
    let state = owner.path();
    let credential = stage.dir.file("run/credentials/owner/key");
    owning.gets(&format!("sys openat -100 text:{state}/note 0x41 0x1b6"));
    assert_eq!(owning.gets(&format!("cat {credential}")), "very secret");
    let (list, read) = (format!("list {state}"), format!("cat {credential}"));
    let cases: [Case<'_>; 2] = [
        // All of them run as the same user.
        (&list, ["= note", "= |ENOENT|EACCES", "ENOENT"]),
        (&read, ["= very secret", "ENOENT", "ENOENT"]),
    ];
    all_come_to(&stage, &cases);
    let mut instance = stage.instance("strict");
    assert_eq!(instance.gets(&format!("list {}", own.path())), "");
    drop((owning, instance));
    stage.end();
}

fn sockets_of_usherd_are_not_there() {
    let stage = Stage::plain();
    let (status, admin) = (
        format!("connect {}", stage.dir.file("run/status.sock")),
        format!("connect {}", stage.dir.file("run/admin.sock")),
    );
    let cases: [Case<'_>; 2] = [
        (&status, ["= connected", "ENOENT", "ENOENT"]),
        (&admin, ["= connected", "ENOENT", "ENOENT"]),
    ];
    all_come_to(&stage, &cases);
    stage.end();
}

fn nothing_but_what_is_listed_can_be_written() {
    let dir = Dir::new();
    let (open, read_only) = (dir.open_folder("open"), dir.open_folder("read-only"));
    let refined = format!(
        "writable = [\"{open}\"], visible = [\"{}\", \"{read_only}\"]",
        dir.file("attacker")
    );
    let stage = Stage::in_folder(dir, &presets(&refined, ""));
    let wanted = format!("/dev/shm {open} /tmp /var/tmp");
    let mut wanted: Vec<&str> = wanted.split(' ').collect();
    wanted.sort_unstable();
    for preset in &PRESETS[1..] {
        let found = stage.instance(preset).gets("writable");
        let mut found: Vec<&str> = found.split(' ').collect();
        // The way to what is shown was made in a private /tmp, and devices are no files.
        let is_nothing = |path: &str| {
            path.starts_with("/tmp/") && path != open
                || path.starts_with("/dev/") && path != "/dev/shm"
        };
        found.retain(|path| !is_nothing(path));
        assert_eq!(found, wanted, "{preset}");
    }
    stage.end();
}

fn there_is_no_way_around_the_root() {
    let (stage, tmp) = (Stage::plain(), Dir::new());
    let outside = tmp.write("outside", "of the host\n");
    let attempts = [
        format!("cat /proc/self/root/../../..{outside}"),
        format!("cat /proc/self/cwd/../../..{outside}"),
        format!("cat /proc/1/root{outside}"),
        format!("cat /proc/thread-self/root{outside}"),
        format!("cat /proc/{}/root{outside}", stage.daemon.pid),
        format!("cat /proc/{}/cwd{outside}", stage.daemon.front()),
        format!("cat ../../../..{outside}"),
    ];
    let cases: Vec<Case<'_>> = attempts
        .iter()
        .map(|attempt| (&**attempt, ["=|EACCES", "ENOENT|EACCES", "ENOENT|EACCES"]))
        .collect();
    all_come_to(&stage, &cases);
    // No descriptor leads out either.
    let cases: Vec<String> = (0..64)
        .map(|fd| format!("sys openat {fd} text:../../../..{outside} 0"))
        .collect();
    for preset in &PRESETS[1..] {
        let mut instance = stage.instance(preset);
        for attempt in &cases {
            let said = instance.tries(attempt);
            assert!(
                ["EBADF", "ENOTDIR"].contains(&&*said),
                "{preset}: {attempt}: {said}"
            );
        }
    }
    stage.end();
}

fn programs_with_the_set_uid_bit_give_nothing() {
    needs_root();
    let dir = Dir::new();
    let program = dir.file("set-uid");
    copy_program("/usr/bin/id".as_ref(), program.as_ref());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let refined = format!("visible = [\"{}\", \"{program}\"]", dir.file("attacker"));
    let stage = Stage::in_folder(dir, &presets(&refined, ""));
    let (run, copied) = (format!("run {program} -u"), format!("run-copy {program}"));
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid;
    let nobody = format!("= {nobody}");
    let cases: [Case<'_>; 2] = [
        (&run, ["= 0", &nobody, &nobody]),
        // Memory that has no path runs, without rights, and with the same cage.
        (&copied, ["=", "=", "=|EACCES"]),
    ];
    all_come_to(&stage, &cases);
    stage.end();
}

fn what_is_hidden_below_something_visible_stays_hidden() {
    let dir = Dir::new();
    let place = dir.open_folder("place");
    fs::create_dir_all(format!("{place}/secret/open")).unwrap();
    fs::write(format!("{place}/secret/key"), "secret\n").unwrap();
    fs::write(format!("{place}/secret/open/note"), "shown\n").unwrap();
    let refined = format!(
        "visible = [\"{}\", \"{place}\", \"{place}/secret/open\"], hidden = [\"{place}/secret\"]",
        dir.file("attacker")
    );
    let stage = Stage::in_folder(dir, &presets(&refined, ""));
    let (key, note) = (
        format!("cat {place}/secret/key"),
        format!("cat {place}/secret/open/note"),
    );
    let cases: [Case<'_>; 2] = [
        (&key, ["= secret", "ENOENT", "ENOENT"]),
        (&note, ["= shown", "= shown", "= shown"]),
    ];
    all_come_to(&stage, &cases);
    stage.end();
}

fn a_link_in_a_writable_place_leads_nowhere() {
    needs_root();
    let dir = Dir::new();
    let place = dir.open_folder("place");
    let inner = format!("{place}/inner");
    fs::create_dir(&inner).unwrap();
    let refined = format!(
        "visible = [\"{}\"], writable = [\"{place}\", \"{inner}\"]",
        dir.file("attacker")
    );
    let stage = Stage::in_folder(dir, &presets(&refined, "user = \"root\"\n"));
    for preset in &PRESETS[1..] {
        assert_eq!(stage.instance(preset).gets(&format!("list {inner}")), "");
    }
    // What a server that was taken over does with its own directory: /etc, not
    // covered and not read-only, would be put on /etc.
    fs::remove_dir(&inner).unwrap();
    std::os::unix::fs::symlink("/etc", &inner).unwrap();
    std::os::unix::fs::lchown(&inner, Some(65534), Some(65534)).unwrap();
    stage.daemon.signal(nix::sys::signal::Signal::SIGHUP);
    stage.daemon.log.wait_for("reloaded");
    for preset in &PRESETS[1..] {
        let said = stage.instance(preset).tries("cat /etc/shadow");
        assert_eq!(said, "", "{preset}: it is not even started");
    }
    let why = format!("unable to show {inner}: Too many levels of symbolic links");
    stage.daemon.log.wait_count(2, &[&why]);
    // A link of root's own is another matter.
    std::os::unix::fs::lchown(&inner, Some(0), Some(0)).unwrap();
    until(
        "a server that is shown what root's link leads to",
        SOON,
        || {
            let seen = stage.instance("strict").tries("list /etc");
            seen.contains("passwd").then_some(())
        },
    );
    stage.end();
}

fn a_state_that_changes_hands_takes_nothing_of_others_along() {
    needs_root();
    use std::os::unix::fs::{MetadataExt, lchown, symlink};
    /// Of no service of the tests, and of those that dynamic users get.
    const FORMER: u32 = 65_500;
    let (state, others) = (State::new("former"), State::new("others"));
    let of_others = format!("{}/file", others.path());
    let below = format!("{}/below/note", state.path());
    fs::create_dir_all(format!("{}/below", state.path())).unwrap();
    fs::create_dir_all(others.path()).unwrap();
    for path in [&of_others, &below] {
        fs::write(path, "note\n").unwrap();
    }
    // What a server that was taken over leaves behind.
    fs::hard_link(&of_others, format!("{}/hard", state.path())).unwrap();
    symlink(&of_others, format!("{}/soft", state.path())).unwrap();
    symlink(others.path(), format!("{}/directory", state.path())).unwrap();
    for name in ["", "/below", "/below/note", "/soft", "/directory"] {
        lchown(
            format!("{}{name}", state.path()),
            Some(FORMER),
            Some(FORMER),
        )
        .unwrap();
    }
    let keys = format!("user = \"dynamic\"\nstate = \"{}\"\n", state.0);
    let service = Service {
        name: "heir",
        preset: "strict",
        refined: "",
        keys: &keys,
    };
    let stage = Stage::new(&[service]);
    let mut heir = stage.instance("heir");
    assert_eq!(heir.gets(&format!("cat {below}")), "note");
    heir.gets(&format!("sys openat -100 text:{below} 1"));
    for path in [others.path(), of_others] {
        assert_eq!(fs::metadata(&path).unwrap().uid(), 0, "{path}");
    }
    drop(heir);
    stage.end();
}
