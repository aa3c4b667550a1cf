//! `ops` and `run`: the catalogue of administrative operations, and one request.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};

use serde_json::{Map, Value, json};

use super::console::{Console, Link};
use super::failure::Failure;
use super::grid::{Cell, Grid, Paint, elastic, left};
use super::show::heading;
use super::text::{escape, escape_lines};
use crate::control::frame::MAX_CALL;
use crate::control::types::operations::{GetOperations, Operation, Parameter, Run, RunWhat};
use crate::error::Exit;
use crate::table::complaint::did_you_mean;

/// `ops`, and `ops OPERATION`.
pub fn ops(console: &Console, name: Option<String>) -> Result<(), Failure> {
    let all = catalogue(&mut console.admin()?)?;
    let Some(name) = name else {
        return console.answer(&GetOperations { operations: all }, |all| {
            table(console, &all.operations)
        });
    };
    let found = find(all, &name)?;
    console.answer(&found, |found| page(console, found))
}

/// Names of operations, or with one what its parameters begin with: for shells.
pub fn words(console: &Console, name: Option<String>) -> Result<(), Failure> {
    let all = catalogue(&mut console.admin()?)?;
    let words: Vec<String> = match name {
        None => all.into_iter().map(|operation| operation.name).collect(),
        Some(name) => {
            let parameters = find(all, &name)?.parameters.into_iter();
            parameters.map(|one| format!("{}=", one.name)).collect()
        }
    };
    console.answer(&words, |words| {
        let lines = words.iter().map(|word| format!("{}\n", escape(word)));
        lines.collect()
    })
}

/// What is to be run, as the command line has it.
#[derive(Debug)]
pub struct Asked {
    pub operation: String,
    /// `key=value`
    pub parameters: Vec<String>,
    pub dry_run: bool,
}

pub fn run(console: &Console, asked: Asked) -> Result<(), Failure> {
    let mut link = console.admin()?;
    let operation = find(catalogue(&mut link)?, &asked.operation)?;
    if let Some(why) = &operation.unavailable {
        let (name, why) = (escape(&operation.name), escape(why));
        let text = format!("{name} cannot be asked for here: {why}");
        return Err(Failure::new(Exit::Refused, text));
    }
    let parameters = given(&operation, &asked.parameters, &mut io::stdin())?;
    let what = RunWhat {
        operation: asked.operation,
        parameters: Some(parameters),
        dry_run: asked.dry_run.then_some(true),
    };
    let mut result = Value::Null;
    link.watch("Run", &what, |reply: Run| {
        if let Some(progress) = reply.progress {
            let _ = writeln!(io::stderr(), "{}", escape_lines(&progress));
        }
        result = reply.result.unwrap_or_default();
        Ok(())
    })?;
    console.answer(&result, |result| {
        let head = match asked.dry_run {
            true => "this is what it would do; nothing was done\n",
            false => "",
        };
        format!("{head}{}", readable(result))
    })
}

fn catalogue(link: &mut Link) -> Result<Vec<Operation>, Failure> {
    let GetOperations { operations } = link.call("GetOperations", &json!({}))?;
    Ok(operations)
}

fn find(all: Vec<Operation>, name: &str) -> Result<Operation, Failure> {
    let mut named = all.into_iter().filter(|operation| operation.name == name);
    named.next().ok_or_else(|| Failure::no_such_operation(name))
}

/// The name that was meant, perhaps.
pub fn near(console: &Console, wrong: &str) -> Option<String> {
    let all = catalogue(&mut console.admin().ok()?).ok()?;
    let names = all.iter().map(|operation| operation.name.as_str());
    let names = names.filter(|name| *name != wrong);
    did_you_mean(wrong, names).map(|name| escape(name).into_owned())
}

