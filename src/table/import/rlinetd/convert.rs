//! A service of rlinetd in the words of a table.
#![forbid(unsafe_code)]

use std::fs;

use toml_edit::{InlineTable, Value};

use super::lexer::Token;
use super::parse::Directive;
use crate::table::address;
use crate::table::capability;
use crate::table::import::{Draft, Effect, Origin, World, ready};
use crate::table::value;

/// Bytes of a text that a peer is told.
const LONGEST_BANNER: usize = 2048;

struct Impossible(String);

struct Builder<'a> {
    name: &'a str,
    /// Those of `defaults` first.
    directives: &'a [(Directive, Origin)],
    world: &'a World<'a>,
    draft: Draft,
}

pub(super) fn convert(
    name: &str,
    origin: Origin,
    source: Vec<String>,
    directives: &[(Directive, Origin)],
    world: &World<'_>,
) -> Draft {
    let mut builder = Builder {
        name,
        directives,
        world,
        draft: Draft::new(name, origin, source),
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
        draft
            .notes
            .iter_mut()
            .for_each(crate::table::import::Note::mind);
    }
    draft
}

impl Builder<'_> {
    fn all(&mut self) -> Result<(), Impossible> {
        if self.word("enabled") == Some("no") {
            self.draft.off = Some("enabled no".to_owned());
        }
        let datagrams = self.word("protocol") == Some("udp");
        let wait = self.word("wait") == Some("yes");
        self.listen(datagrams)?;
        if wait && !datagrams {
            self.draft.set("wait", true);
        }
        let exec = self.serve(datagrams)?;
        if exec {
            self.process()?;
        }
        self.how_many(datagrams, wait);
        self.texts(exec, datagrams || wait);
        self.tcpd();
        self.no_equal();
        Ok(())
    }

    /// The last one counts.
    fn last(&self, name: &str) -> Option<&(Directive, Origin)> {
        self.directives.iter().rev().find(|(d, _)| d.name == name)
    }

    fn all_of(&self, name: &str) -> Vec<(Directive, Origin)> {
        self.directives
            .iter()
            .filter(|(d, _)| d.name == name)
            .cloned()
            .collect()
    }

    fn word(&self, name: &str) -> Option<&str> {
        self.last(name).and_then(|(d, _)| d.word())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.last(name)
            .and_then(|(d, _)| d.texts().first().copied())
    }

    fn note(&mut self, effect: Effect, origin: &Origin, text: impl Into<String>) {
        self.draft.notes.push(origin.note(effect, text));
    }

    fn listen(&mut self, datagrams: bool) -> Result<(), Impossible> {
        let scheme = if datagrams { "udp" } else { "tcp" };
        let mut found = self.rpc(scheme)?;
        if found.is_empty() {
            let family = match self.word("family") {
                Some("ipv4") => "4",
                Some("ipv6") => "6",
                _ => "",
            };
            let interfaces: Vec<String> = self.last("interface").map(addresses).unwrap_or_default();
            let interfaces = if interfaces.is_empty() {
                vec![String::new()]
            } else {
                interfaces
            };
            for interface in &interfaces {
                for port in self.ports() {
                    found.push(match interface.as_str() {
                        "" => format!("{scheme}{family}:{port}"),
                        ip if ip.contains(':') => format!("{scheme}:[{ip}]:{port}"),
                        ip => format!("{scheme}:{ip}:{port}"),
                    });
                }
            }
        }
        for text in &found {
            let parsed = address::listen(text, &self.world.host.names);
            parsed.map_err(|fault| Impossible(fault.problem))?;
        }
        match found.as_slice() {
            [one] => self.draft.set("listen", one.clone()),
            _ => self.draft.set_list("listen", &found),
        }
        Ok(())
    }

    fn ports(&self) -> Vec<String> {
        let Some((directive, _)) = self.last("port") else {
            return vec![self.name.to_owned()];
        };
        let port = |token: &Token| match token {
            Token::Text(name) => Some(name.clone()),
            Token::Number(number) => Some(number.to_string()),
            _ => None,
        };
        directive.values.iter().filter_map(port).collect()
    }

    /// `rpc { name "x"; version 3,6,9-15; }`
    fn rpc(&mut self, scheme: &str) -> Result<Vec<String>, Impossible> {
        let Some((directive, _)) = self.last("rpc") else {
            return Ok(Vec::new());
        };
        let block = directive.block.clone().unwrap_or_default();
        let within = |name: &str| block.iter().rev().find(|d| d.name == name);
        let program = within("name")
            .and_then(|d| d.texts().first().copied())
            .unwrap_or(self.name);
        let versions = within("version")
            .map(|d| d.values.clone())
            .unwrap_or_default();
        if versions.is_empty() {
            return Err(Impossible("its rpc names no version".to_owned()));
        }
        let ranges = versions.split(|token| *token == Token::Sign(','));
        let texts = ranges.map(|range| match range {
            [Token::Number(one)] => Ok(format!("rpc-{scheme}:{program}/{one}")),
            [Token::Number(first), Token::Sign('-'), Token::Number(last)] => {
                Ok(format!("rpc-{scheme}:{program}/{first}-{last}"))
            }
            _ => Err(Impossible("its rpc has a version that is none".to_owned())),
        });
        texts.collect()
    }

    /// Whether a program serves it.
    fn serve(&mut self, datagrams: bool) -> Result<bool, Impossible> {
        if let Some((directive, _)) = self.last("exec") {
            let line = directive
                .texts()
                .first()
                .copied()
                .unwrap_or_default()
                .to_owned();
            self.exec(&line)?;
            return Ok(true);
        }
        let echoed = self.text("echo").map(str::to_owned);
        let has = |name: &str| self.last(name).is_some();
        let builtin = match echoed.as_deref() {
            _ if has("loopback") => "echo",
            _ if has("discard") => "discard",
            _ if has("chargen") && self.text("chargen").is_none() => "chargen",
            Some("%M") if !datagrams => "time",
            Some(text) if text.trim_end_matches("\\n").trim_end_matches("\\r") == "%I" => "daytime",
            _ => {
                return Err(Impossible(
                    "it has no exec and is none of echo, discard, chargen, time and daytime; write a program for it".to_owned(),
                ));
            }
        };
        self.draft.set("builtin", builtin);
        Ok(false)
    }

    /// Blanks separate words; `\` and `%` stand for something else.
    fn exec(&mut self, line: &str) -> Result<(), Impossible> {
        if line.contains('%') {
            return Err(Impossible(format!(
                "its command line has facts about the request (exec \"{line}\"); usherd has them in the environment: \
                 REMOTE_HOST and its like"
            )));
        }
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        let name = words
            .next()
            .ok_or_else(|| Impossible("its exec is empty".to_owned()))?;
        let base = name.rsplit('/').next().unwrap_or(&name).to_owned();
        let server = self.text("server").map(str::to_owned);
        let wrapped = server
            .as_deref()
            .is_some_and(|server| server.ends_with("/tcpd"));
        let (program, argv0) = match server {
            Some(_) if wrapped && name.starts_with('/') => (name, base),
            Some(_) if wrapped => (format!("/usr/sbin/{name}"), base),
            Some(server) => (server, name),
            None => (name.clone(), name),
        };
        if !program.starts_with('/') {
            return Err(Impossible(format!("{program} is no absolute path")));
        }
        if let Some(table) = ready::table_for(&program) {
            let text = format!("services.d/{table}.toml is a ready table for it, in a sandbox");
            self.draft.note(Effect::Remark, text);
        }
        let usual = program.rsplit('/').next() == Some(argv0.as_str());
        if wrapped {
            self.asks_hosts(&argv0);
        }
        self.draft
            .set_list("exec", std::iter::once(program).chain(words));
        if !usual {
            self.draft.set("argv0", argv0);
        }
        Ok(())
    }

    fn process(&mut self) -> Result<(), Impossible> {
        self.draft.set("stderr", "socket");
        let account = |token: Option<&Token>| match token {
            Some(Token::Text(name)) => Some(name.clone()),
            Some(Token::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let of = |name: &str| account(self.last(name).and_then(|(d, _)| d.values.first()));
        let (user, group) = (of("user").unwrap_or_else(|| "root".to_owned()), of("group"));
        let accounts = &self.world.host.accounts;
        let known = match user.parse() {
            Ok(uid) => accounts.user_by_uid(uid).is_some(),
            Err(_) => accounts.user(&user).is_some(),
        };
        if !known {
            self.draft
                .off
                .get_or_insert(format!("there is no user {user}"));
        }
        self.draft.set("user", user);
        if let Some(group) = group {
            self.draft.set("group", group);
        }
        let groups = self
            .last("initgroups")
            .is_some_and(|(d, _)| d.word() != Some("no"));
        if !groups {
            self.draft
                .set("groups", Value::Array(toml_edit::Array::new()));
        }
        if let Some(nice) = self.last("nice").and_then(|(d, _)| d.number()) {
            self.draft.set("nice", nice.clamp(-20, 19));
        }
        for (directive, origin) in self.all_of("rlimit") {
            self.resource_limit(&directive, &origin);
        }
        self.isolation();
        Ok(())
    }

    fn resource_limit(&mut self, directive: &Directive, origin: &Origin) {
        let kind = match directive.values.first() {
            Some(Token::Word(kind)) => kind.clone(),
            _ => String::new(),
        };
        let one = |token: Option<&Token>| -> Option<Value> {
            match token? {
                Token::Word(word) if word == "unlimited" => Some("unlimited".into()),
                Token::Number(number) => Some(match kind.as_str() {
                    "nproc" | "nofile" => (*number).into(),
                    "cpu" => format!("{number}s").into(),
                    _ => value::show_size(number.unsigned_abs()).into(),
                }),
                _ => None,
            }
        };
        let found = match &directive.block {
            None => one(directive.values.get(1)),
            Some(block) => {
                let within = |name: &str| {
                    let found = block.iter().find(|d| d.name == name);
                    one(found.and_then(|d| d.values.first())).unwrap_or_else(|| "unlimited".into())
                };
                let table: InlineTable = [("soft", within("soft")), ("hard", within("hard"))]
                    .into_iter()
                    .collect();
                Some(Value::InlineTable(table))
            }
        };
        match found {
            Some(value) => self.draft.set(&format!("limits.{kind}"), value),
            None => self.note(
                Effect::Loss,
                origin,
                format!("rlimit {kind}: its value makes no sense"),
            ),
        }
    }

    /// `capability "cap_setuid=ep"`: what the server has, whoever it is.
    fn isolation(&mut self) {
        let Some((directive, origin)) = self.last("capability").cloned() else {
            return self.draft.set("isolation", "none");
        };
        let text = directive
            .texts()
            .first()
            .copied()
            .unwrap_or_default()
            .to_owned();
        let named = text.split_once(['=', '+']);
        let (named, flags) = named.unwrap_or(("", ""));
        let names = named.split(',').filter(|name| !name.is_empty());
        let names: Vec<String> = names
            .map(|name| name.trim_start_matches("cap_").to_owned())
            .collect();
        let known = names
            .iter()
            .all(|name| capability::names().contains(&name.as_str()))
            && !flags.is_empty()
            && flags.bytes().all(|b| b"eip".contains(&b));
        let mut table = InlineTable::new();
        table.insert("preset", "none".into());
        if known {
            let text = format!("capability \"{text}\": the server has these and cannot get others");
            self.note(Effect::Changed, &origin, text);
        } else {
            self.note(
                Effect::Loss,
                &origin,
                format!("capability \"{text}\": usherd does not understand it"),
            );
            return self.draft.set("isolation", "none");
        }
        table.insert("capability_bounds", "require".into());
        table.insert("capabilities", Value::Array(names.into_iter().collect()));
        self.draft.set("isolation", table);
    }

    fn how_many(&mut self, datagrams: bool, wait: bool) {
        let instances = self
            .last("instances")
            .and_then(|(d, _)| d.number())
            .unwrap_or(40);
        if !datagrams && !wait {
            let instances = if instances == 0 {
                1_000_000
            } else {
                instances.min(1_000_000)
            };
            self.draft.set("instances", instances);
        } else if !wait && instances != 1 && self.draft.key("exec").is_some() {
            let text = format!(
                "up to {instances} servers shared the datagram socket; here there is one at a time"
            );
            self.draft.note(Effect::Changed, text);
        }
        if let Some(backlog) = self.last("backlog").and_then(|(d, _)| d.number())
            && !datagrams
        {
            self.draft.set("backlog", backlog.clamp(1, 65_535));
        }
    }

    /// Files and texts that a peer is told before the server starts.
    fn texts(&mut self, exec: bool, waits: bool) {
        let mut told = String::new();
        let said = self
            .directives
            .iter()
            .filter(|(d, _)| d.name == "banner" || d.name == "echo" && exec);
        for (directive, origin) in said.cloned().collect::<Vec<_>>() {
            let text = directive
                .texts()
                .first()
                .copied()
                .unwrap_or_default()
                .to_owned();
            let found = match directive.name.as_str() {
                "banner" => {
                    let file = fs::metadata(&text).is_ok_and(|meta| meta.is_file());
                    let read = file.then(|| fs::read_to_string(&text).ok()).flatten();
                    read.ok_or_else(|| {
                        format!("unable to read {text} as UTF-8, so that nothing is sent")
                    })
                }
                _ if text.contains('%') => Err(format!(
                    "echo \"{text}\": usherd's texts have no facts about the request"
                )),
                _ => Ok(text.replace("\\r", "\r").replace("\\n", "\n")),
            };
            match found {
                Ok(text) => told.push_str(&text),
                Err(problem) => self.note(Effect::Unsupported, &origin, problem),
            }
        }
        if told.is_empty() {
            return;
        }
        if waits || told.len() > LONGEST_BANNER {
            let text = format!(
                "banner and echo: usherd sends texts of at most {LONGEST_BANNER} bytes, and none for a server that waits"
            );
            return self.draft.note(Effect::Unsupported, text);
        }
        self.draft.set("banner.admitted", told);
    }

    /// `tcpd "name" { what to do with whom it denies }`
    fn tcpd(&mut self) {
        for (directive, origin) in self.all_of("tcpd") {
            let name = directive
                .texts()
                .first()
                .copied()
                .unwrap_or(self.name)
                .to_owned();
            self.asks_hosts(&name);
            for inner in directive.block.iter().flatten() {
                let text = inner
                    .texts()
                    .first()
                    .copied()
                    .unwrap_or_default()
                    .to_owned();
                match inner.name.as_str() {
                    "exit" | "close" => {}
                    "echo" if !text.contains('%') && self.draft.key("banner.refused").is_none() => {
                        self.draft.set("banner.refused", format!("{text}\n"));
                        self.draft.set("on_full", "refuse");
                    }
                    other => {
                        let text = format!(
                            "tcpd {{ {other} ... }}: usherd closes the connection of whom it denies and does nothing else"
                        );
                        self.note(Effect::Unsupported, &origin, text);
                    }
                }
            }
        }
    }

    fn asks_hosts(&mut self, name: &str) {
        let already = self.draft.key("allow").is_some() || self.draft.key("deny").is_some();
        if !already {
            self.world
                .hosts
                .for_daemon(name, None, self.world)
                .apply(&mut self.draft);
        }
    }

    fn no_equal(&mut self) {
        for (name, effect, what) in [
            (
                "chroot",
                Effect::Loss,
                "the server is no longer in a root of its own; isolation = \"strict\" gives it one",
            ),
            (
                "filter",
                Effect::Loss,
                "the filter of packets is not attached; say with `allow` and `deny` who comes in",
            ),
            (
                "log",
                Effect::Unsupported,
                "the text of the line is usherd's own; see `log` and `daemon.log`",
            ),
            ("fish", Effect::Unsupported, "usherd has no fish"),
        ] {
            for (directive, origin) in self.all_of(name) {
                let text = directive.texts().join("\" \"");
                self.note(effect, &origin, format!("{name} \"{text}\": {what}"));
            }
        }
    }
}

fn addresses((directive, _): &(Directive, Origin)) -> Vec<String> {
    let address = |token: &Token| match token {
        Token::Address(ip) => Some(ip.to_string()),
        _ => None,
    };
    directive.values.iter().filter_map(address).collect()
}
