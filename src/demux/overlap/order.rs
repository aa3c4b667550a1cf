//! Which of two rules that both hold gets the request, and the parts of a
//! rule that have an order of their own.
#![forbid(unsafe_code)]

use super::kinds::{holds_name, holds_path, names_meet};
use crate::demux::names::Pattern;
use crate::demux::rank::Rank;
use crate::demux::weight::{self, Weight, of_name, of_path, parts_of};
use crate::demux::{Content, Rule};

fn names_of(content: &Content) -> &[Pattern] {
    parts_of(content).0
}

fn paths_of(content: &Content) -> &[String] {
    parts_of(content).1
}

fn heaviest(rule: &Rule) -> Weight {
    weight::heaviest(&rule.content)
}

/// The least that `wide` weighs for a request of `narrow`, which it covers.
fn least(wide: &Rule, narrow: &Rule) -> Weight {
    let names: Vec<&Pattern> = narrow.content.iter().flat_map(names_of).collect();
    let paths: Vec<&String> = narrow.content.iter().flat_map(paths_of).collect();
    let of = |content: &Content| {
        let holds_all = |wide: &&Pattern| names.iter().all(|name| holds_name(wide, name));
        let all = names_of(content);
        let best = all.iter().filter(holds_all).map(of_name).max();
        let name = best.or(all.iter().map(of_name).min()).unwrap_or(0);
        let holds_all = |wide: &&String| paths.iter().all(|path| holds_path(wide, path));
        let all = paths_of(content);
        let best = all.iter().filter(holds_all).map(|path| of_path(path)).max();
        let path = best.or(all.iter().map(|path| of_path(path)).min());
        name | path.unwrap_or(0)
    };
    wide.content.iter().map(of).max().unwrap_or(0)
}

/// Whether `wide` gets every request of `narrow`, which it covers. Each is given with its rank and its
/// place in the order.
pub fn wins(wide: (Rank, usize, &Rule), narrow: (Rank, usize, &Rule)) -> bool {
    if wide.0 != narrow.0 {
        return wide.0 < narrow.0;
    }
    let (least, most) = (least(wide.2, narrow.2), heaviest(narrow.2));
    if wide.1 < narrow.1 {
        // What weighs nothing is taken as soon as it holds.
        heaviest(wide.2) == 0 || most <= least
    } else {
        most > 0 && least > most
    }
}

/// Whether for some request of both, which are of one rank, only the order of the table decides.
pub fn is_by_table(a: &Rule, b: &Rule) -> bool {
    if heaviest(a) == 0 || heaviest(b) == 0 {
        return true;
    }
    let names =
        |rule: &Rule| -> Vec<Pattern> { rule.content.iter().flat_map(names_of).cloned().collect() };
    let paths =
        |rule: &Rule| -> Vec<String> { rule.content.iter().flat_map(paths_of).cloned().collect() };
    let (a_names, b_names) = (names(a), names(b));
    let same_name = if a_names.is_empty() || b_names.is_empty() {
        a_names.is_empty() && b_names.is_empty()
    } else {
        let equal = |a: &Pattern, b: &Pattern| a.weight() == b.weight() && names_meet(a, b);
        a_names.iter().any(|a| b_names.iter().any(|b| equal(a, b)))
    };
    let (a_paths, b_paths) = (paths(a), paths(b));
    same_name
        && if a_paths.is_empty() || b_paths.is_empty() {
            a_paths.is_empty() && b_paths.is_empty()
        } else {
            a_paths.iter().any(|path| b_paths.contains(path))
        }
}

/// A part of a rule: what it is called, and the rule with nothing else in its list.
pub type Part = (String, Rule);

/// For each list of names, paths or prefixes with several entries, the rule with each alone.
pub fn parts(rule: &Rule) -> Vec<Part> {
    let mut all: Vec<Vec<Part>> = Vec::new();
    for (at, content) in rule.content.iter().enumerate() {
        // Not the whole list with each of its thousands: the rule without it, and one put in.
        let with = |rule: &Rule, change: &dyn Fn(&mut Content)| {
            let mut rule = rule.clone();
            rule.content.get_mut(at).map(change);
            rule
        };
        let bare = with(rule, &|content| set_names(content, Vec::new()));
        let names = names_of(content).iter().map(|pattern| {
            let one = |content: &mut Content| set_names(content, vec![pattern.clone()]);
            (format!("\"{pattern}\""), with(&bare, &one))
        });
        all.push(names.collect());
        let bare = with(rule, &|content| set_paths(content, Vec::new()));
        let paths = paths_of(content).iter().map(|path| {
            let one = |content: &mut Content| set_paths(content, vec![path.clone()]);
            (format!("\"{path}\""), with(&bare, &one))
        });
        all.push(paths.collect());
        if let Content::Prefix(prefixes) = content {
            let bare = with(rule, &|content| *content = Content::Prefix(Vec::new()));
            let prefixes = prefixes.iter().map(|bytes| {
                let name = crate::table::show_rule::show_bytes(bytes);
                let one = |content: &mut Content| *content = Content::Prefix(vec![bytes.clone()]);
                (name, with(&bare, &one))
            });
            all.push(prefixes.collect());
        }
    }
    all.retain(|parts| parts.len() > 1);
    all.into_iter().flatten().collect()
}

fn set_names(content: &mut Content, names: Vec<Pattern>) {
    match content {
        Content::Tls(tls) => tls.sni = names,
        Content::Http(http) => http.host = names,
        Content::Dns(dns) => dns.name = names,
        _ => {}
    }
}

fn set_paths(content: &mut Content, paths: Vec<String>) {
    if let Content::Http(http) = content {
        http.path = paths;
    }
}
