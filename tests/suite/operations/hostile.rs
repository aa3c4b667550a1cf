//! Callers who mean harm: what they say is refused, and nobody else notices.

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg};
use serde_json::{Value, json};

use super::runtime::catalogue;
use super::{asking, order, run};
use crate::common::process::descriptors;
use crate::common::*;
use crate::control::{admin, cat, refused, socket};
use crate::tests;

tests![
    a_forged_call_is_no_call,
    a_parameter_of_another_type_is_refused,
    a_path_leads_nowhere_else,
    an_argument_is_no_option,
    descriptors_that_come_with_a_call_are_closed,
    callers_that_vanish_leave_nothing,
    a_call_that_is_said_again_is_another_request,
    a_thousand_requests_at_once_are_all_answered,
    what_is_left_of_an_instance_asks_for_nothing,
    a_connection_is_worth_no_more_than_its_instance,
    a_service_names_only_what_is_its_own,
    a_server_whose_service_is_gone_is_no_operator,
    rights_of_usherd_are_not_given_away,
    nobody_but_its_process_speaks_for_an_operation,
    whoever_has_a_number_by_now_is_not_who_called,
];

const PROBE: &str = r#"
[operation."test.all"]
description = "Takes one of each"
result = "output"
exec = ["/usr/bin/printf", "%s\n", "{text}", "{choice}"]
services = true
concurrency = 16
[operation."test.all".parameters]
text = { type = "string", pattern = "[a-z]+", max_length = 8, description = "A text" }
number = { type = "integer", min = 1, max = 9, optional = true, description = "A number" }
flag = { type = "boolean", optional = true, description = "A flag" }
choice = { type = "choice", of = ["red", "blue"], optional = true, description = "A choice" }
path = { type = "path", roots = ["/srv", "/var/lib/x"], optional = true, description = "A path" }
address = { type = "prefix", optional = true, description = "An address" }
span = { type = "duration", max = "1h", optional = true, description = "A duration" }
room = { type = "size", max = "1M", optional = true, description = "A size" }
"#;

/// A call that is right.
const WELL: &[u8] = b"{\"method\":\"org.usherd.Admin.Run\",\"parameters\":{\"operation\":\"test.all\",\"parameters\":{\"text\":\"well\"}}}\0";

fn start(dir: &Dir, services: &str) -> Daemon {
    catalogue(dir, PROBE);
    Daemon::start(dir, services)
}

fn still_serves(dir: &Dir) {
    let result = run(dir, "test.all", &json!({ "text": "well" })).unwrap();
    assert!(result["output"].as_str().unwrap().contains("well"));
}

/// All that comes back for `bytes`.
fn say(dir: &Dir, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket(dir, "admin.sock")).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // It may be closed before all is written.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    all
}

