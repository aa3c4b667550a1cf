//! A service of xinetd in the words of a table: what it is made of. What each
//! group of attributes becomes is in the modules beside this one.
#![forbid(unsafe_code)]

use toml_edit::Value;

use super::Sources;
use super::attribute::{FLAGS, TYPES};
use super::listen::Route;
use super::merge::Service;
use crate::table::import::{Draft, Effect, Note, Origin};

/// What the keys of a service depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub stream: bool,
    pub wait: bool,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Exec,
    Builtin,
    Forward,
}

impl Shape {
    /// usherd accepts each peer itself.
    pub fn meets_peers(self) -> bool {
        self.stream && !self.wait
    }
}

/// Why a service cannot be carried over at all.
#[derive(Debug)]
pub(super) struct Impossible(pub String);

/// One service on its way into a table.
pub(super) struct Builder<'a> {
    pub service: &'a Service,
    pub sources: &'a Sources<'a>,
    pub draft: Draft,
}

pub(super) fn convert(service: &Service, sources: &Sources<'_>) -> Draft {
    let (name, source) = (service.id.clone(), service.source.clone());
    let mut draft = Draft::new(name, service.origin.clone(), source);
    draft.notes.clone_from(&service.notes);
    draft.off.clone_from(&service.off);
    let mut builder = Builder {
        service,
        sources,
        draft,
    };
    let done = builder.all();
    let mut draft = builder.draft;
    if let Err(Impossible(why)) = done {
        draft.note(
            Effect::Unsupported,
            format!("the service is left out: {why}"),
        );
        draft.give_up(why);
    }
    if draft.off.is_some() {
        draft.notes.iter_mut().for_each(Note::mind);
    }
    draft.notes.sort_by(|a, b| a.origin.cmp(&b.origin));
    draft
}

