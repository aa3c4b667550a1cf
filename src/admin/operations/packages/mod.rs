//! `package.*`: Debian packages, by apt-get(8) and dpkg(1).
//!
//! These run on the host as it is: maintainer scripts write anywhere and start
//! daemons. What is installed is bounded by an allow-list of names; nothing is
//! removed to make room for it, and what the operator changed below /etc stays.
#![forbid(unsafe_code)]

mod listing;

use serde_json::{Value, json};

use super::tool::{Said, Tool};
use super::{Failed, Kind, Outcome, Request, Usherd};

use listing::{Plan, Versions};

const APT: Tool = Tool::new(&["/usr/bin/apt-get"], "apt");
const CACHE: Tool = Tool::new(&["/usr/bin/apt-cache"], "apt");
const QUERY: Tool = Tool::new(&["/usr/bin/dpkg-query"], "dpkg");
const DPKG: Tool = Tool::new(&["/usr/bin/dpkg"], "dpkg");
const RECONFIGURE: Tool = Tool::new(&["/usr/sbin/dpkg-reconfigure"], "debconf");
const SELECTIONS: Tool = Tool::new(&["/usr/bin/debconf-set-selections"], "debconf");
const COMMUNICATE: Tool = Tool::new(&["/usr/bin/debconf-communicate"], "debconf");

/// No arguments.
const NONE: [&str; 0] = [];

/// Nobody is there to answer, to read a change log, or to choose what restarts.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("DEBIAN_PRIORITY", "critical"),
    ("APT_LISTCHANGES_FRONTEND", "none"),
    ("HOME", "/root"),
];

/// Types of questions whose answers are told.
const SHOWN: [&str; 6] = ["string", "boolean", "select", "multiselect", "note", "text"];

/// `--no-remove`: apt-get fails rather than to remove what was not spoken of.
/// `Pattern-Only`: a name that nothing has is no regular expression.
const APT_OPTIONS: [&str; 9] = [
    "-q=2",
    "-y",
    "--no-remove",
    "-o=Dpkg::Use-Pty=0",
    "-o=Dpkg::Options::=--force-confold",
    "-o=Dpkg::Options::=--force-confdef",
    "-o=DPkg::Lock::Timeout=0",
    "-o=APT::Status-Fd=1",
    "-o=APT::Cmd::Pattern-Only=true",
];

/// `package.update`
pub fn update(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    if request.dry_run {
        return Ok(json!({ "would_run": APT.command(&with_options(&["update"]))? }));
    }
    let said = follow(&APT, &with_options(&["update"]), usherd)?;
    // Of a list that cannot be fetched apt-get only warns, and uses what it had.
    let complaints = said.err.lines().filter(|line| !line.trim().is_empty());
    let complaints: Vec<&str> = complaints.take(20).collect();
    if said.code != 0 {
        return Err(tell(&APT, &said));
    }
    let plan = simulate(&["upgrade"])?;
    Ok(json!({ "upgradable": plan.upgrades(), "complaints": complaints }))
}

/// `package.install`: at the newest version that the lists know of.
pub fn install(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let packages = request.parameters.texts("packages");
    exist(&packages)?;
    let mut args = vec!["install", "--"];
    args.extend(packages);
    let plan = simulate(&args)?;
    if request.dry_run {
        return Ok(json!({
            "installed": plan.installs(),
            "upgraded": plan.upgrades(),
            "removed": [],
        }));
    }
    let before = versions()?;
    let said = follow(&APT, &with_options(&args), usherd)?;
    if said.code != 0 {
        let failed = tell(&APT, &said);
        return Err(match failed.kind {
            // It has done nothing, and whoever holds the lock may be installing the same.
            Kind::Busy => failed,
            _ => give_back(failed, &plan, &before, usherd),
        });
    }
    Ok(before.changes(&versions()?))
}

