#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::control::caller::{Sees, Who};
use crate::control::types::EventKind;
use crate::helper::told::Text;
use crate::sandbox::Step;

fn requests() -> Vec<Request> {
    let (connection, service, listener) = (ConnectionId(7), ServiceId(3), ListenerId(9));
    let peer = Some(Peer {
        ip: "2001:db8::1".parse().unwrap(),
        port: 69,
    });
    vec![
        Request::Start {
            connection,
            service,
            listener,
            told: None,
        },
        Request::Start {
            connection,
            service,
            listener,
            told: Some(Box::new(Told {
                rule: Some(1),
                sni: Some(Text::escaped(b"shop.example")),
                ..Told::default()
            })),
        },
        Request::StartWait {
            connection,
            service,
            listener,
            peer,
        },
        Request::StartWait {
            connection,
            service,
            listener,
            peer: None,
        },
        Request::Stop {
            instance: InstanceId(5),
        },
        Request::Alive,
        Request::ReopenLog,
        Request::Taken,
        Request::Identify { caller: 1 << 40 },
        Request::Measure,
    ]
}

#[test]
fn every_request_survives_the_wire_and_no_cut_or_addition_does() {
    for request in requests() {
        let mut packet = Vec::new();
        request.encode(&mut packet);
        let fds = request.descriptors();
        assert_eq!(Request::decode(&packet, fds), Ok(request));
        for cut in 0..packet.len() {
            assert_eq!(
                Request::decode(&packet[..cut], fds),
                Err(ProtocolError::Truncated)
            );
        }
        packet.push(0);
        assert_eq!(
            Request::decode(&packet, fds),
            Err(ProtocolError::TrailingBytes)
        );
    }
}

#[test]
fn a_wrong_number_of_descriptors_is_malformed() {
    let mut packet = Vec::new();
    Request::Alive.encode(&mut packet);
    assert_eq!(
        Request::decode(&packet, 1),
        Err(ProtocolError::DescriptorCount { want: 0, got: 1 })
    );
}

#[test]
fn notices_can_share_a_packet() {
    let outcome = Outcome {
        unseen: true,
        status: 11,
        signalled: true,
        core: true,
        micros: 1_500,
        user_micros: 700,
        system_micros: 300,
        max_rss: 4_096,
        blocks_read: 16,
        blocks_written: 8,
        oom_killed: true,
    };
    let notices = vec![
        Notice::Started {
            connection: ConnectionId(1),
            instance: InstanceId(2),
            pid: 4711,
        },
        Notice::Refused {
            connection: ConnectionId(1),
            reason: Refusal::Draining,
        },
        Notice::Failed {
            connection: ConnectionId(1),
            step: Step::Exec,
            errno: 2,
        },
        Notice::Exited {
            instance: InstanceId(2),
            outcome,
        },
        Notice::Listeners(vec![ListenerId(1), ListenerId(2)]),
        Notice::Running {
            instance: InstanceId(1),
            service: ServiceId(2),
            listener: ListenerId(3),
            source: Some("192.0.2.1".parse().unwrap()),
            connection: ConnectionId(4),
            pid: 4711,
            age: 12,
        },
        Notice::Drain,
        Notice::StatusSocket,
        Notice::Caller {
            caller: 7,
            who: Who {
                uid: 1000,
                pid: 12,
                sees: Sees::Service(ServiceId(3)),
            },
        },
        Notice::Usage {
            instance: InstanceId(1),
            usage: Usage {
                cpu: 2,
                memory: 3,
                tasks: Some(4),
                read: None,
                written: Some(6),
            },
        },
        Notice::Measured,
        Notice::Hold {
            service: ServiceId(1),
            held: true,
        },
        Notice::Bans,
        Notice::Event {
            kind: EventKind::Changed,
            service: Some(ServiceId(2)),
            text: "service \"x\" added".into(),
        },
    ];
    let mut packet = Vec::new();
    notices.iter().for_each(|n| n.encode(&mut packet));
    assert_eq!(Notice::decode_all(&packet), Ok(notices));
}