fn a_forged_call_is_no_call() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let daemon = start(&dir, &cat(port, ""));
    let run = r#"{"method":"org.usherd.Admin.Run","parameters":"#;
    let deep = format!("{run}{}", "[".repeat(60_000));
    let long = format!("{run}{{\"operation\":\"{}\"}}}}\0", "x".repeat(70_000));
    let endless = "x".repeat(1 << 20);
    for forged in [
        "\0",
        "null\0",
        "[]\0",
        "{\"method\":[]}\0",
        "{\"method\":\"org.usherd.Admin.Run\",\"method\":\"org.usherd.Admin.Run\"}\0",
        "{\"method\":\"org.usherd.Admin.Run\"\0",
        "\u{feff}{\"method\":\"org.usherd.Admin.Run\"}\0",
        &format!("{deep}\0"),
        &long,
        &endless,
    ] {
        let said = say(&dir, forged.as_bytes());
        let text = String::from_utf8_lossy(&said);
        assert!(!text.contains("result"), "{forged:.60}: {text}");
    }
    assert!(!say(&dir, b"\xff\xfe\0").windows(6).any(|w| w == b"result"));
    for (parameters, error) in [
        (r#"{"operation":5}"#, "InvalidParameter"),
        (
            r#"{"operation":"test.all","parameters":[]}"#,
            "InvalidParameter",
        ),
        (
            r#"{"operation":"test.all","parameters":{"text":"a"},"as":"root"}"#,
            "InvalidParameter",
        ),
        (
            r#"{"operation":"test.all","parameters":{"text":"a"},"dry_run":"yes"}"#,
            "InvalidParameter",
        ),
        (r#"{"operation":"../test.all"}"#, "NoSuchOperation"),
        (r#"{"operation":"test.all\u0000"}"#, "NoSuchOperation"),
        (r#"{}"#, "InvalidParameter"),
    ] {
        let said = say(&dir, format!("{run}{parameters}}}\0").as_bytes());
        let text = String::from_utf8_lossy(&said);
        assert!(text.contains(error), "{parameters}: {text}");
    }
    still_serves(&dir);
    assert!(daemon.is_running());
}

fn wrong(dir: &Dir, parameters: &Value) -> String {
    let (name, told) = refused(run(dir, "test.all", parameters));
    assert!(name.ends_with(".WrongParameter"), "{parameters}: {name}");
    told["parameter"].as_str().unwrap().to_owned()
}

fn a_parameter_of_another_type_is_refused() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, &cat(port, ""));
    let strange = [
        json!(null),
        json!(true),
        json!(7),
        json!(-1),
        json!(3.5),
        json!(1e300),
        json!(u64::MAX),
        json!([]),
        json!({}),
        json!(["well"]),
        json!(""),
        json!("7"),
        json!("\u{0}"),
        json!("a\nb"),
        json!("WELL"),
        json!("wellwellwell"),
        json!("10.0.0.1/33"),
        json!("2h"),
        json!("2M"),
    ];
    let fits = |name: &str, value: &Value| match name {
        _ if value.is_null() => name != "text", // not given
        "number" => *value == json!(7),
        "flag" => value.is_boolean(),
        _ => false,
    };
    for name in [
        "text", "number", "flag", "choice", "path", "address", "span", "room",
    ] {
        for value in strange.iter().filter(|value| !fits(name, value)) {
            let mut parameters = json!({ "text": "well" });
            parameters[name] = value.clone();
            assert_eq!(wrong(&dir, &parameters), name, "{parameters}");
        }
    }
    assert_eq!(wrong(&dir, &json!({})), "text");
    assert_eq!(
        wrong(&dir, &json!({ "text": "well", "user": "root" })),
        "user"
    );
    still_serves(&dir);
}

fn a_path_leads_nowhere_else() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, &cat(port, ""));
    for path in [
        "srv/x",
        "/srv/../etc/shadow",
        "/srv/./x",
        "/srv//x",
        "/srvx",
        "/etc/shadow",
        "/var/lib/x/../y",
        "/srv/x/",
        "/srv/x\u{0}",
        "/",
        "~root",
        "file:///srv/x",
    ] {
        assert_eq!(
            wrong(&dir, &json!({ "text": "well", "path": path })),
            "path",
            "{path}"
        );
    }
    assert!(
        run(
            &dir,
            "test.all",
            &json!({ "text": "well", "path": "/srv/x" })
        )
        .is_ok()
    );
}

fn an_argument_is_no_option() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, &cat(port, ""));
    for text in [
        "-v",
        "--version",
        "-",
        "a b",
        "a;b",
        "$(a)",
        "`a`",
        "a\u{202e}b",
    ] {
        assert_eq!(wrong(&dir, &json!({ "text": text })), "text", "{text}");
    }
    for choice in ["green", "--red", "red,blue", "Red"] {
        assert_eq!(
            wrong(&dir, &json!({ "text": "well", "choice": choice })),
            "choice"
        );
    }
}

fn descriptors_that_come_with_a_call_are_closed() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let daemon = start(&dir, &cat(port, ""));
    let stream = UnixStream::connect(socket(&dir, "admin.sock")).unwrap();
    still_serves(&dir);
    let null = std::fs::File::open("/dev/null").unwrap();
    let many = [null.as_raw_fd(); 250];
    let before = descriptors(daemon.pid).len();
    for _ in 0..40 {
        let with = [ControlMessage::ScmRights(&many)];
        let sent = sendmsg::<()>(
            stream.as_raw_fd(),
            &[IoSlice::new(WELL)],
            &with,
            MsgFlags::empty(),
            None,
        );
        assert_eq!(sent, Ok(WELL.len()));
        let (mut answer, mut octet) = (Vec::new(), [0]);
        while octet[0] != 0 || answer.is_empty() {
            (&stream).read_exact(&mut octet).unwrap();
            answer.push(octet[0]);
        }
        assert!(String::from_utf8_lossy(&answer).contains("well"));
        let now = descriptors(daemon.pid);
        assert!(
            !now.values()
                .any(|to| to == "/dev/null" && before + 20 < now.len()),
            "{now:?}"
        );
    }
    drop(stream);
    until("as many descriptors as before", SOON, || {
        (descriptors(daemon.pid).len() <= before).then_some(())
    });
}

