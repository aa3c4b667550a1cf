#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::table::Source;
use crate::table::check::load;
use crate::table::complaint::Complaints;
use crate::table::host::Host;
use crate::table::host::tests::host;
use crate::table::import::hosts::Rules;
use crate::table::import::settle::settle;
use crate::table::import::write;
use crate::table::names::Names;

const SERVICES: &str = "ftp 21/tcp\ntelnet 23/tcp\ntime 37/tcp timserver\ntime 37/udp\ndaytime 13/tcp\n\
    daytime 13/udp\necho 7/tcp\necho 7/udp\ndiscard 9/tcp\nchargen 19/tcp\ntftp 69/udp\nfinger 79/tcp\n\
    ntalk 518/udp\ncvspserver 2401/tcp\nsvn 3690/tcp\ngit 9418/tcp\nnrpe 5666/tcp\nshell 514/tcp\n\
    dict 2628/tcp\ntcpmux 1/tcp\nwhois 43/tcp\nident 113/tcp auth\n";

fn machine() -> Host {
    Host {
        names: Names::new(SERVICES, "rusersd 100002\nrstatd 100001\n"),
        ..host(true)
    }
}

fn import(text: &str, dialect: Option<Dialect>, rules: &Rules) -> Imported {
    let host = machine();
    let world = World {
        host: &host,
        hosts: rules,
        libwrap: false,
        ipv6: true,
        addresses: &[("gate".to_owned(), "192.0.2.9".parse().unwrap())],
    };
    let mut imported = read_text(Path::new("inetd.conf"), text, dialect, &world);
    settle(&mut imported, &host);
    imported
}

fn read_as(text: &str, dialect: Dialect) -> Imported {
    import(text, Some(dialect), &Rules::default())
}

/// Keys of the only draft, a line each, and effects of its notes.
fn one(text: &str, dialect: Dialect) -> (String, Vec<Effect>) {
    let imported = read_as(text, dialect);
    let shown = Complaints::new(imported.files.clone(), imported.faults.clone());
    assert!(shown.is_empty(), "{shown}");
    assert_eq!(imported.drafts.len(), 1, "{text}");
    let draft = &imported.drafts[0];
    let effects = draft.notes.iter().map(|note| note.effect);
    let effects = effects.filter(|effect| *effect != Effect::Remark).collect();
    (write::body(draft), effects)
}

fn exact(text: &str, dialect: Dialect) -> String {
    let (body, effects) = one(text, dialect);
    assert_eq!(effects, [], "{text}");
    body
}

fn faults(text: &str, dialect: Dialect) -> String {
    let imported = read_as(text, dialect);
    Complaints::new(imported.files, imported.faults).to_string()
}

const CLASSIC: &str = "isolation = \"none\"\nstderr = \"socket\"\n";

