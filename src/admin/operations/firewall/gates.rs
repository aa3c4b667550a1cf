//! Which ports are closed, and for whom not.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use super::super::{Caller, Failed, Kind, Outcome, Request, Usherd};
use super::table::{self, Element, Gate, What};
use super::{change, has_room, prefix, seconds, show, widest};
use crate::table::Prefix;

/// What a service's exceptions for one port come to at most, in the widest networks there
/// are: else it opens piece by piece for everybody what others closed.
const MOST_FROM: u128 = 4;

/// `firewall.close`: nobody gets a new connection to the port any more, not even who had
/// an exception; with `from`, only that exception goes.
pub fn close(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let (gate, from, seconds) = (gate(request)?, from(request)?, seconds(request));
    if from.is_some() && seconds.is_some() {
        let reason = "`for` is about closing a port, and `from` about an exception: leave one out";
        return Err(Failed::new(Kind::Invalid, reason));
    }
    change(request, |now| {
        let commands = closing(now, &gate, from, seconds, &request.caller)?;
        if commands.is_empty() {
            let from = from.as_ref().map(show).unwrap_or_default();
            let reason = format!("{} {} is not open for {from}", gate.protocol, gate.port);
            return Err(Failed::new(Kind::NotFound, reason));
        }
        Ok((commands, told(&gate, from, seconds)))
    })
}

/// `firewall.open`: an exception, for everybody or from somewhere; without `from` and `for`
/// the port is as if nobody had closed it.
pub fn open(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let (gate, from, seconds) = (gate(request)?, from(request)?, seconds(request));
    change(request, |now| {
        let commands = opening(now, &gate, from, seconds, &request.caller)?;
        Ok((commands, told(&gate, from, seconds)))
    })
}

fn closing(
    now: &[Element],
    gate: &Gate,
    from: Option<Prefix>,
    seconds: Option<u64>,
    caller: &Caller,
) -> Result<Vec<Value>, Failed> {
    let mut commands = Vec::new();
    for element in now {
        let goes = match (&element.what, from) {
            (What::Ban(_), _) => false,
            (What::Open(one, who), Some(from)) => one == gate && *who == Some(from),
            (What::Open(one, _) | What::Closed(one), None) => one == gate,
            (What::Closed(_), Some(_)) => false,
        };
        if goes {
            permit(element, gate, caller)?;
            commands.push(table::delete(&element.what));
        }
    }
    if from.is_none() {
        let (closed, by) = (What::Closed(gate.clone()), caller.name());
        has_room(now.iter().filter(|one| one.what != closed), &closed, caller)?;
        commands.push(table::add(&closed, seconds, Some(&by)));
    }
    Ok(commands)
}

fn opening(
    now: &[Element],
    gate: &Gate,
    from: Option<Prefix>,
    seconds: Option<u64>,
    caller: &Caller,
) -> Result<Vec<Value>, Failed> {
    if let (Some(from), Some(_)) = (&from, &caller.service) {
        bound(now, gate, from, caller)?;
    }
    let exception = What::Open(gate.clone(), from);
    let mut commands = Vec::new();
    for element in now {
        match &element.what {
            known if *known == exception => {
                permit(element, gate, caller)?;
                commands.push(table::delete(known));
            }
            // For everybody it is as if it were not closed.
            What::Closed(one) if one == gate && from.is_none() => {
                permit(element, gate, caller)?;
                // For good as well: then nothing is left of it.
                if seconds.is_none() {
                    commands.push(table::delete(&element.what));
                }
            }
            What::Open(one, Some(known)) if one == gate && overlap(known, from) => {
                let known = show(known);
                let (protocol, port) = (&gate.protocol, gate.port);
                let reason =
                    format!("{protocol} {port} is open for {known} already: close that first");
                return Err(Failed::new(Kind::Exists, reason));
            }
            _ => {}
        }
    }
    if from.is_some() || seconds.is_some() {
        let stays = now.iter().filter(|one| one.what != exception);
        has_room(stays, &exception, caller)?;
        commands.push(table::add(&exception, seconds, Some(&caller.name())));
    }
    Ok(commands)
}

/// A service changes what it made itself. For some addresses it may make an exception for
/// a port that others closed: that closes it no less for the rest.
fn permit(element: &Element, gate: &Gate, caller: &Caller) -> Result<(), Failed> {
    if caller.may_change(element.by()) {
        return Ok(());
    }
    let Gate { protocol, port } = gate;
    let by = element.by().unwrap_or("somebody else");
    let what = match &element.what {
        What::Open(_, None) => "open for everybody".to_owned(),
        What::Open(_, Some(from)) => format!("open for {}", show(from)),
        What::Closed(_) | What::Ban(_) => "closed".to_owned(),
    };
    let reason = format!("{protocol} {port} is {what} as {by} wanted, not this service");
    Err(Failed::new(Kind::Forbidden, reason))
}

