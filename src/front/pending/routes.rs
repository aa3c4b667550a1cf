//! Which services one listener leads to, and what they agree on.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use socket2::Type;

use crate::demux::LIMIT;
use crate::demux::plan::{Candidate, Facts, Plan};
use crate::table::access::Prefix;
use crate::table::{Access, MATCH_TIMEOUT, Routing, Side};

#[derive(Debug)]
pub struct Routes {
    pub plan: Plan,
    pub kind: Type,
    /// Its socket is one of IPv6, whatever its peers are.
    pub v6: bool,
    pub first_byte_timeout: Duration,
    pub match_timeout: Duration,
    /// Sources that must send a PROXY header.
    proxies: Vec<Prefix>,
    /// Whom each candidate lets in.
    access: Vec<Access>,
}

impl Routes {
    /// The routes of a listener with these services; `None` if it needs none,
    /// because everything is for the only one.
    pub fn compile(
        services: &[(&Routing, &Access)],
        kind: Type,
        v6: bool,
    ) -> Result<Option<Self>, String> {
        let plain =
            |routing: &Routing| routing.rules.is_empty() && routing.proxy_protocol.is_none();
        if let [(routing, _)] = services
            && plain(routing)
        {
            return Ok(None);
        }
        let candidates: Vec<Candidate<'_>> = services
            .iter()
            .map(|(routing, _)| Candidate {
                rules: &routing.rules,
                speaks_first: routing.speaks_first == Side::Server,
            })
            .collect();
        let first = services.first().map(|(routing, _)| *routing);
        // The table has filled them in, the same for all services of the address.
        let match_timeout = first.and_then(|routing| routing.match_timeout);
        let match_timeout = match_timeout.unwrap_or(MATCH_TIMEOUT);
        let first_byte_timeout = first.and_then(|routing| routing.first_byte_timeout);
        Ok(Some(Self {
            plan: Plan::compile(&candidates)?,
            kind,
            v6,
            first_byte_timeout: first_byte_timeout.unwrap_or(match_timeout),
            match_timeout,
            proxies: first
                .and_then(|routing| routing.proxy_protocol.clone())
                .unwrap_or_default(),
            access: services
                .iter()
                .map(|(_, access)| (*access).clone())
                .collect(),
        }))
    }

    /// Whether a peer at `ip` must send a PROXY header first.
    #[must_use]
    pub fn owes_header(&self, ip: IpAddr) -> bool {
        self.proxies.iter().any(|prefix| prefix.contains(ip))
    }

    /// Whether no more can be looked at than so many bytes.
    #[must_use]
    pub fn is_all(&self, count: usize) -> bool {
        // Of records only the first can be peeked at.
        count >= LIMIT || count > 0 && self.kind == Type::SEQPACKET
    }

    /// Whether no service that such a request may be for lets this peer in.
    #[must_use]
    pub fn denies_all(&self, facts: &Facts<'_>) -> bool {
        let Some((ip, _)) = facts.peer else {
            return false;
        };
        let mut reachable = self.plan.reachable(facts).peekable();
        let permits = |candidate: usize| {
            let access = self.access.get(candidate);
            access.is_some_and(|access| access.permits(ip))
        };
        reachable.peek().is_some() && !reachable.any(permits)
    }
}
