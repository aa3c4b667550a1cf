//! `{NAME}` in an argument or a path of the catalogue.
#![forbid(unsafe_code)]

/// A part of a text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    /// `{name}`, or `{name.field}`.
    Placeholder {
        name: String,
        field: Option<String>,
    },
}

/// Takes a text apart. `{{` and `}}` stand for braces.
///
/// The error says what is wrong with a brace.
pub fn parse(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let from = &rest[at..];
        if from.starts_with("{{") || from.starts_with("}}") {
            plain.push_str(&from[..1]);
            rest = &from[2..];
            continue;
        }
        let end = from.find('}').filter(|_| from.starts_with('{'));
        let inner = end.and_then(|end| from.get(1..end));
        let Some((inner, end)) = inner.zip(end) else {
            return Err("a brace that belongs to no other; {{ and }} stand for braces".to_owned());
        };
        let (name, field) = match inner.split_once('.') {
            Some((name, field)) => (name, Some(field)),
            None => (inner, None),
        };
        if !is_name(name) || !field.is_none_or(is_name) {
            return Err(format!(
                "{{{inner}}} is no placeholder; {{{{ and }}}} stand for braces"
            ));
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Placeholder {
            name: name.to_owned(),
            field: field.map(str::to_owned),
        });
        rest = &from[end + 1..];
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

/// Whether a text can be the name of a parameter.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase());
    starts_well && text.len() <= 64 && text.bytes().all(plain)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn placeholder(name: &str, field: Option<&str>) -> Piece {
        Piece::Placeholder {
            name: name.to_owned(),
            field: field.map(str::to_owned),
        }
    }

    #[test]
    fn texts_are_taken_apart() {
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("a").unwrap(), [text("a")]);
        assert_eq!(parse("{a}").unwrap(), [placeholder("a", None)]);
        assert_eq!(
            parse("x{a.b}y{c}").unwrap(),
            [
                text("x"),
                placeholder("a", Some("b")),
                text("y"),
                placeholder("c", None)
            ]
        );
        assert_eq!(parse("{{print}} é{{").unwrap(), [text("{print} é{")]);
    }

    #[test]
    fn lone_braces_and_odd_names_are_told() {
        for bad in [
            "{", "}", "a{b", "a}b", "{}", "{A}", "{a b}", "{a.}", "{.a}", "{a.b.c}", "{{a}",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
