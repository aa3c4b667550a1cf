//! `metrics` and `status`: figures over HTTP/1.1, read-only, one request a connection.
//!
//! The head of the request is read here, the figures are the front's: the
//! conversation asks for them once it knows that it may tell them. A request is
//! judged in this order: is it HTTP, is it meant for this host, may it be done,
//! is there such a thing.
#![forbid(unsafe_code)]

use std::io;
use std::time::{Duration, Instant};

use mio::{Registry, Token};
use socket2::Socket;

use super::{Answer, Moved, Turn, read, register, status, with_stream_scratch};
use crate::front::conversation::{Conversation, Progress, Question, Told, Traffic};
use feed::Feed;
use request::{Fault, HEAD_LIMIT, Reading, Request};
use response::{Response, Status};

mod feed;
mod request;
mod response;

/// How long a peer may take to say what it wants,
const HEAD_TIME: Duration = Duration::from_secs(10);
/// and to read the answer.
const BODY_TIME: Duration = Duration::from_secs(30);

/// What there is to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    Metrics,
    Status,
}

/// One thing of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Metrics,
    Page,
    Snapshot,
    Events,
}

/// A connection of somebody who asks for figures.
#[derive(Debug)]
pub struct Http {
    socket: Socket,
    site: Site,
    state: State,
    deadline: Option<Instant>,
    /// Only a Host header that names this host will do.
    is_loopback: bool,
    token: Token,
    registered: bool,
    traffic: Traffic,
}

#[derive(Debug)]
enum State {
    /// The head is not complete.
    Reading(Vec<u8>),
    /// The front has been asked; whether only the head of the answer is wanted.
    Asking(Thing, bool),
    Answering(Answer),
    Feeding(Box<Feed>),
}

/// What a request comes to.
#[derive(Debug)]
enum Outcome {
    Answer(Vec<u8>),
    Ask(Thing, bool),
}

impl Http {
    #[must_use]
    pub fn boxed(socket: Socket, site: Site) -> Box<dyn Conversation> {
        let local = socket.local_addr().ok().and_then(|local| local.as_socket());
        Box::new(Self {
            is_loopback: local.is_some_and(|at| at.ip().to_canonical().is_loopback()),
            socket,
            site,
            state: State::Reading(Vec::new()),
            deadline: None,
            token: Token(0),
            registered: false,
            traffic: Traffic::default(),
        })
    }

    fn turn(&mut self, now: Instant) -> io::Result<Progress> {
        match &mut self.state {
            State::Reading(_) => self.listen(now),
            State::Asking(..) => Ok(Progress::Pending),
            State::Answering(answer) => answer.turn(&self.socket, &mut self.traffic, now),
            State::Feeding(feed) => feed.turn(&self.socket, &mut self.traffic, now),
        }
    }

    /// Reads on until it is clear what is asked.
    fn listen(&mut self, now: Instant) -> io::Result<Progress> {
        let is_late = now >= *self.deadline.get_or_insert(now + HEAD_TIME);
        let outcome = loop {
            let State::Reading(bytes) = &mut self.state else {
                return Ok(Progress::Pending);
            };
            match fill(&self.socket, bytes)? {
                Moved::Bytes(count) => {
                    self.traffic.received += count as u64;
                    if is_worth_a_look(bytes, count)
                        && let Some(outcome) = judge(bytes, self.site, self.is_loopback)
                    {
                        break outcome;
                    }
                }
                // Browsers open connections in advance.
                Moved::End if bytes.is_empty() => return Ok(Progress::Done),
                Moved::End => break refuse(Fault::Malformed("an end in the middle")),
                Moved::Blocked if !is_late => return Ok(Progress::Pending),
                Moved::Blocked if bytes.is_empty() => return Ok(Progress::Done),
                Moved::Blocked => break answer(Status::RequestTimeout, "too slow\n"),
            }
        };
        match outcome {
            Outcome::Answer(bytes) => self.answer(bytes, now),
            Outcome::Ask(thing, head_only) => {
                self.state = State::Asking(thing, head_only);
                Ok(Progress::Ask(thing.question()))
            }
        }
    }

    fn answer(&mut self, bytes: Vec<u8>, now: Instant) -> io::Result<Progress> {
        self.state = State::Answering(Answer::long(bytes, BODY_TIME));
        self.turn(now)
    }

    /// Registers as late as possible: most requests are there before they are accepted.
    fn wait(&mut self, registry: &Registry, progress: Progress) -> io::Result<Progress> {
        if matches!(progress, Progress::Pending) && !self.registered {
            register(registry, &self.socket, self.token)?;
            self.registered = true;
        }
        Ok(progress)
    }
}

impl Conversation for Http {
    fn begin(
        &mut self,
        registry: &Registry,
        tokens: [Token; 2],
        now: Instant,
    ) -> io::Result<Progress> {
        self.token = tokens[0];
        self.ready(registry, tokens[0], now)
    }

