#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::table::{Host, Serve, Source, load};

/// Of `cat` with these keys, on a host that has all.
fn blueprint(keys: &str) -> Blueprint {
    let text =
        format!("[service.a]\nlisten = \"tcp:127.0.0.1:7007\"\nexec = [\"/bin/cat\"]\n{keys}\n");
    let source = Source::Text {
        name: "t",
        text: &text,
    };
    let host = Host {
        root: true,
        ..Host::probe()
    };
    let loaded = load(source, &host).unwrap_or_else(|complaints| panic!("{complaints}"));
    match loaded.table.services.into_iter().next().unwrap().serve {
        Serve::Exec(exec) => {
            let around = Surroundings::default();
            Blueprint::of(&exec, &around, None, |_| true).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_network_is_used_again_where_nobody_can_leave_anything_in_it() {
    let of = |refined: &str| {
        let keys = format!("user = \"daemon\"\nisolation = {{ preset = \"strict\"{refined} }}");
        blueprint(&keys).network_again
    };
    assert!(of(""));
    assert!(of(
        ", visible = [\"/srv\"], address_families = [\"unix\", \"inet\"]"
    ));
    assert!(!of(", capabilities = [\"net_admin\"]"), "it has a right");
    assert!(!of(", no_new_privs = \"off\""), "it may gain one");
    assert!(!of(", capability_bounds = \"off\""), "it may gain one");
    assert!(
        !of(", network = \"loopback\""),
        "connections are closed later"
    );
    assert!(!of(", proc = \"own\""), "it sees settings");
    assert!(
        !of(", pid_namespace = \"off\", proc = \"none\""),
        "nobody knows when it ends"
    );
    assert!(!of(", visible = [\"/tmp\"]"), "there is no template");
    assert!(
        !blueprint("user = \"daemon\"").network_again,
        "it is everybody's"
    );
}
