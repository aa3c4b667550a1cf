//! Whole files: what becomes of them, and that the table of it can be loaded.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::table::host::Host;
use crate::table::host::tests::host;
use crate::table::import::hosts::Rules;
use crate::table::import::{Draft, settle, write};
use crate::table::names::Names;
use crate::table::source::Source;
use crate::table::{Table, load};

fn this_host() -> Host {
    Host {
        names: Names::new(
            "ftp 21/tcp\necho 7/tcp\ntime 37/tcp\ntftp 69/udp\npop3 110/tcp pop-3\n",
            "rusersd 100002\n",
        ),
        ..host(true)
    }
}

fn import_with(text: &str, rules: &Rules) -> Imported {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rlinetd.conf");
    fs::write(&path, text).unwrap();
    let host = this_host();
    let world = World {
        host: &host,
        hosts: rules,
        libwrap: false,
        ipv6: true,
        addresses: &[],
    };
    read(&path, &world)
}

fn import(text: &str) -> Imported {
    import_with(text, &Rules::default())
}

fn draft(text: &str) -> Draft {
    let imported = import(text);
    assert!(imported.faults.is_empty(), "{:?}", imported.faults);
    imported.drafts.into_iter().next().unwrap()
}

fn key(draft: &Draft, key: &str) -> String {
    draft
        .key(key)
        .map(|value| value.to_string().trim().to_owned())
        .unwrap_or_default()
}

fn table(text: &str) -> Table {
    let mut imported = import(text);
    let host = this_host();
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

#[test]
fn a_usual_service_has_its_keys() {
    let draft = draft(
        "defaults { instances 5; }\nservice \"mail\" {\n  # why\n  port \"pop-3\", 1110;\n  interface 192.0.2.1, ::1;\n  \
         exec \"/usr/sbin/in.pop3d -d\";\n  nice -5;\n  user \"git\";\n  rlimit nofile { soft 10; hard 20; }\n  rlimit cpu 15;\n}\n",
    );
    assert_eq!(draft.notes, []);
    for (name, value) in [
        (
            "listen",
            "[\"tcp:192.0.2.1:pop-3\", \"tcp:192.0.2.1:1110\", \"tcp:[::1]:pop-3\", \"tcp:[::1]:1110\"]",
        ),
        ("exec", "[\"/usr/sbin/in.pop3d\", \"-d\"]"),
        ("user", "\"git\""),
        ("groups", "[]"),
        ("nice", "-5"),
        ("limits.nofile", "{ soft = 10, hard = 20 }"),
        ("limits.cpu", "\"15s\""),
        ("instances", "5"),
        ("isolation", "\"none\""),
    ] {
        assert_eq!(key(&draft, name), value, "{name}");
    }
    assert_eq!((draft.origin.line, draft.source.len()), (2, 10));
}

#[test]
fn every_kind_of_service_loads() {
    let table = table(
        "service \"echo\" { loopback; }\nservice \"time\" { echo \"%M\"; close; }\n\
         service \"tftp\" { protocol udp; wait yes; family ipv4; exec \"/usr/sbin/in.tftpd\"; user \"root\"; initgroups; }\n\
         service \"rusersd\" { protocol udp; wait yes; user \"nobody\"; exec \"/usr/sbin/rpc.rusersd\"; rpc { version 2,4-6; } }\n\
         service \"ftp\" { enabled no; exec \"/usr/sbin/in.ftpd\"; capability \"cap_setuid,cap_chown=ep\"; }\n",
    );
    let shown: Vec<String> = table
        .services
        .iter()
        .map(|s| format!("{} {}", s.listen[0], s.enabled))
        .collect();
    assert_eq!(
        shown,
        [
            "tcp:7 true",
            "tcp:37 true",
            "udp4:69 true",
            "rpc-udp:100002/2 true",
            "tcp:21 false"
        ]
    );
}

#[test]
fn tcpd_asks_the_hosts_files() {
    let mut rules = Rules::default();
    rules.add(
        Path::new("/etc/hosts.deny"),
        "ftpd: 192.0.2.0/255.255.255.0\n",
        false,
    );
    for lines in [
        "tcpd \"ftpd\" { echo \"go away\"; exit; } exec \"/usr/sbin/ftpd\";",
        "server \"/usr/sbin/tcpd\"; exec \"/usr/sbin/ftpd -l\";",
    ] {
        let text = format!("service \"ftp\" {{ {lines} user \"git\"; }}");
        let draft = import_with(&text, &rules)
            .drafts
            .into_iter()
            .next()
            .unwrap();
        assert_eq!(key(&draft, "deny"), "[\"192.0.2.0/24\"]", "{lines}");
        assert!(
            key(&draft, "exec").starts_with("[\"/usr/sbin/ftpd\""),
            "{lines}"
        );
    }
}

#[test]
fn what_restricts_and_cannot_be_said_is_a_loss() {
    for line in ["chroot \"/srv\";", "filter \"/x\";", "capability \"what\";"] {
        assert!(
            draft(&format!("service \"ftp\" {{ exec \"/bin/a\"; {line} }}")).loses(),
            "{line}"
        );
    }
    for line in [
        "exec \"/bin/a %O\";",
        "exec \"a\";",
        "chargen \"/x\";",
        "port \"nosuch\"; loopback;",
        "rpc { name \"x\"; } loopback;",
    ] {
        assert!(
            draft(&format!("service \"ftp\" {{ {line} }}"))
                .keys
                .is_empty(),
            "{line}"
        );
    }
}

#[test]
fn what_rlinetd_does_not_start_with_is_a_fault() {
    for text in [
        "service ftp { }",
        "service \"ftp\" { colour 1; }",
        "service \"ftp\" {",
        "defaults { nice 1 }",
        "x",
        "log \"a\" {",
    ] {
        assert_eq!(import(text).faults.len(), 1, "{text}");
    }
}

#[test]
fn directories_are_read_after_the_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.conf", "a.conf", "c.bak", ".d"] {
        fs::write(
            folder.path().join(name),
            format!("service \"{name}\" {{ port 4000; loopback; }}"),
        )
        .unwrap();
    }
    let imported = import(&format!(
        "directory \"{}\" \"\" \"(~|\\.bak)$\";\nservice \"echo\" {{ loopback; }}\n",
        folder.path().display()
    ));
    let names: Vec<&str> = imported.drafts.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["echo", "a.conf", "b.conf"]);
    assert_eq!(imported.notes.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_text_is_too_strange(text in "\\PC*") {
        import(&text);
    }

    #[test]
    fn whatever_is_read_loads(words in prop::collection::vec(
        prop_oneof![prop::sample::select(parse::DIRECTIVES.to_vec()).prop_map(str::to_owned), "\"[a-z/%]{0,6}\"", "[0-9]{1,4}", "yes|no|udp|tcp|;|,|-|syslog"],
        0..20,
    )) {
        table(&format!("service \"ftp\" {{ exec \"/bin/a\"; {}; }}\nservice \"echo\" {{ loopback; }}", words.join(" ")));
    }
}
