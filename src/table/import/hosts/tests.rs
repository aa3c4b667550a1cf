#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::table::host::tests::host;

fn judged(allow: &str, deny: &str, daemon: &str) -> Judged {
    let mut rules = Rules::default();
    rules.add(Path::new("hosts.allow"), allow, true);
    rules.add(Path::new("hosts.deny"), deny, false);
    let host = host(true);
    let world = World {
        host: &host,
        hosts: &rules,
        libwrap: false,
        ipv6: true,
        addresses: &[("shop".to_owned(), "192.0.2.80".parse().unwrap())],
    };
    rules.for_daemon(daemon, None, &world)
}

fn permits(judged: &Judged, ip: &str) -> bool {
    judged.access.permits(ip.parse().unwrap())
}

fn effects(judged: &Judged) -> Vec<(usize, Effect)> {
    let notes = judged.notes.iter();
    notes.map(|note| (note.origin.line, note.effect)).collect()
}

#[test]
fn without_rules_everybody_comes_in() {
    let open = judged("", "", "in.fingerd");
    assert!(open.access.is_open());
    assert!(open.notes.is_empty());
}

#[test]
fn everything_is_denied_but_what_is_allowed() {
    let some = judged(
        "in.fingerd: 192.0.2. [2001:db8::]/32 10.1.2.3\n",
        "ALL: ALL\n",
        "in.fingerd",
    );
    assert_eq!(effects(&some), []);
    assert!(permits(&some, "192.0.2.9"));
    assert!(permits(&some, "2001:db8::9"));
    assert!(permits(&some, "10.1.2.3"));
    assert!(!permits(&some, "10.1.2.4"));
    assert!(!permits(&some, "::1"));
    let none = judged("in.fingerd: 192.0.2.\n", "ALL: ALL\n", "in.telnetd");
    assert!(!permits(&none, "192.0.2.9"));
    assert!(!permits(&none, "::1"));
}

#[test]
fn the_first_match_wins_though_here_the_longest_does() {
    let rules = "d: 10.0.0.0/255.0.0.0\nd: 10.1.0.0/16 : DENY\nd: 10.2.0.0/16 : deny\n";
    let some = judged(rules, "d: 10.3.4.5\n", "d");
    assert!(some.access.is_open(), "{:?}", some.access);
    let turned = "d: 10.1.0.0/16 : DENY\nd: 10.0.0.0/8\n";
    let some = judged(turned, "d: ALL\n", "d");
    assert!(!permits(&some, "10.1.2.3"));
    assert!(permits(&some, "10.2.2.3"));
    assert!(!permits(&some, "11.2.2.3"));
}

#[test]
fn exceptions_nest() {
    let some = judged("", "ALL EXCEPT sshd: ALL EXCEPT 10. EXCEPT 10.1.\n", "d");
    assert!(permits(&some, "10.2.0.1"));
    assert!(!permits(&some, "10.1.0.1"));
    assert!(!permits(&some, "192.0.2.1"));
    assert!(
        judged("", "ALL EXCEPT sshd: ALL\n", "sshd")
            .access
            .is_open()
    );
}

#[test]
fn a_name_that_let_in_is_left_out_and_one_that_kept_out_is_a_loss() {
    let named = judged("ALL: .friends.example\n", "ALL: ALL\n", "d");
    assert_eq!(effects(&named), [(1, Effect::Unsupported)]);
    assert!(!permits(&named, "192.0.2.1"));

    let named = judged("", "ALL: PARANOID\n", "d");
    assert_eq!(effects(&named), [(1, Effect::Loss)]);
    let named = judged("ALL: ALL EXCEPT .foes.example\n", "ALL: ALL\n", "d");
    assert_eq!(effects(&named), [(1, Effect::Loss)]);
    assert!(permits(&named, "192.0.2.1"));

    // Where everybody else is kept out too, nothing is lost.
    let named = judged("", "ALL: .foes.example\nALL: ALL\n", "d");
    assert_eq!(effects(&named), []);
    assert!(!permits(&named, "192.0.2.1"));
    // Nor where everybody was let in before.
    let named = judged("ALL: ALL\n", "ALL: .foes.example\n", "d");
    assert_eq!(effects(&named), []);
}

