//! Whole files: what becomes of them, and that the table of it can be loaded.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use proptest::prelude::*;

use super::attribute::{ATTRIBUTES, FLAGS, TYPES};
use super::*;
use crate::table::access::Access;
use crate::table::host::{Found, Host};
use crate::table::import::hosts::Rules;
use crate::table::import::{report, settle, write};
use crate::table::names::Names;
use crate::table::source::Source;
use crate::table::{Serve, Service as Served, Table, host, load};

const SERVICES: &str = "tcpmux 1/tcp\necho 7/tcp\necho 7/udp\ndiscard 9/tcp\ndaytime 13/tcp\nchargen 19/udp\n\
    time 37/tcp\nftp 21/tcp\ntelnet 23/tcp\nlogin 513/tcp\nshell 514/tcp\ntftp 69/udp\nhttp 80/tcp\n";

fn this_host() -> Host {
    Host {
        names: Names::new(SERVICES, "rstatd 100001\nrquotad 100011\n"),
        ..host::tests::host(true)
    }
}

fn read_with(text: &str, hosts: &Rules) -> (Imported, Host) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xinetd.conf");
    fs::write(&path, text).unwrap();
    let host = this_host();
    let known: [(String, IpAddr); 2] = [
        ("inside".to_owned(), "192.0.2.80".parse().unwrap()),
        ("here".to_owned(), "192.0.2.1".parse().unwrap()),
    ];
    let world = World {
        host: &host,
        libwrap: false,
        ipv6: true,
        addresses: &known,
        hosts,
    };
    let imported = read(&path, &world);
    (imported, host)
}

fn import(text: &str) -> Imported {
    read_with(text, &Rules::default()).0
}

/// One service that answers, with some attributes more.
fn ftp(more: &str) -> String {
    format!(
        "service ftp\n{{\n socket_type = stream\n wait = no\n user = git\n server = /usr/sbin/in.ftpd\n{more}\n}}\n"
    )
}

fn draft(text: &str) -> Draft {
    import(text).drafts.into_iter().next().unwrap()
}

fn key(draft: &Draft, key: &str) -> String {
    draft
        .key(key)
        .map(|value| value.to_string().trim().to_owned())
        .unwrap_or_default()
}

fn effects(draft: &Draft) -> Vec<Effect> {
    draft.notes.iter().map(|note| note.effect).collect()
}

/// The table that comes of it; all of it must load.
fn table(text: &str) -> Table {
    let (mut imported, host) = read_with(text, &Rules::default());
    settle::settle(&mut imported, &host);
    let written = write::table(&imported);
    let source = Source::Text {
        name: "imported",
        text: &written.text,
    };
    match load(source, &host) {
        Ok(loaded) => loaded.table,
        Err(complaints) => panic!("{}\n{complaints:?}", written.text),
    }
}

fn permits(access: &Access, peers: &[(&str, bool)]) {
    for (peer, admitted) in peers {
        let ip = peer.parse().unwrap();
        assert_eq!(access.permits(ip), *admitted, "{peer}: {access:?}");
    }
}

#[test]
fn a_usual_service_is_carried_over_exactly() {
    let draft = draft(&ftp(
        " server_args = -l -a\n nice = 10\n umask = 027\n groups = yes\n group = adm",
    ));
    assert_eq!(draft.notes, []);
    assert!(draft.off.is_none() && draft.is_exact());
    for (name, value) in [
        ("listen", "\"tcp:21\""),
        ("exec", "[\"/usr/sbin/in.ftpd\", \"-l\", \"-a\"]"),
        ("user", "\"git\""),
        ("group", "\"adm\""),
        ("groups", ""),
        ("umask", "\"027\""),
        ("nice", "10"),
        ("stderr", "\"socket\""),
        ("isolation", "\"none\""),
        ("instances", "1000000"),
        ("rate", "\"50/s\""),
        ("on_full", "\"refuse\""),
        ("wait", ""),
    ] {
        assert_eq!(key(&draft, name), value, "{name}");
    }
}

