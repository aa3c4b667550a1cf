//! `file.install`: an application's configuration, put in place in one step.
//!
//! Nothing on the way to the file may be a link, but for those of root's that led to the
//! folder when it was put into the sandbox; nobody sees half of the file, and what was there
//! is kept beside it as `NAME.usherd-old`.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::unistd::{Gid, Group, Uid, UnlinkatFlags, User, fchown, linkat, unlinkat};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Failed, Kind, Outcome, Request, Usherd, to};

const OLD: &str = ".usherd-old";
const NEW: &str = ".usherd-new";

/// Octets of a file that is compared with what is to be there.
const LONGEST: u64 = 64 << 20;

/// What a file is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Looks {
    mode: u32,
    uid: u32,
    gid: u32,
}

/// A file that is there.
struct Present {
    looks: Looks,
    sha256: String,
}

/// `file.install`
pub fn install(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let given = &request.parameters;
    let path = Path::new(given.text("path")?);
    let content = given.text("content")?.as_bytes();
    let (folder, name) = place_of(path)?;
    let present = look(&folder, name, path)?;
    let looks = looks(request, present.as_ref())?;
    let sha256 = hash(content);
    let is_same = present
        .as_ref()
        .is_some_and(|old| old.sha256 == sha256 && old.looks == looks);
    let mut result = json!({
        "path": path,
        "changed": !is_same,
        "sha256": sha256,
        "mode": format!("{:03o}", looks.mode),
        "uid": looks.uid,
        "gid": looks.gid,
        "old_sha256": present.as_ref().map(|old| &old.sha256),
        "kept_as": Value::Null,
    });
    if is_same || request.dry_run {
        return Ok(result);
    }
    let new = hidden(name, NEW);
    let made = make(&folder, &new, content, looks);
    let placed = made.and_then(|()| put(&folder, &new, name, present.is_some()));
    if let Err(failed) = placed {
        let _ = unlinkat(&folder, new.as_str(), UnlinkatFlags::NoRemoveDir);
        return Err(failed);
    }
    if present.is_some() {
        result["kept_as"] = json!(path.with_file_name(old_name(name)));
    }
    Ok(result)
}

/// The folder, opened, and the name in it. Whatever happens to its path afterwards,
/// the folder stays the same.
fn place_of(path: &Path) -> Result<(OwnedFd, &str), Failed> {
    let invalid = |why: &str| Failed::new(Kind::Invalid, format!("{}: {why}", path.display()));
    let name = path.file_name().and_then(OsStr::to_str);
    let name = name.ok_or_else(|| invalid("no name of a file"))?;
    if name.ends_with(OLD) || name.ends_with(NEW) {
        return Err(invalid("names of this kind are for what is kept"));
    }
    let parent = path.parent().ok_or_else(|| invalid("no folder"))?;
    let parent = parent
        .strip_prefix("/")
        .map_err(|_| invalid("not absolute"))?;
    let parent = if parent == Path::new("") {
        Path::new(".")
    } else {
        parent
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = openat(AT_FDCWD, "/", flags, Mode::empty());
    let root = to("open /", root)?;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    // Not O_PATH: it is to be synchronised.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = openat2(&root, parent, OpenHow::new().flags(flags).resolve(resolve));
    let folder = folder.map_err(|errno| {
        let kind = match errno {
            Errno::ENOENT => Kind::NotFound,
            Errno::ELOOP | Errno::ENOTDIR | Errno::EXDEV => Kind::Forbidden,
            _ => Kind::Failed,
        };
        let parent = parent.display();
        let reason = match errno {
            Errno::ELOOP => format!("there is a link on the way to /{parent}"),
            errno => format!("unable to open /{parent}: {errno}"),
        };
        Failed::new(kind, reason)
    })?;
    Ok((folder, name))
}

/// What is there under this name, if anything; a link or a device is not to be replaced.
fn look(folder: &OwnedFd, name: &str, path: &Path) -> Result<Option<Present>, Failed> {
    let shown = path.display();
    let odd = |what: &str| {
        let reason = format!("{shown} is {what}, no ordinary file");
        Err(Failed::new(Kind::Forbidden, reason))
    };
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ELOOP) => return odd("a link"),
        Err(Errno::ENXIO) => return odd("a socket or a device"),
        opened => to(format!("open {shown}"), opened)?,
    };
    let stat = to(format!("look at {shown}"), fstat(&file))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return odd("a folder or a device");
    }
    let mut content = Vec::new();
    let read = File::from(file).take(LONGEST).read_to_end(&mut content);
    to(format!("read {shown}"), read)?;
    Ok(Some(Present {
        looks: looks_of(&stat),
        sha256: hash(&content),
    }))
}

fn looks_of(stat: &FileStat) -> Looks {
    Looks {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
    }
}

