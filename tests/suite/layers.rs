//! Services from packages under those of the administrator: files that replace
//! and mask, drop-ins, `from` and `only_if`, in a daemon that runs.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::daemon::{Setup, USHERD};
use crate::common::peer::ask;
use crate::common::*;
use crate::tests;

tests![
    a_file_of_the_administrator_replaces_and_masks_that_of_a_package,
    a_drop_in_is_in_force_after_a_reload_and_shows_as_a_change,
    a_service_of_a_package_is_disabled_by_a_drop_in,
    what_a_drop_in_breaks_is_put_back,
    customers_have_their_keys_from_a_template,
    a_condition_is_judged_at_the_start_and_at_each_reload,
    the_effective_table_says_where_values_are_from_and_loads_again,
];

const MAIN: &str = "include = [\"s.d/*.toml\"]\nlayers = [\"lib\"]\n";

fn put(dir: &Dir, name: &str, text: &str) {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn says(name: &str, port: u16, word: &str) -> String {
    format!(
        "[service.{name}]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/echo\", \"{word}\"]\n"
    )
}

fn start(dir: &Dir, services: &str) -> Daemon {
    let table = format!("{MAIN}{}", daemon::table(dir, services));
    fs::create_dir_all(dir.path().join("lib/s.d")).unwrap();
    Setup::raw(dir, &table).start()
}

fn usherctl(dir: &Dir, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_usherctl"))
        .args(["--runtime-dir", &dir.file("run")])
        .args(line.split(' '))
        .output()
        .unwrap()
}

/// What a command prints that ends with 0.
fn told(dir: &Dir, line: &str) -> String {
    let output = usherctl(dir, line);
    let erred = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{line}: {erred}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `reload` shows before it asks, where nobody can answer.
fn would_change(dir: &Dir) -> String {
    let output = usherctl(dir, "reload");
    assert_ne!(output.status.code(), Some(0));
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn a_file_of_the_administrator_replaces_and_masks_that_of_a_package() {
    let (dir, ports) = (Dir::new(), [free_port(), free_port(), free_port()]);
    put(&dir, "lib/s.d/a.toml", &says("a", ports[0], "package"));
    put(&dir, "lib/s.d/b.toml", &says("b", ports[1], "package"));
    put(&dir, "lib/s.d/c.toml", &says("c", ports[2], "package"));
    put(&dir, "s.d/b.toml", &says("b", ports[1], "admin"));
    let _daemon = start(&dir, "");
    assert_eq!(ask(ports[0], ""), "package\n");
    assert_eq!(ask(ports[1], ""), "admin\n");
    assert_eq!(ask(ports[2], ""), "package\n");
    put(&dir, "s.d/a.toml", "");
    let link = dir.path().join("s.d/c.toml");
    std::os::unix::fs::symlink(Path::new("/dev/null"), link).unwrap();
    fs::remove_file(dir.path().join("s.d/b.toml")).unwrap();
    // Answers when the front has let go of the ports.
    told(&dir, "reload --yes");
    assert!(Peer::try_tcp(ports[0]).is_err(), "a is masked");
    assert!(Peer::try_tcp(ports[2]).is_err(), "c is masked");
    assert_eq!(ask(ports[1], ""), "package\n");
}

fn a_drop_in_is_in_force_after_a_reload_and_shows_as_a_change() {
    let (dir, port) = (Dir::new(), free_port());
    put(&dir, "lib/s.d/a.toml", &says("a", port, "package"));
    let _daemon = start(&dir, "");
    put(
        &dir,
        "s.d/a.toml.d/word.toml",
        "[service.a]\nexec = [\"/bin/echo\", \"changed\"]\ninstances = 7\n",
    );
    let shown = would_change(&dir);
    for word in ["a", "exec", "instances"] {
        assert!(shown.contains(word), "{shown}");
    }
    assert_eq!(ask(port, ""), "package\n");
    told(&dir, "reload --yes");
    assert_eq!(ask(port, ""), "changed\n");
}

fn a_service_of_a_package_is_disabled_by_a_drop_in() {
    let (dir, port) = (Dir::new(), free_port());
    let package = says("a", port, "package");
    put(&dir, "lib/s.d/a.toml", &package);
    let _daemon = start(&dir, "");
    told(&dir, "disable a");
    assert!(Peer::try_tcp(port).is_err(), "it is still listened on");
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("lib/s.d/a.toml"), package);
    let drop_in = "s.d/a.toml.d/usherctl.toml";
    assert_eq!(read(drop_in), "[service.a]\nenabled = false\n");
    told(&dir, "enable a");
    assert_eq!(ask(port, ""), "package\n");
    assert_eq!(read(drop_in), "[service.a]\nenabled = true\n");
    assert_eq!(read("lib/s.d/a.toml"), package);
}

fn what_a_drop_in_breaks_is_put_back() {
    let (dir, port) = (Dir::new(), free_port());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().port();
    let late = format!("{}enabled = false\n", says("late", at, "x"));
    put(&dir, "lib/s.d/late.toml", &late);
    let _daemon = start(&dir, &says("a", port, "here"));
    assert_eq!(usherctl(&dir, "enable late").status.code(), Some(1));
    let drop_in = dir.path().join("s.d/late.toml.d/usherctl.toml");
    assert!(!drop_in.exists(), "it is still there");
    drop(taken);
    told(&dir, "enable late");
    assert_eq!(ask(at, ""), "x\n");
}

fn customers_have_their_keys_from_a_template() {
    let (dir, one, two) = (Dir::new(), free_port(), free_port());
    put(
        &dir,
        "s.d/customers.toml",
        &format!(
            "[service.one]\nfrom = \"site\"\nlisten = \"tcp:127.0.0.1:{one}\"\n\
             [service.two]\nfrom = \"one\"\nlisten = \"tcp:127.0.0.1:{two}\"\nenv.WHO = \"two\"\n"
        ),
    );
    put(
        &dir,
        "lib/s.d/site.toml",
        "[service.site]\nenabled = false\nenv = { WHO = \"all\", WHAT = \"site\" }\n\
         exec = [\"/bin/sh\", \"-c\", \"echo $WHO $WHAT\"]\n",
    );
    let daemon = start(&dir, "");
    assert_eq!(ask(one, ""), "all site\n");
    assert_eq!(ask(two, ""), "two site\n");
    put(
        &dir,
        "s.d/site.toml.d/x.toml",
        "[service.site]\nenv.WHAT = \"all over\"\n",
    );
    assert!(daemon.reload_as_it_is());
    assert_eq!(ask(one, ""), "all all over\n");
    assert_eq!(ask(two, ""), "two all over\n");
    put(
        &dir,
        "s.d/site.toml.d/x.toml",
        "[service.site]\nfrom = \"two\"\n",
    );
    assert!(!daemon.reload_as_it_is(), "a circle was taken");
    assert_eq!(ask(two, ""), "two all over\n");
}

fn a_condition_is_judged_at_the_start_and_at_each_reload() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let there = dir.file("there");
    let conditional = format!(
        "{}only_if = {{ path_exists = \"{there}\" }}\n{}",
        says("a", port, "a"),
        says("b", other, "b")
    );
    let daemon = start(&dir, &conditional);
    assert!(Peer::try_tcp(port).is_err(), "it is listened on");
    assert_eq!(ask(other, ""), "b\n");
    let why = format!("only_if: {there} is not there");
    for line in ["status", "show a"] {
        let shown = told(&dir, line);
        assert!(shown.contains(&why), "{line}: {shown}");
    }
    let checked = told(&dir, &format!("check --config {}", daemon.config));
    assert!(checked.contains(&why), "{checked}");
    let refused = usherctl(&dir, "enable a");
    let refused = (
        refused.status.code(),
        String::from_utf8_lossy(&refused.stderr).into_owned(),
    );
    assert!(
        refused.0 == Some(1) && refused.1.contains(&why),
        "{refused:?}"
    );

    fs::write(&there, "").unwrap();
    assert!(would_change(&dir).contains("only_if"));
    told(&dir, "reload --yes");
    assert_eq!(ask(port, ""), "a\n");
    fs::remove_file(&there).unwrap();
    told(&dir, "reload --yes");
    assert!(Peer::try_tcp(port).is_err(), "it is listened on");
}

fn the_effective_table_says_where_values_are_from_and_loads_again() {
    let dir = Dir::new();
    put(
        &dir,
        "usherd.toml",
        &format!("{MAIN}{}", daemon::table(&dir, "")),
    );
    put(
        &dir,
        "lib/s.d/site.toml",
        "[service.site]\nexec = [\"/bin/cat\"]\nlisten = \"tcp:127.0.0.1:4000\"\ninstances = 3\n\
         limits = { core = \"0\", nofile = 64 }\n",
    );
    put(
        &dir,
        "s.d/site.toml.d/local.toml",
        "[service.site]\nenabled = false\nlimits.nofile = 128\n",
    );
    put(
        &dir,
        "s.d/site2.toml",
        "[service.alice]\nfrom = \"site\"\nper_source = 2\n",
    );
    let effective = |file: &str| {
        let mut usherd = Command::new(USHERD);
        let output = usherd
            .args(["check", "--effective", &dir.file(file)])
            .output()
            .unwrap();
        let erred = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{erred}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let shown = effective("usherd.toml");
    let root = format!("{}/", dir.path().display());
    let alice = shown.split("[service.alice]").nth(1).unwrap_or("");
    let alice = alice
        .split("[service")
        .next()
        .unwrap_or("")
        .replace(&root, "");
    let line = |key: &str| {
        let mut lines = alice.lines();
        let line = lines.find(|line| line.starts_with(&format!("{key} =")));
        line.and_then(|line| line.split_once("  # "))
            .map_or("", |(_, origin)| origin)
    };
    assert_eq!(
        line("instances"),
        "from \"site\", lib/s.d/site.toml:4",
        "{alice}"
    );
    assert_eq!(line("per_source"), "s.d/site2.toml:3", "{alice}");
    assert_eq!(line("enabled"), "default", "{alice}");
    assert_eq!(
        line("limits"),
        "core: from \"site\", lib/s.d/site.toml:5; nofile: from \"site\", s.d/site.toml.d/local.toml:3",
        "{alice}"
    );
    assert!(
        line("isolation").starts_with("[defaults], usherd.toml:"),
        "{alice}"
    );

    let bare = |text: &str| -> Vec<String> {
        let lines = text.lines();
        lines
            .map(|line| {
                line.split("  # ")
                    .next()
                    .unwrap_or("")
                    .trim_end()
                    .to_owned()
            })
            .collect()
    };
    put(&dir, "again.toml", &shown);
    assert_eq!(bare(&effective("again.toml")), bare(&shown));
}
