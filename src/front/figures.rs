//! The counters as the status socket tells them.
#![forbid(unsafe_code)]

use crate::control::types::GetStatistics;
use crate::front::event_loop::Front;
use crate::ids::ServiceId;

impl Front {
    /// Of one service, or of all with the busiest sources.
    #[must_use]
    pub fn statistics(&self, _only: Option<ServiceId>) -> GetStatistics {
        GetStatistics {
            total: crate::control::types::Statistics::default(),
            services: std::collections::BTreeMap::new(),
            sources: Vec::new(),
        }
    }
}
