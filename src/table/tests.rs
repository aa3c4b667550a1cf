//! The loader as a whole: defaults, accounts, conflicts, and the way out and
//! back in through `effective`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use proptest::prelude::*;

use super::host::tests::host;
use super::*;

mod layering;
mod operations;
mod routing;

fn try_load(text: &str, root: bool) -> Result<Loaded, Complaints> {
    let name = "usherd.toml";
    load(Source::Text { name, text }, &host(root))
}

fn load_ok(text: &str) -> Table {
    try_load(text, true)
        .unwrap_or_else(|complaints| panic!("{text}\n{complaints}"))
        .table
}

fn complaints(text: &str, root: bool) -> String {
    match try_load(text, root) {
        Ok(_) => panic!("no complaint about\n{text}"),
        Err(complaints) => complaints.to_string(),
    }
}

/// Everything the table can say, in awkward clothes.
const EVERYTHING: &str = r##"
[daemon]
user = "nobody"
runtime_dir = "/run/usherd"
state_dir = "/var/lib/usherd"
status_group = "0"
admin_group = "adm"
cpus = "0-2,5"
log = { to = "/var/log/usherd \"x\".log", format = "json", level = "debug" }
undecided = { total = 50, per_source = 7 }
audit = { max_size = "1M", keep = 3, on_failure = "warn" }

[defaults]
user = "nobody"
idle_timeout = "7m"
socket = { nodelay = true, mode = "0600" }
rate = "50/s burst 100"

[service.all]
description = "quote \" backslash \\ tab \t bell \u0007 ünï"
listen = ["tcp:21", "tcp4:192.0.2.1:80", "tcp6:[2001:db8::1]:80", "tcp:[fe80::1%eth0]:81", "rpc-tcp:rstatd/1-3", "tcpmux:+all"]
exec = ["/usr/bin/env", "-i", "", "a b", "'\"\\", "\u0001"]
argv0 = "-env"
activation = "listen-fds"
speaks_first = "client"
user = "git"
group = "www"
groups = ["adm", "33"]
dir = "/srv"
umask = "077"
nice = -5
env = { PATH = "/bin", "ODD NAME" = "\"x\"\n", EMPTY = "" }
pass_env = ["LANG", "TZ"]
limits = { nofile = { soft = 100, hard = 200 }, core = "0", cpu = "90s", as = "unlimited", nproc = 5 }
stderr = "socket"
allow = ["192.0.2.0/24", "2001:db8::/32", "10.0.0.1"]
deny = ["192.0.2.128/25"]
hours = ["mon-fri 08:00-18:00", "sat,sun 22:00-02:00"]
instances = 7
per_source = 3
source_prefix = { v4 = 24, v6 = 48 }
rate = "none"
rate_per_source = "10/m"
on_full = "refuse"
max_load = 8.5
banner = { refused = "busy\r\n" }
backlog = 5
max_runtime = "1500ms"
stop = { signal = "INT", grace = "0s" }
isolation = "none"
log = ["accept", "refuse"]
socket = { freebind = true, device = "eth0", mark = 4294967295, transparent = true, receive_buffer = "64K", send_buffer = "1M", keepalive = { idle = "60s", probes = 3 }, nodelay = true, dscp = 46, fast_open = 16, defer_accept = "5s" }

[service."odd.name@x+y"]
listen = ["unix:/run/a b.sock", "unix-seqpacket:@abs \"q\"", "vsock:5", "vsock:3:7"]
exec = ["/bin/true"]
wait = true
socket = { owner = "git", group = "adm", mode = "0660" }
enabled = false

[service.waiting]
listen = ["udp:ntp", "udp4:9", "unix-dgram:/run/d.sock", "rpc-udp:5/2"]
exec = ["/bin/ntpd"]
user = "1234"
group = "4"

[service.logger]
listen = "fd:log"
exec = ["/bin/cat"]

[service.handed]
listen = ["fd:conn"]
exec = ["/bin/cat"]

[service.mux]
listen = ["tcp:1", "fd:web"]
builtin = "tcpmux"

[service.echo]
listen = ["tcp:7", "udp:7"]
builtin = "echo"
idle_timeout = "none"
max_bytes = "20M"

[service.relay]
listen = "tcp:8080"
forward = { to = ["tcp:192.0.2.1:80", "tcp:[::1]:81", "unix:/run/x", "unix:@y z"], proxy = "v2", connect_timeout = "1500ms" }
log = []

