//! A daemon that answers as the test says: two sockets, a thread for each
//! caller, and a record of what was asked.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;
use usherd::control::message::{Call, CallError, Reply, read_call};

type Answers = Box<dyn FnMut(Call) -> Vec<Reply> + Send>;

/// What a method is answered, by its full name.
type Book = Arc<Mutex<HashMap<String, Answers>>>;

/// Calls so far: method and parameters.
type Calls = Arc<Mutex<Vec<(String, Value)>>>;

pub struct Fake {
    dir: TempDir,
    book: Book,
    calls: Calls,
}

impl Fake {
    /// A daemon with the services of [`services`], that answers every method.
    pub fn start() -> Self {
        let fake = Self::bare();
        for socket in ["status.sock", "admin.sock"] {
            fake.listen(socket);
        }
        for (method, reply) in canned() {
            fake.says(method, reply);
        }
        fake
    }

    /// Nobody listens yet.
    pub fn bare() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            book: Book::default(),
            calls: Calls::default(),
        }
    }

    pub fn listen(&self, socket: &str) {
        let listener = UnixListener::bind(self.dir().join(socket)).unwrap();
        let (book, calls) = (self.book.clone(), self.calls.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (book, calls) = (book.clone(), calls.clone());
                thread::spawn(move || serve(stream.unwrap(), &book, &calls));
            }
        });
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// From now on `method` (`Status.X`, `Admin.X`) has this reply.
    pub fn says(&self, method: &str, reply: Value) {
        self.does(method, move |_| vec![Reply::Last(reply.clone())]);
    }

    /// From now on `method` ends with this error of its own interface, or of
    /// org.varlink.service.
    pub fn refuses(&self, method: &str, error: &str, parameters: Value) {
        let interface = match error {
            "PermissionDenied" | "MethodNotFound" | "InvalidParameter" => "org.varlink.service",
            _ if method.starts_with("Admin") => "org.usherd.Admin",
            _ => "org.usherd.Status",
        };
        let error = CallError::Own(format!("{interface}.{error}"), parameters);
        self.does(method, move |_| vec![Reply::Error(error.clone())]);
    }

    pub fn does(&self, method: &str, answers: impl FnMut(Call) -> Vec<Reply> + Send + 'static) {
        let method = format!("org.usherd.{method}");
        self.book.lock().unwrap().insert(method, Box::new(answers));
    }

    /// The parameters of every call of `method` so far.
    pub fn asked(&self, method: &str) -> Vec<Value> {
        let method = format!("org.usherd.{method}");
        let calls = self.calls.lock().unwrap();
        let of = calls.iter().filter(|call| call.0 == method);
        of.map(|call| call.1.clone()).collect()
    }

    /// usherctl with this daemon's runtime directory.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = usherctl(words);
        command.env("USHERD_RUNTIME_DIR", self.dir());
        command
    }

    pub fn run(&self, words: &[&str]) -> Ended {
        run(self.command(words))
    }

    /// The only document that `words` and --json print, and the code.
    pub fn json(&self, words: &[&str]) -> (Value, i32) {
        let ended = self.run(&[words, &["--json"]].concat());
        let document = serde_json::from_str(&ended.out).unwrap_or_else(|err| {
            panic!("{words:?}: {err}\n{}{}", ended.out, ended.err);
        });
        (document, ended.code)
    }
}

/// usherctl in an environment that says nothing.
pub fn usherctl(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usherctl"));
    command.args(words).stdin(Stdio::null());
    for name in ["USHERD_RUNTIME_DIR", "XDG_RUNTIME_DIR", "NO_COLOR"] {
        command.env_remove(name);
    }
    command
}

#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub fn run(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ended {
    /// It is done, nothing was complained of, and this was said.
    pub fn said(&self, out: &str) {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        assert_eq!(self.out, out);
    }

    /// It ended with `code` and `err` on stderr.
    pub fn failed(&self, code: i32, err: &str) {
        assert_eq!((self.code, self.err.as_str()), (code, err), "{}", self.out);
    }
}

