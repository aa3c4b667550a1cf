//! Reads the files of a table: the main file, then what it includes, depth
//! first, each pattern's matches in the order of their bytes. Relative
//! patterns start from the folder of the file that has them.
//!
//! `[daemon]` and `[defaults]` stand in the main file only: a fragment that a
//! package drops into a folder must not change the services of others.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use super::complaint::{At, Complaint, Fault, Place, SourceFile, did_you_mean};
use super::names::Names;
use super::reader::{Reader, Value};
use super::schema::{self, FILE_KEYS, Keys, RawDaemon, RawImport, RawService, SERVICE_KEYS};

mod include;

/// No table is larger; a device or an endless pipe is.
const LARGEST_FILE: u64 = 64 << 20;
/// More syntax errors than this say that it is no table at all.
const MOST_SYNTAX: usize = 200;
/// A chain of includes longer than this helps nobody.
const DEEPEST: usize = 16;

/// Where the table comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    File(&'a Path),
    /// A text and what to call it in complaints. It can include nothing.
    Text {
        name: &'a str,
        text: &'a str,
    },
}

/// Everything the operator wrote, not yet checked against itself.
#[derive(Debug, Default)]
pub struct Written {
    pub daemon: RawDaemon,
    pub defaults: Keys,
    pub services: Vec<RawService>,
    pub import: Option<RawImport>,
    pub files: Vec<SourceFile>,
    pub complaints: Vec<Complaint>,
    pub warnings: Vec<Complaint>,
    /// Some file could not be read whole, so what seems to be missing may be there.
    pub partial: bool,
}

/// Reads it all, as far as it can be read.
pub fn read(source: Source<'_>, names: &Names) -> Written {
    let mut files = Files {
        names,
        written: Written::default(),
        open: Vec::new(),
        read: HashSet::new(),
        places: HashMap::new(),
    };
    match source {
        Source::File(path) => files.read_file(path, None),
        Source::Text { name, text } => {
            files.read_text(PathBuf::from(name), text.to_owned(), None);
        }
    }
    files.written
}

struct Files<'a> {
    names: &'a Names,
    written: Written,
    /// The files being read, outermost first, to notice loops.
    open: Vec<PathBuf>,
    read: HashSet<PathBuf>,
    /// Where each service stands.
    places: HashMap<String, Place>,
}

