//! The rules of services that share an address, in the order they are asked.
#![forbid(unsafe_code)]

use super::{Inexpressible, Tests, compile_rule};
use crate::demux::Rule;
use crate::demux::rank::{self, Rank};

/// One rule of one service, or what takes the rest.
#[derive(Clone, Debug)]
pub struct Asked {
    pub tests: Tests,
    /// Number of the service in the list.
    pub service: usize,
    /// Number of its rule; `None`: the service has none and takes the rest.
    pub rule: Option<usize>,
}

/// All of them. Fails with the number of the service whose rules are no program's.
pub fn ordered<'r>(
    services: impl IntoIterator<Item = &'r [Rule]>,
) -> Result<Vec<Asked>, (usize, Inexpressible)> {
    let mut ranked: Vec<(bool, Rank, Asked)> = Vec::new();
    for (service, rules) in services.into_iter().enumerate() {
        if rules.is_empty() {
            let rest = Asked {
                tests: Tests::All(Vec::new()),
                service,
                rule: None,
            };
            ranked.push((true, Rank::default(), rest));
        }
        for (number, rule) in rules.iter().enumerate() {
            for (rank, rule) in rank::entries(rule) {
                let asked = Asked {
                    tests: compile_rule(&rule).map_err(|why| (service, why))?,
                    service,
                    rule: Some(number),
                };
                ranked.push((false, rank, asked));
            }
        }
    }
    // Stable: the table's order decides among equals.
    ranked.sort_by_key(|(takes_the_rest, rank, _)| (*takes_the_rest, *rank));
    Ok(ranked.into_iter().map(|(.., asked)| asked).collect())
}
