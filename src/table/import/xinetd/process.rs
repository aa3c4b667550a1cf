//! What serves: the program with its account and surroundings, a builtin, or
//! another address.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::path::Path;

use toml_edit::InlineTable;

use super::convert::{Builder, Impossible, Kind, Shape, list};
use crate::table::address::Transport;
use crate::table::host::Found;
use crate::table::import::{Effect, ready};

/// Attributes of resource limits, and what they are called here.
const LIMITS: [(&str, &str); 6] = [
    ("rlimit_as", "limits.as"),
    ("rlimit_cpu", "limits.cpu"),
    ("rlimit_data", "limits.data"),
    ("rlimit_files", "limits.nofile"),
    ("rlimit_rss", "limits.rss"),
    ("rlimit_stack", "limits.stack"),
];

impl Builder<'_> {
    pub fn serve(&mut self, shape: Shape) -> Result<(), Impossible> {
        match shape.kind {
            Kind::Builtin => self.builtin(shape),
            Kind::Forward => self.forward(),
            Kind::Exec => self.exec(),
        }
    }

    fn builtin(&mut self, shape: Shape) -> Result<(), Impossible> {
        let name = self.service.name.to_ascii_lowercase();
        match name.as_str() {
            "echo" | "discard" | "chargen" | "daytime" | "time" => {}
            "tcpmux" if shape.stream => {}
            "servers" | "services" | "xadmin" => {
                return Err(Impossible(format!(
                    "xinetd has had no internal service {name} since 2.3.12; `usherctl status` and \
                     builtin = \"status\" tell what it told"
                )));
            }
            _ => {
                return Err(Impossible(format!(
                    "there is no internal service {name}; xinetd does not start it either"
                )));
            }
        }
        if self.has_flag("NAMEINARGS") {
            self.turn_off(
                "xinetd does not start an internal service with the flag NAMEINARGS".to_owned(),
            );
        }
        if name == "daytime" {
            let text =
                "the text of daytime has another form than xinetd's \"22 NOV 2026 07:49:29 UTC\"";
            self.note(Effect::Changed, "type", text.to_owned());
        }
        self.set("builtin", name);
        Ok(())
    }

    fn forward(&mut self) -> Result<(), Impossible> {
        let words = self.service.settings.words("redirect").unwrap_or_default();
        let [host, port] = words else {
            return Err(Impossible("`redirect` takes a host and a port".to_owned()));
        };
        let (host, port) = (host.clone(), port.clone());
        if self.has_flag("NAMEINARGS") {
            self.turn_off("xinetd does not start `redirect` with the flag NAMEINARGS".to_owned());
        }
        let names = &self.sources.world.host.names;
        let number = port.parse().ok().filter(|port: &u16| *port != 0);
        let Some(number) = number.or_else(|| names.port(&port, Transport::Tcp)) else {
            return Err(Impossible(format!(
                "redirect: {port} is no port that /etc/services knows"
            )));
        };
        let ip = match host.parse::<IpAddr>() {
            Ok(ip) => ip,
            Err(_) => self.redirect_to_name(&host)?,
        };
        let to = match ip {
            IpAddr::V4(ip) => format!("tcp:{ip}:{number}"),
            IpAddr::V6(ip) => format!("tcp:[{ip}]:{number}"),
        };
        self.set("forward", to);
        Ok(())
    }

    fn redirect_to_name(&mut self, host: &str) -> Result<IpAddr, Impossible> {
        let known = self.sources.world.resolve(host);
        let Some(ip) = known.iter().find(|ip| ip.is_ipv4()).or(known.first()) else {
            return Err(Impossible(format!(
                "redirect goes to {host}, a name that /etc/hosts does not have, and no relay of usherd waits \
                 for DNS; write its address"
            )));
        };
        let text = format!("redirect: {host} has become {ip}, which /etc/hosts says");
        self.note(Effect::Changed, "redirect", text);
        Ok(*ip)
    }

    fn exec(&mut self) -> Result<(), Impossible> {
        let words = |key| {
            self.service
                .settings
                .words(key)
                .unwrap_or_default()
                .to_vec()
        };
        let (server, args) = (self.one("server").map(str::to_owned), words("server_args"));
        let Some(server) = server else {
            return Err(Impossible(
                "it has no `server`; xinetd does not start it either".to_owned(),
            ));
        };
        if !server.starts_with('/') {
            return Err(Impossible(format!("server = {server} is no absolute path")));
        }
        if !self.has_flag("NAMEINARGS") {
            self.program_is_there(&server);
            self.set("exec", list(std::iter::once(server).chain(args)));
            return Ok(());
        }
        self.name_in_args(server, &args)
    }

    /// The first argument is the program's own name; behind tcpd it is the program itself.
    fn name_in_args(&mut self, server: String, args: &[String]) -> Result<(), Impossible> {
        let Some((name, rest)) = args.split_first() else {
            return Err(Impossible(
                "it has the flag NAMEINARGS and no server_args; xinetd does not start it either"
                    .to_owned(),
            ));
        };
        let lines = ["flags", "server_args"].map(|key| self.origin_of(key).line);
        if lines[0] > lines[1] {
            let text = "flags = NAMEINARGS stands after server_args: xinetd 2.3.15 then starts the server \
                        without a name and it crashes; here the flag counts";
            self.note(Effect::Changed, "flags", text.to_owned());
        }
        let (mut program, mut name) = (server, name.clone());
        if self.is_wrapped() {
            program = if name.starts_with('/') {
                name.clone()
            } else {
                format!("/usr/sbin/{name}")
            };
            name = base(&name).to_owned();
            let text = "tcpd is left out; what hosts.allow and hosts.deny say of the server is in `allow` and `deny`";
            self.note(Effect::Remark, "server", text.to_owned());
        }
        self.program_is_there(&program);
        let usual = Path::new(&program).file_name();
        let own_name = usual.is_none_or(|base| base.to_string_lossy() != name);
        self.set("exec", list(std::iter::once(program).chain(rest.to_vec())));
        if own_name {
            self.set("argv0", name);
        }
        Ok(())
    }

    /// tcpd starts what its own name says and asks the hosts files first.
    pub fn is_wrapped(&self) -> bool {
        self.has_flag("NAMEINARGS")
            && self
                .one("server")
                .is_some_and(|server| base(server) == "tcpd")
    }

    fn program_is_there(&mut self, program: &str) {
        if let Some(table) = ready::table_for(program) {
            let text = format!(
                "services.d/{table}.toml is a ready table for {}, in a sandbox",
                base(program)
            );
            self.note(Effect::Remark, "server", text);
        }
        if (self.sources.world.host.look)(Path::new(program)) != Found::Program {
            let text = format!(
                "{program} is no program here: xinetd does not start such a service; usherd listens, and requests \
                 fail until it is there"
            );
            self.note(Effect::Changed, "server", text);
        }
    }

    pub fn process(&mut self, shape: Shape) -> Result<(), Impossible> {
        self.account()?;
        self.surroundings();
        // The server has its socket as descriptor 2 as well, and nothing keeps it from the host.
        let _ = shape;
        self.set("stderr", "socket");
        self.set("isolation", "none");
        Ok(())
    }

    fn account(&mut self) -> Result<(), Impossible> {
        let Some(user) = self.one("user").map(str::to_owned) else {
            return Err(Impossible(
                "it has no `user`; xinetd does not start it either".to_owned(),
            ));
        };
        let group = self.one("group").map(str::to_owned);
        let accounts = &self.sources.world.host.accounts;
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let by_number = user.parse().ok().map(|uid| accounts.user_by_uid(uid));
        let known_user = digits(&user) || accounts.user(&user).is_some();
        let unknown_group = group
            .as_deref()
            .is_some_and(|group| !digits(group) && accounts.group(group).is_none());
        // A number is also that of the group, whatever account has it.
        let implied = by_number.is_some() && group.is_none();
        if !known_user {
            self.turn_off(format!("there is no user {user}"));
        }
        if unknown_group {
            self.turn_off(format!(
                "there is no group {}",
                group.clone().unwrap_or_default()
            ));
        }
        self.set("user", user.clone());
        if let Some(group) = group {
            self.set("group", group);
        } else if implied {
            self.set("group", user);
        }
        if !self.yes("groups") {
            self.set("groups", list(Vec::<String>::new()));
        }
        Ok(())
    }

    fn surroundings(&mut self) {
        if let Some(word) = self.one("umask").map(str::to_owned) {
            match u32::from_str_radix(&word, 8) {
                Ok(bits) if bits <= 0o777 => self.set("umask", format!("{bits:03o}")),
                _ => self.bad("umask", "octal digits up to 777"),
            }
        }
        self.nice();
        self.environment();
        for (theirs, ours) in LIMITS {
            self.resource_limit(theirs, ours);
        }
    }

    fn nice(&mut self) {
        let Some(word) = self.one("nice").map(str::to_owned) else {
            return;
        };
        let Ok(nice) = word.parse::<i64>() else {
            return self.bad("nice", "a number");
        };
        let nice = nice.clamp(-20, 19);
        let is_root = matches!(self.one("user"), Some("root" | "0"));
        if nice < 0 && !is_root {
            let text = format!(
                "nice = {nice}: xinetd is no longer root when it sets it, so that it had no effect; here it has"
            );
            self.note(Effect::Changed, "nice", text);
        }
        self.set("nice", nice);
    }

    fn environment(&mut self) {
        let settings = &self.service.settings;
        if let Some(variables) = settings.env.clone().filter(|all| !all.is_empty()) {
            let mut table = InlineTable::new();
            for variable in variables {
                match variable.value.split_once('=') {
                    Some((name, value)) if !name.is_empty() => {
                        table.insert(name, value.into());
                    }
                    _ => self.turn_off(format!("env: {} is not NAME=VALUE", variable.value)),
                }
            }
            if !table.is_empty() {
                self.set("env", table);
            }
        }
        if let Some(names) = settings.passenv.clone().filter(|all| !all.is_empty()) {
            self.set("pass_env", list(names.into_iter().map(|name| name.value)));
        }
    }

    fn resource_limit(&mut self, theirs: &str, ours: &str) {
        let Some(word) = self.one(theirs).map(str::to_owned) else {
            return;
        };
        if word.eq_ignore_ascii_case("UNLIMITED") {
            return self.set(ours, "unlimited");
        }
        let plain = |text: &str| text.parse::<i64>().ok().filter(|n| *n >= 0);
        match theirs {
            "rlimit_files" => match plain(&word) {
                Some(count) => self.set(ours, count),
                None => self.bad(theirs, "a number of files"),
            },
            "rlimit_cpu" => match plain(&word) {
                Some(seconds) => self.set(ours, format!("{seconds}s")),
                None => self.bad(theirs, "a number of seconds or UNLIMITED"),
            },
            _ => {
                let number = word.trim_end_matches(['k', 'K', 'm', 'M']);
                let unit = match word.as_bytes().last() {
                    Some(b'k' | b'K') => "K",
                    Some(b'm' | b'M') => "M",
                    _ => "B",
                };
                match plain(number).filter(|_| word.len() <= number.len() + 1) {
                    Some(size) => self.set(ours, format!("{size}{unit}")),
                    None => self.bad(theirs, "a size such as 512K or 64M, or UNLIMITED"),
                }
            }
        }
    }
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
