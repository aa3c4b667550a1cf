use super::*;
use crate::control::types::Bucket;

fn sample_daemon() -> Daemon {
    Daemon {
        version: "0.1.0".into(),
        helper_pid: 10,
        front_pid: 11,
        uptime_ms: 61_500,
        fronts: 1,
        draining: false,
        services: 2,
        listeners: 3,
        undecided: 1,
        denied: 0,
        running: 1,
        degraded: vec!["Landlock: no such thing here".into()],
    }
}

fn map(entries: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let entries = entries.iter();
    entries
        .map(|(key, count)| ((*key).to_owned(), *count))
        .collect()
}

fn histogram(sum_us: u64, buckets: &[(Option<u64>, u64)]) -> Histogram {
    Histogram {
        count: buckets.iter().map(|(_, count)| count).sum(),
        sum_us,
        buckets: buckets
            .iter()
            .map(|(up_to_us, count)| Bucket {
                up_to_us: *up_to_us,
                count: *count,
            })
            .collect(),
    }
}

fn busy() -> Statistics {
    Statistics {
        accepted: 9,
        admitted: 7,
        refused: map(&[("address_denied", 2)]),
        matched: map(&[("prefix = [\"a\\n\"]", 7)]),
        started: 7,
        failed: map(&[("exec", 1)]),
        running: 1,
        exited: map(&[("signal 9", 1), ("status 0", 4)]),
        user_us: 1_500_000,
        system_us: 20,
        memory_peak: 4096,
        match_latency: histogram(20_100_040, &[(Some(12), 1), (Some(32), 2), (None, 1)]),
        ..Statistics::default()
    }
}

fn sample_text() -> String {
    let idle = Statistics::default();
    let services = [("git".to_owned(), busy()), ("idle".to_owned(), idle)];
    let statistics = GetStatistics {
        total: busy(),
        services: services.into_iter().collect(),
        sources: Vec::new(),
    };
    text(&sample_daemon(), &statistics)
}

/// The lines of the samples of one metric, its head included.
fn about(name: &str, text: &str) -> String {
    let is_about = |line: &&str| {
        let line = line.strip_prefix("# HELP ").unwrap_or(line);
        let line = line.strip_prefix("# TYPE ").unwrap_or(line);
        let rest = line.strip_prefix(name).unwrap_or("x");
        rest.starts_with([' ', '{'])
            || rest.starts_with("_bucket")
            || rest.starts_with("_sum")
            || rest.starts_with("_count")
    };
    let lines: Vec<&str> = text.lines().filter(is_about).collect();
    lines.join("\n")
}

#[test]
fn the_daemon_comes_first() {
    let expected = "\
# HELP usherd_build_info Constant 1, with the version.
# TYPE usherd_build_info gauge
usherd_build_info{version=\"0.1.0\"} 1
# HELP usherd_uptime_seconds How long the daemon runs.
# TYPE usherd_uptime_seconds gauge
usherd_uptime_seconds 61.5
# HELP usherd_fronts Fronts so far; more than one says that one has died.
# TYPE usherd_fronts gauge
usherd_fronts 1
# HELP usherd_draining 1 while nothing new is taken.
# TYPE usherd_draining gauge
usherd_draining 0
# HELP usherd_services Services in the table.
# TYPE usherd_services gauge
usherd_services 2
# HELP usherd_listeners Addresses listened on.
# TYPE usherd_listeners gauge
usherd_listeners 3
# HELP usherd_degraded How many things this host does not let the daemon do.
# TYPE usherd_degraded gauge
usherd_degraded 1
# HELP usherd_accepted_requests_total Requests that came in.
# TYPE usherd_accepted_requests_total counter
usherd_accepted_requests_total 9
# HELP usherd_service_accepted_requests_total Requests that came in.
# TYPE usherd_service_accepted_requests_total counter
usherd_service_accepted_requests_total{service=\"git\"} 9
usherd_service_accepted_requests_total{service=\"idle\"} 0
";
    let text = sample_text();
    assert_eq!(&text[..expected.len()], expected);
}

#[test]
fn rules_are_escaped_and_an_idle_service_is_told_in_two_lines() {
    let text = sample_text();
    let expected = r#"# HELP usherd_service_matched_requests_total Requests whose service was told by a rule, by rule.
# TYPE usherd_service_matched_requests_total counter
usherd_service_matched_requests_total{service="git",rule="prefix = [\"a\\n\"]"} 7"#;
    let found = about("usherd_service_matched_requests_total", &text);
    assert_eq!(found, expected);
    assert_eq!(text.matches("service=\"idle\"").count(), 2);
    let mut escaped = String::new();
    push_escaped(&mut escaped, "a\nb\\c\"");
    assert_eq!(escaped, "a\\nb\\\\c\\\"");
}

#[test]
fn cpu_time_is_in_seconds() {
    let expected = "\
# HELP usherd_cpu_seconds_total CPU time of servers that have ended.
# TYPE usherd_cpu_seconds_total counter
usherd_cpu_seconds_total{mode=\"user\"} 1.5
usherd_cpu_seconds_total{mode=\"system\"} 0.00002";
    assert_eq!(about("usherd_cpu_seconds_total", &sample_text()), expected);
    assert_eq!(seconds(0), "0");
    assert_eq!(seconds(10_000_000), "10");
}

#[test]
fn buckets_are_cumulative_and_what_exceeds_them_is_in_the_last() {
    let found = about("usherd_match_duration_seconds", &sample_text());
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), 2 + 21 + 3);
    let expected = [
        "usherd_match_duration_seconds_bucket{le=\"0.000016\"} 1",
        "usherd_match_duration_seconds_bucket{le=\"0.000032\"} 3",
        "usherd_match_duration_seconds_bucket{le=\"0.000064\"} 3",
    ];
    assert_eq!(lines[2..5], expected);
    let expected = [
        "usherd_match_duration_seconds_bucket{le=\"16.777216\"} 3",
        "usherd_match_duration_seconds_bucket{le=\"+Inf\"} 4",
        "usherd_match_duration_seconds_sum 20.10004",
        "usherd_match_duration_seconds_count 4",
    ];
    assert_eq!(lines[22..], expected);
}

/// What `promtool check metrics` asks, as far as names go; and no metric is told twice.
#[test]
fn names_follow_the_conventions() {
    let text = sample_text();
    let mut names = std::collections::BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap_or_default();
        assert!(names.insert(name), "{name} is told twice");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        assert!(name.starts_with("usherd_"));
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    }
    assert!(text.ends_with('\n'));
}
