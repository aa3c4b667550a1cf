//! Relays to another address.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread;

use crate::common::peer::{ask, hear};
use crate::common::*;
use crate::tests;

tests![
    a_relay_carries_bytes_both_ways_with_half_closes,
    a_relay_reaches_a_unix_socket,
    the_next_upstream_is_tried_when_the_first_is_gone,
    no_upstream_at_all_closes_the_connection,
    the_proxy_protocol_names_the_peer_in_version_1,
    the_proxy_protocol_names_the_peer_in_version_2,
    an_idle_relay_is_closed,
    a_relay_ends_after_its_bytes,
    a_slow_reader_slows_the_writer_and_loses_nothing,
    a_reset_on_one_side_ends_the_other,
];

/// An upstream that sends back what it reads, for any number of connections.
fn echo_upstream() -> u16 {
    upstream(|mut stream| {
        let mut copy = stream.try_clone()?;
        std::io::copy(&mut copy, &mut stream)?;
        stream.shutdown(std::net::Shutdown::Write)
    })
}

/// A listener of the test itself; ends with the test run.
fn upstream(serve: fn(TcpStream) -> std::io::Result<()>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("unable to bind");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    port
}

fn relay(port: u16, to: &str, more: &str) -> String {
    format!(
        "[service.relay]\nlisten = \"tcp:127.0.0.1:{port}\"\nforward = {{ to = [{to}]{more} }}\n"
    )
}

fn tcp(port: u16) -> String {
    format!("\"tcp:127.0.0.1:{port}\"")
}

fn a_relay_carries_bytes_both_ways_with_half_closes() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &relay(port, &tcp(echo_upstream()), ""));
    let sent = Seeded::new(11).bytes(3_000_000);
    let received = Peer::tcp(port).exchange(&sent);
    assert!(
        received == sent,
        "{} of {} bytes, or changed",
        received.len(),
        sent.len()
    );
}

fn a_relay_reaches_a_unix_socket() {
    let (dir, port) = (Dir::new(), free_port());
    let path = dir.open_folder("sockets") + "/up";
    let listener = UnixListener::bind(&path).expect("unable to bind");
    set_mode(std::path::Path::new(&path), 0o777);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"from a unix socket\n");
        }
    });
    let _daemon = Daemon::start(&dir, &relay(port, &format!("\"unix:{path}\""), ""));
    assert_eq!(hear(port), "from a unix socket\n");
}

fn the_next_upstream_is_tried_when_the_first_is_gone() {
    let (dir, port, dead) = (Dir::new(), free_port(), free_port());
    let to = format!("{}, {}", tcp(dead), tcp(echo_upstream()));
    let _daemon = Daemon::start(&dir, &relay(port, &to, ""));
    assert_eq!(ask(port, "second best"), "second best");
}

fn no_upstream_at_all_closes_the_connection() {
    let (dir, port, dead) = (Dir::new(), free_port(), free_port());
    let daemon = Daemon::start(&dir, &relay(port, &tcp(dead), ""));
    assert_eq!(hear(port), "");
    daemon
        .log
        .wait_after(0, &["unable to connect", "Connection refused"]);
    assert_eq!(hear(port), "", "and the service goes on");
}

/// Sends back the header: the first line, or the sixteen bytes of version 2
/// and as many as they announce.
fn header_upstream() -> u16 {
    upstream(|mut stream| {
        let mut bytes = vec![0; 16];
        stream.read_exact(&mut bytes)?;
        if bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
            let length = u16::from_be_bytes([bytes[14], bytes[15]]);
            bytes.resize(16 + usize::from(length), 0);
            stream.read_exact(&mut bytes[16..])?;
        } else {
            while bytes.last() != Some(&b'\n') {
                bytes.push(0);
                let last = bytes.len() - 1;
                stream.read_exact(&mut bytes[last..])?;
            }
        }
        stream.write_all(&bytes)
    })
}

