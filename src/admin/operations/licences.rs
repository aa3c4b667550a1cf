//! `license.*`: named seats, of which there is a number, each bound to the life of
//! an instance.
//!
//! How many seats a name has is in `{state_dir}/licenses/numbers.toml`, the operator's: lines of
//! `NAME = NUMBER`. Who sits is in `{state_dir}/licenses/seats.json`. A seat is free again
//! when its instance has ended, be it by a crash or with the host: nobody has to tidy up.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Failed, Kind, Outcome, Request, Usherd, lock, to};

const NUMBERS: &str = "licenses/numbers.toml";
const FOLDER: &str = "licenses";
const SEATS: &str = "seats.json";
/// Octets of either file.
const LONGEST: u64 = 4 << 20;

/// What an instance has of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seat {
    name: String,
    seats: u32,
    service: String,
    instance: u64,
    pid: i32,
    /// With `pid` and `boot`, no other process has it.
    started_us: u64,
    boot: String,
}

/// A running instance.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Running {
    id: u64,
    service: String,
    pid: i32,
    started_us: u64,
}

/// Takes seats for an instance: the caller's own, or the one that an operator names.
pub fn acquire(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let name = request.parameters.text("name")?;
    let wanted = seats(request)?;
    with_seats(request, usherd, |all, running, boot| {
        let number = number_of(&request.places.state_dir, name)?;
        let instance = instance(request)?;
        let one = running.iter().find(|one| one.id == instance);
        let one = one.ok_or_else(|| {
            Failed::new(Kind::NotFound, format!("instance {instance} does not run"))
        })?;
        let taken: u32 = of(all, name).map(|seat| seat.seats).sum();
        let free = number.saturating_sub(taken);
        if wanted > free {
            let why =
                format!("{taken} of {number} seats of \"{name}\" are taken; {wanted} are not free");
            return Err(Failed::new(Kind::Busy, why));
        }
        let own = all
            .iter_mut()
            .find(|seat| seat.name == name && seat.instance == instance);
        match own {
            Some(seat) => seat.seats += wanted,
            None => all.push(Seat {
                name: name.to_owned(),
                seats: wanted,
                service: one.service.clone(),
                instance,
                pid: one.pid,
                started_us: one.started_us,
                boot: boot.to_owned(),
            }),
        }
        Ok(json!({ "name": name, "instance": instance, "seats": wanted, "free": free - wanted }))
    })
}

/// Gives seats back before the instance ends; all that it has, if no number is given.
pub fn release(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let name = request.parameters.text("name")?;
    let instance = instance(request)?;
    let asked = request.parameters.some_number("seats");
    with_seats(request, usherd, |all, _, _| {
        let at = all
            .iter()
            .position(|seat| seat.name == name && seat.instance == instance);
        let seat = at.and_then(|at| all.get_mut(at).map(|seat| (at, seat)));
        let Some((at, seat)) = seat else {
            let why = format!("instance {instance} has no seat of \"{name}\"");
            return Err(Failed::new(Kind::NotFound, why));
        };
        let wanted = asked.map_or(seat.seats, |seats| u32::try_from(seats).unwrap_or(u32::MAX));
        if wanted > seat.seats {
            let why = format!(
                "instance {instance} has {} seats of \"{name}\", not {wanted}",
                seat.seats
            );
            return Err(Failed::new(Kind::Invalid, why));
        }
        seat.seats -= wanted;
        if seat.seats == 0 {
            all.remove(at);
        }
        Ok(json!({ "name": name, "instance": instance, "seats": wanted }))
    })
}

/// Who has what. A service sees numbers, and its own instances.
pub fn status(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let only = request.parameters.some_text("name");
    let numbers = numbers(&request.places.state_dir)?;
    with_seats(request, usherd, |all, _, _| {
        let own = request.caller.service.as_deref();
        let names = numbers
            .iter()
            .filter(|(name, _)| only.is_none_or(|one| one == *name));
        let shown: Vec<Value> = names
            .map(|(name, number)| {
                let taken: u32 = of(all, name).map(|seat| seat.seats).sum();
                let seen = of(all, name).filter(|seat| own.is_none_or(|own| own == seat.service));
                let holders: Vec<Value> = seen
                    .map(|seat| {
                        let Seat { service, instance, seats, .. } = seat;
                        json!({ "service": service, "instance": instance, "seats": seats })
                    })
                    .collect();
                let free = number.saturating_sub(taken);
                json!({ "name": name, "seats": number, "taken": taken, "free": free, "holders": holders })
            })
            .collect();
        if let (Some(name), true) = (only, shown.is_empty()) {
            return Err(unknown(name));
        }
        Ok(json!({ "licenses": shown }))
    })
}

