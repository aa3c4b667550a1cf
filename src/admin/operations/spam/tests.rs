#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::UdpSocket;
use std::thread;

use super::*;
use crate::admin::operations::fake::{Fake, request_in};

/// A name server that answers each question with what `zone` has for its name.
fn name_server(codes: fn(&[u8]) -> Vec<[u8; 4]>) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let found = codes(&question[..length]);
            let code = if found.is_empty() { 3 } else { 0 };
            let answer = dns::tests::answer(&question[..length], code, &found);
            // First what somebody would send who guesses.
            let mut forged = dns::tests::answer(&question[..length], 0, &[[127, 0, 0, 9]]);
            forged[0] ^= 1;
            socket.send_to(&forged, from).unwrap();
            socket.send_to(&answer, from).unwrap();
        }
    });
    at
}

fn ask(address: &str, resolver: &str) -> Outcome {
    let asked = json!({ "address": address, "list": "bl.example", "resolver": resolver });
    check(
        &request_in(Path::new("/nowhere"), asked),
        &mut Fake::new(|_, _| panic!("it has no calls")),
    )
}

#[test]
fn a_block_list_is_asked_and_forged_answers_are_not_believed() {
    // 2.0.0.127 is what every list has for a test (RFC 5782, section 5).
    let server =
        name_server(
            |question| match question[12..].starts_with(b"\x012\x010\x010\x03127\x02bl") {
                true => vec![[127, 0, 0, 2], [127, 0, 0, 4]],
                false => Vec::new(),
            },
        );
    let listed = ask("127.0.0.2", &server).unwrap();
    assert_eq!(listed["listed"], true);
    assert_eq!(listed["codes"], json!(["127.0.0.2", "127.0.0.4"]));
    assert_eq!(ask("127.0.0.1", &server).unwrap()["listed"], false);
    assert_eq!(ask("2001:db8::1", &server).unwrap()["listed"], false);
    assert_eq!(
        ask("192.0.2.0/24", &server).unwrap_err().kind,
        Kind::Invalid
    );
}

#[test]
fn a_list_that_refuses_or_has_been_given_up_lists_nobody() {
    let refuses = name_server(|_| vec![[127, 255, 255, 254]]);
    assert_eq!(
        ask("127.0.0.2", &refuses).unwrap_err().kind,
        Kind::Unavailable
    );
    let parked = name_server(|_| vec![[192, 0, 2, 1]]);
    assert_eq!(
        ask("127.0.0.2", &parked).unwrap_err().kind,
        Kind::Unavailable
    );
}

#[test]
fn what_is_listed_is_in_force_or_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let asked = |prefix: &str| request_in(dir.path(), json!({ "list": "a", "prefix": prefix }));
    let mut works = Fake::new(|method, _| {
        assert_eq!(method, "ReloadLists");
        Ok(json!({}))
    });
    block(&asked("192.0.2.0/24"), &mut works).unwrap();
    block(&asked("2001:db8::/32"), &mut works).unwrap();
    let again = block(&asked("192.0.2.0/24"), &mut works).unwrap();
    assert_eq!(again["entries"], 2);
    let mut fails = Fake::new(|_, _| Err(Failed::new(Kind::Busy, "no")));
    assert!(block(&asked("198.51.100.0/24"), &mut fails).is_err());
    assert!(unlist(&asked("192.0.2.0/24"), &mut fails).is_err());
    let shown = list(&asked("x"), &mut works).unwrap();
    assert_eq!(shown["entries"], 2, "{shown}");
    assert_eq!(shown["prefixes"][0]["prefix"], "2001:db8::/32");
    unlist(&asked("192.0.2.0/24"), &mut works).unwrap();
    let gone = unlist(&asked("192.0.2.0/24"), &mut works).unwrap_err();
    assert_eq!(gone.kind, Kind::NotFound);
    let mut timed = asked("192.0.2.0/24");
    timed.parameters.0.insert("for".into(), json!(60_000));
    block(&timed, &mut works).unwrap();
    let shown = list(&asked("x"), &mut works).unwrap();
    let left = shown["prefixes"][1]["seconds_left"].as_u64().unwrap();
    assert!((1..=60).contains(&left), "{left}");
}

#[test]
fn a_service_changes_its_own_lines_alone() {
    let dir = tempfile::tempdir().unwrap();
    let asked = |prefix: &str, service: Option<&str>| {
        let mut request = request_in(dir.path(), json!({ "list": "a", "prefix": prefix }));
        request.caller.service = service.map(str::to_owned);
        request
    };
    let mut works = Fake::new(|_, _| Ok(json!({})));
    block(&asked("192.0.2.1", None), &mut works).unwrap();
    block(&asked("192.0.2.2", Some("mail")), &mut works).unwrap();
    for (whose, service) in [("192.0.2.1", "mail"), ("192.0.2.2", "ftp")] {
        let mut sooner = asked(whose, Some(service));
        let failed = unlist(&sooner, &mut works).unwrap_err();
        assert_eq!(failed.kind, Kind::Forbidden, "{failed}");
        sooner.parameters.0.insert("for".into(), json!(1000));
        let failed = block(&sooner, &mut works).unwrap_err();
        assert_eq!(failed.kind, Kind::Forbidden, "{failed}");
    }
    let shown = list(&asked("x", None), &mut works).unwrap();
    let by: Vec<&Value> = (0..2).map(|n| &shown["prefixes"][n]["by"]).collect();
    assert_eq!(by, ["uid 0", "service mail"]);
    unlist(&asked("192.0.2.2", Some("mail")), &mut works).unwrap();
    unlist(&asked("192.0.2.1", None), &mut works).unwrap();
}
