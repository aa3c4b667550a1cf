//! `user.*`, `group.*`, `auth.check` and `remote_access.*`: accounts of this host, which
//! each test makes for itself and deletes again.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::unistd::{Group, User};
use serde_json::{Value, json};
use usherd::control::client::ClientError;

use super::runtime::catalogue;
use super::{failed, run, run_dry};
use crate::common::*;
use crate::control::{cat, refused};
use crate::tests;

tests![
    an_account_lives_from_its_creation_to_its_deletion: 120,
    accounts_that_are_not_ordinary_are_left_alone,
    nothing_is_left_of_an_account_that_came_to_half,
    a_user_with_processes_is_not_deleted,
    a_dry_run_changes_no_account,
    an_account_for_a_daemon_is_made_and_not_touched_again,
    a_password_is_checked_for_who_sees_no_shadow_file: 120,
    a_key_lets_in_until_it_is_revoked: 120,
    links_of_a_user_lead_nowhere,
];

/// A name that no account of this host has.
struct Name(String);

impl Name {
    fn new() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        Self(format!("usht{}x{number}", std::process::id()))
    }

    fn user(&self) -> Option<User> {
        User::from_name(&self.0).unwrap()
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        for (program, option) in [
            ("/usr/sbin/userdel", "--remove"),
            ("/usr/sbin/groupdel", "--"),
        ] {
            let quiet = Command::new(program)
                .args([option, &self.0])
                .stderr(Stdio::null())
                .status();
            let _ = quiet;
        }
    }
}

fn start(dir: &Dir) -> Daemon {
    needs_root();
    let _ = needs("useradd", "passwd");
    Daemon::start(dir, &cat(free_port(), ""))
}

fn done(outcome: Result<Value, ClientError>) -> Value {
    outcome.unwrap_or_else(|err| panic!("{err:?}"))
}

fn shadow(name: &str) -> Vec<String> {
    let text = fs::read_to_string("/etc/shadow").unwrap();
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(name));
    line.unwrap_or_default()
        .split(':')
        .map(str::to_owned)
        .collect()
}

fn an_account_lives_from_its_creation_to_its_deletion() {
    let dir = Dir::new();
    let _daemon = start(&dir);
    let (name, team) = (Name::new(), Name::new());
    let (name_text, team_text) = (&*name.0, &*team.0);
    done(run(&dir, "group.create", &json!({ "name": team_text })));
    let wanted =
        json!({ "name": name_text, "comment": "A test; of usherd", "groups": [team_text] });
    let made = done(run(&dir, "user.create", &wanted));
    let user = name.user().unwrap();
    assert_eq!(made["uid"], json!(user.uid.as_raw()));
    assert_eq!(made["home"], json!(format!("/home/{name_text}")));
    assert_eq!(user.gecos.to_str(), Ok("A test; of usherd"));
    assert!(user.shell.ends_with("nologin"));
    let home = fs::metadata(&user.dir).unwrap();
    assert_eq!(
        std::os::unix::fs::MetadataExt::uid(&home),
        user.uid.as_raw()
    );
    assert!(shadow(name_text)[1].starts_with('!'), "it has no password");
    let members = || Group::from_name(team_text).unwrap().unwrap().mem;
    assert_eq!(members(), [name_text]);
    assert_eq!(failed(run(&dir, "user.create", &wanted)).0, "exists");

    let member = |action: &str| json!({ "group": team_text, "user": name_text, "action": action });
    done(run(&dir, "group.member", &member("remove")));
    assert!(members().is_empty());
    let again = done(run(&dir, "group.member", &member("remove")));
    assert_eq!(again["changed"], json!(false));
    done(run(&dir, "group.member", &member("add")));
    assert_eq!(members(), [name_text]);

    let who = json!({ "name": name_text });
    done(run(&dir, "user.lock", &who));
    assert_eq!(shadow(name_text)[7], "1", "it is over since 1970");
    let unlocked = done(run(&dir, "user.unlock", &who));
    assert_eq!(unlocked["has_password"], json!(false));
    assert_eq!(shadow(name_text)[7], "");

    let gone = done(run(&dir, "user.delete", &who));
    assert_eq!(gone["home_removed"], json!(true), "{gone}");
    assert!(name.user().is_none() && !user.dir.exists());
    for file in ["passwd", "shadow", "group", "gshadow", "subuid", "subgid"] {
        let text = fs::read_to_string(format!("/etc/{file}")).unwrap_or_default();
        let start = format!("{name_text}:");
        assert!(!text.lines().any(|line| line.starts_with(&start)), "{file}");
    }
    done(run(&dir, "group.delete", &json!({ "name": team_text })));
    assert_eq!(Group::from_name(team_text), Ok(None));
}

