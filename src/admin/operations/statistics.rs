//! `stats.*`: what usherd has counted, as its status socket tells.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use super::{Failed, Kind, Outcome, Request, Usherd, to};
use crate::control::client::{Client, ClientError};
use crate::control::{STATUS, STATUS_SOCKET, socket_path};

/// Counters, and how the service does; of one, or of all.
pub fn read(request: &Request, _: &mut dyn Usherd) -> Outcome {
    // A service without a list of others sees itself.
    let service = request.parameters.some_text("service");
    let mut link = connect(request)?;
    let counted: Value = ask(&mut link, "GetStatistics", service)?;
    let services: Value = ask(&mut link, "GetServices", service)?;
    let histograms = ["match_latency", "start_latency", "run_time"];
    let mut total = counted["total"].clone();
    if let Some(total) = total.as_object_mut() {
        histograms.iter().for_each(|key| drop(total.remove(*key)));
    }
    Ok(json!({ "total": total, "services": shown(&services) }))
}

/// The status socket of this usherd.
pub fn connect(request: &Request) -> Result<Client, Failed> {
    let path = request.places.runtime_dir.join(STATUS_SOCKET);
    let (short, _folder) = to("name the status socket", socket_path(&path))?;
    Client::connect(&short).map_err(|err| {
        let why = format!("unable to connect to {}: {err}", path.display());
        Failed::new(Kind::Unavailable, why)
    })
}

pub fn ask(link: &mut Client, method: &str, service: Option<&str>) -> Result<Value, Failed> {
    let method = format!("{}.{method}", STATUS.name);
    let parameters = match service {
        Some(name) => json!({ "service": name }),
        None => json!({}),
    };
    link.call(&method, &parameters).map_err(|err| match err {
        ClientError::Refused(name, _) if name.ends_with(".NoSuchService") => {
            let why = format!("there is no service \"{}\"", service.unwrap_or_default());
            Failed::new(Kind::NotFound, why)
        }
        err => Failed::new(Kind::Failed, format!("{method}: {err}")),
    })
}

/// Of the reply of `GetServices`, what tells how they do.
pub fn shown(services: &Value) -> Vec<Value> {
    let all = services["services"].as_array().into_iter().flatten();
    let keys = [
        "name",
        "state",
        "reason",
        "running",
        "accepted",
        "refused",
        "failed",
        "last_exit",
    ];
    all.map(|service| {
        let kept = keys.iter().filter(|key| !service[**key].is_null());
        kept.map(|key| ((*key).to_owned(), service[*key].clone()))
            .collect()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let services = json!({ "services": [{ "name": "a", "running": 2, "state": "full", "listeners": [] }] });
        let expected = json!({ "name": "a", "running": 2, "state": "full" });
        assert_eq!(shown(&services), [expected]);
    }
}
