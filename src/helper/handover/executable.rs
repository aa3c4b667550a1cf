//! Where our program is, now that another one may be in its place.
#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

/// Writable by its group, by everybody.
const BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// The file that usherd was started from, and its arguments.
#[derive(Clone, Debug)]
pub struct Executable {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Executable {
    /// To be asked at the start, while it is still the one that runs. The name that
    /// usherd was called by is kept if it leads there: it may be a link that
    /// is to lead elsewhere later.
    pub fn ours() -> io::Result<Self> {
        let real = fs::read_link("/proc/self/exe")?;
        let arguments: Vec<OsString> = env::args_os().collect();
        let called = arguments.first().map(Path::new);
        let called = called.filter(|called| called.components().count() > 1);
        let called = called.and_then(|called| Some(env::current_dir().ok()?.join(called)));
        let leads_there = |path: &PathBuf| fs::canonicalize(path).is_ok_and(|it| it == real);
        let path = called.filter(leads_there).unwrap_or(real);
        Ok(Self { path, arguments })
    }

    /// The same after an upgrade.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        let arguments = env::args_os().collect();
        Self { path, arguments }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name it was called by first.
    #[must_use]
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// Whether it may be executed with our rights: as root it, and every folder on
    /// the way to it, must be root's alone to change.
    pub fn check(&self) -> Result<(), String> {
        let shown = self.path.display();
        let found = fs::metadata(&self.path).map_err(|err| format!("{shown}: {err}"))?;
        if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
            return Err(format!("{shown} is no program; chmod +x it"));
        }
        if !Uid::effective().is_root() {
            return Ok(());
        }
        let real = fs::canonicalize(&self.path).map_err(|err| format!("{shown}: {err}"))?;
        for path in real.ancestors() {
            let found = fs::metadata(path).map_err(|err| format!("{}: {err}", path.display()))?;
            let shared = found.is_dir() && found.mode() & STICKY != 0;
            if found.uid() != 0 || found.mode() & BY_OTHERS != 0 && !shared {
                let path = path.display();
                return Err(format!(
                    "{path} can be changed by others than root: chown root {path}; chmod go-w {path}"
                ));
            }
        }
        Ok(())
    }
}
