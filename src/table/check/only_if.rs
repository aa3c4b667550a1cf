//! `only_if`: whether this is a host that a service is for.
#![forbid(unsafe_code)]

use glob::{MatchOptions, Pattern};

use super::Check;
use crate::table::OnlyIf;
use crate::table::host::Found;

/// Host names have no case.
const NAMES: MatchOptions = MatchOptions {
    case_sensitive: false,
    require_literal_separator: false,
    require_literal_leading_dot: false,
};

impl Check<'_> {
    /// The first condition that does not hold: `only_if: /srv/git is not there`.
    pub(super) fn unmet(&mut self, only_if: &OnlyIf) -> Option<String> {
        for path in &only_if.path_exists {
            if self.look(path) == Found::Nothing {
                return Some(format!("only_if: {} is not there", path.display()));
            }
        }
        for path in &only_if.path_missing {
            if self.look(path) != Found::Nothing {
                return Some(format!("only_if: {} is there", path.display()));
            }
        }
        let name = &self.host.hostname;
        let is_it = only_if.host.is_empty() || only_if.host.iter().any(|host| is_named(name, host));
        (!is_it).then(|| format!("only_if: this host is \"{name}\""))
    }
}

/// By its whole name, or by what is before the first dot.
fn is_named(name: &str, pattern: &str) -> bool {
    let short = name.split('.').next().unwrap_or(name);
    Pattern::new(pattern)
        .is_ok_and(|pattern| [name, short].iter().any(|n| pattern.matches_with(n, NAMES)))
}

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn a_host_goes_by_its_whole_name_and_by_its_first_part() {
        assert!(is_named("web1.example.org", "web1"));
        assert!(is_named("web1.example.org", "WEB?.example.org"));
        assert!(is_named("web1.example.org", "web*"));
        assert!(!is_named("web1.example.org", "example"));
        assert!(!is_named("web1.example.org", "web1.example"));
    }
}
