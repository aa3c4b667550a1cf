//! Calls on the control sockets: how octets are cut into reads changes nothing,
//! nothing panics, and a call that is understood is understood again as it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use usherd::control::ADMIN;
use usherd::control::frame::Frames;
use usherd::control::introspect;
use usherd::control::message::{Call, Reply, read_call};
use usherd::control::types::{BanWhom, KillWhat, OfService, ReloadHow, TheService, Watch};

const LIMIT: usize = 4096;

/// The messages, and whether one is too long.
fn messages(octets: &[u8], size: usize) -> (Vec<Vec<u8>>, bool) {
    let mut frames = Frames::new(LIMIT);
    let mut found = Vec::new();
    for chunk in octets.chunks(size) {
        frames.feed(chunk);
        loop {
            match frames.take() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

fuzz_target!(|data: &[u8]| {
    let Some((size, octets)) = data.split_first() else {
        return;
    };
    let (whole, too_long) = messages(octets, octets.len().max(1));
    let cut = messages(octets, usize::from(*size).max(1));
    assert_eq!((&whole, too_long), (&cut.0, cut.1));
    for message in whole {
        assert!(message.len() <= LIMIT && !message.contains(&0));
        let Ok(mut call) = read_call(&message) else {
            continue;
        };
        let again = serde_json::to_vec(&call).expect("what was read can be written");
        let again = read_call(&again).expect("and read again");
        // Not the values: a fraction may come back rounded, and nothing here takes one.
        let names = |call: &Call| -> Vec<String> {
            let parameters = call.parameters.iter().flat_map(|all| all.keys());
            parameters.cloned().collect()
        };
        assert_eq!((&again.method, names(&again)), (&call.method, names(&call)));
        assert_eq!(
            (again.more, again.oneway, again.upgrade),
            (call.more, call.oneway, call.upgrade)
        );
        let _ = call.clone().take::<Watch>();
        let _ = call.clone().take::<OfService>();
        let _ = call.clone().take::<TheService>();
        let _ = call.clone().take::<BanWhom>();
        let _ = call.clone().take::<KillWhat>();
        let _ = call.clone().take::<ReloadHow>();
        let mut out = Vec::new();
        if let Some(reply) = introspect::answer(&mut call, ADMIN) {
            reply.encode(&mut out);
        } else {
            Reply::Last(serde_json::Value::Null).encode(&mut out);
        }
        assert!(out.ends_with(b"\0") && !out[..out.len() - 1].contains(&0));
    }
});
