//! Keys of one table laid over those of another: what a drop-in does to a
//! service, and a service to the one that it takes its keys `from`.
//!
//! Tables are merged key by key, anything else is replaced. Every value keeps
//! its span, so that a complaint about it still finds the file it is from.
#![forbid(unsafe_code)]

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::table::reader::Value;

/// Keys that may be a bare word, and the key inside that the word stands for.
const SHORT_FORMS: [(&str, &str); 2] = [("isolation", "preset"), ("forward", "to")];

/// What belongs to one service alone, or says how the others come together.
const NOT_INHERITED: [&str; 4] = ["enabled", "description", "from", "unset"];

/// The table with all its spans moved, so that they are counted from the
/// beginning of the first file instead of its own.
pub fn moved<'t>(table: DeTable<'t>, by: usize) -> DeTable<'t> {
    if by == 0 {
        return table;
    }
    table
        .into_iter()
        .map(|(key, value)| {
            let span = shifted(&key.span(), by);
            (Spanned::new(span, key.into_inner()), moved_value(value, by))
        })
        .collect()
}

fn moved_value<'t>(value: Value<'t>, by: usize) -> Value<'t> {
    let span = shifted(&value.span(), by);
    let moved = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(moved(table, by)),
        DeValue::Array(mut items) => {
            for item in items.iter_mut() {
                let span = item.span();
                let value = std::mem::replace(item, Spanned::new(0..0, DeValue::Boolean(false)));
                *item = moved_value(Spanned::new(span, value.into_inner()), by);
            }
            DeValue::Array(items)
        }
        plain => plain,
    };
    Spanned::new(span, moved)
}

fn shifted(span: &Range<usize>, by: usize) -> Range<usize> {
    span.start + by..span.end + by
}

/// A drop-in's keys over a service's. What it has in `unset` goes first.
pub fn lay_over<'t>(lower: &mut DeTable<'t>, upper: DeTable<'t>) {
    for key in unset(&upper) {
        remove(lower, key);
    }
    for (key, value) in upper {
        // Both lists stay: they are asked again over what comes by `from`.
        if key.get_ref() == "unset"
            && let DeValue::Array(more) = value.get_ref()
            && let Some(mine) = lower.get_mut("unset")
            && let DeValue::Array(mine) = mine.get_mut()
        {
            more.iter().for_each(|item| mine.push(item.clone()));
            continue;
        }
        put(lower, key, value);
    }
}

/// A service's keys over those that it takes `from` another.
pub fn inherit<'t>(from: &mut DeTable<'t>, own: DeTable<'t>) {
    for key in NOT_INHERITED {
        from.remove(key);
    }
    lay_over(from, own);
}

fn put<'t>(lower: &mut DeTable<'t>, key: Spanned<toml::de::DeString<'t>>, value: Value<'t>) {
    let span = value.span();
    let Some((old_key, old)) = lower.remove_entry(key.get_ref().as_ref()) else {
        lower.insert(key, value);
        return;
    };
    let whole = old.span();
    match (long_form(&key, old).into_inner(), value.into_inner()) {
        (DeValue::Table(mut below), DeValue::Table(above)) => {
            for (key, value) in above {
                put(&mut below, key, value);
            }
            // The table as a whole stands where it was begun.
            lower.insert(old_key, Spanned::new(whole, DeValue::Table(below)));
        }
        (_, value) => {
            lower.insert(key, Spanned::new(span, value));
        }
    }
}

/// `"strict"` as `{ preset = "strict" }`, so that a key can be added to it.
fn long_form<'t>(key: &Spanned<toml::de::DeString<'t>>, value: Value<'t>) -> Value<'t> {
    let Some((_, inner)) = SHORT_FORMS.iter().find(|(name, _)| key.get_ref() == *name) else {
        return value;
    };
    if value.get_ref().is_table() {
        return value;
    }
    let span = value.span();
    let mut table = DeTable::new();
    table.insert(Spanned::new(span.clone(), (*inner).into()), value);
    Spanned::new(span, DeValue::Table(table))
}

/// The paths in `unset` that make sense; the others are complained about when it is read.
fn unset<'a>(table: &'a DeTable<'_>) -> impl Iterator<Item = &'a str> {
    let listed = table.get("unset").and_then(|v| v.get_ref().as_array());
    listed
        .into_iter()
        .flat_map(|items| items.iter().filter_map(|item| item.get_ref().as_str()))
}

/// Takes away `limits` or `limits.core`.
fn remove(table: &mut DeTable<'_>, path: &str) {
    match path.split_once('.') {
        None => {
            table.remove(path);
        }
        Some((first, rest)) => {
            if let Some(inner) = table.get_mut(first)
                && let DeValue::Table(inner) = inner.get_mut()
            {
                remove(inner, rest);
            }
        }
    }
}
