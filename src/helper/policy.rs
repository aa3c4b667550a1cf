//! May it? One question, asked in one place, of values only.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use socket2::SockAddr;

use crate::helper::told::Proxied;
use crate::helper::wire::Refusal;
use crate::table::access::mask;
use crate::table::{Routing, Rules};

/// Instances of all services together, whatever the table says.
pub const MAX_INSTANCES: usize = 16_384;

/// How full things are when a request comes in.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Instances of the service.
    pub service: u32,
    /// Of them, for this peer's source.
    pub source: u32,
    /// Of all services.
    pub all: usize,
    /// The listener already belongs to a running server (wait services).
    pub taken: bool,
    /// usherd is stopping.
    pub draining: bool,
}

/// Whether the table allows one more instance for a peer at `ip`. The front
/// has judged all this before; it may have been lost since.
pub fn permits(rules: &Rules, ip: Option<IpAddr>, load: Load) -> Result<(), Refusal> {
    if load.draining {
        return Err(Refusal::Draining);
    }
    if ip.is_some_and(|ip| !rules.access.permits(ip)) {
        return Err(Refusal::AddressDenied);
    }
    if load.all >= MAX_INSTANCES {
        return Err(Refusal::TooManyInAll);
    }
    let full = if rules.wait {
        load.taken
    } else {
        load.service >= rules.instances
    };
    if full || rules.per_source.is_some_and(|limit| load.source >= limit) {
        return Err(Refusal::TooManyInstances);
    }
    Ok(())
}

/// Whether a front may say that a connection from `real` brings somebody else:
/// exactly where the table says that `real` is a proxy. A front that is lost
/// can still lie about whom a proxy brings, and about nobody else.
pub fn vouches(
    routing: &Routing,
    real: Option<IpAddr>,
    proxied: Option<&Proxied>,
) -> Result<(), Refusal> {
    let proxies = routing.proxy_protocol.as_deref().unwrap_or_default();
    let is_proxy = real.is_some_and(|ip| proxies.iter().any(|prefix| prefix.contains(ip)));
    if is_proxy == proxied.is_some() {
        Ok(())
    } else {
        Err(Refusal::NotProxied)
    }
}

/// The peers that count as the same source as `ip`.
#[must_use]
pub fn source(rules: &Rules, ip: IpAddr) -> IpAddr {
    let ip = ip.to_canonical();
    let bits = if ip.is_ipv4() {
        rules.source_prefix.v4
    } else {
        rules.source_prefix.v6
    };
    mask(ip, bits).unwrap_or(ip)
}

/// Whether a connection that ends at `local` can have come in at a listener
/// bound to `listener`. Without this a front could hand a connection from a
/// public port to a service that listens on loopback only.
#[must_use]
pub fn came_in_at(local: &SockAddr, listener: &SockAddr) -> bool {
    match (local.as_socket(), listener.as_socket()) {
        (Some(local), Some(listener)) => {
            let (here, bound) = (local.ip().to_canonical(), listener.ip().to_canonical());
            local.port() == listener.port() && (bound.is_unspecified() || bound == here)
        }
        (None, None) => match (local.as_vsock_address(), listener.as_vsock_address()) {
            (Some((_, here)), Some((_, bound))) => here == bound,
            _ => local == listener,
        },
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn only_listed_proxies_bring_somebody_and_they_always_do() {
        let routing = Routing {
            proxy_protocol: Some(vec!["192.0.2.0/24".parse().unwrap()]),
            ..Routing::default()
        };
        let brings = Proxied {
            version: 1,
            ends: None,
            authority: None,
            alpn: None,
            unique_id: None,
        };
        let ip = |text: &str| Some(text.parse().unwrap());
        let judge = |real, brings| vouches(&routing, real, brings);
        assert_eq!(judge(ip("192.0.2.7"), Some(&brings)), Ok(()));
        assert_eq!(judge(ip("192.0.2.7"), None), Err(Refusal::NotProxied));
        assert_eq!(judge(ip("198.51.100.1"), None), Ok(()));
        assert_eq!(
            judge(ip("198.51.100.1"), Some(&brings)),
            Err(Refusal::NotProxied)
        );
        assert_eq!(judge(None, Some(&brings)), Err(Refusal::NotProxied));
    }

    fn at(text: &str) -> SockAddr {
        text.parse::<SocketAddr>().unwrap().into()
    }

    #[test]
    fn a_connection_belongs_to_the_listener_of_its_port_and_address() {
        assert!(came_in_at(&at("192.0.2.1:80"), &at("0.0.0.0:80")));
        assert!(came_in_at(&at("[::ffff:192.0.2.1]:80"), &at("[::]:80")));
        assert!(came_in_at(&at("127.0.0.1:80"), &at("127.0.0.1:80")));
        assert!(!came_in_at(&at("192.0.2.1:80"), &at("127.0.0.1:80")));
        assert!(!came_in_at(&at("192.0.2.1:81"), &at("0.0.0.0:80")));
        let path = SockAddr::unix("/run/x").unwrap();
        assert!(came_in_at(&path, &path));
        assert!(!came_in_at(&path, &SockAddr::unix("/run/y").unwrap()));
        assert!(!came_in_at(&path, &at("0.0.0.0:80")));
    }
}
