//! How exposed the host is to a server: from 0.0, it can do nothing but answer,
//! to 10.0, whoever takes it over has the host. After `systemd-analyze security`.
//!
//! The rule: every item of [`items`] has a weight and a badness of 0 to 10; the
//! score is the mean of the badnesses, weighted. A mechanism counts only where
//! it is asked for and not known to be missing. The score says how much of what
//! usherd could take away is still there; not whether the server deserves trust.
#![forbid(unsafe_code)]

use std::fmt;

use crate::table::isolation::Mechanism;
use crate::table::{Exec, Serve};

mod items;
mod places;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key of the table that decides, `user`, or `capability`.
    pub what: &'static str,
    pub weight: u32,
    /// 0: not exposed; 10: wide open.
    pub badness: u32,
    /// "runs as root", "may reach the network".
    pub reason: String,
}

/// The score and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// In tenths, 0 to 100.
    tenths: u32,
    /// Those that are not 0, what weighs most first.
    pub items: Vec<Item>,
    weights: u32,
}

/// A score of the operator's: in tenths too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score(u32);

/// What a score is called; the steps are those of systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    Perfect,
    Safe,
    Ok,
    Medium,
    Exposed,
    Unsafe,
    Dangerous,
}

impl Grade {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Grade::Perfect => "perfect",
            Grade::Safe => "safe",
            Grade::Ok => "ok",
            Grade::Medium => "medium",
            Grade::Exposed => "exposed",
            Grade::Unsafe => "unsafe",
            Grade::Dangerous => "dangerous",
        }
    }
}

impl Score {
    #[must_use]
    pub fn tenths(tenths: u32) -> Self {
        Self(tenths.min(100))
    }

    /// "4", "4.0": at most one digit after the point, at most 10.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "a number from 0 to 10 is expected, such as 4.0".to_owned();
        let (whole, tenth) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(tenth) || tenth.len() != 1 {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let tenth: u32 = tenth.parse().map_err(|_| wrong())?;
        let tenths = whole.saturating_mul(10).saturating_add(tenth);
        (tenths <= 100).then_some(Self(tenths)).ok_or_else(wrong)
    }

    #[must_use]
    pub fn value(self) -> f64 {
        f64::from(self.0) / 10.0
    }

    #[must_use]
    pub fn grade(self) -> Grade {
        match self.0 {
            0 => Grade::Perfect,
            1..10 => Grade::Safe,
            10..50 => Grade::Ok,
            50..75 => Grade::Medium,
            75..90 => Grade::Exposed,
            90..100 => Grade::Unsafe,
            _ => Grade::Dangerous,
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

impl Exposure {
    /// `None`: no process of its own serves it. Built-in services and relays
    /// run in the front, whose cage no table opens or closes.
    #[must_use]
    pub fn of(serve: &Serve, missing: impl Fn(Mechanism) -> bool) -> Option<Self> {
        match serve {
            Serve::Exec(exec) => Some(Self::of_exec(exec, missing)),
            Serve::Builtin(_) | Serve::Forward(_) => None,
        }
    }

    /// `missing`: what is known not to be in force although it is preferred.
    #[must_use]
    pub fn of_exec(exec: &Exec, missing: impl Fn(Mechanism) -> bool) -> Self {
        let has = |mechanism| exec.isolation.wants(mechanism) && !missing(mechanism);
        Self::sum(items::all(exec, &has))
    }

    fn sum(mut items: Vec<Item>) -> Self {
        let weights: u32 = items.iter().map(|item| item.weight).sum();
        let open: u32 = items.iter().map(|item| item.weight * item.badness).sum();
        items.retain(|item| item.badness > 0);
        items.sort_by_key(|item| std::cmp::Reverse(item.weight * item.badness));
        // Rounded to the nearest tenth, but never to none of what there is.
        let tenths = (open * 10 + weights / 2) / weights.max(1);
        Self {
            tenths: tenths.max(u32::from(open > 0)),
            items,
            weights,
        }
    }

    #[must_use]
    pub fn score(&self) -> Score {
        Score(self.tenths)
    }

    /// How much of the score an item of it makes.
    #[must_use]
    pub fn share(&self, item: &Item) -> f64 {
        f64::from(item.weight * item.badness) / f64::from(self.weights.max(1))
    }
}

#[cfg(test)]
mod tests;
