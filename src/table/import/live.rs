//! `[import]`: the old file is read at every load, and its services join those
//! of the table. A line of it never refuses a table: what cannot be served is
//! left out with a warning at that line, as its own inetd would do, and so is,
//! with more emphasis, what would lose a restriction.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::draft::{Draft, Effect, Imported, Origin};
use super::{World, addresses_of_hosts, hosts, inetd, settle, write};
use crate::table::complaint::{Complaint, Fault, Place, SourceFile};
use crate::table::host::Host;
use crate::table::reader::Reader;
use crate::table::schema::{self, RawImport, RawService};
use crate::table::source::Written;

/// Services of old files that the check complained about, and what it said.
pub type Refused = HashMap<String, Complaint>;

/// What came from old files.
#[derive(Debug, Default)]
pub struct Live {
    /// Their numbers among all files.
    files: Range<usize>,
    /// Name, line and place of each service.
    services: Vec<(String, Origin, Place)>,
}

/// Reads what `[import]` names and adds it behind the services of the table,
/// all but those that were refused before.
pub fn join(written: &mut Written, host: &Host, refused: &Refused) -> Live {
    let Some(wanted) = written.import.take() else {
        return Live::default();
    };
    let before = written.files.len();
    let imported = read(written, &wanted, host);
    let mut live = Live {
        files: before..before + imported.files.len(),
        services: Vec::new(),
    };
    let Imported {
        mut drafts,
        notes,
        files,
        faults,
    } = imported;
    written.files.extend(files);
    for mut fault in faults {
        fault.place.file += before;
        let help = fault
            .help
            .take()
            .map_or(String::new(), |help| format!("{help}; "));
        fault.help = Some(format!(
            "{help}until then the line is passed over, as inetd does"
        ));
        written.warnings.push(fault);
    }
    for note in notes.iter().filter(|note| note.effect == Effect::Loss) {
        warn(written, &live, &note.origin, &note.text, true);
    }
    drafts.retain(|draft| {
        let marked = draft.source.iter().any(|line| inetd::is_off(line));
        draft.off.is_none() || draft.keys.is_empty() && !marked
    });
    let mut all = Imported {
        drafts,
        ..Imported::default()
    };
    settle::name(&mut all);
    for draft in all.drafts {
        if let Some(complaint) = refused.get(&draft.name) {
            written.warnings.push(complaint.clone());
        } else {
            add(written, &mut live, &draft, host);
        }
    }
    live
}

fn read(written: &mut Written, wanted: &RawImport, host: &Host) -> Imported {
    let path = |given: &Option<_>, usual: &str| match given {
        Some(crate::table::complaint::At { value, .. }) => PathBuf::clone(value),
        None => PathBuf::from(usual),
    };
    let allow = path(&wanted.hosts_allow, "/etc/hosts.allow");
    let deny = path(&wanted.hosts_deny, "/etc/hosts.deny");
    let rules = hosts::Rules::read(&allow, &deny);
    let text = fs::read("/etc/hosts").unwrap_or_default();
    let addresses = addresses_of_hosts(&String::from_utf8_lossy(&text));
    let world = World {
        host,
        hosts: &rules,
        libwrap: wanted.libwrap.as_ref().is_some_and(|at| at.value),
        ipv6: Path::new("/proc/net/if_inet6").exists(),
        addresses: &addresses,
    };
    let mut paths: Vec<&Path> = Vec::new();
    for file in &wanted.inetd {
        if file.value.exists() {
            paths.push(&file.value);
            continue;
        }
        let problem = format!(
            "there is no {}, so nothing is imported from it",
            file.value.display()
        );
        written.warnings.push(Fault::new(problem).at(file.place));
    }
    inetd::read(&paths, wanted.dialect.as_ref().map(|at| at.value), &world)
}

/// Warns about a line of an old file; where there is no such file, about the table.
fn warn(written: &mut Written, live: &Live, origin: &Origin, text: &str, grave: bool) {
    let place = place_of(&written.files, live, origin);
    let fault = match place {
        Some(_) => Fault::new(text),
        None => Fault::new(format!("{origin}: {text}")),
    };
    let complaint = fault.at(place.unwrap_or(Place::whole(0)));
    written
        .warnings
        .push(if grave { complaint.grave() } else { complaint });
}