/// Fails if `from`, with what the service has excepted already, is too much of the world.
fn bound(now: &[Element], gate: &Gate, from: &Prefix, caller: &Caller) -> Result<(), Failed> {
    let Gate { protocol, port } = gate;
    let widest = widest(from);
    if from.bits < widest {
        let reason = format!("{from} is too wide for a service: at least /{widest}");
        return Err(Failed::new(Kind::Forbidden, reason));
    }
    // Shares of all addresses that there are.
    let share = |bits: u8| u128::MAX.checked_shr(bits.into()).unwrap_or(0);
    let by = caller.name();
    let known = now.iter().filter_map(|element| match &element.what {
        What::Open(one, Some(known)) if one == gate && element.by() == Some(&*by) => Some(known),
        _ => None,
    });
    // The same once more takes its own place.
    let other = known.filter(|known| *known != from && known.addr.is_ipv4() == from.addr.is_ipv4());
    let all = other.fold(share(from.bits), |sum, known| {
        sum.saturating_add(share(known.bits))
    });
    if all > MOST_FROM * share(widest) {
        let reason = format!(
            "{protocol} {port} would be open for too many: what a service excepts for a port \
             is together no more than {MOST_FROM} networks of /{widest}"
        );
        return Err(Failed::new(Kind::Forbidden, reason));
    }
    Ok(())
}

/// The set holds none that is within another one.
fn overlap(known: &Prefix, from: Option<Prefix>) -> bool {
    from.is_some_and(|from| known.contains(from.addr) || from.contains(known.addr))
}

fn told(gate: &Gate, from: Option<Prefix>, seconds: Option<u64>) -> Value {
    json!({
        "port": gate.port,
        "protocol": gate.protocol,
        "from": from.as_ref().map(show),
        "seconds": seconds,
    })
}

fn gate(request: &Request) -> Result<Gate, Failed> {
    let given = &request.parameters;
    let port = given.number("port")?;
    let bad = |_| Failed::new(Kind::Invalid, format!("there is no port {port}"));
    Ok(Gate {
        protocol: given.text("protocol")?.to_owned(),
        port: port.try_into().map_err(bad)?,
    })
}