fn the_proxy_protocol_names_the_peer_in_version_1() {
    let (dir, port) = (Dir::new(), free_port());
    let table = relay(port, &tcp(header_upstream()), ", proxy = \"v1\"");
    let _daemon = Daemon::start(&dir, &table);
    let mut peer = Peer::tcp_from([127, 0, 0, 9], port);
    let from = peer.local_port();
    assert_eq!(
        peer.read_text(),
        format!("PROXY TCP4 127.0.0.9 127.0.0.1 {from} {port}\r\n")
    );
}

fn the_proxy_protocol_names_the_peer_in_version_2() {
    let (dir, port) = (Dir::new(), free_port());
    let table = relay(port, &tcp(header_upstream()), ", proxy = \"v2\"");
    let _daemon = Daemon::start(&dir, &table);
    let mut peer = Peer::tcp_from([127, 0, 0, 9], port);
    let from = peer.local_port();
    let header = peer.read_all();
    assert_eq!(header[..12], *b"\r\n\r\n\0\r\nQUIT\n");
    assert_eq!(header[12..14], [0x21, 0x11], "PROXY, TCP over IPv4");
    assert_eq!(header[16..24], [127, 0, 0, 9, 127, 0, 0, 1]);
    assert_eq!(header[24..26], from.to_be_bytes());
    assert_eq!(header[26..28], port.to_be_bytes());
}

fn an_idle_relay_is_closed() {
    let (dir, port) = (Dir::new(), free_port());
    let table = relay(port, &tcp(echo_upstream()), "") + "idle_timeout = \"500ms\"\n";
    let _daemon = Daemon::start(&dir, &table);
    let mut peer = Peer::tcp(port);
    peer.send("x");
    assert_eq!(peer.read_exact(1), b"x");
    assert_eq!(peer.read_all(), b"");
}

fn a_relay_ends_after_its_bytes() {
    let (dir, port) = (Dir::new(), free_port());
    let table = relay(port, &tcp(echo_upstream()), "") + "max_bytes = \"64K\"\n";
    let _daemon = Daemon::start(&dir, &table);
    let mut peer = Peer::tcp(port);
    peer.send(vec![b'x'; 30_000]);
    assert_eq!(peer.read_exact(30_000), vec![b'x'; 30_000]);
    // 60,000 bytes have passed: these are too many.
    peer.send(vec![b'x'; 30_000]);
    assert!(peer.read_all().len() < 30_000);
}

fn a_slow_reader_slows_the_writer_and_loses_nothing() {
    let (dir, port) = (Dir::new(), free_port());
    let fast = upstream(|mut stream| stream.write_all(&Seeded::new(5).bytes(8_000_000)));
    let daemon = Daemon::start(&dir, &relay(port, &tcp(fast), ""));
    let mut peer = Peer::tcp(port);
    let first = peer.read_exact(1_000);
    // Nobody reads for a while: the relay has to stop, and to keep little.
    assert!(!peer.hears_nothing_for(std::time::Duration::from_millis(300)));
    // Without the pages of the program itself, of which a debug build has many.
    let held = process::status(daemon.front(), "RssAnon").unwrap_or_default();
    let kilobytes: u64 = held.trim_end_matches(" kB").parse().unwrap_or(0);
    assert!(kilobytes < 8_000, "the front holds {held}");
    let mut all = first;
    all.extend(peer.read_all());
    assert!(
        all == Seeded::new(5).bytes(8_000_000),
        "{} bytes, or changed",
        all.len()
    );
}

fn a_reset_on_one_side_ends_the_other() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &relay(port, &tcp(echo_upstream()), ""));
    let front = daemon.front();
    let before = process::descriptors(front).len();
    for _ in 0..20 {
        let mut peer = Peer::tcp(port);
        peer.send("x");
        assert_eq!(peer.read_exact(1), b"x");
        peer.reset();
    }
    until("as many descriptors as before", SOON, || {
        (process::descriptors(front).len() <= before).then_some(())
    });
    assert_eq!(ask(port, "next"), "next");
}
