//! `user.*`, `group.*`: accounts, by the system's own tools, which keep its
//! locks, subordinate ids and hooks.
//!
//! Nothing here touches an account that is not an ordinary one: root and what
//! packages have made are out of range, for users and for groups.
#![forbid(unsafe_code)]

mod range;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Group, User};
use serde_json::{Value, json};

use super::tool::{Said, Tool};
use super::{Failed, Kind, Outcome, Request, Usherd, to};

pub use range::Ranges;

const PACKAGE: &str = "passwd";
const USERADD: Tool = Tool::new(&["/usr/sbin/useradd"], PACKAGE);
const USERDEL: Tool = Tool::new(&["/usr/sbin/userdel"], PACKAGE);
const USERMOD: Tool = Tool::new(&["/usr/sbin/usermod"], PACKAGE);
const GROUPADD: Tool = Tool::new(&["/usr/sbin/groupadd"], PACKAGE);
const GROUPDEL: Tool = Tool::new(&["/usr/sbin/groupdel"], PACKAGE);
const GPASSWD: Tool = Tool::new(&["/usr/bin/gpasswd"], PACKAGE);

/// Where homes are that nobody has named.
const HOMES: &str = "/home";

/// `user.create`
pub fn create_user(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let given = &request.parameters;
    let name = given.text("name")?;
    if user(name)?.is_some() {
        return Err(exists("user", name));
    }
    if group(name)?.is_some() {
        // useradd(8) would make a group of this name.
        return Err(exists("group", name));
    }
    let ranges = Ranges::of_this_host()?;
    let is_system = given.flag("system");
    let uid = given.some_number("uid");
    if let Some(uid) = uid {
        ranges.permit_new_uid(uid, is_system)?;
    }
    let groups = given.texts("groups");
    for one in &groups {
        ordinary_group(one, &ranges)?;
    }
    let home = given.some_text("home").map(PathBuf::from);
    let home = home.unwrap_or_else(|| Path::new(HOMES).join(name));
    free_home(&home)?;

    let mut args = vec!["--shell", given.text("shell")?];
    let (uid, home_text, groups) = (
        uid.map(|uid| uid.to_string()),
        home.display().to_string(),
        groups.join(","),
    );
    args.extend(["--home-dir", &home_text]);
    args.push(if is_system {
        "--system"
    } else {
        "--create-home"
    });
    if let Some(comment) = given.some_text("comment") {
        args.extend(["--comment", comment]);
    }
    if let Some(uid) = &uid {
        args.extend(["--uid", uid]);
    }
    if !groups.is_empty() {
        args.extend(["--groups", &groups]);
    }
    args.extend(["--", name]);
    if request.dry_run {
        return would(&USERADD, &args);
    }
    let said = USERADD.run(&args, b"")?;
    let made = user(name)?;
    match made {
        Some(made) if said.code == 0 => Ok(json!({
            "user": name,
            "uid": made.uid.as_raw(),
            "gid": made.gid.as_raw(),
            "home": made.dir,
            "shell": made.shell,
        })),
        // Half of it: the account is there, its home is not (12), or its mail spool.
        Some(_) => {
            let undone = USERDEL.run(&["--remove", "--", name], b"")?;
            let mut failed = tell(&USERADD, &said);
            if user(name)?.is_some() {
                let why = USERDEL.failed(&undone);
                failed.reason = format!("{failed}; and the account is still there: {why}");
            }
            Err(failed)
        }
        None => Err(tell(&USERADD, &said)),
    }
}

/// `user.delete`
pub fn delete_user(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let name = request.parameters.text("name")?;
    let ranges = Ranges::of_this_host()?;
    let gone = ordinary_user(name, &ranges)?;
    let busy = processes_of(gone.uid.as_raw())?;
    if let Some(pid) = busy.first() {
        let reason = format!(
            "{} processes of user \"{name}\" run, such as {pid}: stop them first",
            busy.len()
        );
        return Err(Failed::new(Kind::Busy, reason));
    }
    let keep_home = request.parameters.flag("keep_home");
    let mut args = Vec::new();
    if !keep_home && gone.dir.exists() {
        own_home(&gone)?;
        args.push("--remove");
    }
    args.extend(["--", name]);
    if request.dry_run {
        return would(&USERDEL, &args);
    }
    let said = USERDEL.run(&args, b"")?;
    // userdel(8), 12: the account is gone and its home could not be removed.
    if user(name)?.is_some() || !matches!(said.code, 0 | 12) {
        let mut failed = tell(&USERDEL, &said);
        if user(name)?.is_none() {
            failed.reason =
                format!("{failed}; he is in /etc/passwd no more, see pwck(8) and grpck(8)");
        }
        return Err(failed);
    }
    let home = gone.dir;
    let removed = !keep_home && !home.exists();
    Ok(json!({
        "user": name,
        "uid": gone.uid.as_raw(),
        "home": home,
        "home_removed": removed,
    }))
}

