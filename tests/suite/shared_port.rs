//! Tables for tests of services that share a port: each server says its name
//! and what it was told, and then sends back what it reads.

use crate::common::*;

/// What a server says first; `%` stands for its name.
const SAYS: &str = r#"echo "% peer=$REMOTE_ADDR:$REMOTE_PORT local=$LOCAL rule=$USHERD_RULE sni=$USHERD_TLS_SNI alpn=$USHERD_TLS_ALPN host=$USHERD_HTTP_HOST proxy=$USHERD_PROXY_ADDR:$USHERD_PROXY_PORT v=$USHERD_PROXY_VERSION authority=$USHERD_PROXY_AUTHORITY id=$USHERD_PROXY_UNIQUE_ID"; exec cat"#;

/// A service with more lines of its own, such as its `match`. Without a pipe for its stderr,
/// which the front would get at some moment after the first server has answered: tests count
/// what the front has open.
pub fn at(listen: &str, name: &str, more: &str) -> String {
    let says = SAYS
        .replace('%', name)
        .replace("$LOCAL", "$TCPLOCALIP:$TCPLOCALPORT");
    format!(
        "[service.{name}]\nlisten = \"{listen}\"\nexec = [\"/bin/sh\", \"-c\", '''{says}''']\nstderr = \"null\"\n{more}\n"
    )
}

/// [`at`] a port of the loopback address.
pub fn on(port: u16, name: &str, more: &str) -> String {
    at(&format!("tcp:127.0.0.1:{port}"), name, more)
}

/// Services with nothing but a `match`; an empty one is left out.
pub fn table(port: u16, services: &[(&str, &str)]) -> String {
    let one = |(name, rule): &(&str, &str)| {
        let rule = match *rule {
            "" => String::new(),
            rule => format!("match = {rule}\n"),
        };
        on(port, name, &rule)
    };
    services.iter().map(one).collect()
}

/// The first line of the server: its name and the rest. Both are empty where
/// the connection was closed.
pub fn greeting(peer: &mut Peer) -> (String, String) {
    let line = peer.read_line();
    let (name, rest) = line.trim_end().split_once(' ').unwrap_or_default();
    (name.to_owned(), rest.to_owned())
}

/// Which server answered.
pub fn server(peer: &mut Peer) -> String {
    greeting(peer).0
}

/// Sends `bytes` and the end: which server answers, and that it read just these.
pub fn served_by(peer: &mut Peer, bytes: &[u8]) -> String {
    peer.try_send(bytes);
    let name = server(peer.finish());
    if !name.is_empty() {
        let read = peer.read_all();
        assert!(
            read == bytes,
            "{name} read {} of {} bytes, or others",
            read.len(),
            bytes.len()
        );
    }
    name
}

/// The value of `key=` in what a server said.
pub fn value<'a>(said: &'a str, key: &str) -> &'a str {
    let mut words = said.split(' ');
    let found = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {key} in {said:?}"))
}
