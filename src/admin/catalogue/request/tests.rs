//! Hostile and honest requests against one entry that has a parameter of each type.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::table::host::tests::host;
use crate::table::{Source, load};

const ENTRY: &str = include_str!("../../../../tests/fuzz/parameters.toml");

fn entry(name: &str) -> Operation {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("operations.d")).unwrap();
    fs::write(dir.path().join("operations.d/own.toml"), ENTRY).unwrap();
    let main = dir.path().join("usherd.toml");
    fs::write(
        &main,
        "[service.echo]\nlisten = \"tcp:1\"\nbuiltin = \"echo\"\n",
    )
    .unwrap();
    let loaded = load(Source::File(&main), &host(true)).unwrap_or_else(|c| panic!("{c}"));
    loaded.table.catalogue.find(name).unwrap().clone()
}

/// root, the group adm, the services mail and git; mail has instance 7, git 8.
struct Few;

impl World for Few {
    fn has_user(&self, name: &str) -> bool {
        name == "root"
    }

    fn has_group(&self, name: &str) -> bool {
        name == "adm"
    }

    fn has_service(&self, name: &str) -> bool {
        ["mail", "git"].contains(&name)
    }

    fn service_of(&self, instance: u64) -> Option<String> {
        let name = match instance {
            7 => "mail",
            8 => "git",
            _ => return None,
        };
        Some(name.to_owned())
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => unreachable!("the tests give objects"),
    }
}

fn asked(operation: &Operation, given: Value, asking: Asking<'_>) -> Result<Value, Wrong> {
    let checked = operation.check(&object(given), asking, &Few)?;
    Ok(Value::Object(checked.0))
}

fn wrong(operation: &Operation, given: Value) -> String {
    match asked(operation, given.clone(), Asking::Operator) {
        Err(Wrong::Parameter { reason, .. }) => reason,
        other => panic!("{given}: {other:?}"),
    }
}

#[test]
fn values_of_each_type_are_taken() {
    let operation = entry("try");
    for (given, comes_to) in [
        (json!({"text": "any ünï text"}), None),
        (json!({"word": "ab"}), None),
        (json!({"word": "é"}), Some("short")),
        (json!({"listed": "net.ipv4.ip_forward"}), None),
        (json!({"lines": "a\n\tb\r\n"}), None),
        (json!({"lines": ""}), None),
        (json!({"number": -3}), None),
        (json!({"flag": false}), None),
        (json!({"choice": "off"}), None),
        (json!({"path": "/srv/www/a b/ü"}), None),
        (
            json!({"user": "root", "group": "adm", "service": "git"}),
            None,
        ),
        (json!({"instance": 8}), None),
        (json!({"prefix": "2001:db8::/32"}), None),
        (json!({"many": ["a", "b"]}), None),
        (json!({"many": []}), None),
    ] {
        let taken = asked(&operation, given.clone(), Asking::Operator);
        if comes_to == Some("short") {
            assert!(taken.is_err(), "one character, whatever its bytes");
            continue;
        }
        let mut expected = object(given.clone());
        expected.insert("usual".to_owned(), json!(5));
        assert_eq!(taken, Ok(Value::Object(expected)), "{given}");
    }
}

#[test]
fn some_values_come_to_others() {
    let operation = entry("try");
    for (given, name, comes_to) in [
        (json!({"span": "90s"}), "span", json!(90_000)),
        (json!({"size": "1M"}), "size", json!(1 << 20)),
        (
            json!({"prefix": "192.0.2.7"}),
            "prefix",
            json!("192.0.2.7/32"),
        ),
        (
            json!({"prefix": "2001:DB8::1"}),
            "prefix",
            json!("2001:db8::1/128"),
        ),
        (
            json!({"prefix": "::ffff:192.0.2.0/120"}),
            "prefix",
            json!("192.0.2.0/24"),
        ),
        (json!({"usual": 3}), "usual", json!(3)),
        (json!({"usual": null}), "usual", json!(5)),
    ] {
        let taken = asked(&operation, given.clone(), Asking::Operator).unwrap();
        assert_eq!(taken[name], comes_to, "{given}");
    }
}

