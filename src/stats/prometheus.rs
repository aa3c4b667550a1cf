//! Text for Prometheus.
use crate::control::types::{Daemon, GetStatistics};

#[must_use]
pub fn text(_daemon: Option<&Daemon>, _figures: &GetStatistics) -> String {
    String::new()
}
