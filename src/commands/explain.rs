//! `usherd explain`: which service a request would be for, rule by rule.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use socket2::Type;

use super::say;
use crate::demux::look::Look;
use crate::demux::plan::{Entry, Facts, Found, Step};
use crate::demux::{Ending, LIMIT, Verdict, proxy};
use crate::error::Exit;
use crate::front::pending::routes::Routes;
use crate::table::address::{self, Listen};
use crate::table::complaint::Complaints;
use crate::table::{self, Host, Service, Table, show_rule};

mod bytes;
mod datagrams;
mod untold;
mod waits;

/// What is asked.
#[derive(Args, Debug)]
pub struct Question {
    /// Where the request comes in, as in `listen`: tcp:443, udp:53, unix:/run/x
    address: String,
    /// Where it comes from, with or without a port
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = peer)]
    from: Option<Peer>,
    /// The address of this host that it is sent to
    #[arg(long, value_name = "ADDR")]
    to: Option<IpAddr>,
    /// The interface it comes in at
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// The peer of a Unix socket
    #[arg(long, value_name = "UID", requires = "gid")]
    uid: Option<u32>,
    /// The group of the peer of a Unix socket
    #[arg(long, value_name = "GID", requires = "uid")]
    gid: Option<u32>,
    #[command(flatten)]
    sent: Sent,
    /// How the wait for more bytes ends
    #[arg(long, value_enum, value_name = "HOW")]
    ended: Option<How>,
}

impl Question {
    /// Whether it is about one request, not only about the address.
    fn says_more(&self) -> bool {
        let address = self.from.is_some() || self.to.is_some() || self.interface.is_some();
        address || self.uid.is_some() || self.ended.is_some()
    }
}

/// The first bytes, in one of these ways.
#[derive(Args, Debug)]
#[group(multiple = false)]
struct Sent {
    /// The first bytes, in hexadecimal: 160301...
    #[arg(long, value_name = "BYTES", value_parser = bytes::hex)]
    hex: Option<Bytes>,
    /// The first bytes as text, with \r, \n and \xNN
    #[arg(long, value_name = "TEXT", value_parser = bytes::text)]
    text: Option<Bytes>,
    /// A file with the first bytes; - is stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A TLS client that asks for this name
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
}

/// One value, not a list of them.
type Bytes = Box<[u8]>;

