//! The list of shipped operations, config/operations.d/SHIPPED.md, from the
//! catalogue itself. Nothing in it depends on the host that writes it.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use crate::admin::catalogue::{Operation, Parameter, Serve};
use crate::table::isolation::{Network, Preset};
use crate::table::{DEFAULT_TABLE, Host, Source, load};

const HEAD: &str = "\
# The operations that usherd brings along

Written by `usherctl generate config` from the files beside it; `usherctl ops` shows what is in force on a host.
[README.md](README.md) says what the keys mean and how to change them. A parameter in brackets may be left out; `*`: a list;
`!`: secret. *Services*: it may stand in a service's `admin` list. *Rights*: what its process has beyond reading the system's programs,
as root where nothing else is said.

| Operation | What it does | Parameters | Services | Rights |
| --- | --- | --- | --- | --- |
";

/// The file.
#[must_use]
pub fn shipped_operations() -> String {
    let source = Source::Text {
        name: "built-in table",
        text: DEFAULT_TABLE,
    };
    let mut out = HEAD.to_owned();
    // The built-in table is right on every host: a test of its own says so.
    for operation in load(source, &Host::probe())
        .iter()
        .flat_map(|loaded| &loaded.table.catalogue.operations)
    {
        let parameters: Vec<String> = operation.parameters.iter().map(parameter).collect();
        let services = if operation.services { "yes" } else { "no" };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {services} | {} |",
            operation.name,
            cell(&operation.description),
            parameters.join(", "),
            cell(&rights(operation).join("; "))
        );
    }
    out
}

fn parameter(parameter: &Parameter) -> String {
    let mut shown = format!("`{}`", parameter.name);
    if parameter.list {
        shown.push('*');
    }
    if parameter.secret {
        shown.push('!');
    }
    match parameter.optional || parameter.default.is_some() {
        true => format!("[{shown}]"),
        false => shown,
    }
}

fn rights(operation: &Operation) -> Vec<String> {
    let isolation = &operation.exec.isolation;
    let mut rights = Vec::new();
    if let Serve::Program { argv, .. } = &operation.serve {
        rights.push(format!("runs {}", argv.first().map_or("", String::as_str)));
    }
    if isolation.preset == Preset::None {
        rights.push("not isolated".to_owned());
    }
    if let Some(some) = isolation
        .capabilities
        .as_ref()
        .filter(|some| !some.is_empty())
    {
        let names: Vec<&str> = some.iter().map(|one| one.name()).collect();
        rights.push(names.join(", "));
    }
    let paths = |verb: &str, paths: &[std::path::PathBuf]| {
        let paths: Vec<String> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        (!paths.is_empty()).then(|| format!("{verb} {}", paths.join(", ")))
    };
    rights.extend(paths("writes", &isolation.writable));
    rights.extend(paths("reads", &isolation.visible));
    if isolation.network != Network::None && isolation.preset != Preset::None {
        rights.push("network".to_owned());
    }
    if !operation.calls.is_empty() {
        rights.push(format!("calls {}", operation.calls.join(", ")));
    }
    rights
}

/// No cell has a bar in it.
fn cell(text: &str) -> String {
    text.replace('|', "or")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::admin::catalogue::parameter::{COMMON_KEYS, TYPE_KEYS};
    use crate::admin::catalogue::read::{OPERATION_KEYS, OPERATORS_KEYS};

    const README: &str = include_str!("../../config/operations.d/README.md");

    #[test]
    fn every_family_has_its_place_in_the_reference() {
        let list = shipped_operations();
        let rows = list.lines().filter_map(|line| line.strip_prefix("| `"));
        let shipped: Vec<&str> = rows
            .filter_map(|row| row.split(['.', '`']).next())
            .collect();
        assert!(shipped.len() > 20, "{list}");
        let (_, place) = README.split_once("## What has a place here").unwrap();
        for family in shipped {
            assert!(place.contains(&format!("`{family}`")), "{family}");
        }
    }

    #[test]
    fn the_examples_of_the_reference_are_right() {
        let example = |number: usize| {
            let block = README.split("```toml\n").nth(number).unwrap();
            block.split("```").next().unwrap()
        };
        let dir = tempfile::tempdir().unwrap();
        let (main, catalogue) = (
            dir.path().join("usherd.toml"),
            dir.path().join("operations.d"),
        );
        std::fs::create_dir(&catalogue).unwrap();
        // These accounts are on no host of the tests.
        let site = example(1).replace("\"www-data\"", "\"git\"");
        let site = site.replace("\"editors\"", "\"adm\"");
        std::fs::write(catalogue.join("site.toml"), site).unwrap();
        std::fs::write(
            &main,
            example(2).replace("user = \"mail\"", "user = \"git\""),
        )
        .unwrap();
        let host = crate::table::host::tests::host(true);
        let loaded = load(Source::File(&main), &host);
        let catalogue = loaded.unwrap_or_else(|err| panic!("{err}")).table.catalogue;
        assert!(catalogue.find("site.publish").is_some());
    }

    #[test]
    fn the_reference_has_every_key() {
        let types = TYPE_KEYS.iter().map(|(name, _)| name);
        let of_types = TYPE_KEYS.iter().flat_map(|(_, keys)| keys.iter());
        let keys = OPERATION_KEYS
            .iter()
            .chain(OPERATORS_KEYS)
            .chain(COMMON_KEYS);
        for key in keys.chain(types).chain(of_types) {
            let is_there =
                README.contains(&format!("`{key}`")) || README.contains(&format!("{key} = "));
            assert!(is_there, "{key}");
        }
    }
}
