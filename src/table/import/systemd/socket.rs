//! `[Socket]`: where it listens, how many may come, and the options of sockets.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use toml_edit::InlineTable;

use super::words::{size, span, specify};
use super::{Builder, Impossible};
use crate::table::address;
use crate::table::import::Effect;
use crate::table::value;

/// MaxConnections= where nothing is said.
const CONNECTIONS: i64 = 64;

impl Builder<'_> {
    pub fn listen(&mut self) -> Result<(), Impossible> {
        let mut found = Vec::new();
        let (mut streams, mut datagrams) = (false, false);
        let only6 = self.socket_text("BindIPv6Only") == Some("ipv6-only");
        for setting in self.socket.settings.clone() {
            if setting.section != "Socket" || !setting.key.starts_with("Listen") {
                continue;
            }
            let listed = self.socket.all("Socket", &setting.key);
            if !listed.contains(&&setting) {
                continue; // a later empty one takes it away
            }
            let text = match setting.key.as_str() {
                "ListenStream" | "ListenDatagram" | "ListenSequentialPacket" => {
                    specify(&setting.value, self.socket, false).map_err(Impossible)?
                }
                other => {
                    return Err(Impossible(format!(
                        "usherd has nothing like {other}={}",
                        setting.value
                    )));
                }
            };
            let text = address_of(&setting.key, &text, only6).ok_or_else(|| {
                Impossible(format!(
                    "{}={text} is no address that usherd knows",
                    setting.key
                ))
            })?;
            let parsed = address::listen(&text, &self.world.host.names);
            let parsed = parsed.map_err(|fault| Impossible(fault.problem))?;
            match parsed.is_datagram() {
                Some(true) => datagrams = true,
                _ => streams = true,
            }
            found.push(text);
        }
        if found.is_empty() {
            return Err(Impossible("it listens nowhere".to_owned()));
        }
        if self.accepts && datagrams {
            return Err(Impossible(
                "Accept=yes is for streams; systemd does not start it either".to_owned(),
            ));
        }
        match found.as_slice() {
            [one] => self.draft.set("listen", one.clone()),
            _ => self.draft.set_list("listen", &found),
        }
        if !self.accepts && streams {
            self.draft.set("wait", true);
        }
        Ok(())
    }

    pub fn how_many(&mut self) {
        if self.accepts {
            let most = self.number("MaxConnections").unwrap_or(CONNECTIONS);
            self.draft.set("instances", most.clamp(1, 1_000_000));
            if let Some(most) = self
                .number("MaxConnectionsPerSource")
                .filter(|most| *most > 0)
            {
                self.draft.set("per_source", most.min(1_000_000));
                let text = "all addresses of an IPv6 /64 count as one source; see `source_prefix`";
                self.about(Effect::Changed, "Socket", "MaxConnectionsPerSource", text);
            }
            // What is too much systemd accepts and closes.
            self.draft.set("on_full", "refuse");
        }
        self.rate();
        if let Some(backlog) = self.number("Backlog") {
            self.draft.set("backlog", backlog.clamp(1, 65_535));
        }
    }

    /// TriggerLimitIntervalSec= and TriggerLimitBurst=: beyond them a unit fails for good.
    fn rate(&mut self) {
        let interval = self.socket_text("TriggerLimitIntervalSec");
        let interval = interval.map_or(Some(Some(std::time::Duration::from_secs(2))), span);
        let usual = if self.accepts { 200 } else { 20 };
        let burst = self.number("TriggerLimitBurst").unwrap_or(usual);
        let Some(interval) = interval else {
            return self.unknown("Socket", "TriggerLimitIntervalSec");
        };
        let millis = interval.map_or(0, |interval| interval.as_millis());
        if millis == 0 || burst <= 0 {
            return; // no limit
        }
        // At least the rate that was allowed, in the unit that has room for it.
        let per = |unit: u128| (u128::from(burst.unsigned_abs()) * unit).div_ceil(millis);
        let units = [
            (1000, "s"),
            (60_000, "m"),
            (3_600_000, "h"),
            (86_400_000, "d"),
        ];
        let fits = units
            .iter()
            .find(|(unit, _)| per(*unit) * millis == u128::from(burst.unsigned_abs()) * unit);
        let (unit, letter) = fits.unwrap_or(&units[3]);
        self.draft
            .set("rate", format!("{}/{letter} burst {burst}", per(*unit)));
        let text = "beyond the limit the unit of systemd fails until somebody restarts it; here what is too much \
                    waits or is turned away, and the rest is served";
        let written = ["TriggerLimitBurst", "TriggerLimitIntervalSec"];
        let key = written.iter().find(|key| self.socket_text(key).is_some());
        match key {
            Some(key) => self.about(Effect::Changed, "Socket", key, text),
            None => {
                let origin = self.socket.origin();
                self.note(
                    Effect::Changed,
                    &origin,
                    format!("TriggerLimitBurst is {burst} by itself: {text}"),
                );
            }
        }
    }

    fn number(&mut self, key: &str) -> Option<i64> {
        let text = self.socket_text(key)?;
        let number = text.parse().ok().filter(|number: &i64| *number >= 0);
        if number.is_none() {
            self.unknown("Socket", key);
        }
        number
    }

    pub fn socket_options(&mut self) {
        for (theirs, ours) in [
            ("FreeBind", "socket.freebind"),
            ("Transparent", "socket.transparent"),
            ("NoDelay", "socket.nodelay"),
        ] {
            if self.socket.yes("Socket", theirs) {
                self.draft.set(ours, true);
            }
        }
        self.keepalive();
        if let Some(mark) = self.number("Mark") {
            self.draft.set("socket.mark", mark);
        }
        for (theirs, ours) in [
            ("BindToDevice", "socket.device"),
            ("SocketUser", "socket.owner"),
            ("SocketGroup", "socket.group"),
        ] {
            if let Some(text) = self.socket_text(theirs).map(str::to_owned) {
                self.draft.set(ours, text);
            }
        }
        for (theirs, ours) in [
            ("ReceiveBuffer", "socket.receive_buffer"),
            ("SendBuffer", "socket.send_buffer"),
        ] {
            match self.socket_text(theirs).map(size) {
                Some(Some(Some(bytes))) => self.draft.set(ours, value::show_size(bytes)),
                Some(_) => self.unknown("Socket", theirs),
                None => {}
            }
        }
        if let Some(wait) = self.socket_text("DeferAcceptSec").and_then(span).flatten()
            && wait.as_secs() > 0
        {
            self.draft.set("speaks_first", "client");
            self.draft
                .set("socket.defer_accept", format!("{}s", wait.as_secs()));
        }
        let is_file = self.draft.key("listen").is_some_and(|listen| {
            let text = listen.to_string();
            text.contains("unix") && text.contains(":/")
        });
        if is_file {
            // 0666 where nothing is said, while usherd's umask would take away from that.
            let mode = self.socket_text("SocketMode").unwrap_or("0666").to_owned();
            self.draft.set("socket.mode", mode);
        }
    }

    fn keepalive(&mut self) {
        if !self.socket.yes("Socket", "KeepAlive") {
            return;
        }
        let mut table = InlineTable::new();
        for (theirs, ours) in [
            ("KeepAliveTimeSec", "idle"),
            ("KeepAliveIntervalSec", "interval"),
        ] {
            if let Some(time) = self.socket_text(theirs).and_then(span).flatten() {
                table.insert(ours, format!("{}s", time.as_secs().max(1)).into());
            }
        }
        if let Some(probes) = self.number("KeepAliveProbes") {
            table.insert("probes", probes.clamp(1, 127).into());
        }
        if table.is_empty() {
            self.draft.set("socket.keepalive", true);
        } else {
            self.draft.set("socket.keepalive", table);
        }
    }
}

