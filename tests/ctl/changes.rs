//! What is to be otherwise: reload, enable and its kin, kill, bans.

use serde_json::json;
use usherd::control::message::{CallError, Reply};

use crate::fake::Fake;

const DIFFERENCE: &str = "\
warning: t.toml:3:1: never reached
3 | x
  | ^
+ ftp
~ git: instances, exec
~ [daemon]: log
- old
";

#[test]
fn reload_without_a_terminal_wants_yes() {
    let fake = Fake::start();
    let ended = fake.run(&["reload"]);
    ended.failed(
        64,
        "usherctl: nothing was reloaded: there is no terminal to ask at; say --yes to reload\n",
    );
    assert_eq!(ended.out, DIFFERENCE);
    assert_eq!(fake.asked("Admin.Reload"), [json!({"check_only": true})]);
    let (document, code) = fake.json(&["reload"]);
    assert_eq!((code, &document["reloaded"]), (64, &json!(false)));
    assert!(document["message"].as_str().unwrap().contains("--yes"));
    assert_eq!(document["changes"].as_array().unwrap().len(), 4);
}

#[test]
fn reload_yes_puts_in_force_what_was_shown() {
    let fake = Fake::start();
    fake.run(&["reload", "--yes"])
        .said(&format!("{DIFFERENCE}reloaded, 4 changes\n"));
    assert_eq!(
        fake.asked("Admin.Reload"),
        [json!({"check_only": true}), json!({"token": "t1"})]
    );
    let (document, code) = fake.json(&["reload", "--yes"]);
    assert_eq!((code, &document["reloaded"]), (0, &json!(true)));
    assert_eq!(document["changes"].as_array().unwrap().len(), 4);
}

#[test]
fn reload_with_nothing_to_change_says_so() {
    let fake = Fake::start();
    fake.says(
        "Admin.Reload",
        json!({"changes": [], "warnings": [], "token": "t"}),
    );
    fake.run(&["reload"]).said("nothing to change\n");
    assert_eq!(fake.asked("Admin.Reload").len(), 1);
    fake.run(&["reload", "--yes"])
        .said("nothing to change\nreloaded, 0 changes\n");
    assert_eq!(fake.asked("Admin.Reload").len(), 3);
    assert_eq!(fake.json(&["reload"]).0["reloaded"], json!(false));
}

#[test]
fn reload_shows_complaints_as_they_came() {
    let fake = Fake::start();
    let complaint =
        "t.toml:2:1: unknown key \"lisen\"\n2 | lisen = 7\n  | ^^^^^\n  = help: listen\n";
    fake.refuses(
        "Admin.Reload",
        "TableWrong",
        json!({"complaints": [complaint]}),
    );
    fake.run(&["reload", "--yes"]).failed(
        78,
        &format!("{complaint}1 complaint; the table in force stays\n"),
    );
}

