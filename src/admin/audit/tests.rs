#![allow(clippy::unwrap_used, reason = "tests")]

use std::{fs, io, thread};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::log::Bounds;
use super::verify::walk;
use super::*;

const ROOMY: Bounds = Bounds {
    max_size: 1 << 20,
    keep: 2,
};

/// Small enough that an entry or two fill a file.
const SMALL: Bounds = Bounds {
    max_size: 600,
    keep: 2,
};

fn asked(operation: &str) -> What {
    What::Asked {
        uid: 0,
        service: None,
        instance: None,
        pid: 1,
        operation: operation.to_owned(),
        parameters: serde_json::json!({ "text": ",\"hash\":\"x\"}\n" }),
        rule: "root".to_owned(),
    }
}

/// Five entries: that it was opened, and four requests.
fn written() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(dir.path(), ROOMY).unwrap();
    for operation in ["a", "b", "c", "d"] {
        log.append(asked(operation)).unwrap();
    }
    dir
}

fn lines(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join(CURRENT)).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn with_lines(change: impl FnOnce(&mut Vec<String>)) -> Vec<String> {
    let dir = written();
    let mut all = lines(dir.path());
    change(&mut all);
    fs::write(dir.path().join(CURRENT), all.join("\n") + "\n").unwrap();
    told(dir.path())
}

fn told(dir: &Path) -> Vec<String> {
    let verdict = walk(dir, |_| true).unwrap();
    verdict.breaks.into_iter().map(|b| b.what).collect()
}

#[test]
fn what_is_written_is_read_back_and_whole() {
    let dir = written();
    let mut seen = Vec::new();
    let verdict = walk(dir.path(), |entry| {
        seen.push(entry.clone());
        true
    })
    .unwrap();
    assert_eq!((verdict.entries, verdict.breaks), (5, vec![]));
    assert_eq!(seen[2].what, asked("b"));
    assert_eq!(seen[4].n, 5);
}

#[test]
fn every_octet_counts() {
    let dir = written();
    let file = dir.path().join(CURRENT);
    let good = fs::read(&file).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&file, &bad).unwrap();
        assert!(!told(dir.path()).is_empty(), "octet {at}");
    }
}

#[test]
fn an_entry_that_was_taken_out_moved_or_doubled_is_missed() {
    assert_eq!(
        with_lines(|all| drop(all.remove(0))),
        ["entry 1 is missing"]
    );
    assert_eq!(
        with_lines(|all| drop(all.remove(2))),
        ["entry 3 is missing"]
    );
    assert_eq!(
        with_lines(|all| drop(all.drain(1..3))),
        ["entries 2 to 3 are missing"]
    );
    assert_eq!(with_lines(|all| drop(all.pop())), ["entry 5 is missing"]);
    assert_eq!(with_lines(|all| all.clear()).len(), 2);
    assert!(with_lines(|all| all.swap(1, 2)).len() > 1);
    assert_eq!(
        with_lines(|all| all.insert(2, all[1].clone())),
        ["entry 2 stands after entry 2: it was moved or is there twice"]
    );
    let dir = written();
    fs::remove_file(dir.path().join(CURRENT)).unwrap();
    assert_eq!(told(dir.path()), ["entries 1 to 5 are missing"]);
}

#[test]
fn a_forged_entry_does_not_go_on_from_the_one_before() {
    let said = with_lines(|all| {
        let (mut entry, _) = Entry::open(&all[2]).unwrap();
        entry.what = asked("forged");
        all[2] = entry.seal().0;
    });
    assert_eq!(
        said,
        ["entry 4 does not go on from entry 3 that stands before it"]
    );
    let said = with_lines(|all| {
        let (mut entry, _) = Entry::open(&all[4]).unwrap();
        entry.what = asked("forged");
        all[4] = entry.seal().0;
    });
    assert_eq!(said, ["entry 5 is not the one that was written last"]);
}

#[test]
fn it_goes_on_after_a_crash_and_says_what_was_torn() {
    let dir = written();
    let file = dir.path().join(CURRENT);
    let mut text = fs::read(&file).unwrap();
    text.extend(b"{\"n\":6,\"at\":");
    fs::write(&file, text).unwrap();
    drop(AuditLog::open(dir.path(), ROOMY).unwrap());
    let mut last = None;
    let verdict = walk(dir.path(), |entry| {
        last = Some(entry.what.clone());
        true
    });
    assert_eq!(verdict.unwrap().breaks, vec![]);
    assert!(
        matches!(last, Some(What::Opened { torn: Some(12), .. })),
        "{last:?}"
    );

    // The head is one behind: a crash between the two.
    let dir = written();
    let before = fs::read(dir.path().join(HEAD)).unwrap();
    drop(AuditLog::open(dir.path(), ROOMY).unwrap());
    fs::write(dir.path().join(HEAD), before).unwrap();
    drop(AuditLog::open(dir.path(), ROOMY).unwrap());
    assert_eq!(told(dir.path()), [""; 0]);
}

#[test]
fn entries_that_went_while_nobody_wrote_stay_missed() {
    let dir = written();
    let mut all = lines(dir.path());
    all.truncate(3);
    fs::write(dir.path().join(CURRENT), all.join("\n") + "\n").unwrap();
    let mut log = AuditLog::open(dir.path(), ROOMY).unwrap();
    log.append(asked("later")).unwrap();
    assert_eq!(told(dir.path()), ["entries 4 to 5 are missing"]);
}

