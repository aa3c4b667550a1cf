//! What a decision costs, without sockets: `cargo bench --bench engine`.
//!
//! Each row is one table and one request; the rows take turns, and what is
//! shown is the median of the turns. A decision is what the front does between
//! peek and dispatch: a fresh look at the bytes, and the walk through the rules.
//! The request is for the rule that is asked last, or for none.
//!
//! `copy` is a plain copy of the same bytes, and `names` a bare loop that
//! compares the one name with that of each rule: neither decides anything.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use usherd::demux::look::Look;
use usherd::demux::names;
use usherd::demux::plan::{Candidate, Facts, Plan, Step};
use usherd::demux::rule::{Content, Http, Protocol, Rule, Tls};

#[allow(dead_code, reason = "the tests of TLS use the rest")]
#[path = "../../src/demux/tls/samples.rs"]
mod samples;

const TURNS: usize = 15;
const TURN: Duration = Duration::from_millis(8);
const BATCH: Duration = Duration::from_micros(100);
/// The request asks for the service of this number, which is the last one.
const SIZES: [usize; 3] = [1, 20, 1000];

fn main() {
    // `cargo test --benches` runs this too: one short turn is enough there.
    let has = |wanted: &str| std::env::args().any(|word| word == wanted);
    let quick = has("--quick") || !has("--bench");
    let (turns, turn) = if quick { (1, TURN / 8) } else { (TURNS, TURN) };
    let mut rows = rows();
    for _ in 0..turns {
        for row in &mut rows {
            row.measure(turn);
        }
    }
    print(&rows);
}

/// One line for each kind of table and request, with a column for each size.
fn print(rows: &[Row]) {
    println!("| rules | request | 1 | 20 | 1,000 | copy | names, 1,000 |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut lines: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        if !lines.contains(&(row.table, &row.request)) {
            lines.push((row.table, &row.request));
        }
    }
    for (table, request) in lines {
        let same = |row: &&Row| (row.table, row.request.as_str()) == (table, request);
        print!("| {table} | {request} |");
        for row in rows.iter().filter(same) {
            let took = median(&row.all);
            print!(" {} ns, {}/s |", grouped(took), grouped(1e9 / took));
        }
        if let Some(largest) = rows.iter().rfind(same) {
            let (copy, names) = (median(&largest.copies), median(&largest.comparisons));
            println!(" {} ns | {} ns |", grouped(copy), grouped(names));
        }
    }
}

/// With at most three significant digits, and commas.
fn grouped(value: f64) -> String {
    let unit = 10_f64.powf((value.log10().floor() - 2.0).max(0.0));
    let digits = format!("{:.0}", (value / unit).round() * unit);
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

struct Row {
    table: &'static str,
    request: String,
    plan: Plan,
    /// Of the rules, for the bare loop.
    names: Vec<String>,
    name: String,
    bytes: Vec<u8>,
    all: Vec<f64>,
    copies: Vec<f64>,
    comparisons: Vec<f64>,
}

impl Row {
    fn measure(&mut self, turn: Duration) {
        let facts = Facts {
            peer: Some(([192, 0, 2, 7].into(), 50_112)),
            ..Facts::default()
        };
        self.all.push(time(turn, || {
            let look = Look::new(black_box(&self.bytes));
            let step = self.plan.choose(&facts, &look, None);
            black_box(step);
        }));
        let mut room = vec![0; self.bytes.len()];
        self.copies.push(time(turn, || {
            room.copy_from_slice(black_box(&self.bytes));
            black_box(&room);
        }));
        self.comparisons.push(time(turn, || {
            let name = black_box(self.name.as_bytes());
            let found = self.names.iter().position(|at| at.as_bytes() == name);
            black_box(found);
        }));
    }
}

/// Nanoseconds for each call: the median of batches so short that few of them
/// are interrupted.
fn time(turn: Duration, mut work: impl FnMut()) -> f64 {
    let mut batch = 1_u32;
    let mut seen = Vec::new();
    let began = Instant::now();
    while began.elapsed() < turn || seen.is_empty() {
        let began = Instant::now();
        for _ in 0..batch {
            work();
        }
        let took = began.elapsed();
        if took < BATCH {
            batch = batch.saturating_mul(2);
            seen.clear();
        } else {
            seen.push(took.as_secs_f64() * 1e9 / f64::from(batch));
        }
    }
    median(&seen)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (table, rule) in [
        ("SNI", sni_rule as fn(usize) -> Rule),
        ("mixed", mixed_rule),
    ] {
        for count in SIZES {
            // The last rule of a mixed table is met by a hello or by a request.
            let last = [(count - 1, "for the last"), (usize::MAX, "for none")];
            for (whose, what) in last {
                for (kind, bytes) in requests(whose) {
                    if kind == "HTTP" && table == "SNI" {
                        continue; // decided by its first byte
                    }
                    let mut rules: Vec<Rule> = (0..count).map(rule).collect();
                    if whose != usize::MAX {
                        rules[count - 1] = match kind {
                            "HTTP" => host_rule(whose),
                            _ => sni_rule(whose),
                        };
                    }
                    let candidates: Vec<Candidate<'_>> = rules.chunks(1).map(candidate).collect();
                    let plan = Plan::compile(&candidates).unwrap();
                    check(&plan, &bytes, whose);
                    rows.push(Row {
                        table,
                        request: format!("{kind}, {} B, {what}", bytes.len()),
                        plan,
                        names: (0..count).map(name).collect(),
                        name: name(whose),
                        bytes,
                        all: Vec::new(),
                        copies: Vec::new(),
                        comparisons: Vec::new(),
                    });
                }
            }
        }
    }
    rows
}

fn candidate(rules: &[Rule]) -> Candidate<'_> {
    Candidate {
        rules,
        speaks_first: false,
    }
}

