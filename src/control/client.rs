//! The caller's end, one call at a time. Waits, and is for programs that may.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::frame::{Frames, TooLong};
use super::message::Call;

/// The longest reply that is read: a table of many thousand services.
const MAX_REPLY: usize = 256 * 1024 * 1024;
/// How long a daemon may take for a piece of its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to one of usherd's sockets.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    frames: Frames,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens there.
    Connect(io::Error),
    Io(io::Error),
    /// The other end closed in the middle.
    Closed,
    /// What came is no reply of the interface.
    Malformed(String),
    /// The daemon's own error: its full name, its parameters.
    Refused(String, Map<String, Value>),
}

impl Client {
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let (short, _folder) = super::socket_path(path).map_err(ClientError::Connect)?;
        let stream = UnixStream::connect(short).map_err(ClientError::Connect)?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .map_err(ClientError::Io)?;
        Ok(Self {
            stream,
            frames: Frames::new(MAX_REPLY),
        })
    }

    /// Over a connection that stands. Answers may take as long as they like.
    #[must_use]
    pub fn over(stream: UnixStream) -> Self {
        Self {
            stream,
            frames: Frames::new(MAX_REPLY),
        }
    }

    /// Calls `method` (`INTERFACE.METHOD`) and waits for its only reply.
    pub fn call<T: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.send(method, parameters, false)?;
        Ok(self.reply()?.0)
    }

    /// Calls `method` for as many replies as it takes, which [`Client::next_reply`] returns.
    /// They may be long in coming.
    pub fn watch(&mut self, method: &str, parameters: &impl Serialize) -> Result<(), ClientError> {
        self.stream
            .set_read_timeout(None)
            .map_err(ClientError::Io)?;
        self.send(method, parameters, true)
    }

    /// The next reply of a call with many, and whether more follow.
    pub fn next_reply<T: DeserializeOwned>(&mut self) -> Result<(T, bool), ClientError> {
        self.reply()
    }

    fn send(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
        more: bool,
    ) -> Result<(), ClientError> {
        let malformed = |err: serde_json::Error| ClientError::Malformed(err.to_string());
        let parameters = match serde_json::to_value(parameters).map_err(malformed)? {
            Value::Object(map) => Some(map),
            _ => None,
        };
        let call = Call {
            method: method.to_owned(),
            parameters,
            more,
            oneway: false,
            upgrade: false,
        };
        let mut message = serde_json::to_vec(&call).map_err(malformed)?;
        message.push(0);
        match self.stream.write_all(&message) {
            // It may have said why before it closed.
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done.map_err(ClientError::Io),
        }
    }

    /// A reply, and whether more follow.
    fn reply<T: DeserializeOwned>(&mut self) -> Result<(T, bool), ClientError> {
        let message = self.receive()?;
        let malformed = |err: serde_json::Error| ClientError::Malformed(err.to_string());
        let mut reply: Map<String, Value> = serde_json::from_slice(&message).map_err(malformed)?;
        let parameters = reply.remove("parameters").unwrap_or_default();
        if let Some(Value::String(error)) = reply.remove("error") {
            let parameters = match parameters {
                Value::Object(map) => map,
                _ => Map::new(),
            };
            return Err(ClientError::Refused(error, parameters));
        }
        let more = reply.remove("continues") == Some(Value::Bool(true));
        let parameters = match parameters {
            Value::Null => Value::Object(Map::new()),
            other => other,
        };
        let parameters = T::deserialize(parameters).map_err(malformed)?;
        Ok((parameters, more))
    }

    fn receive(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.frames.take() {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(TooLong) => return Err(ClientError::Malformed("a reply without end".into())),
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => self.frames.feed(&buffer[..count]),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if err.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(ClientError::Closed);
                }
                Err(err) => return Err(ClientError::Io(err)),
            }
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Connect(err) => write!(f, "unable to connect: {err}"),
            ClientError::Io(err) if err.kind() == io::ErrorKind::WouldBlock => {
                f.write_str("the daemon does not answer")
            }
            ClientError::Io(err) => write!(f, "unable to speak to the daemon: {err}"),
            ClientError::Closed => f.write_str("the daemon closed the connection"),
            ClientError::Malformed(what) => write!(f, "the daemon's answer makes no sense: {what}"),
            ClientError::Refused(name, parameters) if parameters.is_empty() => f.write_str(name),
            ClientError::Refused(name, parameters) => {
                write!(f, "{name}: {}", Value::Object(parameters.clone()))
            }
        }
    }
}

impl std::error::Error for ClientError {}
