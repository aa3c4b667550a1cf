//! `socket`: options of the listening sockets.
#![forbid(unsafe_code)]

use std::time::Duration;

use toml::de::DeValue;

use super::read::{some_size, span};
use super::{KEEPALIVE_KEYS, RawSocket, SOCKET_KEYS};
use crate::table::complaint::Fault;
use crate::table::reader::{Reader, Value};
use crate::table::{Keepalive, address, value};

pub fn socket(r: &mut Reader<'_>, v: &Value<'_>) -> Option<RawSocket> {
    let table = r.table(v, "a table such as { nodelay = true }")?;
    let mut socket = RawSocket::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "freebind" => socket.freebind = r.at(value, Reader::boolean),
            "device" => socket.device = r.at(value, device),
            "mark" => socket.mark = r.at(value, |r, v| r.number(v, 0..=i64::from(u32::MAX))),
            "transparent" => socket.transparent = r.at(value, Reader::boolean),
            "receive_buffer" => socket.receive_buffer = r.at(value, buffer),
            "send_buffer" => socket.send_buffer = r.at(value, buffer),
            "keepalive" => socket.keepalive = r.at(value, keepalive),
            "nodelay" => socket.nodelay = r.at(value, Reader::boolean),
            "dscp" => socket.dscp = r.at(value, |r, v| r.number(v, 0..=63)),
            "fast_open" => socket.fast_open = r.at(value, |r, v| r.number(v, 1..=65_535)),
            "defer_accept" => socket.defer_accept = r.at(value, seconds),
            "owner" => socket.owner = r.at(value, |r, v| r.word(v, "a user name")),
            "group" => socket.group = r.at(value, |r, v| r.word(v, "a group name")),
            "mode" => {
                socket.mode = r.at(value, |r, v| {
                    r.parsed(v, "octal digits such as \"0660\"", value::mode)
                });
            }
            _ => {
                r.unknown(key, "socket", SOCKET_KEYS);
            }
        }
    }
    Some(socket)
}

fn device(r: &mut Reader<'_>, v: &Value<'_>) -> Option<String> {
    let name = r.string(v, "the name of a network interface")?;
    if address::is_interface_name(&name) {
        return Some(name);
    }
    r.complain(
        v,
        Fault::new(format!("no network interface can be named \"{name}\"")),
    )
}

/// The kernel keeps socket buffers in an `int`, doubled.
fn buffer(r: &mut Reader<'_>, v: &Value<'_>) -> Option<u64> {
    let size = some_size(r, v)?;
    if size > 1 << 30 {
        return r.complain(v, Fault::new("no socket buffer is larger than \"1G\""));
    }
    Some(size)
}

/// What tcp(7) counts in whole seconds.
fn seconds(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Duration> {
    let time = span(r, v)?;
    if time.subsec_nanos() != 0 || time.as_secs() > 32_767 {
        return r.complain(
            v,
            Fault::new("the kernel takes 1 to 32767 whole seconds here"),
        );
    }
    Some(time)
}

/// `false`, `true` for the kernel's own times, or a table.
fn keepalive(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Option<Keepalive>> {
    let mut keepalive = Keepalive {
        idle: None,
        interval: None,
        probes: None,
    };
    match v.get_ref() {
        DeValue::Boolean(on) => Some(on.then_some(keepalive)),
        DeValue::Table(table) => {
            for (key, value) in table {
                match key.get_ref().as_ref() {
                    "idle" => keepalive.idle = seconds(r, value),
                    "interval" => keepalive.interval = seconds(r, value),
                    "probes" => keepalive.probes = r.number(value, 1..=127),
                    _ => {
                        r.unknown(key, "keepalive", KEEPALIVE_KEYS);
                    }
                }
            }
            Some(Some(keepalive))
        }
        _ => r.mismatch(v, "true, false or a table such as { idle = \"60s\" }"),
    }
}
