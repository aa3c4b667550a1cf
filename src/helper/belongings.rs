//! What services own on the host: a directory for their state, and files with
//! secrets that nobody else can read.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{
    DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown,
};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Gid, Uid, fchownat};

use crate::sandbox::blueprint::STATE;
use crate::sandbox::keeper::place;
use crate::table::check::FREE_UIDS;
use crate::table::{Exec, Identity, Serve, Table};

/// The longest credential, in octets.
const LONGEST: u64 = 1 << 20;

/// Makes all that the services of `table` are to have. Returns what is wrong,
/// by the name of the service, which must not be started then.
pub fn lay(table: &Table, credentials: Option<&Path>) -> HashMap<String, String> {
    let mut wrong = HashMap::new();
    let enabled = table.services.iter().filter(|service| service.enabled);
    for service in enabled {
        let Serve::Exec(exec) = &service.serve else {
            continue;
        };
        if let Err(why) = lay_one(&service.name, exec, credentials) {
            wrong.insert(service.name.clone(), why);
        }
    }
    wrong
}

fn lay_one(name: &str, exec: &Exec, credentials: Option<&Path>) -> Result<(), String> {
    if let (Some(state), Some(user)) = (&exec.state, &exec.user) {
        make_state(&Path::new(STATE).join(state), user)?;
    }
    if exec.credentials.is_empty() {
        return Ok(());
    }
    let Some(dir) = credentials else {
        return Err("credentials need a runtime directory; see --runtime-dir".to_owned());
    };
    make_credentials(&dir.join(name), &exec.credentials, exec.user.as_ref())
}

/// The directory may be there. It is never taken from somebody else, except
/// from a dynamic user, who has no account any more.
fn make_state(dir: &Path, user: &Identity) -> Result<(), String> {
    let failed = |err: io::Error| format!("unable to make {}: {err}", dir.display());
    match DirBuilder::new().mode(0o750).create(dir) {
        Ok(()) => {
            let made = open_directory(dir).map_err(failed)?;
            return fchown(&made, Some(user.uid), Some(user.gid)).map_err(failed);
        }
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
        Err(err) => return Err(failed(err)),
    }
    let there = open_directory(dir).map_err(failed)?;
    let owner = there.metadata().map_err(failed)?.uid();
    if owner == user.uid {
        return Ok(());
    }
    if !FREE_UIDS.contains(&owner) {
        return Err(format!(
            "{shown} belongs to uid {owner}, not to its user; chown -R {} {shown} if it is meant, or choose another `state`",
            user.uid,
            shown = dir.display(),
        ));
    }
    give(&there, owner, user, 0)
        .map_err(|err| format!("unable to give {} to its user: {err}", dir.display()))
}

fn open_directory(dir: &Path) -> io::Result<File> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags).open(dir)
}

/// Deeper than any state; a server can make directories without end.
const DEEPEST: u32 = 100;

/// Gives `dir` and all below it that belongs to `former`, a dynamic user, to
/// `user`. A server of the former may still run and put links in our way: so
/// nothing is named twice, and what is not his stays as it is.
fn give(dir: &File, former: u32, user: &Identity, depth: u32) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other("directories lie too deep"));
    }
    let mut entries = Dir::from_fd(dir.try_clone()?.into())?;
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = File::from(openat(dir, name, flags | OFlag::O_PATH, Mode::empty())?);
        let meta = found.metadata()?;
        if meta.is_dir() {
            let flags = OFlag::O_DIRECTORY | flags;
            let below = openat(&found, c".", flags, Mode::empty())?;
            give(&below.into(), former, user, depth + 1)?;
        } else if meta.uid() == former {
            own(&found, user)?;
        }
    }
    if dir.metadata()?.uid() == former {
        own(dir, user)?;
    }
    Ok(())
}

fn own(found: &File, user: &Identity) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let flags = AtFlags::AT_EMPTY_PATH;
    Ok(fchownat(found, c"", Some(uid), Some(gid), flags)?)
}

/// Built beside the old ones and put in their place. The same ones stay: a
/// server that runs on may read its own again.
fn make_credentials(
    dir: &Path,
    sources: &[(String, PathBuf)],
    user: Option<&Identity>,
) -> Result<(), String> {
    let failed = |err: io::Error| format!("unable to make {}: {err}", dir.display());
    let mut secrets = Vec::new();
    for (name, from) in sources {
        let secret = read_secret(from);
        let secret = secret
            .map_err(|err| format!("unable to read the credential {}: {err}", from.display()))?;
        secrets.push((name.as_str(), secret));
    }
    if holds(dir, &secrets, user).unwrap_or(false) {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(dir);
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o711)
        .create(parent)
        .map_err(failed)?;
    let new = parent.join(".new");
    remove(&new).map_err(failed)?;
    DirBuilder::new().mode(0o700).create(&new).map_err(failed)?;
    for (name, secret) in &secrets {
        write_secret(&new.join(name), secret, user).map_err(failed)?;
    }
    if let Some(user) = user {
        lchown(&new, Some(user.uid), Some(user.gid)).map_err(failed)?;
    }
    let read_only = PermissionsExt::from_mode(0o500);
    fs::set_permissions(&new, read_only).map_err(failed)?;
    remove(dir).map_err(failed)?;
    fs::rename(&new, dir).map_err(failed)
}