#[test]
fn reload_tells_why_it_was_refused() {
    let fake = Fake::start();
    fake.does("Admin.Reload", |call| {
        if call.parameters.unwrap().contains_key("check_only") {
            let reply = json!({"changes": [{"service": "a", "what": "added", "keys": []}], "warnings": [], "token": "t"});
            return vec![Reply::Last(reply)];
        }
        let troubles = json!({"troubles": ["tcp:80 for service \"a\": Address already in use"]});
        vec![Reply::Error(CallError::admin("CannotBind", troubles))]
    });
    fake.run(&["reload", "--yes"]).failed(
        1,
        "usherctl: nothing was changed: not every address can be had\n  \
         tcp:80 for service \"a\": Address already in use\n",
    );
    fake.refuses("Admin.Reload", "TableChanged", json!({}));
    let ended = fake.run(&["reload", "--yes"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.contains("run `usherctl reload` again"),
        "{}",
        ended.err
    );
}

#[test]
fn changes_say_what_is_in_force_now() {
    let fake = Fake::start();
    for (words, method, said) in [
        (
            ["enable", "git"],
            "Enable",
            "git is enabled, and the table says so\n",
        ),
        (
            ["disable", "git"],
            "Disable",
            "git is disabled, and the table says so\n",
        ),
        (
            ["drain", "git"],
            "Drain",
            "git takes no new requests; 3 instances may finish\n",
        ),
        (
            ["stop", "git"],
            "Stop",
            "git takes no new requests; 1 instance ended\n",
        ),
        (["start", "git"], "Start", "git is started: instance 12\n"),
    ] {
        fake.run(&words).said(said);
        assert_eq!(
            fake.asked(&format!("Admin.{method}")),
            [json!({"service": "git"})]
        );
    }
    assert_eq!(fake.json(&["enable", "git"]), (json!({}), 0));
    assert_eq!(fake.json(&["drain", "git"]), (json!({"running": 3}), 0));
    assert_eq!(fake.json(&["start", "git"]), (json!({"instance": 12}), 0));
    fake.says("Admin.Drain", json!({"running": 0}));
    fake.run(&["drain", "git"])
        .said("git takes no new requests; none of its instances runs\n");
    fake.says("Admin.Start", json!({}));
    fake.run(&["start", "git"]).said("git takes requests\n");
}

#[test]
fn kill_ends_or_signals() {
    let fake = Fake::start();
    fake.run(&["kill", "7"]).said("instance 7 is being ended\n");
    fake.run(&["kill", "7", "--signal", "sighup"])
        .said("instance 7 was sent HUP\n");
    assert_eq!(
        fake.asked("Admin.Kill"),
        [
            json!({"instance": 7}),
            json!({"instance": 7, "signal": "HUP"})
        ]
    );
    assert_eq!(fake.run(&["kill", "7", "--signal", "NOPE"]).code, 64);
    let by_name = fake.run(&["kill", "git"]);
    assert_eq!(by_name.code, 64);
    assert!(by_name.err.contains("`usherctl instances` shows them"));
    assert_eq!(fake.json(&["kill", "7"]), (json!({}), 0));
    fake.refuses("Admin.Kill", "NoSuchInstance", json!({"instance": 7}));
    fake.run(&["kill", "7"]).failed(
        1,
        "usherctl: no instance 7: it has ended, or there never was one; \
         `usherctl instances` shows those that run\n",
    );
}

#[test]
fn bans_are_made_shown_and_taken_back() {
    let fake = Fake::start();
    fake.run(&["ban", "192.0.2.0/24", "--for", "1h", "--reason", "noise"])
        .said("192.0.2.0/24 is banned for 1h00m\n");
    assert_eq!(
        fake.asked("Admin.Ban"),
        [json!({"prefix": "192.0.2.0/24", "for_s": 3600, "reason": "noise"})]
    );
    fake.run(&["ban", "192.0.2.9"]);
    fake.run(&["ban", "192.0.2.9", "--for", "1500ms"]);
    assert_eq!(
        fake.asked("Admin.Ban")[1],
        json!({"prefix": "192.0.2.9/32"})
    );
    assert_eq!(fake.asked("Admin.Ban")[2]["for_s"], 2);
    for wrong in [
        &["ban", "192.0.2.7/24"][..],
        &["ban", "shop.example"],
        &["ban", "192.0.2.7", "--for", "1"],
        &["ban", "192.0.2.7", "--for", "0s"],
    ] {
        assert_eq!(fake.run(wrong).code, 64, "{wrong:?}");
    }
    assert_eq!(fake.asked("Admin.Ban").len(), 3);

    fake.run(&["bans"]).said(
        "PREFIX           LEFT     AGE  REASON\n\
         192.0.2.0/24   50m00s  10m00s  guesses\\x1b[31m passwords\n\
         2001:db8::/32       -   1d01h\n",
    );
    let (document, _) = fake.json(&["bans"]);
    assert_eq!(document["bans"][0]["reason"], "guesses\u{1b}[31m passwords");
    fake.run(&["unban", "192.0.2.0/24"])
        .said("192.0.2.0/24 is banned no more\n");
    assert_eq!(fake.json(&["unban", "192.0.2.0/24"]), (json!({}), 0));
    fake.refuses(
        "Admin.Unban",
        "NoSuchBan",
        json!({"prefix": "192.0.2.0/24"}),
    );
    fake.run(&["unban", "192.0.2.0/24"]).failed(
        1,
        "usherctl: 192.0.2.0/24 is not banned; `usherctl bans` shows the prefixes that are\n",
    );
    fake.says("Admin.GetBans", json!({"bans": []}));
    fake.run(&["bans"]).said("nobody is banned\n");
}
