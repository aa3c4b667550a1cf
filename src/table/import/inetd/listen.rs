//! Where a service listens, as `listen` writes it.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::dialect::Dialect;
use super::fields::{Fields, Kind, Protocol};
use crate::table::address::Transport;
use crate::table::import::World;

/// Addresses of one service.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub listen: Vec<String>,
    /// The one address, if it is one.
    pub local: Option<IpAddr>,
    /// Addresses that its inetd could not bind either.
    pub unfit: Vec<String>,
    /// TCP or UDP, whose peers have addresses.
    pub has_ip_peers: bool,
}

/// IP versions of a protocol's name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    /// A socket for each.
    Each,
    /// One socket for both.
    Dual,
}

fn family(name: &str, dialect: Dialect) -> Family {
    match (name, dialect) {
        ("4", _) => Family::V4,
        ("46", _) | ("6", Dialect::Gnu) => Family::Dual,
        ("6" | "6only", _) => Family::V6,
        (_, Dialect::Debian) => Family::Each,
        _ => Family::V4,
    }
}

/// The error says why no table can have such an address.
pub(super) fn place(
    fields: &Fields,
    default: &[String],
    dialect: Dialect,
    world: &World<'_>,
) -> Result<Place, String> {
    if let Some(mux) = fields.service.strip_prefix("tcpmux/") {
        return Ok(Place {
            listen: vec![format!("tcpmux:{mux}")],
            has_ip_peers: true,
            ..Place::default()
        });
    }
    let Protocol::Ip {
        udp,
        rpc,
        family: name,
        ..
    } = &fields.protocol
    else {
        return unix(fields);
    };
    if fields.service.starts_with('/') {
        return Err("a path is no service of tcp or udp".to_owned());
    }
    let transport = if *udp { Transport::Udp } else { Transport::Tcp };
    let scheme = if *udp { "udp" } else { "tcp" };
    if *rpc {
        return self::rpc(fields, scheme, world);
    }
    let port = port(&fields.service, transport, world)?;
    let family = family(name, dialect);
    let addresses = fields.addresses.as_deref().unwrap_or(default);
    let mut place = Place {
        has_ip_peers: true,
        ..Place::default()
    };
    if addresses.is_empty() {
        place.listen = everywhere(family, scheme, &port, world);
    }
    for address in addresses {
        let found = match address.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            // A zone is for the table to judge.
            Err(_) if address.contains('%') => {
                place.listen.push(format!("{scheme}:[{address}]:{port}"));
                continue;
            }
            Err(_) => world.resolve(address),
        };
        if found.is_empty() {
            return Err(format!(
                "\"{address}\" is in no line of /etc/hosts, and usherd asks no DNS; write its address"
            ));
        }
        place.local = (addresses.len() == 1 && found.len() == 1).then(|| found[0]);
        for ip in found {
            match bind(ip, family, scheme, &port) {
                Some(listen) if !place.listen.contains(&listen) => place.listen.push(listen),
                Some(_) => {}
                None => place.unfit.push(ip.to_string()),
            }
        }
    }
    place.local = place.local.filter(|ip| !ip.is_unspecified());
    match place.listen.is_empty() {
        true => Err(format!(
            "\"{}\" has no address of that protocol",
            addresses.join(",")
        )),
        false => Ok(place),
    }
}

fn everywhere(family: Family, scheme: &str, port: &str, world: &World<'_>) -> Vec<String> {
    let one = |version: &str| format!("{scheme}{version}:{port}");
    match family {
        Family::V4 => vec![one("4")],
        Family::V6 => vec![one("6")],
        Family::Dual => vec![one("")],
        Family::Each if world.ipv6 => vec![one("4"), one("6")],
        Family::Each => vec![one("4")],
    }
}

fn bind(ip: IpAddr, family: Family, scheme: &str, port: &str) -> Option<String> {
    let fits = match family {
        Family::V4 => ip.is_ipv4(),
        Family::V6 => ip.is_ipv6(),
        Family::Each | Family::Dual => true,
    };
    Some(match (fits, ip) {
        (false, _) => return None,
        (_, IpAddr::V6(ip)) if ip.is_unspecified() && family == Family::Dual => {
            format!("{scheme}:{port}")
        }
        (_, IpAddr::V4(ip)) if ip.is_unspecified() => format!("{scheme}4:{port}"),
        (_, IpAddr::V6(ip)) if ip.is_unspecified() => format!("{scheme}6:{port}"),
        (_, IpAddr::V4(ip)) => format!("{scheme}:{ip}:{port}"),
        (_, IpAddr::V6(ip)) => format!("{scheme}:[{ip}]:{port}"),
    })
}

fn port(service: &str, transport: Transport, world: &World<'_>) -> Result<String, String> {
    let number = service.parse::<u16>().is_ok_and(|port| port != 0);
    if number || world.host.names.port(service, transport).is_some() {
        return Ok(service.to_owned());
    }
    Err(format!(
        "no port is named {service}/{transport} in /etc/services here; write its number"
    ))
}

fn rpc(fields: &Fields, scheme: &str, world: &World<'_>) -> Result<Place, String> {
    let Some((program, versions)) = fields.service.split_once('/') else {
        return Err(format!(
            "\"{}\" names no version of an RPC program",
            fields.service
        ));
    };
    let known = program.parse::<u32>().is_ok() || world.host.names.program(program).is_some();
    if !known {
        return Err(format!(
            "no RPC program is named {program} in /etc/rpc here; write its number"
        ));
    }
    Ok(Place {
        listen: vec![format!("rpc-{scheme}:{program}/{versions}")],
        has_ip_peers: true,
        ..Place::default()
    })
}

fn unix(fields: &Fields) -> Result<Place, String> {
    if let Protocol::Other(name) = &fields.protocol {
        return Err(format!("usherd does not serve {name}"));
    }
    if !fields.service.starts_with('/') {
        return Err(format!("\"{}\" is no absolute path", fields.service));
    }
    let scheme = match fields.kind {
        Kind::Datagram => "unix-dgram",
        Kind::Seqpacket => "unix-seqpacket",
        Kind::Stream | Kind::Other => "unix",
    };
    Ok(Place {
        listen: vec![format!("{scheme}:{}", fields.service)],
        ..Place::default()
    })
}