    fn ready(&mut self, registry: &Registry, _: Token, now: Instant) -> io::Result<Progress> {
        let progress = self.turn(now)?;
        self.wait(registry, progress)
    }

    fn told(&mut self, registry: &Registry, told: Told, now: Instant) -> io::Result<Progress> {
        let progress = match (&mut self.state, told) {
            (State::Asking(thing, head_only), Told::Text(text)) => {
                let bytes = thing.response().whole(&text, *head_only);
                self.answer(bytes, now)
            }
            (State::Asking(thing, _), Told::News(news)) => {
                let head = thing.response().head(None);
                self.state = State::Feeding(Box::new(Feed::new(&head, news, now)));
                self.turn(now)
            }
            (State::Asking(..), Told::NoMore) => {
                let response = Response::text(Status::Unavailable);
                self.answer(response.whole("too many watch already\n", false), now)
            }
            (State::Feeding(feed), Told::News(news)) => {
                feed.take(news);
                self.turn(now)
            }
            _ => Ok(Progress::Done),
        }?;
        self.wait(registry, progress)
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Answering(answer) => answer.deadline(),
            State::Feeding(feed) => feed.deadline(),
            State::Reading(_) | State::Asking(..) => self.deadline,
        }
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}

/// Reads as much as a head may still have.
fn fill(socket: &Socket, bytes: &mut Vec<u8>) -> io::Result<Moved> {
    with_stream_scratch(|buffer| {
        let moved = read(socket, &mut buffer[..HEAD_LIMIT - bytes.len()])?;
        if let Moved::Bytes(count) = moved {
            bytes.extend_from_slice(&buffer[..count]);
        }
        Ok(moved)
    })
}

/// A head ends with a line: the last `count` bytes change nothing without one. So a
/// peer that sends byte by byte has its head walked over once a line, not once a byte.
fn is_worth_a_look(bytes: &[u8], count: usize) -> bool {
    let news = &bytes[bytes.len() - count..];
    let is_first = news.len() == bytes.len();
    is_first || bytes.len() >= HEAD_LIMIT || memchr::memchr(b'\n', news).is_some()
}

/// `None`: it takes more bytes to tell.
fn judge(bytes: &[u8], site: Site, is_loopback: bool) -> Option<Outcome> {
    Some(match request::read(bytes) {
        Reading::More => return None,
        Reading::Bad(fault) => refuse(fault),
        Reading::Whole(request) if is_loopback && !request.is_for_loopback() => answer(
            Status::Misdirected,
            "this is localhost, 127.0.0.1 or [::1], and not the host of that name\n",
        ),
        Reading::Whole(request) => serve(&request, site),
    })
}

fn serve(request: &Request<'_>, site: Site) -> Outcome {
    let head_only = match request.method {
        b"GET" => false,
        b"HEAD" => true,
        _ => return answer(Status::MethodNotAllowed, "nothing can be changed here\n"),
    };
    match site.find(request.path.unwrap_or_default()) {
        // A stream has no length and no end: its head is all that can be told.
        Some(Thing::Events) if head_only => {
            Outcome::Answer(Thing::Events.response().head(None).into_bytes())
        }
        Some(thing) => Outcome::Ask(thing, head_only),
        None => {
            let response = Response::text(Status::NotFound);
            Outcome::Answer(response.whole(site.hint(), head_only))
        }
    }
}

impl Site {
    fn find(self, path: &[u8]) -> Option<Thing> {
        match (self, path) {
            (Site::Metrics, b"/metrics") => Some(Thing::Metrics),
            (Site::Status, b"/") => Some(Thing::Page),
            (Site::Status, b"/snapshot.json") => Some(Thing::Snapshot),
            (Site::Status, b"/events") => Some(Thing::Events),
            _ => None,
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Site::Metrics => "the figures are at /metrics\n",
            Site::Status => "there are /, /snapshot.json and /events\n",
        }
    }
}

impl Thing {
    fn question(self) -> Question {
        match self {
            Thing::Metrics => Question::Metrics,
            Thing::Page => Question::Page,
            Thing::Snapshot => Question::Snapshot,
            Thing::Events => Question::News(None),
        }
    }

    fn response(self) -> Response<'static> {
        match self {
            Thing::Metrics => Response::ok(response::METRICS),
            Thing::Snapshot => Response::ok(response::JSON),
            Thing::Events => Response::ok(response::EVENTS),
            Thing::Page => Response {
                policy: status::POLICY,
                ..Response::ok(response::HTML)
            },
        }
    }
}

fn refuse(fault: Fault) -> Outcome {
    match fault {
        Fault::Malformed(why) => answer(Status::BadRequest, &format!("{why}\n")),
        Fault::TooLarge => answer(Status::HeadTooLarge, "at most 8 KiB, in 100 lines\n"),
    }
}

fn answer(status: Status, text: &str) -> Outcome {
    Outcome::Answer(Response::text(status).whole(text, false))
}

#[cfg(test)]
mod tests;
