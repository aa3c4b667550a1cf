//! Tables of other super-servers in the words of ours.
//!
//! Each format has a reader that turns its entries into [`Draft`]s: keys of a
//! `[service.NAME]` with the source lines they come from, and a [`Note`] for
//! whatever does not mean the same here. What the formats have in common (how a
//! draft is written, what the report says, which restriction would be lost) is
//! decided once, for all of them.
#![forbid(unsafe_code)]

pub mod draft;

pub use draft::{Draft, Effect, Imported, Note, Origin};
