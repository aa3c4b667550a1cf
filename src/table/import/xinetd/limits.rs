//! How many, what a peer is told, and what is logged.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use super::convert::{Builder, Kind, Shape, list};
use super::merge::Set;
use crate::table::import::{Effect, Origin};

/// What `instances` may be at most: as good as none.
const UNLIMITED: i64 = 1_000_000;
/// cps, where nobody says anything else.
const USUAL_RATE: (u32, u32) = (50, 10);
/// Bytes of a text that a peer is told.
const LONGEST_BANNER: usize = 2048;

const SUCCESS: [&str; 6] = ["HOST", "PID", "USERID", "EXIT", "DURATION", "TRAFFIC"];
const FAILURE: [&str; 3] = ["HOST", "USERID", "ATTEMPT"];

impl Builder<'_> {
    pub fn limits(&mut self, shape: Shape) {
        let instances = self.count("instances");
        let per_source = self.count("per_source");
        for (key, count) in [("instances", instances), ("per_source", per_source)] {
            if count == Some(0) {
                self.turn_off(format!("{key} = 0 lets nobody in"));
            }
        }
        if shape.meets_peers() {
            let instances = instances.unwrap_or(UNLIMITED).clamp(1, UNLIMITED);
            self.set("instances", instances);
            if let Some(count) = per_source.filter(|count| *count > 0) {
                self.set("per_source", count.min(UNLIMITED));
                let text = format!(
                    "per_source = {count}: all addresses of an IPv6 /64 count as one source; see `source_prefix`"
                );
                self.note(Effect::Changed, "per_source", text);
            }
        }
        self.rate(shape);
        self.load();
        if shape.meets_peers() {
            // A full service turns peers away, it does not let them wait.
            self.set("on_full", "refuse");
        }
    }

    /// `None`: no limit.
    fn count(&mut self, key: &str) -> Option<i64> {
        let word = self.one(key)?.to_owned();
        if word.eq_ignore_ascii_case("UNLIMITED") {
            return None;
        }
        let count = word.parse().ok().filter(|count: &i64| *count >= 0);
        if count.is_none() {
            self.bad(key, "a number or UNLIMITED");
        }
        count
    }

    /// xinetd closes the port for everybody, usherd turns away what is too much.
    fn rate(&mut self, shape: Shape) {
        if self.service.settings.words("leaky_bucket").is_some() {
            return self.leaky_bucket();
        }
        let written = self.service.settings.words("cps").map(<[String]>::to_vec);
        let is_written = written.is_some();
        let numbers = match &written {
            None => Some(USUAL_RATE),
            Some(words) => match words.as_slice() {
                [count, seconds] => count.parse().ok().zip(seconds.parse().ok()),
                _ => None,
            },
        };
        let Some((count, seconds)) = numbers else {
            return self.bad("cps", "a number of connections and one of seconds");
        };
        if count == 0 {
            return; // no limit
        }
        if !shape.stream && shape.kind == Kind::Builtin {
            return;
        }
        self.set("rate", format!("{count}/s"));
        if is_written {
            let beyond = if shape.meets_peers() {
                "are turned away one by one"
            } else {
                "wait"
            };
            let text = format!(
                "cps = {count} {seconds}: beyond {count} in a second xinetd closes the port to everybody for \
                 {seconds} seconds; here those that are too many {beyond} and the port stays open"
            );
            self.note(Effect::Changed, "cps", text);
        }
    }

    fn leaky_bucket(&mut self) {
        let text = "leaky_bucket is not carried over; write `rate` with a `burst` instead";
        self.note(Effect::Loss, "leaky_bucket", text.to_owned());
    }

    fn load(&mut self) {
        let Some(word) = self.one("max_load").map(str::to_owned) else {
            return;
        };
        match word.parse::<f64>() {
            Ok(load) if load > 0.0 && load.is_finite() => self.set("max_load", load),
            _ => self.bad("max_load", "a load average above 0"),
        }
    }

    /// `banner` is for everybody and comes before the other two.
    pub fn banners(&mut self, shape: Shape) {
        let everybody = self.banner("banner");
        for (theirs, ours) in [("banner_success", "admitted"), ("banner_fail", "refused")] {
            let own = self.banner(theirs);
            let text = format!(
                "{}{}",
                everybody.as_deref().unwrap_or(""),
                own.unwrap_or_default()
            );
            if text.is_empty() {
                continue;
            }
            let key = if self.one(theirs).is_some() {
                theirs
            } else {
                "banner"
            };
            if !shape.meets_peers() {
                let text = format!(
                    "{key}: usherd never meets the peers of this service and sends them no text"
                );
                self.note(Effect::Unsupported, key, text);
            } else if text.len() > LONGEST_BANNER {
                let text = format!(
                    "{key}: the text has {} bytes, and usherd sends at most {LONGEST_BANNER}",
                    text.len()
                );
                self.note(Effect::Unsupported, key, text);
            } else {
                self.set(&format!("banner.{ours}"), text);
            }
        }
    }

    /// The text of the file, as it is now.
    fn banner(&mut self, key: &str) -> Option<String> {
        let path = self.one(key)?.to_owned();
        let found = fs::metadata(&path).ok().filter(fs::Metadata::is_file);
        let text = found.and_then(|_| fs::read(Path::new(&path)).ok());
        match text.map(String::from_utf8) {
            Some(Ok(text)) => {
                let note = format!(
                    "{key}: the text is now in the table; a change of {path} counts no more"
                );
                self.note(Effect::Changed, key, note);
                Some(text)
            }
            Some(Err(_)) => {
                let note = format!("{key}: {path} is not UTF-8, so that a table cannot hold it");
                self.note(Effect::Unsupported, key, note);
                None
            }
            None => {
                let note = format!("{key}: unable to read {path}, so that nothing is sent");
                self.note(Effect::Unsupported, key, note);
                None
            }
        }
    }

    pub fn logging(&mut self, shape: Shape) {
        let settings = &self.service.settings;
        let (success, failure) = (
            settings.log_on_success.clone(),
            settings.log_on_failure.clone(),
        );
        self.log_words("log_on_success", &success, &SUCCESS);
        self.log_words("log_on_failure", &failure, &FAILURE);
        let has = |set: &Set<String>, word: &str| set.iter().flatten().any(|m| m.value == word);
        if has(&success, "TRAFFIC") && shape.kind != Kind::Forward {
            self.turn_off(
                "xinetd does not start a service with TRAFFIC and without `redirect`".to_owned(),
            );
        }
        self.ident(
            has(&success, "USERID"),
            has(&success, "USERID") || has(&failure, "USERID"),
        );
        if let Some(words) = self
            .service
            .settings
            .values
            .get("log_type")
            .filter(|given| !given.inherited)
        {
            let text = format!(
                "log_type = {}: usherd has one log for all services; see `daemon.log`",
                words.words.join(" ")
            );
            self.note(Effect::Unsupported, "log_type", text);
        }
        if success.is_none() && failure.is_none() {
            return;
        }
        let mut events = Vec::new();
        if success.iter().flatten().next().is_some() {
            events.push("start");
        }
        if has(&success, "EXIT") || has(&success, "DURATION") || has(&success, "TRAFFIC") {
            events.push("exit");
        }
        if failure.iter().flatten().next().is_some() {
            events.push("refuse");
        }
        if shape.kind == Kind::Builtin {
            // No process starts; that somebody came is what was logged.
            for event in &mut events {
                if *event == "start" {
                    *event = "accept";
                }
            }
        }
        self.set("log", list(events));
    }

    fn log_words(&mut self, key: &str, set: &Set<String>, known: &[&str]) {
        let strange = set
            .iter()
            .flatten()
            .find(|m| !known.contains(&m.value.as_str()));
        if let Some(member) = strange {
            self.turn_off(format!("{key}: there is no {}", member.value));
        }
    }

    /// USERID asks the peer's identd; IDONLY makes that a condition if success is logged with it.
    fn ident(&mut self, on_success: bool, anywhere: bool) {
        if self.has_flag("IDONLY") {
            let (effect, text) = if on_success {
                (
                    Effect::Loss,
                    "flags = IDONLY: usherd asks no identd, so it would let in those that have none",
                )
            } else {
                (
                    Effect::Remark,
                    "flags = IDONLY has no effect without USERID in log_on_success and is left out",
                )
            };
            self.note(effect, "flags", text.to_owned());
        }
        if anywhere {
            let text =
                "USERID: usherd asks no identd (RFC 1413), so the log has no user of the peer";
            let origin = self.userid_origin();
            self.note_at(Effect::Unsupported, origin, text.to_owned());
        }
    }

    fn userid_origin(&self) -> Origin {
        let settings = &self.service.settings;
        let sets = [&settings.log_on_success, &settings.log_on_failure];
        let mut members = sets.into_iter().flatten().flatten();
        let found = members.find(|member| member.value == "USERID");
        found
            .map_or(&self.service.origin, |member| &member.origin)
            .clone()
    }
}