#[test]
fn names_of_this_host_are_addresses() {
    let some = judged("ALL: shop localhost\n", "ALL: ALL\n", "d");
    assert_eq!(effects(&some), []);
    assert!(permits(&some, "192.0.2.80"));
    assert!(permits(&some, "127.0.0.1"));
    assert!(permits(&some, "::1"));
    assert!(!permits(&some, "192.0.2.81"));
}

#[test]
fn options_decide_and_are_told() {
    let twisted = judged("", "d: 192.0.2. : twist /bin/echo go away\n", "d");
    assert!(!permits(&twisted, "192.0.2.1"));
    assert_eq!(effects(&twisted), [(1, Effect::Unsupported)]);
    let twisted = judged("d: 10. : twist /bin/false\n", "", "d");
    assert!(!permits(&twisted, "10.0.0.1"));
    assert!(permits(&twisted, "11.0.0.1"));
    let user = judged("d: ALL : user nobody\n", "", "d");
    assert_eq!(effects(&user), [(1, Effect::Loss)]);
    let colon = judged("d: ALL : spawn echo a\\:b : allow\n", "ALL: ALL\n", "d");
    assert_eq!(effects(&colon), [(1, Effect::Unsupported)]);
    assert!(permits(&colon, "10.0.0.1"));
    let bad = judged("d: 10. : alow\n", "", "d");
    assert!(!permits(&bad, "10.0.0.1"));
}

#[test]
fn a_daemon_at_one_address_is_another_one() {
    let mut rules = Rules::default();
    rules.add(Path::new("hosts.deny"), "d@192.0.2.1: ALL\n", false);
    let host = host(true);
    let world = World {
        host: &host,
        hosts: &rules,
        libwrap: false,
        ipv6: true,
        addresses: &[],
    };
    let at = |ip: &str| rules.for_daemon("d", Some(ip.parse().unwrap()), &world);
    assert!(!permits(&at("192.0.2.1"), "10.0.0.1"));
    assert!(permits(&at("192.0.2.2"), "10.0.0.1"));
    let anywhere = rules.for_daemon("d", None, &world);
    assert_eq!(effects(&anywhere), [(1, Effect::Loss)]);
}

#[test]
fn patterns_of_addresses_are_read_as_libwrap_reads_them() {
    let some = judged(
        "ALL: 192.0.2.7/24, 10.0.0.0/255.0.255.0 172.16.* 198.51.100.*\n",
        "ALL: ALL\n",
        "d",
    );
    assert!(
        !permits(&some, "192.0.2.7"),
        "a net with host bits fits nobody"
    );
    assert!(permits(&some, "198.51.100.9"));
    assert_eq!(
        effects(&some),
        [(1, Effect::Unsupported)],
        "a mask with holes"
    );
}

#[test]
fn lines_go_on_behind_a_backslash_and_comments_do_not_count() {
    let some = judged(
        "# a: b\nd : 10.1.1.1, \\\n 10.1.1.2\nnothing here\n",
        "ALL:ALL",
        "d",
    );
    assert!(permits(&some, "10.1.1.2"));
    assert_eq!(effects(&some), [(4, Effect::Remark)]);
}

#[test]
fn both_lists_must_let_in() {
    let access = |allow: &[&str], deny: &[&str]| Access {
        allow: (!allow.is_empty()).then(|| allow.iter().map(|p| p.parse().unwrap()).collect()),
        deny: deny.iter().map(|p| p.parse().unwrap()).collect(),
        ..Access::default()
    };
    let one = access(&["10.0.0.0/8"], &["10.1.0.0/16"]);
    let other = access(&[], &["10.2.0.0/16"]);
    let met = both(&one, &other);
    for (ip, admitted) in [
        ("10.3.0.1", true),
        ("10.1.0.1", false),
        ("10.2.0.1", false),
        ("11.0.0.1", false),
        ("::1", false),
    ] {
        assert_eq!(met.permits(ip.parse().unwrap()), admitted, "{ip}");
    }
}