[service.tls]
listen = ["tcp:443", "tcp:8443"]
exec = ["/bin/tls"]
match = [
    { tls = { sni = ["a.example", "*.A.example.", "**.example"], alpn = ["h2", "odd \"x\""], version = ["1.2", "1.3"], ech = false }, from = ["10.0.0.0/8", "2001:db8::1"], priority = 5 },
    { tls.malformed = true },
    { tls.version = "ssl2" },
]
match_timeout = "8s"
proxy_protocol = ["192.0.2.0/24", "::1"]
backlog = 9
socket = { dscp = 10 }

[service.http]
listen = "tcp:443"
exec = ["/bin/http"]
match = [
    { http = { host = ["a.example", "192.0.2.1", "[::1]"], path = ["/a", "/b/"], method = "GET", header = "Upgrade" } },
    { http = true, to = "127.0.0.0/8", interface = ["eth0", "lo"], source_port = [53, "1024-65535"] },
    { http.malformed = true, priority = -1 },
]

[service.ssh]
listen = "tcp:443"
exec = ["/bin/sshd", "-i"]
speaks_first = "server"
match = { ssh = true }
socket = { mark = 3 }

[service.bytes]
listen = "tcp:443"
exec = ["/bin/bytes"]
match = [
    { prefix = ["\u0001A\r\n", "B\"\\", { hex = "16 03 FF 00" }], full = true, eof = true },
    { regex = ["^x+\"y", "z.*"], priority = -2 },
    { dns = { name = "*.example", type = ["a", 28, "TYPE65280"] } },
    { socks = 5, priority = 1 }, { socks = [4] }, { postgres = true },
    { timeout = true, priority = 9 },
]

[service.left]
listen = ["tcp:443", "tcp:9443"]
exec = ["/bin/left"]

[service.peers]
listen = "unix:/run/peers.sock"
exec = ["/bin/peers"]
match = { user = ["git", "7"], group = "adm" }

[service.quic]
listen = "udp:443"
exec = ["/bin/quic"]
match = [{ quic = { header = "long", version = ["v1", "v2", "0xff00001d"] } }, { tftp = { operation = "read", file = "a b" } }, { tftp = true, priority = -1 }, { quic.header = "short" }]

[service.others]
listen = "udp:443"
exec = ["/bin/others"]
match = [{ stun = true }, { from = "10.0.0.0/8" }, { any = true, priority = -9 }]
"##;

#[test]
fn effective_loads_again_to_the_same_table() {
    let table = load_ok(EVERYTHING);
    let written = effective(&table);
    assert!(load_ok(&written) == table, "{written}");
    assert_eq!(effective(&load_ok(&written)), written);
}

#[test]
fn effective_loads_again_for_an_ordinary_user() {
    let loaded = try_load(DEFAULT_TABLE, false).unwrap();
    let said = loaded.warnings.to_string();
    assert_eq!(loaded.warnings.len(), 1, "{said}");
    assert!(said.contains("servers run as user \"alice\""), "{said}");
    let written = effective(&loaded.table);
    let again = try_load(&written, false).unwrap();
    assert!(again.table == loaded.table, "{written}");
    assert!(again.warnings.is_empty());
}

#[test]
fn the_default_table_needs_neither_root_nor_anything_else() {
    for root in [true, false] {
        let loaded = try_load(DEFAULT_TABLE, root).unwrap_or_else(|c| panic!("{c}"));
        assert!(loaded.table.services.iter().all(|s| s.enabled));
        assert!(
            loaded
                .table
                .services
                .iter()
                .all(|s| s.description.is_some())
        );
    }
}

#[test]
fn defaults_are_filled_in_by_kind() {
    let table = load_ok(EVERYTHING);
    let service = |name: &str| table.services.iter().find(|s| s.name == name).unwrap();

    let all = service("all");
    assert_eq!(all.rules.rate, None, "switched off over the default");
    assert_eq!(
        all.rules.idle_timeout, None,
        "the default is for relays and builtins"
    );
    let Serve::Exec(exec) = &all.serve else {
        panic!("{all:?}")
    };
    let identity = exec.user.as_ref().unwrap();
    assert_eq!((identity.uid, identity.gid), (200, 33));
    assert_eq!(identity.groups, [4, 33]);

    let waiting = service("waiting");
    assert!(waiting.rules.wait);
    assert_eq!(waiting.rules.instances, 1);
    assert!(!waiting.socket.nodelay, "the default is for TCP");
    assert!(
        service("handed").rules.wait,
        "a connection is handed over as it is"
    );

    let echo = service("echo");
    assert_eq!(echo.rules.idle_timeout, None);
    assert_eq!(echo.rules.max_runtime, Some(Duration::from_secs(3600)));
    assert!(!echo.rules.log.start && echo.rules.log.refuse);
    let relay = service("relay");
    assert_eq!(relay.rules.idle_timeout, Some(Duration::from_secs(420)));
    assert_eq!(relay.rules.max_runtime, None);
}