#[test]
fn no_type_passes_for_another() {
    let operation = entry("try");
    let values = [
        json!("7"),
        json!(7),
        json!(7.0),
        json!(1e3),
        json!(true),
        json!([]),
        json!([7]),
        json!({}),
    ];
    let takes = |name: &str, value: &Value| match name {
        "text" | "password" | "lines" => value == &json!("7"),
        "number" | "instance" | "usual" => value == &json!(7),
        "flag" => value == &json!(true),
        "many" => value == &json!([]),
        _ => false,
    };
    for parameter in &operation.parameters {
        for value in &values {
            let given = json!({ parameter.name.clone(): value });
            let taken = asked(&operation, given, Asking::Operator).is_ok();
            assert_eq!(
                taken,
                takes(&parameter.name, value),
                "{}: {value}",
                parameter.name
            );
        }
    }
}

#[test]
fn values_that_are_out_of_bounds_are_refused() {
    let operation = entry("try");
    let long = "x".repeat(257);
    let name = format!("/srv/www/{}", "x".repeat(256));
    for (given, why) in [
        (json!({"text": "a\0b"}), "NUL"),
        (json!({"text": "a\nb"}), "control"),
        (json!({"text": "\u{202e}gnp"}), "control"),
        (json!({"text": ""}), "empty"),
        (json!({"text": long}), "256"),
        (json!({"lines": "\u{1b}[2J"}), "control"),
        (json!({"word": "a"}), "less than 2"),
        (json!({"word": "abcdef"}), "more than 5"),
        (json!({"word": "ab\u{e9}"}), "match"),
        (json!({"word": "ab\n"}), "control"),
        (json!({"listed": "net.ipv6.x"}), "list"),
        (json!({"listed": "net.ipv4/../x"}), "list"),
        (json!({"nothing": "a"}), "nothing is allowed"),
        (json!({"number": 8}), "from -3 to 7"),
        (json!({"number": u64::MAX}), "from -3 to 7"),
        (json!({"choice": "On"}), "one of"),
        (json!({"path": "srv/www/x"}), "absolute"),
        (json!({"path": "/srv/www"}), "not below"),
        (json!({"path": "/srv/wwwx/a"}), "not below"),
        (json!({"path": "/srv/www/../../etc/shadow"}), "\"..\""),
        (json!({"path": "/srv/www/./x"}), "\".\""),
        (json!({"path": "/srv/www//x"}), "empty name"),
        (json!({"path": "/srv/www/x/"}), "empty name"),
        (json!({"path": "//srv/www/x"}), "empty name"),
        (json!({"path": "/etc/passwd"}), "not below"),
        (json!({"path": "/srv/www/a\nb"}), "control"),
        (json!({"path": "/srv/www/a\0"}), "NUL"),
        (json!({"path": name}), "255"),
        (json!({"path": ""}), "absolute"),
        (json!({"user": "nobody2"}), "no user"),
        (json!({"user": "-root"}), "no account"),
        (json!({"user": "0"}), "no account"),
        (json!({"user": "ro ot"}), "no account"),
        (json!({"user": "../root"}), "no account"),
        (json!({"group": "-adm"}), "no account"),
        (json!({"service": "web"}), "no service"),
        (json!({"service": "--all"}), "no name"),
        (json!({"instance": 9}), "no instance"),
        (json!({"instance": -1}), "number of an instance"),
        (json!({"prefix": "192.0.2.7/24"}), "outside"),
        (json!({"prefix": "192.0.2.0/33"}), "length"),
        (json!({"prefix": "010.0.0.1"}), "address"),
        (json!({"prefix": "host.example"}), "address"),
        (json!({"span": "2h"}), "more than 1h"),
        (json!({"span": "10"}), "duration"),
        (json!({"span": "-1s"}), "duration"),
        (json!({"size": "2G"}), "more than 1G"),
        (json!({"size": "1.5M"}), "size"),
        (json!({"many": ["a", "b", 3]}), "item 3"),
        (json!({"many": ["a", "bbbb"]}), "item 2"),
        (json!({"many": "a"}), "list"),
        (json!({"many": vec!["a"; 257]}), "256 items"),
        (json!({"usual": "5"}), "whole number"),
        (json!({"pasword": "x"}), "did you mean \"password\"?"),
        (json!({"zzz": "x"}), "the parameters are text"),
    ] {
        let reason = wrong(&operation, given.clone());
        assert!(reason.contains(why), "{given}: {reason}");
    }
    assert!(wrong(&entry("needs"), json!({})).contains("required"));
    assert!(wrong(&entry("needs"), json!({"name": null})).contains("required"));
}

