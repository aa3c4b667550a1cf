//! Parameters of administrative operations: what passes the check keeps to the
//! catalogue, whatever was sent.
#![no_main]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use usherd::admin::catalogue::request::{Asking, World, expand};
use usherd::admin::catalogue::{Catalogue, Kind, Operation, Serve};
use usherd::table::{Host, Source, load};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/parameters.toml");

fn catalogue() -> &'static Catalogue {
    static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
    CATALOGUE.get_or_init(|| {
        let text = format!(
            "[daemon]\noperations = [{FILE:?}]\n[service.x]\nlisten = \"tcp:4007\"\nbuiltin = \"echo\"\n"
        );
        let source = Source::Text {
            name: "fuzz",
            text: &text,
        };
        let loaded = load(source, &Host::probe()).expect("the sample is right");
        Catalogue::clone(&loaded.table.catalogue)
    })
}

/// root, adm, and the service "mail" with instance 7.
struct Few;

impl World for Few {
    fn has_user(&self, name: &str) -> bool {
        name == "root"
    }
    fn has_group(&self, name: &str) -> bool {
        name == "adm"
    }
    fn has_service(&self, name: &str) -> bool {
        name == "mail"
    }
    fn service_of(&self, instance: u64) -> Option<String> {
        (instance == 7).then(|| "mail".to_owned())
    }
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn holds(operation: &Operation, taken: &Map<String, Value>, is_service: bool) {
    for (name, value) in taken {
        let parameter = operation.parameters.iter().find(|one| one.name == *name);
        let parameter = parameter.expect("only what the catalogue has is handed on");
        assert_eq!(value.is_array(), parameter.list);
        for text in texts(value) {
            assert!(!text.contains('\0'));
            match &parameter.kind {
                Kind::Path { roots } => {
                    let path = Path::new(text);
                    assert!(roots.iter().any(|root| path != root && path.starts_with(root)));
                    assert!(!text.contains("/../") && !text.ends_with("/.."));
                    assert!(!is_service || !parameter.own || path.starts_with("/var/lib/mail"));
                }
                Kind::User => assert_eq!(text, "root"),
                Kind::Group => assert_eq!(text, "adm"),
                Kind::Service => assert_eq!(text, "mail"),
                Kind::Text { max_length, .. } => {
                    assert!(text.chars().count() <= *max_length as usize);
                }
                _ => {}
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, message)) = data.split_first() else {
        return;
    };
    let Ok(given) = serde_json::from_slice::<Map<String, Value>>(message) else {
        return;
    };
    let names = ["try", "own", "needs", "program"];
    let operation = catalogue().find(names[usize::from(choice & 3)]);
    let operation = operation.expect("it is in the sample");
    let with = BTreeMap::from([("text".to_owned(), vec!["mail-*".to_owned()])]);
    let is_service = choice & 4 != 0;
    let asking = match is_service {
        true => Asking::Service {
            name: "mail",
            instance: 7,
            state: Some(Path::new("/var/lib/mail")),
            with: &with,
        },
        false => Asking::Operator,
    };
    let shown = operation.masked(&given);
    if let Some(secret) = given.get("password").filter(|_| choice & 3 == 0) {
        assert!(secret == "***" || shown["password"] == "***");
    }
    let Ok(taken) = operation.check(&given, asking, &Few) else {
        return;
    };
    holds(operation, &taken.0, is_service);
    if let Serve::Program { argv, .. } = &operation.serve {
        let words = expand(argv, &taken);
        let end = words.iter().position(|word| word == "--");
        let end = end.expect("the template has one");
        assert_eq!(words[1], "-v");
        let options = words[2..end].iter().filter(|word| word.starts_with('-'));
        assert!(options.clone().all(|word| word.starts_with("--name=")));
        assert!(options.count() <= 1);
    }
});
