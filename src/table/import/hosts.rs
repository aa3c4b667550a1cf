//! hosts.allow and hosts.deny, by which tcpd(8) and libwrap decide: read as
//! hosts_access(5) and hosts_options(5) say, and turned into `allow` and `deny`.
//!
//! There the first rule that matches decides, here the longest prefix. So the
//! rules are asked about every prefix that one of them names, and only the
//! answers are written. What is no address (a name, an ident user) can be known
//! to nobody before DNS is asked: where the answer hangs on it, a note says
//! whether somebody is let in who was not.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::draft::{Draft, Effect, Note, Origin};
use super::{World, read_file};
use crate::table::access::{Access, Prefix};

mod access;
mod parse;

pub use access::{both, covers};

/// Both files, in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Lines that make no sense, files that cannot be read.
    notes: Vec<Note>,
    /// The files that are there.
    files: Vec<PathBuf>,
}

/// One line.
#[derive(Clone, Debug)]
struct Rule {
    origin: Origin,
    daemons: List<Daemon>,
    clients: List<Client>,
    /// What becomes of a client that it is for.
    allows: bool,
    /// What its options did besides.
    options: Vec<(Effect, String)>,
}

/// `a b EXCEPT c EXCEPT d` is a or b, but not (c but not d).
#[derive(Clone, Debug)]
struct List<T> {
    items: Vec<T>,
    except: Option<Box<List<T>>>,
}

/// `PROCESS` or `PROCESS@ADDRESS`.
#[derive(Clone, Debug)]
struct Daemon {
    pattern: String,
    at: Option<Client>,
}

#[derive(Clone, Debug)]
enum Client {
    All,
    Nets(Vec<Prefix>),
    /// A host name, not yet looked up in hosts(5).
    Name(String),
    /// Somebody that an address does not tell.
    Unknown,
    /// A user of these hosts, by ident.
    User(Box<Client>),
    /// The patterns of a file.
    OneOf(Vec<Client>),
}

/// Whether something is so, as far as addresses tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Maybe,
}

/// Who is let in, and what could not be said with addresses.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    pub access: Access,
    pub notes: Vec<Note>,
}

/// The verdict about the addresses of one region.
struct Verdict {
    /// If nobody whom no address tells is there.
    admits: bool,
    /// Whether the rules say both, about different clients at the same address.
    doubtful: bool,
    /// Rules that were in doubt.
    culprits: Vec<usize>,
}

impl Rules {
    /// Reads both files; one that is not there has no rules.
    #[must_use]
    pub fn read(allow: &Path, deny: &Path) -> Self {
        let mut rules = Self::default();
        for (path, allows) in [(allow, true), (deny, false)] {
            match read_file(path) {
                Ok(text) => {
                    rules.files.push(path.to_owned());
                    rules.add(path, &text, allows);
                }
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => {
                    let text =
                        format!("unable to read it ({err}), and whom it kept out is not known");
                    rules
                        .notes
                        .push(Origin::new(path, 0).note(Effect::Loss, text));
                }
            }
        }
        rules
    }

    /// Adds the lines of a text: hosts.allow first, then hosts.deny.
    pub fn add(&mut self, path: &Path, text: &str, allows: bool) {
        parse::rules(path, text, allows, self);
    }

    /// The files that were read.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.notes.is_empty()
    }

    /// Who may speak to `daemon`, the name by which the files know it, where it
    /// listens at `local` (`None`: at every address).
    #[must_use]
    pub fn for_daemon(&self, daemon: &str, local: Option<IpAddr>, world: &World<'_>) -> Judged {
        let rules: Vec<(&Rule, Answer)> = self
            .rules
            .iter()
            .map(|rule| (rule, rule.is_for(daemon, local, world)))
            .filter(|(_, answer)| *answer != Answer::No)
            .collect();
        let mut nets = Vec::new();
        for (rule, _) in &rules {
            rule.clients.collect(world, &mut nets);
        }
        // The strongest effect of each rule's doubts.
        let mut doubts: BTreeMap<usize, Effect> = BTreeMap::new();
        let access = access::from_regions(nets, |region| {
            let verdict = judge(&rules, region, world);
            if verdict.doubtful {
                let effect = if verdict.admits {
                    Effect::Loss
                } else {
                    Effect::Unsupported
                };
                for culprit in verdict.culprits {
                    let known = doubts.entry(culprit).or_insert(effect);
                    *known = effect.max(*known);
                }
            }
            verdict.admits
        });
        let mut notes = self.notes.clone();
        for (number, (rule, _)) in rules.iter().enumerate() {
            if let Some(effect) = doubts.get(&number) {
                let (effect, text) = (*effect, doubt(*effect, daemon));
                notes.push(rule.origin.note(effect, text));
            }
            let options = rule.options.iter();
            notes.extend(options.map(|(effect, text)| rule.origin.note(*effect, text.clone())));
        }
        Judged { access, notes }
    }
}

fn doubt(effect: Effect, daemon: &str) -> String {
    let about = "it is about names, users or addresses of this host, which usherd does not ask for";
    match effect {
        Effect::Loss => {
            format!("{about}; whom it kept from {daemon} would come in; name addresses instead")
        }
        _ => format!("{about}; whom it let in to {daemon} stays out; name addresses instead"),
    }
}

