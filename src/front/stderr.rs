//! What servers write to their stderr, line by line into the log.
//!
//! Servers are strangers too: lines are cut, cleaned and counted, and a server
//! that floods is read (it must not stall) but not repeated.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::Interest;
use mio::unix::SourceFd;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::control::types::EventKind;
use crate::front::deadlines::{Alarm, Timer};
use crate::front::event_loop::Front;
use crate::front::events::{About, Ring};
use crate::front::slots::Source;
use crate::ids::ServiceId;

/// The longest line; more of it is the next line.
const MAX_LINE: usize = 1_024;
/// Lines of one service in the log per second.
const LINES_PER_SECOND: u32 = 200;
/// A line without an end is told after this long.
const PATIENCE: Duration = Duration::from_secs(1);
/// Reads of one pipe in a turn.
const READS_PER_TURN: usize = 4;

#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    lines: Lines,
    alarm: Alarm,
}

/// Cuts a stream of bytes into lines and decides which are told. Pure.
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
    partial_since: Option<Instant>,
    second: Option<Instant>,
    told: u32,
    dropped: u64,
}

impl Lines {
    fn feed(&mut self, mut bytes: &[u8], now: Instant, tell: &mut dyn FnMut(&str)) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.partial.len();
            let end = bytes.iter().take(room).position(|&byte| byte == b'\n');
            let take = end.unwrap_or(room.min(bytes.len()));
            self.partial.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if end.is_some() {
                bytes = &bytes[1..];
            }
            if end.is_some() || self.partial.len() >= MAX_LINE {
                self.flush(now, tell);
            } else {
                self.partial_since.get_or_insert(now);
            }
        }
    }

    /// Tells the line so far, if there is one.
    fn flush(&mut self, now: Instant, tell: &mut dyn FnMut(&str)) {
        self.partial_since = None;
        let line = std::mem::take(&mut self.partial);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() {
            return;
        }
        self.start_second(now, tell);
        if self.told < LINES_PER_SECOND {
            self.told += 1;
            tell(&escape(line));
        } else {
            self.dropped += 1;
        }
    }

    /// Begins a new second if the last is over, and says what it dropped.
    fn start_second(&mut self, now: Instant, tell: &mut dyn FnMut(&str)) {
        let over = |began: Instant| now.saturating_duration_since(began) >= PATIENCE;
        if self.second.is_some_and(|began| !over(began)) {
            return;
        }
        if self.dropped > 0 {
            tell(&format!("({} lines dropped)", self.dropped));
        }
        self.second = Some(now);
        self.told = 0;
        self.dropped = 0;
    }

    /// The next moment at which something must be told without new bytes.
    fn next(&self) -> Option<Instant> {
        let partial = self.partial_since;
        let dropped = self.second.filter(|_| self.dropped > 0);
        Some(partial.into_iter().chain(dropped).min()? + PATIENCE)
    }

    fn due(&mut self, now: Instant, tell: &mut dyn FnMut(&str)) {
        if self
            .partial_since
            .is_some_and(|since| since + PATIENCE <= now)
        {
            self.flush(now, tell);
        }
        if self.dropped > 0 {
            self.start_second(now, tell);
        }
    }
}

