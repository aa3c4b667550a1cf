#![no_main]
#[path = "laws.rs"]
mod laws;

use libfuzzer_sys::fuzz_target;
use usherd::demux::Verdict;
use usherd::demux::proxy::{self, Read};

fn verdict(bytes: &[u8]) -> Verdict {
    match proxy::read(bytes) {
        Read::Need(k) => Verdict::Need(k),
        Read::Malformed(_) => Verdict::No,
        Read::Complete(_) => Verdict::Yes,
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((part, whole)) = laws::cut(data) else {
        return;
    };
    laws::obeyed(part, whole, verdict);
    if let Read::Complete(header) = proxy::read(whole) {
        assert!(header.length <= whole.len() && header.length <= proxy::MAX_HEADER);
        // Not a byte of what follows has a say.
        let Read::Complete(again) = proxy::read(&whole[..header.length]) else {
            panic!("needs more than it consumes");
        };
        assert_eq!(again.ends, header.ends);
    }
});
