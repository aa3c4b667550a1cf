//! Which service a datagram is for: decided in the kernel, by a program that
//! is compiled from the rules.
//!
//! A rule becomes a tree of simple tests ([`Tests`]). From it come both the
//! program and [`Tests::holds`], the reference for people and tests, so that
//! the two cannot differ. What a program without loops or memory of earlier
//! datagrams cannot tell is [`Inexpressible`], found when the table is loaded.
#![forbid(unsafe_code)]

mod inexpressible;
mod order;
mod program;
mod protocols;
mod tree;

pub use inexpressible::Inexpressible;
pub use order::{Asked, ordered};
pub use program::{Base, TooLong, program};
pub use tree::{Test, Tests, Width};

use crate::demux::Rule;

/// The tests that hold for just the datagrams of `rule`.
///
/// Priority and order are the caller's; see [`crate::demux::rank`].
pub fn compile_rule(rule: &Rule) -> Result<Tests, Inexpressible> {
    let address = &rule.address;
    if !address.interface.is_empty() {
        return Err(Inexpressible::Interface);
    }
    if !address.source_port.is_empty() {
        return Err(Inexpressible::SourcePort);
    }
    if !address.uid.is_empty() || !address.gid.is_empty() {
        return Err(Inexpressible::Credentials);
    }
    if let Some(ending) = rule.endings.first() {
        return Err(Inexpressible::Ending(*ending));
    }
    let mut all = Vec::new();
    if !address.from.is_empty() {
        all.push(tree::lies_in(&address.from, Test::From));
    }
    if !address.to.is_empty() {
        all.push(tree::lies_in(&address.to, Test::To));
    }
    for content in &rule.content {
        all.push(protocols::compile(content)?);
    }
    Ok(Tests::All(all))
}

#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod tests;