fn accounts_that_are_not_ordinary_are_left_alone() {
    let dir = Dir::new();
    let _daemon = start(&dir);
    let name = Name::new();
    let forbidden = |operation: &str, parameters: Value| {
        let (kind, reason) = failed(run(&dir, operation, &parameters));
        assert_eq!(kind, "forbidden", "{operation}: {reason}");
    };
    for user in ["root", "daemon", "nobody"] {
        forbidden("user.delete", json!({ "name": user }));
        forbidden("user.lock", json!({ "name": user }));
        forbidden("user.unlock", json!({ "name": user }));
    }
    forbidden("group.delete", json!({ "name": "mail" }));
    forbidden(
        "user.create",
        json!({ "name": name.0, "groups": ["shadow"] }),
    );
    forbidden("user.create", json!({ "name": name.0, "uid": 1 }));
    forbidden(
        "group.member",
        json!({ "group": "shadow", "user": "nobody", "action": "add" }),
    );
    done(run(&dir, "user.create", &json!({ "name": name.0 })));
    forbidden(
        "group.member",
        json!({ "group": "shadow", "user": name.0, "action": "add" }),
    );
    // A home within another one, where its owner could put links.
    let other = Name::new();
    forbidden(
        "user.create",
        json!({ "name": other.0, "home": format!("/home/{}/x", name.0) }),
    );
    // What is no name, or no home, never gets there.
    for odd in [
        json!({ "name": "-r" }),
        json!({ "name": "a:b" }),
        json!({ "name": "A" }),
        json!({ "name": "x", "home": "/etc" }),
        json!({ "name": "x", "home": "/home/../etc" }),
        json!({ "name": "x", "shell": "/tmp/sh" }),
        json!({ "name": "x", "comment": "a\nroot::0:0:::" }),
        json!({ "name": "x", "comment": "a:b" }),
    ] {
        let (error, _) = refused(run(&dir, "user.create", &odd));
        assert!(error.ends_with(".WrongParameter"), "{error}: {odd}");
    }
}

/// Of a host where homes cannot be made.
fn nothing_is_left_of_an_account_that_came_to_half() {
    let dir = Dir::new();
    needs_root();
    catalogue(
        &dir,
        "[operation.\"user.create\"]\nisolation = { preset = \"strict\", user_namespace = \"off\", \
         capabilities = [\"chown\", \"dac_override\", \"fowner\"], writable = [\"/etc\", \"/var/mail\"], visible = [\"/home\"] }\n",
    );
    let _daemon = start(&dir);
    let name = Name::new();
    let (kind, reason) = failed(run(&dir, "user.create", &json!({ "name": name.0 })));
    assert_eq!(kind, "failed", "{reason}");
    assert!(reason.starts_with("useradd ended with 12: "), "{reason}");
    assert!(name.user().is_none(), "{reason}");
    assert_eq!(Group::from_name(&name.0), Ok(None));
}

fn a_user_with_processes_is_not_deleted() {
    let dir = Dir::new();
    let _daemon = start(&dir);
    let name = Name::new();
    done(run(&dir, "user.create", &json!({ "name": name.0 })));
    let uid = name.user().unwrap().uid.as_raw();
    let mut child = Command::new("/bin/cat")
        .uid(uid)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (kind, reason) = failed(run(&dir, "user.delete", &json!({ "name": name.0 })));
    assert!(reason.contains(&child.id().to_string()), "{reason}");
    assert_eq!(kind, "busy");
    assert!(name.user().is_some());
    drop(child.stdin.take());
    child.wait().unwrap();
    let kept = json!({ "name": name.0, "keep_home": true });
    let gone = done(run(&dir, "user.delete", &kept));
    let home = gone["home"].as_str().unwrap();
    assert!(Path::new(home).is_dir() && name.user().is_none());
    fs::remove_dir_all(home).unwrap();
}

fn a_dry_run_changes_no_account() {
    let dir = Dir::new();
    let _daemon = start(&dir);
    let name = Name::new();
    let would = done(run_dry(&dir, "user.create", &json!({ "name": name.0 })));
    assert_eq!(would["would_run"][0], json!("/usr/sbin/useradd"), "{would}");
    assert!(name.user().is_none());
    done(run(&dir, "user.create", &json!({ "name": name.0 })));
    let before = shadow(&name.0);
    for operation in ["user.lock", "user.unlock", "user.delete"] {
        let would = done(run_dry(&dir, operation, &json!({ "name": name.0 })));
        assert!(would["would_run"].is_array(), "{would}");
    }
    assert_eq!(shadow(&name.0), before);
}

