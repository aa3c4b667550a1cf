//! A program that asks for operations: this test binary with the argument `--ask`, as a
//! server of usherd or started by a test. Its lines are orders, each answered by one
//! line of JSON.
//!
//! - `run NAME PARAMETERS`: on a connection of its own
//! - `hold`: connects once, for `again`
//! - `again NAME PARAMETERS`: on that connection
//! - `call METHOD PARAMETERS`: any method
//! - `who`: its user and process, as it knows them
//! - `leave`: ends, and a child of it answers from then on

use std::io::{BufRead, Write};
use std::path::PathBuf;

use serde_json::{Value, json};
use usherd::control::client::{Client, ClientError};

const ADMIN: &str = "org.usherd.Admin";

pub fn run() {
    let socket = std::env::args().nth(2).map(PathBuf::from);
    let told = std::env::var_os("USHERD_ADMIN_SOCKET").map(PathBuf::from);
    let socket = socket.or(told).unwrap_or_default();
    let mut held = None;
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let mut words = line.splitn(3, ' ');
        let (order, name) = (words.next().unwrap(), words.next().unwrap_or_default());
        let parameters = words
            .next()
            .map_or(json!({}), |text| serde_json::from_str(text).unwrap());
        let asked = json!({ "operation": name, "parameters": parameters });
        let said = match order {
            "run" => connect(&socket).and_then(|mut one| call(&mut one, "Run", &asked)),
            "call" => connect(&socket).and_then(|mut one| call(&mut one, name, &parameters)),
            "hold" => connect(&socket).map(|client| {
                held = Some(client);
                json!({ "ok": true })
            }),
            "again" => call(held.as_mut().unwrap(), "Run", &asked),
            "who" => Ok(json!({ "uid": nix::unistd::getuid().as_raw(), "socket": socket })),
            "leave" => return leave(),
            other => panic!("no order {other}"),
        };
        let said = said.unwrap_or_else(|error| error);
        let _ = writeln!(std::io::stdout(), "{said}");
    }
}

fn connect(socket: &std::path::Path) -> Result<Client, Value> {
    Client::connect(socket).map_err(|err| shown(&err))
}

fn call(client: &mut Client, method: &str, parameters: &Value) -> Result<Value, Value> {
    client
        .call(&format!("{ADMIN}.{method}"), parameters)
        .map_err(|err| shown(&err))
}

fn shown(err: &ClientError) -> Value {
    match err {
        ClientError::Refused(name, parameters) => {
            let name = name.rsplit('.').next().unwrap();
            json!({ "error": name, "parameters": parameters })
        }
        other => json!({ "failed": other.to_string() }),
    }
}

/// The first process of the instance ends, and the next one goes on with its connection.
#[allow(clippy::zombie_processes, reason = "it is to outlive this one")]
fn leave() {
    use std::os::unix::process::CommandExt;
    let own = std::env::current_exe().unwrap();
    let mut next = std::process::Command::new(own);
    next.arg("--ask").args(std::env::args().nth(2));
    next.process_group(0).spawn().unwrap();
}
