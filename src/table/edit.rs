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
    let edited = document.to_string();
    // Lines come out with ends of one kind, whatever they had.
    Ok(Some(match has_crlf(text) {
        true => edited.replace("\r\n", "\n").replace('\n', "\r\n"),
        false => edited,
    }))
}

/// The text of a drop-in with the one key for a service that is not in it.
#[must_use]
pub fn with_enabled(text: &str, service: &str, enabled: bool) -> String {
    let gap = if text.is_empty() { "" } else { "\n" };
    let name = key(service);
    format!("{text}{gap}[service.{name}]\nenabled = {enabled}\n")
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
