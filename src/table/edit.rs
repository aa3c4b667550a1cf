//! Changes one value in the text of a table and leaves the rest as the
//! operator wrote it: comments, order, blanks.
#![forbid(unsafe_code)]

use toml_edit::{DocumentMut, Item, Value};

use super::effective::key;

/// The text with `enabled` of a service set; `None` if the service is not in
/// it. The error says why the text cannot be edited.
pub fn set_enabled(text: &str, service: &str, enabled: bool) -> Result<Option<String>, String> {
    let mut document: DocumentMut = text
        .parse()
        .map_err(|err: toml_edit::TomlError| err.message().to_owned())?;
    let Some(services) = document
        .get_mut("service")
        .and_then(Item::as_table_like_mut)
    else {
        return Ok(None);
    };
    let Some(found) = services.get_mut(service) else {
        return Ok(None);
    };
    let Some(table) = found.as_table_like_mut() else {
        return Err(format!("service \"{service}\" is no table there"));
    };
    match table.get_mut("enabled").and_then(Item::as_value_mut) {
        Some(value) => {
            // With the comment behind it.
            let decor = value.decor().clone();
            *value = Value::from(enabled);
            *value.decor_mut() = decor;
        }
        None => {
            table.insert("enabled", toml_edit::value(enabled));
        }
    }
    Ok(Some(with_ends_of(text, document.to_string())))
}