fn serve(mut stream: UnixStream, book: &Book, calls: &Calls) {
    let mut buffer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        while let Some(end) = buffer.iter().position(|byte| *byte == 0) {
            let message: Vec<u8> = buffer.drain(..=end).collect();
            let call = read_call(&message[..end]).unwrap();
            let parameters = json!(call.parameters.clone().unwrap_or_default());
            let method = call.method.clone();
            calls.lock().unwrap().push((method.clone(), parameters));
            let replies = match book.lock().unwrap().get_mut(&method) {
                Some(answers) => answers(call),
                None => vec![Reply::Error(CallError::MethodNotFound(method))],
            };
            let mut out = Vec::new();
            replies.iter().for_each(|reply| reply.encode(&mut out));
            // A method without any reply is one whose daemon dies.
            if out.is_empty() || stream.write_all(&out).is_err() {
                return;
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(count) => buffer.extend_from_slice(&piece[..count]),
        }
    }
}

/// One service of each kind of trouble.
pub fn services() -> Value {
    let service = |name: &str, state: &str, more: Value| {
        let mut service = json!({
            "name": name, "state": state, "serves": "exec", "listeners": [],
            "running": 0, "instances": 10, "accepted": 0, "refused": 0, "failed": 0,
        });
        let fields = service.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        service
    };
    json!([
        service(
            "git",
            "serving",
            json!({
                "description": "the repositories",
                "listeners": [
                    {"address": "tcp:9418", "bound": true},
                    {"address": "unix:/run/git", "bound": false},
                ],
                "running": 3, "instances": 100, "accepted": 120, "refused": 2,
                "last_exit": {"status": 0, "core": false, "oom": false, "ran_us": 497_000, "ago_ms": 12_300},
            })
        ),
        service(
            "web",
            "resting",
            json!({
                "reason": "unable to exec /usr/bin/webd: No such file or directory",
                "listeners": [{"address": "tcp:80", "bound": true}],
                "failed": 4,
                "last_exit": {"signal": 11, "core": true, "oom": false, "ran_us": 900, "ago_ms": 5_000},
            })
        ),
        service(
            "old",
            "disabled",
            json!({
                "listeners": [{"address": "tcp:79", "bound": false}],
            })
        ),
    ])
}

pub fn statistics(accepted: u64) -> Value {
    let histogram = |buckets: Value| {
        let count: u64 = buckets
            .as_array()
            .unwrap()
            .iter()
            .map(|bucket| bucket["count"].as_u64().unwrap())
            .sum();
        json!({"count": count, "sum_us": count * 100, "buckets": buckets})
    };
    json!({
        "accepted": accepted, "admitted": accepted, "refused": {"deny": 2, "per_source": 1},
        "matched": {"ssh = true": 7}, "undecided": 1, "started": accepted,
        "failed": {"exec": 4}, "running": 3, "exited": {"status 0": 110, "signal 9": 7}, "oom_killed": 0,
        "received": 1536, "sent": 20 << 20, "user_us": 1_200_000, "system_us": 300_000,
        "memory_peak": 20 << 20, "blocks_read": 12, "blocks_written": 4,
        "match_latency": histogram(json!([{"up_to_us": 10, "count": 9}, {"up_to_us": 20, "count": 1}])),
        "start_latency": histogram(json!([{"up_to_us": 400, "count": 90}, {"up_to_us": 3200, "count": 10}])),
        "run_time": histogram(json!([])),
    })
}

pub fn instances() -> Value {
    json!([
        {"id": 7, "service": "git", "pid": 4711, "connection": "1-42", "peer": "192.0.2.7:50112",
         "age_ms": 61_000, "cpu_us": 31_000, "memory": 5 << 20, "measured_ms": 100},
        {"id": 9, "service": "git", "pid": 4712, "connection": "1-43", "age_ms": 900},
    ])
}