fn of<'a>(all: &'a [Seat], name: &'a str) -> impl Iterator<Item = &'a Seat> {
    all.iter().filter(move |seat| seat.name == name)
}

fn seats(request: &Request) -> Result<u32, Failed> {
    let seats = request.parameters.some_number("seats").unwrap_or(1);
    let seats = u32::try_from(seats).ok().filter(|seats| *seats > 0);
    seats.ok_or_else(|| Failed::new(Kind::Invalid, "seats are one or more"))
}

/// A service asks for the instance that asks, and for no other.
fn instance(request: &Request) -> Result<u64, Failed> {
    let named = request.parameters.some_number("instance");
    let named = named.and_then(|id| u64::try_from(id).ok());
    match (request.caller.instance, named) {
        (Some(own), Some(other)) if own != other => {
            let why = "a service asks for seats of the instance that asks";
            Err(Failed::new(Kind::Forbidden, why))
        }
        (Some(own), _) => Ok(own),
        (None, Some(named)) => Ok(named),
        (None, None) => {
            let why = "whose seats are meant: name an instance";
            Err(Failed::new(Kind::Invalid, why))
        }
    }
}

/// Lets `act` change who sits, alone, with those gone whose instances have ended.
fn with_seats(
    request: &Request,
    usherd: &mut dyn Usherd,
    act: impl FnOnce(&mut Vec<Seat>, &[Running], &str) -> Outcome,
) -> Outcome {
    let dir = request.places.state_dir.join(FOLDER);
    let _lock = lock(&dir, request)?;
    // Asked for behind the lock: what runs now is not older than what the file says.
    let told = usherd.call("GetRunning", json!({}))?;
    let running: Vec<Running> = to(
        "understand what runs",
        serde_json::from_value(told["instances"].clone()),
    )?;
    const BOOT: &str = "/proc/sys/kernel/random/boot_id";
    let boot = to(format_args!("read {BOOT}"), fs::read_to_string(BOOT))?;
    let boot = boot.trim();
    let file = dir.join(SEATS);
    let mut all: Vec<Seat> = match read(&file)? {
        Some(text) => to(
            format_args!("read {}", file.display()),
            serde_json::from_str(&text),
        )?,
        None => Vec::new(),
    };
    let before = all.clone();
    all.retain(|seat| sits(seat, &running, boot));
    let outcome = act(&mut all, &running, boot)?;
    if all != before && !request.dry_run {
        let text = to("write the seats", serde_json::to_string(&all))?;
        to(
            format_args!("write {}", file.display()),
            write(&file, &text),
        )?;
    }
    Ok(outcome)
}

fn sits(seat: &Seat, running: &[Running], boot: &str) -> bool {
    seat.boot == boot
        && running.iter().any(|one| {
            (one.id, one.pid, one.started_us) == (seat.instance, seat.pid, seat.started_us)
        })
}

/// Of all names, from the operator's file.
fn numbers(state_dir: &Path) -> Result<BTreeMap<String, u32>, Failed> {
    let file = state_dir.join(NUMBERS);
    let text = read(&file)?.unwrap_or_default();
    to(
        format_args!("read {}", file.display()),
        toml::from_str(&text),
    )
}

fn number_of(state_dir: &Path, name: &str) -> Result<u32, Failed> {
    let found = numbers(state_dir)?.get(name).copied();
    found.ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Failed {
    let why = format!(
        "no number of seats is set for \"{name}\": `{name} = NUMBER` in {NUMBERS} of usherd's state directory"
    );
    Failed::new(Kind::NotFound, why)
}

fn read(file: &Path) -> Result<Option<String>, Failed> {
    let opened = match File::open(file) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened,
    };
    let what = format!("read {}", file.display());
    let mut text = String::new();
    to(
        &what,
        to(&what, opened)?.take(LONGEST).read_to_string(&mut text),
    )?;
    Ok(Some(text))
}

