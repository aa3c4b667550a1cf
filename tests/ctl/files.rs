//! Completions and manual pages: what is in config/ is what the command lines say.

use std::path::Path;
use std::process::Command;

use crate::fake::{Fake, run, usherctl};

#[test]
fn generated_files_are_up_to_date() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for (name, text) in usherd::ctl::generate::files().unwrap() {
        let there = std::fs::read(config.join(&name)).unwrap_or_default();
        assert!(
            there == text,
            "config/{name} is out of date; `cargo run --bin usherctl -- generate config` writes it anew"
        );
    }
}

#[test]
fn generate_writes_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(usherctl(&["generate", dir.path().to_str().unwrap()]));
    assert_eq!(ended.code, 0, "{}", ended.err);
    for (name, text) in usherd::ctl::generate::files().unwrap() {
        assert_eq!(std::fs::read(dir.path().join(&name)).unwrap(), text);
        assert!(ended.out.contains(&name));
    }
}

#[test]
fn completions_are_printed() {
    for (shell, part) in [
        ("bash", "_usherctl()"),
        ("zsh", "#compdef usherctl"),
        ("fish", "complete -c usherctl"),
    ] {
        let ended = run(usherctl(&["completions", shell]));
        assert_eq!((ended.code, ended.err.as_str()), (0, ""));
        assert!(ended.out.contains(part), "{shell}");
    }
    let (document, _) = Fake::bare().json(&["completions", "bash"]);
    assert!(document["script"].as_str().unwrap().contains("_usherctl()"));
    assert_eq!(run(usherctl(&["completions", "cmd"])).code, 64);
}

/// Each command is in its page, and groff(1) has nothing to complain of.
#[test]
fn manual_pages_are_whole() {
    let man = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/man");
    for (name, parts) in [
        (
            "usherctl.1",
            [
                ".SS \"usherctl reload",
                ".SS \"usherctl ban",
                ".SH \"SIGNALS\"",
            ],
        ),
        (
            "usherd.8",
            [
                ".SS \"usherd check",
                ".SS \"usherd explain",
                ".SH \"EXIT CODES\"",
            ],
        ),
    ] {
        let page = man.join(name);
        let text = std::fs::read_to_string(&page).unwrap();
        for part in parts {
            assert!(text.contains(part), "{name}: {part}");
        }
        assert!(!text.contains("generate"), "a hidden command");
        let groff = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(&page)
            .output();
        if let Ok(output) = groff {
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
        }
    }
}
