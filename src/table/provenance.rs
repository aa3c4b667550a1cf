//! Where each value of a table comes from, and where it is to be changed.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::complaint::{Place, SourceFile};
use super::effective::{Lines, daemon_lines, key, service_lines, write_line};
use super::origins::Origins;
use super::schema::{Keys, RawDaemon, RawService};
use super::{Listen, Loaded, Service};

/// What the operator wrote, kept after the check.
#[derive(Debug)]
pub struct Provenance {
    pub origins: Origins,
    pub daemon: RawDaemon,
    pub defaults: Keys,
    pub services: Vec<RawService>,
    /// For each file of a lower layer, the folder for the administrator's drop-ins.
    pub overrides: Vec<Option<PathBuf>>,
}

/// Where a key of a service is to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetIn<'a> {
    File(&'a Path),
    /// In a file of this folder, which may not be there yet.
    DropIns(&'a Path),
}

/// Of these, one service at an address speaks for all of them.
const SHARED: [&str; 3] = ["match_timeout", "first_byte_timeout", "proxy_protocol"];

impl Loaded {
    /// The whole table as TOML, each value with where it comes from.
    #[must_use]
    pub fn effective(&self) -> String {
        let written = &self.provenance;
        let by_name: HashMap<&str, &RawService> = written
            .services
            .iter()
            .map(|raw| (raw.name.value.as_str(), raw))
            .collect();
        let speakers = self.speakers(&by_name);
        let mut out = String::from("[daemon]\n");
        self.write(&mut out, &daemon_lines(&self.table.daemon), |key| {
            written.daemon.place_of(key).map(|place| self.spot(place))
        });
        for service in &self.table.services {
            out.push_str(&format!("\n[service.{}]\n", key(&service.name)));
            let raw = by_name.get(service.name.as_str()).copied();
            self.write(&mut out, &service_lines(service), |key| {
                let own = raw.and_then(|raw| self.own(raw, key));
                own.or_else(|| spoken_for(&speakers, service, key))
                    .or_else(|| self.default(raw, key))
            });
        }
        out
    }

    fn write(
        &self,
        out: &mut String,
        lines: &Lines,
        origin: impl Fn(&'static str) -> Option<String>,
    ) {
        for (key, value) in lines {
            let origin = origin(key).unwrap_or_else(|| "default".to_owned());
            write_line(out, key, value, &origin);
        }
    }

    /// As the service has it, wherever it was written.
    fn own(&self, raw: &RawService, key: &str) -> Option<String> {
        let place = raw.keys.place_of(key)?;
        let mut told: Vec<(String, Vec<&str>)> = Vec::new();
        for (inner, place) in raw.keys.inside(key) {
            let origin = self.origin(raw, place);
            match told.iter_mut().find(|(known, _)| *known == origin) {
                Some((_, keys)) => keys.push(inner),
                None => told.push((origin, vec![inner])),
            }
        }
        match told.as_slice() {
            [] => Some(self.origin(raw, place)),
            [(origin, _)] => Some(origin.clone()),
            several => {
                let each = several.iter();
                let shown = each.map(|(origin, keys)| format!("{}: {origin}", keys.join(", ")));
                Some(shown.collect::<Vec<_>>().join("; "))
            }
        }
    }

    fn origin(&self, raw: &RawService, place: Place) -> String {
        let spot = self.spot(place);
        match self.provenance.origins.service(place) {
            Some(owner) if owner != raw.name.value => format!("from \"{owner}\", {spot}"),
            _ => spot,
        }
    }

    fn default(&self, raw: Option<&RawService>, key: &str) -> Option<String> {
        // Those of the account, where the service has one of its own.
        let has_user = raw.is_some_and(|raw| raw.keys.place_of("user").is_some());
        if has_user && ["group", "groups"].contains(&key) {
            return None;
        }
        let place = self.provenance.defaults.place_of(key)?;
        Some(format!("[defaults], {}", self.spot(place)))
    }

    /// Who says what holds for all services at an address.
    fn speakers(
        &self,
        by_name: &HashMap<&str, &RawService>,
    ) -> HashMap<(&'static str, &Listen), String> {
        let mut speakers = HashMap::new();
        for service in self.table.services.iter().filter(|s| s.enabled) {
            let Some(raw) = by_name.get(service.name.as_str()) else {
                continue;
            };
            for key in SHARED {
                let Some(origin) = self.own(raw, key) else {
                    continue;
                };
                let said = format!("service \"{}\" at the same address, {origin}", service.name);
                for listen in &service.listen {
                    speakers
                        .entry((key, listen))
                        .or_insert_with(|| said.clone());
                }
            }
        }
        speakers
    }

    fn spot(&self, place: Place) -> String {
        let file = self.warnings.files.get(place.file);
        file.map_or_else(String::new, |file| file.line_spot(place))
    }

    /// Where `enabled` of a service is to be changed; `None` if there is no such service.
    #[must_use]
    pub fn where_to_enable(&self, service: &str) -> Option<SetIn<'_>> {
        self.where_to_set(service, "enabled")
    }

    /// The same of any key.
    #[must_use]
    pub fn where_to_set(&self, service: &str, key: &str) -> Option<SetIn<'_>> {
        let written = &self.provenance;
        let mut services = written.services.iter();
        let raw = services.find(|raw| raw.name.value == service)?;
        let own = |place: &Place| {
            // What it takes from another service is that one's to change.
            let owner = self.provenance.origins.service(*place);
            owner.is_none_or(|owner| owner == raw.name.value)
        };
        let place = raw.keys.place_of(key).filter(own);
        let place = place.unwrap_or(raw.name.place);
        if let Some(Some(folder)) = written.overrides.get(place.file) {
            return Some(SetIn::DropIns(folder));
        }
        let file: &SourceFile = self.warnings.files.get(place.file)?;
        Some(SetIn::File(file.path()))
    }
}

fn spoken_for(
    speakers: &HashMap<(&'static str, &Listen), String>,
    service: &Service,
    key: &'static str,
) -> Option<String> {
    let mut said = service.listen.iter();
    said.find_map(|listen| speakers.get(&(key, listen)).cloned())
}