#[test]
fn groups_come_from_the_database_unless_listed() {
    let identity = |keys: &str| {
        let text = format!("service.a = {{ listen = 'tcp:80', exec = ['/x'], {keys} }}");
        match load_ok(&text).services.remove(0).serve {
            Serve::Exec(exec) => exec.user.unwrap(),
            Serve::Builtin(_) | Serve::Forward(_) => unreachable!(),
        }
    };
    assert_eq!(identity("user = 'git'").groups, [200, 33]);
    assert_eq!(identity("user = 'git', group = 'adm'").groups, [4, 33]);
    assert!(identity("user = 'git', groups = []").groups.is_empty());
    assert_eq!(identity("user = 'root'").uid, 0);
}

#[test]
fn a_service_with_its_own_user_does_not_get_the_default_group() {
    let table = load_ok(
        "[defaults]\nuser = 'nobody'\ngroup = 'adm'\n\
         [service.a]\nlisten = 'tcp:80'\nexec = ['/x']\nuser = 'git'\n\
         [service.b]\nlisten = 'tcp:81'\nexec = ['/x']\n",
    );
    let gids: Vec<u32> = table
        .services
        .iter()
        .map(|s| match &s.serve {
            Serve::Exec(exec) => exec.user.as_ref().unwrap().gid,
            Serve::Builtin(_) | Serve::Forward(_) => unreachable!(),
        })
        .collect();
    assert_eq!(gids, [200, 4]);
}

#[test]
fn a_disabled_service_may_wait_for_its_account() {
    let service = |accounts: &str, enabled: bool| {
        format!(
            "[service.x]\nlisten = \"tcp:1\"\nexec = [\"/bin/x\"]\n{accounts}\nenabled = {enabled}\n"
        )
    };
    for accounts in [
        "user = \"absent\"",
        "user = \"git\"\ngroup = \"absent\"",
        "user = \"git\"\ngroups = [\"adm\", \"absent\"]",
    ] {
        let table = load_ok(&service(accounts, false));
        let Serve::Exec(exec) = &table.services[0].serve else {
            panic!("not a program");
        };
        // No root, whoever might come to start it.
        assert_eq!(exec.user.as_ref().unwrap().uid, 65534);
        let said = complaints(&service(accounts, true), true);
        assert!(said.contains("named \"absent\""), "{said}");
    }
}

#[test]
fn addresses_meet_only_where_one_covers_the_other() {
    let pair = |a: &str, b: &str| {
        let text = format!(
            "service.a = {{ listen = '{a}', builtin = 'echo' }}\n\
             service.b = {{ listen = '{b}', builtin = 'echo' }}\n"
        );
        try_load(&text, true).is_err()
    };
    for (a, b) in [
        ("tcp:80", "tcp:80"),
        ("tcp:80", "tcp4:80"),
        ("tcp6:80", "tcp:80"),
        ("tcp:80", "tcp:192.0.2.1:80"),
        ("tcp:[2001:db8::1]:80", "tcp6:80"),
        ("tcp:0.0.0.0:80", "tcp4:127.0.0.1:80"),
        ("tcp:http", "tcp:80"),
        ("unix:/a", "unix-dgram:/a"),
        ("unix:@a", "unix:@a"),
        ("vsock:1", "vsock:3:1"),
        ("rpc-tcp:5/1-3", "rpc-tcp:5/3"),
        ("fd:web", "fd:web"),
    ] {
        assert!(pair(a, b), "{a} {b}");
        assert!(pair(b, a), "{b} {a}");
    }
    for (a, b) in [
        ("tcp:80", "udp:80"),
        ("tcp:80", "tcp:81"),
        ("tcp4:80", "tcp6:80"),
        ("tcp4:80", "tcp:[2001:db8::1]:80"),
        ("tcp:192.0.2.1:80", "tcp:192.0.2.2:80"),
        ("tcp:[fe80::1%a]:80", "tcp:[fe80::1%b]:80"),
        ("unix:/a", "unix:@/a"),
        ("vsock:2:1", "vsock:3:1"),
        ("rpc-tcp:5/1-2", "rpc-tcp:5/3"),
        ("rpc-tcp:5/1", "rpc-udp:5/1"),
    ] {
        assert!(!pair(a, b), "{a} {b}");
    }
}

