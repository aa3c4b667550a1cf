//! `ExecStart`: the program and its arguments, and the descriptors it gets.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::Path;

use super::words::{specify, split};
use super::{Builder, Impossible};
use crate::table::host::Found;
use crate::table::import::{Effect, read_file};

/// Where systemd looks for a program without a path.
const FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

impl Builder<'_> {
    pub fn exec(&mut self) -> Result<(), Impossible> {
        let lines = self.service.all("Service", "ExecStart");
        let [line] = lines.as_slice() else {
            return Err(Impossible(format!(
                "it has {} lines ExecStart, and a service of usherd runs one program",
                lines.len()
            )));
        };
        let (line, origin) = (line.value.clone(), line.origin.clone());
        let (marks, command) = line.split_at(line.find(|c| !"@-:+!|".contains(c)).unwrap_or(0));
        if marks.contains(['+', '!']) {
            let text = "ExecStart with + or ! runs with the rights of root; here it has the user and the isolation \
                        of the service";
            self.note(Effect::Changed, &origin, text);
        }
        let mut words = split(command).map_err(Impossible)?;
        for word in &mut words {
            *word = specify(word, self.service, self.accepts).map_err(Impossible)?;
        }
        if words.iter().any(|word| word == ";") {
            return Err(Impossible("its ExecStart has several commands".to_owned()));
        }
        if !marks.contains(':') {
            words = self.expanded(&words);
        }
        let mut words = words.into_iter();
        let program = words
            .next()
            .ok_or_else(|| Impossible("its ExecStart is empty".to_owned()))?;
        let program = self.program(&program);
        let argv0 = marks.contains('@').then(|| words.next()).flatten();
        self.draft
            .set_list("exec", std::iter::once(program).chain(words));
        if let Some(argv0) = argv0 {
            self.draft.set("argv0", argv0);
        }
        self.descriptors();
        Ok(())
    }

    fn program(&self, name: &str) -> String {
        if name.starts_with('/') {
            return name.to_owned();
        }
        let mut paths = FOLDERS.iter().map(|folder| format!("{folder}/{name}"));
        let found = paths.find(|path| (self.world.host.look)(Path::new(path)) == Found::Program);
        found.unwrap_or_else(|| format!("/usr/bin/{name}"))
    }

    /// `${NAME}` anywhere, `$NAME` as a word, which becomes several.
    fn expanded(&self, words: &[String]) -> Vec<String> {
        let known: HashMap<String, String> = self.variables().into_iter().collect();
        let value = |name: &str| known.get(name).cloned().unwrap_or_default();
        let mut out = Vec::with_capacity(words.len());
        for (place, word) in words.iter().enumerate() {
            if let Some(name) = word.strip_prefix('$')
                && place > 0
                && is_name(name)
            {
                out.extend(split(&value(name)).unwrap_or_default());
                continue;
            }
            let mut text = String::new();
            let mut rest = word.as_str();
            while let Some(at) = rest.find('$') {
                text.push_str(&rest[..at]);
                rest = &rest[at + 1..];
                if let Some(after) = rest.strip_prefix('$') {
                    text.push('$');
                    rest = after;
                } else if let Some((name, after)) =
                    rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
                {
                    text.push_str(&value(name));
                    rest = after;
                } else {
                    text.push('$');
                }
            }
            text.push_str(rest);
            out.push(text);
        }
        out
    }

    /// `Environment` and what the files of `EnvironmentFile` have now; the later one counts.
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        let mut put = |name: &str, value: &str| {
            found.retain(|(known, _)| known != name);
            found.push((name.to_owned(), value.to_owned()));
        };
        for setting in self.service.all("Service", "Environment") {
            for word in split(&setting.value).unwrap_or_default() {
                let word = specify(&word, self.service, self.accepts).unwrap_or(word);
                if let Some((name, value)) = word.split_once('=').filter(|(name, _)| is_name(name))
                {
                    put(name, value);
                }
            }
        }
        for setting in self.service.all("Service", "EnvironmentFile") {
            let path = setting.value.trim_start_matches('-');
            let text = read_file(Path::new(path)).unwrap_or_default();
            for line in text
                .lines()
                .map(str::trim)
                .filter(|line| !line.starts_with(['#', ';']))
            {
                if let Some((name, value)) = line.split_once('=').filter(|(name, _)| is_name(name))
                {
                    put(name, &unquoted(value.trim()));
                }
            }
        }
        found
    }

    /// StandardInput= and its like: which descriptors the socket is on.
    fn descriptors(&mut self) {
        let input = self
            .service_text("StandardInput")
            .unwrap_or("null")
            .to_owned();
        let output = self
            .service_text("StandardOutput")
            .unwrap_or("inherit")
            .to_owned();
        let error = self
            .service_text("StandardError")
            .unwrap_or("inherit")
            .to_owned();
        if input != "socket" {
            self.draft.set("activation", "listen-fds");
            if input != "null" {
                let text = "a server that is given its sockets from descriptor 3 on reads from /dev/null here";
                self.about(Effect::Changed, "Service", "StandardInput", text);
            }
            if error == "null" {
                self.draft.set("stderr", "null");
            }
            return;
        }
        let answers = output == "inherit" || output == "socket";
        if !answers {
            let text = "the server's standard output is the socket here as well";
            self.about(Effect::Changed, "Service", "StandardOutput", text);
        }
        match error.as_str() {
            "inherit" if answers => self.draft.set("stderr", "socket"),
            "socket" => self.draft.set("stderr", "socket"),
            "null" => self.draft.set("stderr", "null"),
            "inherit" | "journal" | "journal+console" | "syslog" | "kmsg" => {}
            _ => {
                let text = "the server's standard error is in usherd's log here";
                self.about(Effect::Changed, "Service", "StandardError", text);
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !text.is_empty() && text.bytes().all(plain) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// A value of an EnvironmentFile, which may be quoted as a whole.
fn unquoted(text: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(inner) = text
            .strip_prefix(quote)
            .and_then(|text| text.strip_suffix(quote))
        {
            return inner.to_owned();
        }
    }
    text.to_owned()
}