fn write_secret(to: &Path, secret: &[u8], user: Option<&Identity>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o400).open(to)?;
    file.write_all(secret)?;
    match user {
        Some(user) => fchown(&file, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}

/// Whether `dir` has just these, as they were made. Its owner may have put anything there since.
fn holds(dir: &Path, secrets: &[(&str, Vec<u8>)], user: Option<&Identity>) -> io::Result<bool> {
    let owner = user.map_or_else(|| Uid::effective().as_raw(), |user| user.uid);
    let as_made = |file: &File, mode: u32| -> io::Result<bool> {
        let meta = file.metadata()?;
        Ok(meta.uid() == owner && meta.mode() == mode)
    };
    let dir = open_directory(dir)?;
    if !as_made(&dir, libc::S_IFDIR | 0o500)? {
        return Ok(false);
    }
    for (name, secret) in secrets {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&dir, *name, flags, Mode::empty())?);
        let mut there = Vec::new();
        if !as_made(&file, libc::S_IFREG | 0o400)?
            || file.take(LONGEST + 1).read_to_end(&mut there)? != secret.len()
            || there != *secret
        {
            return Ok(false);
        }
    }
    let mut entries = Dir::from_fd(dir.into())?;
    let dots = 2;
    Ok(entries.iter().take(secrets.len() + dots + 1).count() == secrets.len() + dots)
}

fn read_secret(from: &Path) -> io::Result<Vec<u8>> {
    let mut secret = Vec::new();
    open_secret(from)?
        .take(LONGEST + 1)
        .read_to_end(&mut secret)?;
    match secret.len() as u64 > LONGEST {
        true => Err(io::Error::other("it is longer than 1 MiB")),
        false => Ok(secret),
    }
}

/// A file, and no other: the service's user may own a part of the way, and must neither have
/// another file read for him nor hold us up with something that is no file.
fn open_secret(from: &Path) -> io::Result<File> {
    let place = place::on_host(from, Uid::effective().is_root())?;
    let mode = SFlag::from_bits_truncate(fstat(&place)?.st_mode & SFlag::S_IFMT.bits());
    if mode != SFlag::S_IFREG {
        return Err(io::Error::other("it is no regular file"));
    }
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

/// Removes a directory of credentials, if it is there.
fn remove(dir: &Path) -> io::Result<()> {
    let there = match open_directory(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    // Nobody but root empties a directory that is read-only.
    there.set_permissions(PermissionsExt::from_mode(0o700))?;
    fs::remove_dir_all(dir)
}

/// usherd ends, and no secret stays behind.
pub fn clear(credentials: Option<&PathBuf>) {
    let Some(all) = credentials else { return };
    // Those of each service first, which may be read-only.
    let single = fs::read_dir(all).into_iter().flatten().flatten();
    for dir in single.map(|entry| entry.path()).chain([all.clone()]) {
        if let Err(err) = remove(&dir) {
            log::warn!("unable to remove {}: {err}", dir.display());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::symlink;

    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn a_secret_is_a_file_and_no_link_of_its_user() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("secret"), "s").unwrap();
        assert!(open_secret(&at("secret")).is_ok());

        mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        assert!(
            open_secret(&at("pipe")).is_err(),
            "nobody would write to it"
        );
        assert!(open_secret(dir.path()).is_err());

        symlink("secret", at("link")).unwrap();
        assert!(open_secret(&at("link")).is_ok(), "root's, or our own");
        if Uid::effective().is_root() {
            lchown(at("link"), Some(65_534), None).unwrap();
            let err = open_secret(&at("link")).unwrap_err();
            assert_eq!(err.raw_os_error(), Some(libc::ELOOP));
        }
    }

    #[test]
    fn credentials_that_are_the_same_stay() {
        let root = tempfile::tempdir().unwrap();
        let from = root.path().join("secret");
        let dir = root.path().join("credentials/web");
        let make = |names: &[&str]| {
            let sources = names.iter().map(|name| ((*name).to_owned(), from.clone()));
            make_credentials(&dir, &sources.collect::<Vec<_>>(), None).unwrap();
        };
        let inode = || fs::metadata(&dir).unwrap().ino();
        fs::write(&from, "one").unwrap();
        make(&["a", "b"]);
        let first = inode();
        let open = File::open(&dir).unwrap(); // so that the number is not used again
        make(&["a", "b"]);
        assert_eq!(inode(), first);

        fs::write(&from, "two").unwrap();
        make(&["a", "b"]);
        assert_ne!(inode(), first);
        assert_eq!(fs::read(dir.join("b")).unwrap(), b"two");
        drop(open);

        make(&["a"]);
        assert!(!dir.join("b").exists(), "no longer asked for");

        // Its owner has meddled.
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
        fs::remove_file(dir.join("a")).unwrap();
        mkfifo(&dir.join("a"), Mode::S_IRUSR).unwrap();
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o500)).unwrap();
        make(&["a"]);
        assert_eq!(fs::read(dir.join("a")).unwrap(), b"two");

        let all = root.path().join("credentials");
        clear(Some(&all));
        assert!(!all.exists());
    }
}