/// As asked for, else as it was, else as root would make it. Whoever owned the old file
/// chose its mode: set-user-id goes in any case, and what lets others write if it is
/// somebody else's now.
fn looks(request: &Request, present: Option<&Present>) -> Result<Looks, Failed> {
    let given = &request.parameters;
    let mut looks = present.map_or(
        Looks {
            mode: 0o644,
            uid: 0,
            gid: 0,
        },
        |present| Looks {
            mode: present.looks.mode & 0o777,
            ..present.looks
        },
    );
    if let Some(owner) = given.some_text("owner") {
        let found = to("look up a user", User::from_name(owner))?;
        let none = || Failed::new(Kind::NotFound, format!("there is no user \"{owner}\""));
        looks.uid = found.ok_or_else(none)?.uid.as_raw();
    }
    if let Some(group) = given.some_text("group") {
        let found = to("look up a group", Group::from_name(group))?;
        let none = || Failed::new(Kind::NotFound, format!("there is no group \"{group}\""));
        looks.gid = found.ok_or_else(none)?.gid.as_raw();
    }
    if let Some(mode) = given.some_text("mode") {
        let read = u32::from_str_radix(mode, 8)
            .ok()
            .filter(|mode| *mode <= 0o777);
        let bad = || Failed::new(Kind::Invalid, format!("{mode} is no mode, such as 640"));
        looks.mode = read.ok_or_else(bad)?;
    } else if present.is_some_and(|present| present.looks.uid != looks.uid) {
        looks.mode &= 0o755;
    }
    Ok(looks)
}

/// The new file, whole and on the disk. Until it looks as it is to, only we can open it.
fn make(folder: &OwnedFd, name: &str, content: &[u8], looks: Looks) -> Result<(), Failed> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
    let flags = flags | OFlag::O_CLOEXEC;
    let private = Mode::from_bits_truncate(0o600);
    let file = to("make a new file", openat(folder, name, flags, private))?;
    let mut file = File::from(file);
    to("write the new file", file.write_all(content))?;
    let (uid, gid) = (Uid::from_raw(looks.uid), Gid::from_raw(looks.gid));
    to(
        "give the new file away",
        fchown(&file, Some(uid), Some(gid)),
    )?;
    // After the owner: chown(2) takes bits away.
    let mode = Mode::from_bits_truncate(looks.mode);
    to("set the mode of the new file", fchmod(&file, mode))?;
    to("write the new file to the disk", file.sync_all())
}

