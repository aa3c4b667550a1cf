//! Runs one conversation to its end, for tests: a loop with nothing else in it.
#![allow(clippy::unwrap_used, missing_debug_implementations, reason = "tests")]

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use socket2::Socket;

use crate::front::conversation::{Conversation, Progress, Question, Told, Traffic};

/// How a conversation ended.
#[derive(Debug)]
pub struct Ended {
    pub progress: io::Result<Progress>,
    pub traffic: Traffic,
}

/// Nothing in a test takes as long as this.
const STUCK: Duration = Duration::from_secs(20);

pub fn run(conversation: &mut dyn Conversation) -> io::Result<Progress> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let tokens = [Token(4), Token(5)];
    let registry = poll.registry().try_clone()?;
    let mut progress = conversation.begin(&registry, tokens, Instant::now())?;
    loop {
        let again = match progress {
            Progress::Pending => false,
            Progress::Again => true,
            Progress::Ask(question) => {
                progress = conversation.told(&registry, answer(&question), Instant::now())?;
                continue;
            }
            over @ (Progress::Done | Progress::HandOver { .. }) => return Ok(over),
        };
        let now = Instant::now();
        let wait = match conversation.deadline() {
            _ if again => Duration::ZERO,
            Some(at) => at.saturating_duration_since(now).min(STUCK),
            None => STUCK,
        };
        poll.poll(&mut events, Some(wait))?;
        let now = Instant::now();
        let due = conversation.deadline().is_some_and(|at| at <= now);
        assert!(
            again || due || !events.is_empty(),
            "stuck: {conversation:?}"
        );
        progress = Progress::Pending;
        let mut woken: Vec<Token> = events.iter().map(mio::event::Event::token).collect();
        if again || due {
            woken.push(tokens[0]);
        }
        for token in woken {
            progress = conversation.ready(&registry, token, now)?;
            if !matches!(progress, Progress::Pending | Progress::Again) {
                break;
            }
        }
    }
}

/// In place of the front.
fn answer(question: &Question) -> Told {
    match question {
        Question::News(_) => Told::NoMore,
        Question::Metrics | Question::Page | Question::Snapshot => {
            Told::Text(format!("{question:?}\n"))
        }
    }
}

/// Drives what `make` builds, on a thread of its own.
pub fn spawn(make: impl FnOnce() -> Box<dyn Conversation> + Send + 'static) -> JoinHandle<Ended> {
    thread::spawn(move || {
        let mut conversation = make();
        let progress = run(conversation.as_mut());
        Ended {
            progress,
            traffic: conversation.traffic(),
        }
    })
}

/// A peer, our end of its connection, and who is who.
pub struct Pair {
    pub peer: TcpStream,
    pub ours: Socket,
    pub peer_addr: SocketAddr,
    pub local_addr: SocketAddr,
}

pub fn tcp_pair() -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local_addr = listener.local_addr().unwrap();
    let peer = TcpStream::connect(local_addr).unwrap();
    peer.set_read_timeout(Some(STUCK)).unwrap();
    let (ours, peer_addr) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    Pair {
        peer,
        ours: ours.into(),
        peer_addr,
        local_addr,
    }
}