fn callers_that_vanish_leave_nothing() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let daemon = start(&dir, &cat(port, ""));
    still_serves(&dir);
    let before = descriptors(daemon.pid).len();
    for cut in (0..=WELL.len()).step_by(3) {
        let mut stream = UnixStream::connect(socket(&dir, "admin.sock")).unwrap();
        stream.write_all(&WELL[..cut]).unwrap();
    }
    until("as many descriptors as before", SOON * 2, || {
        (descriptors(daemon.pid).len() <= before).then_some(())
    });
    let operations = |pid| {
        process::children(pid)
            .into_iter()
            .filter(|child| process::argv0(*child).contains("operation"))
    };
    until("no process of an operation", SOON, || {
        (operations(daemon.pid).count() == 0).then_some(())
    });
    still_serves(&dir);
}

fn a_thousand_requests_at_once_are_all_answered() {
    const MANY: usize = 1000;
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let daemon = start(&dir, &cat(port, ""));
    let asked = json!({ "operation": "test.all", "parameters": { "text": "well" } });
    let mut clients = Vec::new();
    for _ in 0..MANY {
        let mut client = admin(&dir);
        client.watch("org.usherd.Admin.Run", &asked).unwrap();
        clients.push(client);
    }
    assert_eq!(crate::common::peer::ask(port, "meanwhile\n"), "meanwhile\n");
    for client in &mut clients {
        let (reply, _): (Value, bool) = client.next_reply().unwrap();
        assert!(reply["result"]["output"].as_str().unwrap().contains("well"));
    }
    assert!(daemon.is_running());
}

fn what_is_left_of_an_instance_asks_for_nothing() {
    needs_root();
    for preset in ["none", "standard"] {
        let (dir, port) = (Dir::new(), free_port());
        let services = asking(
            &dir,
            "mail",
            port,
            preset,
            "admin = [\"test.all\"]\nuser = \"mail\"",
        );
        let daemon = start(&dir, &services);
        let mut server = Peer::tcp(port);
        let asked = "run test.all {\"text\":\"well\"}";
        assert!(order(&mut server, asked)["result"].is_object(), "{preset}");
        server.send("leave\n");
        daemon.log.wait_for("exited");
        let said = order(&mut server, asked);
        let error = said["error"].as_str().unwrap_or_default();
        assert!(
            ["PermissionDenied", "NotPermitted"].contains(&error),
            "{preset}: {said}"
        );
    }
}

fn a_service_names_only_what_is_its_own() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let operations = format!(
        "{PROBE}\n[operation.\"test.own\"]\ndescription = \"Names a service\"\nresult = \"output\"\n\
         exec = [\"/usr/bin/printf\", \"%s\", \"{{service}}\", \"{{name}}\"]\nservices = true\n\
         [operation.\"test.own\".parameters]\n\
         service = {{ type = \"service\", own = true, description = \"Whose\" }}\n\
         name = {{ type = \"string\", pattern = \"[a-z-]+\", optional = true, description = \"A name\" }}\n"
    );
    let list = "admin = [{ operation = \"test.own\", with = { name = [\"mail-*\", \"post\"] } }]\nuser = \"mail\"";
    let services = asking(&dir, "mail", port, "strict", list) + &cat(free_port(), "");
    catalogue(&dir, &operations);
    let _daemon = Daemon::start(&dir, &services);
    let mut server = Peer::tcp(port);
    let mut ask = |parameters: Value| order(&mut server, &format!("run test.own {parameters}"));
    assert_eq!(
        ask(json!({ "name": "post" }))["result"]["output"],
        "mailpost",
        "itself, if it names nobody"
    );
    assert_eq!(
        ask(json!({ "service": "mail", "name": "post" }))["result"]["output"],
        "mailpost"
    );
    assert_eq!(
        ask(json!({ "service": "cat", "name": "post" }))["error"],
        "NotPermitted"
    );
    assert_eq!(
        ask(json!({ "name": "mail-ada" }))["result"]["output"],
        "mailmail-ada"
    );
    assert_eq!(ask(json!({ "name": "root" }))["error"], "NotPermitted");
    assert_eq!(
        run(
            &dir,
            "test.own",
            &json!({ "service": "cat", "name": "root" })
        )
        .unwrap()["output"],
        "catroot"
    );
}