/// The text with a key of a service set to `value`, which is written as TOML, or taken
/// away if that is `None`; `None` if the service is not in it. A dot leads into a table:
/// `resources.memory`.
pub fn set_key(
    text: &str,
    service: &str,
    key: &str,
    value: Option<&str>,
) -> Result<Option<String>, String> {
    let value = value.map(parse_value).transpose()?;
    let mut document: DocumentMut = text
        .parse()
        .map_err(|err: toml_edit::TomlError| err.message().to_owned())?;
    let services = document
        .get_mut("service")
        .and_then(Item::as_table_like_mut);
    let Some(found) = services.and_then(|services| services.get_mut(service)) else {
        return Ok(None);
    };
    let mut item = found;
    let (path, last) = match key.rsplit_once('.') {
        Some((path, last)) => (path.split('.').collect(), last),
        None => (Vec::new(), key),
    };
    for part in path {
        let table = item
            .as_table_like_mut()
            .ok_or_else(|| format!("{key}: what is there is no table"))?;
        if value.is_none() && !table.contains_key(part) {
            return Ok(Some(text.to_owned()));
        }
        item = table
            .entry(part)
            .or_insert_with(|| toml_edit::value(toml_edit::InlineTable::new()));
    }
    let table = item
        .as_table_like_mut()
        .ok_or_else(|| format!("{key}: what is there is no table"))?;
    match (value, table.get_mut(last)) {
        (None, None) => return Ok(Some(text.to_owned())),
        (None, Some(_)) => drop(table.remove(last)),
        (Some(value), Some(old)) => {
            let mut value = value;
            let old = old
                .as_value_mut()
                .ok_or_else(|| format!("{key} is a table of its own there"))?;
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        (Some(value), None) => {
            table.insert(last, toml_edit::value(value));
            // The blank before its brace would stand before the comma.
            item.as_inline_table_mut()
                .into_iter()
                .for_each(toml_edit::InlineTable::fmt);
        }
    }
    Ok(Some(with_ends_of(text, document.to_string())))
}

fn parse_value(text: &str) -> Result<Value, String> {
    text.trim().parse().map_err(|err: toml_edit::TomlError| {
        format!("{text} is no value of TOML: {}", err.message())
    })
}

/// Lines come out with ends of one kind, whatever they had.
fn with_ends_of(text: &str, edited: String) -> String {
    match has_crlf(text) {
        true => edited.replace("\r\n", "\n").replace('\n', "\r\n"),
        false => edited,
    }
}

/// The text of a drop-in with the one key for a service that is not in it.
#[must_use]
pub fn with_enabled(text: &str, service: &str, enabled: bool) -> String {
    format!("{}enabled = {enabled}\n", with_service(text, service))
}

/// The same with no key at all.
#[must_use]
pub fn with_service(text: &str, service: &str) -> String {
    let gap = if text.is_empty() { "" } else { "\n" };
    format!("{text}{gap}[service.{}]\n", key(service))
}

/// Whether every line ends as on Windows.
fn has_crlf(text: &str) -> bool {
    let ends = text.matches('\n').count();
    ends > 0 && text.matches("\r\n").count() == ends
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_word_changes() {
        let text = "# top\n[service.a] # here\nlisten = \"tcp:7\"\nenabled=true   # for now\n\n[service.b]\nlisten = \"tcp:8\"\n";
        let edited = set_enabled(text, "a", false).unwrap().unwrap();
        assert_eq!(edited, text.replace("enabled=true", "enabled=false"));
    }

    #[test]
    fn the_ends_of_lines_stay() {
        let text = "[service.a]\r\nlisten = \"tcp:7\"\r\nenabled = true\r\n";
        let edited = set_enabled(text, "a", false).unwrap().unwrap();
        assert_eq!(edited, text.replace("true", "false"));
    }

    #[test]
    fn a_missing_key_is_added_to_its_service() {
        let text = "[service.a]\nlisten = \"tcp:7\"\n\n# of b\n[service.b]\nlisten = \"tcp:8\"\n";
        let edited = set_enabled(text, "a", false).unwrap().unwrap();
        assert_eq!(
            edited,
            text.replace("\"tcp:7\"\n", "\"tcp:7\"\nenabled = false\n")
        );
        assert_eq!(
            set_enabled(&edited, "a", true).unwrap().unwrap(),
            text.replace("\"tcp:7\"\n", "\"tcp:7\"\nenabled = true\n")
        );
    }

    #[test]
    fn a_drop_in_grows_by_one_service_at_a_time() {
        let one = with_enabled("", "a.b", false);
        assert_eq!(one, "[service.\"a.b\"]\nenabled = false\n");
        assert_eq!(set_enabled(&one, "c", false), Ok(None));
        let two = with_enabled(&one, "c", true);
        assert_eq!(two, format!("{one}\n[service.c]\nenabled = true\n"));
        let back = set_enabled(&two, "a.b", true).unwrap().unwrap();
        assert_eq!(back, two.replace("false", "true"));
    }

    #[test]
    fn a_value_changes_and_what_is_around_it_stays() {
        let text = "# top\n[service.a] # here\nlisten = \"tcp:7\"\nrate=\"5/s\"   # for now\n\n[service.b]\nx = 1\n";
        let set = |key, value| set_key(text, "a", key, value).unwrap().unwrap();
        assert_eq!(
            set("rate", Some("\"9/s burst 20\"")),
            text.replace("5/s", "9/s burst 20")
        );
        assert_eq!(
            set("rate", None),
            text.replace("rate=\"5/s\"   # for now\n", "")
        );
        assert_eq!(set("instances", None), text);
        let added = set("deny", Some("[ \"192.0.2.0/24\" ]"));
        assert!(
            added.contains("# for now\ndeny = [ \"192.0.2.0/24\" ]\n"),
            "{added}"
        );
        let nested = set("resources.memory", Some("\"64M\""));
        assert!(
            nested.contains("resources = { memory = \"64M\" }"),
            "{nested}"
        );
        let again = set_key(&nested, "a", "resources.tasks", Some("9"))
            .unwrap()
            .unwrap();
        assert!(again.contains("{ memory = \"64M\", tasks = 9 }"), "{again}");
        assert_eq!(set_key(text, "c", "rate", None), Ok(None));
    }

    #[test]
    fn no_value_brings_a_line_of_its_own_with_it() {
        let text = "[service.a]\nrate = \"5/s\"\n";
        for bad in [
            "",
            "1\nuser = \"root\"",
            "\"x\" # y\nz = 1",
            "1, 2",
            "]",
            "x",
        ] {
            assert!(
                set_key(text, "a", "instances", Some(bad)).is_err(),
                "{bad:?}"
            );
        }
        assert!(set_key(text, "a", "rate.x", Some("1")).is_err());
    }

    #[test]
    fn every_form_of_a_table_is_found() {
        let inline = "[service]\na = { listen = \"tcp:7\" }\n";
        let edited = set_enabled(inline, "a", false).unwrap().unwrap();
        assert!(edited.contains("enabled = false }"), "{edited}");
        let dotted = "service.a.listen = \"tcp:7\"\n";
        let edited = set_enabled(dotted, "a", false).unwrap().unwrap();
        assert!(edited.contains("enabled = false"), "{edited}");
        assert_eq!(set_enabled(dotted, "b", false), Ok(None));
        assert_eq!(set_enabled("[daemon]\n", "b", false), Ok(None));
        assert!(set_enabled("service = [", "b", false).is_err());
        assert!(set_enabled("service.b = 1", "b", false).is_err());
    }
}
