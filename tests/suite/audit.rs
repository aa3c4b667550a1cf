//! The audit log: who asked for what, what came of it, and what becomes of a
//! request that cannot be written down.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::common::*;
use crate::control::{ADMIN, cat, change, refused};
use crate::tests;

tests![
    a_request_is_written_down_with_who_asked_and_what_came_of_it,
    an_entry_that_was_taken_out_is_found_over_a_restart,
    a_full_disk_refuses_what_cannot_be_written_down,
    files_that_are_full_are_set_aside_and_the_oldest_goes,
];

fn audit(dir: &Dir, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_usherctl"))
        .args(["--runtime-dir", &dir.file("run"), "audit"])
        .args(words)
        .output()
        .unwrap()
}

fn requests(dir: &Dir, words: &[&str]) -> Vec<Value> {
    let output = audit(dir, &[&["query", "--json"], words].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let values = text.lines().map(|line| serde_json::from_str(line).unwrap());
    values.collect()
}

fn verdict(dir: &Dir) -> (Option<i32>, String) {
    // A daemon that does not run cannot tell where it is.
    let output = audit(dir, &["verify", "--log", &dir.file("state/audit")]);
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text)
}

fn log_file(dir: &Dir) -> PathBuf {
    Path::new(&dir.file("state")).join("audit/audit.log")
}

fn a_request_is_written_down_with_who_asked_and_what_came_of_it() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &cat(port, ""));
    assert!(!log_file(&dir).exists(), "nobody has asked anything");
    let ban = json!({ "prefix": "192.0.2.0/24", "for_s": 60 });
    change(&dir, "Ban", &ban).unwrap();
    refused(change(&dir, "Stop", &json!({ "service": "nobody" })));
    change(&dir, "Drain", &json!({ "service": "cat" })).unwrap();

    let all = requests(&dir, &[]);
    let own = u64::from(nix::unistd::getuid().as_raw());
    let told: Vec<_> = all
        .iter()
        .map(|r| (r["operation"].as_str().unwrap(), r["result"].as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("Ban", Some("ok")),
            ("Stop", Some("NoSuchService")),
            ("Drain", Some("ok"))
        ]
    );
    assert_eq!(all[0]["parameters"], ban);
    assert_eq!(all[0]["uid"], own);
    assert_eq!(all[0]["pid"], std::process::id());
    assert_eq!(all[1]["why"]["service"], "nobody");
    assert_eq!(requests(&dir, &["--operation", "Stop"]).len(), 1);
    assert_eq!(requests(&dir, &["-n", "2"]).len(), 2);
    assert_eq!(requests(&dir, &["--uid", "4294967294"]).len(), 0);
    let mode = fs::metadata(log_file(&dir)).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
        0o600
    );
    let text = String::from_utf8(audit(&dir, &["query"]).stdout).unwrap();
    assert!(
        text.contains(" Ban uid=") && text.contains("prefix=192.0.2.0/24"),
        "{text}"
    );
}

fn an_entry_that_was_taken_out_is_found_over_a_restart() {
    let (dir, port) = (Dir::new(), free_port());
    let ban = |prefix: &str| change(&dir, "Ban", &json!({ "prefix": prefix })).unwrap();
    let daemon = Daemon::start(&dir, &cat(port, ""));
    ban("192.0.2.1");
    ban("192.0.2.2");
    drop(daemon);
    let daemon = Daemon::start(&dir, &cat(port, ""));
    ban("192.0.2.3");
    let (code, text) = verdict(&dir);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "8 entries, 1 to 8, all as written\n")
    );
    drop(daemon);

    let good = fs::read_to_string(log_file(&dir)).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let without: String = lines
        .iter()
        .filter(|line| !line.contains("192.0.2.2"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(log_file(&dir), without).unwrap();
    let (code, text) = verdict(&dir);
    assert_eq!(code, Some(1));
    assert!(text.contains("audit.log:4: entry 4 is missing"), "{text}");

    fs::write(log_file(&dir), good.replace("192.0.2.2", "192.0.2.9")).unwrap();
    let (code, text) = verdict(&dir);
    assert_eq!(code, Some(1));
    assert!(text.contains("audit.log:4: it was changed"), "{text}");
}

fn a_full_disk_refuses_what_cannot_be_written_down() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let folder = dir.file("state/audit");
    fs::create_dir_all(&folder).unwrap();
    let small = Some("size=64k,mode=700");
    mount(
        Some("small"),
        folder.as_str(),
        Some("tmpfs"),
        MsFlags::empty(),
        small,
    )
    .unwrap();
    let stuff = Path::new(&folder).join("stuff");
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let ban = |prefix: &str| change(&dir, "Ban", &json!({ "prefix": prefix }));
    ban("192.0.2.1").unwrap();
    // tmpfs ends with ENOSPC where its pages do.
    let _ = fs::write(&stuff, vec![0; 1 << 20]);
    let mut refusal = None;
    for last in 0..200 {
        if let Err(error) = ban(&format!("198.51.100.{last}")) {
            refusal = Some(refused(Err(error)));
            break;
        }
    }
    let (name, why) = refusal.expect("the disk is full");
    assert_eq!(name, format!("{ADMIN}.Failed"));
    let why = why["reason"].as_str().unwrap();
    assert!(why.contains("No space left"), "{why}");
    daemon.log.wait_for("unable to write to the audit log");
    let bans = change(&dir, "GetBans", &json!({})).unwrap();
    let before = bans["bans"].as_array().unwrap().len();

    fs::remove_file(&stuff).unwrap();
    ban("203.0.113.1").unwrap();
    let bans = change(&dir, "GetBans", &json!({})).unwrap();
    assert_eq!(bans["bans"].as_array().unwrap().len(), before + 1);
    let (code, text) = verdict(&dir);
    assert_eq!(code, Some(0), "{text}");
    drop(daemon);
    umount2(folder.as_str(), MntFlags::MNT_DETACH).unwrap();
}

fn files_that_are_full_are_set_aside_and_the_oldest_goes() {
    let (dir, port) = (Dir::new(), free_port());
    let small = "[daemon]\naudit = { max_size = \"64K\", keep = 1 }\n";
    let table = daemon::table(&dir, &cat(port, "")).replace("[daemon]\n", small);
    let _daemon = Setup::raw(&dir, &table).start();
    let reason = "x".repeat(250);
    for last in 0..400 {
        let ban =
            json!({ "prefix": format!("10.0.{}.{}", last / 200, last % 200), "reason": reason });
        change(&dir, "Ban", &ban).unwrap();
    }
    let (code, text) = verdict(&dir);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        !text.contains(", 1 to "),
        "the oldest is still there: {text}"
    );
    let folder = dir.file("state/audit");
    let files = fs::read_dir(folder).unwrap();
    let logs = files.filter(|f| {
        f.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .ends_with(".log")
    });
    assert_eq!(logs.count(), 2);
}