fn an_account_for_a_daemon_is_made_and_not_touched_again() {
    let dir = Dir::new();
    let _daemon = start(&dir);
    let name = Name::new();
    let wanted = json!({ "name": name.0, "system": true, "home": format!("/home/{}", name.0) });
    let made = done(run(&dir, "user.create", &wanted));
    assert!(made["uid"].as_u64().unwrap() < 1000, "{made}");
    assert!(!name.user().unwrap().dir.exists());
    for operation in ["user.lock", "user.delete"] {
        let (kind, reason) = failed(run(&dir, operation, &json!({ "name": name.0 })));
        assert_eq!(kind, "forbidden", "{reason}");
    }
}

fn set_password(name: &str, password: &str) {
    let mut chpasswd = Command::new("/usr/sbin/chpasswd")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(chpasswd.stdin.take().unwrap(), "{name}:{password}").unwrap();
    assert!(chpasswd.wait().unwrap().success());
}

fn a_password_is_checked_for_who_sees_no_shadow_file() {
    let dir = Dir::new();
    let _daemon = start(&dir);
    if !Path::new("/etc/pam.d/login").exists() {
        skip("needs /etc/pam.d/login (package login)");
    }
    let name = Name::new();
    let unlocked = json!({ "name": name.0, "shell": "/bin/sh" });
    done(run(&dir, "user.create", &unlocked));
    set_password(&name.0, "Correct horse, b\u{e4}ttery");
    let check = |user: &str, password: &str| {
        let asked = json!({ "user": user, "password": password, "from": "192.0.2.1" });
        done(run(&dir, "auth.check", &asked))
    };
    let right = "Correct horse, b\u{e4}ttery";
    assert_eq!(check(&name.0, right), json!({ "ok": true }));
    let wrong = json!({ "ok": false, "reason": "credentials" });
    assert_eq!(check(&name.0, "Correct horse"), wrong);
    assert_eq!(check(&name.0, ""), wrong);
    // One who is not there is answered as one whose password it is not.
    assert_eq!(check("usherd-nobody", right), wrong);
    assert_eq!(check("daemon", "*"), wrong);
    let root = json!({ "user": "root", "password": "x" });
    assert_eq!(failed(run(&dir, "auth.check", &root)).0, "forbidden");

    done(run(&dir, "user.lock", &json!({ "name": name.0 })));
    assert_eq!(
        check(&name.0, right),
        wrong,
        "nothing is said of a locked account"
    );
    let unlocked = done(run(&dir, "user.unlock", &json!({ "name": name.0 })));
    assert_eq!(unlocked["has_password"], json!(true));
    assert_eq!(check(&name.0, right), json!({ "ok": true }));
    let expire = |option: &str, value: &str| {
        let chage = Command::new("/usr/bin/chage")
            .args([option, value, &name.0])
            .status();
        assert!(chage.unwrap().success());
    };
    expire("--lastday", "0");
    assert_eq!(check(&name.0, right)["reason"], json!("new_password"));
    expire("--lastday", "20000");
    expire("--expiredate", "1");
    // What pam_unix(8) calls expired is plainly denied by the end of Debian's stack.
    let over = check(&name.0, right);
    let words = [json!("expired"), json!("forbidden")];
    assert!(words.contains(&over["reason"]), "{over}");
    assert_eq!(check(&name.0, "x"), wrong);
    let log = fs::read_to_string(dir.file("state/audit.log")).unwrap_or_default();
    assert!(!log.contains("horse"), "{log}");
}

