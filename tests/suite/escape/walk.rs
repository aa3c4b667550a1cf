//! Every file that can be seen from inside: what of it can be written to, and
//! which sockets can be connected to.

use std::fs;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The most that is told.
const MOST: usize = 40;

/// Directories in which something can be made, and files that open for writing.
pub fn writable(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(root, &mut |path, kind| {
        let is_writable = if kind.is_dir() {
            can_make(path)
        } else {
            kind.is_file() && can_open(path)
        };
        if is_writable && found.len() < MOST {
            found.push(path.display().to_string());
        }
        true
    });
    found.sort();
    found
}

/// Sockets that somebody listens on and lets us in.
pub fn sockets(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(root, &mut |path, kind| {
        if kind.is_socket() && UnixStream::connect(path).is_ok() && found.len() < MOST {
            found.push(path.display().to_string());
        }
        true
    });
    found.sort();
    found
}

fn can_make(directory: &Path) -> bool {
    let path = directory.join(format!(".escape-{}", std::process::id()));
    fs::create_dir(&path).is_ok_and(|()| fs::remove_dir(&path).is_ok())
}

fn can_open(file: &Path) -> bool {
    let mut options = fs::OpenOptions::new();
    options.write(true).custom_flags(libc::O_NONBLOCK);
    options.open(file).is_ok()
}

/// Depth first; `look` says whether to go into a directory.
fn walk(root: &Path, look: &mut impl FnMut(&Path, fs::FileType) -> bool) {
    let mut open: Vec<PathBuf> = vec![root.to_owned()];
    if !fs::metadata(root).is_ok_and(|meta| look(root, meta.file_type())) {
        return;
    }
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let path = entry.path();
            // Each process's own directory is ever the same; one is enough.
            let is_other = directory == Path::new("/proc") && path != Path::new("/proc/self");
            let number = entry.file_name().to_string_lossy().parse::<u32>();
            if is_other && number.is_ok_and(|pid| pid != std::process::id()) {
                continue;
            }
            if look(&path, kind) && kind.is_dir() {
                open.push(path);
            }
        }
    }
}