/// `user.lock`: neither the password nor a key lets him in.
pub fn lock_user(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let name = request.parameters.text("name")?;
    ordinary_user(name, &Ranges::of_this_host()?)?;
    // usermod(8): the password alone would leave keys.
    modify(request, &["--lock", "--expiredate", "1", "--", name])?
        .map_or_else(|| Ok(json!({ "user": name, "locked": true })), Ok)
}

/// `user.unlock`
pub fn unlock_user(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let name = request.parameters.text("name")?;
    ordinary_user(name, &Ranges::of_this_host()?)?;
    let password = password_of(name)?;
    // Who never had a password has nothing to unlock, and usermod(8) refuses to.
    let has_none = ["!", "!!", "*", "!*"].contains(&&*password);
    let mut args = vec!["--expiredate", ""];
    if !has_none && password.starts_with('!') {
        args.push("--unlock");
    }
    args.extend(["--", name]);
    modify(request, &args)?.map_or_else(
        || Ok(json!({ "user": name, "locked": false, "has_password": !has_none })),
        Ok,
    )
}

fn modify(request: &Request, args: &[&str]) -> Result<Option<Value>, Failed> {
    if request.dry_run {
        return would(&USERMOD, args).map(Some);
    }
    let said = USERMOD.run(args, b"")?;
    match said.code {
        0 => Ok(None),
        _ => Err(tell(&USERMOD, &said)),
    }
}

/// `group.create`
pub fn create_group(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let name = request.parameters.text("name")?;
    if group(name)?.is_some() {
        return Err(exists("group", name));
    }
    let args = ["--", name];
    if request.dry_run {
        return would(&GROUPADD, &args);
    }
    let said = GROUPADD.run(&args, b"")?;
    match group(name)? {
        Some(made) if said.code == 0 => Ok(json!({ "group": name, "gid": made.gid.as_raw() })),
        _ => Err(tell(&GROUPADD, &said)),
    }
}

/// `group.delete`
pub fn delete_group(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let name = request.parameters.text("name")?;
    let gone = ordinary_group(name, &Ranges::of_this_host()?)?;
    let args = ["--", name];
    if request.dry_run {
        return would(&GROUPDEL, &args);
    }
    let said = GROUPDEL.run(&args, b"")?;
    match said.code {
        0 => Ok(json!({ "group": name, "gid": gone.gid.as_raw() })),
        8 => {
            let reason = format!("group \"{name}\" is the primary group of a user");
            Err(Failed::new(Kind::Busy, reason))
        }
        _ => Err(tell(&GROUPDEL, &said)),
    }
}

/// `group.member`
pub fn change_member(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let given = &request.parameters;
    let (name, who) = (given.text("group")?, given.text("user")?);
    let ranges = Ranges::of_this_host()?;
    ordinary_user(who, &ranges)?;
    let before = ordinary_group(name, &ranges)?;
    let adds = given.text("action")? == "add";
    let was_member = before.mem.iter().any(|member| member == who);
    if adds == was_member {
        return Ok(json!({ "group": name, "members": before.mem, "changed": false }));
    }
    // No `--` here: gpasswd(1) takes the word after the option as it is, and names have a pattern.
    let args = [if adds { "--add" } else { "--delete" }, who, name];
    if request.dry_run {
        return would(&GPASSWD, &args);
    }
    let said = GPASSWD.run(&args, b"")?;
    match group(name)? {
        Some(after) if said.code == 0 => {
            Ok(json!({ "group": name, "members": after.mem, "changed": true }))
        }
        _ => Err(tell(&GPASSWD, &said)),
    }
}

fn would(tool: &Tool, args: &[&str]) -> Outcome {
    Ok(json!({ "would_run": tool.command(args)? }))
}

/// Why one of these tools failed; a lock that another one holds is [`Kind::Busy`].
fn tell(tool: &Tool, said: &Said) -> Failed {
    let mut failed = tool.failed(said);
    if said.err.contains("cannot lock") {
        failed.kind = Kind::Busy;
        if let Some((file, pid)) = lock_in(Path::new("/etc")) {
            let file = file.display();
            failed.reason = format!(
                "{failed}; {file} is of process {pid}: if that is no tool for accounts, remove the file"
            );
        }
    }
    failed
}

/// The first lock that one of these tools has, or has left behind, and its process. They
/// take those of processes that are over away themselves, but numbers come again.
fn lock_in(folder: &Path) -> Option<(PathBuf, i32)> {
    let names = ["passwd", "shadow", "group", "gshadow", "subuid", "subgid"];
    names.iter().find_map(|name| {
        let file = folder.join(format!("{name}.lock"));
        let text = fs::read_to_string(&file).ok()?;
        let pid = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        Some((file, pid.parse().ok()?))
    })
}

fn exists(what: &str, name: &str) -> Failed {
    Failed::new(
        Kind::Exists,
        format!("there is a {what} \"{name}\" already"),
    )
}

fn user(name: &str) -> Result<Option<User>, Failed> {
    to("look up a user", User::from_name(name))
}

