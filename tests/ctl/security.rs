//! `security`, and `check --exposure`: of a daemon and of a table.

use serde_json::{Value, json};

use crate::fake::{Fake, isolation, run, usherctl};

/// Two services of which one is wide open.
const TABLE: &str = "\
[service.open]
listen = \"tcp:127.0.0.1:7007\"
exec = [\"/bin/cat\"]
isolation = \"none\"
[service.shut]
listen = \"tcp:127.0.0.1:7008\"
exec = [\"/bin/cat\"]
isolation = \"strict\"
[service.echo]
listen = \"tcp:127.0.0.1:7009\"
builtin = \"echo\"
";

/// A folder with [`TABLE`] in it, and the table's path.
fn table() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.toml");
    let root = nix::unistd::geteuid().is_root();
    let user = if root {
        "[defaults]\nuser = \"daemon\"\n"
    } else {
        ""
    };
    std::fs::write(&file, format!("{user}{TABLE}")).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (dir, file)
}

fn score(found: &Value) -> f64 {
    found["exposure"]["score"].as_f64().unwrap()
}

#[test]
fn scores_are_listed_in_table_order() {
    let fake = Fake::start();
    fake.does("Admin.GetIsolation", |call| {
        let name = call.parameters.unwrap_or_default()["service"].clone();
        let mut reply = isolation();
        reply["service"] = name.clone();
        if name == "web" {
            let own = ["preset", "exposure", "instance"];
            own.iter().for_each(|key| reply[*key] = Value::Null);
            reply["mechanisms"] = json!([]);
        }
        vec![usherd::control::message::Reply::Last(
            json!({"isolation": reply}),
        )]
    });
    fake.run(&["security"]).said(
        "SERVICE  EXPOSURE  GRADE              PRESET    MISSING HERE\n\
         git           1.5  ok                 standard  keyring\n\
         web             -  in usherd's front\n\
         old           1.5  ok                 standard  keyring\n",
    );
    let (document, code) = fake.json(&["security"]);
    assert_eq!((code, &document["services"][0]), (0, &isolation()));
    assert_eq!(
        fake.asked("Admin.GetIsolation")[1],
        json!({"service": "web"})
    );
}

#[test]
fn a_score_has_its_reasons() {
    let fake = Fake::start();
    fake.run(&["security", "git"]).said(
        "git: exposure 1.5, ok; isolation = \"standard\"\n\
         \n\
         ADDS  KEY           WHY\n\
         0.34  system_calls  may make most system calls\n\
         0.07  keyring       shares a keyring with usherd\n\
         \n\
         keyring missing: servers run without\n  \
           why  keyctl: no\\x1b[2J\n  \
           do   a kernel with CONFIG_KEYS\n",
    );
    assert_eq!(
        fake.json(&["security", "git"]).0,
        json!({"isolation": isolation()})
    );
    let mut blocked = isolation();
    blocked["mechanisms"][4]["level"] = json!("require");
    fake.says("Admin.GetIsolation", json!({"isolation": blocked}));
    let ended = fake.run(&["security", "git"]);
    let expected = "\nkeyring required and missing: no server is started\n";
    assert!(ended.out.contains(expected), "{}", ended.out);
}

#[test]
fn nobody_to_ask_and_no_rights_are_told() {
    let fake = Fake::start();
    fake.refuses("Admin.GetIsolation", "PermissionDenied", json!({}));
    assert_eq!(fake.run(&["security"]).code, 77);
    fake.refuses(
        "Admin.GetIsolation",
        "NoSuchService",
        json!({"service": "gti"}),
    );
    let ended = fake.run(&["security", "gti"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.ends_with("did you mean \"git\"?\n"),
        "{}",
        ended.err
    );
    // Services that go while they are asked for are left out.
    fake.run(&["security"]).said("no service\n");
    assert_eq!(Fake::bare().run(&["security"]).code, 69);
}

#[test]
fn a_table_is_judged_without_a_daemon() {
    let (_dir, file) = table();
    let ctl = |words: &[&str]| run(usherctl(words));
    let ended = ctl(&["security", "--config", &file, "--json"]);
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    let [open, shut, echo] = document["services"].as_array().unwrap().as_slice() else {
        panic!("{document}");
    };
    assert!(score(open) > 6.0 && score(shut) < 2.0, "{document}");
    assert!(
        echo.get("exposure").is_none() && echo.get("preset").is_none(),
        "{echo}"
    );
    assert_eq!(open["preset"], "none");
    assert!(shut.get("instance").is_none());
    let ended = ctl(&["security", "open", "--config", &file]);
    assert!(
        ended.out.contains("may reach the network\n"),
        "{}",
        ended.out
    );
    let ended = ctl(&["security", "opne", "--config", &file]);
    ended.failed(1, "usherctl: no service \"opne\"; did you mean \"open\"?\n");
    assert_eq!(ctl(&["security", "--offline"]).code, 0);
}

#[test]
fn check_fails_above_the_score() {
    let (_dir, file) = table();
    let check = |words: &[&str]| {
        let all = [&["check", "--config", &file], words].concat();
        run(usherctl(&all))
    };
    let ended = check(&["--exposure", "4.0"]);
    assert_eq!(
        (ended.code, ended.err.as_str()),
        (1, "1 service is exposed more than 4.0\n")
    );
    let lines: Vec<&str> = ended.out.lines().collect();
    assert!(
        lines[0].starts_with("SERVICE  EXPOSURE  GRADE"),
        "{}",
        ended.out
    );
    assert!(
        lines[1].starts_with("open ") && lines[1].contains("; "),
        "{}",
        ended.out
    );
    assert!(lines[2].starts_with("shut "), "{}", ended.out);
    assert_eq!(lines[3], "echo            -  in usherd's front");
    assert_eq!(check(&["--exposure", "10"]).code, 0);

    let ended = check(&["--exposure", "4", "--json"]);
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(ended.code, 1);
    assert_eq!(document["exposure"][0]["service"], "open");
    assert_eq!(document["exposure"][2], json!({"service": "echo"}));
    for wrong in ["11", "4.05", "x"] {
        assert_eq!(check(&["--exposure", wrong]).code, 64, "{wrong}");
    }
    assert_eq!(check(&["--exposure", "4", "--effective"]).code, 64);
}
