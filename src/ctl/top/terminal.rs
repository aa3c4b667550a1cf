//! The terminal: taken over for the whole screen, and given back as it was,
//! whatever ends the program.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic;
use std::sync::{Mutex, Once, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd;

use super::keys::{Key, keys};

/// The other screen, no cursor, and what is too long for a line is not wrapped.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &[u8] = b"\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Signals that are read from a descriptor while the terminal is ours.
const SIGNALS: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGWINCH,
];

/// The terminal that has to be given back, and how it was.
static TAKEN: Mutex<Option<Taken>> = Mutex::new(None);

#[derive(Debug)]
struct Taken {
    input: OwnedFd,
    output: OwnedFd,
    before: Termios,
}

/// A terminal that is ours until this is dropped.
#[derive(Debug)]
pub struct Terminal {
    input: OwnedFd,
    output: OwnedFd,
    signals: SignalFd,
}

impl Terminal {
    /// Takes the terminal over. Threads that are started from now on get no
    /// signal of those that end the program.
    pub fn take(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        give_back_on_panic();
        let mask: SigSet = SIGNALS.into_iter().collect();
        mask.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let terminal = Self {
            input,
            output,
            signals: SignalFd::with_flags(&mask, flags)?,
        };
        terminal.enter()?;
        Ok(terminal)
    }

    fn enter(&self) -> io::Result<()> {
        let before = tcgetattr(&self.input)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        let taken = Taken {
            input: self.input.try_clone()?,
            output: self.output.try_clone()?,
            before,
        };
        // Before anything is changed: from here on a panic knows what to do.
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
        tcsetattr(&self.input, SetArg::TCSAFLUSH, &raw)?;
        write_all(self.output.as_fd(), ENTER)
    }

    /// Gives the terminal back, stops like any other program, and takes it
    /// again when the shell says so.
    pub fn suspend(&self) -> io::Result<()> {
        give_back();
        nix::sys::signal::raise(Signal::SIGTSTP)?;
        self.enter()
    }

    /// Shows `lines`, and nothing else.
    pub fn show(&self, lines: &[String]) -> io::Result<()> {
        let mut frame = b"\x1b[H".to_vec();
        for (number, line) in lines.iter().enumerate() {
            if number > 0 {
                frame.extend_from_slice(b"\r\n");
            }
            frame.extend_from_slice(line.as_bytes());
            frame.extend_from_slice(b"\x1b[K");
        }
        frame.extend_from_slice(b"\x1b[J");
        // In one piece, so that no half of it is seen.
        write_all(self.output.as_fd(), &frame)
    }

    /// Columns and lines.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let size = terminal_size::terminal_size_of(&self.output);
        let size = size.map(|(width, height)| (usize::from(width.0), usize::from(height.0)));
        size.filter(|(width, height)| *width > 0 && *height > 0)
            .unwrap_or((80, 24))
    }

    /// What was typed; `None` when the terminal is gone.
    pub fn keys(&self) -> io::Result<Option<Vec<Key>>> {
        let mut buffer = [0; 256];
        match unistd::read(&self.input, &mut buffer) {
            Ok(0) | Err(Errno::EIO) => Ok(None),
            Ok(count) => Ok(Some(keys(&buffer[..count]))),
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(Some(Vec::new())),
            Err(err) => Err(err.into()),
        }
    }

    /// The signals that came.
    pub fn signals(&self) -> io::Result<Vec<Signal>> {
        let mut came = Vec::new();
        while let Some(info) = self.signals.read_signal()? {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            came.extend(Signal::try_from(number));
        }
        Ok(came)
    }

    /// Where keys and signals are read.
    #[must_use]
    pub fn sources(&self) -> [BorrowedFd<'_>; 2] {
        [self.input.as_fd(), self.signals.as_fd()]
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

/// Ends the program by the signal that it was sent, as if it had never been held up.
pub fn end_by(signal: Signal) {
    let mask: SigSet = SIGNALS.into_iter().collect();
    let _ = mask.thread_unblock();
    let _ = nix::sys::signal::raise(signal);
}

/// The terminal as it was, if it is ours.
fn give_back() {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(taken) = taken {
        let _ = write_all(taken.output.as_fd(), LEAVE);
        let _ = tcsetattr(&taken.input, SetArg::TCSAFLUSH, &taken.before);
    }
}

/// A panic ends the program without unwinding where it is built for release;
/// its message would be lost on the other screen.
fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
    });
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match unistd::write(to, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
    io::stdout().flush()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use nix::pty::openpty;
    use nix::sys::termios::LocalFlags;

    use super::*;

    #[test]
    fn a_panic_gives_the_terminal_back() {
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        assert!(before.local_flags.contains(LocalFlags::ICANON));
        let (input, output) = (
            pty.slave.try_clone().unwrap(),
            pty.slave.try_clone().unwrap(),
        );
        // A thread of its own: the signals stay blocked there.
        let ended = std::thread::spawn(move || {
            let terminal = Terminal::take(input, output).unwrap();
            let raw = tcgetattr(&terminal.input).unwrap();
            assert!(!raw.local_flags.contains(LocalFlags::ICANON));
            // What the hook would do in a program that is built to abort.
            std::mem::forget(terminal);
            panic!("on purpose");
        });
        assert!(ended.join().is_err());
        let after = tcgetattr(&pty.slave).unwrap();
        assert_eq!(after.local_flags, before.local_flags);
        let mut seen = Vec::new();
        while !seen.ends_with(LEAVE) {
            let mut buffer = [0; 64];
            let count = unistd::read(&pty.master, &mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..count]);
        }
        assert!(seen.starts_with(ENTER));
    }
}