/// A bench of wrong decisions would be worth nothing.
fn check(plan: &Plan, bytes: &[u8], whose: usize) {
    match plan.step(&Facts::default(), bytes, None) {
        Step::Route(route) => assert_eq!(route.candidate, whose),
        Step::Refuse => assert_eq!(whose, usize::MAX),
        Step::Need(k) => panic!("undecided, needs {k}"),
    }
}

// ---------------------------------------------------------------- rules

/// Names of one length with one end, so that no comparison is over at once.
fn name(number: usize) -> String {
    match number {
        usize::MAX => "none-0000.customers.example".to_owned(),
        _ => format!("shop-{number:04}.customers.example"),
    }
}

fn rule(content: Content) -> Rule {
    Rule {
        content: vec![content],
        ..Rule::default()
    }
}

fn sni_rule(number: usize) -> Rule {
    tls_name(&name(number))
}

fn tls_name(pattern: &str) -> Rule {
    rule(Content::Tls(Tls {
        sni: vec![names::pattern(pattern).unwrap()],
        ..Tls::default()
    }))
}

fn host_rule(number: usize) -> Rule {
    rule(Content::Http(Http {
        host: vec![names::pattern(&name(number)).unwrap()],
        ..Http::default()
    }))
}

/// Names, wildcards, paths, prefixes and protocols in turn.
fn mixed_rule(number: usize) -> Rule {
    match number % 8 {
        0 | 1 => sni_rule(number),
        2 => tls_name(&format!("*.{}", name(number))),
        3 => tls_name(&format!("**.{}", name(number))),
        4 => host_rule(number),
        5 => rule(Content::Http(Http {
            host: vec![names::pattern(&name(number)).unwrap()],
            path: vec!["/api".to_owned()],
            ..Http::default()
        })),
        6 => rule(Content::Prefix(vec![format!("HELLO {number}\n").into()])),
        _ => rule(Content::Is(match number % 3 {
            0 => Protocol::Ssh,
            1 => Protocol::Http2,
            _ => Protocol::Rtmp,
        })),
    }
}

// ---------------------------------------------------------------- requests

fn requests(whose: usize) -> Vec<(&'static str, Vec<u8>)> {
    let name = name(whose);
    vec![
        ("hello", hello(&name, false, 517)),
        ("hello", hello(&name, true, 1754)),
        ("HTTP", http(&name)),
    ]
}

/// As browsers send them: 517 octets by padding (RFC 7685), or what a hybrid
/// key share (X25519MLKEM768, 1216 octets) makes of it.
fn hello(name: &str, hybrid: bool, length: usize) -> Vec<u8> {
    use samples::{alpn, extension, message, record, sni, versions};
    let share = |group: [u8; 2], size: usize| {
        [&group[..], &samples::u16b(size), &vec![0x5a; size]].concat()
    };
    let mut shares = if hybrid {
        share([0x11, 0xec], 1216)
    } else {
        Vec::new()
    };
    shares.extend(share([0, 29], 32));
    let mut extensions = vec![
        sni(name),
        extension(23, &[]),
        extension(0xff01, &[0]),
        extension(10, &[0, 8, 0x11, 0xec, 0, 29, 0, 23, 0, 24]),
        extension(11, &[1, 0]),
        extension(35, &[]),
        alpn(&[b"h2", b"http/1.1"]),
        extension(5, &[1, 0, 0, 0, 0]),
        extension(13, &[0, 8, 4, 3, 8, 4, 4, 1, 5, 3]),
        extension(18, &[]),
        extension(51, &[&samples::u16b(shares.len())[..], &shares].concat()),
        extension(45, &[1, 1]),
        versions(&[0x0304, 0x0303]),
    ];
    let bare = record(&message(0x0303, Some(&extensions))).len();
    extensions.push(extension(21, &vec![0; length - bare - 4]));
    let bytes = record(&message(0x0303, Some(&extensions)));
    assert_eq!(bytes.len(), length);
    bytes
}

fn http(host: &str) -> Vec<u8> {
    let lines = [
        "GET /articles/2026/11/index.html?page=2 HTTP/1.1",
        &format!("Host: {host}"),
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "Accept-Language: en-US,en;q=0.5",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Connection: keep-alive",
        "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark",
        "Upgrade-Insecure-Requests: 1",
        "",
        "",
    ];
    lines.join("\r\n").into_bytes()
}
