//! Makes what serves a request inside the loop.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use socket2::Socket;

use crate::front::conversation::Conversation;
use crate::front::plan::{MuxPlan, ServePlan};
use crate::table::Builtin;

/// The conversation that serves `socket`; `None` if the helper starts a server for it.
pub fn conversation(
    serve: &ServePlan,
    _socket: Socket,
    _names: &Rc<[MuxPlan]>,
) -> Option<Box<dyn Conversation>> {
    match serve {
        ServePlan::Exec | ServePlan::Builtin(_) | ServePlan::Forward(_) => None,
    }
}

/// Answers the datagrams of a built-in service.
#[derive(Debug)]
pub struct Responder;

impl Responder {
    pub fn new(_kind: Builtin) -> Self {
        Self
    }

    pub fn ready(
        &mut self,
        _socket: &Socket,
        _admit: &mut dyn FnMut(IpAddr) -> bool,
        _now: Instant,
    ) {
    }
}
