//! `IPAddressAllow` and `IPAddressDeny`, and conditions.
#![forbid(unsafe_code)]

use std::path::Path;

use super::Builder;
use super::unit::Unit;
use crate::table::access::{Access, BadPrefix, Prefix};
use crate::table::host::Found;
use crate::table::import::{Effect, hosts};

impl Builder<'_> {
    /// To systemd whoever is in the allow list comes in, then whoever is in the
    /// deny list stays out, whichever prefix is longer, and the rest comes in.
    pub fn access(&mut self) {
        let of_socket = self.lists("Socket");
        let of_service = self.lists("Service");
        let all: Vec<Access> = [of_socket, of_service].into_iter().flatten().collect();
        let Some(first) = all.first() else { return };
        let both = all
            .iter()
            .skip(1)
            .fold(first.clone(), |one, other| hosts::both(&one, other));
        hosts::set(&mut self.draft, &both);
        if !self.service.yes("Service", "PrivateNetwork") {
            let section = if self.socket.text("Socket", "IPAddressDeny").is_some() {
                "Socket"
            } else {
                "Service"
            };
            let text = "systemd filters what the server sends and connects to as well; usherd asks only who comes in. \
                        A server that needs no network of its own is kept from it by isolation.network = \"none\"";
            self.about(Effect::Loss, section, "IPAddressDeny", text);
        }
    }

    fn lists(&mut self, section: &str) -> Option<Access> {
        let unit = if section == "Socket" {
            self.socket
        } else {
            self.service
        };
        let (allow, strange) = prefixes(unit, section, "IPAddressAllow");
        let (deny, more) = prefixes(unit, section, "IPAddressDeny");
        if strange {
            self.unknown(section, "IPAddressAllow");
        }
        if more {
            self.unknown(section, "IPAddressDeny");
        }
        if deny.is_empty() {
            return None; // everybody comes in
        }
        let any = |prefix: &&Prefix| prefix.bits == 0;
        let everybody = deny.iter().filter(any).count() >= 2;
        if everybody {
            return Some(Access {
                allow: Some(allow),
                deny: Vec::new(),
                ..Access::default()
            });
        }
        let kept = |net: &&Prefix| !allow.iter().any(|allowed| hosts::covers(allowed, net));
        let denied = deny.iter().filter(kept).copied().collect();
        Some(Access {
            allow: Some(
                ANY.iter()
                    .filter_map(|any| any.parse().ok())
                    .chain(allow.iter().copied())
                    .collect(),
            ),
            deny: denied,
            ..Access::default()
        })
    }

    /// Conditions decide whether a unit listens at all.
    pub fn conditions(&mut self) {
        for (unit, section) in [(self.socket, "Socket"), (self.service, "Service")] {
            for setting in &unit.settings {
                let is_condition =
                    setting.key.starts_with("Condition") || setting.key.starts_with("Assert");
                if setting.section != "Unit" || !is_condition || setting.value.is_empty() {
                    continue;
                }
                let written = format!("{}={}", setting.key, setting.value);
                let Some(holds) = holds(&setting.key, &setting.value, self.world.host.look) else {
                    let text = format!(
                        "{written}: usherd knows no such condition, and the service would listen without it"
                    );
                    self.note(Effect::Loss, &setting.origin, text);
                    continue;
                };
                if holds {
                    let text = format!("{written}: it holds now, and usherd does not ask again");
                    self.note(Effect::Changed, &setting.origin, text);
                } else {
                    let why = format!("{written} of the {} does not hold", section.to_lowercase());
                    self.draft.off.get_or_insert(why);
                }
            }
        }
    }
}

const ANY: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// The prefixes of a list, and whether there is a word that is none.
fn prefixes(unit: &Unit, section: &str, key: &str) -> (Vec<Prefix>, bool) {
    let mut found = Vec::new();
    let mut strange = false;
    for setting in unit.all(section, key) {
        for word in setting.value.split_whitespace() {
            let texts: &[&str] = match word {
                "any" => &ANY,
                "localhost" => &["127.0.0.0/8", "::1"],
                "link-local" => &["169.254.0.0/16", "fe80::/64"],
                "multicast" => &["224.0.0.0/4", "ff00::/8"],
                _ => &[word],
            };
            for text in texts {
                match text.parse() {
                    Ok(prefix) | Err(BadPrefix::HostBits(prefix)) => found.push(prefix),
                    Err(_) => strange = true,
                }
            }
        }
    }
    (found, strange)
}

/// Those about paths; `None` for others.
fn holds(key: &str, value: &str, look: fn(&Path) -> Found) -> Option<bool> {
    let value = value.trim_start_matches('|');
    let (negated, path) = match value.strip_prefix('!') {
        Some(path) => (true, path),
        None => (false, value),
    };
    let path = Path::new(path);
    let found = match key
        .trim_start_matches("Condition")
        .trim_start_matches("Assert")
    {
        "PathExists" => path.exists(),
        "PathIsDirectory" => path.is_dir(),
        "FileNotEmpty" => path
            .metadata()
            .is_ok_and(|meta| meta.is_file() && meta.len() > 0),
        "FileIsExecutable" => look(path) == Found::Program,
        _ => return None,
    };
    Some(found != negated)
}
