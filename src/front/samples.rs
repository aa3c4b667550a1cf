//! Values for tests.

use std::time::Duration;

use crate::table::access::Prefix;
use crate::table::{Access, Banner, LogEvents, OnFull, Rate, Rules, SourcePrefix};

/// Rules that let everybody in.
pub fn open_rules() -> Rules {
    Rules {
        wait: false,
        whole: false,
        access: Access::default(),
        hours: Vec::new(),
        instances: 100,
        per_source: None,
        source_prefix: SourcePrefix { v4: 32, v6: 64 },
        rate: None,
        rate_per_source: None,
        max_load: None,
        on_full: OnFull::Queue,
        banner: Banner::default(),
        idle_timeout: None,
        max_runtime: None,
        max_bytes: None,
        log: LogEvents {
            accept: true,
            start: true,
            exit: true,
            refuse: true,
        },
    }
}

#[allow(clippy::unwrap_used, reason = "tests")]
pub fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub fn per_second(count: u32, burst: u32) -> Rate {
    Rate {
        count,
        per: Duration::from_secs(1),
        burst,
    }
}
