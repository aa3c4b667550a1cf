//! What there is: status, list, show, instances, stats, explain, check.

use serde_json::json;

use crate::fake::{Fake, isolation, run, services, statistics, usherctl};

#[test]
fn status_tells_the_services_and_what_is_wrong() {
    let why = "unable to exec /usr/bin/webd: No such file or directory";
    Fake::start().run(&["status"]).said(&format!(
        "usherd 0.1.0: up 3h12m, 3 services, 3 listeners, 3 running, 1 undecided\n\
         \n\
         SERVICE  STATE     RUNNING  ACCEPTED  REFUSED  FAILED  LAST EXIT                         WHY\n\
         git      serving     3/100       120        2       0  status 0, 12s ago\n\
         web      resting      0/10         0        0       4  signal 11 (SEGV), core, 5.0s ago  {why}\n\
         old      disabled     0/10         0        0       0\n"
    ));
}

#[test]
fn status_marks_what_is_degraded() {
    let fake = Fake::start();
    fake.says(
        "Status.GetDaemon",
        json!({"daemon": {
            "version": "0.1.0", "helper_pid": 10, "front_pid": 11, "uptime_ms": 900, "fronts": 3,
            "draining": true, "services": 1, "listeners": 0, "undecided": 0, "running": 0,
            "denied": 2, "degraded": ["no Landlock: \u{1b}]0;owned\u{7}"],
        }}),
    );
    fake.says("Status.GetServices", json!({"services": []}));
    fake.run(&["status"]).said(
        "usherd 0.1.0: up 900ms, 1 service, 0 listeners, 0 running, 0 undecided\n\
         draining: it ends when its instances have ended\n\
         its front has died 2 times; counts and events are those of the one that runs now\n\
         2 calls here of those who may not ask\n\
         degraded: no Landlock: \\x1b]0;owned\\x07\n",
    );
}

#[test]
fn status_of_one_service_asks_for_it() {
    let fake = Fake::start();
    assert_eq!(fake.run(&["status", "git"]).code, 0);
    assert_eq!(
        fake.asked("Status.GetServices"),
        [json!({"service": "git"})]
    );
    let (document, code) = fake.json(&["status"]);
    assert_eq!(code, 0);
    assert_eq!(document["services"], services());
    assert_eq!(document["daemon"]["front_pid"], 11);
}

#[test]
fn list_has_names_and_addresses() {
    let fake = Fake::start();
    fake.run(&["list"]).said(
        "SERVICE  ADDRESSES                            DESCRIPTION\n\
         git      tcp:9418, unix:/run/git (not bound)  the repositories\n\
         web      tcp:80\n\
         old      tcp:79 (disabled)\n",
    );
    assert_eq!(fake.json(&["list"]).0, json!({"services": services()}));
}

#[test]
fn show_has_the_table_and_what_came_of_it() {
    let fake = Fake::start();
    let ended = fake.run(&["show", "git"]);
    ended.said(
        "git: serving, 3/100 instances\n  \
           description  the repositories\n  \
           serves by    exec\n  \
           listens at   tcp:9418\n  \
           listens at   unix:/run/git (not bound)\n  \
           last exit    status 0, 12s ago, it ran 497ms\n\
         \n\
         table\n  \
           listen = [\"tcp:9418\", \"unix:/run/git\"]\n  \
           instances = 100\n\
         \n\
         isolation: standard, exposure 1.5 (ok); found in instance 7 (pid 4711)\n\
         KEY              ASKED FOR    IN FORCE   NOTE\n\
         mount_namespace  require      yes        14 mounts\n\
         user_namespace   off          no\n\
         seccomp          require      no\n\
         landlock         prefer       unknown    only the process itself can tell\n\
         keyring          prefer       unknown    missing: keyctl: no\\x1b[2J; a kernel with CONFIG_KEYS\n\
         capabilities     []           none\n\
         root             \"read-only\"  read-only\n\
         network          \"none\"\n\
         uid                           33\n\
         \n\
         since usherd was started\n  \
           accepted     120\n  \
           admitted     120\n  \
           refused      3 (deny: 2, per_source: 1)\n  \
           matched      7 (ssh = true: 7)\n  \
           undecided    1\n  \
           started      120\n  \
           failed       4 (exec: 4)\n  \
           running      3\n  \
           exited       117 (signal 9: 7, status 0: 110)\n  \
           bytes        received 1.5K, sent 20M\n  \
           cpu          user 1.2s, system 300ms\n  \
           memory peak  20M\n  \
           blocks       read 12, written 4\n\
         \n\
         TIME                COUNT   MEAN    P50    P90    P99\n\
         accept to decision     10  100us   10us   10us   20us\n\
         decision to start     100  100us  400us  400us  3.2ms\n\
         start to end            0      -      -      -      -\n",
    );
    let (document, code) = fake.json(&["show", "git"]);
    assert_eq!(code, 0);
    assert_eq!(document["statistics"], statistics(120));
    assert_eq!(
        document["keys"][1],
        json!({"key": "instances", "value": "100"})
    );
    assert_eq!(document["isolation"], isolation());
}

