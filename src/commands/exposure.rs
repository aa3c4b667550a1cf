//! `check --exposure`: how exposed each service leaves the host, and which of
//! them more than the operator wants. Judged by the table alone.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::control::types;
use crate::ctl::grid::{Grid, elastic, left, right};
use crate::sandbox::exposure::{Exposure, Score};
use crate::sandbox::report::shown_exposure;
use crate::table::{Service, Table};

/// So many reasons are given for a service that is above the limit.
const REASONS: usize = 3;

/// A service and its score, `None` where the front answers itself.
#[derive(Clone, Debug, Serialize)]
pub struct Rated {
    pub service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposure: Option<types::Exposure>,
    #[serde(skip)]
    score: Option<Score>,
}

/// Every service of a table, in its order.
#[must_use]
pub fn rate(table: &Table) -> Vec<Rated> {
    table.services.iter().map(rated).collect()
}

fn rated(service: &Service) -> Rated {
    let exposure = Exposure::of(&service.serve, |_| false);
    Rated {
        service: service.name.clone(),
        score: exposure.as_ref().map(Exposure::score),
        exposure: exposure.as_ref().map(shown_exposure),
    }
}

impl Rated {
    #[must_use]
    pub fn is_above(&self, limit: Score) -> bool {
        self.score.is_some_and(|score| score > limit)
    }

    /// What makes the most of the score, in a line.
    fn worst(&self) -> String {
        let reasons = self.exposure.iter().flat_map(|known| &known.reasons);
        let worst: Vec<&str> = reasons.take(REASONS).map(|r| r.text.as_str()).collect();
        worst.join("; ")
    }
}

/// A line for each service; the reasons of those above the limit.
#[must_use]
pub fn page(rated: &[Rated], limit: Score) -> String {
    let mut grid = Grid::new(&[
        left("SERVICE", 0),
        right("EXPOSURE", 0),
        left("GRADE", 0),
        elastic("WHY", 1),
    ]);
    for one in rated {
        match (&one.exposure, one.score) {
            (Some(known), Some(score)) => {
                let why = match one.is_above(limit) {
                    true => one.worst(),
                    false => String::new(),
                };
                grid.row([
                    one.service.as_str().into(),
                    score.to_string().into(),
                    known.grade.as_str().into(),
                    why.into(),
                ]);
            }
            _ => grid.row([
                one.service.as_str().into(),
                "-".into(),
                "in usherd's front".into(),
                "".into(),
            ]),
        }
    }
    grid.render(None, false)
}

/// What is to be said if some are above the limit.
#[must_use]
pub fn verdict(rated: &[Rated], limit: Score) -> Option<String> {
    let above = rated.iter().filter(|one| one.is_above(limit)).count();
    let (services, are) = match above {
        0 => return None,
        1 => ("1 service", "is"),
        _ => ("services", "are"),
    };
    let count = match above {
        1 => services.to_owned(),
        more => format!("{more} {services}"),
    };
    Some(format!("{count} {are} exposed more than {limit}"))
}