/// To apt-get, `name+`, `name-`, the name of a task and an expression are packages too, and
/// others than those that `allow` speaks of.
fn exist(names: &[&str]) -> Result<(), Failed> {
    let is_one = &mut |line: &str| names.contains(&line);
    let said = CACHE.follow(&["pkgnames"], &ENVIRONMENT, b"", is_one)?;
    if said.code != 0 {
        return Err(tell(&CACHE, &said));
    }
    let known: Vec<&str> = said.out.lines().collect();
    match names.iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let reason = format!("no package is called {name}, as far as this host knows");
            Err(Failed::new(Kind::NotFound, reason))
        }
    }
}

/// Purges what a failed installation has brought. What it upgraded stays, and is told.
fn give_back(
    mut failed: Failed,
    plan: &Plan,
    before: &Versions,
    usherd: &mut dyn Usherd,
) -> Failed {
    let now = match versions() {
        Ok(now) => now,
        Err(why) => return Failed::new(failed.kind, format!("{failed}; {why}")),
    };
    let new = plan.brought(before, &now);
    if !new.is_empty() {
        let mut args = vec!["--purge", "--"];
        args.extend(new.iter().map(String::as_str));
        let undone = follow(&DPKG, &args, usherd);
        let left = versions().map_or(new, |left| plan.brought(before, &left));
        if undone.is_err() || !left.is_empty() {
            let left = left.join(" ");
            failed.reason = format!("{failed}; and these are half installed now: {left}");
        }
    }
    let upgraded = before.changes(&now)["upgraded"].clone();
    if upgraded != json!([]) {
        failed.reason = format!("{failed}; and these have a new version now: {upgraded}");
    }
    failed
}

/// `package.configure`: with a package, asks its questions anew with these answers; without
/// one, finishes what was interrupted.
pub fn configure(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let given = &request.parameters;
    let answers = given.texts("answers");
    let Some(package) = given.some_text("package") else {
        if !answers.is_empty() {
            let reason = "`answers` are to the questions of a package: name it";
            return Err(Failed::new(Kind::Invalid, reason));
        }
        return finish_interrupted(request, usherd);
    };
    let known = versions()?;
    let Some(version) = known.of(package) else {
        let reason = format!("{package} is not installed");
        return Err(Failed::new(Kind::NotFound, reason));
    };
    let answers = selections(package, &answers)?;
    let args = ["--frontend=noninteractive", "--", package];
    if request.dry_run {
        SELECTIONS.done(&["--checkonly"], answers.text.as_bytes())?;
        return Ok(json!({ "would_run": RECONFIGURE.command(&args)?, "answers": answers.text }));
    }
    let old = answers.old(&ENVIRONMENT)?;
    SELECTIONS.done(&NONE, answers.text.as_bytes())?;
    let said = follow(&RECONFIGURE, &args, usherd)?;
    if said.code != 0 {
        let mut failed = tell(&RECONFIGURE, &said);
        if let Err(why) = SELECTIONS.done(&NONE, old.as_bytes()) {
            failed.reason = format!("{failed}; and the old answers are lost: {why}");
        }
        return Err(failed);
    }
    Ok(json!({ "package": package, "version": version, "answers_before": old }))
}

fn finish_interrupted(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let args = [
        "--force-confold",
        "--force-confdef",
        "--configure",
        "--pending",
    ];
    if request.dry_run {
        return Ok(json!({ "would_run": DPKG.command(&args)? }));
    }
    let before = versions()?;
    let said = follow(&DPKG, &args, usherd)?;
    match said.code {
        0 => Ok(before.changes(&versions()?)),
        _ => Err(tell(&DPKG, &said)),
    }
}

/// Lines for debconf-set-selections(1).
struct Selections {
    text: String,
    questions: Vec<String>,
}

