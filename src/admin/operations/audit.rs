//! `audit.*`: the audit log, for those who may not read its files.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;

use serde_json::{Value, json};

use super::{Failed, Kind, Outcome, Request, Usherd, to};
use crate::admin::audit::verify::{Verdict, walk};
use crate::admin::audit::{Entry, FOLDER, What};

/// Breaks of the chain that are told.
const MOST_BREAKS: usize = 100;

/// The latest requests that are asked for. A service sees what it has asked itself.
pub fn query(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let parameters = &request.parameters;
    let own = request.caller.service.as_deref();
    let service = own.or(parameters.some_text("service"));
    let operation = parameters.some_text("operation");
    let uid = parameters.some_number("uid");
    let denied = parameters.flag("denied");
    let limit = parameters.some_number("limit").unwrap_or(100);
    let limit = usize::try_from(limit).unwrap_or(1).max(1);
    let is_wanted = |shown: &Value| {
        service.is_none_or(|name| shown["service"] == name)
            && operation.is_none_or(|name| shown["operation"] == name)
            && uid.is_none_or(|uid| shown["uid"] == uid)
            && (!denied || shown["decision"] == "denied")
    };
    let mut found: VecDeque<Value> = VecDeque::new();
    let mut more = false;
    read(request, |entry| {
        if let What::Done {
            of,
            result,
            why,
            ms,
        } = &entry.what
        {
            let asked = found.iter_mut().rev().find(|shown| shown["n"] == *of);
            if let Some(Value::Object(asked)) = asked {
                asked.insert("result".into(), json!(result));
                asked.insert("why".into(), json!(why));
                asked.insert("ms".into(), json!(ms));
            }
        }
        if let Some(shown) = shown(entry).filter(is_wanted) {
            found.push_back(shown);
            if found.len() > limit {
                found.pop_front();
                more = true;
            }
        }
        true
    })?;
    Ok(json!({ "requests": found, "more": more }))
}

pub fn verify(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    usherd.progress("reading");
    let verdict = read(request, |_| true)?;
    let breaks: Vec<Value> = (verdict.breaks.iter().take(MOST_BREAKS))
        .map(|one| {
            let file = one.file.file_name().map(|name| name.to_string_lossy());
            json!({ "file": file, "line": one.line, "what": one.what })
        })
        .collect();
    Ok(json!({
        "intact": breaks.is_empty(),
        "entries": verdict.entries,
        "first": verdict.first,
        "last": verdict.last,
        "breaks": breaks,
    }))
}

fn read(request: &Request, each: impl FnMut(&Entry) -> bool) -> Result<Verdict, Failed> {
    let dir = request.places.state_dir.join(FOLDER);
    match walk(&dir, each) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            let why = format!("there is no audit log in {}", dir.display());
            Err(Failed::new(Kind::NotFound, why))
        }
        read => to(
            format_args!("read the audit log in {}", dir.display()),
            read,
        ),
    }
}

/// A request, without what came of it; `None`: it is none.
fn shown(entry: &Entry) -> Option<Value> {
    let mut shown = match &entry.what {
        asked @ What::Asked { .. } => with(asked, "allowed"),
        denied @ What::Denied { .. } => with(denied, "denied"),
        What::Opened { .. } | What::Done { .. } | What::Dropped { .. } => return None,
    };
    shown["n"] = json!(entry.n);
    shown["at"] = json!(entry.at);
    Some(shown)
}

fn with(what: &What, decision: &str) -> Value {
    let mut shown = serde_json::to_value(what).unwrap_or_default();
    if let Some(shown) = shown.as_object_mut() {
        shown.remove("kind");
        shown.insert("decision".into(), json!(decision));
    }
    shown
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::admin::audit::AuditLog;
    use crate::admin::audit::log::Bounds;
    use crate::admin::operations::fake::{Fake, request_in};

    fn asked(service: Option<&str>, operation: &str) -> What {
        What::Asked {
            uid: 7,
            pid: 1,
            service: service.map(str::to_owned),
            instance: None,
            operation: operation.into(),
            parameters: json!({}),
            rule: "root".into(),
        }
    }

    #[test]
    fn a_service_sees_its_own_requests_with_what_came_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let bounds = Bounds {
            max_size: 1 << 20,
            keep: 2,
        };
        let mut log = AuditLog::open(&dir.path().join(FOLDER), bounds).unwrap();
        let of = log.append(asked(Some("a"), "backup.create")).unwrap();
        log.append(asked(Some("b"), "backup.create")).unwrap();
        let done = What::Done {
            of,
            result: "ok".into(),
            why: None,
            ms: 3,
        };
        log.append(done).unwrap();
        log.append(asked(None, "Ban")).unwrap();
        let mut fake = Fake::new(|_, _| panic!("it has no calls"));
        let all = query(&request_in(dir.path(), json!({})), &mut fake).unwrap();
        assert_eq!(all["requests"].as_array().unwrap().len(), 3);
        let mut own = request_in(dir.path(), json!({ "service": "b" }));
        own.caller.service = Some("a".into());
        let own = query(&own, &mut fake).unwrap();
        assert_eq!(own["requests"].as_array().unwrap().len(), 1);
        assert_eq!(own["requests"][0]["result"], "ok");
        let last = query(&request_in(dir.path(), json!({ "limit": 1 })), &mut fake).unwrap();
        assert_eq!(last["requests"][0]["operation"], "Ban");
        assert_eq!(last["more"], true);
        let verdict = verify(&request_in(dir.path(), json!({})), &mut fake).unwrap();
        assert_eq!(verdict["intact"], true);
        let file = dir.path().join(FOLDER).join("audit.log");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("\"b\"", "\"c\"")).unwrap();
        let verdict = verify(&request_in(dir.path(), json!({})), &mut fake).unwrap();
        assert_eq!(verdict["intact"], false);
    }
}
