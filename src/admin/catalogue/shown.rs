//! An entry in words, for `GetOperations`: what it takes, who may, what it needs.
#![forbid(unsafe_code)]

use std::path::Path;

use serde_json::Value;

use super::{Kind, Operation, Parameter, Serve};
use crate::control::types::operations as types;
use crate::table::isolation::Network;
use crate::table::value::{show_duration, show_rate, show_size};

impl Operation {
    /// `services`: those whose `admin` lists have it. `may`: whether the caller may ask for it.
    #[must_use]
    pub fn shown(&self, services: Vec<String>, may: bool) -> types::Operation {
        types::Operation {
            name: self.name.clone(),
            description: self.description.clone(),
            result: self.result.clone(),
            parameters: self.parameters.iter().map(Parameter::shown).collect(),
            operators: self.operators.names.clone(),
            services,
            needs: self.needs(),
            dry_run: self.dry_run,
            may,
            unavailable: match (&self.unmet, self.enabled) {
                (Some(why), _) => Some(why.clone()),
                (None, true) => None,
                (None, false) => {
                    Some("it is switched off in the catalogue: enabled = false".to_owned())
                }
            },
        }
    }

    /// The rights of its process, and its bounds.
    fn needs(&self) -> Vec<String> {
        let isolation = &self.exec.isolation;
        let mut needs = Vec::new();
        if let Serve::Program { argv, .. } = &self.serve {
            needs.push(format!("runs {}", argv.join(" ")));
        }
        needs.push(match &self.exec.user {
            Some(user) => format!("user {}", user.user),
            None => "the user that usherd runs as".to_owned(),
        });
        needs.push(match &isolation.capabilities {
            None => "every capability of that user".to_owned(),
            Some(none) if none.is_empty() => "no capabilities".to_owned(),
            Some(some) => {
                let names: Vec<&str> = some.iter().map(|one| one.name()).collect();
                format!("capabilities {}", names.join(", "))
            }
        });
        needs.push(format!("isolation {}", isolation.preset.name()));
        needs.push(match isolation.network {
            Network::Host => "the host's network".to_owned(),
            Network::Loopback => "a loopback network of its own".to_owned(),
            Network::None => "no network".to_owned(),
        });
        let paths = |paths: &[std::path::PathBuf]| {
            let shown: Vec<_> = paths
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            shown.join(", ")
        };
        if !isolation.writable.is_empty() {
            needs.push(format!("writes below {}", paths(&isolation.writable)));
        }
        if !isolation.visible.is_empty() {
            needs.push(format!("reads below {}", paths(&isolation.visible)));
        }
        if !self.calls.is_empty() {
            needs.push(format!("calls {} of usherd", self.calls.join(", ")));
        }
        let mut bounds = format!(
            "at most {}, {} of result, {} at once",
            show_duration(self.time_limit),
            show_size(self.output_limit),
            self.concurrency
        );
        if let Some(rate) = self.rate {
            bounds.push_str(&format!(", {} of one caller", show_rate(rate)));
        }
        needs.push(bounds);
        if self.finishes {
            needs.push("goes on to its end when whoever asked has left".to_owned());
        }
        needs
    }
}

impl Parameter {
    fn shown(&self) -> types::Parameter {
        types::Parameter {
            name: self.name.clone(),
            kind: self.kind.name().to_owned(),
            description: self.description.clone(),
            list: self.list,
            optional: self.optional || self.default.is_some(),
            secret: self.secret,
            lines: matches!(self.kind, Kind::Text { lines: true, .. }),
            default: self.default.as_ref().map(plain),
            limits: self.limits(),
        }
    }

    fn limits(&self) -> Option<String> {
        let mut limits = self.kind.limits();
        if self.own {
            limits.push("for a service its own".to_owned());
        }
        (!limits.is_empty()).then(|| limits.join("; "))
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

impl Kind {
    /// As the catalogue writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Text { .. } => "string",
            Kind::Integer { .. } => "integer",
            Kind::Boolean => "boolean",
            Kind::Choice(_) => "choice",
            Kind::Path { .. } => "path",
            Kind::User => "user",
            Kind::Group => "group",
            Kind::Service => "service",
            Kind::Instance => "instance",
            Kind::Prefix => "prefix",
            Kind::Duration { .. } => "duration",
            Kind::Size { .. } => "size",
        }
    }