/// Whole or not at all.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let beside = file.with_extension("new");
    let mut new = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    fs::rename(&beside, file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::admin::operations::fake::{Fake, request_in};

    fn runs(ids: &'static [u64]) -> Fake<'static> {
        Fake::new(move |method, _| {
            assert_eq!(method, "GetRunning");
            let one = |id: &u64| json!({ "id": id, "service": format!("s{}", id % 2), "pid": 100 + id, "started_us": 7 * id });
            Ok(json!({ "instances": ids.iter().map(one).collect::<Vec<_>>() }))
        })
    }

    fn licensed(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        fs::write(dir.path().join(NUMBERS), text).unwrap();
        dir
    }

    #[test]
    fn seats_are_free_again_when_their_instance_has_ended() {
        let dir = licensed("cad = 3\n");
        let ask = |instance: u64, seats: u64, running| {
            let asked = json!({ "name": "cad", "seats": seats, "instance": instance });
            acquire(&request_in(dir.path(), asked), &mut runs(running))
        };
        assert_eq!(ask(1, 2, &[1, 2]).unwrap()["free"], 1);
        assert_eq!(ask(2, 2, &[1, 2]).unwrap_err().kind, Kind::Busy);
        assert_eq!(ask(2, 1, &[1, 2]).unwrap()["free"], 0);
        assert_eq!(ask(2, 1, &[1, 2]).unwrap_err().kind, Kind::Busy);
        assert_eq!(ask(3, 1, &[1, 2]).unwrap_err().kind, Kind::NotFound);
        // The first one has crashed.
        assert_eq!(ask(2, 2, &[2]).unwrap()["free"], 0);
        let asked = json!({ "name": "cad", "instance": 2 });
        let given = release(&request_in(dir.path(), asked.clone()), &mut runs(&[2])).unwrap();
        assert_eq!(given["seats"], 3);
        let again = release(&request_in(dir.path(), asked), &mut runs(&[2])).unwrap_err();
        assert_eq!(again.kind, Kind::NotFound);
    }

    #[test]
    fn another_process_with_the_number_of_one_that_has_ended_does_not_sit() {
        let seat = Seat {
            name: "cad".into(),
            seats: 1,
            service: "s".into(),
            instance: 1,
            pid: 101,
            started_us: 7,
            boot: "b".into(),
        };
        let one = |id, pid, started_us| Running {
            id,
            service: "s".into(),
            pid,
            started_us,
        };
        assert!(sits(&seat, &[one(1, 101, 7)], "b"));
        assert!(!sits(&seat, &[one(1, 101, 8)], "b"));
        assert!(!sits(&seat, &[one(2, 101, 7)], "b"));
        assert!(!sits(&seat, &[one(1, 101, 7)], "after a restart"));
    }

    #[test]
    fn a_service_asks_for_itself_and_sees_itself() {
        let dir = licensed("cad = 3\nother = 1\n");
        let of_service = |parameters, instance| {
            let mut request = request_in(dir.path(), parameters);
            request.caller.service = Some("s1".into());
            request.caller.instance = Some(instance);
            request
        };
        let fake = || runs(&[1, 2, 3]);
        let foreign = of_service(json!({ "name": "cad", "instance": 2 }), 1);
        assert_eq!(
            acquire(&foreign, &mut fake()).unwrap_err().kind,
            Kind::Forbidden
        );
        let taken = acquire(&of_service(json!({ "name": "cad" }), 1), &mut fake()).unwrap();
        assert_eq!((&taken["instance"], &taken["free"]), (&json!(1), &json!(2)));
        let operator = request_in(dir.path(), json!({ "name": "cad", "instance": 2 }));
        acquire(&operator, &mut fake()).unwrap();
        let seen = status(&of_service(json!({ "name": "cad" }), 3), &mut fake()).unwrap();
        assert_eq!(seen["licenses"][0]["taken"], 2);
        assert_eq!(
            seen["licenses"][0]["holders"],
            json!([{ "service": "s1", "instance": 1, "seats": 1 }])
        );
        let all = status(&request_in(dir.path(), json!({})), &mut fake()).unwrap();
        assert_eq!(all["licenses"].as_array().unwrap().len(), 2);
        let unset = request_in(dir.path(), json!({ "name": "none", "instance": 1 }));
        assert_eq!(
            acquire(&unset, &mut fake()).unwrap_err().kind,
            Kind::NotFound
        );
    }
}