/// Readable text whatever the bytes: nothing that a terminal would obey.
fn escape(line: &[u8]) -> String {
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() && letter != '\t' {
                text.extend(letter.escape_default());
            } else {
                text.push(letter);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

impl Front {
    pub(super) fn take_pipe(&mut self, service: ServiceId, reader: OwnedFd, now: Instant) {
        self.close_pipe(service, now);
        if let Err(err) = fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)) {
            return log::error!("unable to ready a stderr pipe: {err}");
        }
        let raw = reader.as_raw_fd();
        let token = Source::Pipe(service).into();
        let done = self
            .registry
            .register(&mut SourceFd(&raw), token, Interest::READABLE);
        if let Err(err) = done {
            return log::error!("unable to poll a stderr pipe: {err}");
        }
        let pipe = Pipe {
            reader,
            lines: Lines::default(),
            alarm: Alarm::default(),
        };
        self.pipes.insert(service, pipe);
    }

    pub(super) fn pipe_ready(&mut self, service: ServiceId, now: Instant) {
        if self.read_pipe(service, now) {
            self.postponed.push_back(Source::Pipe(service));
        }
    }

    /// Tells what is there by now; true if a turn's share was not all of it.
    pub(super) fn read_pipe(&mut self, service: ServiceId, now: Instant) -> bool {
        for _ in 0..READS_PER_TURN {
            let Some(pipe) = self.pipes.get_mut(&service) else {
                return false;
            };
            match nix::unistd::read(&pipe.reader, &mut self.scratch).map_err(io::Error::from) {
                Ok(0) => {
                    self.close_pipe(service, now);
                    return false;
                }
                Ok(count) => {
                    let name = self.services.get(service).map_or("", |s| &s.name);
                    let (bytes, events) = (&self.scratch[..count], &mut self.events);
                    pipe.lines
                        .feed(bytes, now, &mut |line| tell(events, service, name, line));
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    self.set_pipe_alarm(service);
                    return false;
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.close_pipe(service, now);
                    return false;
                }
            }
        }
        self.set_pipe_alarm(service);
        true
    }

    fn set_pipe_alarm(&mut self, service: ServiceId) {
        if let Some(pipe) = self.pipes.get_mut(&service)
            && let Some(at) = pipe.lines.next()
        {
            pipe.alarm
                .set(at, Timer::Pipe(service), &mut self.deadlines);
        }
    }

    pub(super) fn pipe_due(&mut self, service: ServiceId, now: Instant) {
        let Some(pipe) = self.pipes.get_mut(&service) else {
            return;
        };
        if pipe.alarm.rings(now) {
            let name = self.services.get(service).map_or("", |s| &s.name);
            let events = &mut self.events;
            pipe.lines
                .due(now, &mut |line| tell(events, service, name, line));
            self.set_pipe_alarm(service);
        }
    }

    fn close_pipe(&mut self, service: ServiceId, now: Instant) {
        let Some(mut pipe) = self.pipes.remove(&service) else {
            return;
        };
        let _ = self
            .registry
            .deregister(&mut SourceFd(&pipe.reader.as_raw_fd()));
        let name = self.services.get(service).map_or("", |s| &s.name);
        let events = &mut self.events;
        pipe.lines
            .flush(now, &mut |line| tell(events, service, name, line));
    }

    /// Tells what is left, before the front ends.
    pub(super) fn flush_pipes(&mut self) {
        let now = Instant::now();
        let services: Vec<ServiceId> = self.pipes.keys().copied().collect();
        for service in services {
            self.read_pipe(service, now);
            self.close_pipe(service, now);
        }
    }
}

fn tell(events: &mut Ring, id: ServiceId, service: &str, line: &str) {
    log::info!(service, stderr = true; "{line}");
    events.add(EventKind::Stderr, About::service(id), line);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(lines: &mut Lines, bytes: &[u8], now: Instant) -> Vec<String> {
        let mut told = Vec::new();
        lines.feed(bytes, now, &mut |line| told.push(line.to_owned()));
        told
    }

    #[test]
    fn lines_are_put_together_from_pieces_and_cut_when_too_long() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        assert!(fed(&mut lines, b"half", now).is_empty());
        assert_eq!(
            fed(&mut lines, b" a line\r\n\nnext\n", now),
            ["half a line", "next"]
        );
        let told = fed(&mut lines, &[b'x'; 2 * MAX_LINE + 1], now);
        assert_eq!(told.len(), 2);
        assert!(told.iter().all(|line| line.len() == MAX_LINE));
    }

    #[test]
    fn a_line_without_an_end_is_told_after_a_second() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        fed(&mut lines, b"Password:", now);
        assert_eq!(lines.next(), Some(now + PATIENCE));
        let mut told = Vec::new();
        lines.due(now + PATIENCE, &mut |line| told.push(line.to_owned()));
        assert_eq!(told, ["Password:"]);
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn a_flood_is_counted_and_the_count_is_told() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let told = fed(&mut lines, &b"x\n".repeat(1_000), now);
        assert_eq!(told.len(), LINES_PER_SECOND as usize);
        assert_eq!(lines.next(), Some(now + PATIENCE));
        let told = fed(&mut lines, b"calm again\n", now + PATIENCE);
        assert_eq!(told, ["(800 lines dropped)", "calm again"]);
    }

    #[test]
    fn control_bytes_and_bad_utf8_are_shown_not_sent() {
        assert_eq!(escape(b"a\x1b[2Jb\xffc\td"), "a\\u{1b}[2Jb\\xffc\td");
        assert_eq!(escape("caf\u{e9} \u{9b}".as_bytes()), "caf\u{e9} \\u{9b}");
    }
}
