#![no_main]
#[path = "laws.rs"]
mod laws;

use libfuzzer_sys::fuzz_target;
use usherd::demux::http;
use usherd::demux::names::pattern;
use usherd::demux::rule::Http;

fn rules() -> Vec<Http> {
    let host = ["a.test", "*.b.test", "192.0.2.1", "[2001:db8::1]"];
    vec![
        Http::default(),
        Http {
            host: host.iter().filter_map(|text| pattern(text).ok()).collect(),
            ..Http::default()
        },
        Http {
            path: vec!["/api".into(), "/a/".into()],
            method: vec!["GET".into(), "POST".into()],
            ..Http::default()
        },
        Http {
            header: vec!["Upgrade".into()],
            ..Http::default()
        },
        Http {
            malformed: Some(true),
            ..Http::default()
        },
    ]
}

fuzz_target!(|data: &[u8]| {
    let Some((part, whole)) = laws::cut(data) else {
        return;
    };
    if let Some(name) = http::view(whole).host() {
        assert!(!name.as_bytes().iter().any(u8::is_ascii_uppercase));
    }
    for rule in rules() {
        laws::obeyed(part, whole, |bytes| http::judge(&rule, &http::view(bytes)).0);
    }
});
