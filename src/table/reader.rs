//! Typed reading of a TOML tree: every reader takes a value, complains at its
//! place if it is the wrong thing, and lets the caller go on to the next.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::complaint::{At, Complaint, Fault, Place, did_you_mean};
use super::names::Names;

/// A value of the tree.
pub type Value<'i> = Spanned<DeValue<'i>>;

/// Reads values of the table.
#[derive(Debug)]
pub struct Reader<'a> {
    /// Where each file begins, when the spans of all are counted through.
    pub starts: &'a [usize],
    /// Where everything is said to stand, if the text itself is in no file.
    pub pin: Option<Place>,
    pub names: &'a Names,
    pub complaints: Vec<Complaint>,
}

impl Reader<'_> {
    pub fn place<T>(&self, value: &Spanned<T>) -> Place {
        let counted = || Place::counted(self.starts, value.span());
        self.pin.unwrap_or_else(counted)
    }

    /// Complains about `value` and has nothing to give.
    pub fn complain<T, U>(&mut self, value: &Spanned<T>, fault: Fault) -> Option<U> {
        let place = self.place(value);
        self.complaints.push(fault.at(place));
        None
    }

    /// Whatever `read` makes of `value`, with its place.
    pub fn at<'i, T>(
        &mut self,
        value: &Value<'i>,
        read: impl FnOnce(&mut Self, &Value<'i>) -> Option<T>,
    ) -> Option<At<T>> {
        let place = self.place(value);
        read(self, value).map(|value| At { value, place })
    }

    /// "expected a list, found a number".
    pub fn mismatch<T>(&mut self, value: &Value<'_>, wanted: &str) -> Option<T> {
        let found = kind_of(value.get_ref());
        self.complain(
            value,
            Fault::new(format!("expected {wanted}, found {found}")),
        )
    }

    /// Complains about a key; gives back the one that was meant, probably.
    pub fn unknown<'k>(
        &mut self,
        key: &Spanned<impl AsRef<str>>,
        whose: &str,
        known: &[&'k str],
    ) -> Option<&'k str> {
        let name = key.get_ref().as_ref();
        let fault = Fault::new(format!("no key \"{name}\" in {whose}"));
        let near = did_you_mean(name, known.iter().copied());
        let fault = match near {
            Some(near) => fault.help(format!("did you mean \"{near}\"?")),
            None if known.len() > 12 => fault.help("the keys are in config/README.md"),
            None => fault.help(format!("the keys are {}", known.join(", "))),
        };
        self.complain::<_, ()>(key, fault);
        near
    }

    /// A string without NUL bytes, which no system call would take.
    pub fn string(&mut self, value: &Value<'_>, wanted: &str) -> Option<String> {
        let Some(text) = value.get_ref().as_str() else {
            return self.mismatch(value, wanted);
        };
        if text.contains('\0') {
            return self.complain(value, Fault::new("there is a NUL byte in this text"));
        }
        Some(text.to_owned())
    }

    /// A string that is not empty.
    pub fn word(&mut self, value: &Value<'_>, wanted: &str) -> Option<String> {
        let text = self.string(value, wanted)?;
        if text.is_empty() {
            return self.complain(
                value,
                Fault::new(format!("expected {wanted}, found nothing in it")),
            );
        }
        Some(text)
    }

    /// A string with a grammar of its own.
    pub fn parsed<T>(
        &mut self,
        value: &Value<'_>,
        wanted: &str,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        if let DeValue::Integer(number) = value.get_ref() {
            let fault = Fault::new(format!("expected {wanted}, found the bare number {number}"));
            return self.complain(value, fault);
        }
        let text = self.string(value, wanted)?;
        parse(&text).map_or_else(|fault| self.complain(value, fault), Some)
    }

    pub fn boolean(&mut self, value: &Value<'_>) -> Option<bool> {
        value
            .get_ref()
            .as_bool()
            .or_else(|| self.mismatch(value, "true or false"))
    }

    pub fn number<T>(&mut self, value: &Value<'_>, range: RangeInclusive<i64>) -> Option<T>
    where
        T: TryFrom<i64>,
    {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(integer) = value.get_ref().as_integer() else {
            return self.mismatch(value, &wanted);
        };
        i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|n| range.contains(n))
            .and_then(|n| T::try_from(n).ok())
            .or_else(|| {
                self.complain(
                    value,
                    Fault::new(format!("expected {wanted}, found {integer}")),
                )
            })
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, value: &Value<'_>, words: &[(&str, T)]) -> Option<T> {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let wanted = format!("one of \"{}\"", known.join("\", \""));
        let text = self.string(value, &wanted)?;
        if let Some((_, meant)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meant);
        }
        let fault = Fault::new(format!("expected {wanted}, found \"{text}\""));
        match did_you_mean(&text, known) {
            Some(near) => self.complain(value, fault.help(format!("did you mean \"{near}\"?"))),
            None => self.complain(value, fault),
        }
    }

    pub fn absolute(&mut self, value: &Value<'_>) -> Option<PathBuf> {
        let text = self.string(value, "an absolute path")?;
        if text.starts_with('/') {
            return Some(PathBuf::from(text));
        }
        let fault = Fault::new(format!("\"{text}\" is no absolute path"))
            .help("write it from the root directory: \"/...\"");
        self.complain(value, fault)
    }

    /// Every item, those that are wrong left out and complained about.
    pub fn list<'i, T>(
        &mut self,
        value: &Value<'i>,
        wanted: &str,
        mut item: impl FnMut(&mut Self, &Value<'i>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(items) = value.get_ref().as_array() else {
            return self.mismatch(value, wanted);
        };
        let before = self.complaints.len();
        let read = items.iter().filter_map(|v| item(self, v)).collect();
        (self.complaints.len() == before).then_some(read)
    }

    /// Like [`Self::list`], but a single string stands for a list of one.
    pub fn one_or_more<'i, T>(
        &mut self,
        value: &Value<'i>,
        wanted: &str,
        mut item: impl FnMut(&mut Self, &Value<'i>) -> Option<T>,
    ) -> Option<Vec<T>> {
        if value.get_ref().is_str() {
            return item(self, value).map(|one| vec![one]);
        }
        let read = self.list(value, wanted, item)?;
        if read.is_empty() {
            return self.complain(
                value,
                Fault::new(format!("expected {wanted}, found an empty list")),
            );
        }
        Some(read)
    }

    pub fn table<'v, 'i>(&mut self, value: &'v Value<'i>, wanted: &str) -> Option<&'v DeTable<'i>> {
        let table = value.get_ref().as_table();
        table.or_else(|| self.mismatch(value, wanted))
    }
}

/// The operator's word for a TOML type.
fn kind_of(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => return format!("the text {:?}", shortened(text)),
        DeValue::Integer(number) => return format!("the number {number}"),
        DeValue::Boolean(truth) => return truth.to_string(),
        DeValue::Float(_) => "a fraction",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
    .to_owned()
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}