#[test]
fn lists_reach_a_service_when_it_is_read_and_limits_at_the_end() {
    let text = format!(
        "defaults\n{{\n only_from = 10.0.0.0\n instances = 5\n}}\n{}include {{}}\n",
        ftp("")
    );
    let folder = tempfile::tempdir().unwrap();
    let later = folder.path().join("later");
    fs::write(
        &later,
        "defaults\n{\n only_from = 192.0.2.0\n per_source = 3\n instances = 9\n}\n",
    )
    .unwrap();
    let text = text.replace("{}", &later.display().to_string());
    let imported = import(&text);
    let draft = &imported.drafts[0];
    assert_eq!(key(draft, "allow"), "[\"10.0.0.0/8\"]");
    assert_eq!(key(draft, "per_source"), "3");
    assert_eq!(key(draft, "instances"), "5", "the first one counts");
    assert!(
        imported
            .notes
            .iter()
            .any(|n| n.effect == Effect::Loss && n.text.contains("instances"))
    );
}

#[test]
fn a_set_is_replaced_added_to_and_taken_from() {
    let with = |lines: &str| {
        let text = format!(
            "defaults\n{{\n only_from = 10.0.0.0\n only_from = 192.0.2.0\n}}\n{}",
            ftp(lines)
        );
        key(&draft(&text), "allow")
    };
    assert_eq!(with(""), "[\"10.0.0.0/8\", \"192.0.2.0/24\"]");
    assert_eq!(
        with(" only_from += 198.51.100.7"),
        "[\"10.0.0.0/8\", \"192.0.2.0/24\", \"198.51.100.7\"]"
    );
    assert_eq!(with(" only_from -= 10.0.0.0"), "[\"192.0.2.0/24\"]");
    assert_eq!(
        with(" only_from = 127.0.0.1\n only_from = 127.0.0.2"),
        "[\"127.0.0.2\"]"
    );
}

#[test]
fn nobody_gets_in_where_only_from_is_empty_or_all_is_denied() {
    for lines in [
        " only_from =",
        " no_access = 0.0.0.0 ::/0",
        " only_from = 10.0.0.0\n no_access = 0.0.0.0",
    ] {
        let table = table(&ftp(lines));
        permits(
            &table.services[0].rules.access,
            &[("10.0.0.1", false), ("2001:db8::1", false)],
        );
    }
}

#[test]
fn who_is_in_both_lists_stays_out_in_either_nesting() {
    let table = table(&ftp(
        " only_from = 10.0.0.0 192.0.2.7\n no_access = 10.1.0.0 192.0.2.0",
    ));
    let access = &table.services[0].rules.access;
    permits(
        access,
        &[
            ("10.2.0.1", true),
            ("10.1.0.1", false),
            ("192.0.2.7", false),
            ("198.51.100.1", false),
            ("::ffff:10.2.0.1", true),
        ],
    );
}

#[test]
fn a_name_that_is_let_in_stays_out_and_one_that_is_kept_out_is_a_loss() {
    let draft_of = |lines: &str| draft(&ftp(lines));
    let only = draft_of(" only_from = nosuch.example 10.0.0.0");
    assert_eq!(effects(&only), [Effect::Unsupported]);
    assert_eq!(key(&only, "allow"), "[\"10.0.0.0/8\"]");
    let not = draft_of(" no_access = nosuch.example");
    assert_eq!(effects(&not), [Effect::Loss]);
    let known = draft_of(" no_access = inside");
    assert_eq!(effects(&known), [Effect::Changed]);
    assert_eq!(key(&known, "deny"), "[\"192.0.2.80\"]");
}

#[test]
fn a_comment_behind_a_value_is_no_host() {
    let draft = draft(&ftp(" only_from = 127.0.0.1 #comment here"));
    assert_eq!(effects(&draft), [Effect::Changed]);
    assert_eq!(key(&draft, "allow"), "[\"127.0.0.1\"]");
}

#[test]
fn a_limit_that_xinetd_ignores_is_a_loss_and_another_line_is_not() {
    for line in [
        " instances = 0 # none",
        " instances += 3",
        " cps = 5",
        " per_sorce = 4",
        " enabled = ftp",
        " disable = yes # for now",
        " instances = 3\n instances = 2",
    ] {
        let draft = draft(&ftp(line));
        assert_eq!(effects(&draft), [Effect::Loss], "{line}: {:?}", draft.notes);
        assert!(draft.off.is_none(), "{line}");
    }
    let draft = draft(&ftp(" port = 21 # ftp\n colour = red"));
    assert_eq!(effects(&draft), [Effect::Remark, Effect::Remark]);
}

