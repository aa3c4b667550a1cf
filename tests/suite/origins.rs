//! What tells services apart before a byte is read: the addresses of both ends,
//! the interface, the peer's port or account.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use socket2::Type;

use crate::common::*;
use crate::shared_port::*;
use crate::tests;

tests![
    the_local_address_tells_services_of_a_wildcard_listener_apart,
    peers_of_a_mapped_address_are_those_of_ipv4,
    the_loopback_interface_is_known_by_name,
    the_interface_a_request_came_in_at_tells_services_apart,
    source_ports_are_compared_with_both_ends_of_a_range,
    the_user_of_a_unix_peer_tells_services_apart,
    the_group_of_a_unix_peer_tells_services_apart,
];

fn to(ip: [u8; 4], port: u16) -> SocketAddr {
    (IpAddr::from(ip), port).into()
}

fn the_local_address_tells_services_of_a_wildcard_listener_apart() {
    let (dir, port) = (Dir::new(), free_port());
    let wildcard = format!("tcp:{port}");
    let services = [
        at(&wildcard, "five", "match = { to = \"127.0.0.5\" }\n"),
        at(&wildcard, "net", "match = { to = \"127.0.1.0/24\" }\n"),
        at(&wildcard, "six", "match = { to = \"::1\" }\n"),
        at(&wildcard, "other", ""),
    ];
    let _daemon = Daemon::start(&dir, &services.concat());
    let asked = |ip: [u8; 4]| server(&mut Peer::to(to(ip, port)));
    assert_eq!(asked([127, 0, 0, 5]), "five");
    assert_eq!(asked([127, 0, 1, 77]), "net");
    assert_eq!(
        server(&mut Peer::to(format!("[::1]:{port}").parse().unwrap())),
        "six"
    );
    let mut peer = Peer::to(to([127, 0, 0, 6], port));
    let (name, said) = greeting(&mut peer);
    assert_eq!(name, "other", "{said}");
    assert_eq!(value(&said, "local"), format!("127.0.0.6:{port}"));
}

fn peers_of_a_mapped_address_are_those_of_ipv4() {
    let (dir, port) = (Dir::new(), free_port());
    let wildcard = format!("tcp:{port}");
    let services = [
        at(&wildcard, "four", "match = { from = \"127.0.0.9\" }\n"),
        at(&wildcard, "six", "match = { from = \"::/0\" }\n"),
        at(&wildcard, "rest", ""),
    ];
    let _daemon = Daemon::start(&dir, &services.concat());
    assert_eq!(server(&mut Peer::tcp_from([127, 0, 0, 9], port)), "four");
    assert_eq!(server(&mut Peer::tcp_from([127, 0, 0, 8], port)), "rest");
    let over_six = format!("[::1]:{port}").parse().unwrap();
    assert_eq!(server(&mut Peer::to(over_six)), "six");
}

fn the_loopback_interface_is_known_by_name() {
    let (dir, port) = (Dir::new(), free_port());
    for listen in [format!("tcp:{port}"), format!("tcp4:{port}")] {
        let services = [
            at(&listen, "lo", "match = { interface = \"lo\" }\n"),
            at(&listen, "eth", "match = { interface = \"eth77\" }\n"),
        ];
        let _daemon = Daemon::start(&dir, &services.concat());
        assert_eq!(server(&mut Peer::tcp(port)), "lo", "{listen}");
    }
}

/// A net of its own that is tied to this host by a pair of devices; gone with the value.
struct Net {
    name: String,
    device: String,
}

impl Net {
    fn new() -> Self {
        needs_root();
        let id = std::process::id() % 100_000;
        let net = Self {
            name: format!("usherd-t{id}"),
            device: format!("ush{id}a"),
        };
        let (name, near, far) = (&net.name, &net.device, format!("ush{id}b"));
        for line in [
            format!("netns add {name}"),
            format!("link add {near} type veth peer name {far} netns {name}"),
            format!("addr add 198.51.100.1/30 dev {near}"),
            format!("link set {near} up"),
            format!("-n {name} addr add 198.51.100.2/30 dev {far}"),
            format!("-n {name} link set {far} up"),
        ] {
            let done = Command::new("ip").args(line.split(' ')).output();
            if !done.is_ok_and(|done| done.status.success()) {
                skip(format!("needs `ip {line}` to work"));
            }
        }
        net
    }

