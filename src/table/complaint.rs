//! Complaints about the operator's files: what is wrong, where, and how to
//! mend it, shown the way a compiler shows them. Only this file knows about
//! lines and columns; everything else carries byte ranges.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Longest excerpt of a line that is shown, in characters.
const SHOWN: usize = 120;
/// How much of a cut line is kept before the culprit.
const LEAD: usize = 40;
/// Complaints printed before the rest is only counted.
const PRINTED: usize = 200;

/// Bytes `start..end` of the `file`th file read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub file: usize,
    pub start: usize,
    pub end: usize,
}

/// A value and where the operator wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    pub value: T,
    pub place: Place,
}

/// What is wrong with a value, before anyone knows where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub problem: String,
    pub help: Option<String>,
}

/// A fault in the table that only a reader of the file can mend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Complaint {
    pub place: Place,
    pub problem: String,
    /// How to mend it.
    pub help: Option<String>,
    /// A second place that belongs to it, and what is there.
    pub other: Option<(Place, String)>,
    /// Among warnings: one that nobody may miss.
    pub grave: bool,
}

/// A file of the table, kept for showing its lines.
#[derive(Clone, Debug)]
pub struct SourceFile {
    pub path: PathBuf,
    text: String,
    line_starts: Vec<usize>,
}

/// Everything that is wrong (or only doubtful), with the files it is about.
#[derive(Clone, Debug, Default)]
pub struct Complaints {
    pub files: Vec<SourceFile>,
    pub list: Vec<Complaint>,
}

impl Place {
    #[must_use]
    pub fn new(file: usize, span: Range<usize>) -> Self {
        Self {
            file,
            start: span.start,
            end: span.end.max(span.start),
        }
    }

    /// A span that is counted through all files, of which `starts` says where they begin.
    #[must_use]
    pub fn counted(starts: &[usize], span: Range<usize>) -> Self {
        let after = starts.partition_point(|start| *start <= span.start);
        let file = after.saturating_sub(1);
        let start = starts.get(file).copied().unwrap_or(0);
        Self::new(file, span.start - start..span.end.saturating_sub(start))
    }

    /// The file as a whole.
    #[must_use]
    pub fn whole(file: usize) -> Self {
        Self::new(file, 0..0)
    }

    fn is_whole(self) -> bool {
        self.end == 0
    }
}

impl Fault {
    pub fn new(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            help: None,
        }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub fn at(self, place: Place) -> Complaint {
        Complaint {
            place,
            problem: self.problem,
            help: self.help,
            other: None,
            grave: false,
        }
    }
}

impl Complaint {
    /// Names a second place, rendered after the first: `note: FILE:LINE:COL: TEXT`.
    #[must_use]
    pub fn and(mut self, place: Place, text: impl Into<String>) -> Self {
        self.other = Some((place, text.into()));
        self
    }

    /// Makes a warning one that nobody may miss.
    #[must_use]
    pub fn grave(mut self) -> Self {
        self.grave = true;
        self
    }

    /// Shows the complaint with its line and the culprit underlined.
    #[must_use]
    pub fn render(&self, files: &[SourceFile]) -> String {
        let Some(file) = files.get(self.place.file) else {
            return format!("{}\n", printable(&self.problem));
        };
        let mut out = format!("{}: {}\n", file.spot(self.place), printable(&self.problem));
        let margin = file.show(self.place, &mut out);
        if let Some(help) = &self.help {
            out.push_str(&format!("{:margin$} = help: {}\n", "", printable(help)));
        }
        if let Some((place, text)) = &self.other
            && let Some(file) = files.get(place.file)
        {
            let (spot, text) = (file.spot(*place), printable(text));
            out.push_str(&format!("{:margin$} = note: {spot}: {text}\n", ""));
        }
        out
    }
}

impl Complaint {
    /// The same in one line, for a log: no source, but what to do.
    fn line(&self, files: &[SourceFile]) -> String {
        let mut out = printable(&self.problem);
        if let Some(help) = &self.help {
            out.push_str(&format!("; {}", printable(help)));
        }
        match files.get(self.place.file) {
            Some(file) => format!("{}: {out}", file.spot(self.place)),
            None => out,
        }
    }
}

