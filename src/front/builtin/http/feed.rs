//! Server-sent events: snapshots and events for as long as a browser listens.
//!
//! Nothing piles up for one who reads slowly: while it has not read the last
//! messages, it is not told any new ones. It misses snapshots, and of the events
//! it is told how many are gone if the ring has forgotten them by then.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::super::discard::drain;
use super::super::{Moved, Turn, write};
use crate::front::board::{News, Seat};
use crate::front::conversation::{Progress, Question, Traffic};

/// A browser says nothing after its request.
const CHATTER: usize = 16 * 1024;
/// How often one that has not read the last messages is looked at,
const PAUSE: Duration = Duration::from_secs(1);
/// and how long it may read nothing at all.
const STUCK: Duration = Duration::from_secs(30);

/// One who watches.
#[derive(Debug)]
pub struct Feed {
    waiting: VecDeque<Rc<str>>,
    /// Of the first message.
    sent: usize,
    seat: Option<Seat>,
    next: Instant,
    /// When a byte was last taken.
    moved: Instant,
}

impl Feed {
    #[must_use]
    pub fn new(head: &str, news: News, now: Instant) -> Self {
        let mut feed = Self {
            waiting: VecDeque::from([head.into()]),
            sent: 0,
            seat: None,
            next: now,
            moved: now,
        };
        feed.take(news);
        feed
    }

    /// More to send; called only when all else is sent.
    pub fn take(&mut self, news: News) {
        self.waiting.push_back(news.snapshot);
        self.waiting.extend(news.events);
        self.seat = Some(news.seat);
        self.next = news.next;
    }

    fn send(&mut self, socket: &Socket, traffic: &mut Traffic, now: Instant) -> io::Result<()> {
        while let Some(message) = self.waiting.front() {
            let Moved::Bytes(count) = write(socket, &message.as_bytes()[self.sent..])? else {
                return Ok(());
            };
            traffic.sent += count as u64;
            self.moved = now;
            self.sent += count;
            if self.sent == message.len() {
                self.waiting.pop_front();
                self.sent = 0;
            }
        }
        Ok(())
    }
}

impl Turn for Feed {
    fn turn(
        &mut self,
        socket: &Socket,
        traffic: &mut Traffic,
        now: Instant,
    ) -> io::Result<Progress> {
        // First, so that one who has closed its side hears the beginning at least.
        self.send(socket, traffic, now)?;
        if drain(socket, traffic, CHATTER)? != Moved::Blocked {
            return Ok(Progress::Done);
        }
        if now < self.next {
            return Ok(Progress::Pending);
        }
        if !self.waiting.is_empty() {
            self.next = now + PAUSE;
            let is_stuck = now.saturating_duration_since(self.moved) >= STUCK;
            return Ok(match is_stuck {
                true => Progress::Done,
                false => Progress::Pending,
            });
        }
        Ok(match self.seat.take() {
            Some(seat) => Progress::Ask(Question::News(Some(seat))),
            None => Progress::Done,
        })
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.next)
    }
}