#[test]
fn a_disabled_service_claims_no_address() {
    load_ok(
        "service.a = { listen = 'tcp:80', builtin = 'echo', enabled = false }\n\
         service.b = { listen = 'tcp:80', builtin = 'echo' }\n",
    );
}

#[test]
fn what_needs_root_is_refused_by_name() {
    let said = complaints(
        "[service.ftp]\nlisten = 'tcp:ftp'\nexec = ['/ftpd']\nuser = 'git'\nnice = -1\n\
         limits = { nofile = 5000 }\nsocket = { mark = 1, transparent = true, device = 'eth0' }\n",
        false,
    );
    for expected in [
        "service \"ftp\": port 21 needs root or CAP_NET_BIND_SERVICE",
        "service \"ftp\": switching to user \"git\" needs root",
        "service \"ftp\": nice = -1 needs root",
        "service \"ftp\": limit nofile above the own hard limit of 4096 needs root",
        "service \"ftp\": `socket.mark` needs root",
        "service \"ftp\": `socket.transparent` needs root",
        "service \"ftp\": `socket.device` needs root",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}

#[test]
fn the_front_is_never_root() {
    let said = complaints("daemon.user = 'root'\n", true);
    assert!(said.contains("never runs as root"), "{said}");
    let table = load_ok("[daemon]\n");
    let user = table.daemon.user.unwrap();
    assert_eq!((user.name, user.uid, user.gid), (None, 61_184, 61_184));
    assert_eq!(
        try_load("[daemon]\n", false).unwrap().table.daemon.user,
        None
    );
}

#[test]
fn a_file_cut_down_to_nothing_is_no_table() {
    assert!(complaints(" \n", true).contains("the table is empty"));
}

#[test]
fn inherited_descriptors_are_known_or_only_doubted() {
    let text = "service.a = { listen = 'fd:nope', exec = ['/x'], user = 'git' }\n";
    let said = complaints(text, true);
    assert!(said.contains("these were: web, conn, log"), "{said}");
    let mut host = host(true);
    let name = "t";
    host.inherited = super::host::Inherited::Known(Vec::new());
    let said = load(Source::Text { name, text }, &host).unwrap_err();
    assert!(said.to_string().contains("LISTEN_FDS is not set"), "{said}");
    host.inherited = super::host::Inherited::Unknown;
    let loaded = load(Source::Text { name, text }, &host).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn includes_are_read_in_a_fixed_order_and_complain_under_their_own_name() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    std::fs::create_dir(dir.path().join("services.d")).unwrap();
    write(
        "main.toml",
        "include = ['services.d/*.toml']\n[service.z]\nlisten = 'tcp:1'\nbuiltin = 'echo'\n",
    );
    write(
        "services.d/b.toml",
        "[service.b]\nlisten = 'tcp:2'\nbuiltin = 'echo'\n",
    );
    write(
        "services.d/a.toml",
        "[service.a]\nlisten = 'tcp:3'\nbuiltin = 'echo'\n",
    );
    let main = dir.path().join("main.toml");
    let load_dir = || load(Source::File(&main), &host(true));
    let names: Vec<String> = load_dir()
        .unwrap()
        .table
        .services
        .into_iter()
        .map(|s| s.name)
        .collect();
    assert_eq!(names, ["z", "a", "b"]);

    write(
        "services.d/c.toml",
        "[service.z]\nlisten = 'tcp:4'\nbuiltin = 'echo'\n[defaults]\n",
    );
    let said = load_dir().unwrap_err().to_string();
    assert!(
        said.contains("services.d/c.toml:1:10: service \"z\" is there twice"),
        "{said}"
    );
    assert!(said.contains("main.toml:2:10: the first one"), "{said}");
    assert!(
        said.contains("[defaults] belongs into the main file"),
        "{said}"
    );

    write("services.d/c.toml", "include = ['../main.toml']\n");
    let said = load_dir().unwrap_err().to_string();
    assert!(said.contains("includes itself"), "{said}");
}

#[test]
fn a_missing_main_file_is_a_complaint() {
    let path = std::path::Path::new("/nowhere/usherd.toml");
    let said = load(Source::File(path), &host(true))
        .unwrap_err()
        .to_string();
    assert!(
        said.starts_with("/nowhere/usherd.toml: unable to read"),
        "{said}"
    );
}

#[test]
fn a_syntax_error_hides_no_other_complaint_and_makes_up_none() {
    let said = complaints(
        "[service.a]\nlisten = tcp:80\nbuiltin = 'echo'\n[service.b]\nlisten = 'tcp:0'\nbuiltin = 'echo'\n",
        true,
    );
    assert!(said.contains("usherd.toml:2:"), "{said}");
    assert!(said.contains("\"0\" is no port"), "{said}");
    assert!(!said.contains("no address to listen at"), "{said}");
}

#[test]
fn differences_name_the_keys() {
    let old = load_ok(EVERYTHING);
    assert_eq!(diff(&old, &old), []);
    let new = load_ok(
        &EVERYTHING
            .replace("instances = 7", "instances = 8")
            .replace("[service.echo]", "[service.echo2]")
            .replace("level = \"debug\"", "level = \"info\""),
    );
    let lines: Vec<String> = diff(&old, &new).iter().map(Change::to_string).collect();
    assert_eq!(
        lines,
        [
            "[daemon] changed: log",
            "service \"echo\" removed",
            "service \"all\" changed: instances",
            "service \"echo2\" added",
        ]
    );
}

#[test]
fn ten_thousand_services_load_in_no_time() {
    let mut text = String::from("[defaults]\nuser = 'nobody'\n");
    for n in 0..10_000 {
        let (a, b) = (n / 250, n % 250 + 1);
        text.push_str(&format!(
            "[service.s{n}]\nlisten = 'tcp:127.0.{a}.{b}:7000'\nexec = ['/bin/cat']\nper_source = 5\n"
        ));
    }
    let began = std::time::Instant::now();
    assert_eq!(load_ok(&text).services.len(), 10_000);
    let took = began.elapsed();
    println!("loaded in {took:?}");
    // Generous: tests are built without optimisation and share the machine.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// Pieces that look like a table, in any order.
fn shards() -> impl Strategy<Value = String> {
    let keys = prop::sample::select(schema::SERVICE_KEYS.to_vec());
    let values = prop::sample::select(vec![
        "'tcp:80'",
        "['udp:9']",
        "'x'",
        "\"\\u0000\"",
        "[]",
        "{}",
        "7",
        "-1",
        "1.5",
        "nan",
        "true",
        "{ a = 1 }",
        "['/bin/cat']",
        "'none'",
        "'10s'",
        "1979-05-27",
        "[[[]]]",
        "",
        "'",
        "{ to = 'tcp:1' }",
        "99999999999999999999",
        "'unix:/a'",
        "['1.2.3.4/8']",
        "'\u{20ac}'",
        "{ soft = 1 }",
        "'echo'",
        "{ nofile = { soft = 5, hard = 1 } }",
        "'ümlaut:80'",
        "{ ssh = true }",
        "{ tls.sni = ['a.example', '*.b'], priority = 3 }",
        "[{ http.path = '/a' }, { any = true }]",
        "{ dns = { name = 'a', type = 'MX' }, from = '10.0.0.0/8' }",
        "{ prefix = { hex = '00' }, eof = true }",
        "{ tls = { malformed = false, version = '1.2' } }",
        "'server'",
        "['::1']",
    ]);
    let heads = prop::sample::select(vec![
        "[service.a]",
        "[service.b]",
        "[defaults]",
        "[daemon]",
        "[service]",
        "[",
        "include = ['*']",
        "[service.'']",
        "]",
        "\u{feff}",
        "\r",
        "[[service]]",
        "from = 'a'",
        "from = 'b'",
        "unset = ['listen', 'match.tls']",
        "layers = ['a']",
    ]);
    let line = prop_oneof![
        4 => (keys, values).prop_map(|(k, v)| format!("{k} = {v}")),
        2 => heads.prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    prop::collection::vec(line, 0..20).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        rng_seed: prop::test_runner::RngSeed::Fixed(20_040),
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_text_makes_the_loader_panic(text in shards(), root: bool) {
        match try_load(&text, root) {
            Ok(loaded) => {
                let _ = loaded.warnings.to_string();
                let written = effective(&loaded.table);
                let again = try_load(&written, root);
                prop_assert!(again.is_ok(), "{}\n{}", written, again.unwrap_err());
                prop_assert!(again.unwrap().table == loaded.table, "{}", written);
            }
            Err(complaints) => {
                prop_assert!(!complaints.is_empty());
                let _ = complaints.to_string();
            }
        }
    }
}
