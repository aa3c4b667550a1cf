//! What the helper says to the front, as octets and back.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::control::caller::{Sees, Who};
use crate::control::types::EventKind;
use crate::helper::octets::{Bytes, put_ip, put_u32, put_u64};
use crate::helper::outcome::{Outcome, Usage};
use crate::helper::told::Told;
use crate::helper::wire::{MAX_DESCRIPTORS, ProtocolError, Refusal};
use crate::ids::{ConnectionId, InstanceId, ListenerId, ServiceId};
use crate::sandbox::Step;

/// What the helper tells the front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A plan (see `front::plan`) in the memfd that comes with it.
    Plan,
    /// The listeners whose descriptors come with it, in order.
    Listeners(Vec<ListenerId>),
    /// Lines that instances of `service` write to their stderr, on the pipe that comes with it.
    Stderr { service: ServiceId },
    /// Log to the descriptor that comes with it from now on.
    Log,
    /// To a new front: this instance is running. `source` is the peer it serves.
    Running {
        instance: InstanceId,
        service: ServiceId,
        listener: ListenerId,
        source: Option<IpAddr>,
        connection: ConnectionId,
        pid: i32,
        /// Milliseconds since its start.
        age: u64,
    },
    Started {
        connection: ConnectionId,
        instance: InstanceId,
        pid: i32,
    },
    Refused {
        connection: ConnectionId,
        reason: Refusal,
    },
    /// No process came of it: `errno` of the step that failed, before or after the clone.
    Failed {
        connection: ConnectionId,
        step: Step,
        errno: i32,
    },
    Exited {
        instance: InstanceId,
        outcome: Outcome,
    },
    /// Take no new request; end when the built-in services are done.
    Drain,
    /// The status socket: serve it.
    StatusSocket,
    /// The answer to [`Request::Identify`].
    Caller { caller: u64, who: Who },
    /// What an instance uses.
    Usage { instance: InstanceId, usage: Usage },
    /// The answer to [`Request::Measure`] is complete.
    Measured,
    /// An operator drained this service, or let it go on.
    Hold { service: ServiceId, held: bool },
    /// All bans in force (see `front::bans`), in the memfd that comes with it.
    Bans,
    /// Something happened here: for those who watch events.
    Event {
        kind: EventKind,
        service: Option<ServiceId>,
        text: String,
    },
    /// Another front takes over: accept nothing more, give back what nobody
    /// serves yet, and end when the built-in services and relays are done.
    Retire,
    /// A connection that came in at `listener`, which the front before this
    /// one gave back.
    Accepted {
        listener: ListenerId,
        told: Option<Box<Told>>,
    },
}

/// The longest text of an event, in octets.
pub const MAX_EVENT: usize = 1024;