/// A service that lacks one thing and has a secret place.
pub fn isolation() -> Value {
    json!({
        "service": "git", "preset": "standard",
        "settings": [
            {"key": "capabilities", "value": "[]"},
            {"key": "hidden", "value": "[]"},
            {"key": "root", "value": "\"read-only\""},
            {"key": "network", "value": "\"none\""},
        ],
        "mechanisms": [
            {"name": "mount_namespace", "level": "require", "effective": true, "note": "14 mounts"},
            {"name": "user_namespace", "level": "off", "effective": false},
            {"name": "seccomp", "level": "require", "effective": false},
            {"name": "landlock", "level": "prefer", "note": "only the process itself can tell"},
            {"name": "keyring", "level": "prefer",
             "missing": {"reason": "keyctl: no\u{1b}[2J", "remedy": "a kernel with CONFIG_KEYS"}},
        ],
        "instance": {"id": 7, "pid": 4711, "facts": [
            {"key": "uid", "value": "33"},
            {"key": "capabilities", "value": "none"},
            {"key": "root", "value": "read-only"},
        ]},
        "exposure": {"score": 1.5, "grade": "ok", "reasons": [
            {"key": "system_calls", "adds": 0.34, "text": "may make most system calls"},
            {"key": "keyring", "adds": 0.07, "text": "shares a keyring with usherd"},
        ]},
    })
}

fn canned() -> Vec<(&'static str, Value)> {
    let mut keyed = json!({});
    for service in services().as_array().unwrap() {
        keyed[service["name"].as_str().unwrap()] = statistics(120);
    }
    vec![
        (
            "Status.GetDaemon",
            json!({"daemon": {
                "version": "0.1.0", "helper_pid": 10, "front_pid": 11, "uptime_ms": 11_520_000,
                "fronts": 1, "draining": false, "services": 3, "listeners": 3, "undecided": 1,
                "running": 3, "degraded": [],
            }}),
        ),
        ("Status.GetServices", json!({"services": services()})),
        ("Status.GetInstances", json!({"instances": instances()})),
        (
            "Status.GetStatistics",
            json!({"total": statistics(120), "services": keyed, "sources": [
                {"prefix": "192.0.2.7/32", "accepted": 100, "refused": 1, "running": 2},
            ]}),
        ),
        (
            "Status.GetMetrics",
            json!({"text": "# TYPE usherd_accepted_total counter\nusherd_accepted_total 120\n"}),
        ),
        (
            "Admin.Describe",
            json!({"keys": [
                {"key": "listen", "value": "[\"tcp:9418\", \"unix:/run/git\"]"},
                {"key": "instances", "value": "100"},
            ]}),
        ),
        ("Admin.GetIsolation", json!({"isolation": isolation()})),
        ("Admin.Enable", json!({})),
        ("Admin.Disable", json!({})),
        ("Admin.Drain", json!({"running": 3})),
        ("Admin.Stop", json!({"stopped": 1})),
        ("Admin.Start", json!({"instance": 12})),
        ("Admin.Kill", json!({})),
        (
            "Admin.Reload",
            json!({"changes": [
                {"service": "ftp", "what": "added", "keys": []},
                {"service": "git", "what": "changed", "keys": ["instances", "exec"]},
                {"what": "changed", "keys": ["log"]},
                {"service": "old", "what": "removed", "keys": []},
            ], "warnings": ["t.toml:3:1: never reached\n3 | x\n  | ^\n"], "token": "t1"}),
        ),
        (
            "Admin.Ban",
            json!({"ban": {"prefix": "192.0.2.0/24", "expires_s": 3600, "age_s": 0}}),
        ),
        ("Admin.Unban", json!({})),
        (
            "Admin.GetBans",
            json!({"bans": [
                {"prefix": "192.0.2.0/24", "reason": "guesses\u{1b}[31m passwords", "expires_s": 3000, "age_s": 600},
                {"prefix": "2001:db8::/32", "age_s": 90_000},
            ]}),
        ),
    ]
}
