//! What operators change: the admin socket and what stands behind it.
//!
//! - [`bans`]: who is kept out, and how that is remembered
#![forbid(unsafe_code)]

pub mod bans;
