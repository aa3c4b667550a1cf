//! The lines of hosts.allow and hosts.deny: `daemons : clients : option : option`.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::{Client, Daemon, List, Rule, Rules};
use crate::table::access::{Prefix, mask};
use crate::table::import::draft::{Effect, Origin};
use crate::table::import::read_file;

/// Adds every rule of a text to `found`.
pub(super) fn rules(path: &Path, text: &str, allows: bool, found: &mut Rules) {
    for (number, line) in lines(text) {
        let content = line.trim();
        if content.is_empty() || line.starts_with('#') {
            continue;
        }
        let origin = Origin::new(path, number);
        let mut fields = fields(&line).into_iter();
        let (Some(daemons), Some(clients)) = (fields.next(), fields.next()) else {
            let text = "no \":\" in the line, so libwrap passed it over too";
            found.notes.push(origin.note(Effect::Remark, text));
            continue;
        };
        let options: Vec<String> = fields.collect();
        let mut rule = Rule {
            origin,
            daemons: list(&daemons, &daemon),
            clients: list(&clients, &client),
            allows,
            options: Vec::new(),
        };
        for option in options {
            apply(&mut rule, option.trim());
        }
        found.rules.push(rule);
    }
}

/// Lines with the number of their first; a backslash at the end joins them.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut joined: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let (start, mut whole) = joined.take().unwrap_or((number + 1, String::new()));
        match line.strip_suffix('\\') {
            Some(part) => {
                whole.push_str(part);
                joined = Some((start, whole));
            }
            None => {
                whole.push_str(line);
                found.push((start, whole));
            }
        }
    }
    found.extend(joined);
    found
}

/// Cuts at colons, but for those in brackets and those behind a backslash.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let (mut depth, mut escaped) = (0_usize, false);
    for c in line.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ':' if escaped => {
                // The backslash was only for the colon.
                if let Some(field) = fields.last_mut() {
                    field.pop();
                }
            }
            ':' if depth == 0 => {
                fields.push(String::new());
                continue;
            }
            _ => {}
        }
        escaped = c == '\\';
        if let Some(field) = fields.last_mut() {
            field.push(c);
        }
    }
    fields
}

fn list<T>(text: &str, item: &dyn Fn(&str) -> T) -> List<T> {
    let words: Vec<&str> = text
        .split([' ', '\t', ',', '\r', '\n'])
        .filter(|word| !word.is_empty())
        .collect();
    let mut parts: Vec<List<T>> = words
        .split(|word| word.eq_ignore_ascii_case("EXCEPT"))
        .map(|words| List {
            items: words.iter().map(|word| item(word)).collect(),
            except: None,
        })
        .collect();
    // The last exception belongs to the one before it.
    while let Some(last) = parts.pop() {
        match parts.last_mut() {
            Some(before) => before.except = Some(Box::new(last)),
            None => return last,
        }
    }
    List {
        items: Vec::new(),
        except: None,
    }
}

fn daemon(word: &str) -> Daemon {
    // An @ in the first place is part of a name.
    let at = word.char_indices().skip(1).find(|(_, c)| *c == '@');
    match at {
        Some((at, _)) => Daemon {
            pattern: word[..at].to_owned(),
            at: Some(client(&word[at + 1..])),
        },
        None => Daemon {
            pattern: word.to_owned(),
            at: None,
        },
    }
}

fn client(word: &str) -> Client {
    let at = word.char_indices().skip(1).find(|(_, c)| *c == '@');
    if let Some((at, _)) = at {
        let host = client(&word[at + 1..]);
        return match &word[..at] {
            user if user.eq_ignore_ascii_case("ALL") => host,
            _ => Client::User(Box::new(host)),
        };
    }
    if word.starts_with('/') {
        return from_file(Path::new(word));
    }
    if word.eq_ignore_ascii_case("ALL") {
        return Client::All;
    }
    let by_name = ["LOCAL", "KNOWN", "UNKNOWN", "PARANOID"];
    if by_name.iter().any(|known| word.eq_ignore_ascii_case(known)) || word.starts_with(['@', '.'])
    {
        return Client::Unknown;
    }
    match address(word) {
        Some(nets) => Client::Nets(nets),
        None if word.contains(['*', '?', '/', '[', ':']) => Client::Unknown,
        None => Client::Name(word.to_owned()),
    }
}

/// `/FILE`: patterns, separated by blanks. libwrap passes over a file that it
/// cannot read; whether it could is not known here.
fn from_file(path: &Path) -> Client {
    let Ok(text) = read_file(path) else {
        return Client::Unknown;
    };
    let words = text.split_whitespace();
    // A file that names a file could name itself.
    Client::OneOf(
        words
            .map(|word| {
                if word.starts_with('/') {
                    Client::Unknown
                } else {
                    client(word)
                }
            })
            .collect(),
    )
}

