//! A service that lives elsewhere: bytes go to an upstream and back.
//!
//! `upstream` finds one that answers, `header` tells it who the peer is,
//! `direction` moves the bytes. The end of one direction is passed on and
//! leaves the other one open, so `printf x | nc -N` gets its answer.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Registry, Token};
use socket2::Socket;

use super::builtin::register;
use super::conversation::{Conversation, Progress, Traffic};
use crate::table::Forward;

mod direction;
mod header;
mod upstream;

use direction::{Direction, Side};
use upstream::{Reach, Search};

/// A relay from `client` to the first upstream of `forward` that answers.
/// `peer` and `local` are the ends of the client's connection, for the PROXY
/// header; `None` where they are no internet addresses.
#[must_use]
pub fn relay(
    forward: &Forward,
    client: Socket,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
) -> Box<dyn Conversation> {
    let header = forward
        .proxy
        .map_or_else(Vec::new, |version| header::header(version, peer, local));
    Box::new(Relay {
        client: Side::new(client),
        upstream: Upstream::Sought(Search::new(forward)),
        up: Direction::new(header),
        down: Direction::new(Vec::new()),
        peer,
        tokens: [Token(0), Token(0)],
    })
}

#[derive(Debug)]
struct Relay {
    client: Side,
    upstream: Upstream,
    /// From the client to the upstream.
    up: Direction,
    down: Direction,
    peer: Option<SocketAddr>,
    tokens: [Token; 2],
}

#[derive(Debug)]
enum Upstream {
    Sought(Search),
    Found(Side),
}

impl Relay {
    fn reached(&mut self, reach: Reach, now: Instant) -> io::Result<Progress> {
        match reach {
            Reach::Waiting => Ok(Progress::Pending),
            Reach::Found(socket) => {
                self.upstream = Upstream::Found(Side::new(socket));
                self.turn()
            }
            Reach::Nobody(error) => {
                if let Upstream::Sought(search) = &self.upstream {
                    search.log_nobody(&error, self.peer, now);
                }
                Ok(Progress::Done)
            }
        }
    }

    fn turn(&mut self) -> io::Result<Progress> {
        let Upstream::Found(upstream) = &mut self.upstream else {
            return Ok(Progress::Pending);
        };
        let client = &mut self.client;
        // Down first: what an upstream said before it went away is still delivered.
        let down = self.down.turn(upstream, client);
        let more_down = reset_to_other(down, client)?;
        let up = self.up.turn(client, upstream);
        let more_up = reset_to_other(up, upstream)?;
        // An end that broke on the way up has to be read once more to be noticed.
        let more_down = if self.up.is_over() && !self.down.is_over() {
            let down = self.down.turn(upstream, client);
            reset_to_other(down, client)?
        } else {
            more_down
        };
        Ok(
            match (
                self.up.is_over() && self.down.is_over(),
                more_up || more_down,
            ) {
                (true, _) => Progress::Done,
                (false, true) => Progress::Again,
                (false, false) => Progress::Pending,
            },
        )
    }
}

/// A reset on one side becomes a reset on the other: a regular end would say
/// that everything arrived.
fn reset_to_other<T>(turn: io::Result<T>, other: &Side) -> io::Result<T> {
    turn.inspect_err(|_| {
        let _ = other.socket.set_linger(Some(Duration::ZERO));
    })
}

impl Conversation for Relay {
    fn begin(
        &mut self,
        registry: &Registry,
        tokens: [Token; 2],
        now: Instant,
    ) -> io::Result<Progress> {
        self.tokens = tokens;
        self.client.socket.set_nonblocking(true)?;
        // Not for unix clients.
        let _ = self.client.socket.set_tcp_nodelay(true);
        register(registry, &self.client.socket, tokens[0])?;
        let Upstream::Sought(search) = &mut self.upstream else {
            return Ok(Progress::Pending);
        };
        let reach = search.begin(registry, tokens[1], now);
        self.reached(reach, now)
    }

    fn ready(&mut self, registry: &Registry, token: Token, now: Instant) -> io::Result<Progress> {
        let from_client = token == self.tokens[0];
        match &mut self.upstream {
            Upstream::Sought(search) => {
                let reach = search.ready(registry, self.tokens[1], now);
                return self.reached(reach, now);
            }
            Upstream::Found(_) if from_client => self.client.woken(),
            Upstream::Found(upstream) => upstream.woken(),
        }
        self.turn()
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.upstream {
            Upstream::Sought(search) => Some(search.deadline()),
            Upstream::Found(_) => None,
        }
    }

    fn traffic(&self) -> Traffic {
        Traffic {
            received: self.up.taken,
            sent: self.down.delivered,
        }
    }
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
