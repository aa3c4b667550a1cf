//! A TLS client of the tests' own: its hello has post-quantum key shares, is
//! split into records of any size and sent in pieces of any size.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use socket2::Socket;

use crate::common::*;

/// How a hello travels.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Bytes of a record, its header included; `None`: as rustls likes.
    pub record: Option<usize>,
    /// Bytes handed to the kernel at once.
    pub segment: usize,
}

/// What the client saw.
#[derive(Debug)]
pub struct Heard {
    pub text: String,
    pub alpn: Option<Vec<u8>>,
    /// Bytes and records of the client's first flight.
    pub hello: usize,
    pub records: usize,
}

/// A socket that is written to in pieces, and remembers what it sent before
/// the other side said anything.
struct Pieces {
    socket: Socket,
    size: usize,
    first: Vec<u8>,
    heard: bool,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.socket.write(&bytes[..bytes.len().min(self.size)])?;
        if !self.heard {
            self.first.extend_from_slice(&bytes[..sent]);
        }
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Pieces {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.heard = true;
        self.socket.read(bytes)
    }
}

/// Asks `host` for its page, if `alpn` is not one that this client cannot speak.
#[must_use]
pub fn get(port: u16, host: &str, certificate: &str, alpn: &str, cut: Cut) -> Heard {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_file(certificate).expect("a certificate");
    roots.add(trusted).expect("unable to trust a certificate");
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.max_fragment_size = cut.record;
    config.alpn_protocols = vec![alpn.into()];
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let mut tls = ClientConnection::new(Arc::new(config), name).expect("unable to begin");
    let socket = Peer::tcp(port).into_socket();
    socket
        .set_tcp_nodelay(true)
        .expect("unable to set an option");
    let mut pieces = Pieces {
        socket,
        size: cut.segment,
        first: Vec::new(),
        heard: false,
    };
    while tls.is_handshaking() {
        tls.complete_io(&mut pieces).expect("the handshake failed");
    }
    let (hello, records) = (pieces.first.len(), count_records(&pieces.first));
    let mut text = String::new();
    if alpn == "http/1.1" {
        let mut stream = Stream::new(&mut tls, &mut pieces);
        write!(stream, "GET / HTTP/1.0\r\nHost: {host}\r\n\r\n").expect("unable to send");
        match stream.read_to_string(&mut text) {
            Err(err) if err.kind() != ErrorKind::UnexpectedEof => panic!("no answer: {err}"),
            _ => {}
        }
    }
    Heard {
        text,
        alpn: tls.alpn_protocol().map(<[u8]>::to_vec),
        hello,
        records,
    }
}

/// Headers are five bytes; the last two are the length of what follows.
fn count_records(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [_, _, _, high, low, rest @ ..] = bytes {
        count += 1;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        bytes = rest.get(length..).unwrap_or_default();
    }
    count
}
