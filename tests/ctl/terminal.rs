//! usherctl in a terminal: a pseudo-terminal whose other end reads the screen.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;

use crate::fake::Fake;

/// How long anything that should happen at once may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// usherctl, and the terminal it runs in.
pub struct Terminal {
    child: Child,
    keyboard: std::fs::File,
    pieces: Receiver<Vec<u8>>,
    /// Everything that was ever written on it.
    pub written: String,
    slave: OwnedFd,
    before: Termios,
}

impl Terminal {
    /// `words` in a terminal of so many columns and lines.
    pub fn start(fake: &Fake, words: &[&str], size: (u16, u16)) -> Self {
        Self::run(&fake.command(words), size)
    }

    pub fn run(plain: &Command, (columns, lines): (u16, u16)) -> Self {
        let size = Winsize {
            ws_row: lines,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).unwrap();
        // With the terminal as its own, so that it is told of a new size.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(plain.get_program());
        command.args(plain.get_args());
        command.env("TERM", "xterm");
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let end = || pty.slave.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end());
        let before = tcgetattr(&pty.slave).unwrap();
        let child = command.spawn().unwrap();
        let mut screen = std::fs::File::from(pty.master.try_clone().unwrap());
        let (tell, pieces) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = screen.read(&mut buffer) {
                if count == 0 || tell.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keyboard: pty.master.into(),
            pieces,
            written: String::new(),
            slave: pty.slave,
            before,
        }
    }

    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until what was written meanwhile is as `wanted`.
    fn until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + SOON;
        while !wanted(&self.written) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.written.push_str(&String::from_utf8_lossy(&piece)),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no {what}; the screen is\n{}", self.screen());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("no {what}; it has ended:\n{}", self.written.escape_debug());
                }
            }
        }
    }

    /// Waits until `text` was written.
    pub fn reads(&mut self, text: &str) {
        self.until(text, |written| written.contains(text));
    }

    /// Waits for a screen that is `wanted`, and returns it.
    pub fn shows(&mut self, what: &str, wanted: impl Fn(&Screen) -> bool) -> Screen {
        self.until(what, |written| {
            last_screen(written).is_some_and(|screen| wanted(&screen))
        });
        last_screen(&self.written).unwrap()
    }

    fn screen(&self) -> String {
        last_screen(&self.written).map_or_else(String::new, |screen| screen.lines.join("\n"))
    }

    pub fn resize(&self, columns: u16, lines: u16) {
        let path = nix::unistd::ttyname(&self.slave).unwrap();
        let done = Command::new("stty")
            .arg("-F")
            .arg(path)
            .args(["cols", &columns.to_string(), "rows", &lines.to_string()])
            .status();
        assert!(done.unwrap().success());
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits for its end, and sees that the terminal is as it was.
    pub fn ended(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        let after = tcgetattr(&self.slave).unwrap();
        assert_eq!(after.local_flags, self.before.local_flags);
        assert_eq!(after.input_flags, self.before.input_flags);
        assert_eq!(after.output_flags, self.before.output_flags);
        status
    }

    /// The same after `top`: the cursor and the first screen are there again.
    pub fn gave_back(&mut self) -> ExitStatus {
        let status = self.ended();
        self.until("given back", |written| written.ends_with("\x1b[?1049l"));
        assert!(self.written.starts_with("\x1b[?1049h\x1b[?25l"));
        assert!(self.written.ends_with("\x1b[?7h\x1b[?25h\x1b[?1049l"));
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Screen {
    pub lines: Vec<String>,
    /// The line that is shown in reverse.
    pub selected: Option<String>,
}

impl Screen {
    /// The first words of the rows below the table's heading.
    pub fn rows(&self) -> Vec<&str> {
        let heading = |line: &String| line.contains("SERVICE");
        let at = self
            .lines
            .iter()
            .position(heading)
            .unwrap_or(self.lines.len());
        let rows = self.lines.iter().skip(at + 1);
        let first = rows.map_while(|line| line.split_whitespace().next());
        first.collect()
    }

    pub fn has(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }

    pub fn has_selected(&self, text: &str) -> bool {
        self.selected
            .as_ref()
            .is_some_and(|line| line.contains(text))
    }
}

/// The last screen that was written whole: from the upper left corner to
/// where the rest is wiped.
fn last_screen(written: &str) -> Option<Screen> {
    let (whole, _) = written.rsplit_once("\x1b[J")?;
    let (_, frame) = whole.rsplit_once("\x1b[H")?;
    let mut screen = Screen::default();
    for raw in frame.split("\r\n") {
        let line = without_colours(raw).trim_end().to_owned();
        if raw.contains("\x1b[7m") {
            screen.selected = Some(line.clone());
        }
        screen.lines.push(line);
    }
    Some(screen)
}

/// Nothing but colours and the wiping of lines is expected in them.
fn without_colours(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let end = part.find(['m', 'K']).unwrap_or_else(|| panic!("{line:?}"));
        let order = &part[..=end];
        assert!(order.starts_with('[') && order[1..end].bytes().all(|b| b.is_ascii_digit()));
        out.push_str(&part[end + 1..]);
    }
    out
}