#[derive(Clone, Copy, Debug)]
struct Peer {
    ip: IpAddr,
    port: u16,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum How {
    Timeout,
    Eof,
    Full,
}

impl From<How> for Ending {
    fn from(how: How) -> Self {
        match how {
            How::Timeout => Ending::Timeout,
            How::Eof => Ending::Eof,
            How::Full => Ending::Full,
        }
    }
}

fn peer(text: &str) -> Result<Peer, String> {
    let whole = text.parse::<SocketAddr>().map(|at| (at.ip(), at.port()));
    let bare = || text.parse::<IpAddr>().map(|ip| (ip, 0));
    let (ip, port) = whole.or_else(|_| bare()).map_err(
        |_| "expected an IP address, with or without a port: 192.0.2.7, [2001:db8::7]:5000",
    )?;
    let ip = ip.to_canonical();
    Ok(Peer { ip, port })
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The table is wrong.
    Table(Complaints),
    /// What is asked makes no sense for this table.
    Question(String),
}

/// Answers on stdout.
#[must_use]
pub fn explain(file: Option<&Path>, question: &Question) -> Exit {
    match ask(file, question) {
        Ok(text) => say(&text),
        Err(Unanswered::Table(complaints)) => {
            eprintln!("{complaints}{}", complaints.count("complaint"));
            Exit::Config
        }
        Err(Unanswered::Question(why)) => {
            let _ = writeln!(std::io::stderr(), "usherd: {why}");
            Exit::Usage
        }
    }
}

/// The answer, in lines.
pub fn ask(file: Option<&Path>, question: &Question) -> Result<String, Unanswered> {
    let host = Host::probe();
    let loaded = table::load(table::source_or_default(file), &host).map_err(Unanswered::Table)?;
    answer(&loaded.table, &host, question).map_err(Unanswered::Question)
}

fn answer(table: &Table, host: &Host, question: &Question) -> Result<String, String> {
    let listen = address::listen(&question.address, &host.names)
        .map_err(|fault| format!("{}: {}", question.address, fault.problem))?;
    let services: Vec<&Service> = table
        .services
        .iter()
        .filter(|service| service.enabled && service.listen.contains(&listen))
        .collect();
    if services.is_empty() {
        return Err(nobody(table, &listen));
    }
    let sent = bytes::sent(&question.sent)?;
    if listen.is_datagram() == Some(true) {
        return datagrams::answer(&services, question, sent.as_deref());
    }
    let pairs: Vec<_> = services
        .iter()
        .map(|s| (&s.routing, &s.rules.access))
        .collect();
    let mut out = String::new();
    let Some(routes) = Routes::compile(&pairs, kind(&listen), false)? else {
        let _ = writeln!(
            out,
            "{listen}: everything is for {}, at once",
            services[0].name
        );
        refusal(&mut out, services[0], question.from.map(|peer| peer.ip));
        return Ok(out);
    };
    let _ = writeln!(out, "{listen}: in this order");
    for (number, entry) in routes.plan.entries().iter().enumerate() {
        let _ = writeln!(out, "  {:2}. {}", number + 1, title(entry, &services));
    }
    waits::show(&mut out, &services, &routes);
    if sent.is_some() || question.says_more() {
        let request = Request {
            question,
            services: &services,
            routes: &routes,
        };
        request.explain(&mut out, sent.unwrap_or_default());
    }
    Ok(out)
}

fn kind(listen: &Listen) -> Type {
    match listen {
        Listen::Unix {
            kind: address::UnixKind::Seqpacket,
            ..
        } => Type::SEQPACKET,
        _ => Type::STREAM,
    }
}

fn nobody(table: &Table, listen: &Listen) -> String {
    let enabled = table.services.iter().filter(|service| service.enabled);
    let mut known: Vec<String> = enabled
        .flat_map(|service| service.listen.iter().map(Listen::to_string))
        .collect();
    known.sort();
    known.dedup();
    known.truncate(20);
    format!(
        "no service listens at {listen}; these are listened at: {}",
        known.join(", ")
    )
}

/// `SERVICE: rule`, as the entry is in the table.
fn title(entry: &Entry, services: &[&Service]) -> String {
    let service = services[entry.route.candidate];
    let rule = entry
        .route
        .rule
        .and_then(|rule| service.routing.rules.get(rule));
    let text = match rule {
        Some(rule) => show_rule(rule),
        None if entry.is_for_silence() => "the client says nothing in time".to_owned(),
        None => "everything else".to_owned(),
    };
    format!("{}: {text}", service.name)
}

struct Request<'a> {
    question: &'a Question,
    services: &'a [&'a Service],
    routes: &'a Routes,
}