fn table(console: &Console, all: &[Operation]) -> String {
    if all.is_empty() {
        return "the catalogue has no operations\n".to_owned();
    }
    let mut grid = Grid::new(&[
        left("OPERATION", 0),
        left("YOU", 2),
        elastic("FOR", 3),
        elastic("DESCRIPTION", 1),
    ]);
    for operation in all {
        let you = match (&operation.unavailable, operation.may) {
            (Some(_), _) => Cell::painted("not here", Paint::Faint),
            (None, true) => Cell::painted("may", Paint::Good),
            (None, false) => Cell::painted("may not", Paint::Faint),
        };
        let services = operation.services.iter();
        let services = services.map(|name| format!("service {name}"));
        let whom: Vec<String> = operation
            .operators
            .iter()
            .cloned()
            .chain(services)
            .collect();
        grid.row([
            operation.name.as_str().into(),
            you,
            whom.join(", ").into(),
            operation.description.as_str().into(),
        ]);
    }
    console.grid(&grid)
}

fn page(console: &Console, operation: &Operation) -> String {
    let mut out = format!(
        "{}: {}\n",
        console.paint(Paint::Heading, &escape(&operation.name)),
        escape(&operation.description)
    );
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<10} {}", escape(value));
    };
    if let Some(why) = &operation.unavailable {
        line("not here", why);
    }
    if !operation.result.is_empty() {
        line("result", &operation.result);
    }
    line(
        "you",
        match operation.may {
            true => "may ask for it",
            false => "may not ask for it",
        },
    );
    let always = "root, usherd's own user, daemon.admin_group".to_owned();
    let operators: Vec<String> = std::iter::once(always)
        .chain(operation.operators.iter().cloned())
        .collect();
    line("operators", &operators.join(", "));
    if !operation.services.is_empty() {
        line("services", &operation.services.join(", "));
    }
    if operation.dry_run {
        line("dry run", "it can tell what it would do: --dry-run");
    }
    for (at, need) in operation.needs.iter().enumerate() {
        line(if at == 0 { "needs" } else { "" }, need);
    }
    if !operation.parameters.is_empty() {
        heading(console, &mut out, "parameters");
        out.push_str(&parameters(console, &operation.parameters));
    }
    out
}

fn parameters(console: &Console, all: &[Parameter]) -> String {
    let mut grid = Grid::new(&[
        left("NAME", 0),
        left("TYPE", 0),
        left("GIVEN", 1),
        elastic("LIMITS", 3),
        elastic("DESCRIPTION", 2),
    ]);
    for one in all {
        let mut kind = one.kind.clone();
        if one.list {
            kind.push_str(" list");
        }
        if one.secret {
            kind.push_str(", secret");
        }
        let given = match (&one.default, one.optional) {
            (Some(default), _) => format!("or {default}"),
            (None, true) => "if you like".to_owned(),
            (None, false) => "always".to_owned(),
        };
        grid.row([
            one.name.as_str().into(),
            kind.into(),
            given.into(),
            one.limits.as_deref().unwrap_or("").into(),
            one.description.as_str().into(),
        ]);
    }
    console.grid(&grid)
}

/// The parameters as they go over the socket, each by its type.
fn given(
    operation: &Operation,
    words: &[String],
    stdin: &mut impl Read,
) -> Result<Map<String, Value>, Failure> {
    let mut given = Map::new();
    let mut stdin = Some(stdin);
    for word in words {
        let Some((name, text)) = word.split_once('=') else {
            let text = format!("\"{}\" is no parameter: write NAME=VALUE", escape(word));
            return Err(Failure::usage(text));
        };
        let known = operation.parameters.iter();
        let Some(parameter) = known.clone().find(|one| one.name == name) else {
            let known = known.map(|one| one.name.as_str());
            return Err(unknown(operation, name, known.collect()));
        };
        let text = text_of(parameter, text, &mut stdin)?;
        let value = value_of(parameter, &text)?;
        if !parameter.list {
            if given.insert(name.to_owned(), value).is_some() {
                let text = format!("{name} is given twice, and takes one value");
                return Err(Failure::usage(text));
            }
            continue;
        }
        let list = given.entry(name).or_insert_with(|| json!([]));
        if let Value::Array(items) = list {
            items.push(value);
        }
    }
    Ok(given)
}

fn unknown(operation: &Operation, name: &str, known: Vec<&str>) -> Failure {
    let hint = match did_you_mean(name, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if known.is_empty() => "it has none".to_owned(),
        None => format!("they are {}", known.join(", ")),
    };
    Failure::usage(format!(
        "{} has no parameter \"{}\": {}",
        escape(&operation.name),
        escape(name),
        escape(&hint)
    ))
}