/// `"exim4/dc_eximconfig_configtype select local"`, of this package alone.
fn selections(package: &str, answers: &[&str]) -> Result<Selections, Failed> {
    let (mut text, mut questions) = (String::new(), Vec::new());
    for answer in answers {
        let mut words = answer.splitn(3, ' ');
        let (question, kind) = (words.next(), words.next());
        let (Some(question), Some(kind)) = (question, kind) else {
            let reason = format!("\"{answer}\" is no answer: QUESTION TYPE VALUE");
            return Err(Failed::new(Kind::Invalid, reason));
        };
        // Others share the data base of answers.
        if !question.starts_with(&format!("{package}/")) {
            let reason = format!("{question} is no question of {package}'s");
            return Err(Failed::new(Kind::Forbidden, reason));
        }
        let value = words.next().unwrap_or_default();
        text.push_str(&format!("{package} {question} {kind} {value}\n"));
        questions.push(question.to_owned());
    }
    Ok(Selections { text, questions })
}

impl Selections {
    /// What stands now, in the same form; without what was never answered, and passwords.
    fn old(&self, env: &[(&str, &str)]) -> Result<String, Failed> {
        let mut old = String::new();
        for question in &self.questions {
            let input = format!("METAGET {question} type\nGET {question}\n");
            let said = COMMUNICATE.follow(&NONE, env, input.as_bytes(), &mut |_| true)?;
            old.extend(answered(question, &said.out));
        }
        Ok(old)
    }
}

/// What debconf-communicate(1) says of a question, its type and then its value, as a line for
/// debconf-set-selections(1). Only what debconf itself says the type is counts: a caller
/// could call a password a string, and be told it.
fn answered(question: &str, said: &str) -> Option<String> {
    let mut lines = said.lines();
    // "0 value"; any other number: none.
    let mut next = || lines.next()?.trim_end().strip_prefix("0 ");
    let (kind, value) = (next()?, next()?);
    // A value of several lines is none that could be set again.
    if !SHOWN.contains(&kind) || lines.next().is_some() {
        return None;
    }
    let package = question.split('/').next().unwrap_or_default();
    Some(format!("{package} {question} {kind} {value}\n"))
}

fn with_options<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let mut all = APT_OPTIONS.to_vec();
    all.extend(args);
    all
}

/// What apt-get would do.
fn simulate(args: &[&str]) -> Result<Plan, Failed> {
    let mut all = vec!["--simulate"];
    all.extend(with_options(args));
    let said = APT.follow(&all, &ENVIRONMENT, b"", &mut |_| true)?;
    match said.code {
        0 => Ok(Plan::read(APT.whole(&said)?)),
        _ => Err(tell(&APT, &said)),
    }
}

/// Every package that is there, and its version.
fn versions() -> Result<Versions, Failed> {
    let format = "--showformat=${binary:Package}\t${Version}\t${db:Status-Abbrev}\n";
    let said = QUERY.done(&["--show", format], b"")?;
    Ok(Versions::read(QUERY.whole(&said)?))
}

/// Runs it, and tells how far it is.
fn follow(tool: &Tool, args: &[&str], usherd: &mut dyn Usherd) -> Result<Said, Failed> {
    let mut last = String::new();
    tool.follow(args, &ENVIRONMENT, b"", &mut |line| {
        let Some(step) = listing::progress(line) else {
            return true;
        };
        if step != last {
            usherd.progress(&step);
            last = step;
        }
        false
    })
}

fn tell(tool: &Tool, said: &Said) -> Failed {
    let mut failed = tool.failed(said);
    let kinds = [
        ("Unable to locate package", Kind::NotFound),
        ("has no installation candidate", Kind::NotFound),
        ("Packages need to be removed", Kind::Forbidden),
        ("Could not get lock", Kind::Busy),
        ("is locked by another process", Kind::Busy),
        ("database is locked", Kind::Busy),
        ("dpkg was interrupted", Kind::Unavailable),
    ];
    let found = kinds.iter().find(|(words, _)| said.err.contains(words));
    let Some((words, kind)) = found else {
        return failed;
    };
    failed.kind = *kind;
    if *words == "dpkg was interrupted" {
        let reason = "an earlier change was interrupted: run package.configure without `package`";
        failed.reason = reason.to_owned();
    }
    failed
}