impl SourceFile {
    #[must_use]
    pub fn new(path: PathBuf, text: String) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            path,
            text,
            line_starts,
        }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Counted from 0.
    #[must_use]
    pub fn line_of(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at) - 1
    }

    /// If `at` is on a line with a `[heading]`: from there to the next one.
    #[must_use]
    pub fn section(&self, at: usize) -> Option<Range<usize>> {
        let number = self.line_of(at);
        let is_heading = |number: usize| self.line(number).1.trim_start().starts_with('[');
        if !is_heading(number) {
            return None;
        }
        let next = (number + 1..self.line_starts.len()).find(|n| is_heading(*n));
        let end = next.map_or(self.text.len(), |n| self.line(n).0);
        Some(self.line(number).0..end)
    }

    /// A line without its end, counted from 0.
    #[must_use]
    pub fn span_of_line(&self, number: usize) -> Range<usize> {
        let (start, line) = self.line(number);
        start..start + line.len()
    }

    fn line(&self, number: usize) -> (usize, &str) {
        let start = self.line_starts.get(number).copied().unwrap_or(0);
        let rest = self.text.get(start..).unwrap_or("");
        (start, rest.lines().next().unwrap_or(""))
    }

    /// `FILE:LINE`.
    #[must_use]
    pub fn line_spot(&self, place: Place) -> String {
        let path = printable(&self.path.to_string_lossy());
        format!("{path}:{}", self.line_of(place.start) + 1)
    }

    /// `FILE:LINE:COL`, or only `FILE` where there is no text to point at.
    fn spot(&self, place: Place) -> String {
        let path = printable(&self.path.to_string_lossy());
        if self.text.is_empty() || place.is_whole() {
            return path;
        }
        let number = self.line_of(place.start);
        let (start, line) = self.line(number);
        let column = chars_before(line, place.start - start);
        format!("{path}:{}:{}", number + 1, column + 1)
    }

    /// The line of `place` and carets below it; returns the width of the margin.
    fn show(&self, place: Place, out: &mut String) -> usize {
        if self.text.is_empty() || place.is_whole() {
            return 0;
        }
        let number = self.line_of(place.start);
        let (start, line) = self.line(number);
        let first = chars_before(line, place.start - start);
        let width = chars_before(line, place.end - start).saturating_sub(first);

        let (line, first) = excerpt(line, first);
        let room = line.chars().count().saturating_sub(first);
        let carets = "^".repeat(width.min(room).max(1));
        let indent: String = line
            .chars()
            .take(first)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();

        let number = (number + 1).to_string();
        let margin = number.len();
        out.push_str(&format!(
            "{number} | {line}\n{:margin$} | {indent}{carets}\n",
            ""
        ));
        margin
    }
}

/// How many characters of `line` start before byte `at`.
fn chars_before(line: &str, at: usize) -> usize {
    line.char_indices().take_while(|(i, _)| *i < at).count()
}

/// The part of a long line round its `first`th character, and where that is now.
fn excerpt(line: &str, first: usize) -> (String, usize) {
    let clean = |c: char| {
        if c.is_control() && c != '\t' {
            '\u{fffd}'
        } else {
            c
        }
    };
    let length = line.chars().count();
    if length <= SHOWN {
        return (line.chars().map(clean).collect(), first);
    }
    let skip = first.saturating_sub(LEAD);
    let mut shown = String::new();
    if skip > 0 {
        shown.push('…');
    }
    shown.extend(line.chars().skip(skip).take(SHOWN).map(clean));
    if skip + SHOWN < length {
        shown.push('…');
    }
    (shown, first - skip + usize::from(skip > 0))
}

