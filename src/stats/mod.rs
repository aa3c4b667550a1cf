//! Counters.
pub mod prometheus;
