#![allow(clippy::expect_used, reason = "tests")]

use super::*;
use crate::sandbox::sample::exec;

/// Of `cat` with these keys, on a host that has all.
fn blueprint(keys: &str) -> Blueprint {
    let around = Surroundings::default();
    Blueprint::of(&exec(keys), &around, None, |_| true).expect("there is something to build")
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
