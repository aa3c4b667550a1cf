//! Tells rpcbind(8) where Sun RPC services are, and that they are gone.
//!
//! ONC RPC (RFC 5531) to the binder's local socket, version 4 of its protocol
//! (RFC 1833): it then knows who we are from the kernel.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::table::address::Transport;

const SOCKET: &str = "/run/rpcbind.sock";
/// It is a local daemon that answers from memory; we must not wait for long.
const PATIENCE: Duration = Duration::from_secs(2);

const BINDER: u32 = 100_000;
const VERSION: u32 = 4;
const SET: u32 = 1;
const UNSET: u32 = 2;

/// One program to be registered, all its versions at one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub number: u32,
    pub first: u32,
    pub last: u32,
    pub transport: Transport,
    pub port: u16,
    /// The socket takes IPv6 too.
    pub v6: bool,
}

/// Replaces whatever was registered for the program by `program`.
pub fn register(program: &Program) -> io::Result<()> {
    let mut binder = Binder::connect()?;
    for version in program.first..=program.last {
        for (netid, address) in program.addresses() {
            binder.call(UNSET, program.number, version, netid, "")?;
            if !binder.call(SET, program.number, version, netid, &address)? {
                return Err(io::Error::other(format!(
                    "rpcbind refused program {} version {version} for {netid}",
                    program.number
                )));
            }
        }
    }
    Ok(())
}

/// Takes the program out again.
pub fn unregister(program: &Program) -> io::Result<()> {
    let mut binder = Binder::connect()?;
    for version in program.first..=program.last {
        for (netid, _) in program.addresses() {
            binder.call(UNSET, program.number, version, netid, "")?;
        }
    }
    Ok(())
}

impl Program {
    /// Network id and universal address (RFC 5665): the port's two bytes as
    /// decimal numbers behind the host address.
    fn addresses(&self) -> Vec<(&'static str, String)> {
        let (v4, v6) = match self.transport {
            Transport::Tcp => ("tcp", "tcp6"),
            Transport::Udp => ("udp", "udp6"),
        };
        let [high, low] = self.port.to_be_bytes();
        let mut addresses = vec![(v4, format!("0.0.0.0.{high}.{low}"))];
        if self.v6 {
            addresses.push((v6, format!("::.{high}.{low}")));
        }
        addresses
    }
}

struct Binder {
    stream: UnixStream,
    xid: u32,
}

impl Binder {
    fn connect() -> io::Result<Self> {
        let stream = UnixStream::connect(SOCKET)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            xid: std::process::id(),
        })
    }

    fn call(
        &mut self,
        procedure: u32,
        program: u32,
        version: u32,
        netid: &str,
        address: &str,
    ) -> io::Result<bool> {
        const CALL: u32 = 0;
        const RPC_VERSION: u32 = 2;
        self.xid = self.xid.wrapping_add(1);
        let mut body = Vec::new();
        // Header, then empty credential and verifier (AUTH_NONE).
        let header = [
            self.xid,
            CALL,
            RPC_VERSION,
            BINDER,
            VERSION,
            procedure,
            0,
            0,
            0,
            0,
        ];
        header.iter().for_each(|word| put(&mut body, *word));
        put(&mut body, program);
        put(&mut body, version);
        for text in [netid, address, "superuser"] {
            put_text(&mut body, text);
        }
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut record = (length | LAST_FRAGMENT).to_be_bytes().to_vec();
        record.append(&mut body);
        self.stream.write_all(&record)?;
        self.reply()
    }

    /// The answer of `SET` and `UNSET`: one boolean.
    fn reply(&mut self) -> io::Result<bool> {
        /// xid, message type, reply status, verifier (2), accept status, result.
        const WORDS: usize = 7;
        let mut mark = [0; 4];
        self.stream.read_exact(&mut mark)?;
        let length = u32::from_be_bytes(mark) & !LAST_FRAGMENT;
        if length as usize != WORDS * 4 {
            return Err(io::Error::other("rpcbind refused the call"));
        }
        let mut body = [0; WORDS * 4];
        self.stream.read_exact(&mut body)?;
        let word = |at: usize| body.get(at * 4..at * 4 + 4).map_or(&[][..], |bytes| bytes);
        let is = |at: usize, value: u32| word(at) == value.to_be_bytes();
        if !is(0, self.xid) || !is(1, 1) || !is(2, 0) || !is(5, 0) {
            return Err(io::Error::other("rpcbind refused the call"));
        }
        Ok(is(6, 1))
    }
}

/// Record marking, RFC 5531 section 11.
const LAST_FRAGMENT: u32 = 0x8000_0000;

fn put(out: &mut Vec<u8>, word: u32) {
    out.extend_from_slice(&word.to_be_bytes());
}

/// XDR string (RFC 4506): length, bytes, padding to a multiple of four.
fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, u32::try_from(text.len()).unwrap_or(0));
    out.extend_from_slice(text.as_bytes());
    out.resize(out.len().next_multiple_of(4), 0);
}