/// The prefix that a pattern about addresses stands for; none at all for one
/// that no address fits, `None` for what is no such pattern.
fn address(word: &str) -> Option<Vec<Prefix>> {
    if let Some(v6) = word.strip_prefix('[') {
        return bracketed(v6);
    }
    if let Some((net, of)) = word.split_once('/') {
        return masked(net, of);
    }
    if let Some(start) = word.strip_suffix('.') {
        return octets(start);
    }
    if let Some(start) = word.strip_suffix(".*") {
        return octets(start).filter(|nets| nets.iter().all(|net| net.bits == 24));
    }
    let addr = word.parse::<IpAddr>().ok()?.to_canonical();
    let bits = if addr.is_ipv4() { 32 } else { 128 };
    Some(vec![Prefix { addr, bits }])
}

/// `[ADDRESS]/LENGTH`, behind the bracket.
fn bracketed(text: &str) -> Option<Vec<Prefix>> {
    let (addr, rest) = text.split_once(']')?;
    let addr: IpAddr = addr.parse().ok()?;
    let bits = match rest.strip_prefix('/') {
        Some(bits) => bits.parse().ok()?,
        None if rest.is_empty() => 128,
        None => return None,
    };
    // One with bits behind the prefix: implementations differ.
    let is_clean = addr.is_ipv6() && mask(addr, bits) == Some(addr);
    is_clean.then(|| vec![Prefix { addr, bits }])
}

/// `NET/MASK` or `NET/LENGTH`. A net with bits that its mask does not have fits nobody.
fn masked(net: &str, of: &str) -> Option<Vec<Prefix>> {
    let net: Ipv4Addr = net.parse().ok()?;
    let bits = match of.parse::<Ipv4Addr>() {
        Ok(of) => {
            let of = u32::from(of);
            let bits = of.leading_ones();
            if of.checked_shl(bits).unwrap_or(0) != 0 {
                return None; // a mask with holes
            }
            u8::try_from(bits).ok()?
        }
        Err(_) => of.parse().ok().filter(|bits| *bits <= 32)?,
    };
    let addr = IpAddr::V4(net);
    let fits = mask(addr, bits) == Some(addr);
    Some(if fits {
        vec![Prefix { addr, bits }]
    } else {
        Vec::new()
    })
}

/// The first one to three octets of an address.
fn octets(start: &str) -> Option<Vec<Prefix>> {
    let mut octets = [0_u8; 4];
    let parts: Vec<&str> = start.split('.').collect();
    if parts.len() > 3 {
        return None;
    }
    for (slot, part) in octets.iter_mut().zip(&parts) {
        *slot = part.parse().ok()?;
    }
    let bits = u8::try_from(8 * parts.len()).ok()?;
    let addr = IpAddr::V4(octets.into());
    Some(vec![Prefix { addr, bits }])
}

/// Whether a daemon's name fits: `ALL`, the name in any case, `*` and `?`.
pub(super) fn glob(pattern: &str, name: &str) -> bool {
    if pattern.eq_ignore_ascii_case("ALL") {
        return true;
    }
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let name: Vec<char> = name.to_lowercase().chars().collect();
    // Greedy, going back to the last star only.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || name.get(n) == Some(c) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    n = from + 1;
                    star = Some((at, n));
                }
                None => return false,
            },
        }
    }
    pattern
        .get(p..)
        .is_none_or(|rest| rest.iter().all(|c| *c == '*'))
}

/// hosts_options(5).
fn apply(rule: &mut Rule, option: &str) {
    let end = option.find(|c: char| c.is_whitespace() || c == '=');
    let name = option[..end.unwrap_or(option.len())].to_ascii_lowercase();
    let unsupported = |text: String| (Effect::Unsupported, text);
    match name.as_str() {
        "" => {}
        "allow" => rule.allows = true,
        "deny" => rule.allows = false,
        "twist" => {
            rule.allows = false;
            let text =
                "`twist` put another program in the server's place; such clients are refused now";
            rule.options.push(unsupported(text.to_owned()));
        }
        "aclexec" => {
            rule.allows = false;
            let text = "`aclexec` asked a program whom to let in; such clients are refused now";
            rule.options.push(unsupported(text.to_owned()));
        }
        "user" | "group" | "umask" | "nice" => {
            let text = format!(
                "`{option}` took something from servers for these clients only; set it for the service, \
                 or make two services that `match.from` tells apart"
            );
            if rule.allows {
                rule.options.push((Effect::Loss, text));
            }
        }
        "spawn" | "severity" | "banners" | "setenv" | "rfc931" | "keepalive" | "linger" => {
            let text = format!("`{name}` is not done any more");
            rule.options.push(unsupported(text));
        }
        _ => {
            rule.allows = false;
            let text = format!(
                "libwrap knows no option \"{name}\" and refuses such clients; so does this table"
            );
            rule.options.push((Effect::Remark, text));
        }
    }
}
