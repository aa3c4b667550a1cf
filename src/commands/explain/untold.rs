//! What a rule asks about the addresses of a request that was left open.
#![forbid(unsafe_code)]

use crate::demux::Address;
use crate::demux::plan::Facts;

/// The options that would tell what `address` asks and `facts` do not have.
pub fn asked(address: &Address, facts: &Facts<'_>) -> Vec<&'static str> {
    let accounts = !address.uid.is_empty() || !address.gid.is_empty();
    let port = facts.peer.filter(|(_, port)| *port != 0);
    [
        (!address.from.is_empty() && facts.peer.is_none(), "--from"),
        (
            !address.source_port.is_empty() && port.is_none(),
            "--from with a port",
        ),
        (!address.to.is_empty() && facts.local.is_none(), "--to"),
        (
            !address.interface.is_empty() && facts.interface.is_none(),
            "--interface",
        ),
        (accounts && facts.credentials.is_none(), "--uid and --gid"),
    ]
    .into_iter()
    .filter(|(open, _)| *open)
    .map(|(_, option)| option)
    .collect()
}