impl Files<'_> {
    /// `from` is the `include` entry that names the file; the main file has none.
    fn read_file(&mut self, path: &Path, from: Option<Place>) {
        let identity = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if self.open.contains(&identity) {
            return self.fail(path, from, format!("{} includes itself", path.display()));
        }
        if self.open.len() >= DEEPEST {
            return self.fail(path, from, format!("more than {DEEPEST} files deep"));
        }
        if !self.read.insert(identity.clone()) {
            return; // two patterns matched it
        }
        match read_bounded(path) {
            Ok(text) => {
                self.open.push(identity);
                self.read_text(path.to_owned(), text, Some(path));
                self.open.pop();
            }
            Err(reason) => {
                self.fail(
                    path,
                    from,
                    format!("unable to read {}: {reason}", path.display()),
                );
            }
        }
    }

    fn fail(&mut self, path: &Path, from: Option<Place>, problem: String) {
        let place = from.unwrap_or_else(|| {
            let file = SourceFile::new(path.to_owned(), String::new());
            self.written.files.push(file);
            Place::whole(self.written.files.len() - 1)
        });
        self.written.partial = true;
        self.written.complaints.push(Fault::new(problem).at(place));
    }

    /// `path` is where relative includes start; a text that is no file has none.
    fn read_text(&mut self, name: PathBuf, text: String, path: Option<&Path>) {
        let file = self.written.files.len();
        // Its place is taken before its includes take theirs.
        self.written
            .files
            .push(SourceFile::new(name.clone(), String::new()));

        let (root, errors) = DeTable::parse_recoverable(&text);
        let mut reader = Reader {
            file,
            pin: None,
            names: self.names,
            complaints: Vec::new(),
        };
        let includes = self.read_root(&mut reader, root.get_ref());
        let found = reader.complaints;
        drop(root);

        let source = SourceFile::new(name, text);
        let broken = Self::syntax(&errors, &source, file);
        self.forgive(&source, &broken, file, found);
        self.written.complaints.extend(broken);
        self.written.files[file] = source;

        for pattern in includes {
            self.include(&pattern, path);
        }
    }

    /// What the TOML parser has to say, in words of ours. Below a heading that
    /// it could not read, everything else is a consequence.
    fn syntax(errors: &[toml::de::Error], source: &SourceFile, file: usize) -> Vec<Complaint> {
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

    /// Keeps the complaints of a file that do not follow from its syntax
    /// errors, and forgets the services that have one: what else would be
    /// said about them is guesswork.
    fn forgive(
        &mut self,
        source: &SourceFile,
        broken: &[Complaint],
        file: usize,
        found: Vec<Complaint>,
    ) {
        let lines: HashSet<usize> = broken
            .iter()
            .map(|c| source.line_of(c.place.start))
            .collect();
        let sections: Vec<Range<usize>> = broken
            .iter()
            .filter_map(|c| source.section(c.place.start))
            .collect();
        let follows = |at: usize| {
            lines.contains(&source.line_of(at)) || sections.iter().any(|s| s.contains(&at))
        };
        let found = found.into_iter().filter(|c| !follows(c.place.start));
        self.written.complaints.extend(found);
        if broken.is_empty() {
            return;
        }
        self.written.partial = true;
        let services = &mut self.written.services;
        let mut heads: Vec<usize> = services
            .iter()
            .filter(|s| s.name.place.file == file)
            .map(|s| s.name.place.start)
            .collect();
        heads.sort_unstable();
        let owner = |at: usize| heads.partition_point(|head| *head <= at);
        let bad: HashSet<usize> = broken.iter().map(|c| owner(c.place.start)).collect();
        services.retain(|s| s.name.place.file != file || !bad.contains(&owner(s.name.place.start)));
    }

    fn read_root(&mut self, reader: &mut Reader<'_>, root: &DeTable<'_>) -> Vec<At<String>> {
        let main = reader.file == 0;
        let mut includes = Vec::new();
        for (key, value) in root {
            match key.get_ref().as_ref() {
                "include" => includes = read_includes(reader, value),
                "daemon" | "defaults" | "import" if !main => {
                    let fault =
                        Fault::new(format!("[{}] belongs into the main file", key.get_ref())).help(
                            "it is about all services, and an included file is about its own",
                        );
                    reader.complain::<_, ()>(key, fault);
                }
                "import" => self.written.import = Some(schema::read_import(reader, value)),
                "daemon" => self.written.daemon = schema::read_daemon(reader, value),
                "defaults" => self.written.defaults = schema::read_defaults(reader, value),
                "service" => {
                    for service in schema::read_services(reader, value) {
                        self.add(reader, service);
                    }
                }
                _ => unknown_root(reader, key, value),
            }
        }
        includes
    }

    fn add(&mut self, reader: &mut Reader<'_>, service: RawService) {
        let At { value: name, place } = &service.name;
        if let Some(first) = self.places.get(name) {
            let complaint = Fault::new(format!("service \"{name}\" is there twice"))
                .at(*place)
                .and(*first, "the first one");
            reader.complaints.push(complaint);
            return;
        }
        self.places.insert(name.clone(), *place);
        self.written.services.push(service);
    }

    fn include(&mut self, pattern: &At<String>, path: Option<&Path>) {
        let Some(path) = path else {
            let fault = Fault::new("this table is no file, so it can include none");
            self.written.complaints.push(fault.at(pattern.place));
            return;
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        match include::find(folder, &pattern.value) {
            Ok(found) => {
                for fault in found.warnings {
                    self.written.warnings.push(fault.at(pattern.place));
                }
                for file in found.files {
                    self.read_file(&file, Some(pattern.place));
                }
            }
            Err(fault) => {
                self.written.partial = true;
                self.written.complaints.push(fault.at(pattern.place));
            }
        }
    }
}

fn read_bounded(path: &Path) -> Result<String, String> {
    let plain = |err: io::Error| err.to_string();
    let file = fs::File::open(path).map_err(plain)?;
    if file.metadata().map_err(plain)?.is_dir() {
        return Err("it is a folder".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(plain)?;
    if u64::try_from(bytes.len()).is_ok_and(|n| n > LARGEST_FILE) {
        return Err(format!("it is larger than {} MiB", LARGEST_FILE >> 20));
    }
    String::from_utf8(bytes).map_err(|err| {
        let good = err.utf8_error().valid_up_to();
        let line = err.as_bytes()[..good]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        format!("line {line} is not UTF-8")
    })
}

fn read_includes(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<At<String>> {
    const WANTED: &str = "a list of files such as [\"services.d/*.toml\"]";
    let Some(items) = value.get_ref().as_array() else {
        reader.mismatch::<()>(value, WANTED);
        return Vec::new();
    };
    // Those that make sense are read even if others do not.
    items
        .iter()
        .filter_map(|v| reader.at(v, |r, v| r.word(v, "a file or a pattern")))
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
