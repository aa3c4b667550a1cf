//! The blocks of rlinetd.conf(5). A directive is a name, its values and a `;`,
//! or a block where one may stand. A fault ends rlinetd, so it is a fault here.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::lexer::{Placed, Token, tokens};

pub(super) type Broken = (Range<usize>, String);

/// What stands in a file, in its order.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Service { name: String, body: Body },
    Defaults(Body),
    Log { name: String, at: usize },
    Directory { words: Vec<String>, at: usize },
}

/// Directives between braces.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    pub directives: Vec<Directive>,
    /// Bytes of the whole item.
    pub span: Range<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Directive {
    pub name: String,
    pub values: Vec<Token>,
    pub block: Option<Vec<Directive>>,
    /// First byte.
    pub at: usize,
}

impl Directive {
    /// The texts among its values.
    pub fn texts(&self) -> Vec<&str> {
        let texts = self.values.iter().filter_map(|token| match token {
            Token::Text(text) => Some(text.as_str()),
            Token::Word(_) | Token::Number(_) | Token::Address(_) | Token::Sign(_) => None,
        });
        texts.collect()
    }

    /// A value that is a single word.
    pub fn word(&self) -> Option<&str> {
        match self.values.as_slice() {
            [Token::Word(word)] => Some(word),
            _ => None,
        }
    }

    /// A number, perhaps below zero.
    pub fn number(&self) -> Option<i64> {
        match self.values.as_slice() {
            [Token::Number(number)] => Some(*number),
            [Token::Sign('-'), Token::Number(number)] => Some(-number),
            _ => None,
        }
    }
}

/// Directives that take a block.
const BLOCKS: [&str; 3] = ["rpc", "rlimit", "tcpd"];

/// Directives of a service, of `defaults`, and of the blocks in them.
pub(super) const DIRECTIVES: [&str; 34] = [
    "enabled",
    "port",
    "interface",
    "exec",
    "server",
    "protocol",
    "user",
    "group",
    "backlog",
    "instances",
    "wait",
    "nice",
    "rpc",
    "chroot",
    "log",
    "tcpd",
    "exit",
    "capability",
    "rlimit",
    "initgroups",
    "family",
    "banner",
    "echo",
    "filter",
    "chargen",
    "loopback",
    "discard",
    "close",
    "fish",
    "name",
    "version",
    "soft",
    "hard",
    "path",
];

pub(super) fn items(text: &str) -> Result<Vec<Item>, Broken> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens: &tokens,
        end: text.len(),
    };
    let mut items = Vec::new();
    while !parser.tokens.is_empty() {
        items.push(parser.item()?);
    }
    Ok(items)
}

struct Parser<'a> {
    tokens: &'a [Placed],
    end: usize,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Result<&'a Placed, Broken> {
        let (first, rest) = self
            .tokens
            .split_first()
            .ok_or_else(|| (self.end..self.end, "the file ends in the middle".to_owned()))?;
        self.tokens = rest;
        Ok(first)
    }

    fn peek(&self) -> Option<&'a Token> {
        self.tokens.first().map(|placed| &placed.token)
    }

    fn sign(&mut self, wanted: char) -> Result<usize, Broken> {
        let placed = self.next()?;
        if placed.token == Token::Sign(wanted) {
            return Ok(placed.span.end);
        }
        Err((
            placed.span.clone(),
            format!("\"{wanted}\" has to stand here"),
        ))
    }

    fn item(&mut self) -> Result<Item, Broken> {
        let first = self.next()?;
        let at = first.span.start;
        match &first.token {
            Token::Word(word) if word == "service" => {
                let name = self.text()?;
                let body = self.body(at)?;
                Ok(Item::Service { name, body })
            }
            Token::Word(word) if word == "defaults" => Ok(Item::Defaults(self.body(at)?)),
            Token::Word(word) if word == "log" => {
                let name = self.text()?;
                self.sign('{')?;
                while self.peek() != Some(&Token::Sign('}')) {
                    self.next()?;
                }
                self.sign('}')?;
                Ok(Item::Log { name, at })
            }
            Token::Word(word) if word == "directory" => {
                let mut words = vec![self.text()?];
                while words.len() < 3 && matches!(self.peek(), Some(Token::Text(_))) {
                    words.push(self.text()?);
                }
                self.sign(';')?;
                Ok(Item::Directory { words, at })
            }
            _ => Err((
                first.span.clone(),
                "here has to stand one of service, defaults, log and directory".to_owned(),
            )),
        }
    }

    fn text(&mut self) -> Result<String, Broken> {
        let placed = self.next()?;
        match &placed.token {
            Token::Text(text) => Ok(text.clone()),
            _ => Err((
                placed.span.clone(),
                "a text in quotes has to stand here".to_owned(),
            )),
        }
    }

    fn body(&mut self, start: usize) -> Result<Body, Broken> {
        let (directives, end) = self.block()?;
        Ok(Body {
            directives,
            span: start..end,
        })
    }

    fn block(&mut self) -> Result<(Vec<Directive>, usize), Broken> {
        self.sign('{')?;
        let mut directives = Vec::new();
        loop {
            match self.peek() {
                Some(Token::Sign('}')) => return Ok((directives, self.sign('}')?)),
                Some(Token::Sign(';')) => {
                    self.next()?;
                }
                _ => directives.push(self.directive()?),
            }
        }
    }

    fn directive(&mut self) -> Result<Directive, Broken> {
        let first = self.next()?;
        let Token::Word(name) = &first.token else {
            return Err((
                first.span.clone(),
                "a directive has to stand here".to_owned(),
            ));
        };
        if !DIRECTIVES.contains(&name.as_str()) {
            return Err((
                first.span.clone(),
                format!("rlinetd has no directive {name}"),
            ));
        }
        let mut directive = Directive {
            name: name.clone(),
            values: Vec::new(),
            block: None,
            at: first.span.start,
        };
        loop {
            match self.peek() {
                Some(Token::Sign('{')) if BLOCKS.contains(&name.as_str()) => {
                    directive.block = Some(self.block()?.0);
                    return Ok(directive);
                }
                Some(Token::Sign(';')) => {
                    self.next()?;
                    return Ok(directive);
                }
                Some(Token::Sign('{' | '}')) => {
                    let placed = self.next()?;
                    return Err((placed.span.clone(), format!("`{name}` ends with a \";\"")));
                }
                _ => directive.values.push(self.next()?.token.clone()),
            }
        }
    }
}
