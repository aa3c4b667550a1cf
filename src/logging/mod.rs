//! One event a line, for both processes.
//!
//! Everything goes through the `log` crate; what belongs to an event is a
//! field, not prose: `log::info!(service = name, conn:% = id; "started")`.
//! Bytes of peers belong in fields only, where nothing they hold can forge,
//! split or colour a line. A line never blocks its writer: one that would is
//! dropped and counted, and a later line tells how many were.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::table::{LogFormat, LogLevel, LogSettings};

mod line;
mod pace;
mod sink;

pub use line::{Bytes, is_unsafe};
pub use pace::Pace;
pub use sink::open;

use line::Style;
use sink::{Lost, Sink};

static LOGGER: Logger = Logger {
    sink: Mutex::new(Sink::stderr()),
    style: AtomicU8::new(0),
    lost: AtomicU64::new(0),
    broken: AtomicBool::new(false),
    journal: AtomicBool::new(false),
};

thread_local! {
    /// The line being put together; kept, so that the steady state allocates nothing.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Logs to stderr at `info` until [`attach`] says otherwise, and makes a panic
/// one line of the log. `role` is `helper` or `front`.
pub fn init(role: &'static str) {
    // Fails only if a logger is set already, which is then this one.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(LevelFilter::Info);
    let journal = sink::stderr_is_journal();
    LOGGER.journal.store(journal, Ordering::Relaxed);
    let style = Sink::stderr().style(LogFormat::Text, journal);
    LOGGER.style.store(style.into(), Ordering::Relaxed);
    let previous = std::panic::take_hook();
    let wants_trace = std::env::var_os("RUST_BACKTRACE").is_some();
    std::panic::set_hook(Box::new(move |info| {
        log_panic(role, info);
        if wants_trace {
            previous(info);
        }
    }));
}

/// From now on logs to `fd` (see [`open`]) the way `settings` say. Lines lost
/// so far stay counted.
pub fn attach(fd: OwnedFd, settings: &LogSettings) {
    let sink = Sink::new(fd, &settings.to);
    let style = sink.style(settings.format, LOGGER.journal.load(Ordering::Relaxed));
    // A poisoned lock only means that a line was cut short by a panic.
    *LOGGER.sink.lock().unwrap_or_else(|poisoned| {
        LOGGER.sink.clear_poison();
        poisoned.into_inner()
    }) = sink;
    LOGGER.style.store(style.into(), Ordering::Relaxed);
    LOGGER.broken.store(false, Ordering::Relaxed);
    log::set_max_level(filter(settings.level));
}

/// Another descriptor for where the log goes now, broken or not.
pub fn share() -> io::Result<OwnedFd> {
    let sink = LOGGER.sink.lock().unwrap_or_else(PoisonError::into_inner);
    sink.share()
}

/// Whether syslogd went away, so that only a new descriptor helps.
#[must_use]
pub fn is_broken() -> bool {
    LOGGER.broken.load(Ordering::Relaxed)
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
    }
}

struct Logger {
    sink: Mutex<Sink>,
    /// A [`Style`]; beside the sink, so that lines are put together without the lock.
    style: AtomicU8,
    lost: AtomicU64,
    broken: AtomicBool,
    /// Found out by [`init`].
    journal: AtomicBool,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The dependencies' own chatter is none of the operator's business.
        metadata.level() <= Level::Warn || metadata.target().starts_with("usherd")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let style = Style::from(self.style.load(Ordering::Relaxed));
        let now = SystemTime::now();
        LINE.with(|line| match line.try_borrow_mut() {
            Ok(mut buffer) => {
                line::write(&mut buffer, style, now, record);
                self.write(&buffer, style);
            }
            // A field that logs while it is being formatted.
            Err(_) => {
                let mut buffer = Vec::new();
                line::write(&mut buffer, style, now, record);
                self.write(&buffer, style);
            }
        });
    }

    fn flush(&self) {}
}

impl Logger {
    fn write(&self, line: &[u8], style: Style) {
        let mut sink = match self.sink.try_lock() {
            Ok(sink) => sink,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return self.count_lost(),
        };
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 && self.put(&mut sink, &lost_line(style, lost)) {
            self.lost.fetch_sub(lost, Ordering::Relaxed);
        }
        if !self.put(&mut sink, line) {
            self.count_lost();
        }
    }

    fn put(&self, sink: &mut Sink, line: &[u8]) -> bool {
        match sink.write(line) {
            Ok(()) => true,
            Err(Lost::Now) => false,
            Err(Lost::ForGood) => {
                self.broken.store(true, Ordering::Relaxed);
                false
            }
        }
    }

    fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

fn lost_line(style: Style, lost: u64) -> Vec<u8> {
    let mut buffer = Vec::new();
    line::write(
        &mut buffer,
        style,
        SystemTime::now(),
        &Record::builder()
            .level(Level::Warn)
            .args(format_args!("{lost} log lines were lost"))
            .build(),
    );
    buffer
}

fn log_panic(role: &str, info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let reason = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown");
    match info.location() {
        Some(at) => log::error!(role = role, at:% = at, reason = reason; "panicked"),
        None => log::error!(role = role, reason = reason; "panicked"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::table::LogTarget;

    #[test]
    fn lost_lines_are_counted_and_reported() {
        let logger = Logger {
            sink: Mutex::new(Sink::stderr()),
            style: AtomicU8::new(Style::Journal.into()),
            lost: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            journal: AtomicBool::new(false),
        };
        let (mut reader, writer) = std::io::pipe().unwrap();
        let record = || Record::builder().target("usherd").build();
        *logger.sink.lock().unwrap() = Sink::new(writer.into(), &LogTarget::Stderr);
        let mut written = 0;
        let full = [b'x'; 4096];
        while logger.sink.lock().unwrap().write(&full).is_ok() {
            written += full.len();
        }
        logger.log(&record());
        logger.log(&record());
        reader.read_exact(&mut vec![0; written]).unwrap();
        logger.log(&record());
        drop(logger);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "<4>2 log lines were lost\n<6>\n");
    }

    #[test]
    fn attach_sets_target_format_and_level() {
        init("test");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let settings = LogSettings {
            to: LogTarget::File(path.clone()),
            format: LogFormat::Text,
            level: LogLevel::Debug,
        };
        attach(open(&settings).unwrap(), &settings);
        log::debug!(role = "x", n = 1; "attached");
        attach(
            open(&settings).unwrap(),
            &LogSettings {
                level: LogLevel::Error,
                ..settings.clone()
            },
        );
        log::warn!("not seen");
        let _ = std::panic::take_hook();
        let seen = std::fs::read_to_string(&path).unwrap();
        assert!(
            seen.lines()
                .any(|line| line.ends_with(" debug attached role=x n=1")),
            "{seen}"
        );
        assert!(!seen.contains("not seen"), "{seen}");
        assert!(!is_broken());
    }
}
