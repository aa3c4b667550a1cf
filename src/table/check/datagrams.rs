//! Datagrams are told apart by a program in the kernel: whether the rules can
//! be put into one.
#![forbid(unsafe_code)]

use super::Check;
use super::conflicts::Group;
use super::rules::{FILTERED, instructions};
use super::sharing::Services;
use crate::demux::datagram::{Base, compile_rule, program};
use crate::demux::rank;
use crate::table::complaint::Fault;
use crate::table::{Access, Service};

impl Check<'_> {
    /// Complains about the last service of an address whose rules together are too many.
    pub(super) fn one_program(&mut self, group: &Group<'_>, services: &Services<'_>) {
        let members = group.members.iter();
        let built: Vec<&Service> = members.filter_map(|m| services.get(m.service)).collect();
        let Some((service, last)) = built.last().zip(group.members.last()) else {
            return;
        };
        // What cannot be compiled has been complained about.
        let rules = built.iter().flat_map(|service| &service.routing.rules);
        let tests: Vec<_> = rules
            .flat_map(rank::entries)
            .filter_map(|(_, rule)| Some((compile_rule(&rule).ok()?, 0)))
            .collect();
        // Each socket has the program once more, with the prefixes it is closed to.
        let prefixes = built.iter().map(|s| filter_of(&s.rules.access)).max();
        let length =
            program(&tests, 0, Base::Transport).map_or_else(|long| long.0, |all| all.len());
        if length + prefixes.unwrap_or(0) > FILTERED {
            let fault = Fault::new(format!(
                "service \"{}\": the rules at {} take {length} instructions, and the kernel's \
                 program for datagrams has room for {FILTERED}, `allow` and `deny` included",
                service.name, group.listen
            ));
            let help = "fewer names and prefixes, or services at addresses of their own";
            self.complain(last.place, fault.help(help));
        }
    }
}

fn filter_of(access: &Access) -> usize {
    let lists = [access.allow.as_ref(), Some(&access.deny)];
    lists
        .into_iter()
        .flatten()
        .flat_map(|list| list.iter().map(instructions))
        .sum()
}
