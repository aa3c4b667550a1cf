//! Readings for the tests of this folder.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::readings::Reading;
use crate::control::types::{
    Bucket, Daemon, GetStatistics, Histogram, Instance, Service, State, Statistics,
};

pub fn service(name: &str) -> Service {
    Service {
        name: name.to_owned(),
        description: None,
        state: State::Serving,
        reason: None,
        serves: "exec".to_owned(),
        listeners: Vec::new(),
        running: 1,
        instances: 10,
        accepted: 0,
        refused: 0,
        failed: 0,
        last_exit: None,
    }
}

pub fn instance(id: u64, service: &str, cpu_us: u64) -> Instance {
    Instance {
        id,
        service: service.to_owned(),
        pid: 100,
        connection: format!("1-{id}"),
        peer: None,
        age_ms: 1_000,
        cpu_us: Some(cpu_us),
        memory: Some(1 << 20),
        tasks: None,
        bytes_read: None,
        bytes_written: None,
        measured_ms: Some(0),
    }
}

pub fn counted(accepted: u64, slow: u64) -> Statistics {
    Statistics {
        accepted,
        start_latency: Histogram {
            count: accepted,
            sum_us: 0,
            buckets: vec![
                Bucket {
                    up_to_us: Some(100),
                    count: accepted - slow,
                },
                Bucket {
                    up_to_us: Some(9_000),
                    count: slow,
                },
            ],
        },
        ..Statistics::default()
    }
}

/// `counts` by service, `second` seconds after `start`.
pub fn reading(start: Instant, second: u64, counts: &[(&str, Statistics)]) -> Reading {
    Reading {
        at: Some(start + Duration::from_secs(second)),
        daemon: Daemon {
            version: "0.1.0".to_owned(),
            helper_pid: 1,
            front_pid: 2,
            uptime_ms: second * 1_000,
            fronts: 1,
            draining: false,
            services: 0,
            listeners: 0,
            undecided: 0,
            running: 0,
            denied: 0,
            degraded: Vec::new(),
        },
        services: counts.iter().map(|(name, _)| service(name)).collect(),
        instances: Vec::new(),
        statistics: GetStatistics {
            total: Statistics::default(),
            services: counts
                .iter()
                .map(|(name, counts)| ((*name).to_owned(), counts.clone()))
                .collect(),
            sources: Vec::new(),
        },
    }
}