#[test]
fn what_xinetd_does_not_start_is_written_disabled_with_the_reason() {
    for line in [
        " disable = yes",
        " instances = many",
        " only_from = 1.2.3.4,5.6.7.8",
        " user = nobody\n flags = WHAT",
        " access_times = 22:00-2:00",
        " access_times = 12:00-24:00",
        " max_load = 0",
        " umask = 999",
        " rlimit_as = 5G",
        " env = FOO",
        " log_on_success = HOST WHO",
        " log_on_success = TRAFFIC",
        " cps=100 2",
        " port = 2121",
        " per_source = 0",
        " groups = maybe",
        " group = nosuch",
        " type =",
    ] {
        let text = ftp(line).replacen(" user = git\n", "", usize::from(line.contains("user =")));
        let draft = draft(&text);
        assert!(draft.off.is_some(), "{line}");
        assert!(!draft.keys.is_empty(), "{line}");
        assert!(!table(&text).services[0].enabled, "{line}");
    }
}

#[test]
fn what_no_table_can_say_is_left_out_with_the_reason() {
    for line in [
        " socket_type = raw",
        " socket_type = seqpacket",
        " socket_type = stream\n protocol = udp",
        " socket_type = stream\n protocol = icmp",
        " socket_type = stream\n type = UNLISTED",
        " socket_type = stream\n bind = nosuch.example",
        " socket_type = stream\n flags = SENSOR\n deny_time = 60",
        " socket_type = stream\n redirect = nosuch.example 23",
        " socket_type = stream\n type = RPC",
        " socket_type = stream\n flags = NAMEINARGS",
        " socket_type = stream\n type = INTERNAL",
    ] {
        let text = format!(
            "service ftp\n{{\n wait = no\n user = git\n server = /usr/sbin/in.ftpd\n{line}\n}}\n{}",
            ftp("").replace("ftp\n", "http\n")
        );
        let draft = draft(&text);
        assert!(draft.keys.is_empty() && draft.off.is_some(), "{line}");
        assert!(
            draft.notes.iter().any(|n| n.effect == Effect::Unsupported),
            "{line}"
        );
        assert_eq!(table(&text).services.len(), 1, "{line}");
    }
}

#[test]
fn lists_of_ids_choose_services() {
    let two = format!(
        "{}{}",
        ftp(" id = one"),
        ftp(" id = two\n type = UNLISTED\n port = 2121")
    );
    let on = |defaults: &str| -> Vec<bool> {
        let text = format!("{two}defaults\n{{\n{defaults}\n}}\n");
        import(&text)
            .drafts
            .iter()
            .map(|d| d.off.is_none())
            .collect()
    };
    assert_eq!(on(""), [true, true]);
    assert_eq!(on(" disabled = ONE"), [false, true]);
    assert_eq!(on(" enabled = two"), [false, true]);
    assert_eq!(on(" enabled = one two\n disabled = two"), [true, false]);
    assert_eq!(on(" enabled = ftp"), [false, false]);
}

#[test]
fn flags_and_families_choose_the_address() {
    for (lines, listen) in [
        ("", "\"tcp:21\""),
        (" flags = IPv4", "\"tcp4:21\""),
        (" flags = IPv6", "\"tcp:21\""),
        (" flags = IPv4 IPv6", "\"tcp:21\""),
        (" v6only = yes", "\"tcp6:21\""),
        (" v6only = no", "\"tcp6:21\""),
        (" bind = 192.0.2.1", "\"tcp:192.0.2.1:21\""),
        (" interface = 2001:db8::1", "\"tcp:[2001:db8::1]:21\""),
        (" bind = 0.0.0.0", "\"tcp4:21\""),
        (" bind = ::", "\"tcp:21\""),
        (" bind = here", "\"tcp:192.0.2.1:21\""),
        (" type = UNLISTED\n port = 2121", "\"tcp:2121\""),
        (" port = 21", "\"tcp:21\""),
    ] {
        assert_eq!(key(&draft(&ftp(lines)), "listen"), listen, "{lines}");
    }
    let of_defaults = draft(&format!(
        "defaults\n{{\n v6only = yes\n bind = 192.0.2.1\n}}\n{}",
        ftp("")
    ));
    assert_eq!(key(&of_defaults, "listen"), "\"tcp:192.0.2.1:21\"");
    let socket = draft(&ftp(" flags = NODELAY KEEPALIVE REUSE"));
    assert_eq!(key(&socket, "socket.nodelay"), "true");
    assert_eq!(key(&socket, "socket.keepalive"), "true");
}

