//! Every file in `tests/bad` against what should be said about it: the whole
//! text, as the operator sees it. After a change that is meant,
//! `USHERD_BLESS=1 cargo test --test config_errors` writes the texts anew;
//! read the difference before committing it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use usherd::table::host::{Account, Accounts, Found, Inherited, InheritedKind};
use usherd::table::names::Names;
use usherd::table::{Host, Source, load, schema};

/// The same few accounts on every machine.
#[derive(Debug)]
struct FewAccounts;

impl Accounts for FewAccounts {
    fn user(&self, name: &str) -> Option<Account> {
        let id = match name {
            "root" => 0,
            "git" => 200,
            "alice" => 1000,
            "nobody" => 65534,
            _ => return None,
        };
        Some(Account {
            name: name.to_owned(),
            uid: id,
            gid: id,
            home: PathBuf::from("/"),
            shell: PathBuf::from("/bin/sh"),
        })
    }

    fn user_by_uid(&self, uid: u32) -> Option<Account> {
        let known = ["root", "git", "alice", "nobody"];
        let mut accounts = known.iter().filter_map(|name| self.user(name));
        accounts.find(|account| account.uid == uid)
    }

    fn group(&self, name: &str) -> Option<u32> {
        self.user(name).map(|account| account.gid)
    }

    fn has_gid(&self, gid: u32) -> bool {
        self.user_by_uid(gid).is_some()
    }

    fn groups_of(&self, _name: &str, gid: u32) -> Vec<u32> {
        vec![gid]
    }
}

fn host(root: bool) -> Host {
    let id = if root { 0 } else { 1000 };
    Host {
        edited: None,
        root,
        can_bind_low: root,
        unprivileged_port_start: 1024,
        uid: id,
        gid: id,
        user: Some(if root { "root" } else { "alice" }.to_owned()),
        hostname: "web1.example".to_owned(),
        groups: vec![id],
        inherited: Inherited::Known(vec![
            ("web".to_owned(), InheritedKind::Listener),
            ("conn".to_owned(), InheritedKind::Connection),
        ]),
        hard_limits: vec![(7, 4096)],
        nr_open: 1 << 20,
        names: Names::new("ftp 21/tcp\ntelnet 23/tcp\n", "rstatd 100001\n"),
        accounts: Box::new(FewAccounts),
        look: |path| match path.to_str() {
            Some(path) if path.ends_with("/missing") => Found::Nothing,
            Some("/usr/bin/data") => Found::File,
            Some("/srv/data" | "/") => Found::Folder,
            _ => Found::Program,
        },
        lack_of_pam: || Some("unable to load the PAM library: libpam.so.0: no such file".into()),
    }
}

/// Errors, then warnings. Files named `user-*` are checked for an ordinary user.
fn said_about(path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy();
    match load(Source::File(path), &host(!name.starts_with("user-"))) {
        Ok(loaded) => format!("only warnings:\n{}", loaded.warnings),
        Err(complaints) => complaints.to_string(),
    }
}

fn bad_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir("tests/bad")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "toml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_bad_table_gets_the_answer_it_deserves() {
    let bless = std::env::var_os("USHERD_BLESS").is_some();
    let files = bad_files();
    assert!(files.len() >= 25, "only {} files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let said = said_about(&path);
        assert_ne!(said, "only warnings:\n", "{} is good", path.display());
        let expected = path.with_extension("stderr");
        if bless {
            fs::write(&expected, &said).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("{}:\n{said}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "not as expected:\n{}", wrong.join("\n"));
}

#[test]
fn the_built_in_table_loads_on_this_machine() {
    let (name, text) = ("config/usherd.toml", usherd::table::DEFAULT_TABLE);
    if let Err(complaints) = load(Source::Text { name, text }, &Host::probe()) {
        panic!("{complaints}");
    }
}

/// Words in backquotes at the head of the rows and sections of the reference.
fn documented() -> Vec<String> {
    fs::read_to_string("config/README.md")
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .flat_map(|heads| heads.split(", "))
        .map(|head| head.trim_matches('`').to_owned())
        .collect()
}

fn known() -> Vec<String> {
    let under = |prefix: &'static str, keys: &'static [&'static str]| {
        keys.iter().map(move |key| format!("{prefix}{key}"))
    };
    under("", &["include", "layers"])
        .chain(under("daemon.", schema::DAEMON_KEYS))
        .chain(under("import.", schema::IMPORT_KEYS))
        .chain(under("", schema::SERVICE_KEYS))
        .chain(under("socket.", schema::SOCKET_KEYS))
        .collect()
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let (mut documented, mut known) = (documented(), known());
    documented.sort();
    known.sort();
    assert_eq!(documented, known);
}

#[test]
fn the_reference_names_the_keys_inside_values_too() {
    let text = fs::read_to_string("config/README.md").unwrap();
    let limits: Vec<&str> = schema::LIMITS.iter().map(|(name, ..)| *name).collect();
    for keys in [
        schema::DAEMON_LOG_KEYS,
        schema::KEEPALIVE_KEYS,
        schema::BANNER_KEYS,
        schema::STOP_KEYS,
        schema::FORWARD_KEYS,
        schema::SOURCE_PREFIX_KEYS,
        schema::ONLY_IF_KEYS,
        &limits,
        &schema::LOG_EVENTS,
    ] {
        for key in keys {
            assert!(text.contains(&format!("`{key}`")), "{key} is missing");
        }
    }
}

/// Each ```toml block of the reference that is a whole table.
#[test]
fn the_tables_in_the_reference_load() {
    let text = fs::read_to_string("config/README.md").unwrap();
    let mut count = 0;
    for block in text.split("```toml\n").skip(1) {
        let table = block.split("```").next().unwrap();
        let name = "config/README.md";
        // Examples of single keys are tried within a service that can have them.
        let whole = if table.contains("[service.")
            || table.contains("[daemon]")
            || table.contains("[import]")
        {
            table.to_owned()
        } else {
            let mut rest = table.to_owned();
            let has = |key: &str| table.lines().any(|l| l.trim_start().starts_with(key));
            if !has("listen") {
                rest.push_str("\nlisten = \"tcp:4000\"\n");
            }
            if !has("exec") && !has("builtin") && !has("forward") {
                let relay = has("idle_timeout") || has("max_bytes");
                rest.push_str(if relay {
                    "builtin = \"echo\"\n"
                } else {
                    "exec = [\"/bin/cat\"]\n"
                });
            }
            if !has("user") && !rest.contains("builtin") && !has("forward") {
                rest.push_str("user = \"nobody\"\n");
            }
            format!(
                "[service.mux]\nlisten = \"tcp:1\"\nbuiltin = \"tcpmux\"\n[service.example]\n{rest}"
            )
        };
        let text = &whole;
        if let Err(complaints) = load(Source::Text { name, text }, &host(true)) {
            panic!("{whole}\n{complaints}");
        }
        count += 1;
    }
    assert!(count > 20, "only {count} examples");
}
