//! The top of a file: which keys there are, and who may have them.
#![forbid(unsafe_code)]

use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable};

use super::Files;
use super::layers::Layers;
use crate::table::complaint::{At, Fault, did_you_mean};
use crate::table::origins::Whose;
use crate::table::reader::{Reader, Value};
use crate::table::schema::{self, FILE_KEYS, SERVICE_KEYS};

const INCLUDES: &str = "a list of files such as [\"services.d/*.toml\"]";
const LAYERS: &str = "a list of folders such as [\"/usr/lib/usherd\"]";

impl<'t> Files<'_, 't> {
    /// Reads it all but the services' keys; gives back what is to be included.
    pub(super) fn read_root(
        &mut self,
        file: usize,
        root: DeTable<'t>,
        path: Option<&Path>,
    ) -> Vec<At<String>> {
        let main = file == 0;
        let mut includes = Vec::new();
        for (key, value) in root {
            let place = self.place(&key);
            match key.get_ref().as_ref() {
                "include" => includes = self.reading(|r| read_includes(r, &value)),
                "layers" | "import" | "daemon" | "defaults" if !main => self.not_main(&key),
                "layers" => self.read_layers(&key, &value, path),
                "import" => {
                    self.written.import = Some(self.reading(|r| schema::read_import(r, &value)));
                }
                "daemon" => {
                    self.written.daemon = self.reading(|r| schema::read_daemon(r, &value));
                }
                "defaults" => {
                    self.written.origins.begin(place, Whose::Defaults);
                    self.written.defaults = self.reading(|r| schema::read_defaults(r, &value));
                    continue;
                }
                "service" => {
                    for (name, value) in self.services_of(value) {
                        self.add(name, value, file);
                    }
                    continue;
                }
                _ => self.reading(|r| unknown_root(r, &key, &value)),
            }
            self.written.origins.begin(place, Whose::Nobody);
        }
        includes
    }

    fn not_main(&mut self, key: &Spanned<DeString<'t>>) {
        let (name, help) = match key.get_ref().as_ref() {
            "layers" => ("`layers`".to_owned(), "it is about all that is included"),
            name => (
                format!("[{name}]"),
                "it is about all services, and an included file is about its own",
            ),
        };
        let fault = Fault::new(format!("{name} belongs into the main file")).help(help);
        self.reading(|r| r.complain::<_, ()>(key, fault));
    }

    fn read_layers(&mut self, key: &Spanned<DeString<'t>>, value: &Value<'t>, path: Option<&Path>) {
        let Some(path) = path else {
            let fault = Fault::new("this table is no file, so there are no layers below it");
            self.reading(|r| r.complain::<_, ()>(key, fault));
            return;
        };
        let lower = self.reading(|r| read_entries(r, value, LAYERS, "a folder"));
        let lower: Vec<String> = lower.into_iter().map(|at| at.value).collect();
        self.written.layers = Layers::declared(path, &lower);
        let place = self.place(value);
        for folder in self.written.layers.missing() {
            let fault = Fault::new(format!("there is no folder {}", folder.display()));
            self.written.warnings.push(fault.at(place));
        }
    }
}

fn read_includes(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<At<String>> {
    read_entries(reader, value, INCLUDES, "a file or a pattern")
}

/// The texts of a list. Those that make sense count even if others do not.
fn read_entries(
    reader: &mut Reader<'_>,
    value: &Value<'_>,
    wanted: &str,
    each: &str,
) -> Vec<At<String>> {
    let Some(items) = value.get_ref().as_array() else {
        reader.mismatch::<()>(value, wanted);
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|v| reader.at(v, |r, v| r.word(v, each)))
        .collect()
}

fn unknown_root(reader: &mut Reader<'_>, key: &Spanned<impl AsRef<str>>, value: &Value<'_>) {
    let name = key.get_ref().as_ref();
    let fault = Fault::new(format!("no key \"{name}\" at the top of a table"));
    let has_service_keys = value.get_ref().as_table().is_some_and(|table| {
        table
            .keys()
            .any(|key| SERVICE_KEYS.contains(&key.get_ref().as_ref()))
    });
    let near = did_you_mean(name, FILE_KEYS.iter().copied());
    let fault = match near {
        Some(near) => fault.help(format!("did you mean \"{near}\"?")),
        None if has_service_keys => fault.help(format!("a service is headed [service.{name}]")),
        None if SERVICE_KEYS.contains(&name) => {
            fault.help("keys of a service stand below [service.NAME] or [defaults]")
        }
        None => fault.help(format!("the keys are {}", FILE_KEYS.join(", "))),
    };
    reader.complain::<_, ()>(key, fault);
}
