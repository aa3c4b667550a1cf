//! `ban`, `unban`, `bans`.
#![forbid(unsafe_code)]

use std::time::Duration;

use serde_json::{Value, json};

use super::console::Console;
use super::failure::Failure;
use super::grid::{Grid, elastic, left, right};
use super::text::{escape, seconds};
use crate::control::types::{BanEntry, BanWhom, Banned, GetBans, ThePrefix};

pub fn ban(
    console: &Console,
    prefix: String,
    how_long: Option<Duration>,
    reason: Option<String>,
) -> Result<(), Failure> {
    let asked = BanWhom {
        prefix,
        // A part of a second is a second more, not less.
        for_s: how_long.map(|span| {
            span.as_millis()
                .div_ceil(1_000)
                .try_into()
                .unwrap_or(u64::MAX)
        }),
        reason,
    };
    let done: Banned = console.admin()?.call("Ban", &asked)?;
    console.answer(&done, |Banned { ban }| {
        format!("{} is banned {}\n", escape(&ban.prefix), how_long_yet(ban))
    })
}

fn how_long_yet(ban: &BanEntry) -> String {
    match ban.expires_s {
        Some(left) => format!("for {}", seconds(left)),
        None => "for good".to_owned(),
    }
}

pub fn unban(console: &Console, prefix: String) -> Result<(), Failure> {
    let text = format!("{} is banned no more\n", escape(&prefix));
    let done: Value = console.admin()?.call("Unban", &ThePrefix { prefix })?;
    console.answer(&done, |_| text)
}

pub fn bans(console: &Console) -> Result<(), Failure> {
    let bans: GetBans = console.admin()?.call("GetBans", &json!({}))?;
    console.answer(&bans, |bans| {
        if bans.bans.is_empty() {
            return "nobody is banned\n".to_owned();
        }
        let mut grid = Grid::new(&[
            left("PREFIX", 0),
            right("LEFT", 0),
            right("AGE", 2),
            elastic("REASON", 1),
        ]);
        for ban in &bans.bans {
            grid.row([
                ban.prefix.as_str().into(),
                ban.expires_s.map_or_else(|| "-".to_owned(), seconds).into(),
                seconds(ban.age_s).into(),
                ban.reason.as_deref().unwrap_or("").into(),
            ]);
        }
        console.grid(&grid)
    })
}