impl Notice {
    /// Appends this notice to a packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Notice::Plan => out.push(1),
            Notice::Listeners(ids) => {
                out.push(2);
                put_u32(out, u32::try_from(ids.len()).unwrap_or(u32::MAX));
                ids.iter().for_each(|id| put_u32(out, id.0));
            }
            Notice::Stderr { service } => {
                out.push(3);
                put_u32(out, service.0);
            }
            Notice::Log => out.push(4),
            Notice::Running {
                instance,
                service,
                listener,
                source,
                connection,
                pid,
                age,
            } => {
                out.push(5);
                put_u64(out, instance.0);
                put_u32(out, service.0);
                put_u32(out, listener.0);
                put_ip(out, *source);
                put_u64(out, connection.0);
                out.extend_from_slice(&pid.to_le_bytes());
                put_u64(out, *age);
            }
            Notice::Started {
                connection,
                instance,
                pid,
            } => {
                out.push(6);
                put_u64(out, connection.0);
                put_u64(out, instance.0);
                out.extend_from_slice(&pid.to_le_bytes());
            }
            Notice::Refused { connection, reason } => {
                out.push(7);
                put_u64(out, connection.0);
                out.push(reason.code());
            }
            Notice::Failed {
                connection,
                step,
                errno,
            } => {
                out.push(8);
                put_u64(out, connection.0);
                out.push(step.code());
                out.extend_from_slice(&errno.to_le_bytes());
            }
            Notice::Exited { instance, outcome } => {
                out.push(9);
                put_u64(out, instance.0);
                outcome.encode(out);
            }
            Notice::Drain => out.push(10),
            Notice::StatusSocket => out.push(11),
            Notice::Caller { caller, who } => {
                out.push(12);
                put_u64(out, *caller);
                put_who(out, *who);
            }
            Notice::Usage { instance, usage } => {
                out.push(13);
                put_u64(out, instance.0);
                usage.encode(out);
            }
            Notice::Measured => out.push(14),
            Notice::Hold { service, held } => {
                out.push(15);
                put_u32(out, service.0);
                out.push(u8::from(*held));
            }
            Notice::Bans => out.push(16),
            Notice::Event {
                kind,
                service,
                text,
            } => {
                out.push(17);
                out.push(kind.code());
                out.push(u8::from(service.is_some()));
                put_u32(out, service.map_or(0, |service| service.0));
                let text = cut(text, MAX_EVENT);
                put_u32(out, u32::try_from(text.len()).unwrap_or(0));
                out.extend_from_slice(text.as_bytes());
            }
            Notice::Retire => out.push(18),
            Notice::Accepted { listener, told } => {
                out.push(19);
                put_u32(out, listener.0);
                Told::put(told.as_deref(), out);
            }
        }
    }

    /// Reads every notice of one packet.
    pub fn decode_all(packet: &[u8]) -> Result<Vec<Self>, ProtocolError> {
        let mut bytes = Bytes(packet);
        let mut notices = Vec::new();
        while !bytes.0.is_empty() {
            notices.push(Self::decode(&mut bytes)?);
        }
        Ok(notices)
    }

    fn decode(bytes: &mut Bytes) -> Result<Self, ProtocolError> {
        Ok(match bytes.u8()? {
            1 => Notice::Plan,
            2 => {
                let count = bytes.u32()?;
                if count as usize > MAX_DESCRIPTORS {
                    return Err(ProtocolError::BadValue("number of listeners"));
                }
                Notice::Listeners(
                    (0..count)
                        .map(|_| bytes.u32().map(ListenerId))
                        .collect::<Result<_, _>>()?,
                )
            }
            3 => Notice::Stderr {
                service: ServiceId(bytes.u32()?),
            },
            4 => Notice::Log,
            5 => Notice::Running {
                instance: InstanceId(bytes.u64()?),
                service: ServiceId(bytes.u32()?),
                listener: ListenerId(bytes.u32()?),
                source: bytes.ip()?,
                connection: ConnectionId(bytes.u64()?),
                pid: bytes.i32()?,
                age: bytes.u64()?,
            },
            6 => Notice::Started {
                connection: ConnectionId(bytes.u64()?),
                instance: InstanceId(bytes.u64()?),
                pid: bytes.i32()?,
            },
            7 => Notice::Refused {
                connection: ConnectionId(bytes.u64()?),
                reason: Refusal::from_code(bytes.u8()?)
                    .ok_or(ProtocolError::BadValue("refusal"))?,
            },
            8 => Notice::Failed {
                connection: ConnectionId(bytes.u64()?),
                step: Step::from_code(bytes.u8()?).ok_or(ProtocolError::BadValue("step"))?,
                errno: bytes.i32()?,
            },
            9 => Notice::Exited {
                instance: InstanceId(bytes.u64()?),
                outcome: Outcome::decode(bytes)?,
            },
            10 => Notice::Drain,
            11 => Notice::StatusSocket,
            12 => Notice::Caller {
                caller: bytes.u64()?,
                who: take_who(bytes)?,
            },
            13 => Notice::Usage {
                instance: InstanceId(bytes.u64()?),
                usage: Usage::decode(bytes)?,
            },
            14 => Notice::Measured,
            15 => Notice::Hold {
                service: ServiceId(bytes.u32()?),
                held: bytes.flag()?,
            },
            16 => Notice::Bans,
            17 => Notice::Event {
                kind: EventKind::from_code(bytes.u8()?)
                    .ok_or(ProtocolError::BadValue("kind of event"))?,
                service: {
                    let (given, service) = (bytes.flag()?, ServiceId(bytes.u32()?));
                    given.then_some(service)
                },
                text: {
                    let length = bytes.u32()? as usize;
                    String::from_utf8_lossy(bytes.slice(length)?).into_owned()
                },
            },
            18 => Notice::Retire,
            19 => Notice::Accepted {
                listener: ListenerId(bytes.u32()?),
                told: Told::take(bytes)?,
            },
            kind => return Err(ProtocolError::UnknownKind(kind)),
        })
    }
}

/// As much of `text` as fits.
fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn put_who(out: &mut Vec<u8>, who: Who) {
    put_u32(out, who.uid);
    out.extend_from_slice(&who.pid.to_le_bytes());
    let (sees, service) = match who.sees {
        Sees::Nothing => (0, ServiceId(0)),
        Sees::Everything => (1, ServiceId(0)),
        Sees::Service(service) => (2, service),
        // To the front, who changes nothing, all that look are the same.
        Sees::Looks | Sees::Operation(_) => (1, ServiceId(0)),
        Sees::Asks => (0, ServiceId(0)),
    };
    out.push(sees);
    put_u32(out, service.0);
}

fn take_who(bytes: &mut Bytes<'_>) -> Result<Who, ProtocolError> {
    let (uid, pid) = (bytes.u32()?, bytes.i32()?);
    let (sees, service) = (bytes.u8()?, ServiceId(bytes.u32()?));
    let sees = match sees {
        0 => Sees::Nothing,
        1 => Sees::Everything,
        2 => Sees::Service(service),
        _ => return Err(ProtocolError::BadValue("rights of a caller")),
    };
    Ok(Who { uid, pid, sees })
}
