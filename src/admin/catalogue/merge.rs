//! Keys of an operator's file over those of an operation that is there already.
//!
//! `parameters` and each parameter in it are merged key by key; everything else
//! is replaced as a whole, so that nobody gets the half of an `isolation` that
//! he did not read.
#![forbid(unsafe_code)]

use toml::de::{DeTable, DeValue};

/// What serves is one of two, and takes what belongs to the other with it.
const OF_BUILTIN: [&str; 3] = ["builtin", "dry_run", "calls"];
const OF_EXEC: [&str; 2] = ["exec", "dry_run_exec"];

/// Tables within each other that are merged: `parameters`, and `parameters.X`.
const DEPTH: u32 = 2;

/// `upper` over `lower`, both tables of the same operation.
pub fn lay_over<'t>(lower: &mut DeTable<'t>, upper: DeTable<'t>) {
    let mut gone: Vec<&str> = Vec::new();
    if upper.contains_key("exec") {
        gone.extend(OF_BUILTIN);
    }
    if upper.contains_key("builtin") {
        gone.extend(OF_EXEC);
    }
    for key in gone {
        lower.remove(key);
    }
    for (key, value) in upper {
        let depth = if key.get_ref() == "parameters" {
            DEPTH
        } else {
            0
        };
        put(lower, key, value, depth);
    }
}

fn put<'t>(
    lower: &mut DeTable<'t>,
    key: toml::Spanned<toml::de::DeString<'t>>,
    value: toml::Spanned<DeValue<'t>>,
    depth: u32,
) {
    let Some(old) = lower.get_mut(key.get_ref().as_ref()) else {
        lower.insert(key, value);
        return;
    };
    if depth > 0
        && let DeValue::Table(below) = old.get_mut()
        && value.get_ref().is_table()
    {
        if let DeValue::Table(above) = value.into_inner() {
            for (key, value) in above {
                put(below, key, value, depth - 1);
            }
        }
        return;
    }
    *old = value;
}
