//! `stats`: the counters, all at once or as rates line by line.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::arguments::Stats;
use super::console::Console;
use super::failure::Failure;
use super::grid::{Cell, Grid, left, right};
use super::rates::{Quantile, Rates, mean, quantile, sum};
use super::show::heading;
use super::text::{bytes, escape, micros, rate};
use crate::control::types::{GetMetrics, GetStatistics, OfService, Statistics};

/// The heading comes again after so many lines.
const PAGE: usize = 20;

pub fn stats(console: &Console, asked: Stats) -> Result<(), Failure> {
    let of = OfService {
        service: asked.service,
    };
    if let Some(interval) = asked.watch {
        return watch(console, &of, interval);
    }
    let mut link = console.status()?;
    if asked.prometheus {
        let metrics: GetMetrics = link.call("GetMetrics", &serde_json::json!({}))?;
        return console.answer(&metrics, |metrics| super::text::escape_lines(&metrics.text));
    }
    let reply: GetStatistics = link.call("GetStatistics", &of)?;
    let one = of.service.is_some();
    console.answer(&reply, |reply| page(console, reply, one))
}

fn page(console: &Console, reply: &GetStatistics, one: bool) -> String {
    let mut out = figures(console, &reply.total);
    if one {
        return out;
    }
    if !reply.services.is_empty() {
        heading(console, &mut out, "by service");
        out.push_str(&console.grid(&by_service(&reply.services)));
    }
    if !reply.sources.is_empty() {
        heading(console, &mut out, "busiest sources");
        let mut grid = Grid::new(&[
            left("SOURCE", 0),
            right("ACCEPTED", 0),
            right("REFUSED", 0),
            right("RUNNING", 1),
        ]);
        for source in &reply.sources {
            grid.row([
                source.prefix.as_str().into(),
                Cell::number(source.accepted),
                Cell::trouble(source.refused),
                Cell::number(source.running),
            ]);
        }
        out.push_str(&console.grid(&grid));
    }
    out
}

fn by_service(services: &BTreeMap<String, Statistics>) -> Grid {
    let mut grid = Grid::new(&[
        left("SERVICE", 0),
        right("ACCEPTED", 0),
        right("ADMITTED", 3),
        right("REFUSED", 1),
        right("FAILED", 1),
        right("STARTED", 2),
        right("RUNNING", 1),
        right("CPU", 4),
        right("MEM PEAK", 5),
        right("START P99", 6),
    ]);
    for (name, of) in services {
        grid.row([
            name.as_str().into(),
            Cell::number(of.accepted),
            Cell::number(of.admitted),
            Cell::trouble(sum(&of.refused)),
            Cell::trouble(sum(&of.failed)),
            Cell::number(of.started),
            Cell::number(of.running),
            micros(of.user_us.saturating_add(of.system_us)).into(),
            bytes(of.memory_peak).into(),
            quantile(&of.start_latency, 0.99)
                .map(Quantile::show)
                .unwrap_or_default()
                .into(),
        ]);
    }
    grid
}

/// The counters of one set, a line each, and its latencies.
pub(super) fn figures(console: &Console, of: &Statistics) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<12} {value}");
    };
    let split = |counts: &BTreeMap<String, u64>| {
        let parts: Vec<String> = counts
            .iter()
            .map(|(name, count)| format!("{}: {count}", escape(name)))
            .collect();
        match parts.is_empty() {
            true => "0".to_owned(),
            false => format!("{} ({})", sum(counts), parts.join(", ")),
        }
    };
    line("accepted", of.accepted.to_string());
    line("admitted", of.admitted.to_string());
    line("refused", split(&of.refused));
    line("matched", split(&of.matched));
    line("undecided", of.undecided.to_string());
    line("started", of.started.to_string());
    line("failed", split(&of.failed));
    line("running", of.running.to_string());
    line("exited", split(&of.exited));
    if of.oom_killed > 0 {
        line("oom killed", of.oom_killed.to_string());
    }
    line(
        "bytes",
        format!("received {}, sent {}", bytes(of.received), bytes(of.sent)),
    );
    line(
        "cpu",
        format!(
            "user {}, system {}",
            micros(of.user_us),
            micros(of.system_us)
        ),
    );
    line("memory peak", bytes(of.memory_peak));
    line(
        "blocks",
        format!("read {}, written {}", of.blocks_read, of.blocks_written),
    );
    out.push('\n');
    out.push_str(&console.grid(&latencies(of)));
    out
}

fn latencies(of: &Statistics) -> Grid {
    let mut grid = Grid::new(&[
        left("TIME", 0),
        right("COUNT", 1),
        right("MEAN", 2),
        right("P50", 0),
        right("P90", 3),
        right("P99", 0),
    ]);
    let all = [
        ("accept to decision", &of.match_latency),
        ("decision to start", &of.start_latency),
        ("start to end", &of.run_time),
    ];
    for (name, histogram) in all {
        let share = |share| {
            let found = quantile(histogram, share).map(Quantile::show);
            Cell::from(found.unwrap_or_else(|| "-".to_owned()))
        };
        grid.row([
            name.into(),
            Cell::number(histogram.count),
            mean(histogram)
                .map_or_else(|| "-".to_owned(), micros)
                .into(),
            share(0.5),
            share(0.9),
            share(0.99),
        ]);
    }
    grid
}

/// A line every `interval`, for as long as somebody reads them.
fn watch(console: &Console, of: &OfService, interval: Duration) -> Result<(), Failure> {
    let mut link = console.status()?;
    let mut before: Option<(Instant, Statistics)> = None;
    for number in 0_usize.. {
        let reply: GetStatistics = link.call("GetStatistics", of)?;
        let now = Instant::now();
        if console.json {
            console.say_json_line(&reply)?;
        } else if let Some((then, old)) = &before {
            let rates = Rates::between(old, &reply.total, (now - *then).as_secs_f64());
            if number % PAGE == 1 {
                console.say(&heading_line())?;
            }
            console.say(&line(SystemTime::now(), &rates, &reply.total))?;
        }
        before = Some((now, reply.total));
        thread::sleep(interval);
    }
    Ok(())
}

fn heading_line() -> String {
    format!(
        "{:<8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>6} {:>6}\n",
        "TIME", "ACCEPT/s", "REFUSE/s", "FAIL/s", "START/s", "EXIT/s", "RUNNING", "P50", "P99"
    )
}

fn line(time: SystemTime, rates: &Rates, now: &Statistics) -> String {
    let share = |share| {
        rates
            .latency(share)
            .map_or_else(|| "-".to_owned(), Quantile::show)
    };
    let clock = humantime::format_rfc3339_seconds(time).to_string();
    format!(
        "{:<8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>6} {:>6}\n",
        clock.get(11..19).unwrap_or(""),
        rate(rates.accepted),
        rate(rates.refused),
        rate(rates.failed),
        rate(rates.started),
        rate(rates.exited),
        now.running,
        share(0.5),
        share(0.99)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_below_their_heading() {
        let rates = Rates {
            accepted: 12.5,
            ..Rates::default()
        };
        let now = Statistics {
            running: 7,
            ..Statistics::default()
        };
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(3_661);
        assert_eq!(
            heading_line() + &line(time, &rates, &now),
            "TIME     ACCEPT/s REFUSE/s   FAIL/s  START/s   EXIT/s RUNNING    P50    P99\n\
             01:01:01     12.5        0        0        0        0       7      -      -\n"
        );
    }
}
