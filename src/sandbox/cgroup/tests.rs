#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::*;

/// A cgroup to be divided, where root may make any; goes with the test.
struct Top(PathBuf);

impl Top {
    fn make() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let made = tempfile::tempdir_in(line.split(' ').nth(4)?).ok();
        if made.is_none() {
            eprintln!("skipped: needs root and cgroup2");
        }
        Some(Self(made?.keep()))
    }

    fn cgroups(&self) -> Cgroups {
        Cgroups::at(Place {
            top: Dir::open(&self.0).unwrap(),
            path: "/top".into(),
            is_own: false,
        })
    }

    fn has(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let top = Dir::open(&self.0).unwrap();
        top.prune(4).unwrap();
        fs::remove_dir(&self.0).unwrap();
    }
}

/// A process in a leaf.
fn inhabit(leaf: &Leaf) -> Child {
    let mut child = Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    if let Err(err) = leaf.dir.write("cgroup.procs", &pid) {
        child.kill().unwrap();
        panic!("{err}");
    }
    child
}

fn name(text: &str) -> Rc<str> {
    text.into()
}

#[test]
fn a_path_tells_service_and_leaf() {
    let servers = "/usherd/servers";
    for (path, owner) in [
        ("/usherd/servers/s-a@b+c.max/i7", Some(("a@b+c.max", "i7"))),
        ("/usherd/servers/s-x/i7/more/s-y/i8", Some(("x", "i7"))),
        ("/usherd/servers/s-x", None),
        ("/usherd/servers-2/s-x/i1", None),
        ("/usherd-2/servers/s-x/i1", None),
        ("/usherd/helper", None),
        ("/", None),
    ] {
        assert_eq!(split_path(path, servers), owner, "{path}");
    }
}

#[test]
fn without_cgroups_there_is_no_leaf_and_no_error() {
    let mut none = Cgroups::none("it is a test", "none");
    let wanted = Resources {
        tasks: Some(4),
        ..Resources::default()
    };
    none.prepare(&name("x"), &wanted).unwrap();
    assert!(matches!(none.leaf(&name("x")), Ok(None)));
    assert_eq!(none.unenforced(Some("x")).len(), 1);
    assert_eq!(none.owner_of("0::/usherd/servers/s-x/i1"), None);
}

#[test]
fn two_daemons_do_not_share_a_cgroup() {
    let Some(top) = Top::make() else { return };
    let first = top.cgroups();
    let second = top.cgroups();
    assert!(matches!(first.state(), State::Ready { .. }));
    assert!(top.has("usherd/servers") && top.has("usherd-2/servers"));
    drop(first);
    assert!(!top.has("usherd") && top.has("usherd-2"));
    let third = top.cgroups();
    assert!(top.has("usherd"), "the name is free again");
    drop((second, third));
    assert!(!top.has("usherd") && !top.has("usherd-2"));
}

#[test]
fn a_leaf_is_used_again_unless_something_was_left_in_it() {
    let Some(top) = Top::make() else { return };
    let mut all = top.cgroups();
    let x = name("x");
    all.prepare(&x, &Resources::default()).unwrap();
    let first = all.leaf(&x).unwrap().unwrap();
    assert!(first.is("x", "i1") && top.has("usherd/servers/s-x/i1"));
    assert_eq!(
        all.owner_of("0::/top/usherd/servers/s-x/i1"),
        Some(("x", "i1"))
    );
    all.retire(first);
    let again = all.leaf(&x).unwrap().unwrap();
    assert!(again.is("x", "i1"));

    let mut child = inhabit(&again);
    assert!(again.has(child.id().try_into().unwrap()));
    assert_eq!(again.usage().unwrap().tasks, 1);
    all.retire(again);
    assert!(all.sweep(), "it lingers");
    let other = all.leaf(&x).unwrap().unwrap();
    assert!(other.is("x", "i2"));
    all.lingering().for_each(|leaf| leaf.kill().unwrap());
    child.wait().unwrap();
    while all.sweep() {}
    assert!(!top.has("usherd/servers/s-x/i1"));

    all.keep(|_| false);
    assert!(top.has("usherd/servers/s-x/i2"), "it is in use");
    all.retire(other);
    assert!(!top.has("usherd/servers/s-x"));
    drop(all);
}

#[test]
fn what_a_predecessor_left_goes_when_it_is_empty() {
    let Some(top) = Top::make() else { return };
    let (mut all, x) = (top.cgroups(), name("x"));
    let (kept, empty) = (
        all.leaf(&x).unwrap().unwrap(),
        all.leaf(&x).unwrap().unwrap(),
    );
    let (mut child, number) = (inhabit(&kept), kept.number());
    drop((kept, empty));
    // As if it had died: nobody tidies up.
    all.tree.take().unwrap().forsake();
    drop(all);

    let mut all = top.cgroups();
    assert!(top.has("usherd/servers/s-x/i1") && !top.has("usherd/servers/s-x/i2"));
    let next = all.leaf(&x).unwrap().unwrap();
    assert!(next.is("x", "i2"), "{next:?}");
    all.retire(next);
    let foreign = all.adopt("x", "i1", Some(number + 1));
    assert!(
        foreign.is_none(),
        "that of another usherd has the same name"
    );
    let own = all.adopt("x", "i1", Some(number)).unwrap();
    all.retire(own);
    let own = all.adopt("x", "i1", None);
    all.retire(own.unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    while all.sweep() {}
    assert!(!top.has("usherd/servers/s-x"), "the table does not know it");
    drop(all);
    assert!(!top.has("usherd"));
}

#[test]
fn the_place_of_a_living_daemon_is_not_released() {
    let Some(top) = Top::make() else { return };
    let place = || Place {
        top: Dir::open(&top.0).unwrap(),
        path: "/top".into(),
        is_own: false,
    };
    let mut all = top.cgroups();
    let leaf = all.leaf(&name("x")).unwrap().unwrap();
    tree::release(&place());
    assert!(leaf.is_populated().is_ok_and(|populated| !populated));
    drop((leaf, all));
    tree::release(&place());
    assert!(!top.has("usherd"));
}