/// For the result: `[{ name, version }]`.
fn named(name: &str, version: &str) -> Value {
    json!({ "name": name, "version": version })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn answers_are_to_questions_of_the_package_alone() {
        let fine = selections("tzdata", &["tzdata/Areas select Etc", "tzdata/x string "]).unwrap();
        let wanted = "tzdata tzdata/Areas select Etc\ntzdata tzdata/x string \n";
        assert_eq!(fine.text, wanted);
        let kind = |answer: &str| selections("tzdata", &[answer]).err().map(|err| err.kind);
        assert_eq!(kind("tzdata2/Areas select Etc"), Some(Kind::Forbidden));
        assert_eq!(
            kind("debconf/frontend select Teletype"),
            Some(Kind::Forbidden)
        );
        assert_eq!(kind("tzdata/Areas"), Some(Kind::Invalid));
    }

    #[test]
    fn a_password_stays_one_whatever_the_caller_calls_it() {
        if COMMUNICATE.path().is_err() {
            return; // not a Debian
        }
        let dir = tempfile::tempdir().unwrap();
        let rc = dir.path().join("debconf.conf");
        let file = |name: &str| {
            let path = dir.path().join(name).display().to_string();
            format!("\nName: {name}\nDriver: File\nFilename: {path}\n")
        };
        let text = format!(
            "Config: answers\nTemplates: templates\n{}{}",
            file("answers"),
            file("templates")
        );
        std::fs::write(&rc, text).unwrap();
        let rc = rc.display().to_string();
        let env = [
            ("DEBCONF_SYSTEMRC", &*rc),
            ("DEBIAN_FRONTEND", "noninteractive"),
        ];
        let answers = |answers: &[&str]| selections("db", answers).unwrap();
        let given = answers(&["db/root_password password geheim", "db/word string a b"]);
        let set = SELECTIONS.follow(&NONE, &env, given.text.as_bytes(), &mut |_| true);
        assert_eq!(set.unwrap().code, 0);
        let asked = answers(&[
            "db/root_password string x",
            "db/word password x",
            "db/nothing string x",
        ]);
        assert_eq!(asked.old(&env).unwrap(), "db db/word string a b\n");
    }

    #[test]
    fn only_answers_of_a_known_type_are_told() {
        for (said, told) in [
            ("0 string\n0 a b\n", Some("db db/x string a b\n")),
            ("0 password\n0 geheim\n", None),
            ("0 something\n0 geheim\n", None),
            ("10 type does not exist\n0 geheim\n", None),
            ("10 db/x doesn't exist\n10 db/x doesn't exist\n", None),
            ("0 string\n10 no\n", None),
            ("0 string\n0 a\ndb db/y string b\n", None),
            ("", None),
        ] {
            assert_eq!(answered("db/x", said).as_deref(), told, "{said}");
        }
    }

    #[test]
    fn only_a_name_that_a_package_has_is_one() {
        if APT.path().is_err() {
            return; // not a Debian
        }
        let kind = |name: &str| exist(&["dpkg", name]).err().map(|failed| failed.kind);
        assert_eq!(kind("bash"), None);
        for odd in ["bas.", "bash+", "ba.*h", "no-such-package-at-all"] {
            assert_eq!(kind(odd), Some(Kind::NotFound), "{odd}");
        }
        let plan = simulate(&["install", "--", "bas."]);
        assert_eq!(plan.err().map(|failed| failed.kind), Some(Kind::NotFound));
    }

    #[test]
    fn what_apt_complains_of_has_a_kind() {
        let kind = |err: &str| {
            let said = Said {
                code: 100,
                err: err.into(),
                ..Said::default()
            };
            tell(&APT, &said).kind
        };
        let lock =
            "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt-get)";
        assert_eq!(kind(lock), Kind::Busy);
        assert_eq!(kind("E: Unable to locate package nonesuch"), Kind::NotFound);
        assert_eq!(
            kind("E: Packages need to be removed but remove is disabled."),
            Kind::Forbidden
        );
        assert_eq!(kind("E: something else"), Kind::Failed);
    }
}