/// The text that is meant by `@FILE`, `-` or itself.
fn text_of(
    parameter: &Parameter,
    text: &str,
    stdin: &mut Option<&mut impl Read>,
) -> Result<String, Failure> {
    let name = escape(&parameter.name);
    let read = if text == "-" {
        let Some(stdin) = stdin.take() else {
            return Err(Failure::usage("stdin can be read for one parameter only"));
        };
        read_all(stdin, "stdin")?
    } else if let Some(rest) = text.strip_prefix("@@") {
        return Ok(format!("@{rest}"));
    } else if let Some(path) = text.strip_prefix('@') {
        let opened = fs::File::open(path).map_err(|err| cannot_read(path, &err));
        read_all(&mut opened?, path)?
    } else {
        if parameter.secret {
            let _ = writeln!(
                io::stderr(),
                "usherctl: everybody can read {name} in the list of processes; {name}=- takes it \
                 from stdin, {name}=@FILE from a file"
            );
        }
        return Ok(text.to_owned());
    };
    // An editor's line end is not part of a password.
    match parameter.lines {
        true => Ok(read),
        false => Ok(read.strip_suffix('\n').unwrap_or(&read).to_owned()),
    }
}

/// No more than a call holds, and one byte.
fn read_all(from: &mut impl Read, name: &str) -> Result<String, Failure> {
    let most = MAX_CALL as u64;
    let mut text = String::new();
    let read = from.take(most + 1).read_to_string(&mut text);
    let read = read.map_err(|err| cannot_read(name, &err))?;
    if read as u64 > most {
        let text = format!("{} has more than {most} bytes", escape(name));
        return Err(Failure::usage(text));
    }
    Ok(text)
}

fn cannot_read(name: &str, err: &io::Error) -> Failure {
    let name = escape(name);
    match err.kind() {
        io::ErrorKind::InvalidData => Failure::usage(format!(
            "{name} is no text: a parameter takes only text, in UTF-8"
        )),
        _ => Failure::new(Exit::NoInput, format!("unable to read {name}: {err}")),
    }
}

fn value_of(parameter: &Parameter, text: &str) -> Result<Value, Failure> {
    let wants = |what: &str| {
        let text = format!("{} wants {what}", escape(&parameter.name));
        Failure::usage(text)
    };
    match parameter.kind.as_str() {
        "integer" | "instance" => {
            let number: Result<i64, _> = text.parse();
            number.map(Value::from).map_err(|_| wants("a whole number"))
        }
        "boolean" => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(wants("true or false")),
        },
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// A result for a reader: `key: value`, and what is inside one indented below it.
fn readable(result: &Value) -> String {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    if is_empty(result) {
        return "done\n".to_owned();
    }
    let mut out = String::new();
    put(&mut out, result, 0);
    out
}

fn put(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = escape(key);
                match inline(value) {
                    Some(text) if text.is_empty() => _ = writeln!(out, "{indent}{key}:"),
                    Some(text) => _ = writeln!(out, "{indent}{key}: {text}"),
                    None => {
                        let _ = writeln!(out, "{indent}{key}:");
                        put(out, value, depth + 1);
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut inner = String::new();
                put(&mut inner, item, depth + 1);
                // The first line of an item is marked.
                let at = indent.len();
                let rest = inner.get(at + 2..).unwrap_or_default();
                let _ = write!(out, "{indent}- {rest}");
            }
        }
        Value::String(text) => {
            for line in escape_lines(text).lines() {
                let _ = writeln!(out, "{indent}{line}");
            }
        }
        other => _ = writeln!(out, "{indent}{other}"),
    }
}

