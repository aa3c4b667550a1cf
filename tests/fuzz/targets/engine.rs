#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use usherd::demux::names::pattern;
use usherd::demux::plan::{Candidate, Facts, Plan, Step};
use usherd::demux::rule::{Content, Dns, Http, Protocol, Rule, Tls};
use usherd::demux::{Ending, LIMIT};

#[path = "laws.rs"]
mod laws;

/// Everything at once, the more telling rules not first.
static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let names = |texts: &[&str]| texts.iter().filter_map(|text| pattern(text).ok()).collect::<Vec<_>>();
    let mut contents: Vec<Content> = Protocol::ALL.iter().copied().map(Content::Is).collect();
    contents.push(Content::Tls(Tls {
        sni: names(&["**.test"]),
        ..Tls::default()
    }));
    contents.push(Content::Tls(Tls {
        sni: names(&["*.example.test", "shop.example.test"]),
        ..Tls::default()
    }));
    contents.push(Content::Tls(Tls {
        malformed: Some(true),
        ..Tls::default()
    }));
    contents.push(Content::Http(Http {
        path: vec!["/api".into()],
        ..Http::default()
    }));
    contents.push(Content::Http(Http {
        host: names(&["a.test", "*.b.test"]),
        ..Http::default()
    }));
    contents.push(Content::Dns(Dns::default()));
    contents.push(Content::Socks(vec![4, 5]));
    contents.push(Content::Regex(vec!["[0-9a-f]{4}x+y".into()]));
    contents.push(Content::Prefix(vec![vec![0, 1, 2], b"HELO".to_vec()]));
    let rules: Vec<[Rule; 1]> = contents
        .into_iter()
        .map(|content| {
            [Rule {
                content: vec![content],
                ..Rule::default()
            }]
        })
        .collect();
    let mut candidates: Vec<Candidate<'_>> = rules
        .iter()
        .map(|rules| Candidate {
            rules,
            speaks_first: false,
        })
        .collect();
    candidates.push(Candidate {
        rules: &[],
        speaks_first: false,
    });
    Plan::compile(&candidates).expect("a good plan")
});

fuzz_target!(|data: &[u8]| {
    let Some((part, whole)) = laws::cut(&data[..data.len().min(LIMIT)]) else {
        return;
    };
    let step = |bytes: &[u8]| PLAN.step(&Facts::default(), bytes, None);
    match step(part) {
        Step::Need(k) => {
            assert!(k > part.len());
            if whole.len() < k {
                assert!(matches!(step(whole), Step::Need(_)), "decided too early");
            }
        }
        decided => assert_eq!(step(whole), decided, "changed its mind"),
    }
    for ended in [Ending::Timeout, Ending::Eof, Ending::Full] {
        let last = PLAN.step(&Facts::default(), whole, Some(ended));
        assert!(!matches!(last, Step::Need(_)), "no decision at the end");
    }
});
