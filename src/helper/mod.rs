//! The privileged process: small, single-threaded, believes nobody.
//!
//! # Who is trusted with what
//!
//! | Process | Reads from | Can do |
//! |---|---|---|
//! | helper | the operator's files, the kernel, frames of the front, calls on the admin socket of operators, and of servers with an `admin` list | everything the table says |
//! | front | peers, servers' stderr, frames of the helper | accept, relay, and ask the helper |
//! | server | its one request | what its user and its sandbox let it |
//! | keeper | a blueprint, from the helper | everything while it builds, nothing once servers may enter |
//! | template | the same, and orders of the helper | everything, where no server ever is |
//! | parked child | its request, from the helper | it is root in our memory, with the cage of its service closed |
//! | session process | the plan, from the helper | everything, until it is the server: it runs the modules of PAM |
//! | administrative server | the request, from the helper, which a server may have written | what its entry in the catalogue gives it, and of the helper the methods in its `calls`, about what the request named |
//!
//! The helper never reads a byte that a peer wrote, and parses none that a
//! stranger wrote: who calls on the admin socket is asked of the
//! kernel first, and calls of those who may ask for nothing are refused unparsed. Of a server
//! with an `admin` list it parses a JSON object of bounded length, and what it
//! says of files, users and hosts is looked into by the administrative server alone.
//!
//! # What the front can ask for
//!
//! Nine requests ([`wire::Request`]): start a service on this connection,
//! start one on its own listener, stop an instance, I am alive, what you told
//! me is done, the log is broken, who calls me on the status socket, what do
//! the instances use, and, when it is to go, here is a connection that nobody serves yet. It names services, listeners and instances by numbers that the
//! helper gave out, never a path, an argument, a user, a pid or a descriptor
//! number.
//!
//! There are three ways to say no, and they stay apart: a frame that makes no
//! sense ends the front; a request the table does not allow is
//! [`wire::Refusal`]; a step that failed is reported with its errno.
//!
//! # What an attacker has who owns
//!
//! - **the front**: the connections of the moment and the bytes of built-in
//!   services and relays. He can start servers of the table, as often as
//!   `instances` and `per_source` allow, on connections that really came in at
//!   that service's own listeners (asked of the kernel, [`policy::came_in_at`])
//!   from addresses its `allow` and `deny` let in; he can evade `rate`,
//!   `hours` and `max_load`, which only the front keeps; he can stop instances
//!   and refuse service. He can say that he took an operator's order, and not;
//!   what the helper does for it, such as to end servers, it does all the same.
//!   He cannot open a file, start a program, or see
//!   another process.
//! - **a server**: what its user may inside of its sandbox; with `isolation =
//!   "none"` what its user may, as under any inetd. It has no descriptor of usherd but
//!   its request and the pipe for its stderr. Other instances of a `"standard"`
//!   service share its sandbox: what it can do to them is what their user may.
//!   A keeper has no right that could be taken from it, and nobody but root may stop,
//!   trace or look into the memory of a child that still has ours.
//! - **an administrative server**, by what a request says: the rights of that one operation, until
//!   its time limit. No other operation, no other service than the request named, no line of the log.
//! - **the helper**: the host.
//!
//! # Where to look
//!
//! `run` (start), [`core`] (the loop), [`wire`] and [`link`] (bytes),
//! [`policy`] (may it), [`start`] (do it), [`reap`], [`stop`], [`cgroups`] and [`tree`]
//! (ends), [`cpus`] (where both run), [`sessions`] (servers with `pam` or `oom_score`),
//! [`tend`] (the front's keeper), [`reload`], [`handover`] (to the next usherd), [`sockets`] (listeners), [`front_process`] (the front
//! as a child), [`admin`] (operators: the admin socket, who calls, bans), [`operations`] (what they have done by a process of its own).

pub mod admin;
pub mod announce;
mod belongings;
pub mod cgroups;
pub mod core;
pub mod cpus;
pub mod filter;
pub mod found;
pub mod foundation;
pub mod front_process;
pub mod handover;
pub mod instances;
pub mod link;
pub mod load;
pub mod logs;
mod lot;
mod notice;
mod octets;
pub mod operations;
mod outcome;
pub mod pid_file;
pub mod policy;
pub mod reap;
pub mod reload;
mod reserve;
pub mod run;
mod sandbox;
mod sandboxes;
pub mod services;
pub mod sessions;
pub mod sockets;
pub mod start;
pub mod stop;
pub mod tend;
pub mod timers;
pub mod told;
pub mod tree;
pub mod welcome;
pub mod wire;
