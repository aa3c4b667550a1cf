#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use super::*;
use crate::table::LogLevel;

fn settings(to: LogTarget) -> LogSettings {
    LogSettings {
        to,
        format: LogFormat::Text,
        level: LogLevel::Info,
    }
}

#[test]
fn a_file_is_appended_to_and_private_to_owner_and_group() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    fs::write(&path, "before\n").unwrap();
    let target = LogTarget::File(path.clone());
    let mut sink = Sink::new(open(&settings(target.clone())).unwrap(), &target);
    assert_eq!(sink.write(b"after\n"), Ok(()));
    assert_eq!(fs::read_to_string(&path).unwrap(), "before\nafter\n");

    fs::remove_file(&path).unwrap();
    drop(open(&settings(target)).unwrap());
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & !0o640, 0, "{mode:o}");
}

#[test]
fn a_symlink_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, link) = (dir.path().join("precious"), dir.path().join("log"));
    fs::write(&path, "").unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let error = open(&settings(LogTarget::File(link))).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
}

#[test]
fn a_full_pipe_loses_lines_and_blocks_nobody() {
    // Blocking on purpose, as an inherited stderr is.
    let (mut reader, writer) = io::pipe().unwrap();
    let mut sink = Sink::new(writer.into(), &LogTarget::Stderr);
    assert_eq!(sink.kind, Kind::Stream);
    let line = [b'x'; 4096];
    let mut written = 0;
    while sink.write(&line).is_ok() {
        written += line.len();
    }
    assert!(written >= line.len());
    reader.read_exact(&mut vec![0; written]).unwrap();
    assert_eq!(sink.write(&line), Ok(()));
}

#[test]
fn a_torn_line_is_ended_before_the_next() {
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut sink = Sink::new(writer.into(), &LogTarget::Stderr);
    sink.torn = true;
    assert_eq!(sink.write(b"next\n"), Ok(()));
    let mut seen = [0; 16];
    assert_eq!((&reader).read(&mut seen).unwrap(), 6);
    assert_eq!(&seen[..6], b"\nnext\n");
}

#[test]
fn syslogd_gone_is_told_from_syslogd_busy() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut sink = Sink::new(ours.into(), &LogTarget::Syslog);
    while sink.write(b"line").is_ok() {}
    assert_eq!(sink.write(b"line"), Err(Lost::Now));
    drop(theirs);
    assert_eq!(sink.write(b"line"), Err(Lost::ForGood));
}
