#![no_main]
#[path = "laws.rs"]
mod laws;

use libfuzzer_sys::fuzz_target;
use usherd::demux::dns;
use usherd::demux::names::pattern;
use usherd::demux::rule::Dns;

fuzz_target!(|data: &[u8]| {
    let Some((part, whole)) = laws::cut(data) else {
        return;
    };
    let name = ["a.test", "**.example.test"];
    let rules = [
        Dns::default(),
        Dns {
            name: name.iter().filter_map(|text| pattern(text).ok()).collect(),
            ..Dns::default()
        },
        Dns {
            r#type: vec![1, 28, 255],
            ..Dns::default()
        },
    ];
    for rule in &rules {
        laws::obeyed(part, whole, |bytes| dns::judge_stream(rule, bytes).0);
        let _ = dns::judge_message(rule, whole);
    }
});