#[test]
fn reasons_repeat_no_value() {
    let operation = entry("try");
    for name in [
        "password", "text", "word", "listed", "choice", "path", "user", "span",
    ] {
        for value in ["gehe1m\0", "gehe1m\n", &"gehe1m".repeat(100)] {
            let reason = wrong(&operation, json!({ name: value }));
            assert!(!reason.contains("gehe1m"), "{reason}");
        }
    }
}

#[test]
fn all_together_have_a_bound() {
    let mut given = Map::new();
    for name in ["lines", "text"] {
        given.insert(name.to_owned(), json!("é\u{1}".repeat(MAX_CALL)));
    }
    let reason = wrong(&entry("try"), Value::Object(given));
    assert!(reason.contains("all parameters together"), "{reason}");
}

#[test]
fn a_service_names_itself_and_nothing_of_others() {
    let operation = entry("own");
    let with = BTreeMap::new();
    let mail = Asking::Service {
        name: "mail",
        instance: 7,
        state: Some(Path::new("/var/lib/mail")),
        with: &with,
    };
    let filled = asked(&operation, json!({}), mail).unwrap();
    let expected = json!({"service": "mail", "instance": 7, "services": ["mail"]});
    assert_eq!(filled, expected);
    let own = json!({"service": "mail", "instance": 7, "file": "/var/lib/mail/x/y"});
    assert!(asked(&operation, own, mail).is_ok());
    for given in [
        json!({"service": "git"}),
        json!({"service": "nosuch"}),
        json!({"services": ["mail", "git"]}),
        json!({"instance": 8}),
        json!({"instance": 99}),
        json!({"file": "/var/lib/mail"}),
        json!({"file": "/var/lib/mailx/a"}),
        json!({"file": "/var/lib/git/a"}),
        json!({"file": "/srv/a"}),
    ] {
        let refused = asked(&operation, given.clone(), mail);
        assert!(
            matches!(refused, Err(Wrong::NotPermitted { .. })),
            "{given}: {refused:?}"
        );
    }
    // What another service has is answered as what is not there.
    let said = |number: u64| asked(&operation, json!({ "instance": number }), mail);
    assert_eq!(said(8), said(99));
    let stateless = Asking::Service {
        name: "mail",
        instance: 7,
        state: None,
        with: &with,
    };
    assert!(asked(&operation, json!({"file": "/var/lib/mail/x"}), stateless).is_err());
    // An operator names what he likes, and has to.
    assert!(asked(&operation, json!({}), Asking::Operator).is_err());
    let given =
        json!({"service": "git", "services": ["mail", "git"], "instance": 8, "file": "/srv/a"});
    assert!(asked(&operation, given, Asking::Operator).is_ok());
}

#[test]
fn the_list_of_a_service_narrows_what_it_may_give() {
    let operation = entry("try");
    let with = BTreeMap::from([
        (
            "text".to_owned(),
            vec!["mail-*".to_owned(), "post".to_owned()],
        ),
        ("path".to_owned(), vec!["/srv/www/mail/**".to_owned()]),
        ("span".to_owned(), vec!["*s".to_owned()]),
        ("many".to_owned(), vec!["a*".to_owned()]),
    ]);
    let mail = Asking::Service {
        name: "mail",
        instance: 7,
        state: None,
        with: &with,
    };
    let fits = json!({"text": "mail-7", "path": "/srv/www/mail/a/b", "span": "90s", "many": ["a"]});
    assert!(asked(&operation, fits.clone(), mail).is_ok());
    for (name, value) in [
        ("text", json!("xmail-7")),
        ("text", json!("mail")),
        ("text", json!("post2")),
        ("text", Value::Null),
        ("path", json!("/srv/www/other/a")),
        ("span", json!("5m")),
        ("many", json!(["a", "b"])),
    ] {
        let mut given = object(fits.clone());
        given.insert(name.to_owned(), value.clone());
        let refused = asked(&operation, Value::Object(given), mail);
        let is_it = matches!(&refused, Err(Wrong::NotPermitted { name: of, .. }) if of == name);
        assert!(is_it, "{name} = {value}: {refused:?}");
    }
    assert!(asked(&operation, json!({"text": "other"}), Asking::Operator).is_ok());
}

