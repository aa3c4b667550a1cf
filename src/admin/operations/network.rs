//! `network.address.*` by ip(8), and `sysctl.*`: the kernel's settings.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use serde_json::{Value, json};

use super::tool::Tool;
use super::{Failed, Kind, Outcome, Request, Usherd, to};

const IP: Tool = Tool::new(&["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"], "iproute2");

/// Octets of a setting.
const LONGEST_SETTING: u64 = 16 << 10;

const SETTINGS: &str = "/proc/sys";

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    ip: IpAddr,
    bits: u8,
}

impl Address {
    /// `192.0.2.1/24`; without a length, one address and no network.
    fn parse(text: &str) -> Result<Self, Failed> {
        let (ip, bits) = text
            .split_once('/')
            .map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let bad = || Failed::new(Kind::Invalid, format!("{text} is no address"));
        let ip: IpAddr = ip.parse().map_err(|_| bad())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| bad())?;
        if bits == 0 || bits > most || ip.is_unspecified() || ip.is_multicast() {
            return Err(bad());
        }
        Ok(Self { ip, bits })
    }
}

/// `network.address.list`
pub fn list_addresses(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let interface = request.parameters.some_text("interface");
    let all = addresses(interface)?;
    Ok(json!({ "interfaces": all }))
}

/// `network.address.add`
pub fn add_address(request: &Request, _: &mut dyn Usherd) -> Outcome {
    change_address(request, "add")
}

/// `network.address.remove`
pub fn remove_address(request: &Request, _: &mut dyn Usherd) -> Outcome {
    change_address(request, "del")
}

fn change_address(request: &Request, action: &str) -> Outcome {
    let given = &request.parameters;
    let (interface, text) = (given.text("interface")?, given.text("address")?);
    let address = Address::parse(text)?;
    let adds = action == "add";
    let is_there = addresses(Some(interface))?
        .iter()
        .any(|one| has(one, &address));
    if is_there == adds {
        let (kind, word) = match adds {
            true => (Kind::Exists, "already"),
            false => (Kind::NotFound, "not"),
        };
        let reason = format!("{text} is {word} on {interface}");
        return Err(Failed::new(kind, reason));
    }
    let full = format!("{}/{}", address.ip, address.bits);
    // Of a whole network, other addresses go with the first one unless the kernel is told
    // otherwise (`promote_secondaries`); the result tells what is left.
    let args = ["address", action, &full, "dev", interface];
    if request.dry_run {
        return Ok(json!({ "would_run": IP.command(&args)? }));
    }
    IP.done(&args, b"")?;
    let left = addresses(Some(interface))?;
    let left = left.first().map(|one| one["addresses"].clone());
    Ok(json!({ "interface": interface, "addresses": left }))
}

fn has(interface: &Value, address: &Address) -> bool {
    let all = interface["addresses"].as_array().into_iter().flatten();
    let mut all = all.filter_map(Value::as_str);
    all.any(|text| Address::parse(text).as_ref() == Ok(address))
}

/// `[{ interface, up, mac, mtu, addresses: ["192.0.2.1/24"] }]`
fn addresses(interface: Option<&str>) -> Result<Vec<Value>, Failed> {
    let mut args = vec!["-j", "address", "show"];
    args.extend(interface.into_iter().flat_map(|name| ["dev", name]));
    let said = IP.run(&args, b"")?;
    if let (1, Some(name)) = (said.code, interface) {
        let reason = format!("there is no interface \"{name}\"");
        return Err(Failed::new(Kind::NotFound, reason));
    }
    if said.code != 0 {
        return Err(IP.failed(&said));
    }
    let listing: Value = to("read what ip says", serde_json::from_str(IP.whole(&said)?))?;
    let all = listing.as_array().into_iter().flatten();
    // Older ones print an empty object for what they were not asked for.
    let named = all.filter(|one| one["ifname"].is_string());
    Ok(named.map(interface_of).collect())
}

fn interface_of(listed: &Value) -> Value {
    let addresses = listed["addr_info"].as_array().into_iter().flatten();
    let addresses = addresses.filter_map(|one| {
        let (ip, bits) = (one["local"].as_str()?, one["prefixlen"].as_u64()?);
        Some(format!("{ip}/{bits}"))
    });
    let flags = listed["flags"].as_array().into_iter().flatten();
    json!({
        "interface": listed["ifname"],
        "up": flags.into_iter().any(|flag| flag == "UP"),
        "mac": listed["address"],
        "mtu": listed["mtu"],
        "addresses": addresses.collect::<Vec<_>>(),
    })
}

/// `sysctl.get`
pub fn get_setting(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let name = request.parameters.text("name")?;
    let value = read_setting(name, open_setting(name, OFlag::O_RDONLY)?)?;
    Ok(json!({ "name": name, "value": value }))
}

/// `sysctl.set`: until the next start of the machine.
pub fn set_setting(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let given = &request.parameters;
    let (name, value) = (given.text("name")?, given.text("value")?);
    let old = read_setting(name, open_setting(name, OFlag::O_RDONLY)?)?;
    if request.dry_run {
        return Ok(json!({ "name": name, "old": old, "would_be": value }));
    }
    let to_write = open_setting(name, OFlag::O_WRONLY)?;
    // In one go: the kernel takes each write for a whole value.
    let written = File::from(to_write).write_all(format!("{value}\n").as_bytes());
    to(format!("set {name} to \"{value}\""), written)?;
    let new = read_setting(name, open_setting(name, OFlag::O_RDONLY)?)?;
    Ok(json!({ "name": name, "old": old, "value": new }))
}

