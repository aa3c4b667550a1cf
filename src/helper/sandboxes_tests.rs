//! Whose turn it is.
#![allow(clippy::unwrap_used, reason = "tests")]

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use super::*;
use crate::helper::start::On;
use crate::ids::{ConnectionId, ListenerId};

fn ask(service: ServiceId) -> Ask {
    Ask {
        connection: ConnectionId(0),
        service,
        listener: ListenerId(0),
        on: On::Listener(None),
        waits: 0,
    }
}

#[test]
fn a_service_with_many_that_wait_holds_up_no_other() {
    let now = Instant::now();
    let mut all = Sandboxes::default();
    let (many, one) = (ServiceId(1), ServiceId(2));
    let blueprint = Rc::new(Blueprint::default());
    let wait = |all: &mut Sandboxes, service| {
        let found = all.take(service, &blueprint, service == many, now);
        assert!(matches!(found, Found::Nothing));
        all.wait(ask(service));
    };
    let null = || std::fs::File::open("/dev/null").unwrap().into();
    (0..20).for_each(|_| wait(&mut all, many));
    for _ in 0..MOST_AT_WORK - 1 {
        let (service, blueprint) = all.to_build(|_| 0).unwrap();
        all.began(service, blueprint, null(), now);
    }
    wait(&mut all, one);
    assert_eq!(all.to_build(|_| 0).unwrap().0, one);
    all.began(one, Rc::clone(&blueprint), null(), now);
    assert!(all.to_build(|_| 0).is_none(), "so many at once");
}

#[test]
fn what_is_for_later_waits_for_the_server_that_just_began() {
    let now = Instant::now();
    let mut all = Sandboxes::default();
    let (blueprint, service) = (Rc::new(Blueprint::default()), ServiceId(1));
    all.take(service, &blueprint, true, now);
    assert!(all.to_build(|_| 0).is_some());
    all.touch(service, now);
    assert!(all.to_build(|_| 0).is_none());
    assert_eq!(all.next_due(), Some(now + HEAD_START));
    all.let_go(service);
    assert!(all.to_build(|_| 0).is_some(), "it has ended");

    all.touch(service, now);
    all.touch(service, now + HEAD_START / 2);
    all.expire(now + HEAD_START);
    assert!(all.to_build(|_| 0).is_some(), "it lasts");

    all.touch(service, now);
    all.wait(ask(service));
    assert!(all.to_build(|_| 0).is_some(), "somebody waits");
}

#[test]
fn a_template_that_hangs_is_killed() {
    let now = Instant::now();
    let mut all = Sandboxes::default();
    let blueprint = Rc::new(Blueprint::default());
    let service = ServiceId(1);
    assert!(matches!(
        all.take(service, &blueprint, true, now),
        Found::Nothing
    ));
    all.wait(ask(service));
    let null = || std::fs::File::open("/dev/null").unwrap().into();
    // It waits for an input that does not end.
    let mut hung = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let pidfd = pidfd_open(hung.id().try_into().unwrap()).unwrap();
    let link = null();
    all.set_template(service, Template { link, pidfd });
    all.began(service, Rc::clone(&blueprint), null(), now);

    assert!(all.expire(now).is_empty());
    let ended = all.expire(now + PATIENCE);
    let [(_, Outcome::Failed(failure, asks))] = ended.as_slice() else {
        panic!("{ended:?}");
    };
    assert_eq!((failure.errno, asks.len()), (libc::ETIMEDOUT, 1));
    assert_eq!(hung.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert!(all.template(service, &blueprint).is_none());
}

#[test]
fn keepers_that_end_with_a_failed_one_are_no_news() {
    let now = Instant::now();
    let mut all = Sandboxes::default();
    let blueprint = Rc::new(Blueprint::default());
    let service = ServiceId(1);
    all.take(service, &blueprint, true, now);
    all.wait(ask(service));
    let began = |all: &mut Sandboxes| {
        let kind = SockType::SeqPacket;
        let pair = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_NONBLOCK);
        let (ours, theirs) = pair.unwrap();
        (all.began(service, Rc::clone(&blueprint), ours, now), theirs)
    };
    let ((first, its_end), (second, gone)) = (began(&mut all), began(&mut all));
    let failure = Failure {
        what: "show /run/utmp".to_owned(),
        errno: libc::ENOENT,
    };
    let report = serde_json::to_vec(&Report::Failed(failure)).unwrap();
    link::send(its_end.as_fd(), &report, &[]).unwrap();
    drop(gone);

    let heard = all.hear(first);
    let Some((_, Outcome::Failed(failure, asks))) = heard else {
        panic!("{heard:?}");
    };
    assert_eq!((failure.errno, asks.len()), (libc::ENOENT, 1));
    assert!(matches!(all.hear(second), Some((_, Outcome::Dropped))));
}
