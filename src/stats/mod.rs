//! What is counted: pure figures, with no clock and no system call.
//!
//! The front counts (`front::counting`) and answers with the figures
//! (`front::figures`). What nobody asked for costs nothing: counters of a
//! service come with its first request, a histogram with its first entry.
#![forbid(unsafe_code)]

pub mod counters;
pub mod histogram;
pub mod prometheus;
pub mod sources;

pub use counters::Counters;
pub use histogram::Histogram;
pub use sources::Sources;

/// What belongs to no single service.
#[derive(Debug, Default)]
pub struct Stats {
    /// Of all requests: also of services that are gone, and of requests that found none.
    pub total: Counters,
    pub sources: Sources,
}
