//! Administrative operations: who may ask for what, the process that each gets, and
//! what the shipped ones do.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use usherd::control::client::ClientError;

use crate::common::*;
use crate::control::{ADMIN, admin};

mod asker;
mod wire;

pub mod accounts;
pub mod backup;
pub mod files;
pub mod firewall;
pub mod hostile;
pub mod methods;
pub mod network;
pub mod runtime;
pub mod services;
pub mod spam;

/// Whether this process is to ask, which it then did.
pub fn was_asker() -> bool {
    let asked = std::env::args().nth(1).is_some_and(|word| word == "--ask");
    if asked {
        asker::run();
    }
    asked
}

/// Asks for an operation on a connection of its own.
pub fn run(dir: &Dir, operation: &str, parameters: &Value) -> Result<Value, ClientError> {
    ask(dir, operation, parameters, false)
}

/// Asks what it would do.
pub fn run_dry(dir: &Dir, operation: &str, parameters: &Value) -> Result<Value, ClientError> {
    ask(dir, operation, parameters, true)
}

fn ask(dir: &Dir, operation: &str, parameters: &Value, dry: bool) -> Result<Value, ClientError> {
    let asked = json!({ "operation": operation, "parameters": parameters, "dry_run": dry });
    let reply: Value = admin(dir).call(&format!("{ADMIN}.Run"), &asked)?;
    Ok(reply["result"].clone())
}

/// The kind and the reason of an operation that came to nothing.
pub fn failed(outcome: Result<Value, ClientError>) -> (String, String) {
    match outcome {
        Err(ClientError::Refused(name, parameters)) if name.ends_with(".OperationFailed") => {
            let text = |key: &str| parameters[key].as_str().unwrap_or_default().to_owned();
            (text("kind"), text("reason"))
        }
        other => panic!("it did not fail: {other:?}"),
    }
}

/// The table of a service that asks for what it is told to; `keys` has its `admin`.
pub fn asking(dir: &Dir, name: &str, port: u16, isolation: &str, keys: &str) -> String {
    let program = program(dir);
    let isolation = match isolation {
        "none" => "\"none\"".to_owned(),
        preset => format!("{{ preset = \"{preset}\", visible = [\"{program}\"] }}"),
    };
    format!(
        "[service.{name}]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{program}\", \"--ask\"]\n\
         isolation = {isolation}\n{keys}\n"
    )
}

/// A copy of this test binary where any user gets at it.
pub fn program(dir: &Dir) -> String {
    let to = dir.path().join("asker");
    if !to.exists() {
        copy_program(&std::env::current_exe().unwrap(), &to);
        set_mode(dir.path(), 0o755);
    }
    to.display().to_string()
}

/// What a server that asks says to `order`.
pub fn order(peer: &mut Peer, order: &str) -> Value {
    peer.send(format!("{order}\n"));
    let said = peer.read_line();
    serde_json::from_str(&said).unwrap_or_else(|err| panic!("{err}: {said:?}"))
}

/// A process of the host that asks, as `uid` with `groups`.
pub struct Asker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Asker {
    pub fn start(dir: &Dir, uid: u32, gid: u32) -> Self {
        use std::os::unix::process::CommandExt;
        let mut child = Command::new(program(dir))
            .args(["--ask", &format!("{}/admin.sock", dir.file("run"))])
            .uid(uid)
            .gid(gid)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            orders: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    pub fn order(&mut self, order: &str) -> Value {
        writeln!(self.orders, "{order}").unwrap();
        let mut said = String::new();
        self.answers.read_line(&mut said).unwrap();
        serde_json::from_str(&said).unwrap_or_else(|err| panic!("{err}: {said:?}"))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