#[test]
fn names_in_args_count_in_either_order() {
    let args = " server_args = in.ftpd -l";
    for (lines, notes) in [
        (format!(" flags = NAMEINARGS\n{args}"), vec![]),
        (
            format!("{args}\n flags = NAMEINARGS"),
            vec![Effect::Changed],
        ),
    ] {
        let draft = draft(&ftp(&lines));
        assert_eq!(key(&draft, "exec"), "[\"/usr/sbin/in.ftpd\", \"-l\"]");
        assert_eq!(key(&draft, "argv0"), "");
        assert_eq!(effects(&draft), notes);
    }
    let other = draft(&ftp(" flags = NAMEINARGS\n server_args = -x"));
    assert_eq!(
        (key(&other, "exec"), key(&other, "argv0")),
        ("[\"/usr/sbin/in.ftpd\"]".to_owned(), "\"-x\"".to_owned())
    );
}

#[test]
fn behind_tcpd_stands_the_server_itself_and_the_hosts_files_are_asked_for_it() {
    let mut rules = Rules::default();
    rules.add(
        Path::new("/etc/hosts.allow"),
        "in.telnetd: 192.0.2.0/255.255.255.0\n",
        true,
    );
    rules.add(Path::new("/etc/hosts.deny"), "in.telnetd: ALL\n", false);
    let text = "service telnet\n{\n flags = NAMEINARGS NOLIBWRAP\n socket_type = stream\n wait = no\n user = root\n \
                server = /usr/sbin/tcpd\n server_args = /usr/sbin/in.telnetd -h\n}\n";
    let draft = |text: &str| read_with(text, &rules).0.drafts.into_iter().next().unwrap();
    let wrapped = draft(text);
    assert_eq!(key(&wrapped, "exec"), "[\"/usr/sbin/in.telnetd\", \"-h\"]");
    assert_eq!(key(&wrapped, "argv0"), "");
    assert_eq!(
        key(&wrapped, "allow"),
        "[\"192.0.2.0/24\"]",
        "tcpd asks, whatever the flag"
    );
    let own = draft(&text.replace(
        "/usr/sbin/tcpd\n server_args = ",
        "/usr/sbin/in.telnetd\n server_args = in.telnetd ",
    ));
    assert_eq!(key(&own, "allow"), "", "NOLIBWRAP");
    let libwrap = draft(&ftp(
        " libwrap = in.telnetd\n only_from = 192.0.2.0/25 10.0.0.0",
    ));
    assert_eq!(key(&libwrap, "allow"), "[\"192.0.2.0/25\"]");
}

#[test]
fn hours_limits_and_banners_come_with_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let banner = folder.path().join("banner");
    fs::write(&banner, "hello\r\n").unwrap();
    let text = ftp(&format!(
        " access_times = 2:00-8:59 12:00-23:59\n instances = 4\n per_source = 2\n cps = 25 30\n max_load = 2.5\n \
         banner = {0}\n banner_fail = {0}\n rlimit_as = 64M\n rlimit_cpu = 20\n rlimit_files = 100\n \
         rlimit_stack = UNLIMITED\n rlimit_data = 512k\n rlimit_rss = 100",
        banner.display()
    ));
    let table = table(&text);
    let Served { rules, serve, .. } = &table.services[0];
    let windows: Vec<(u16, u16)> = rules.hours.iter().map(|h| (h.from, h.until)).collect();
    assert_eq!(windows, [(120, 540), (720, 1440)]);
    assert_eq!((rules.instances, rules.per_source), (4, Some(2)));
    assert_eq!(rules.rate.map(|rate| rate.count), Some(25));
    assert_eq!(rules.max_load, Some(2.5));
    assert_eq!(rules.banner.admitted.as_deref(), Some("hello\r\n"));
    assert_eq!(rules.banner.refused.as_deref(), Some("hello\r\nhello\r\n"));
    let Serve::Exec(exec) = serve else {
        panic!("{serve:?}")
    };
    assert_eq!(exec.limits.len(), 6);
    assert_eq!(exec.limits[0].hard, 64 << 20);
}