#[test]
fn an_argument_is_never_taken_for_an_option() {
    let operation = entry("program");
    for (given, is_taken) in [
        (json!({"name": "-x"}), true), // "--name=-x"
        (json!({"first": "-x"}), false),
        (json!({"first": "x-"}), true),
        (json!({"admitted": "--force"}), true), // after "--", and a pattern admits it
        (json!({"rest": "--force"}), false),    // no pattern does
    ] {
        let taken = asked(&operation, given.clone(), Asking::Operator);
        assert_eq!(taken.is_ok(), is_taken, "{given}: {taken:?}");
    }
}

#[test]
fn a_parameter_stays_in_its_word() {
    let operation = entry("program");
    let Serve::Program { argv, .. } = &operation.serve else {
        unreachable!("it is a program")
    };
    let line = |given: Value| {
        let checked = operation.check(&object(given), Asking::Operator, &Few);
        expand(argv, &checked.unwrap())
    };
    assert_eq!(line(json!({})), ["/bin/x", "-v", "--"]);
    assert_eq!(
        line(json!({"name": "a b; $(x) \"'", "first": "*", "many": [1, 2]})),
        [
            "/bin/x",
            "-v",
            "--name=a b; $(x) \"'",
            "*",
            "--",
            "aa b; $(x) \"'b{}",
            "1",
            "2"
        ]
    );
    assert_eq!(line(json!({"rest": "{name}"})).last().unwrap(), "{name}");
}

#[test]
fn the_log_has_no_secrets() {
    let operation = entry("try");
    let masked = operation.masked(&object(json!({
        "password": "gehe1m",
        "pasword": "gehe1m",
        "text": "x".repeat(1000),
        "number": {"gehe1m": 1},
        "many": ["a"],
    })));
    assert!(!masked.to_string().contains("gehe1m"), "{masked}");
    assert_eq!(masked["password"], "***");
    assert_eq!(masked["pasword"], "(no such parameter)");
    assert!(
        masked["text"]
            .as_str()
            .unwrap()
            .ends_with("... (1000 bytes)")
    );
    let many = (0..1000).map(|n| (format!("n{n}"), json!(n))).collect();
    assert_eq!(
        operation.masked(&many).as_object().unwrap().len(),
        STRANGERS
    );
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-5..10_i64).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z0-9./:-]{0,12}".prop_map(Value::from),
        "/(srv/www|var/lib|etc)(/[a-z.]{0,3}){0,4}".prop_map(Value::from),
        "-{0,2}[a-z]{1,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,3}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_taken_is_what_the_catalogue_says(values in proptest::collection::vec((0..19_usize, any_value()), 0..40)) {
        let operation = entry("try");
        for (which, value) in values {
            let parameter = &operation.parameters[which];
            let given = object(json!({ parameter.name.clone(): value }));
            let Ok(checked) = operation.check(&given, Asking::Operator, &Few) else {
                continue;
            };
            let Some(taken) = checked.0.get(&parameter.name) else {
                prop_assert!(value.is_null());
                continue;
            };
            // Checked once more it is the same, but for those that come to numbers.
            if !matches!(parameter.kind, Kind::Duration { .. } | Kind::Size { .. }) {
                let again = operation.check(&checked.0, Asking::Operator, &Few).unwrap();
                prop_assert_eq!(again.0.get(&parameter.name), Some(taken));
            }
            for item in items(taken) {
                if let Some(text) = item.as_str() {
                    prop_assert!(!text.contains('\0'));
                }
                if let (Kind::Path { roots }, Some(text)) = (&parameter.kind, item.as_str()) {
                    let path = Path::new(text);
                    prop_assert!(roots.iter().any(|root| path.starts_with(root)));
                    prop_assert!(path.components().all(|part| part.as_os_str() != ".."));
                    prop_assert_eq!(path.components().collect::<std::path::PathBuf>(), path);
                }
            }
        }
    }

    #[test]
    fn no_value_makes_another_word(name in any::<String>(), first in any::<String>()) {
        let operation = entry("program");
        let given = object(json!({"name": name, "first": first}));
        if let Ok(checked) = operation.check(&given, Asking::Operator, &Few)
            && let Serve::Program { argv, .. } = &operation.serve
        {
            let words = expand(argv, &checked);
            prop_assert_eq!(words.len(), 6);
            prop_assert_eq!(&words[2], &format!("--name={name}"));
            prop_assert!(!words[3].starts_with('-'));
        }
    }
}