/// Asks the rules in their order.
fn judge(rules: &[(&Rule, Answer)], region: &Prefix, world: &World<'_>) -> Verdict {
    let mut verdict = Verdict {
        admits: true,
        doubtful: false,
        culprits: Vec::new(),
    };
    let (mut may_allow, mut may_deny) = (false, false);
    // What the rules say if nobody is there whom no address tells.
    let mut plainly = None;
    let mut ended = false;
    for (number, (rule, for_it)) in rules.iter().enumerate() {
        let matches = for_it.and(rule.clients.matches(&|c| c.has(region, world)));
        if matches == Answer::No {
            continue;
        }
        may_allow |= rule.allows;
        may_deny |= !rule.allows;
        let told = rule.clients.matches(&|c| c.has(region, world).no_doubt());
        if for_it.and(told) == Answer::Yes {
            plainly = plainly.or(Some(rule.allows));
        }
        if matches == Answer::Yes {
            ended = true;
            break;
        }
        verdict.culprits.push(number);
    }
    // Whom no rule is for comes in.
    may_allow |= !ended;
    verdict.admits = plainly.unwrap_or(true);
    verdict.doubtful = may_allow && may_deny;
    verdict
}

impl Rule {
    fn is_for(&self, daemon: &str, local: Option<IpAddr>, world: &World<'_>) -> Answer {
        self.daemons.matches(&|item: &Daemon| {
            if !parse::glob(&item.pattern, daemon) {
                return Answer::No;
            }
            match (&item.at, local) {
                (None, _) => Answer::Yes,
                (Some(Client::All), _) => Answer::Yes,
                (Some(at), Some(local)) => {
                    let bits = if local.is_ipv4() { 32 } else { 128 };
                    at.has(&Prefix { addr: local, bits }, world)
                }
                (Some(_), None) => Answer::Maybe,
            }
        })
    }
}

impl<T> List<T> {
    fn matches(&self, item: &dyn Fn(&T) -> Answer) -> Answer {
        let mut found = Answer::No;
        for each in &self.items {
            found = found.or(item(each));
        }
        match &self.except {
            Some(except) => found.and(except.matches(item).not()),
            None => found,
        }
    }
}

impl List<Client> {
    /// Every prefix that it names.
    fn collect(&self, world: &World<'_>, nets: &mut Vec<Prefix>) {
        for item in &self.items {
            item.collect(world, nets);
        }
        if let Some(except) = &self.except {
            except.collect(world, nets);
        }
    }
}

impl Client {
    fn collect(&self, world: &World<'_>, nets: &mut Vec<Prefix>) {
        match self {
            Client::All | Client::Unknown => {}
            Client::Nets(own) => nets.extend(own),
            Client::Name(name) => nets.extend(hosts_of(name, world)),
            Client::User(host) => host.collect(world, nets),
            Client::OneOf(all) => all.iter().for_each(|c| c.collect(world, nets)),
        }
    }

    /// Whether the addresses of a region are meant. Every prefix that is named
    /// anywhere is a region of its own, so none is meant in part.
    fn has(&self, region: &Prefix, world: &World<'_>) -> Answer {
        let within = |nets: &[Prefix]| Answer::from(nets.iter().any(|net| covers(net, region)));
        match self {
            Client::All => Answer::Yes,
            Client::Nets(nets) => within(nets),
            Client::Name(name) => match hosts_of(name, world) {
                known if known.is_empty() => Answer::Maybe,
                known => within(&known),
            },
            Client::Unknown => Answer::Maybe,
            Client::User(host) => host.has(region, world).and(Answer::Maybe),
            Client::OneOf(all) => {
                let each = all.iter().map(|client| client.has(region, world));
                each.fold(Answer::No, Answer::or)
            }
        }
    }
}

/// The addresses that hosts(5) gives a name: what a lookup there tells first.
fn hosts_of(name: &str, world: &World<'_>) -> Vec<Prefix> {
    let found = world.resolve(name).into_iter();
    found
        .map(|ip| {
            let addr = ip.to_canonical();
            let bits = if addr.is_ipv4() { 32 } else { 128 };
            Prefix { addr, bits }
        })
        .collect()
}

impl Answer {
    /// What holds if whoever is not told by an address is not there.
    fn no_doubt(self) -> Self {
        match self {
            Answer::Maybe => Answer::No,
            sure => sure,
        }
    }

    fn not(self) -> Self {
        match self {
            Answer::Yes => Answer::No,
            Answer::No => Answer::Yes,
            Answer::Maybe => Answer::Maybe,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Answer::No, _) | (_, Answer::No) => Answer::No,
            (Answer::Yes, Answer::Yes) => Answer::Yes,
            _ => Answer::Maybe,
        }
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }
}

impl From<bool> for Answer {
    fn from(is_so: bool) -> Self {
        if is_so { Answer::Yes } else { Answer::No }
    }
}

impl Judged {
    /// Writes it into a draft: `allow`, `deny` and the notes.
    pub fn apply(self, draft: &mut Draft) {
        access::set(draft, &self.access);
        draft.notes.extend(self.notes);
    }
}

pub use access::set;

#[cfg(test)]
mod tests;