#[test]
fn a_loss_at_a_service_that_is_off_does_not_stop_anybody() {
    let off = draft(&ftp(" disable = yes\n no_access = nosuch.example"));
    assert!(!off.loses());
    assert!(
        off.notes
            .iter()
            .any(|note| note.text.contains("before you enable it"))
    );
}

#[test]
fn identd_and_labels_are_told() {
    let draft_of = |lines: &str| effects(&draft(&ftp(lines)));
    assert_eq!(
        draft_of(" flags = IDONLY\n log_on_success = USERID"),
        [Effect::Loss, Effect::Unsupported]
    );
    assert_eq!(draft_of(" flags = IDONLY"), [Effect::Remark]);
    assert_eq!(draft_of(" flags = LABELED"), [Effect::Loss]);
    assert_eq!(draft_of(" flags = NORETRY"), [Effect::Remark]);
    assert_eq!(draft_of(" mdns = yes"), [Effect::Unsupported]);
    assert_eq!(draft_of(" leaky_bucket = 1 2 3 4"), [Effect::Loss]);
}

#[test]
fn logging_keeps_to_what_was_logged() {
    let log = |lines: &str| key(&draft(&ftp(lines)), "log");
    assert_eq!(log(""), "");
    assert_eq!(
        log(" log_on_success = HOST PID\n log_on_failure += HOST"),
        "[\"start\", \"refuse\"]"
    );
    assert_eq!(
        log(" log_on_success = EXIT DURATION"),
        "[\"start\", \"exit\"]"
    );
    assert_eq!(log(" log_on_success ="), "[]");
}

#[test]
fn every_kind_of_service_loads() {
    let text = "defaults\n{\n log_type = SYSLOG daemon info\n}\n\
        service tcpmux\n{\n type = INTERNAL\n socket_type = stream\n wait = no\n}\n\
        service hello\n{\n type = TCPMUXPLUS UNLISTED\n socket_type = stream\n protocol = tcp\n wait = no\n user = git\n server = /bin/true\n}\n\
        service echo\n{\n type = INTERNAL\n id = echo-stream\n socket_type = stream\n wait = no\n user = root\n}\n\
        service echo\n{\n type = INTERNAL\n id = echo-dgram\n socket_type = dgram\n wait = yes\n user = root\n}\n\
        service daytime\n{\n type = INTERNAL\n socket_type = stream\n protocol = tcp\n wait = no\n per_source = 3\n}\n\
        service tftp\n{\n socket_type = dgram\n protocol = udp\n wait = yes\n user = root\n server = /usr/sbin/in.tftpd\n \
        server_args = -s /srv/tftp\n per_source = 11\n cps = 100 2\n flags = IPv4\n only_from = 192.0.2.0 2001:db8::/32\n}\n\
        service rstatd\n{\n type = RPC\n flags = INTERCEPT\n rpc_version = 2-4\n socket_type = dgram\n protocol = udp\n \
        wait = yes\n user = root\n server = /usr/sbin/rpc.rstatd\n}\n\
        service mine\n{\n type = RPC UNLISTED\n rpc_number = 536870913\n rpc_version = 1\n socket_type = stream\n \
        protocol = tcp\n wait = yes\n user = 1234\n server = /usr/sbin/mine\n}\n\
        service telnet\n{\n socket_type = stream\n wait = no\n user = root\n bind = 192.0.2.175\n redirect = 192.0.2.20 23\n \
        log_on_success = TRAFFIC\n}\n\
        service login\n{\n socket_type = stream\n wait = yes\n user = root\n server = /usr/sbin/in.rlogind\n only_from = 10.0.0.0\n}\n";
    let imported = import(text);
    for draft in &imported.drafts {
        assert!(draft.off.is_none(), "{}: {:?}", draft.name, draft.off);
        assert!(!draft.loses(), "{}: {:?}", draft.name, draft.notes);
    }
    let table = table(text);
    let shown: Vec<String> = table
        .services
        .iter()
        .map(|s| s.listen[0].to_string())
        .collect();
    let wanted = [
        "tcp:1",
        "tcpmux:+hello",
        "tcp:7",
        "udp:7",
        "tcp:13",
        "udp4:69",
        "rpc-udp:100001/2-4",
        "rpc-tcp:536870913/1",
        "tcp:192.0.2.175:23",
        "tcp:513",
    ];
    assert_eq!(shown, wanted);
    assert!(table.services.iter().all(|s| s.enabled));
    assert!(report::report(&imported).contains("cps = 100 2"));
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let mut host = this_host();
    host.look = |_| Found::Nothing;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    fs::write(&path, ftp("")).unwrap();
    let world = World {
        host: &host,
        libwrap: false,
        ipv6: true,
        addresses: &[],
        hosts: &Rules::default(),
    };
    let imported = read(&path, &world);
    assert_eq!(effects(&imported.drafts[0]), [Effect::Changed]);
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let host = this_host();
    let world = World {
        host: &host,
        libwrap: false,
        ipv6: true,
        addresses: &[],
        hosts: &Rules::default(),
    };
    let imported = read(Path::new("/nonexistent/xinetd.conf"), &world);
    assert_eq!(imported.faults.len(), 1);
}

