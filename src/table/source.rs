//! Reads the files of a table: the main file, then what it includes, depth
//! first, each pattern's matches in the order of their bytes. Relative
//! patterns start from the folder of the file that has them, in every layer.
//!
//! `[daemon]` and `[defaults]` stand in the main file only: a fragment that a
//! package drops into a folder must not change the services of others.
//!
//! Services are put together as TOML, before the schema reads a value: drop-ins
//! over their file, then each service over the one that it takes its keys
//! `from`. The spans of all files are counted from the first one on, so that
//! every value still knows where it was written.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use typed_arena::Arena;

use crate::admin::catalogue::read::RawOperation;

use super::complaint::{At, Complaint, Fault, Place, SourceFile};
use super::host::Edited;
use super::names::Names;
use super::origins::{Origins, Whose};
use super::reader::{Reader, Value};
use super::schema::{Keys, RawDaemon, RawImport, RawService};
use include::Found;
use layers::Layers;
use syntax::Broken;

mod drop_in;
mod include;
mod inherit;
pub mod layers;
mod merge;
mod operations;
mod root;
mod syntax;

/// No table is larger; a device or an endless pipe is.
const LARGEST_FILE: u64 = 64 << 20;
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
    /// What is read besides, in other formats.
    pub import: Option<RawImport>,
    pub files: Vec<SourceFile>,
    pub origins: Origins,
    pub layers: Layers,
    pub complaints: Vec<Complaint>,
    pub warnings: Vec<Complaint>,
    /// Of the catalogue, shipped and the operator's laid over each other.
    pub operations: Vec<RawOperation>,
    /// The operator's files of it.
    pub operations_files: Vec<PathBuf>,
    /// Numbers of the first shipped file, and of the first one after them.
    pub shipped_from: usize,
    pub shipped_until: usize,
    /// Some file could not be read whole, so what seems to be missing may be there.
    pub partial: bool,
}

/// Reads it all, as far as it can be read.
/// `edited` takes the place of what is in its file.
pub fn read(source: Source<'_>, names: &Names, edited: Option<&Edited>) -> Written {
    let texts = Arena::new();
    let written = {
        let mut files = Files::new(names, &texts);
        files.edited = edited;
        match source {
            Source::File(path) => {
                files.written.layers = Layers::usual(path);
                files.read_file(path, None);
                files.read_operations(Some(path));
            }
            Source::Text { name, text } => {
                let source = SourceFile::new(PathBuf::from(name), text.to_owned());
                files.read_table(source, None);
                files.read_operations(None);
            }
        }
        files.finish()
    };
    Written {
        files: texts.into_vec(),
        ..written
    }
}

/// A service as TOML, with its drop-ins.
struct Section<'t> {
    name: Spanned<DeString<'t>>,
    value: Value<'t>,
    file: usize,
    /// The syntax of one of its files is broken there: the rest would be guesswork.
    broken: bool,
}

struct Files<'a, 't> {
    names: &'a Names,
    edited: Option<&'a Edited>,
    texts: &'t Arena<SourceFile>,
    sources: Vec<&'t SourceFile>,
    /// Where each file begins when all are counted through.
    starts: Vec<usize>,
    /// The files being read, outermost first, to notice loops.
    open: Vec<PathBuf>,
    read: HashSet<PathBuf>,
    sections: Vec<Section<'t>>,
    by_name: HashMap<String, usize>,
    /// Of files with syntax errors.
    broken: HashMap<usize, Broken>,
    /// What readers complain about, some of it only because of the syntax.
    found: Vec<Complaint>,
    written: Written,
}

impl<'a, 't> Files<'a, 't> {
    fn new(names: &'a Names, texts: &'t Arena<SourceFile>) -> Self {
        Self {
            names,
            edited: None,
            texts,
            sources: Vec::new(),
            starts: Vec::new(),
            open: Vec::new(),
            read: HashSet::new(),
            sections: Vec::new(),
            by_name: HashMap::new(),
            broken: HashMap::new(),
            found: Vec::new(),
            written: Written::default(),
        }
    }