fn from(request: &Request) -> Result<Option<Prefix>, Failed> {
    let given = request
        .parameters
        .some_text("from")
        .map(prefix)
        .transpose()?;
    match given {
        Some(all) if all.bits == 0 => {
            let reason = format!("`from` is everybody ({all}): leave it out");
            Err(Failed::new(Kind::Invalid, reason))
        }
        given => Ok(given),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn tcp(port: u16) -> Gate {
        Gate {
            protocol: "tcp".into(),
            port,
        }
    }

    fn there(what: What) -> Element {
        Element {
            what,
            seconds_left: None,
            comment: Some("uid 0".into()),
        }
    }

    fn caller(service: Option<&str>) -> Caller {
        Caller {
            uid: 0,
            service: service.map(str::to_owned),
            instance: None,
        }
    }

    fn add(what: &What, seconds: Option<u64>) -> Value {
        table::add(what, seconds, Some("uid 0"))
    }

    fn closing(
        now: &[Element],
        gate: &Gate,
        from: Option<Prefix>,
        seconds: Option<u64>,
    ) -> Vec<Value> {
        super::closing(now, gate, from, seconds, &caller(None)).unwrap()
    }

    fn opening(
        now: &[Element],
        gate: &Gate,
        from: Option<Prefix>,
        seconds: Option<u64>,
    ) -> Result<Vec<Value>, Failed> {
        super::opening(now, gate, from, seconds, &caller(None))
    }

    #[test]
    fn a_service_changes_its_own_alone() {
        let mail = caller(Some("mail"));
        let its = |what: What| Element {
            comment: Some("service mail".into()),
            ..there(what)
        };
        let from: Option<Prefix> = Some("192.0.2.0/24".parse().unwrap());
        let (closed, open) = (What::Closed(tcp(22)), What::Open(tcp(22), from));
        let kind = |done: Result<Vec<Value>, Failed>| done.map_err(|failed| failed.kind);
        let close = |now: Element, from| kind(super::closing(&[now], &tcp(22), from, None, &mail));
        let open_for = |now: Element, from, seconds| {
            kind(super::opening(&[now], &tcp(22), from, seconds, &mail))
        };
        let no = Err(Kind::Forbidden);
        for (other, own) in [(&closed, &closed), (&open, &open)] {
            assert_eq!(close(there(other.clone()), None), no);
            assert_eq!(close(its(own.clone()), None).unwrap().len(), 2);
        }
        assert_eq!(close(there(open.clone()), from), no);
        assert_eq!(close(its(open.clone()), from).unwrap().len(), 1);
        for seconds in [None, Some(9)] {
            assert_eq!(open_for(there(closed.clone()), None, seconds), no);
            assert_eq!(
                open_for(its(closed.clone()), None, seconds).unwrap().len(),
                1
            );
        }
        assert_eq!(open_for(there(open.clone()), from, None), no);
        assert_eq!(open_for(its(open), from, None).unwrap().len(), 2);
        let exception = open_for(there(closed), from, Some(9)).unwrap();
        assert_eq!(
            exception[0]["add"]["element"]["elem"][0]["elem"]["comment"],
            "service mail"
        );
    }

    #[test]
    fn a_service_does_not_open_for_everybody_what_others_closed() {
        let mail = caller(Some("mail"));
        let mut now = vec![there(What::Closed(tcp(22)))];
        let mut open = |from: &str, caller: &Caller| {
            let from = Some(from.parse().unwrap());
            let opened = super::opening(&now, &tcp(22), from, None, caller);
            let kind = opened.map_err(|failed| failed.kind);
            if kind.is_ok() {
                now.push(Element {
                    comment: Some(caller.name()),
                    ..there(What::Open(tcp(22), from))
                });
            }
            kind.map(|commands| commands.len())
        };
        let no = Err(Kind::Forbidden);
        for wide in [
            "0.0.0.0/1",
            "128.0.0.0/1",
            "10.0.0.0/7",
            "::/1",
            "8000::/1",
            "2000::/15",
        ] {
            assert_eq!(open(wide, &mail), no, "{wide}");
        }
        // Nor in pieces.
        for number in 1..=4 {
            assert_eq!(open(&format!("{number}.0.0.0/8"), &mail), Ok(1));
            assert_eq!(open(&format!("200{number}::/16"), &mail), Ok(1));
        }
        for more in ["5.0.0.0/8", "5.0.0.1", "2005::/16", "2005::/64"] {
            assert_eq!(open(more, &mail), no, "{more}");
        }
        // What it has may get a new time, and others are not bound by it.
        assert_eq!(open("4.0.0.0/8", &mail), Ok(2));
        assert_eq!(open("5.0.0.0/8", &caller(Some("ftp"))), Ok(1));
        assert_eq!(open("128.0.0.0/1", &caller(None)), Ok(1));
    }

    #[test]
    fn closing_takes_the_exceptions_back() {
        let from: Prefix = "192.0.2.0/24".parse().unwrap();
        let exception = What::Open(tcp(22), Some(from));
        let now = [
            there(exception.clone()),
            there(What::Open(tcp(25), Some(from))),
            there(What::Closed(tcp(22))),
        ];
        let all = closing(&now, &tcp(22), None, Some(9));
        let wanted = [
            table::delete(&exception),
            table::delete(&What::Closed(tcp(22))),
            add(&What::Closed(tcp(22)), Some(9)),
        ];
        assert_eq!(all, wanted);
        assert_eq!(
            closing(&now, &tcp(22), Some(from), None),
            [table::delete(&exception)]
        );
        assert!(closing(&now, &tcp(26), Some(from), None).is_empty());
    }

    #[test]
    fn opening_for_good_leaves_nothing_of_a_closed_port() {
        let from: Prefix = "192.0.2.0/24".parse().unwrap();
        let now = [
            there(What::Closed(tcp(22))),
            there(What::Open(tcp(22), None)),
        ];
        let wanted = [table::delete(&now[0].what), table::delete(&now[1].what)];
        assert_eq!(opening(&now, &tcp(22), None, None).unwrap(), wanted);
        let exception = What::Open(tcp(22), Some(from));
        let wanted = [add(&exception, Some(9))];
        assert_eq!(
            opening(&now, &tcp(22), Some(from), Some(9)).unwrap(),
            wanted
        );
        // The same once more is for its new time, one within it is refused.
        let now = [there(exception.clone())];
        let wanted = [table::delete(&exception), add(&exception, None)];
        assert_eq!(opening(&now, &tcp(22), Some(from), None).unwrap(), wanted);
        let inner = Some("192.0.2.7".parse().unwrap());
        assert_eq!(
            opening(&now, &tcp(22), inner, None).unwrap_err().kind,
            Kind::Exists
        );
        assert_eq!(opening(&now, &tcp(25), inner, None).unwrap().len(), 1);
    }
}
