//! What the TOML parser has to say about a file, in words of ours, and what
//! else would only follow from it.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::ops::Range;

use crate::table::complaint::{Complaint, Fault, Place, SourceFile};

/// More syntax errors than this say that it is no table at all.
const MOST_SYNTAX: usize = 200;

/// The lines and sections of a file that have syntax errors.
#[derive(Debug, Default)]
pub struct Broken {
    lines: HashSet<usize>,
    sections: Vec<Range<usize>>,
    starts: Vec<usize>,
}

impl Broken {
    pub fn new(source: &SourceFile, syntax: &[Complaint]) -> Self {
        let starts: Vec<usize> = syntax.iter().map(|c| c.place.start).collect();
        Self {
            lines: starts.iter().map(|at| source.line_of(*at)).collect(),
            sections: starts.iter().filter_map(|at| source.section(*at)).collect(),
            starts,
        }
    }

    /// Whether what is wrong at `at` may only follow from the syntax.
    pub fn explains(&self, source: &SourceFile, at: usize) -> bool {
        self.lines.contains(&source.line_of(at)) || self.sections.iter().any(|s| s.contains(&at))
    }

    /// Those of `heads`, in order, whose service has a syntax error.
    pub fn services(&self, heads: &[usize]) -> HashSet<usize> {
        let owner = |at: usize| heads.partition_point(|head| *head <= at);
        let bad: HashSet<usize> = self.starts.iter().map(|at| owner(*at)).collect();
        let is_bad = |head: &usize| bad.contains(&owner(*head));
        heads.iter().copied().filter(is_bad).collect()
    }
}

/// The errors as complaints. Below a heading that could not be read,
/// everything else is a consequence.
pub fn complaints(errors: &[toml::de::Error], source: &SourceFile, file: usize) -> Vec<Complaint> {
    let end = source.text().len();
    let mut broken: Vec<Complaint> = Vec::new();
    let mut headed = 0..0;
    for error in errors.iter().take(MOST_SYNTAX) {
        let span = error.span().unwrap_or(end..end);
        if headed.contains(&span.start) {
            continue;
        }
        if let Some(section) = source.section(span.start) {
            headed = section;
        }
        let place = Place::new(file, span.clone());
        let text = source.text().get(span).unwrap_or("");
        broken.push(match error.message() {
            "duplicate key" => twice(text, source, place),
            message if message.starts_with("invalid boolean") => {
                Fault::new(format!("{text} is no value"))
                    .help("a text stands in quotes, a boolean is true or false")
                    .at(place)
            }
            message => Fault::new(message).at(place),
        });
    }
    broken
}

/// A key or a heading that is there already.
fn twice(key: &str, source: &SourceFile, place: Place) -> Complaint {
    let Some(section) = source.section(place.start) else {
        return Fault::new(format!("{key} is there twice")).at(place);
    };
    let text = source.text();
    let heading = text[section.clone()].lines().next().unwrap_or("").trim();
    let complaint = Fault::new(format!("{heading} is there twice")).at(place);
    let starts_a_line = |at: usize| {
        let before = text[..at].rsplit('\n').next().unwrap_or("");
        before.trim().is_empty()
    };
    let mut earlier = text[..section.start].match_indices(heading);
    match earlier.find(|(at, _)| starts_a_line(*at)) {
        Some((at, _)) => {
            let first = Place::new(place.file, at..at + heading.len());
            complaint.and(first, "the first one")
        }
        None => complaint,
    }
}