/// The file of a setting, wherever names in it may lead: below /proc/sys.
fn open_setting(name: &str, how: OFlag) -> Result<OwnedFd, Failed> {
    let path = path_of(name)?;
    let no_setting = || Failed::new(Kind::NotFound, format!("{name} is no setting"));
    let (first, rest) = path.split_once('/').ok_or_else(no_setting)?;
    let failed = |errno| {
        let (kind, more) = match errno {
            Errno::ENOENT | Errno::ENOTDIR => (Kind::NotFound, ""),
            Errno::EROFS => (
                Kind::Forbidden,
                "; `writable` of the operation's isolation has to have it",
            ),
            Errno::EACCES | Errno::EPERM => (Kind::Forbidden, ""),
            Errno::EXDEV | Errno::ELOOP => (Kind::Invalid, ""),
            _ => (Kind::Failed, ""),
        };
        let reason = format!("unable to open {SETTINGS}/{path}: {errno}{more}");
        Failed::new(kind, reason)
    };
    // Each of the first level that can be written to is a mount of its own.
    let flags = OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = Path::new(SETTINGS).join(first);
    let root = open(&root, flags, Mode::empty()).map_err(failed)?;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    // binfmt_misc is mounted there, and no setting.
    let resolve = resolve | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new()
        .flags(how | OFlag::O_CLOEXEC)
        .resolve(resolve);
    openat2(&root, rest, how).map_err(failed)
}

/// `net.ipv4.conf.eth0/100.forwarding` is `net/ipv4/conf/eth0.100/forwarding`: as in
/// sysctl(8), but with dots between the parts alone, so that each has one name.
fn path_of(name: &str) -> Result<String, Failed> {
    let swap = |c: char| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let path: String = name.chars().map(swap).collect();
    let is_odd = |part: &str| part.is_empty() || part.bytes().all(|byte| byte == b'.');
    let word = |c: char| c.is_ascii_alphanumeric() || "_-.:@/".contains(c);
    if path.split('/').any(is_odd) || !path.chars().all(word) {
        let reason = format!("{name} is no name of a setting, such as net.core.somaxconn");
        return Err(Failed::new(Kind::Invalid, reason));
    }
    Ok(path)
}

fn read_setting(name: &str, file: OwnedFd) -> Result<String, Failed> {
    let (mut file, mut text) = (File::from(file), String::new());
    let read = (&mut file).take(LONGEST_SETTING).read_to_string(&mut text);
    to(format!("read {name}"), read)?;
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_of_settings_lead_nowhere_else() {
        assert_eq!(path_of("net.core.somaxconn").unwrap(), "net/core/somaxconn");
        let of_a_vlan = path_of("net.ipv4.conf.eth0/100.forwarding").unwrap();
        assert_eq!(of_a_vlan, "net/ipv4/conf/eth0.100/forwarding");
        for odd in [
            "", ".", "..", "a..b", ".a", "a.", "a.//.b", "a././b", "/", "a b", "a\0b", "ä",
            "//.//.x",
        ] {
            assert_eq!(
                path_of(odd).map_err(|err| err.kind),
                Err(Kind::Invalid),
                "{odd}"
            );
        }
        let value = read_setting("x", open_setting("kernel.ostype", OFlag::O_RDONLY).unwrap());
        assert_eq!(value.unwrap(), "Linux");
        let kind = |name| open_setting(name, OFlag::O_RDONLY).unwrap_err().kind;
        assert_eq!(kind("kernel.nothing"), Kind::NotFound);
        assert_eq!(kind("kernel.ostype.x"), Kind::NotFound);
    }

    #[test]
    fn an_address_is_one_that_an_interface_can_have() {
        let of = |text: &str| {
            Address::parse(text)
                .map(|a| (a.ip.to_string(), a.bits))
                .ok()
        };
        assert_eq!(of("192.0.2.1/24"), Some(("192.0.2.1".into(), 24)));
        assert_eq!(of("2001:DB8::1"), Some(("2001:db8::1".into(), 128)));
        for odd in [
            "192.0.2.1/33",
            "192.0.2.1/0",
            "0.0.0.0",
            "ff02::1/64",
            "x",
            "192.0.2.1/",
            "192.0.2.1/24/24",
        ] {
            assert_eq!(of(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_ip_prints_is_read() {
        let listed = json!({
            "ifname": "eth0", "flags": ["BROADCAST", "UP"], "mtu": 1500, "address": "02:00:00:00:00:01",
            "addr_info": [{ "local": "192.0.2.1", "prefixlen": 24 }, { "local": "fe80::1", "prefixlen": 64 }, {}],
        });
        let read = interface_of(&listed);
        let wanted = json!({
            "interface": "eth0", "up": true, "mac": "02:00:00:00:00:01", "mtu": 1500,
            "addresses": ["192.0.2.1/24", "fe80::1/64"],
        });
        assert_eq!(read, wanted);
        assert!(has(&read, &Address::parse("fe80:0::1/64").unwrap()));
        assert!(!has(&read, &Address::parse("192.0.2.1/25").unwrap()));
    }
}
