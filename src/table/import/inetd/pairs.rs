//! NetBSD's other form of an entry: `service on|off key = value value, key = value ;`
#![forbid(unsafe_code)]

use std::ops::Range;

use super::dialect::Dialect;
use super::lines::Word;
use crate::table::complaint::Fault;

/// A key and its values.
#[derive(Debug)]
pub(super) struct Pair {
    pub key: Word,
    pub values: Vec<Word>,
}

/// Whether the words of a line begin such an entry.
pub(super) fn is_one(dialect: Dialect, words: &[Word]) -> bool {
    let second = words.get(1).map(|word| word.text.as_str());
    dialect == Dialect::NetBsd && matches!(second, Some("on" | "off"))
}

type Found = (Vec<Word>, Vec<Pair>, usize);
type Broken = (Range<usize>, Fault);

/// Reads one from byte `start` on: the first two words, the pairs, and where it ends.
pub(super) fn read(text: &str, start: usize) -> Result<Found, Broken> {
    let mut scan = Scan { text, at: start };
    let mut head = Vec::new();
    for _ in 0..2 {
        match scan.token()? {
            Some(Token::Word(word)) => head.push(word),
            _ => {
                return Err((
                    start..scan.at,
                    Fault::new("expected a service, then on or off"),
                ));
            }
        }
    }
    let mut pairs = Vec::new();
    loop {
        let key = match scan.token()? {
            Some(Token::Word(key)) => key,
            Some(Token::Mark(';', _)) if pairs.is_empty() => return Ok((head, pairs, scan.at)),
            Some(Token::Mark(_, span)) => return Err((span, Fault::new("expected a key"))),
            None => return Err((start..text.len(), unfinished())),
        };
        match scan.token()? {
            Some(Token::Mark('=', _)) => {}
            _ => {
                let fault = Fault::new(format!("expected = behind \"{}\"", key.text));
                return Err((key.span, fault));
            }
        }
        let mut values = Vec::new();
        let mark = loop {
            match scan.token()? {
                Some(Token::Word(value)) => values.push(value),
                Some(Token::Mark(mark, span)) => break (mark, span),
                None => return Err((start..text.len(), unfinished())),
            }
        };
        pairs.push(Pair { key, values });
        match mark {
            (',', _) => {}
            (';', _) => return Ok((head, pairs, scan.at)),
            (_, span) => return Err((span, Fault::new("expected , or ; before the next key"))),
        }
    }
}

fn unfinished() -> Fault {
    Fault::new("the entry has no end").help("it ends with a semicolon")
}

enum Token {
    Word(Word),
    Mark(char, Range<usize>),
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn token(&mut self) -> Result<Option<Token>, Broken> {
        loop {
            match self.peek() {
                None => return Ok(None),
                Some('#') => {
                    let rest = self.text.get(self.at..).unwrap_or("");
                    self.at += rest.find('\n').unwrap_or(rest.len());
                }
                Some(c) if c.is_whitespace() => self.at += c.len_utf8(),
                Some(c @ ('=' | ',' | ';')) => {
                    self.at += 1;
                    return Ok(Some(Token::Mark(c, self.at - 1..self.at)));
                }
                Some(_) => return self.word().map(Some),
            }
        }
    }

    fn word(&mut self) -> Result<Token, Broken> {
        let start = self.at;
        let mut text = String::new();
        let mut quote: Option<char> = None;
        while let Some(c) = self.peek() {
            match quote {
                None if c.is_whitespace() || matches!(c, '=' | ',' | ';') => break,
                None if matches!(c, '"' | '\'') => quote = Some(c),
                Some(open) if c == open => quote = None,
                Some(_) if c == '\\' => {
                    self.at += 1;
                    text.push(self.escape()?);
                    continue;
                }
                Some(_) if c == '\n' => break,
                _ => text.push(c),
            }
            self.at += c.len_utf8();
        }
        if quote.is_some() {
            return Err((start..self.at, Fault::new("the quotes are not closed")));
        }
        let span = start..self.at;
        Ok(Token::Word(Word { text, span }))
    }

    /// What stands behind a backslash in quotes.
    fn escape(&mut self) -> Result<char, Broken> {
        let at = self.at;
        let bad = |end: usize| (at..end, Fault::new("no such escape behind \\"));
        let c = self.peek().ok_or_else(|| bad(at))?;
        self.at += c.len_utf8();
        Ok(match c {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '\\' | '"' | '\'' => c,
            'x' => {
                let digits = self.text.get(self.at..self.at + 2);
                let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                // What is no ASCII would be half a character.
                let code = code.filter(u8::is_ascii).ok_or_else(|| bad(self.at))?;
                self.at += 2;
                char::from(code)
            }
            _ => return Err(bad(self.at)),
        })
    }
}