#[test]
fn show_goes_on_without_rights() {
    let fake = Fake::start();
    for method in ["Admin.Describe", "Admin.GetIsolation"] {
        fake.refuses(method, "PermissionDenied", json!({}));
    }
    let ended = fake.run(&["show", "git"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    assert!(
        ended
            .out
            .contains("\ntable\n  to see it takes rights on admin.sock\n\nsince usherd"),
        "{}",
        ended.out
    );
    assert_eq!(fake.json(&["show", "git"]).0["keys"], json!(null));
}

#[test]
fn instances_are_listed() {
    let fake = Fake::start();
    fake.run(&["instances", "git"]).said(
        "INSTANCE  SERVICE   PID    AGE   CPU  MEMORY  CONN  PEER\n       \
                7  git      4711  1m01s  31ms    5.0M  1-42  192.0.2.7:50112\n       \
                9  git      4712  900ms                1-43\n",
    );
    assert_eq!(
        fake.asked("Status.GetInstances"),
        [json!({"service": "git"})]
    );
    fake.says("Status.GetInstances", json!({"instances": []}));
    fake.run(&["instances"]).said("no instance runs\n");
    assert_eq!(fake.json(&["instances"]).0, json!({"instances": []}));
}

#[test]
fn stats_are_of_all_or_of_one() {
    let fake = Fake::start();
    let all = fake.run(&["stats"]);
    assert_eq!((all.code, all.err.as_str()), (0, ""));
    for part in [
        "  refused      3 (deny: 2, per_source: 1)\n",
        "\nby service\nSERVICE  ACCEPTED  ADMITTED  REFUSED  FAILED  STARTED  RUNNING   CPU  MEM PEAK  START P99\n\
         git           120       120        3       4      120        3  1.5s       20M      3.2ms\n",
        "\nbusiest sources\nSOURCE        ACCEPTED  REFUSED  RUNNING\n\
         192.0.2.7/32       100        1        2\n",
    ] {
        assert!(all.out.contains(part), "{part}\n{}", all.out);
    }
    let one = fake.run(&["stats", "git"]);
    assert!(!one.out.contains("by service"), "{}", one.out);
    assert_eq!(
        fake.asked("Status.GetStatistics")[1],
        json!({"service": "git"})
    );
    let (document, _) = fake.json(&["stats"]);
    assert_eq!(document["services"]["git"], statistics(120));
}

#[test]
fn metrics_are_passed_on() {
    let fake = Fake::start();
    let text = "# TYPE usherd_accepted_total counter\nusherd_accepted_total 120\n";
    fake.run(&["stats", "--prometheus"]).said(text);
    assert_eq!(
        fake.json(&["stats", "--prometheus"]).0,
        json!({"text": text})
    );
    assert_eq!(fake.run(&["stats", "git", "--prometheus"]).code, 64);
}

const TABLE: &str = "[service.a]\nlisten = \"tcp:127.0.0.1:7007\"\nbuiltin = \"echo\"\n";

#[test]
fn explain_and_check_need_no_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.toml");
    let file = file.to_str().unwrap();
    std::fs::write(file, TABLE).unwrap();
    let ctl = |words: &[&str]| run(usherctl(words));

    let answer = "tcp:127.0.0.1:7007: everything is for a, at once\n";
    ctl(&["explain", "--config", file, "tcp:127.0.0.1:7007"]).said(answer);
    let ended = ctl(&["explain", "--json", "--config", file, "tcp:127.0.0.1:7007"]);
    let document: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(document, json!({"explanation": [answer.trim_end()]}));
    let ended = ctl(&["explain", "--config", file, "tcp:9"]);
    assert_eq!(ended.code, 64);
    assert!(
        ended
            .err
            .starts_with("usherctl: no service listens at tcp:9; "),
        "{}",
        ended.err
    );

    ctl(&["check", "--config", file]).said(&format!("{file}: 1 service, no complaints\n"));
    let ended = ctl(&["check", "--json", "--effective", "--config", file]);
    let document: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        (&document["services"], &document["warnings"]),
        (&json!(1), &json!([]))
    );
    assert!(
        document["effective"]
            .as_str()
            .unwrap()
            .contains("[service.a]")
    );
}

#[test]
fn check_and_explain_show_every_complaint() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.toml");
    let file = file.to_str().unwrap();
    std::fs::write(file, TABLE.replace("echo", "ecko")).unwrap();
    for words in [
        &["check", "--config", file][..],
        &["explain", "tcp:7", "--config", file],
    ] {
        let ended = run(usherctl(words));
        assert_eq!((ended.code, ended.out.as_str()), (78, ""));
        assert!(
            ended.err.starts_with(&format!("{file}:3:")),
            "{}",
            ended.err
        );
        assert!(ended.err.ends_with("\n1 complaint\n"), "{}", ended.err);
        let ended = run(usherctl(&[words, &["--json"]].concat()));
        let document: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!((ended.code, &document["exit"]), (78, &json!(78)));
        assert!(document["message"].as_str().unwrap().contains("ecko"));
    }
}
