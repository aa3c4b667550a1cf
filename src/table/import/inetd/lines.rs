//! The text in pieces: entries with their words, headings, policies.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::dialect::{Dialect, Quoting};
use super::pairs;
use crate::table::complaint::Fault;

/// What the text consists of; plain comments are left out.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    /// `#:LABEL: ...`, the whole line.
    Heading(&'a str),
    /// Behind `#@`; empty: no policy any more.
    Policy(&'a str),
    Entry(Entry<'a>),
    Broken(Range<usize>, Fault),
}

/// A line and those that go on with it.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// From 1.
    pub line: usize,
    /// As they stand there.
    pub source: Vec<&'a str>,
    pub words: Vec<Word>,
    /// Why it is disabled.
    pub off: Option<&'static str>,
    /// NetBSD's other form: `words` are the service and `on` or `off`.
    pub pairs: Option<Vec<pairs::Pair>>,
}

/// A word without its quotes, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub text: String,
    pub span: Range<usize>,
}

/// Marks of entries that are off.
pub(super) const OFF: [(&str, &str); 2] = [
    (
        "#<off>#",
        "a package or update-inetd has disabled it (#<off>#)",
    ),
    ("#disabled#", "a package has disabled it (#disabled#)"),
];

impl Entry<'_> {
    /// All of it.
    pub fn span(&self) -> Range<usize> {
        let start = self.words.first().map_or(0, |word| word.span.start);
        let end = self.words.last().map_or(start, |word| word.span.end);
        start..end
    }

    /// The pattern of an `.include`.
    pub fn include(&self) -> Option<&str> {
        match self.words.as_slice() {
            [first, pattern] if first.text == ".include" => Some(&pattern.text),
            _ => None,
        }
    }
}

/// The pieces, one after the other.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    text: &'a str,
    dialect: Dialect,
    at: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str, dialect: Dialect) -> Self {
        Self {
            text,
            dialect,
            at: 0,
            line: 0,
        }
    }

    /// The next line without its end, and where it begins.
    fn take(&mut self) -> Option<(usize, &'a str)> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let start = self.at;
        let line = rest.split('\n').next().unwrap_or("");
        self.at += line.len() + 1;
        self.line += 1;
        Some((start, line.strip_suffix('\r').unwrap_or(line)))
    }

    /// The next line, if it goes on with the one before it.
    fn take_more(&mut self) -> Option<(usize, &'a str)> {
        let rest = self.text.get(self.at..)?;
        let goes_on = self.dialect.continues() && rest.starts_with([' ', '\t']);
        if goes_on { self.take() } else { None }
    }

    fn entry(
        &mut self,
        start: usize,
        line: &'a str,
        off: Option<(&str, &'static str)>,
    ) -> Option<Piece<'a>> {
        let number = self.line;
        let skip = off.map_or(0, |(mark, _)| mark.len());
        let quoting = self.dialect.quoting();
        let mut source = vec![line];
        let mut words = words(start + skip, &line[skip..], quoting);
        if off.is_none() && pairs::is_one(self.dialect, words.as_deref().unwrap_or(&[])) {
            return Some(self.pairs(start, number));
        }
        while let Some((start, more)) = self.take_more() {
            source.push(more);
            let more = super::lines::words(start, more, quoting);
            match (&mut words, more) {
                (Ok(words), Ok(more)) => words.extend(more),
                (Ok(_), Err(broken)) => words = Err(broken),
                (Err(_), _) => {}
            }
        }
        match words {
            Err((span, fault)) => Some(Piece::Broken(span, fault)),
            Ok(words) if words.is_empty() => None,
            Ok(words) => Some(Piece::Entry(Entry {
                line: number,
                source,
                words,
                off: off.map(|(_, why)| why),
                pairs: None,
            })),
        }
    }

    /// An entry of NetBSD's other form, which ends where it ends.
    fn pairs(&mut self, start: usize, number: usize) -> Piece<'a> {
        let found = pairs::read(self.text, start);
        let end = match &found {
            Ok((_, _, end)) => *end,
            Err(_) => self.text.len(),
        };
        // Another entry may begin on the same line.
        let body = self.text.get(start..end).unwrap_or("");
        self.at = end;
        self.line = number + body.matches('\n').count() - 1;
        match self
            .text
            .get(end..)
            .and_then(|rest| rest.split('\n').next())
        {
            Some(rest) if rest.trim().is_empty() || rest.trim_start().starts_with('#') => {
                self.at += rest.len() + 1;
                self.line += 1;
            }
            _ => {}
        }
        match found {
            Err((span, fault)) => Piece::Broken(span, fault),
            Ok((words, pairs, _)) => Piece::Entry(Entry {
                line: number,
                source: body.trim().lines().collect(),
                words,
                off: None,
                pairs: Some(pairs),
            }),
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        loop {
            let (start, line) = self.take()?;
            if let Some((mark, why)) = OFF.iter().find(|(mark, _)| line.starts_with(mark)) {
                if let Some(piece) = self.entry(start, line, Some((mark, why))) {
                    return Some(piece);
                }
                continue;
            }
            if let Some(policy) = line.strip_prefix("#@") {
                return Some(Piece::Policy(policy.trim()));
            }
            if line.starts_with("#:") && line[2..].contains(':') {
                return Some(Piece::Heading(line));
            }
            if line.starts_with('#') {
                continue;
            }
            if let Some(piece) = self.entry(start, line, None) {
                return Some(piece);
            }
        }
    }
}

type Broken = (Range<usize>, Fault);

/// The words of a line that begins at byte `start`.
fn words(start: usize, line: &str, quoting: Quoting) -> Result<Vec<Word>, Broken> {
    let mut words = Vec::new();
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c.is_ascii_whitespace() {
            continue;
        }
        let begin = start + at;
        let mut text = String::new();
        let mut quote = None;
        let mut end = begin;
        let mut next = Some((at, c));
        while let Some((at, c)) = next {
            match (quote, c) {
                (None, c) if c.is_ascii_whitespace() => break,
                (None, '"' | '\'') if quoting == Quoting::Shell => quote = Some(c),
                (None, '"' | '\'')
                    if quoting == Quoting::Word && text.is_empty() && start + at == begin =>
                {
                    quote = Some(c);
                }
                (Some(open), c) if open == c => quote = None,
                (open, '\\') if quoting == Quoting::Shell && open != Some('\'') => {
                    text.extend(chars.next().map(|(_, c)| c));
                }
                (_, c) => text.push(c),
            }
            end = start + at + c.len_utf8();
            next = chars.next();
        }
        if quote.is_some() {
            let fault = Fault::new("the quotes are not closed");
            return Err((begin..start + line.len(), fault));
        }
        words.push(Word {
            text,
            span: begin..end.min(start + line.len()),
        });
    }
    Ok(words)
}
