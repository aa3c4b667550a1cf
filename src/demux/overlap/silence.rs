//! Clients that say nothing can be for one service only: who gets them.
#![forbid(unsafe_code)]

use super::{Entry, Finding, Id, Share, sets};
use crate::demux::Ending;

/// Where a client may end up that says nothing until the deadline.
struct Silence<'a> {
    id: Id,
    /// `None`: after all rules.
    entry: Option<&'a Entry>,
    /// By a rule that says `timeout`, not by who speaks first.
    explicit: bool,
}

pub fn compare(services: &[Share<'_>], entries: &[Entry], findings: &mut Vec<Finding>) {
    let greets = |id: Id| services.get(id.service).is_some_and(|s| s.speaks_first);
    let mut routes: Vec<Silence<'_>> = Vec::new();
    for entry in entries {
        let reads = !entry.rule.content.is_empty();
        let explicit = !reads && entry.rule.endings.contains(&Ending::Timeout);
        if explicit || (reads && greets(entry.id)) {
            routes.push(Silence {
                id: entry.id,
                entry: Some(entry),
                explicit,
            });
        }
    }
    for (service, share) in services.iter().enumerate() {
        if share.rules.is_empty() && share.speaks_first {
            let id = Id {
                service,
                rule: None,
            };
            routes.push(Silence {
                id,
                entry: None,
                explicit: false,
            });
        }
    }
    for (at, second) in routes.iter().enumerate() {
        let first = routes.iter().take(at).find(|first| compete(first, second));
        if let Some(first) = first {
            findings.push(Finding::Silent {
                first: first.id,
                second: second.id,
            });
        }
    }
}

fn compete(first: &Silence<'_>, second: &Silence<'_>) -> bool {
    if first.id.service == second.id.service || (first.explicit && second.explicit) {
        return false;
    }
    match (first.entry, second.entry) {
        (Some(a), Some(b)) => {
            a.rank == b.rank && sets::addresses_meet(&a.rule.address, &b.rule.address)
        }
        // Rules come first; but one that says nothing but what the bytes are
        // has no more claim to silence than a service without rules.
        (Some(rule), None) | (None, Some(rule)) => {
            !first.explicit
                && !second.explicit
                && rule.rule.priority == 0
                && sets::is_anywhere(&rule.rule.address)
        }
        (None, None) => true,
    }
}
