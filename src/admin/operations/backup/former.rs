//! States that a backup takes the place of: `/var/lib/usherd-old/STATE-TIME`, a directory
//! that nobody but root gets into, and that no sandbox shows. New ones are put together there.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::openat;
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::geteuid;

use super::pack::DIRECTORY;
use super::{open, unpack};
use crate::admin::operations::{Failed, Kind, to};
use crate::sandbox::blueprint::FORMER_STATES;
use crate::sys::rename::{exchange, rename_new};

/// In front of a new state's name until it is whole.
const NEW: &str = ".new-";

#[derive(Debug)]
pub struct Former {
    /// Where states are.
    states: OwnedFd,
    /// Beside them.
    dir: OwnedFd,
    path: PathBuf,
    pub state: String,
}

impl Former {
    /// `states`: where state directories are; `state`: the name of one.
    pub fn of(states: &Path, state: &str) -> Result<Self, Failed> {
        let name = Path::new(FORMER_STATES).file_name().unwrap_or_default();
        let path = states.join(name);
        let states = open(states)?;
        match mkdirat(&states, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(err) => return to(format_args!("make {}", path.display()), Err(err)),
        }
        let dir = to(
            format_args!("open {}", path.display()),
            openat(&states, name, DIRECTORY, Mode::empty()),
        )?;
        let about = to(format_args!("look at {}", path.display()), fstat(&dir))?;
        if about.st_uid != geteuid().as_raw() || about.st_mode & 0o077 != 0 {
            let why = format!(
                "{} is for root alone, and others can get into it: chown root and chmod 700",
                path.display()
            );
            return Err(Failed::new(Kind::Forbidden, why));
        }
        Ok(Self {
            states,
            dir,
            path,
            state: state.to_owned(),
        })
    }

    #[must_use]
    pub fn shown(&self, stamp: &str) -> String {
        let path = self.path.join(self.name(stamp));
        path.display().to_string()
    }

    fn name(&self, stamp: &str) -> String {
        format!("{}@{stamp}", self.state)
    }

    /// What begins with `start` here.
    fn begin_with(&self, start: &str) -> Result<Vec<String>, Failed> {
        let what = format!("look at {}", self.path.display());
        let mut listing = to(
            &what,
            nix::dir::Dir::openat(&self.dir, ".", DIRECTORY, Mode::empty()),
        )?;
        let names = listing
            .iter()
            .filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned));
        Ok(names.filter(|name| name.starts_with(start)).collect())
    }

    /// How many old states of this name there are.
    pub fn count(&self) -> Result<usize, Failed> {
        Ok(self.begin_with(&self.name(""))?.len())
    }

    /// Takes new states away that never became one.
    pub fn clear(&self) -> Result<(), Failed> {
        for left in self.begin_with(&format!("{NEW}{}", self.name("")))? {
            to(format!("remove {left}"), unpack::remove(&self.dir, &left))?;
        }
        Ok(())
    }

    /// A new state, empty.
    pub fn begin(&self, stamp: &str) -> Result<OwnedFd, Failed> {
        let name = format!("{NEW}{}", self.name(stamp));
        let made = mkdirat(&self.dir, name.as_str(), Mode::S_IRWXU);
        to("make a directory for the new state", made)?;
        to(
            "open it again",
            openat(&self.dir, name.as_str(), DIRECTORY, Mode::empty()),
        )
    }

    /// The state that is there now, if one is.
    #[must_use]
    pub fn replaced(&self) -> Option<OwnedFd> {
        openat(&self.states, self.state.as_str(), DIRECTORY, Mode::empty()).ok()
    }

    /// The new state takes the name of the old one. Returns where the old one is now.
    ///
    /// The new one first has the name that is to be the old one's, so that one step is
    /// enough. After an error nothing has happened.
    pub fn swap(&self, stamp: &str) -> Result<Option<String>, Failed> {
        let c = |name: &str| to("name it", CString::new(name));
        let old = self.name(stamp);
        let (new, name, aside) = (c(&format!("{NEW}{old}"))?, c(&self.state)?, c(&old)?);
        let (here, there) = (self.dir.as_fd(), self.states.as_fd());
        let what = "put the new state in the place of the old one";
        to(what, rename_new((here, &new), (here, &aside)))?;
        let kept = match exchange((here, &aside), (there, &name)) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                rename_new((here, &aside), (there, &name)).map(|()| None)
            }
            exchanged => exchanged.map(|()| Some(self.shown(stamp))),
        };
        if kept.is_err() {
            let _ = rename_new((here, &aside), (here, &new));
        }
        let _ = nix::unistd::fsync(&self.states);
        let _ = nix::unistd::fsync(&self.dir);
        to(what, kept)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_error_never_takes_the_old_state() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, who: &str| {
            fs::create_dir(dir.path().join(path)).unwrap();
            fs::write(dir.path().join(path).join("who"), who).unwrap();
        };
        let who = |path: &Path| fs::read_to_string(dir.path().join(path).join("who")).unwrap();
        put("state", "old");
        let former = Former::of(dir.path(), "state").unwrap();
        let begin = |former: &Former, stamp: &str| {
            former.begin(stamp).unwrap();
            let new = dir
                .path()
                .join(format!("usherd-old/.new-{}", former.name(stamp)));
            fs::write(new.join("who"), "new").unwrap();
            new
        };
        // The name that the old one is to have is somebody's.
        let new = begin(&former, "1");
        put("usherd-old/state@1", "other");
        assert!(former.swap("1").is_err());
        assert_eq!(
            (who(&new), who(Path::new("state"))),
            ("new".into(), "old".into())
        );
        begin(&former, "2");
        let old = former.swap("2").unwrap().unwrap();
        assert_eq!(
            (who(Path::new("state")), who(Path::new(&old))),
            ("new".into(), "old".into())
        );
        // None was there.
        let none = Former::of(dir.path(), "none").unwrap();
        begin(&none, "3");
        assert_eq!(none.swap("3").unwrap(), None);
        assert_eq!(who(Path::new("none")), "new");
        assert_eq!((former.count().unwrap(), none.count().unwrap()), (2, 0));
    }

    #[test]
    fn nobody_else_gets_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("usherd-old");
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
        let failed = Former::of(dir.path(), "state").unwrap_err();
        assert_eq!(failed.kind, Kind::Forbidden);
        fs::remove_dir(&place).unwrap();
        std::os::unix::fs::symlink("/etc", &place).unwrap();
        assert!(Former::of(dir.path(), "state").is_err());
    }
}