    fn limits(&self) -> Vec<String> {
        match self {
            Kind::Text {
                pattern,
                min_length,
                max_length,
                allow,
                lines,
            } => {
                let mut limits = vec![format!("{min_length} to {max_length} characters")];
                limits.extend(pattern.as_ref().map(|text| format!("matches {text}")));
                limits.extend(allow.as_ref().map(|globs| match globs.is_empty() {
                    true => "none is allowed yet (`allow`)".to_owned(),
                    false => format!("one of {}", globs.join(", ")),
                }));
                limits.extend(lines.then(|| "may have several lines".to_owned()));
                limits
            }
            Kind::Integer { min, max } => match (*min, *max) {
                (i64::MIN, i64::MAX) => Vec::new(),
                (i64::MIN, max) => vec![format!("at most {max}")],
                (min, i64::MAX) => vec![format!("at least {min}")],
                (min, max) => vec![format!("{min} to {max}")],
            },
            Kind::Choice(words) => vec![format!("one of {}", words.join(", "))],
            Kind::Path { roots } => {
                let roots: Vec<_> = roots.iter().map(|root| display(root)).collect();
                vec![format!("below {}", roots.join(" or "))]
            }
            Kind::Duration { max } => vec![format!("at most {}", show_duration(*max))],
            Kind::Size { max } => vec![format!("at most {}", show_size(*max))],
            Kind::Boolean
            | Kind::User
            | Kind::Group
            | Kind::Service
            | Kind::Instance
            | Kind::Prefix => Vec::new(),
        }
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::table::host::tests::host;
    use crate::table::{Source, load};

    #[test]
    fn an_entry_is_told_in_words() {
        let text = format!(
            "[daemon]\noperations = [\"{}/tests/fuzz/parameters.toml\"]\n\
             [service.echo]\nlisten = \"tcp:1\"\nbuiltin = \"echo\"\n",
            env!("CARGO_MANIFEST_DIR")
        );
        let name = "usherd.toml";
        let loaded = load(Source::Text { name, text: &text }, &host(true)).unwrap();
        let catalogue = &loaded.table.catalogue;
        let shown = |name: &str| {
            let services = vec!["mail".to_owned()];
            catalogue.named(name).unwrap().shown(services, true)
        };
        let all = shown("try");
        assert_eq!(all.services, ["mail"]);
        assert_eq!(
            all.needs,
            [
                "user root",
                "no capabilities",
                "isolation strict",
                "no network",
                "at most 30s, 64K of result, 4 at once"
            ]
        );
        let limits = |name: &str| {
            let mut parameters = all.parameters.iter();
            parameters
                .find(|one| one.name == name)
                .unwrap()
                .limits
                .clone()
        };
        assert_eq!(
            limits("word").unwrap(),
            "2 to 5 characters; matches [a-z-]+|é"
        );
        assert_eq!(limits("number").unwrap(), "-3 to 7");
        assert_eq!(limits("choice").unwrap(), "one of on, off");
        assert_eq!(limits("path").unwrap(), "below /srv/www or /var/lib");
        assert_eq!(limits("span").unwrap(), "at most 1h");
        assert_eq!(limits("flag"), None);
        assert!(limits("nothing").unwrap().contains("none is allowed yet"));
        let usual = all.parameters.last().unwrap();
        assert_eq!(usual.default.as_deref(), Some("5"));
        assert!(usual.optional);
        let program = shown("program");
        assert!(program.needs[0].starts_with("runs /bin/x -v --name={name}"));
        let own = &shown("own").parameters[0];
        assert_eq!(own.limits.as_deref(), Some("for a service its own"));
    }
}
