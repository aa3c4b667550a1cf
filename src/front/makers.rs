//! Makes what serves a request inside the loop.
#![forbid(unsafe_code)]

use std::rc::Rc;

use crate::front::accept::Arrival;
use crate::front::builtin;
use crate::front::conversation::Conversation;
use crate::front::forward::relay;
use crate::front::plan::{MuxPlan, ServePlan};
use crate::front::tcpmux;
use crate::table::Builtin;

/// The conversation that serves `arrival`; `None` if the helper starts a server for it.
pub fn conversation(
    serve: &ServePlan,
    arrival: Arrival,
    names: &Rc<[MuxPlan]>,
) -> Option<Box<dyn Conversation>> {
    Some(match serve {
        ServePlan::Exec => return None,
        ServePlan::Builtin(Builtin::Tcpmux) => {
            tcpmux::conversation(arrival.socket, Rc::clone(names))
        }
        ServePlan::Builtin(kind) => builtin::conversation(*kind, arrival.socket),
        ServePlan::Forward(forward) => {
            let inet = |address: socket2::SockAddr| address.as_socket();
            let peer = arrival.socket.peer_addr().ok().and_then(inet);
            let local = arrival.socket.local_addr().ok().and_then(inet);
            let told = arrival.told.as_ref().and_then(|told| told.proxy.as_ref());
            let brought = told.and_then(|proxy| proxy.ends).unzip();
            relay(
                forward,
                arrival.socket,
                brought.0.or(peer),
                brought.1.or(local),
            )
        }
    })
}