fn nobody_but_its_process_speaks_for_an_operation() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, &cat(port, ""));
    for method in ["Begin", "Finish", "Fail", "Progress"] {
        let outcome = admin(&dir).call(&format!("org.usherd.Operation.{method}"), &json!({}));
        let (name, _) = refused(outcome);
        assert_eq!(name, "org.varlink.service.InterfaceNotFound", "{method}");
    }
}

fn a_server_whose_service_is_gone_is_no_operator() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let table = asking(
        &dir,
        "mail",
        port,
        "standard",
        "admin = [\"test.all\"]\nuser = \"mail\"",
    );
    catalogue(
        &dir,
        &PROBE.replace(
            "services = true",
            "services = true\noperators = { users = [\"mail\"] }",
        ),
    );
    let daemon = Daemon::start(&dir, &table);
    let mut server = Peer::tcp(port);
    assert_eq!(order(&mut server, "hold")["ok"], true);
    let asked = "again test.all {\"text\":\"well\"}";
    assert!(order(&mut server, asked)["result"].is_object());
    assert!(daemon.reload(&dir, &cat(free_port(), "")));
    let said = order(&mut server, asked);
    let error = said["error"].as_str().unwrap_or_default();
    assert!(
        ["PermissionDenied", "NotPermitted"].contains(&error),
        "{said}"
    );
}

fn rights_of_usherd_are_not_given_away() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let operations = "[operation.\"test.group\"]\ndescription = \"Names a group\"\nresult = \"output\"\n\
         exec = [\"/bin/true\"]\nservices = true\noperators = { groups = [\"games\"] }\n\
         [operation.\"test.group\".parameters]\n\
         group = { type = \"group\", list = true, description = \"Which\" }\n\
         [operation.\"test.user\"]\ndescription = \"Names a user\"\nresult = \"output\"\n\
         exec = [\"/bin/true\"]\nservices = true\n\
         [operation.\"test.user\".parameters]\n\
         user = { type = \"user\", description = \"Whom\" }\n";
    catalogue(&dir, operations);
    let table = asking(
        &dir,
        "mail",
        port,
        "standard",
        "admin = [\"test.group\", \"test.user\"]\nuser = \"mail\"",
    );
    let _daemon = Daemon::start(&dir, &table);
    let mut server = Peer::tcp(port);
    let mut ask_for = |operation: &str, parameters: Value| {
        order(&mut server, &format!("run {operation} {parameters}"))
    };
    // One is in the group that has rights, by the entry that it has in passwd(5).
    assert!(ask_for("test.user", json!({ "user": "man" }))["result"].is_object());
    let said = ask_for("test.user", json!({ "user": "games" }));
    assert_eq!(said["error"], "NotPermitted", "{said}");
    let mut ask = |groups: Value| ask_for("test.group", json!({ "group": groups }));
    assert!(ask(json!(["tape"]))["result"].is_object());
    let said = ask(json!(["tape", "games"]));
    assert_eq!(said["error"], "NotPermitted", "{said}");
    assert!(
        run(&dir, "test.group", &json!({ "group": ["games"] })).is_ok(),
        "root may"
    );
}

