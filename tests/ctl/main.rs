//! usherctl against a daemon that says what the test tells it to.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

mod changes;
mod fake;
mod files;
mod looks;
mod operations;
mod security;
mod streams;
mod terminal;
mod top;
mod troubles;
