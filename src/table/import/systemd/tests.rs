//! Pairs of units: what becomes of them, and that the table of it can be loaded.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::table::host::tests::host;
use crate::table::import::hosts::Rules;
use crate::table::import::{settle, write};
use crate::table::source::Source;
use crate::table::{Activation, Serve, Stderr, Table, load};

/// Reads `x.socket` from a folder with these files.
fn import(files: &[(&str, &str)]) -> Imported {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let host = host(true);
    let world = World {
        host: &host,
        hosts: &Rules::default(),
        libwrap: false,
        ipv6: true,
        addresses: &[],
    };
    read(&folder.path().join("x.socket"), &world)
}

fn pair(socket: &str, service: &str) -> Draft {
    let socket = format!("[Socket]\n{socket}\n");
    let service = format!("[Service]\nExecStart=/usr/sbin/server\nUser=git\n{service}\n");
    let files = [
        ("x.socket", socket.as_str()),
        ("x.service", &service),
        ("x@.service", &service),
    ];
    import(&files).drafts.into_iter().next().unwrap()
}

/// With a socket for each connection on descriptor 0.
fn inetd(service: &str) -> Draft {
    pair(
        "ListenStream=4000\nAccept=yes\nTriggerLimitBurst=0",
        &format!("StandardInput=socket\n{service}"),
    )
}

fn key(draft: &Draft, key: &str) -> String {
    draft
        .key(key)
        .map(|value| value.to_string().trim().to_owned())
        .unwrap_or_default()
}

/// What was said, without remarks.
fn effects(draft: &Draft) -> Vec<Effect> {
    let all = draft.notes.iter().map(|note| note.effect);
    all.filter(|effect| *effect != Effect::Remark).collect()
}