/// One of systemd's addresses in our words.
fn address_of(key: &str, text: &str, only6: bool) -> Option<String> {
    let datagram = key == "ListenDatagram";
    let unix = match key {
        "ListenStream" => "unix",
        "ListenDatagram" => "unix-dgram",
        _ => "unix-seqpacket",
    };
    if text.starts_with(['/', '@']) {
        return Some(format!("{unix}:{text}"));
    }
    if key == "ListenSequentialPacket" {
        return None;
    }
    if let Some(rest) = text.strip_prefix("vsock:") {
        let (cid, port) = rest.split_once(':')?;
        let any = cid.is_empty() || cid == "4294967295";
        return (!datagram).then(|| {
            if any {
                format!("vsock:{port}")
            } else {
                format!("vsock:{cid}:{port}")
            }
        });
    }
    let scheme = if datagram { "udp" } else { "tcp" };
    if text.parse::<u16>().is_ok() {
        let six = if only6 { "6" } else { "" };
        return Some(format!("{scheme}{six}:{text}"));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.split('%').next()?.parse().ok()?;
    if let Some(host) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        let zone = text.rsplit_once('%').map(|(_, zone)| format!("%{zone}"));
        return Some(match host.parse::<IpAddr>().ok()? {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) if only6 => format!("{scheme}6:{port}"),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => format!("{scheme}:{port}"),
            ip => format!("{scheme}:[{ip}{}]:{port}", zone.unwrap_or_default()),
        });
    }
    match host.parse().ok()? {
        Ipv4Addr::UNSPECIFIED => Some(format!("{scheme}4:{port}")),
        ip => Some(format!("{scheme}:{ip}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_systemd_in_our_words() {
        let of = |text| address_of("ListenStream", text, false);
        for (theirs, ours) in [
            ("80", "tcp:80"),
            ("0.0.0.0:80", "tcp4:80"),
            ("127.0.0.1:80", "tcp:127.0.0.1:80"),
            ("[::]:80", "tcp:80"),
            ("[::1]:80", "tcp:[::1]:80"),
            ("[fe80::1]:80%eth0", "tcp:[fe80::1%eth0]:80"),
            ("/run/x", "unix:/run/x"),
            ("@x", "unix:@x"),
            ("vsock:2:80", "vsock:2:80"),
            ("vsock::80", "vsock:80"),
        ] {
            assert_eq!(of(theirs).as_deref(), Some(ours));
        }
        assert_eq!(of("host:80"), None);
        assert_eq!(
            address_of("ListenStream", "[::]:80", true).as_deref(),
            Some("tcp6:80")
        );
        assert_eq!(
            address_of("ListenDatagram", "69", false).as_deref(),
            Some("udp:69")
        );
        assert_eq!(
            address_of("ListenSequentialPacket", "/run/x", false).as_deref(),
            Some("unix-seqpacket:/run/x")
        );
    }
}