    /// The services that come of it all.
    fn finish(mut self) -> Written {
        let names = self.sections.iter().map(|s| s.name.get_ref().to_string());
        self.written.origins.settle(names.collect());
        self.read_services();
        let explained = |c: &Complaint| {
            let broken = self.broken.get(&c.place.file);
            let source = self.sources.get(c.place.file);
            broken.is_some_and(|broken| {
                source.is_some_and(|source| broken.explains(source, c.place.start))
            })
        };
        let found = std::mem::take(&mut self.found);
        let found = found.into_iter().filter(|c| !explained(c));
        self.written.complaints.extend(found);
        self.written
    }

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
        match self.text_of(path, &identity) {
            Ok(text) => {
                self.open.push(identity);
                self.read_table(SourceFile::new(path.to_owned(), text), Some(path));
                self.open.pop();
            }
            Err(reason) => self.unreadable(path, from, &reason),
        }
    }

    fn text_of(&self, path: &Path, identity: &Path) -> Result<String, String> {
        match self.edited.filter(|edited| edited.file == identity) {
            Some(edited) => Ok(edited.text.clone()),
            None => read_bounded(path),
        }
    }

    fn unreadable(&mut self, path: &Path, from: Option<Place>, reason: &str) {
        let problem = format!("unable to read {}: {reason}", path.display());
        self.fail(path, from, problem);
    }

    fn fail(&mut self, path: &Path, from: Option<Place>, problem: String) {
        let place = from.unwrap_or_else(|| {
            let (file, _) = self.add_file(SourceFile::new(path.to_owned(), String::new()));
            Place::whole(file)
        });
        self.written.partial = true;
        self.written.complaints.push(Fault::new(problem).at(place));
    }

    fn add_file(&mut self, source: SourceFile) -> (usize, &'t SourceFile) {
        let start = match (self.starts.last(), self.sources.last()) {
            (Some(start), Some(last)) => start + last.text().len() + 1,
            _ => 0,
        };
        let source: &'t SourceFile = self.texts.alloc(source);
        self.starts.push(start);
        self.sources.push(source);
        (self.sources.len() - 1, source)
    }

    /// The keys of a file, as far as its syntax lets them be read.
    fn parse(&mut self, source: SourceFile) -> (usize, DeTable<'t>) {
        let (file, source) = self.add_file(source);
        let (root, errors) = DeTable::parse_recoverable(source.text());
        let root = merge::moved(root.into_inner(), self.starts.last().copied().unwrap_or(0));
        let syntax = syntax::complaints(&errors, source, file);
        if !syntax.is_empty() {
            self.broken.insert(file, Broken::new(source, &syntax));
            self.written.complaints.extend(syntax);
            self.written.partial = true;
        }
        (file, root)
    }

    /// `path` is where relative includes start; a text that is no file has none.
    fn read_table(&mut self, source: SourceFile, path: Option<&Path>) {
        // It hides the file below it, and that file's drop-ins with it.
        let is_mask = source.text().trim().is_empty();
        let (file, root) = self.parse(source);
        let includes = self.read_root(file, root, path);
        self.forgive(file);
        if let Some(path) = path.filter(|_| !is_mask) {
            self.read_drop_ins(file, path);
        }
        for pattern in includes {
            self.include(&pattern, path);
        }
    }

    /// Services with a syntax error in `file` are left out: what else would be
    /// said about them is guesswork.
    fn forgive(&mut self, file: usize) {
        let Some(broken) = self.broken.get(&file) else {
            return;
        };
        let mut heads: Vec<(usize, usize)> = self.written.origins.services_in(file).collect();
        heads.sort_unstable();
        let starts: Vec<usize> = heads.iter().map(|(start, _)| *start).collect();
        let bad = broken.services(&starts);
        for (start, number) in heads {
            if let Some(section) = self.sections.get_mut(number)
                && bad.contains(&start)
            {
                section.broken = true;
            }
        }
    }

    /// Lets `read` read, and keeps what it complains about.
    fn reading<T>(&mut self, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
        let mut reader = Reader {
            starts: &self.starts,
            pin: None,
            names: self.names,
            complaints: Vec::new(),
        };
        let done = read(&mut reader);
        self.found.append(&mut reader.complaints);
        done
    }

    fn place<T>(&self, value: &Spanned<T>) -> Place {
        Place::counted(&self.starts, value.span())
    }

    fn services_of(&mut self, value: Value<'t>) -> DeTable<'t> {
        self.reading(|r| {
            r.table(&value, "services, each in [service.NAME]")
                .is_some()
        });
        match value.into_inner() {
            DeValue::Table(table) => table,
            _ => DeTable::new(),
        }
    }

    fn add(&mut self, name: Spanned<DeString<'t>>, value: Value<'t>, file: usize) {
        let place = self.place(&name);
        if let Some(first) = self.by_name.get(name.get_ref().as_ref()) {
            let first = self.place(&self.sections[*first].name);
            let fault = Fault::new(format!("service \"{}\" is there twice", name.get_ref()));
            self.found.push(fault.at(place).and(first, "the first one"));
            return;
        }
        let number = self.sections.len();
        self.begin(place, &value, number);
        self.by_name.insert(name.get_ref().to_string(), number);
        self.sections.push(Section {
            name,
            value,
            file,
            broken: false,
        });
    }

    /// From `place` on it is about a service. Its tables may have headings elsewhere.
    fn begin(&mut self, place: Place, value: &Value<'t>, number: usize) {
        self.written.origins.begin(place, Whose::Service(number));
        let Some(table) = value.get_ref().as_table() else {
            return;
        };
        for (key, _) in table.iter().filter(|(_, value)| value.get_ref().is_table()) {
            let place = self.place(key);
            self.written.origins.begin(place, Whose::Service(number));
        }
    }

    fn include(&mut self, pattern: &At<String>, path: Option<&Path>) {
        let Some(path) = path else {
            let fault = Fault::new("this table is no file, so it can include none");
            self.written.complaints.push(fault.at(pattern.place));
            return;
        };
        let found = self.written.layers.find(path, &pattern.value);
        for file in self.found_files(found, pattern.place) {
            self.read_file(&file, Some(pattern.place));
        }
    }

    fn found_files(&mut self, found: Result<Found, Fault>, place: Place) -> Vec<PathBuf> {
        match found {
            Ok(found) => {
                let warnings = found.warnings.into_iter().map(|fault| fault.at(place));
                self.written.warnings.extend(warnings);
                found.files
            }
            Err(fault) => {
                self.written.partial = true;
                self.written.complaints.push(fault.at(place));
                Vec::new()
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