/// What fits behind its key: a plain value, or a list of such.
fn inline(value: &Value) -> Option<String> {
    match value {
        Value::Object(map) if map.is_empty() => Some(String::new()),
        Value::Object(_) => None,
        Value::String(text) if text.contains('\n') => None,
        Value::String(text) => Some(escape(text).into_owned()),
        Value::Null => Some("-".to_owned()),
        Value::Array(items) => {
            let plain = |item: &Value| !item.is_object() && !item.is_array();
            let texts = items.iter().map(|item| match plain(item) {
                true => inline(item),
                false => None,
            });
            Some(texts.collect::<Option<Vec<_>>>()?.join(", "))
        }
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn operation(parameters: Value) -> Operation {
        let common = json!({
            "description": "", "list": false, "optional": true, "secret": false, "lines": false,
        });
        let parameters = parameters.as_array().unwrap().iter().map(|one| {
            let mut all = common.clone();
            let all_map = all.as_object_mut().unwrap();
            all_map.extend(one.as_object().unwrap().clone());
            all
        });
        serde_json::from_value(json!({
            "name": "x.y", "description": "", "result": "", "operators": [], "services": [],
            "needs": [], "dry_run": false, "may": true,
            "parameters": parameters.collect::<Vec<_>>(),
        }))
        .unwrap()
    }

    fn try_given(words: &[&str], stdin: &str) -> Result<Value, String> {
        let operation = operation(json!([
            {"name": "text", "type": "string"},
            {"name": "page", "type": "string", "lines": true},
            {"name": "count", "type": "integer"},
            {"name": "on", "type": "boolean"},
            {"name": "many", "type": "instance", "list": true},
        ]));
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let given = given(&operation, &words, &mut stdin.as_bytes());
        given.map(Value::Object).map_err(|failure| failure.text)
    }

    #[test]
    fn values_go_by_their_type() {
        let words = ["text=7", "count=-7", "on=true", "many=1", "many=2"];
        let expected = json!({"text": "7", "count": -7, "on": true, "many": [1, 2]});
        assert_eq!(try_given(&words, ""), Ok(expected));
        let text = |word: &str| try_given(&[word], "from stdin\n").unwrap()["text"].clone();
        assert_eq!(text("text=a=b"), "a=b");
        assert_eq!(text("text="), "");
        assert_eq!(text("text=-x"), "-x");
        assert_eq!(text("text=@@x"), "@x");
        assert_eq!(text("text=-"), "from stdin");
        assert_eq!(try_given(&["page=-"], "a\n").unwrap()["page"], "a\n");
    }

    #[test]
    fn words_that_make_no_sense_are_told() {
        for (words, why) in [
            (&["text"][..], "write NAME=VALUE"),
            (&["txt=1"], "did you mean \"text\"?"),
            (&["zzz=1"], "they are text, page, count"),
            (&["count=1e3"], "whole number"),
            (&["count=0x10"], "whole number"),
            (&["on=yes"], "true or false"),
            (&["text=1", "text=2"], "twice"),
            (&["text=-", "page=-"], "one parameter only"),
            (&["text=@/nowhere/at/all"], "unable to read /nowhere/at/all"),
        ] {
            let said = try_given(words, "").unwrap_err();
            assert!(said.contains(why), "{words:?}: {said}");
        }
        let long = "x".repeat(MAX_CALL + 1);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("latin1");
        fs::write(&file, b"Stra\xdfe").unwrap();
        let word = format!("text=@{}", file.display());
        let said = try_given(&[&word], "").unwrap_err();
        assert!(said.ends_with("only text, in UTF-8"), "{said}");
        assert!(
            try_given(&["page=-"], &long)
                .unwrap_err()
                .contains("more than")
        );
    }

    #[test]
    fn results_are_readable_and_escaped() {
        let result = json!({
            "name": "a\u{1b}[2J", "none": null, "list": [1, "two"], "empty": [],
            "inside": {"deep": {"x": 1}, "text": "one\ntwo"},
            "rows": [{"id": 1, "of": ["a"]}, {"id": 2}],
        });
        assert_eq!(
            readable(&result),
            "empty:\n\
             inside:\n  deep:\n    x: 1\n  text:\n    one\n    two\n\
             list: 1, two\n\
             name: a\\x1b[2J\n\
             none: -\n\
             rows:\n  - id: 1\n    of: a\n  - id: 2\n"
        );
        assert_eq!(readable(&json!({})), "done\n");
        assert_eq!(readable(&Value::Null), "done\n");
        assert_eq!(readable(&json!("x")), "x\n");
    }
}
