#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::sandbox::sample::exec;
use crate::table::isolation::{Isolation, Network, Preset};

fn score(exec: &Exec) -> u32 {
    Exposure::of_exec(exec, |_| false).score().0
}

#[test]
fn presets_come_in_their_order() {
    let of = |preset: &str, user: &str| {
        let text = format!("isolation = \"{preset}\"\nuser = \"{user}\"");
        score(&exec(&text))
    };
    let root = ["none", "standard", "strict"].map(|preset| of(preset, "root"));
    let user = ["none", "standard", "strict"].map(|preset| of(preset, "daemon"));
    assert!(root[0] >= 90, "{root:?}");
    assert!(user[0] > 60 && user[0] < root[0], "{user:?}");
    assert!(user[1] < 25, "{user:?}");
    assert!(user[2] < 10, "{user:?}");
    for (root, user) in root.iter().zip(user) {
        assert!(*root > user);
    }
}

#[test]
fn every_key_that_opens_something_is_a_reason() {
    let base = exec("user = \"daemon\"");
    for (more, reason) in [
        ("user = \"root\"", "runs as root"),
        (
            "isolation = { network = \"host\" }",
            "may reach the network",
        ),
        ("isolation = { home = \"host\" }", "sees /home"),
        ("isolation = { home = \"read-only\" }", "sees /home"),
        (
            "isolation = { visible = [\"/home/web\"] }",
            "sees a part of /home",
        ),
        (
            "isolation = { writable = [\"/var/www\"] }",
            "may write to /var/www",
        ),
        ("isolation = { tmp = \"host\" }", "shares /tmp"),
        ("isolation = { dev = \"host\" }", "sees the host's devices"),
        ("isolation = { root = \"host\" }", "may write wherever"),
        (
            "isolation = { capabilities = [\"sys_admin\"] }",
            "keeps capability sys_admin",
        ),
        ("isolation = { no_new_privs = \"off\" }", "set-uid programs"),
        ("isolation = { seccomp = \"off\" }", "every system call"),
        (
            "isolation = { pid_namespace = \"off\", proc = \"host\" }",
            "may signal other",
        ),
        (
            "isolation = { address_families = [\"packet\"] }",
            "may make packet sockets",
        ),
        ("oom_score = -500", "others are killed first"),
        ("umask = \"000\"", "written by others"),
    ] {
        let more = match more.starts_with("user") {
            true => more.to_owned(),
            false => format!("user = \"daemon\"\n{more}"),
        };
        let exec = exec(&more);
        let exposure = Exposure::of_exec(&exec, |_| false);
        assert!(exposure.score().0 >= score(&base), "{more}");
        let told = exposure
            .items
            .iter()
            .any(|item| item.reason.contains(reason));
        assert!(told, "{more}: {exposure:?}");
    }
}

#[test]
fn what_is_missing_does_not_count_as_asked_for() {
    let exec = exec("user = \"daemon\"");
    let wanted = Exposure::of_exec(&exec, |_| false).score();
    for mechanism in Mechanism::ALL {
        let without = Exposure::of_exec(&exec, |missing| missing == mechanism);
        let limited = mechanism != Mechanism::Cgroup && exec.isolation.wants(mechanism);
        assert!(!limited || without.score() >= wanted, "{mechanism:?}");
    }
    let without = Exposure::of_exec(&exec, |missing| missing == Mechanism::Seccomp);
    assert!(
        without
            .items
            .iter()
            .any(|item| item.what == "system_calls" && item.badness == 10)
    );
}

#[test]
fn shares_add_up_to_the_score() {
    for preset in ["none", "standard", "strict"] {
        let exec = exec(&format!("isolation = \"{preset}\"\nuser = \"daemon\""));
        let exposure = Exposure::of_exec(&exec, |_| false);
        let sum: f64 = exposure.items.iter().map(|item| exposure.share(item)).sum();
        assert!(
            (sum - exposure.score().value()).abs() <= 0.1,
            "{preset}: {sum}"
        );
        let shares: Vec<f64> = exposure
            .items
            .iter()
            .map(|item| exposure.share(item))
            .collect();
        assert!(shares.is_sorted_by(|a, b| a >= b), "{shares:?}");
    }
}

#[test]
fn the_front_has_no_score() {
    let builtin = Serve::Builtin(crate::table::Builtin::Echo);
    assert_eq!(Exposure::of(&builtin, |_| false), None);
}

#[test]
fn settings_count_only_with_their_mechanism() {
    let mut exec = exec("user = \"daemon\"");
    exec.isolation = Isolation::preset(Preset::None);
    let open = score(&exec);
    exec.isolation.network = Network::None;
    assert_eq!(score(&exec), open);
}

#[test]
fn scores_are_written_with_one_digit() {
    for (text, tenths) in [
        ("0", 0),
        ("4", 40),
        ("4.0", 40),
        ("9.9", 99),
        ("10", 100),
        ("10.0", 100),
    ] {
        assert_eq!(Score::parse(text), Ok(Score(tenths)), "{text}");
    }
    for text in [
        "",
        "x",
        "-1",
        "4.",
        ".5",
        "4.05",
        "10.1",
        "11",
        "1e1",
        "4,0",
        "99999999999",
    ] {
        assert!(Score::parse(text).is_err(), "{text}");
    }
    for (tenths, word, shown) in [
        (0, "perfect", "0.0"),
        (1, "safe", "0.1"),
        (10, "ok", "1.0"),
        (49, "ok", "4.9"),
        (50, "medium", "5.0"),
        (75, "exposed", "7.5"),
        (90, "unsafe", "9.0"),
        (100, "dangerous", "10.0"),
    ] {
        let score = Score::tenths(tenths);
        assert_eq!(
            (score.grade().word(), score.to_string().as_str()),
            (word, shown)
        );
    }
}