/// Strange bytes of the operator's file do not reach the terminal raw, and an
/// endless value does not fill it.
fn printable(text: &str) -> String {
    const LONGEST: usize = 600;
    let mut out = String::with_capacity(text.len().min(LONGEST));
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

impl Complaints {
    /// Puts the complaints in the order of the files and drops repetitions.
    #[must_use]
    pub fn new(files: Vec<SourceFile>, mut list: Vec<Complaint>) -> Self {
        list.sort_by_key(|c| (c.place.file, c.place.start, c.place.end));
        let mut seen = HashSet::new();
        list.retain(|c| seen.insert((c.place, c.problem.clone())));
        Self { files, list }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Each complaint as its own text, with the line it is about.
    pub fn rendered(&self) -> impl Iterator<Item = String> + '_ {
        self.list.iter().map(|c| c.render(&self.files))
    }

    /// Warnings as lines of the log, errors those that nobody may miss.
    pub fn log_warnings(&self) {
        for complaint in &self.list {
            let line = complaint.line(&self.files);
            match complaint.grave {
                true => log::error!("{line}"),
                false => log::warn!("{line}"),
            }
        }
    }

    /// Warnings as their own texts, headed by what they are.
    pub fn rendered_warnings(&self) -> impl Iterator<Item = String> + '_ {
        self.list.iter().map(|complaint| {
            let word = if complaint.grave { "error" } else { "warning" };
            format!("{word}: {}", complaint.render(&self.files))
        })
    }

    /// Each complaint as one line, for a log.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.list.iter().map(|c| c.line(&self.files))
    }

    /// How many, in words: "1 complaint", "7 complaints".
    #[must_use]
    pub fn count(&self, what: &str) -> String {
        let s = if self.len() == 1 { "" } else { "s" };
        format!("{} {what}{s}", self.len())
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for text in self.rendered().take(PRINTED) {
            f.write_str(&text)?;
        }
        match self.len().checked_sub(PRINTED) {
            None | Some(0) => Ok(()),
            Some(more) => writeln!(f, "and {more} more like these"),
        }
    }
}

impl std::error::Error for Complaints {}

/// The known word most like `word`, if it is like it at all.
#[must_use]
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Word distance over a hostile, endless key would cost more than it helps.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    let slips = match word.chars().count() {
        0..=2 => 0,
        length => length / 3,
    };
    let mut best: Option<(usize, f64, &str)> = None;
    for known in known {
        let distance = strsim::osa_distance(&word, known);
        let likeness = strsim::jaro_winkler(&word, known);
        if distance > slips && likeness < 0.88 {
            continue;
        }
        let nearer = |(d, l, _): (usize, f64, &str)| (distance, -likeness) < (d, -l);
        if best.is_none_or(nearer) {
            best = Some((distance, likeness, known));
        }
    }
    best.map(|(_, _, known)| known)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn show(text: &str, culprit: &str, fault: Fault) -> String {
        let at = text.find(culprit).unwrap();
        let files = [SourceFile::new("usherd.toml".into(), text.into())];
        fault
            .at(Place::new(0, at..at + culprit.len()))
            .render(&files)
    }

    #[test]
    fn the_value_is_underlined() {
        assert_eq!(
            show(
                "a = 1\nport = 9418\n",
                "9418",
                Fault::new("taken").help("use another")
            ),
            "usherd.toml:2:8: taken\n\
             2 | port = 9418\n  \
               |        ^^^^\n  \
               = help: use another\n"
        );
    }

    #[test]
    fn tabs_are_copied_so_that_carets_align() {
        assert_eq!(
            show("\tx =\t7\n", "7", Fault::new("no")),
            "usherd.toml:1:6: no\n1 | \tx =\t7\n  | \t   \t^\n"
        );
    }

    #[test]
    fn long_lines_are_cut_round_the_culprit() {
        let text = format!("{}BAD{}", "x".repeat(5000), "y".repeat(5000));
        let shown = show(&text, "BAD", Fault::new("no"));
        assert!(shown.len() < 500, "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        let column = |line: &str, what| line.split_once(what).unwrap().0.chars().count();
        assert_eq!(column(lines[1], "BAD"), column(lines[2], "^^^"));
    }

    #[test]
    fn a_value_of_several_lines_is_underlined_to_the_end_of_its_first() {
        assert_eq!(
            show("x = [\n1,\n2]\n", "[\n1,\n2]", Fault::new("no")),
            "usherd.toml:1:5: no\n1 | x = [\n  |     ^\n"
        );
    }

    #[test]
    fn escape_sequences_of_the_file_do_not_reach_the_terminal() {
        let shown = show("x = \u{1b}[31m\n", "x", Fault::new("odd \u{1b}"));
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let keys = ["listen", "instances", "per_source"];
        assert_eq!(did_you_mean("lisen", keys), Some("listen"));
        assert_eq!(did_you_mean("Instance", keys), Some("instances"));
        assert_eq!(did_you_mean("zebra", keys), None);
        assert_eq!(did_you_mean("tpc", ["udp", "tcp6", "tcp"]), Some("tcp"));
    }
}
