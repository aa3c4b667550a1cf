//! Which disk a file lies on: io.max knows whole disks by number.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

/// A block device, as io.max writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    pub major: u64,
    pub minor: u64,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl Device {
    fn of(number: u64) -> Self {
        Self {
            major: major(number),
            minor: minor(number),
        }
    }

    /// Of the text of a `dev` file of sysfs.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

/// The disk that `path` is, or lies on. In words why there is none.
pub fn disk_of(path: &Path) -> Result<Device, String> {
    let found = fs::metadata(path).map_err(|err| err.to_string())?;
    let device = if found.file_type().is_block_device() {
        Device::of(found.rdev())
    } else {
        Device::of(found.dev())
    };
    match whole(device) {
        Some(disk) => Ok(disk),
        // btrfs and the like have numbers of their own that no device has.
        None => source_of(device)
            .and_then(|source| fs::metadata(source).ok())
            .filter(|found| found.file_type().is_block_device())
            .and_then(|found| whole(Device::of(found.rdev())))
            .ok_or_else(|| "its file system does not lie on a block device".into()),
    }
}

/// The disk that a device is a part of.
fn whole(device: Device) -> Option<Device> {
    let dir = PathBuf::from(format!("/sys/dev/block/{device}"));
    if dir.join("partition").exists() {
        let disk = fs::read_to_string(dir.join("../dev")).ok()?;
        return Device::parse(&disk);
    }
    dir.exists().then_some(device)
}

/// What the file system with this number was mounted from.
fn source_of(device: Device) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let number = device.to_string();
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let is_it = mount.split(' ').nth(2) == Some(&number);
        let source = kind.split(' ').nth(1)?;
        (is_it && source.starts_with("/dev/")).then(|| source.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_no_disk_has_none() {
        assert!(disk_of(Path::new("/proc/self/stat")).is_err());
        assert!(disk_of(Path::new("/nowhere/at/all")).is_err());
        let disk = Device::parse("259:0\n");
        assert_eq!(disk.map(|disk| disk.to_string()), Some("259:0".into()));
    }
}