/// config/migrating.md has every word that may stand in a file.
#[test]
fn the_guide_has_every_attribute_flag_and_type() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/migrating.md");
    let guide = fs::read_to_string(path).unwrap();
    let (_, ours) = guide.split_once("\n## From xinetd\n").unwrap();
    let ours = ours.split("\n## ").next().unwrap();
    let rows: Vec<&str> = ours.lines().filter(|line| line.starts_with("| ")).collect();
    let has = |word: &str| {
        let quoted = format!("`{word}`");
        rows.iter().any(|row| {
            row.split('|')
                .nth(1)
                .is_some_and(|cell| cell.contains(&quoted))
        })
    };
    let attributes = ATTRIBUTES.iter().map(|attribute| attribute.name);
    for word in attributes.chain(FLAGS).chain(TYPES).chain(SUCCESS).chain([
        "include",
        "includedir",
        "defaults",
    ]) {
        assert!(has(word), "{word}");
    }
}

const SUCCESS: [&str; 7] = [
    "HOST", "PID", "USERID", "EXIT", "DURATION", "TRAFFIC", "ATTEMPT",
];

fn word() -> impl Strategy<Value = String> {
    let names = ATTRIBUTES.map(|attribute| attribute.name);
    prop_oneof![
        prop::sample::select(names.to_vec()).prop_map(str::to_owned),
        prop::sample::select(FLAGS.to_vec()).prop_map(str::to_owned),
        prop::sample::select(TYPES.to_vec()).prop_map(str::to_owned),
        prop::sample::select(vec![
            "service",
            "defaults",
            "{",
            "}",
            "=",
            "+=",
            "-=",
            "yes",
            "no",
            "stream",
            "dgram",
            "tcp",
            "udp",
            "root",
            "ftp",
            "echo",
            "/bin/true",
            "10.0.0.0",
            "::/0",
            "1.{2,3}",
            "UNLIMITED",
            "7",
            "0",
            "100 2",
            "2:00-3:00",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_is_too_strange(text in "\\PC*") {
        import(&text);
    }

    #[test]
    fn whatever_is_read_loads(lines in prop::collection::vec((word(), "=|\\+=|-=", prop::collection::vec(word(), 0..3)), 0..12)) {
        let body: String = lines
            .iter()
            .map(|(name, operator, values)| format!(" {name} {operator} {}\n", values.join(" ")))
            .collect();
        table(&format!("{}{}", ftp(&body), ftp(" id = good\n type = UNLISTED\n port = 4000")));
    }
}
