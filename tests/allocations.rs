//! The engine allocates nothing while it decides: strangers choose how often it is asked.
//!
//! A program of its own, because the allocator that counts is the whole program's.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    reason = "a global allocator is an unsafe trait; this one passes everything on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use proptest::prelude::*;
use usherd::demux::Ending;
use usherd::demux::names::{Pattern, pattern};
use usherd::demux::plan::{Candidate, Facts, Plan};
use usherd::demux::proxy::{self, Read};
use usherd::demux::rule::{Content, Dns, Http, Protocol, Rule, Tls};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: both calls are the system allocator's own; counting touches no memory of theirs.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the rules of this very function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from the system allocator.
        unsafe { System.dealloc(pointer, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn names(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| pattern(text).unwrap()).collect()
}

fn contents() -> Vec<Content> {
    let mut all: Vec<Content> = Protocol::ALL.iter().copied().map(Content::Is).collect();
    all.extend([
        Content::Tls(Tls {
            sni: names(&["**.test", "*.example.test", "shop.example.test"]),
            alpn: vec!["h2".into()],
            ..Tls::default()
        }),
        Content::Tls(Tls {
            malformed: Some(true),
            ..Tls::default()
        }),
        Content::Http(Http {
            host: names(&["a.test", "*.b.test"]),
            path: vec!["/api".into()],
            header: vec!["upgrade".into()],
            ..Http::default()
        }),
        Content::Dns(Dns {
            name: names(&["**.test"]),
            ..Dns::default()
        }),
        Content::Socks(vec![4, 5]),
        Content::Prefix(vec![vec![0, 1, 2], b"HELO".to_vec()]),
        Content::Regex(vec!["[0-9a-f]{4}x+y".into()]),
    ]);
    all
}

/// One plan for each content, then one with all of them.
fn plans() -> Vec<Plan> {
    let rule = |content| {
        [Rule {
            content: vec![content],
            ..Rule::default()
        }]
    };
    let rules: Vec<[Rule; 1]> = contents().into_iter().map(rule).collect();
    let candidates: Vec<Candidate<'_>> = rules
        .iter()
        .map(|rules| Candidate {
            rules,
            speaks_first: false,
        })
        .collect();
    let alone = candidates.iter().map(|one| Plan::compile(&[*one]).unwrap());
    let mut plans: Vec<Plan> = alone.collect();
    plans.push(Plan::compile(&candidates).unwrap());
    plans
}

/// Openings that lead deep into the walkers; anything may follow.
const OPENINGS: [&[u8]; 12] = [
    b"",
    b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c\x03\x03",
    b"\x80\x2e\x01\x03\x01",
    b"GET /api/x HTTP/1.1\r\nHost: a.test\r\nUpgrade: x\r\n",
    b"CONNECT a.test:443 HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x00\x1d\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x04test\x00\x00\x01\x00\x01",
    b"\x10\x0c\x00\x04MQTT\x04",
    b"\x05\x01\x00",
    b"<?xml version='1.0'?><stream:stream",
    b"00ffxxxx",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 5 443\r\n",
];

/// How often this thread allocates while `work` runs.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn the_count_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_decision_allocates(
        opening in prop::sample::select(OPENINGS.to_vec()),
        tail in prop::collection::vec(any::<u8>(), 0..300),
        cut in any::<prop::sample::Index>(),
    ) {
        thread_local! {
            static PLANS: Vec<Plan> = plans();
        }
        let bytes = [opening, &tail].concat();
        let part = bytes.get(..cut.index(bytes.len() + 1)).unwrap_or_default();
        let (endings, facts) = (
            [None, Some(Ending::Timeout), Some(Ending::Eof), Some(Ending::Full)],
            Facts::default(),
        );
        let count = PLANS.with(|plans| allocations(|| {
            for plan in plans {
                for ended in endings {
                    std::hint::black_box(plan.step(&facts, part, ended));
                }
            }
        }));
        prop_assert_eq!(count, 0);
        // What a listed proxy has said in full is kept; until then nothing is.
        let mut read = None;
        let count = allocations(|| read = Some(proxy::read(part)));
        if !matches!(read, Some(Read::Complete(_))) {
            prop_assert_eq!(count, 0);
        }
    }
}