#[test]
fn a_rotation_does_not_break_the_chain_and_a_file_that_goes_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(dir.path(), SMALL).unwrap();
    for _ in 0..40 {
        log.append(asked("x")).unwrap();
    }
    let kept = files(dir.path()).unwrap();
    assert_eq!(kept.len(), 3, "{kept:?}");
    assert_eq!(told(dir.path()), [""; 0]);
    let mut dropped = 0;
    walk(dir.path(), |entry| {
        dropped += u32::from(matches!(entry.what, What::Dropped { .. }));
        true
    })
    .unwrap();
    assert!(dropped > 0);
    // One that somebody else removes is missed.
    fs::remove_file(&kept[0]).unwrap();
    assert_eq!(told(dir.path()).len(), 1);
    drop(log);
    let mut log = AuditLog::open(dir.path(), SMALL).unwrap();
    log.append(asked("y")).unwrap();
    assert_eq!(told(dir.path()).len(), 1);
}

/// Appends until the file is full; the next entry takes a new one.
fn fill(log: &mut AuditLog, dir: &Path) {
    while fs::metadata(dir.join(CURRENT)).unwrap().len() < SMALL.max_size {
        log.append(asked("x")).unwrap();
    }
}

#[test]
fn a_rotation_that_found_no_room_goes_on_when_there_is_some() {
    // A thread of its own, for what it mounts nobody else sees.
    let done = thread::spawn(|| {
        let dir = tempfile::tempdir().unwrap();
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNS) {
            eprintln!("skipped: needs root for a mount namespace: {errno}");
            return;
        }
        let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
        mount(none, "/", none, private, none).unwrap();
        let inodes = Some("nr_inodes=16");
        let tmpfs = Some("tmpfs");
        mount(tmpfs, dir.path(), tmpfs, MsFlags::empty(), inodes).unwrap();
        let dir = dir.path();
        let mut log = AuditLog::open(dir, SMALL).unwrap();
        fill(&mut log, dir);
        let stuff = |number: u32| dir.join(format!("stuff{number}"));
        let last = (0..).find(|number| fs::write(stuff(*number), "").is_err());
        for _ in 0..3 {
            let err = log.append(asked("y")).unwrap_err();
            assert_eq!(err.kind(), io::ErrorKind::StorageFull, "{err}");
            assert_eq!(told(dir), [""; 0]);
        }
        // Room for the file, and none for the head that is written beside the old one.
        fs::remove_file(stuff(0)).unwrap();
        log.append(asked("y")).unwrap_err();
        assert_eq!(told(dir), [""; 0]);
        for number in 1..last.unwrap() {
            fs::remove_file(stuff(number)).unwrap();
        }
        for _ in 0..10 {
            log.append(asked("z")).unwrap();
        }
        assert_eq!(told(dir), [""; 0]);
    });
    done.join().unwrap();
}

#[test]
fn what_a_failed_rotation_left_does_not_take_the_place_of_entries() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(dir.path(), SMALL).unwrap();
    fill(&mut log, dir.path());
    let current = dir.path().join(CURRENT);
    fs::rename(&current, set_aside(dir.path(), 1)).unwrap();
    // It cannot be opened.
    fs::create_dir(&current).unwrap();
    log.append(asked("y")).unwrap_err();
    fs::remove_dir(&current).unwrap();
    // It could be made, and no more than that.
    fs::write(&current, "").unwrap();
    log.append(asked("y")).unwrap();
    assert_eq!(told(dir.path()), [""; 0]);
    // Somebody who starts anew meanwhile goes on as well.
    fill(&mut log, dir.path());
    let first = Entry::open(&lines(dir.path())[0]).unwrap().0.n;
    fs::rename(&current, set_aside(dir.path(), first)).unwrap();
    drop(log);
    drop(AuditLog::open(dir.path(), SMALL).unwrap());
    assert_eq!(told(dir.path()), [""; 0]);
}

#[test]
fn two_do_not_write_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let _first = AuditLog::open(dir.path(), ROOMY).unwrap();
    let err = AuditLog::open(dir.path(), ROOMY).unwrap_err();
    assert_eq!(err.to_string(), "another usherd writes to it");
}

#[test]
fn long_parameters_are_kept_as_their_hash() {
    let mut map = serde_json::Map::new();
    map.insert("x".to_owned(), "y".repeat(5_000).into());
    assert_eq!(entry::kept(Some(&map))["octets"], 5_008);
}

#[test]
fn what_is_written_after_the_file_was_replaced_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let current = dir.path().join(CURRENT);
    let mut log = AuditLog::open(dir.path(), ROOMY).unwrap();
    for operation in ["a", "b"] {
        log.append(asked(operation)).unwrap();
    }
    // As an editor does it, with the same words.
    let beside = dir.path().join("beside");
    fs::copy(&current, &beside).unwrap();
    fs::rename(&beside, &current).unwrap();
    assert_eq!(log.append(asked("c")).unwrap(), 5, "opened once more");
    assert_eq!(told(dir.path()), [""; 0]);
    assert_eq!(lines(dir.path()).len(), 5);
    // Taken away: what was in it is missed, and what comes is there.
    fs::remove_file(&current).unwrap();
    log.append(asked("d")).unwrap();
    assert_eq!(lines(dir.path()).len(), 2);
    assert_eq!(told(dir.path()).len(), 1);
}

#[test]
fn a_full_file_that_was_taken_away_is_begun_again_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(dir.path(), SMALL).unwrap();
    fill(&mut log, dir.path());
    fs::remove_file(dir.path().join(CURRENT)).unwrap();
    log.append(asked("d")).unwrap();
    let text = fs::read_to_string(dir.path().join(CURRENT)).unwrap();
    assert!(text.contains("opened"), "{text}");
    for _ in 0..4 {
        log.append(asked("e")).unwrap();
    }
    assert_eq!(told(dir.path()).len(), 1);
}