    /// What a server says to a client in there.
    fn hear(&self, port: u16) -> String {
        let script = format!("exec 3<>/dev/tcp/198.51.100.1/{port}; head -n 1 <&3");
        let said = Command::new("ip")
            .args(["netns", "exec", &self.name, "bash", "-c", &script])
            .output();
        let said = String::from_utf8(said.expect("ip(8)").stdout).unwrap();
        said.split(' ').next().unwrap_or_default().to_owned()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for words in [["link", "del", &self.device], ["netns", "del", &self.name]] {
            let _ = Command::new("ip")
                .args(words)
                .stderr(Stdio::null())
                .status();
        }
    }
}

fn the_interface_a_request_came_in_at_tells_services_apart() {
    let (net, dir, port) = (Net::new(), Dir::new(), free_port());
    for listen in [format!("tcp:{port}"), format!("tcp4:{port}")] {
        let inside = format!("match = {{ interface = \"{}\" }}\n", net.device);
        let services = [
            at(&listen, "inside", &inside),
            at(&listen, "local", "match = { interface = \"lo\" }\n"),
        ];
        let _daemon = Daemon::start(&dir, &services.concat());
        assert_eq!(net.hear(port), "inside", "{listen}");
        assert_eq!(server(&mut Peer::tcp(port)), "local", "{listen}");
        // For the kernel, who asks from here came in where the address lives.
        let mut own = Peer::to(to([198, 51, 100, 1], port));
        assert_eq!(server(&mut own), "inside", "{listen}");
    }
}

fn source_ports_are_compared_with_both_ends_of_a_range() {
    let (dir, port) = (Dir::new(), free_port());
    let first = free_port();
    let last = first + 3;
    let low = format!("{{ source_port = \"{first}-{last}\" }}");
    let one = format!("{{ source_port = {}, priority = 1 }}", first + 1);
    let services = [("range", &*low), ("one", &*one), ("rest", "")];
    let _daemon = Daemon::start(&dir, &table(port, &services));
    let from = |source: u16| {
        let here = to([127, 0, 0, 1], source);
        let peer = Peer::try_between(here, to([127, 0, 0, 1], port));
        peer.map(|mut peer| server(&mut peer))
    };
    for (source, name) in [
        (first - 1, "rest"),
        (first, "range"),
        (first + 1, "one"),
        (last, "range"),
        (last + 1, "rest"),
    ] {
        // Somebody else's port is no fault of usherd.
        if let Ok(found) = from(source) {
            assert_eq!(found, name, "port {source} of {first} to {last}");
        }
    }
}

/// Connects to an abstract socket as another account; what the server says.
fn hear_as(uid: u32, gid: u32, name: &str) -> String {
    let script = "use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die;
        $) = $ARGV[1]; $> = $ARGV[0];
        connect($s, pack_sockaddr_un(\"\\0$ARGV[2]\")) or die $!; print scalar <$s>;";
    let said = Command::new("perl")
        .args(["-e", script, &uid.to_string(), &format!("{gid} {gid}")])
        .arg(name)
        .output()
        .expect("perl");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    said.split(' ').next().unwrap_or_default().to_owned()
}

fn accounts_tell_apart(key: &str, own: &str) {
    needs_root();
    let (dir, name) = (Dir::new(), format!("usherd-{key}-{}", free_port()));
    let listen = format!("unix:@{name}");
    let services = [
        at(
            &listen,
            "theirs",
            &format!("match = {{ {key} = \"{own}\" }}\n"),
        ),
        at(
            &listen,
            "roots",
            &format!("match = {{ {key} = \"root\" }}\n"),
        ),
        at(&listen, "rest", ""),
    ];
    let _daemon = Daemon::start(&dir, &services.concat());
    assert_eq!(hear_as(65534, 65534, &name), "theirs");
    assert_eq!(hear_as(0, 0, &name), "roots");
    assert_eq!(hear_as(12_345, 12_345, &name), "rest");
    let mut peer = Peer::unix(Type::STREAM, &format!("@{name}"));
    assert_eq!(server(&mut peer), "roots");
}

fn the_user_of_a_unix_peer_tells_services_apart() {
    accounts_tell_apart("user", "nobody");
}

fn the_group_of_a_unix_peer_tells_services_apart() {
    accounts_tell_apart("group", "nogroup");
}