fn place_of(files: &[SourceFile], live: &Live, origin: &Origin) -> Option<Place> {
    let number = live
        .files
        .clone()
        .find(|at| files.get(*at).is_some_and(|f| f.path() == origin.file))?;
    let file = files.get(number)?;
    Some(match origin.line.checked_sub(1) {
        Some(line) => Place::new(number, file.span_of_line(line)),
        None => Place::whole(number),
    })
}

/// Adds a service, unless something speaks against it.
fn add(written: &mut Written, live: &mut Live, draft: &Draft, host: &Host) {
    let (name, origin) = (&draft.name, &draft.origin);
    let say = |text: &str| format!("service \"{name}\" is left out: {text}");
    if let Some(lost) = draft.notes.iter().find(|note| note.effect == Effect::Loss) {
        let text = say(&format!(
            "a restriction would be lost: {}: {}",
            lost.origin, lost.text
        ));
        return warn(written, live, origin, &text, true);
    }
    if draft.keys.is_empty() {
        let why = draft.off.as_deref().unwrap_or("no table can say it");
        return warn(written, live, origin, &say(why), false);
    }
    for note in draft
        .notes
        .iter()
        .filter(|note| note.effect == Effect::Unsupported)
    {
        let text = format!("service \"{name}\": {}", note.text);
        warn(written, live, &note.origin, &text, false);
    }
    if written
        .services
        .iter()
        .any(|service| service.name.value == *name)
    {
        let text = say(&format!(
            "[service.{name}] of the table stands in its place"
        ));
        return warn(written, live, origin, &text, false);
    }
    let Some(place) = place_of(&written.files, live, origin) else {
        return;
    };
    written
        .services
        .extend(raw(draft, place, host, &mut written.complaints));
    live.services.push((name.clone(), origin.clone(), place));
}

/// The draft as the schema reads it, every value of it at one place: the old line.
fn raw(
    draft: &Draft,
    place: Place,
    host: &Host,
    complaints: &mut Vec<Complaint>,
) -> Option<RawService> {
    let text = format!("{}{}", write::heading(draft), write::body(draft));
    let (root, _) = DeTable::parse_recoverable(&text);
    let mut reader = Reader {
        starts: &[],
        names: &host.names,
        pin: Some(place),
        complaints: Vec::new(),
    };
    let (_, services) = root.get_ref().iter().next()?;
    let (name, keys) = services.get_ref().as_table()?.iter().next()?;
    let service = schema::read_service(&mut reader, name, keys);
    complaints.append(&mut reader.complaints);
    service
}

impl Live {
    /// Whether a file is an old one.
    #[must_use]
    pub fn has_file(&self, number: usize) -> bool {
        self.files.contains(&number)
    }

    /// Which services come from which line.
    pub fn origins(&self) -> impl Iterator<Item = (String, Origin)> + '_ {
        self.services
            .iter()
            .map(|(name, origin, _)| (name.clone(), origin.clone()))
    }

    /// The services of old files that the complaints are about.
    #[must_use]
    pub fn blame(&self, complaints: &[Complaint]) -> Refused {
        let mut refused = Refused::new();
        for complaint in complaints {
            let places = [
                Some(complaint.place),
                complaint.other.as_ref().map(|(place, _)| *place),
            ];
            let guilty = self
                .services
                .iter()
                .find(|(_, _, place)| places.contains(&Some(*place)));
            let Some((name, _, place)) = guilty else {
                continue;
            };
            let mut complaint = complaint.clone();
            if complaint.place != *place {
                // Said of the table's own service, and true of both.
                let other = complaint.place;
                complaint.place = *place;
                complaint.other = Some((other, "this stays".to_owned()));
            }
            complaint.problem = format!("\"{name}\" is left out: {}", complaint.problem);
            refused.entry(name.clone()).or_insert(complaint);
        }
        refused
    }
}