fn table(draft: Draft) -> Table {
    let mut imported = Imported {
        drafts: vec![draft],
        ..Imported::default()
    };
    let host = host(true);
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
fn a_server_for_each_connection_is_as_under_inetd() {
    let draft = inetd("StandardError=journal");
    assert_eq!(effects(&draft), [], "{:?}", draft.notes);
    let table = table(draft);
    let service = &table.services[0];
    assert_eq!(service.name, "x");
    assert!(service.enabled && !service.rules.wait);
    assert_eq!(service.rules.instances, 64);
    let Serve::Exec(exec) = &service.serve else {
        panic!()
    };
    assert_eq!(
        (exec.activation, exec.stderr),
        (Activation::Inetd, Stderr::Log)
    );
}

#[test]
fn a_server_that_takes_the_listening_sockets_gets_all_of_them() {
    let draft = pair(
        "ListenStream=4000\nListenStream=/run/x.sock\nListenDatagram=4001",
        "",
    );
    assert_eq!(
        key(&draft, "listen"),
        "[\"tcp:4000\", \"unix:/run/x.sock\", \"udp:4001\"]"
    );
    assert_eq!(key(&draft, "wait"), "true");
    assert_eq!(key(&draft, "activation"), "\"listen-fds\"");
    assert_eq!(key(&draft, "socket.mode"), "\"0666\"");
    assert_eq!(key(&draft, "rate"), "\"10/s burst 20\"");
    let table = table(draft);
    assert!(table.services[0].enabled && table.services[0].rules.whole);
}

#[test]
fn stderr_goes_where_stdout_goes() {
    for (lines, stderr) in [
        ("", "\"socket\""),
        ("StandardError=null", "\"null\""),
        ("StandardError=socket", "\"socket\""),
        ("StandardError=journal", ""),
        ("StandardOutput=journal", ""),
    ] {
        assert_eq!(key(&inetd(lines), "stderr"), stderr, "{lines}");
    }
}

#[test]
fn command_lines_are_taken_apart() {
    for (line, exec) in [
        (
            "/bin/a \"b c\" $X ${X}y $$z",
            "[\"/bin/a\", \"b c\", \"1\", \"2\", \"1 2y\", \"$z\"]",
        ),
        ("-/bin/a %%i", "[\"/bin/a\", \"%i\"]"),
        (":/bin/a $X", "[\"/bin/a\", \"$X\"]"),
        ("server -d", "[\"/usr/local/sbin/server\", \"-d\"]"),
    ] {
        let draft = inetd(&format!(
            "ExecStart=\nEnvironment=\"X=1 2\"\nExecStart={line}"
        ));
        assert_eq!(key(&draft, "exec"), exec, "{line}");
    }
    let named = inetd("ExecStart=\nExecStart=@/bin/a other -d");
    assert_eq!(
        (key(&named, "exec"), key(&named, "argv0")),
        ("[\"/bin/a\", \"-d\"]".into(), "\"other\"".into())
    );
    for line in [
        "/bin/a %i",
        "/bin/a \"b",
        "/bin/a ; /bin/b",
        "/bin/a\nExecStart=/bin/b",
    ] {
        let draft = inetd(&format!("ExecStart=\nExecStart={line}"));
        assert!(draft.keys.is_empty(), "{line}");
    }
}

#[test]
fn drop_ins_count_last_and_an_empty_value_begins_anew() {
    let imported = import(&[
        (
            "x.socket",
            "[Socket]\nListenStream=4000\nAccept=yes\nMaxConnections=5\n",
        ),
        (
            "x.socket.d/10-port.conf",
            "[Socket]\nListenStream=\nListenStream=4001\n",
        ),
        ("x.socket.d/20-more.conf", "[Socket]\nMaxConnections=7\n"),
        ("x.socket.d/ignored", "[Socket]\nMaxConnections=9\n"),
        (
            "x@.service",
            "[Service]\nExecStart=/bin/a\nStandardInput=socket\n",
        ),
    ]);
    assert_eq!(imported.files.len(), 4);
    let draft = &imported.drafts[0];
    assert_eq!(key(draft, "listen"), "\"tcp:4001\"");
    assert_eq!(key(draft, "instances"), "7");
    assert_eq!(key(draft, "user"), "\"root\"", "who says nothing is root");
}

#[test]
fn whoever_is_in_the_allow_list_comes_in() {
    let of = |lines: &str| {
        table(pair(&format!("ListenStream=4000\n{lines}"), "")).services[0]
            .rules
            .access
            .clone()
    };
    let permits = |lines: &str, peer: &str| of(lines).permits(peer.parse().unwrap());
    let both = "IPAddressDeny=any\nIPAddressAllow=localhost 192.0.2.0/24";
    assert!(permits(both, "192.0.2.1") && permits(both, "127.0.0.1") && permits(both, "::1"));
    assert!(!permits(both, "198.51.100.1") && !permits(both, "2001:db8::1"));
    let within = "IPAddressDeny=192.0.2.0/24 192.0.2.128/25\nIPAddressAllow=192.0.2.128/26";
    assert!(
        permits(within, "192.0.2.129")
            && permits(within, "198.51.100.1")
            && permits(within, "2001:db8::1")
    );
    assert!(!permits(within, "192.0.2.1") && !permits(within, "192.0.2.193"));
    assert!(of("IPAddressAllow=192.0.2.0/24").is_open());
    let draft = pair(&format!("ListenStream=4000\n{both}"), "");
    assert!(draft.loses(), "what the server sends is no longer filtered");
    assert!(!pair(&format!("ListenStream=4000\n{both}"), "PrivateNetwork=yes").loses());
}

#[test]
fn what_is_taken_from_the_server_is_taken_here() {
    for (lines, isolation) in [
        ("", "\"none\""),
        (
            "NoNewPrivileges=yes",
            "{ preset = \"none\", no_new_privs = \"require\" }",
        ),
        (
            "PrivateTmp=true\nProtectHome=yes",
            "{ preset = \"none\", tmp = \"private\", home = \"hidden\" }",
        ),
        (
            "RestrictAddressFamilies=AF_INET AF_UNIX",
            "{ preset = \"none\", seccomp = \"require\", address_families = [\"unix\", \"inet\"] }",
        ),
        (
            "AmbientCapabilities=CAP_NET_RAW",
            "{ preset = \"none\", capability_bounds = \"require\", capabilities = [\"net_raw\"] }",
        ),
        (
            "SystemCallFilter=~@mount kexec_load",
            "{ preset = \"none\", seccomp = \"require\", deny_calls = [\"@mount\", \"kexec_load\"] }",
        ),
    ] {
        let draft = inetd(lines);
        assert_eq!(key(&draft, "isolation"), isolation);
        assert!(!draft.loses(), "{lines}: {:?}", draft.notes);
        assert!(table(draft).services[0].enabled, "{lines}");
    }
    let strict = inetd(
        "ProtectSystem=strict\nReadWritePaths=/srv/x\nPrivateDevices=yes\nPrivateNetwork=yes\nPrivateUsers=yes\n\
         ProtectProc=invisible\nMemoryDenyWriteExecute=yes\nLockPersonality=yes\nSystemCallFilter=@system-service\n\
         CapabilityBoundingSet=\nRestrictRealtime=yes\nInaccessiblePaths=-/srv/y",
    );
    assert!(!strict.loses(), "{:?}", strict.notes);
    assert!(table(strict).services[0].enabled);
}

#[test]
fn limits_and_surroundings_come_with_their_values() {
    let draft = inetd(
        "LimitNOFILE=10:20\nLimitCPU=1min\nLimitAS=infinity\nUMask=0077\nNice=5\nOOMScoreAdjust=100\nCPUAffinity=0 1-2\n\
         MemoryMax=64M\nTasksMax=10\nCPUQuota=50%\nRuntimeMaxSec=5min\nKillSignal=SIGINT\nTimeoutStopSec=7\n\
         SupplementaryGroups=adm\nWorkingDirectory=/var\nEnvironment=A=1 \"B=x y\"\nPassEnvironment=LANG\n\
         IOSchedulingClass=idle\nStateDirectory=x",
    );
    assert_eq!(
        effects(&draft),
        [Effect::Changed],
        "only the cgroup is another: {:?}",
        draft.notes
    );
    let table = table(draft);
    let Serve::Exec(exec) = &table.services[0].serve else {
        panic!()
    };
    assert_eq!(exec.limits.len(), 3);
    assert_eq!(
        (exec.umask, exec.nice, exec.oom_score),
        (0o077, Some(5), Some(100))
    );
    assert_eq!(exec.env.len(), 2);
    assert_eq!(exec.cpus, [0, 1, 2]);
    assert_eq!(exec.resources.memory, Some(64 << 20));
    assert_eq!(exec.state.as_deref(), Some("x"));
}

#[test]
fn a_key_that_nobody_knows_is_a_loss() {
    for line in [
        "RestrictSUIDSGID=yes",
        "RootDirectory=/srv",
        "IOReadBandwidthMax=/dev/x 1M",
        "ExecCondition=/bin/a",
        "LimitNOFILE=many",
    ] {
        assert!(inetd(line).loses(), "{line}");
    }
    for line in [
        "Restart=on-failure",
        "RestrictSUIDSGID=no",
        "SyslogIdentifier=x",
        "X-Mine=1",
    ] {
        assert_eq!(effects(&inetd(line)), [], "{line}");
    }
    assert_eq!(
        effects(&inetd("ExecStartPre=/bin/a")),
        [Effect::Unsupported]
    );
}

#[test]
fn conditions_about_paths_are_looked_at_once() {
    let with = |condition: &str| {
        let socket = format!("[Unit]\n{condition}\n[Socket]\nListenStream=4000\n");
        let files = [
            ("x.socket", socket.as_str()),
            ("x.service", "[Service]\nExecStart=/bin/a\n"),
        ];
        import(&files).drafts.into_iter().next().unwrap()
    };
    assert!(with("ConditionPathExists=/nonexistent").off.is_some());
    assert!(with("ConditionPathExists=!/nonexistent").off.is_none());
    assert!(with("ConditionVirtualization=vm").loses());
}

#[test]
fn what_cannot_be_carried_over_says_why() {
    for socket in [
        "ListenFIFO=/run/x",
        "ListenNetlink=audit 1",
        "ListenStream=host:80",
        "",
        "ListenDatagram=1\nAccept=yes",
    ] {
        let draft = pair(socket, "");
        assert!(draft.keys.is_empty() && draft.off.is_some(), "{socket}");
    }
    let alone = import(&[("x.socket", "[Socket]\nListenStream=4000\n")]);
    assert!(alone.drafts[0].keys.is_empty());
}

/// The guide has every key that says how a service is carried over by name.
#[test]
fn the_guide_has_a_section() {
    let guide =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/migrating.md")).unwrap();
    let (_, ours) = guide
        .split_once("\n## From systemd's socket units\n")
        .unwrap();
    for key in [
        "Accept=",
        "MaxConnections=",
        "IPAddressDeny=",
        "ExecStart=",
        "SystemCallFilter=",
        "TriggerLimitBurst=",
    ] {
        assert!(ours.contains(key), "{key}");
    }
}

fn line() -> impl Strategy<Value = String> {
    let keys: Vec<&'static str> = leftovers::DONE.to_vec();
    let values = prop::sample::select(vec![
        "",
        "yes",
        "no",
        "infinity",
        "7",
        "-1",
        "/run/x",
        "4000",
        "strict",
        "~",
        "~@mount",
        "any",
        "CAP_CHOWN",
        "a b",
        "%i",
        "socket",
        "\"x",
        "10:20",
        "5min",
        "64M",
        "0-1",
        "AF_INET",
        "idle",
    ]);
    (
        prop::sample::select(keys),
        prop_oneof![values.prop_map(str::to_owned), "\\PC{0,8}"],
    )
        .prop_map(|(key, value)| format!("{key}={value}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_unit_is_too_strange(text in "\\PC*") {
        import(&[("x.socket", &text), ("x.service", &text)]);
    }

    #[test]
    fn whatever_is_read_loads(socket in prop::collection::vec(line(), 0..6), service in prop::collection::vec(line(), 0..8)) {
        table(pair(&format!("ListenStream=4000\n{}", socket.join("\n")), &service.join("\n")));
    }
}
