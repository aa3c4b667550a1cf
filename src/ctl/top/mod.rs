//! `top`: rates, latencies, instances and refusals, live on the whole screen.
//!
//! - [`keys`]: bytes of the terminal into keys
//! - [`view`]: what keys do
//! - [`readings`]: what the daemon says, by a thread of its own
//! - [`rows`], [`sort`]: readings into rates, and those in order
//! - [`draw`]: rows into lines
//! - [`terminal`]: taken over, and given back whatever happens
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

mod draw;
mod keys;
mod readings;
mod rows;
#[cfg(test)]
mod samples;
mod sort;
mod terminal;
mod view;

use super::console::Console;
use super::failure::Failure;
use crate::error::Exit;
use crate::table::value::show_duration;
use draw::Screen;
use readings::{News, Order, Reader, Reading};
use rows::History;
use terminal::Terminal;
use view::{Act, Page, Shown, View};

/// An answer that takes longer is worth a word.
const SILENCE: Duration = Duration::from_secs(2);

pub fn top(console: &Console, every: Duration) -> Result<(), Failure> {
    if console.json {
        return stream(console, every);
    }
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if dumb || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::usage(
            "top needs a terminal; `usherctl stats --watch` prints lines",
        ));
    }
    // What is wrong from the start is told before the screen is taken.
    console.status()?;
    let failed =
        |err: io::Error| Failure::new(Exit::System, format!("unable to use the terminal: {err}"));
    let terminal = descriptors()
        .and_then(|(input, output)| Terminal::take(input, output))
        .map_err(failed)?;
    let mut top = Top {
        reader: Reader::start(console).map_err(failed)?,
        terminal,
        view: View::default(),
        history: History::default(),
        shown: Shown::default(),
        trouble: None,
        every,
        next: Instant::now(),
        asked: None,
        colours: console.colours,
    };
    let ended = top.run();
    drop(top);
    match ended.map_err(failed)? {
        Ended::Asked => Ok(()),
        Ended::Signal(signal) => {
            terminal::end_by(signal);
            Ok(())
        }
    }
}

fn descriptors() -> io::Result<(OwnedFd, OwnedFd)> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    Ok((input, io::stdout().as_fd().try_clone_to_owned()?))
}

/// With --json: what would be drawn, as often.
fn stream(console: &Console, every: Duration) -> Result<(), Failure> {
    let mut link = console.status()?;
    loop {
        console.say_json_line(&Reading::take(&mut link)?)?;
        thread::sleep(every);
    }
}

/// Why the screen is given back.
enum Ended {
    Asked,
    Signal(Signal),
}

struct Top {
    terminal: Terminal,
    reader: Reader,
    view: View,
    history: History,
    shown: Shown,
    trouble: Option<String>,
    every: Duration,
    /// When the daemon is asked again.
    next: Instant,
    /// Since when its answer is waited for.
    asked: Option<Instant>,
    colours: bool,
}

impl Top {
    fn run(&mut self) -> io::Result<Ended> {
        loop {
            self.ask();
            self.draw()?;
            self.wait()?;
            for signal in self.terminal.signals()? {
                if signal != Signal::SIGWINCH {
                    return Ok(Ended::Signal(signal));
                }
            }
            self.hear()?;
            if let Some(ended) = self.obey()? {
                return Ok(ended);
            }
        }
    }

    /// For a reading, when it is time.
    fn ask(&mut self) {
        let now = Instant::now();
        if self.asked.is_some() || self.view.frozen || now < self.next {
            return;
        }
        self.asked = Some(now);
        self.next = now + self.every;
        self.reader.order(Order::Read);
    }

    /// Until a key, a signal, news, or the time for the next reading.
    fn wait(&self) -> io::Result<()> {
        let timeout = if self.asked.is_some() {
            // Time enough to say how long it takes already.
            PollTimeout::from(1_000_u16)
        } else if self.view.frozen {
            PollTimeout::NONE
        } else {
            let left = self.next.saturating_duration_since(Instant::now());
            // Rounded up, so that it is time then.
            let millis = left.as_micros().div_ceil(1_000);
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
        };
        let [keys, signals] = self.terminal.sources();
        let mut sources =
            [keys, signals, self.reader.source()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut sources, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    /// What the daemon has said.
    fn hear(&mut self) -> io::Result<()> {
        while let Some(news) = self.reader.next()? {
            match news {
                News::Reading(reading) => {
                    self.asked = None;
                    self.trouble = None;
                    self.history.push(*reading);
                    // What was on its way when the screen was frozen is for later.
                    if !self.view.frozen {
                        self.arrange();
                    }
                }
                News::NoReading(why) => {
                    self.asked = None;
                    self.trouble = Some(why);
                }
                News::Done(what) => self.view.message = Some(what),
            }
        }
        Ok(())
    }

    /// What was typed. The screen follows each key, so that the next one finds
    /// what whoever typed it expects.
    fn obey(&mut self) -> io::Result<Option<Ended>> {
        let mut sources = [PollFd::new(self.terminal.sources()[0], PollFlags::POLLIN)];
        if poll(&mut sources, PollTimeout::ZERO).unwrap_or(0) == 0 {
            return Ok(None);
        }
        let Some(keys) = self.terminal.keys()? else {
            return Ok(Some(Ended::Asked));
        };
        for key in keys {
            let act = self.view.press(key, &self.shown);
            self.arrange();
            match act {
                Some(Act::Quit) => return Ok(Some(Ended::Asked)),
                Some(Act::Suspend) => self.terminal.suspend()?,
                Some(Act::Order(order)) => self.reader.order(order),
                None => {}
            }
        }
        Ok(None)
    }

    /// Sorts what the last reading says.
    fn arrange(&mut self) {
        let view = &self.view;
        if view.frozen {
            // Frozen is what is seen, not how it is looked at.
        } else if let Some((total, services)) = self.history.rows() {
            self.shown.total = Some(total);
            self.shown.services = services;
        }
        view.sort.sort(&mut self.shown.services, view.reversed);
        self.shown.instances = match (&view.page, self.history.last()) {
            (Page::Instances(name), Some(reading)) => {
                let of = reading.instances.iter().filter(|one| one.service == *name);
                of.cloned().collect()
            }
            _ => Vec::new(),
        };
        view.sort
            .sort_instances(&mut self.shown.instances, view.reversed);
    }

    fn draw(&mut self) -> io::Result<()> {
        let every = show_duration(self.every);
        let waited = self.asked.map(|since| since.elapsed());
        let silent = waited.filter(|waited| *waited > SILENCE).map(|waited| {
            let seconds = waited.as_secs();
            format!("usherd has not answered for {seconds}s")
        });
        let screen = Screen {
            view: &self.view,
            shown: &self.shown,
            daemon: self.history.last().map(|reading| &reading.daemon),
            trouble: silent.as_deref().or(self.trouble.as_deref()),
            every: &every,
            size: self.terminal.size(),
            colours: self.colours,
        };
        let (lines, room) = screen.lines();
        self.view.room = room;
        self.terminal.show(&lines)
    }
}