impl Builder<'_> {
    fn all(&mut self) -> Result<(), Impossible> {
        self.known_words();
        if self.has_flag("SENSOR") {
            return Err(self.sensor());
        }
        let route = self.route()?;
        let shape = self.shape(&route)?;
        self.listen(&route, shape)?;
        self.serve(shape)?;
        if shape.kind == Kind::Exec {
            self.process(shape)?;
        }
        self.access(shape);
        self.hours();
        self.limits(shape);
        self.banners(shape);
        self.logging(shape);
        self.socket_options(shape);
        self.leftovers(shape);
        Ok(())
    }

    /// Words of `flags` and `type` that xinetd does not know disable a service.
    fn known_words(&mut self) {
        let lists: [(&str, &[&str]); 2] = [("flags", &FLAGS), ("type", &TYPES)];
        for (key, known) in lists {
            let words = self.service.settings.words(key).unwrap_or_default();
            let strange = words
                .iter()
                .find(|word| !known.iter().any(|k| k.eq_ignore_ascii_case(word)));
            if let Some(word) = strange {
                self.turn_off(format!("xinetd knows no {key} \"{word}\""));
            }
        }
    }

    fn sensor(&self) -> Impossible {
        let time = self.one("deny_time").unwrap_or("0");
        let banned = match time {
            never if never.eq_ignore_ascii_case("NEVER") || never == "0" => "were only logged",
            _ => "were banned from all services",
        };
        Impossible(format!(
            "it is a sensor, and usherd has none: whoever connected to it {banned} (deny_time = \
             {time}). Let a log watcher such as fail2ban call `usherctl ban`, or limit callers with \
             rate_per_source"
        ))
    }

    fn leftovers(&mut self, shape: Shape) {
        if self.has_flag("NORETRY") {
            let text = "flags = NORETRY: usherd never tries a start that failed again for the same request";
            self.note(Effect::Remark, "flags", text.to_owned());
        }
        if self.has_flag("INTERCEPT") && shape.wait && shape.kind == Kind::Exec {
            let text = "flags = INTERCEPT: the server gets the socket itself, and the kernel checks each \
                        packet against `allow` and `deny`";
            self.note(Effect::Changed, "flags", text.to_owned());
        }
        if self.has_flag("LABELED") {
            let text = "flags = LABELED: the server no longer takes the SELinux context of its peer; \
                        isolation.selinux gives it one that is always the same";
            self.note(Effect::Loss, "flags", text.to_owned());
        }
        if self
            .one("mdns")
            .is_some_and(|word| word.eq_ignore_ascii_case("yes"))
        {
            let text = "mdns = yes: usherd announces nothing; a file for avahi.service(5) does";
            self.note(Effect::Unsupported, "mdns", text.to_owned());
        }
        if self.one("deny_time").is_some() {
            let text = "deny_time says nothing without the flag SENSOR";
            self.note(Effect::Remark, "deny_time", text.to_owned());
        }
    }

    /// `port` + UNLISTED and the like, without what depends on the route.
    fn shape(&mut self, route: &Route) -> Result<Shape, Impossible> {
        let wait = match self.one("wait") {
            Some(word) if word.eq_ignore_ascii_case("yes") => true,
            Some(word) if word.eq_ignore_ascii_case("no") => false,
            Some(word) => {
                let why = format!("wait = {word} is neither yes nor no");
                self.turn_off(why);
                !route.is_stream()
            }
            None => {
                self.turn_off("it has no `wait`, which xinetd insists on".to_owned());
                !route.is_stream()
            }
        };
        let kind = if self.has_type("INTERNAL") {
            Kind::Builtin
        } else if self.service.settings.words("redirect").is_some() {
            Kind::Forward
        } else {
            Kind::Exec
        };
        let stream = route.is_stream();
        if !stream && !wait {
            self.turn_off("xinetd does not start datagram services with wait = no".to_owned());
        }
        if matches!(route, Route::Mux { .. }) && wait {
            return Err(Impossible(
                "a tcpmux service cannot have wait = yes".to_owned(),
            ));
        }
        if kind == Kind::Forward && (!stream || wait) {
            return Err(Impossible(
                "`redirect` is for streams with wait = no; xinetd does not start it either"
                    .to_owned(),
            ));
        }
        let wait = (wait || !stream) && kind == Kind::Exec;
        Ok(Shape { stream, wait, kind })
    }

    fn socket_options(&mut self, shape: Shape) {
        for (flag, key) in [
            ("NODELAY", "socket.nodelay"),
            ("KEEPALIVE", "socket.keepalive"),
        ] {
            if self.has_flag(flag) && shape.stream && !self.has_type("RPC") && !self.is_mux() {
                self.set(key, true);
            }
        }
    }

    pub fn is_mux(&self) -> bool {
        self.has_type("TCPMUX") || self.has_type("TCPMUXPLUS")
    }

    pub fn one(&self, key: &str) -> Option<&str> {
        self.service.settings.one(key)
    }

    /// yes or no; another word disables the service.
    pub fn yes(&mut self, key: &str) -> bool {
        match self.one(key) {
            None => false,
            Some(word) if word.eq_ignore_ascii_case("yes") => true,
            Some(word) if word.eq_ignore_ascii_case("no") => false,
            Some(_) => {
                self.bad(key, "yes or no");
                false
            }
        }
    }

    pub fn has_flag(&self, flag: &str) -> bool {
        self.has_word("flags", flag)
    }

    pub fn has_type(&self, kind: &str) -> bool {
        self.has_word("type", kind)
    }

    fn has_word(&self, key: &str, wanted: &str) -> bool {
        let words = self.service.settings.words(key).unwrap_or_default();
        words.iter().any(|word| word.eq_ignore_ascii_case(wanted))
    }

    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.draft.set(key, value);
    }

    /// The place of an attribute, or that of the service.
    pub fn origin_of(&self, key: &str) -> Origin {
        let given = self.service.settings.values.get(key);
        given
            .map_or(&self.service.origin, |given| &given.origin)
            .clone()
    }

    pub fn note(&mut self, effect: Effect, key: &str, text: String) {
        let origin = self.origin_of(key);
        self.note_at(effect, origin, text);
    }

    pub fn note_at(&mut self, effect: Effect, origin: Origin, text: String) {
        self.draft.notes.push(origin.note(effect, text));
    }

    pub fn turn_off(&mut self, why: String) {
        self.draft.off.get_or_insert(why);
    }

    /// A value that makes xinetd disable the service; in `defaults`, xinetd does not start at all.
    pub fn bad(&mut self, key: &str, wanted: &str) {
        let words = self.service.settings.words(key).unwrap_or_default();
        let why = format!("{key} = {} is not {wanted}", words.join(" "));
        self.turn_off(why);
    }
}

/// A list as `["a", "b"]`.
pub(super) fn list<T: Into<Value>>(values: impl IntoIterator<Item = T>) -> Value {
    Value::Array(values.into_iter().map(Into::into).collect())
}