/// What a client is told, if he is let in.
fn log_in(dir: &Dir, user: &str, sshd: &Path) -> Option<String> {
    let config = dir.file("sshd_config");
    let proxy = format!("ProxyCommand={} -i -f {config}", sshd.display());
    let output = Command::new("ssh")
        .args(["-q", "-F", "/dev/null", "-i", &dir.file("id"), "-o", &proxy])
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ])
        .args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
        .args([&format!("{user}@localhost"), "id -un"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    output.status.success().then_some(said)
}

fn a_key_lets_in_until_it_is_revoked() {
    let dir = Dir::new();
    let _daemon = start(&dir);
    let (sshd, keygen) = (
        needs("sshd", "openssh-server"),
        needs("ssh-keygen", "openssh-client"),
    );
    let _ = fs::create_dir("/run/sshd");
    for name in ["host", "id"] {
        let made = Command::new(&keygen)
            .args([
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                "me",
                "-f",
                &dir.file(name),
            ])
            .status();
        assert!(made.unwrap().success());
    }
    dir.write(
        "sshd_config",
        format!("HostKey {}\nUsePAM no\n", dir.file("host")),
    );
    let name = Name::new();
    done(run(
        &dir,
        "user.create",
        &json!({ "name": name.0, "shell": "/bin/sh" }),
    ));
    set_password(&name.0, "x"); // sshd lets nobody in whose account is locked
    assert_eq!(log_in(&dir, &name.0, &sshd), None);

    let key = fs::read_to_string(dir.file("id.pub"))
        .unwrap()
        .trim()
        .to_owned();
    let grant = json!({ "user": name.0, "key": key, "for": "1h", "comment": "to mend it" });
    let would = done(run_dry(&dir, "remote_access.grant", &grant));
    assert!(
        would["would_add"]
            .as_str()
            .unwrap()
            .contains("expiry-time=")
    );
    assert_eq!(log_in(&dir, &name.0, &sshd), None);
    let granted = done(run(&dir, "remote_access.grant", &grant));
    let file = name.user().unwrap().dir.join(".ssh/authorized_keys");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(
        log_in(&dir, &name.0, &sshd).as_deref(),
        Some(&*name.0),
        "{text}"
    );
    assert_eq!(failed(run(&dir, "remote_access.grant", &grant)).0, "exists");

    for asked in [json!({ "user": name.0 }), json!({})] {
        let listed = done(run(&dir, "remote_access.list", &asked));
        let mut keys = listed["keys"].as_array().unwrap().iter();
        let ours = keys.find(|one| one["user"] == json!(name.0)).unwrap();
        assert_eq!(ours["fingerprint"], granted["fingerprint"]);
        assert_eq!(
            (&ours["by"], &ours["comment"]),
            (&json!("uid=0"), &json!("to mend it"))
        );
        assert_eq!(ours["over"], json!(false));
    }
    let uid = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&file).unwrap());
    assert_eq!(uid, name.user().unwrap().uid.as_raw());
    // sshd itself keeps the time.
    let text = fs::read_to_string(&file).unwrap();
    let at = text.find("expiry-time=\"").unwrap() + "expiry-time=\"".len();
    fs::write(
        &file,
        format!("# own\n{}2001{}", &text[..at], &text[at + 4..]),
    )
    .unwrap();
    assert_eq!(log_in(&dir, &name.0, &sshd), None);

    let revoke = json!({ "user": name.0, "fingerprint": granted["fingerprint"] });
    assert_eq!(
        done(run(&dir, "remote_access.revoke", &revoke))["removed"],
        json!(1)
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "# own\n");
    assert_eq!(
        failed(run(&dir, "remote_access.revoke", &revoke)).0,
        "not_found"
    );
    let root = json!({ "user": "root", "key": key });
    assert_eq!(
        failed(run(&dir, "remote_access.grant", &root)).0,
        "forbidden"
    );
    let odd = json!({ "user": name.0, "key": "ssh-ed25519 AAAA" });
    assert_eq!(failed(run(&dir, "remote_access.grant", &odd)).0, "invalid");
}

fn links_of_a_user_lead_nowhere() {
    let dir = Dir::new();
    let _daemon = start(&dir);
    let name = Name::new();
    done(run(&dir, "user.create", &json!({ "name": name.0 })));
    let home = name.user().unwrap().dir;
    let uid = name.user().unwrap().uid.as_raw();
    let secret = dir.write("secret", "root's");
    let link = |from: &Path, to: &str| {
        let made = Command::new("ln")
            .args(["-sfn", to])
            .arg(from)
            .uid(uid)
            .status();
        assert!(made.unwrap().success());
    };
    let grant = json!({ "user": name.0, "key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOPwU8297bH1/L1dqTqQVwATcJWQYfT1QD/kDDIAMZgY" });
    link(&home.join(".ssh"), dir.path().to_str().unwrap());
    let (kind, reason) = failed(run(&dir, "remote_access.grant", &grant));
    assert_eq!(kind, "forbidden", "{reason}");
    fs::remove_file(home.join(".ssh")).unwrap();
    let made = Command::new("mkdir")
        .arg(home.join(".ssh"))
        .uid(uid)
        .status();
    assert!(made.unwrap().success());
    link(&home.join(".ssh/authorized_keys"), &secret);
    let (kind, reason) = failed(run(&dir, "remote_access.grant", &grant));
    assert_eq!(kind, "forbidden", "{reason}");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "root's");
    let listed = done(run(&dir, "remote_access.list", &json!({})));
    let mut unread = listed["unread"].as_array().unwrap().iter();
    assert!(unread.any(|one| one["user"] == json!(name.0)), "{listed}");
}