impl Request<'_> {
    fn explain(&self, out: &mut String, mut sent: Vec<u8>) {
        let peer = self.question.from;
        let mut facts = Facts {
            peer: peer.map(|peer| (peer.ip, peer.port)),
            local: self.question.to.map(|ip| ip.to_canonical()),
            interface: self.question.interface.as_deref(),
            credentials: self.question.uid.zip(self.question.gid),
        };
        let _ = writeln!(out, "\nthis request: {} bytes", sent.len());
        if peer.is_some_and(|peer| self.routes.owes_header(peer.ip)) {
            match header(out, &sent) {
                Some(header) => {
                    if let Some((from, to)) = header.ends {
                        facts.peer = Some((from.ip().to_canonical(), from.port()));
                        facts.local = Some(to.ip().to_canonical());
                    }
                    sent.drain(..header.length);
                }
                None => return,
            }
        }
        if self.routes.denies_all(&facts) {
            let _ = writeln!(
                out,
                "=> closed before a byte is read: every service it may be for keeps this peer out"
            );
            return;
        }
        sent.truncate(LIMIT);
        let full = self.routes.is_all(sent.len()).then_some(Ending::Full);
        let ended = self.question.ended.map(Ending::from).or(full);
        let look = Look::new(&sent);
        bytes::describe(out, &look);
        match self.walk(out, &facts, &look, ended) {
            Step::Route(route) => self.result(out, route.candidate, &facts),
            Step::Refuse => {
                let _ = writeln!(out, "=> closed: {}", closed(&sent, ended));
            }
            Step::Need(k) => self.undecided(out, k, &facts, &look),
        }
    }

    fn walk(
        &self,
        out: &mut String,
        facts: &Facts<'_>,
        look: &Look<'_>,
        ended: Option<Ending>,
    ) -> Step {
        let mut lines = Vec::new();
        let step = self
            .routes
            .plan
            .decide(facts, look, ended, &mut |at, found| {
                lines.push((at, found));
            });
        for (at, found) in lines {
            let entry = &self.routes.plan.entries()[at];
            let text = match found {
                Found::Elsewhere => self.elsewhere(entry, facts),
                Found::NotNow => "not now: only when the wait for bytes ends like that".to_owned(),
                Found::Content(Verdict::Yes) => "yes".to_owned(),
                Found::Content(Verdict::No) => "no".to_owned(),
                Found::Content(Verdict::Need(k)) => format!("not yet: needs {k} bytes in all"),
            };
            let _ = writeln!(
                out,
                "  {:2}. {} -- {text}",
                at + 1,
                title(entry, self.services)
            );
        }
        step
    }

    /// Who asks about one address and not about the other has to know that it matters.
    fn elsewhere(&self, entry: &Entry, facts: &Facts<'_>) -> String {
        let rules = &self.services[entry.route.candidate].routing.rules;
        let rule = entry.route.rule.and_then(|rule| rules.get(rule));
        let untold = rule.map_or(Vec::new(), |rule| untold::asked(&rule.address, facts));
        if untold.is_empty() {
            return "no: meant for other addresses".to_owned();
        }
        format!("no: it asks for {}, not given here", untold.join(", "))
    }

    fn result(&self, out: &mut String, candidate: usize, facts: &Facts<'_>) {
        let service = self.services[candidate];
        let _ = writeln!(out, "=> {}", service.name);
        refusal(out, service, facts.peer.map(|peer| peer.0));
    }

    /// What happens if nothing more comes.
    fn undecided(&self, out: &mut String, k: usize, facts: &Facts<'_>, look: &Look<'_>) {
        let wait = match look.bytes().len() {
            0 => self.routes.first_byte_timeout,
            _ => self.routes.match_timeout,
        };
        let _ = writeln!(
            out,
            "=> undecided: looks again at {k} bytes in all; if they do not come, {} after accept:",
            waits::seconds(wait)
        );
        match self.walk(out, facts, look, Some(Ending::Timeout)) {
            Step::Route(route) => self.result(out, route.candidate, facts),
            Step::Refuse | Step::Need(_) => {
                let _ = writeln!(out, "=> closed: no rule of `match` holds");
            }
        }
    }
}

fn closed(sent: &[u8], ended: Option<Ending>) -> &'static str {
    if sent.is_empty() && ended == Some(Ending::Eof) {
        "whoever leaves without a word wants no server"
    } else {
        "no rule of `match` holds"
    }
}

fn header(out: &mut String, sent: &[u8]) -> Option<Box<proxy::Header>> {
    let what = match proxy::read(sent) {
        proxy::Read::Complete(header) => {
            let told = header.ends.map_or_else(
                || "it speaks for itself".to_owned(),
                |(from, to)| format!("it brings {from}, who asked for {to}"),
            );
            let _ = writeln!(
                out,
                "PROXY v{} header of {} bytes: {told}",
                header.version, header.length
            );
            return Some(header);
        }
        proxy::Read::Need(k) => format!("undecided: the PROXY header needs {k} bytes in all"),
        proxy::Read::Malformed(why) => format!("closed: no good PROXY header: {why}"),
    };
    let _ = writeln!(out, "=> {what}");
    None
}

/// Says so if the service would not let this peer in.
fn refusal(out: &mut String, service: &Service, peer: Option<IpAddr>) {
    if peer.is_some_and(|ip| !service.rules.access.permits(ip)) {
        let _ = writeln!(
            out,
            "   refused there: `allow` and `deny` of {} keep this peer out",
            service.name
        );
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let fail = |err: std::io::Error| format!("{}: {err}", path.display());
    let most = u64::try_from(LIMIT + proxy::MAX_HEADER).unwrap_or(u64::MAX);
    let mut sent = Vec::new();
    if path == Path::new("-") {
        let mut from = std::io::stdin().take(most);
        from.read_to_end(&mut sent).map_err(fail)?;
    } else {
        let from = fs::File::open(path).map_err(fail)?;
        from.take(most).read_to_end(&mut sent).map_err(fail)?;
    }
    Ok(sent)
}
