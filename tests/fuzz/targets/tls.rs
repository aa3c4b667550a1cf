#![no_main]
#[path = "laws.rs"]
mod laws;

use libfuzzer_sys::fuzz_target;
use usherd::demux::names::pattern;
use usherd::demux::rule::{Tls, TlsVersion};
use usherd::demux::tls::{self, Hello};

fn rules() -> Vec<Tls> {
    let names = |texts: &[&str]| texts.iter().filter_map(|text| pattern(text).ok()).collect();
    vec![
        Tls::default(),
        Tls {
            sni: names(&["shop.example.test", "*.example.test", "**.test"]),
            ..Tls::default()
        },
        Tls {
            alpn: vec!["h2".into(), "http/1.1".into()],
            ..Tls::default()
        },
        Tls {
            version: vec![TlsVersion::Tls13],
            ech: Some(false),
            ..Tls::default()
        },
        Tls {
            malformed: Some(true),
            ..Tls::default()
        },
    ]
}

fuzz_target!(|data: &[u8]| {
    let Some((part, whole)) = laws::cut(data) else {
        return;
    };
    let view = tls::view(whole);
    if let Hello::Complete(hello) = view.hello() {
        if let Some(name) = hello.sni() {
            assert!(!name.as_bytes().is_empty());
            assert!(!name.as_bytes().iter().any(u8::is_ascii_uppercase));
        }
        assert!(hello.alpn().count() <= 64);
        let _ = (hello.version(), hello.ech());
    }
    for rule in rules() {
        laws::obeyed(part, whole, |bytes| tls::judge(&rule, &tls::view(bytes)).0);
    }
});