/// In its place, with the old one beside it; at no moment there is none.
fn put(folder: &OwnedFd, new: &str, name: &str, has_old: bool) -> Result<(), Failed> {
    if has_old {
        let (kept, spare) = (old_name(name), hidden(name, OLD));
        // A link that somebody else puts there now is linked to as it is, not followed.
        let linked = linkat(folder, name, folder, spare.as_str(), AtFlags::empty());
        to("keep the old file", linked)?;
        let renamed = renameat(folder, spare.as_str(), folder, kept.as_str());
        if renamed.is_err() {
            let _ = unlinkat(folder, spare.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        to("keep the old file", renamed)?;
    }
    to(
        "put the new file in place",
        renameat(folder, new, folder, name),
    )?;
    let folder = to("open the folder again", folder.as_fd().try_clone_to_owned())?;
    to(
        "write the folder to the disk",
        File::from(folder).sync_all(),
    )
}

fn old_name(name: &str) -> String {
    format!("{name}{OLD}")
}

/// A name that nobody else has: process numbers are the same in every sandbox.
fn hidden(name: &str, suffix: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_nanos());
    // The name itself may be as long as names can be.
    let start: String = name.chars().take(20).collect();
    format!(".{start}.{now:x}{suffix}")
}

fn hash(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use serde_json::Map;

    use super::super::{Caller, Parameters, Places};
    use super::*;

    struct Nobody;

    impl Usherd for Nobody {
        fn call(&mut self, _: &str, _: Value) -> Outcome {
            unreachable!("it calls nothing")
        }
        fn progress(&mut self, _: &str) {}
    }

    /// As the user who runs the tests, who owns what he makes.
    fn run(path: &Path, content: &str, more: Value, dry_run: bool) -> Outcome {
        let mut parameters = json!({ "path": path, "content": content });
        let who = User::from_uid(Uid::effective()).unwrap().unwrap();
        let group = Group::from_gid(Gid::effective()).unwrap().unwrap();
        parameters["owner"] = who.name.into();
        parameters["group"] = group.name.into();
        let Value::Object(mut parameters) = parameters else {
            unreachable!()
        };
        parameters.extend(more.as_object().unwrap().clone());
        install(&request(parameters, dry_run), &mut Nobody)
    }

    fn request(parameters: Map<String, Value>, dry_run: bool) -> Request {
        Request {
            operation: "file.install".into(),
            parameters: Parameters(parameters),
            dry_run,
            caller: Caller {
                uid: 0,
                service: None,
                instance: None,
            },
            places: Places {
                state_dir: "/x".into(),
                runtime_dir: "/x".into(),
                table: None,
                host: "host".into(),
            },
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_put_in_place_and_the_old_one_kept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        let path = folder.join("app.conf");
        let tried = run(&path, "one\n", json!({}), true).unwrap();
        assert_eq!(
            (tried["changed"].as_bool(), names(&folder).len()),
            (Some(true), 0)
        );
        let first = run(&path, "one\n", json!({ "mode": "640" }), false).unwrap();
        assert_eq!(
            (&first["changed"], &first["kept_as"]),
            (&json!(true), &Value::Null)
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o640
        );
        // What is said of nothing stays as it is.
        let second = run(&path, "two\n", json!({}), false).unwrap();
        assert_eq!(
            (&second["mode"], &second["old_sha256"]),
            (&json!("640"), &first["sha256"])
        );
        assert_eq!(second["kept_as"], json!(folder.join("app.conf.usherd-old")));
        let again = run(&path, "two\n", json!({}), false).unwrap();
        assert_eq!(again["changed"], json!(false));
        run(&path, "three\n", json!({}), false).unwrap();
        assert_eq!(names(&folder), ["app.conf", "app.conf.usherd-old"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!(
            fs::read_to_string(folder.join("app.conf.usherd-old")).unwrap(),
            "two\n"
        );
    }

    #[test]
    fn no_new_file_is_set_user_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("x");
        fs::write(&path, "old").unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        let dress = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        dress(0o6755);
        let told = run(&path, "new", json!({}), false).unwrap();
        assert_eq!((&told["mode"], mode()), (&json!("755"), 0o755));
        // With the content that it had, too.
        dress(0o4755);
        run(&path, "new", json!({}), false).unwrap();
        assert_eq!(mode(), 0o755);
    }

    #[test]
    fn the_mode_of_another_owner_lets_nobody_write() {
        let present = |mode| Present {
            looks: Looks {
                mode,
                uid: 12345,
                gid: 12345,
            },
            sha256: String::new(),
        };
        let looks_of = |mode, parameters: Value| {
            let Value::Object(parameters) = parameters else {
                unreachable!()
            };
            looks(&request(parameters, false), Some(&present(mode))).unwrap()
        };
        let taken = looks_of(0o4777, json!({ "owner": "root" }));
        assert_eq!((taken.mode, taken.uid), (0o755, 0));
        let kept = looks_of(0o666, json!({}));
        assert_eq!((kept.mode, kept.uid), (0o666, 12345));
        let asked = looks_of(0o4777, json!({ "owner": "root", "mode": "666" }));
        assert_eq!(asked.mode, 0o666);
    }

    #[test]
    fn no_link_is_followed_and_none_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        fs::create_dir(folder.join("real")).unwrap();
        symlink("real", folder.join("link")).unwrap();
        fs::write(folder.join("secret"), "s").unwrap();
        symlink("../secret", folder.join("real/pointer")).unwrap();
        let kind = |path: &str| {
            run(&folder.join(path), "x", json!({}), false)
                .map_err(|err| err.kind)
                .err()
        };
        assert_eq!(kind("link/app.conf"), Some(Kind::Forbidden));
        assert_eq!(kind("real/pointer"), Some(Kind::Forbidden));
        assert_eq!(kind("real"), Some(Kind::Forbidden));
        assert_eq!(kind("none/app.conf"), Some(Kind::NotFound));
        assert_eq!(kind("real/a.usherd-old"), Some(Kind::Invalid));
        assert_eq!(fs::read_to_string(folder.join("secret")).unwrap(), "s");
        assert_eq!(names(&folder.join("real")), ["pointer"]);
        // Where the old one was kept before, somebody has put a link.
        let path = folder.join("real/app.conf");
        run(&path, "1", json!({}), false).unwrap();
        symlink("../secret", folder.join("real/app.conf.usherd-old")).unwrap();
        run(&path, "2", json!({}), false).unwrap();
        assert_eq!(fs::read_to_string(folder.join("secret")).unwrap(), "s");
        assert_eq!(
            fs::read_to_string(folder.join("real/app.conf.usherd-old")).unwrap(),
            "1"
        );
    }

    #[test]
    fn what_fails_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        let path = folder.join("app.conf");
        run(&path, "1", json!({}), false).unwrap();
        let odd = json!({ "owner": "no-such-user" });
        assert_eq!(
            run(&path, "2", odd, false).unwrap_err().kind,
            Kind::NotFound
        );
        // Nothing can be renamed over a folder.
        fs::create_dir(folder.join("app.conf.usherd-old")).unwrap();
        assert_eq!(
            run(&path, "2", json!({}), false).unwrap_err().kind,
            Kind::Failed
        );
        assert_eq!(names(&folder), ["app.conf", "app.conf.usherd-old"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1");
    }
}