#[test]
fn lines_of_packages_and_sites_become_services() {
    use Dialect::Debian;
    for (line, wanted) in [
        (
            "telnet stream tcp nowait root /usr/sbin/tcpd /usr/sbin/in.telnetd",
            "listen = [\"tcp4:telnet\", \"tcp6:telnet\"]\nexec = [\"/usr/sbin/in.telnetd\"]\nuser = \"root\"\n",
        ),
        (
            "ntalk dgram udp4 wait root /usr/sbin/tcpd in.ntalkd",
            "listen = \"udp4:ntalk\"\nexec = [\"/usr/sbin/in.ntalkd\"]\nuser = \"root\"\n",
        ),
        (
            "tftp dgram udp wait nobody /usr/sbin/tcpd /usr/sbin/in.tftpd -s /srv/tftp",
            "listen = [\"udp4:tftp\", \"udp6:tftp\"]\nexec = [\"/usr/sbin/in.tftpd\", \"-s\", \"/srv/tftp\"]\nuser = \"nobody\"\n",
        ),
        (
            "git stream tcp nowait git /usr/bin/git git daemon --inetd /srv/git",
            "listen = [\"tcp4:git\", \"tcp6:git\"]\nexec = [\"/usr/bin/git\", \"daemon\", \"--inetd\", \"/srv/git\"]\nuser = \"git\"\n",
        ),
        (
            "192.0.2.1:nrpe stream tcp nowait alice /usr/sbin/nrpe -- -c /etc/nrpe.cfg --inetd",
            "listen = \"tcp:192.0.2.1:nrpe\"\nexec = [\"/usr/sbin/nrpe\", \"-c\", \"/etc/nrpe.cfg\", \"--inetd\"]\nargv0 = \"--\"\nuser = \"alice\"\n",
        ),
        (
            "30000 stream tcp nowait root /usr/local/bin/prog --flag",
            "listen = [\"tcp4:30000\", \"tcp6:30000\"]\nexec = [\"/usr/local/bin/prog\"]\nargv0 = \"--flag\"\nuser = \"root\"\n",
        ),
        (
            "whois\t \tstream\ttcp \tnowait\tnobody.adm\t/usr/bin/whoisd",
            "listen = [\"tcp4:whois\", \"tcp6:whois\"]\nexec = [\"/usr/bin/whoisd\"]\nuser = \"nobody\"\ngroup = \"adm\"\n",
        ),
        (
            "127.0.0.1,[::1]:finger stream tcp nowait nobody:www /bin/f f",
            "listen = [\"tcp:127.0.0.1:finger\", \"tcp:[::1]:finger\"]\nexec = [\"/bin/f\"]\nuser = \"nobody\"\ngroup = \"www\"\n",
        ),
        (
            "localhost,gate:finger stream tcp4 nowait nobody /bin/f f",
            "listen = [\"tcp:127.0.0.1:finger\", \"tcp:192.0.2.9:finger\"]\nexec = [\"/bin/f\"]\nuser = \"nobody\"\n",
        ),
        (
            "rusersd/2-3 dgram rpc/udp wait nobody /usr/sbin/tcpd /usr/sbin/rpc.rusersd",
            "listen = \"rpc-udp:rusersd/2-3\"\nexec = [\"/usr/sbin/rpc.rusersd\"]\nuser = \"nobody\"\n",
        ),
        (
            "git stream tcp46 wait git /usr/bin/git git",
            "listen = \"tcp:git\"\nwait = true\nexec = [\"/usr/bin/git\"]\nuser = \"git\"\n",
        ),
    ] {
        assert_eq!(exact(line, Debian), format!("{wanted}{CLASSIC}"), "{line}");
    }
}

#[test]
fn internal_services_become_builtins() {
    let body = exact("echo stream tcp6 nowait nobody internal", Dialect::Debian);
    assert_eq!(body, "listen = \"tcp6:echo\"\nbuiltin = \"echo\"\n");
    let body = exact("time dgram udp wait root internal", Dialect::OpenBsd);
    assert_eq!(body, "listen = \"udp4:time\"\nbuiltin = \"time\"\n");
    let (body, effects) = one(
        "ident stream tcp nowait root internal auth -r -f",
        Dialect::FreeBsd,
    );
    assert_eq!(
        (body.as_str(), effects.as_slice()),
        ("", &[Effect::Unsupported][..])
    );
}

#[test]
fn families_are_those_of_the_dialect() {
    use Dialect::*;
    for (dialect, protocol, wanted) in [
        (Debian, "tcp", "[\"tcp4:ftp\", \"tcp6:ftp\"]"),
        (OpenBsd, "tcp", "\"tcp4:ftp\""),
        (FreeBsd, "tcp", "\"tcp4:ftp\""),
        (NetBsd, "tcp", "\"tcp4:ftp\""),
        (Gnu, "tcp", "\"tcp4:ftp\""),
        (Gnu, "tcp6", "\"tcp:ftp\""),
        (Gnu, "tcp6only", "\"tcp6:ftp\""),
        (FreeBsd, "tcp46", "\"tcp:ftp\""),
        (FreeBsd, "tcp6", "\"tcp6:ftp\""),
    ] {
        let body = exact(
            &format!("ftp stream {protocol} nowait root /bin/f f"),
            dialect,
        );
        assert!(
            body.starts_with(&format!("listen = {wanted}\n")),
            "{dialect:?} {protocol}: {body}"
        );
    }
}

#[test]
fn a_user_with_a_dot_is_looked_up_before_it_is_cut() {
    let body = exact("ftp stream tcp nowait alice.www /bin/f f", Dialect::Debian);
    assert!(
        body.contains("user = \"alice\"\ngroup = \"www\"\n"),
        "{body}"
    );
    let imported = read_as("ftp stream tcp nowait www.data.x /bin/f f", Dialect::Debian);
    let draft = &imported.drafts[0];
    assert_eq!(draft.off.as_deref(), Some("no user is named \"www\""));
    let body = exact("ftp stream tcp nowait root:adm /bin/f f", Dialect::Gnu);
    assert!(!body.contains("group"), "{body}");
}

