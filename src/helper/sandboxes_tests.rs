//! Whose turn it is.
#![allow(clippy::unwrap_used, reason = "tests")]

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
