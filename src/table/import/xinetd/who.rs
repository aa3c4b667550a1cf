//! Who is let in, and when: `only_from`, `no_access`, `access_times`, and the
//! hosts files that xinetd asks through libwrap.
#![forbid(unsafe_code)]

use super::address::Peer;
use super::convert::{Builder, Shape, list};
use super::merge::Member;
use crate::table::access::{Access, Prefix};
use crate::table::import::{Effect, hosts};

impl Builder<'_> {
    /// Both lists, and what libwrap says. To xinetd a peer that is in `no_access`
    /// is always out, in whichever of the lists it is named more closely.
    pub fn access(&mut self, shape: Shape) {
        let settings = &self.service.settings;
        let (allowed, denied) = (settings.only_from.clone(), settings.no_access.clone());
        let listed = allowed.is_some() || denied.is_some();
        let only = Access {
            allow: allowed.map(|list| self.prefixes("only_from", &list)),
            deny: Vec::new(),
            ..Access::default()
        };
        let not = Access {
            allow: None,
            deny: self.prefixes("no_access", &denied.unwrap_or_default()),
            ..Access::default()
        };
        let mut access = hosts::both(&only, &not);
        if shape.stream && shape.wait {
            if listed {
                let text = "xinetd checks no address of a stream service with wait = yes; here `allow` and \
                            `deny` are in force";
                self.note(Effect::Changed, "wait", text.to_owned());
            }
        } else {
            for name in self.wrapped_as() {
                let bind = self.one("bind").and_then(|text| text.parse().ok());
                let world = &self.sources.world;
                let judged = world.hosts.for_daemon(&name, bind, world);
                access = hosts::both(&access, &judged.access);
                self.draft.notes.extend(judged.notes);
            }
        }
        hosts::set(&mut self.draft, &access);
    }

    fn prefixes(&mut self, key: &str, members: &[Member<Peer>]) -> Vec<Prefix> {
        let mut found = Vec::with_capacity(members.len());
        for Member { value, origin } in members {
            match value {
                Peer::Prefix(prefix) => found.push(*prefix),
                Peer::NeverMatched(prefix) => {
                    let text = format!(
                        "{key}: xinetd takes {prefix}/128 for the name of a host, so that it never matched; here it does"
                    );
                    self.note_at(Effect::Changed, origin.clone(), text);
                    found.push(*prefix);
                }
                Peer::Name(name) => {
                    let (effect, text, known) = self.named(key, name);
                    self.note_at(effect, origin.clone(), text);
                    found.extend(known);
                }
            }
        }
        found
    }

    /// xinetd asks the DNS for the peer's name and compares; usherd asks nobody.
    fn named(&self, key: &str, name: &str) -> (Effect, String, Vec<Prefix>) {
        let hosts = self.sources.world.resolve(name);
        let whole = |addr: std::net::IpAddr| Prefix {
            addr,
            bits: if addr.is_ipv4() { 32 } else { 128 },
        };
        let network = self.sources.networks.get(name);
        let known: Vec<Prefix> = hosts.into_iter().map(whole).chain(network).collect();
        if !known.is_empty() {
            let shown: Vec<String> = known.iter().map(show).collect();
            let text = format!(
                "{key}: {name} has become {}, which the files of this host say; a later change there counts no more",
                shown.join(" and ")
            );
            return (Effect::Changed, text, known);
        }
        let why = format!(
            "{key}: {name} is a name, which xinetd compares with what the DNS says of the peer; usherd asks no DNS"
        );
        if key == "no_access" {
            let text = format!("{why}, so it would let it in; write addresses instead");
            return (Effect::Loss, text, known);
        }
        let text = format!("{why}, so it stays out; write addresses instead");
        (Effect::Unsupported, text, known)
    }

    /// The names by which hosts.allow and hosts.deny are asked about the service.
    fn wrapped_as(&self) -> Vec<String> {
        let over_rpc = self.has_type("RPC") && self.one("protocol") == Some("tcp");
        let mut names = Vec::new();
        if !self.has_flag("NOLIBWRAP") && !over_rpc {
            names.push(self.libwrap_name());
        }
        let args = self
            .service
            .settings
            .words("server_args")
            .unwrap_or_default();
        if let Some(name) = args.first().filter(|_| self.is_wrapped()) {
            let name = name.rsplit('/').next().unwrap_or(name);
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    fn libwrap_name(&self) -> String {
        if let Some(name) = self.one("libwrap") {
            return name.to_owned();
        }
        let settings = &self.service.settings;
        let args = settings.words("server_args").unwrap_or_default();
        let program = if self.has_flag("NAMEINARGS") {
            args.first().map(String::as_str)
        } else {
            self.one("server")
        };
        let served_inside = self.has_type("INTERNAL") || settings.words("redirect").is_some();
        match program.filter(|_| !served_inside) {
            Some(path) => path.rsplit('/').next().unwrap_or(path).to_owned(),
            None => self.service.name.clone(),
        }
    }

    /// `access_times`: both ends are in. A window cannot pass midnight there.
    pub fn hours(&mut self) {
        let Some(words) = self.service.settings.words("access_times") else {
            return;
        };
        let windows: Option<Vec<String>> = words.iter().map(|word| window(word)).collect();
        match windows {
            Some(windows) => {
                let text = "access_times: the minute in which a window ends is in it, so here it ends a minute later";
                self.note(Effect::Remark, "access_times", text.to_owned());
                self.set("hours", list(windows));
            }
            None => self.bad(
                "access_times",
                "a list of HOUR:MINUTE-HOUR:MINUTE, each from 0:00 to 23:59 and not past midnight",
            ),
        }
    }
}

fn window(word: &str) -> Option<String> {
    let (from, until) = word.split_once('-')?;
    let (from, until) = (minutes(from)?, minutes(until)?);
    let until = if from <= until {
        until + 1
    } else {
        return None;
    };
    let show = |at: u32| format!("{:02}:{:02}", at / 60, at % 60);
    Some(format!("{}-{}", show(from), show(until)))
}

fn minutes(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str, end: u32| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|n: &u32| digits && *n < end)
    };
    Some(number(hour, 24)? * 60 + number(minute, 60)?)
}

/// A whole address without its length.
fn show(prefix: &Prefix) -> String {
    let whole = if prefix.addr.is_ipv4() { 32 } else { 128 };
    if prefix.bits == whole {
        prefix.addr.to_string()
    } else {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_of_a_window_is_in_it() {
        assert_eq!(window("2:00-8:59").as_deref(), Some("02:00-09:00"));
        assert_eq!(window("12:00-23:59").as_deref(), Some("12:00-24:00"));
        for bad in [
            "12:00-24:00",
            "22:00-2:00",
            "12-13",
            "a:0-1:00",
            "-1:00-2:00",
            "1:00",
        ] {
            assert_eq!(window(bad), None, "{bad}");
        }
    }
}