#[test]
fn limits_are_stated_as_they_worked() {
    let line = |wait: &str| format!("svn stream tcp {wait} git /usr/bin/svnserve svnserve -i");
    let (body, effects) = one(&line("nowait.400"), Dialect::Debian);
    assert!(body.ends_with("rate = \"399/m\"\n"), "{body}");
    assert_eq!(effects, [Effect::Changed]);
    let (body, _) = one(&line("nowait:400"), Dialect::NetBsd);
    assert!(body.ends_with("rate = \"400/m\"\n"), "{body}");
    let (body, effects) = one(&line("nowait/10/60/3"), Dialect::FreeBsd);
    assert!(
        body.ends_with("instances = 10\nper_source = 3\nrate_per_source = \"60/m\"\n"),
        "{body}"
    );
    assert_eq!(effects, [Effect::Changed]);
    let (body, effects) = one(&line("nowait/0/0/0"), Dialect::FreeBsd);
    assert!(body.ends_with(CLASSIC), "{body}");
    assert_eq!(effects, []);
    let (_, effects) = one("tftp dgram udp wait/4 root /bin/t t", Dialect::FreeBsd);
    assert_eq!(effects, [Effect::Changed]);
}

#[test]
fn marks_of_update_inetd_are_understood() {
    let text = "#:STANDARD: These are standard services.\n\
        #<off># telnet\tstream\ttcp\tnowait\troot\t/usr/sbin/tcpd\t/usr/sbin/in.telnetd\n\
        #<off>#ftp stream tcp nowait root /bin/f f\n\
        #disabled#finger stream tcp nowait nobody /bin/g g\n\
        #whois stream tcp nowait nobody /bin/w w\n\
        ## git stream tcp nowait git /bin/w w\n";
    let imported = read_as(text, Dialect::Debian);
    let names: Vec<&str> = imported.drafts.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["telnet", "ftp", "finger"]);
    assert!(imported.drafts.iter().all(|draft| draft.off.is_some()));
    assert_eq!(imported.drafts[0].source.len(), 2);
    let table = write::table(&imported).text;
    assert!(
        table.contains("#| #:STANDARD: These are standard services.\n"),
        "{table}"
    );
    assert!(
        table.contains("[service.telnet]\nenabled = false"),
        "{table}"
    );
}

#[test]
fn lines_go_on_and_addresses_hold_until_the_next() {
    let text = "127.0.0.1:\nftp stream tcp nowait root\n\t/bin/f f\n  -x\n*:\nwhois stream tcp nowait root /bin/w w\n";
    let imported = read_as(text, Dialect::Debian);
    let body = |at: usize| write::body(&imported.drafts[at]);
    assert!(
        body(0).starts_with("listen = \"tcp:127.0.0.1:ftp\"\nexec = [\"/bin/f\", \"-x\"]\n"),
        "{}",
        body(0)
    );
    assert_eq!(imported.drafts[0].source.len(), 3);
    assert!(
        body(1).starts_with("listen = [\"tcp4:whois\""),
        "{}",
        body(1)
    );
}