fn a_call_that_is_said_again_is_another_request() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, &cat(port, ""));
    let twice = [WELL, WELL].concat();
    let said = String::from_utf8(say(&dir, &twice)).unwrap();
    assert_eq!(said.matches("\"result\"").count(), 2, "{said}");
    say(&dir, WELL);
    let log = std::fs::read_to_string(format!("{}/audit/audit.log", dir.file("state"))).unwrap();
    let entries = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (asked, done): (Vec<_>, Vec<_>) = entries
        .filter(|entry| entry["kind"] != "opened")
        .partition(|entry| entry["kind"] == "asked");
    assert_eq!((asked.len(), done.len()), (3, 3), "{log}");
}

fn a_connection_is_worth_no_more_than_its_instance() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let services = asking(
        &dir,
        "mail",
        port,
        "none",
        "admin = [\"test.all\"]\nuser = \"mail\"",
    );
    let daemon = start(&dir, &services);
    let mut server = Peer::tcp(port);
    assert_eq!(order(&mut server, "hold")["ok"], true);
    // Somebody else has it now, as if it had been passed on; whoever made it goes, and with
    // the last of its processes its number.
    let pid = daemon.wait_servers(1)[0];
    let open = descriptors(pid);
    let held = open
        .iter()
        .find(|(number, to)| **number > 2 && to.starts_with("socket:"));
    let held = steal::steal(pid, *held.unwrap().0).unwrap();
    let mut held = UnixStream::from(held);
    held.set_read_timeout(Some(SOON)).unwrap();
    let mut ask = || {
        held.write_all(b"{\"method\":\"org.usherd.Admin.Run\",\"parameters\":{\"operation\":\"test.all\",\"parameters\":{\"text\":\"well\"}}}\0").unwrap();
        let (mut said, mut octet) = (Vec::new(), [1]);
        while octet[0] != 0 {
            held.read_exact(&mut octet).unwrap();
            said.push(octet[0]);
        }
        String::from_utf8(said).unwrap()
    };
    assert!(ask().contains("\"result\""), "as long as it runs");
    server.finish();
    daemon.log.wait_for("exited");
    let said = ask();
    assert!(
        said.contains("NotPermitted") && said.contains("has ended"),
        "{said}"
    );
}

/// Another process with the number of one that has been reaped.
fn recycle(pid: u32) -> Child {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    until("the same number again", SOON, || {
        if let Err(err) = std::fs::write(LAST, (pid - 1).to_string()) {
            skip(format!("unable to say which number comes next: {err}"));
        }
        let mut next = Command::new("/bin/sleep").arg("600").spawn().unwrap();
        if next.id() == pid {
            return Some(next);
        }
        let _ = next.kill();
        let _ = next.wait();
        None
    })
}

fn whoever_has_a_number_by_now_is_not_who_called() {
    const CALL: &str = "import signal, socket, sys\n\
        socket.socket(fileno=0).connect(sys.argv[1])\n\
        print('called', flush=True)\n\
        signal.pause()";
    needs_root();
    let python = needs("python3", "python3");
    let (dir, port) = (Dir::new(), free_port());
    let daemon = start(&dir, &cat(port, ""));
    let (one, _other) = UnixStream::pair().unwrap();
    if usherd::sys::peer::peer_pidfd(one.as_fd()).is_err() {
        skip("needs SO_PEERPIDFD (Linux 6.5)");
    }
    for ended in [false, true] {
        // The helper looks at who called only when all is done.
        daemon.signal(Signal::SIGSTOP);
        let kind = SockFlag::SOCK_CLOEXEC;
        let ours = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, kind, None);
        let ours = ours.unwrap();
        let mut caller = Command::new(&python)
            .args(["-c", CALL])
            .arg(socket(&dir, "admin.sock"))
            .stdin(ours.try_clone().unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 7];
        caller.stdout.take().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"called\n");
        let mut processes = Vec::new();
        if ended {
            caller.kill().unwrap();
            caller.wait().unwrap();
            // As much root as the caller was.
            processes.push(recycle(caller.id()));
        }
        processes.push(caller);
        daemon.signal(Signal::SIGCONT);
        let mut stream = UnixStream::from(ours);
        stream.set_read_timeout(Some(SOON)).unwrap();
        // It may be closed already.
        let _ = stream.write_all(WELL);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert_eq!(answer.contains("\"result\""), !ended, "{answer}");
        for mut process in processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
    daemon.log.wait_for("a call on admin.sock was denied");
    still_serves(&dir);
}