fn group(name: &str) -> Result<Option<Group>, Failed> {
    to("look up a group", Group::from_name(name))
}

/// One that is there and in range.
pub fn ordinary_user(name: &str, ranges: &Ranges) -> Result<User, Failed> {
    let absent = || Failed::new(Kind::NotFound, format!("there is no user \"{name}\""));
    let user = user(name)?.ok_or_else(absent)?;
    ranges.permit_user(name, user.uid.as_raw())?;
    Ok(user)
}

/// All that /etc/passwd has and that are in range.
pub fn ordinary_users(ranges: &Ranges) -> Result<Vec<User>, Failed> {
    let text = to("read /etc/passwd", fs::read_to_string("/etc/passwd"))?;
    let names = text.lines().filter_map(|line| line.split(':').next());
    let users = names.filter_map(|name| ordinary_user(name, ranges).ok());
    Ok(users.collect())
}

fn ordinary_group(name: &str, ranges: &Ranges) -> Result<Group, Failed> {
    let absent = || Failed::new(Kind::NotFound, format!("there is no group \"{name}\""));
    let group = group(name)?.ok_or_else(absent)?;
    ranges.permit_group(name, group.gid.as_raw())?;
    Ok(group)
}

/// A home that nobody has, in a folder where nobody but root can put a link.
fn free_home(home: &Path) -> Result<(), Failed> {
    if fs::symlink_metadata(home).is_ok() {
        let reason = format!("{} is there already", home.display());
        return Err(Failed::new(Kind::Exists, reason));
    }
    for folder in home.ancestors().skip(1) {
        let what = format!("look at {}", folder.display());
        let meta = to(what, fs::symlink_metadata(folder))?;
        if !meta.is_dir() || meta.uid() != 0 || meta.mode() & 0o022 != 0 {
            let folder = folder.display();
            let reason = format!("{folder} is no folder that root alone can write to");
            return Err(Failed::new(Kind::Forbidden, reason));
        }
    }
    Ok(())
}

/// userdel(8) asks the same; here before anything is gone.
fn own_home(user: &User) -> Result<(), Failed> {
    let home = user.dir.display();
    let meta = to(format!("look at {home}"), fs::symlink_metadata(&user.dir))?;
    if meta.is_dir() && meta.uid() == user.uid.as_raw() {
        return Ok(());
    }
    let name = &user.name;
    let reason = format!("{home} is not {name}'s own folder: keep_home = true leaves it alone");
    Err(Failed::new(Kind::Forbidden, reason))
}

/// Real, effective, saved or file system user.
fn processes_of(uid: u32) -> Result<Vec<i32>, Failed> {
    let mut found = Vec::new();
    for entry in to("look at processes", fs::read_dir("/proc"))?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Gone meanwhile, perhaps.
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else {
            continue;
        };
        // One that has ended and that nobody asks for does nothing any more.
        let is_over = status.lines().any(|line| line.starts_with("State:\tZ"));
        if !is_over && uids(&status).any(|one| one == uid) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn uids(status: &str) -> impl Iterator<Item = u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let words = line.unwrap_or_default().split_whitespace();
    words.filter_map(|word| word.parse().ok())
}

/// What stands in the place of a password; empty where there is no such entry.
fn password_of(name: &str) -> Result<String, Failed> {
    let shadow = to("read /etc/shadow", fs::read_to_string("/etc/shadow"))?;
    let mut entries = shadow.lines().map(|line| line.split(':'));
    let found = entries.find_map(|mut entry| (entry.next() == Some(name)).then(|| entry.next()));
    Ok(found.flatten().unwrap_or_default().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_told_with_its_process() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(lock_in(dir.path()), None);
        // shadow(5)'s tools write the NUL, too.
        fs::write(dir.path().join("group.lock"), "4321\0").unwrap();
        fs::write(dir.path().join("shadow.lock"), "odd").unwrap();
        let wanted = Some((dir.path().join("group.lock"), 4321));
        assert_eq!(lock_in(dir.path()), wanted);
    }

    #[test]
    fn every_uid_of_a_process_counts() {
        let status = "Name:\tx\nUid:\t1000\t0\t1001\t0\nGid:\t7\t7\t7\t7\n";
        assert_eq!(uids(status).collect::<Vec<_>>(), [1000, 0, 1001, 0]);
        let own = processes_of(nix::unistd::getuid().as_raw()).unwrap();
        assert!(!own.is_empty());
    }

    #[test]
    fn a_home_is_neither_taken_nor_below_what_others_write() {
        let kind = |home: &str| free_home(Path::new(home)).map_err(|err| err.kind);
        assert_eq!(kind("/home"), Err(Kind::Exists));
        assert_eq!(kind("/tmp/usherd-nobody"), Err(Kind::Forbidden));
        assert_eq!(kind("/bin/sh/x"), Err(Kind::Forbidden));
        assert_eq!(kind("/usherd-nobody"), Ok(()));
    }
}