#[test]
fn quotes_are_those_of_the_dialect() {
    let line = "ftp stream tcp nowait root /bin/f f \"a b\" c\\ d";
    assert!(
        exact(line, Dialect::Debian).contains(r#""\"a", "b\"", "#)
            || exact(line, Dialect::Debian).contains(r#"'"a', 'b"'"#)
    );
    assert!(
        exact(line, Dialect::Gnu).contains("\"a b\", \"c d\"]"),
        "{}",
        exact(line, Dialect::Gnu)
    );
    assert!(
        faults("ftp stream tcp nowait root /bin/f f 'a b", Dialect::NetBsd).contains("not closed")
    );
}

#[test]
fn netbsds_pairs_are_read() {
    let text = "# a comment\n\
        echo on protocol = tcp4, user = root; # behind\n\
        127.0.0.1:ftp on\n  protocol = tcp4, wait = no, # inside\n  user = alice, group = www,\n  \
        exec = /usr/libexec/ftpd, args = ftpd -l \"a\\x20b;\",\n  service_max = 10, ip_max = 2, accept_max = 5;\n\
        telnet off protocol = tcp6, wait = no, user = root, exec = /bin/t; finger on protocol=tcp, wait=no, user=nobody, exec=/bin/f, args=f;\n\
        whois stream tcp nowait nobody /bin/w w\n";
    let imported = import(text, None, &Rules::default());
    let shown = Complaints::new(imported.files.clone(), imported.faults.clone());
    assert!(shown.is_empty(), "{shown}");
    let names: Vec<(&str, usize, bool)> = imported
        .drafts
        .iter()
        .map(|d| (d.name.as_str(), d.origin.line, d.off.is_some()))
        .collect();
    assert_eq!(
        names,
        [
            ("echo", 2, false),
            ("ftp", 3, false),
            ("telnet", 8, true),
            ("finger", 8, false),
            ("whois", 9, false)
        ]
    );
    let body = write::body(&imported.drafts[1]);
    assert!(body.contains("\"-l\", \"a b;\"]"), "{body}");
    assert!(
        body.contains("user = \"alice\"\ngroup = \"www\"\n"),
        "{body}"
    );
    assert!(
        body.contains("instances = 5\nrate_per_source = \"2/m\"\nrate = \"10/m\"\n"),
        "{body}"
    );
    for (bad, what) in [
        ("ftp on protocol = tcp, user = a, user = b;", "twice"),
        ("ftp on protocol = tcp, usr = a;", "user"),
        ("ftp on protocol = tcp", "semicolon"),
        ("ftp on protocol = tcp, exec = /bin/f;", "no user"),
    ] {
        let said = faults(bad, Dialect::NetBsd);
        assert!(said.contains(what), "{bad}: {said}");
    }
}

#[test]
fn policies_and_classes_are_not_lost_silently() {
    let text = "#@ ipsec ah/require\nftp stream tcp nowait root /bin/f f\n#@\nwhois stream tcp nowait root/staff /bin/w w\n";
    let imported = read_as(text, Dialect::FreeBsd);
    assert!(imported.drafts[0].loses());
    assert!(!imported.drafts[1].loses());
    let effects: Vec<Effect> = imported.drafts[1].notes.iter().map(|n| n.effect).collect();
    assert!(effects.contains(&Effect::Unsupported));
    let (_, effects) = one(
        "ftp on protocol=tcp, wait=no, user=root, exec=/bin/f, args=f, ipsec=\"esp/require\";",
        Dialect::NetBsd,
    );
    assert_eq!(effects, [Effect::Loss]);
}

#[test]
fn hosts_files_bind_those_who_asked_them() {
    let mut rules = Rules::default();
    rules.add(Path::new("hosts.allow"), "in.ftpd: 192.0.2.0/24\n", true);
    rules.add(Path::new("hosts.deny"), "ALL: ALL\n", false);
    let text = "ftp stream tcp nowait root /usr/sbin/tcpd in.ftpd -l\nwhois stream tcp nowait root /bin/w w\n";
    let imported = import(text, None, &rules);
    let body = write::body(&imported.drafts[0]);
    assert!(body.ends_with("allow = [\"192.0.2.0/24\"]\n"), "{body}");
    assert!(!write::body(&imported.drafts[1]).contains("allow"));
    // FreeBSD's inetd asks libwrap about everything, its own services too.
    let text =
        "ftp stream tcp nowait root /bin/in.ftpd in.ftpd\necho stream tcp nowait root internal\n";
    let imported = import(text, Some(Dialect::FreeBsd), &rules);
    assert!(write::body(&imported.drafts[0]).ends_with("allow = [\"192.0.2.0/24\"]\n"));
    assert!(write::body(&imported.drafts[1]).ends_with("deny = [\"0.0.0.0/0\", \"::/0\"]\n"));
}

#[test]
fn what_is_off_loses_nothing_yet() {
    let mut rules = Rules::default();
    rules.add(Path::new("hosts.deny"), "ALL: .foes.example\n", false);
    let line = "ftp stream tcp nowait root /usr/sbin/tcpd in.ftpd\n";
    assert!(import(line, None, &rules).drafts[0].loses());
    let off = import(&format!("#<off># {line}"), None, &rules);
    assert!(!off.drafts[0].loses());
    assert!(off.drafts[0].notes[0].text.contains("before you enable it"));
}

#[test]
fn an_inetd_that_asked_libwrap_itself_is_known_by_the_operator_only() {
    let mut rules = Rules::default();
    rules.add(Path::new("hosts.deny"), "w: ALL\n", false);
    let host = machine();
    let world = World {
        host: &host,
        hosts: &rules,
        libwrap: true,
        ipv6: true,
        addresses: &[],
    };
    let text = "whois stream tcp nowait root /bin/whoisd w\ntftp dgram udp wait root /bin/tftpd w\n\
        echo stream tcp nowait root internal\n";
    let imported = read_text(Path::new("inetd.conf"), text, None, &world);
    let denied = |at: usize| write::body(&imported.drafts[at]).contains("deny");
    assert_eq!([denied(0), denied(1), denied(2)], [true, false, false]);
}

#[test]
fn unix_sockets_keep_who_may_connect() {
    let body = exact(
        "/run/x.sock stream unix nowait root /bin/f f",
        Dialect::OpenBsd,
    );
    assert!(
        body.starts_with("listen = \"unix:/run/x.sock\"\n"),
        "{body}"
    );
    assert!(body.ends_with("socket = { mode = \"0666\" }\n"), "{body}");
    let body = exact(
        ":root:adm:660:/run/x.sock dgram unix wait root /bin/f f",
        Dialect::FreeBsd,
    );
    assert!(
        body.starts_with("listen = \"unix-dgram:/run/x.sock\"\n"),
        "{body}"
    );
    assert!(
        body.ends_with("socket = { owner = \"root\", group = \"adm\", mode = \"0660\" }\n"),
        "{body}"
    );
}

#[test]
fn tcpmux_needs_a_multiplexer() {
    let text = "tcpmux/+date stream tcp nowait nobody /bin/date date\n";
    let imported = read_as(text, Dialect::FreeBsd);
    assert!(
        imported.drafts[0]
            .off
            .as_deref()
            .unwrap()
            .contains("tcpmux")
    );
    let imported = read_as(text, Dialect::Gnu);
    assert_eq!(imported.drafts.len(), 2);
    assert!(imported.drafts.iter().all(|draft| draft.off.is_none()));
    let text = format!("tcpmux stream tcp nowait root internal\n{text}");
    let imported = read_as(&text, Dialect::FreeBsd);
    assert!(imported.drafts.iter().all(|draft| draft.off.is_none()));
    assert!(write::body(&imported.drafts[1]).starts_with("listen = \"tcpmux:+date\"\n"));
}

#[test]
fn what_cannot_be_served_is_disabled_or_a_comment() {
    let text = "rmtcfg stream tcp nowait root /bin/p p\nftp stream tcp nowait ftn /bin/f f\nnowhere.example:ftp stream tcp nowait root /bin/f f\n\
        ip raw icmp wait root /bin/i i\n";
    let imported = read_as(text, Dialect::Debian);
    let table = write::table(&imported).text;
    assert!(
        table.contains("# left out: no port is named rmtcfg/tcp"),
        "{table}"
    );
    assert!(
        table.contains("enabled = false   # no user is named \"ftn\"\n"),
        "{table}"
    );
    assert!(
        table.contains("# left out: \"nowhere.example\" is in no line of /etc/hosts"),
        "{table}"
    );
    assert!(
        table.contains("# left out: usherd does not serve icmp"),
        "{table}"
    );
    let loaded = load(
        Source::Text {
            name: "t",
            text: &table,
        },
        &machine(),
    );
    assert!(loaded.is_ok(), "{table}\n{}", loaded.unwrap_err());
}

#[test]
fn the_later_of_two_and_the_first_at_an_address_are_served() {
    let text = "ftp stream tcp nowait root /bin/old old\nftp stream tcp nowait root /bin/new new\n21 stream tcp nowait root /bin/f f\n";
    let imported = read_as(text, Dialect::Debian);
    let off: Vec<bool> = imported.drafts.iter().map(|d| d.off.is_some()).collect();
    assert_eq!(off, [true, false, true]);
    let names: Vec<&str> = imported.drafts.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["ftp-tcp", "ftp", "21"]);
}

#[test]
fn bad_lines_are_pointed_at() {
    let said = faults("ftp stream tcp nowait root\n", Dialect::Debian);
    assert!(
        said.starts_with("inetd.conf:1:1: fields are missing: program\n"),
        "{said}"
    );
    let said = faults("ftp strem tcp nowait root /bin/f f\n", Dialect::Debian);
    assert!(
        said.contains("inetd.conf:1:5: no type is called \"strem\""),
        "{said}"
    );
    assert!(said.contains("did you mean \"stream\"?"), "{said}");
    assert!(said.contains("    ^^^^^\n"), "{said}");
    for bad in [
        "ftp stream udp nowait root /bin/f f",
        "ftp stream tpc nowait root /bin/f f",
        "ftp stream tcp root /bin/f f -x",
        "ftp stream tcp nowait.x root /bin/f f",
        "127.0.0.1: stream tcp nowait root /bin/f f",
    ] {
        assert!(!faults(bad, Dialect::Debian).is_empty(), "{bad}");
    }
}

#[test]
fn dialects_are_told_apart_where_they_can_be() {
    for (text, dialect) in [
        ("ftp stream tcp nowait root /bin/f f", Dialect::Debian),
        ("ftp stream tcp nowait/10 root /bin/f f", Dialect::FreeBsd),
        ("ftp stream tcp nowait:10 root /bin/f f", Dialect::NetBsd),
        ("ftp stream tcp6only nowait root /bin/f f", Dialect::Gnu),
        (
            "# $OpenBSD: inetd.conf,v 1.1\nftp stream tcp nowait root /bin/f f",
            Dialect::OpenBsd,
        ),
        ("ftp on protocol = tcp;", Dialect::NetBsd),
    ] {
        assert_eq!(Dialect::guess(text), dialect, "{text}");
    }
    assert!(looks_like_it("# c\nftp stream tcp nowait root /bin/f f\n"));
    assert!(looks_like_it(
        "#<off># ftp stream tcp nowait root /bin/f f\n"
    ));
    assert!(!looks_like_it("service ftp\n{\n socket_type = stream\n}\n"));
}

/// Pieces of which an entry of any dialect is made, and some that fit nowhere.
fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "ftp",
        "echo",
        "21",
        "stream",
        "dgram",
        "tcp",
        "udp",
        "tcp46",
        "udp6",
        "rpc/udp",
        "unix",
        "wait",
        "nowait",
        "nowait.3",
        "nowait/1/2/3",
        "root",
        "nobody:adm",
        "alice.www",
        "root/daemon",
        "internal",
        "/usr/sbin/tcpd",
        "/bin/f",
        "f",
        "#",
        "#@",
        "#<off>#",
        "#:X:",
        "\"",
        "'",
        "\\",
        ";",
        "=",
        ",",
        "on",
        "off",
        "protocol",
        "127.0.0.1:",
        "[::1]:ftp",
        "rusersd/2",
        "tcpmux/+a",
        "/run/s",
        ":a:b:660:/run/s",
        ".include",
        "\n",
        "\n",
        "\n ",
        "\r\n",
        "\t",
        "é",
        "\u{fffd}",
        "\0",
    ]);
    prop_oneof![8 => known.prop_map(str::to_owned), 1 => ".{0,12}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is in the file: no panic, and what is written passes the check.
    #[test]
    fn any_text_gives_a_table_that_passes(words in prop::collection::vec(word(), 0..40), which in 0..5_usize) {
        use Dialect::*;
        let dialect = [Debian, FreeBsd, NetBsd, OpenBsd, Gnu][which];
        let text = words.join(" ");
        let _ = (Dialect::guess(&text), looks_like_it(&text));
        let imported = read_as(&text, dialect);
        let table = write::table(&imported).text;
        let loaded = load(Source::Text { name: "t", text: &table }, &machine());
        prop_assert!(loaded.is_ok(), "{}\n{}\n{}", text, table, loaded.unwrap_err());
    }

    /// Entries that are right but for one word.
    #[test]
    fn nearly_right_entries_give_a_table_that_passes(at in 0..8_usize, odd in word(), which in 0..5_usize) {
        use Dialect::*;
        let dialect = [Debian, FreeBsd, NetBsd, OpenBsd, Gnu][which];
        let mut words: Vec<String> = "ftp stream tcp nowait root /bin/f f -l".split(' ').map(str::to_owned).collect();
        words[at] = odd;
        let text = words.join(" ");
        let imported = read_as(&text, dialect);
        let table = write::table(&imported).text;
        let loaded = load(Source::Text { name: "t", text: &table }, &machine());
        prop_assert!(loaded.is_ok(), "{}\n{}\n{}", text, table, loaded.unwrap_err());
    }
}
