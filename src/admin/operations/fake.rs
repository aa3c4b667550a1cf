//! A usherd that says what a test tells it to.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use serde_json::Value;

use super::{Caller, Failed, Parameters, Places, Request, Usherd};

type Says<'a> = Box<dyn FnMut(&str, &Value) -> Result<Value, Failed> + 'a>;

pub struct Fake<'a> {
    says: Says<'a>,
    /// Methods, in order.
    pub called: Vec<String>,
}

impl<'a> Fake<'a> {
    pub fn new(says: impl FnMut(&str, &Value) -> Result<Value, Failed> + 'a) -> Self {
        Self {
            says: Box::new(says),
            called: Vec::new(),
        }
    }
}

impl Usherd for Fake<'_> {
    fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Failed> {
        self.called.push(method.to_owned());
        (self.says)(method, &parameters)
    }

    fn progress(&mut self, _: &str) {}
}

/// Of root, about nothing on the disk.
pub fn request(parameters: Value) -> Request {
    request_in(Path::new("/nowhere"), parameters)
}

/// The same, of a usherd whose state is in `dir`.
pub fn request_in(dir: &Path, parameters: Value) -> Request {
    let Value::Object(parameters) = parameters else {
        panic!("parameters are an object");
    };
    Request {
        operation: "test".into(),
        parameters: Parameters(parameters),
        dry_run: false,
        caller: Caller {
            uid: 0,
            service: None,
            instance: None,
        },
        places: Places {
            state_dir: dir.to_owned(),
            runtime_dir: dir.join("run"),
            table: None,
            host: "host".into(),
        },
    }
}
