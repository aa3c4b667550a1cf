//! A real browser: Chromium without a screen, told what to do through a pipe.
//!
//! It speaks the DevTools protocol, JSON ended by NUL, on the descriptors 3 and
//! 4; a shell puts our pipes there. No other program or port is needed.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::Pid;
use super::{Dir, SOON, needs, runner, until};

const OPTIONS: &[&str] = &[
    "--headless",
    "--no-sandbox", // it needs user namespaces, which not every test host has
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-pipe",
];

/// A browser with one page. Ended when dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Option<String>,
    calls: u64,
    events: VecDeque<Value>,
}

impl Browser {
    /// Starts Chromium with a profile in the folder of the test, or skips the test.
    #[must_use]
    pub fn start(dir: &Dir) -> Self {
        let program = needs("chromium", "chromium");
        let profile = dir.open_folder("profile");
        let mut child = Command::new("sh")
            .args([
                "-c",
                r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#,
                "sh",
            ])
            .arg(program)
            .args(OPTIONS)
            .arg(format!("--user-data-dir={profile}"))
            .env("HOME", &profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        runner::remember(Pid::try_from(child.id()).expect("a pid is positive"));
        let to = child.stdin.take().expect("a pipe");
        let mut replies = BufReader::new(child.stdout.take().expect("a pipe"));
        let (tell, from) = mpsc::channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while matches!(replies.read_until(0, &mut message), Ok(1..)) {
                message.pop();
                let told = serde_json::from_slice(&message).map(|value| tell.send(value));
                if !matches!(told, Ok(Ok(()))) {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            child,
            to,
            from,
            session: None,
            calls: 0,
            events: VecDeque::new(),
        };
        browser.open_page();
        browser
    }

    fn open_page(&mut self) {
        let page = self.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach);
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
    }

    /// Calls a method of the protocol and waits for its result.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let sent = self.to.write_all(format!("{message}\0").as_bytes());
        sent.unwrap_or_else(|err| panic!("chromium does not listen: {err}"));
        let deadline = Instant::now() + SOON * 2; // the first call waits for its start
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let heard = self.from.recv_timeout(left);
            let heard = heard.unwrap_or_else(|err| panic!("{method}: chromium: {err}"));
            if heard["id"] == self.calls {
                assert!(heard["error"].is_null(), "{method}: {heard}");
                return heard["result"].clone();
            }
            self.events.push_back(heard);
        }
    }

    /// Loads a page; what is on it may still be on its way.
    pub fn go(&mut self, url: &str) {
        let gone = self.call("Page.navigate", json!({ "url": url }));
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
        self.wait("document.readyState === 'complete'");
    }

    /// What a JavaScript expression says in the page. Works without scripts in the page too.
    pub fn ask(&mut self, expression: &str) -> Value {
        let how = json!({ "expression": expression, "returnByValue": true });
        let told = self.call("Runtime.evaluate", how);
        assert!(told["exceptionDetails"].is_null(), "{expression}: {told}");
        told["result"]["value"].clone()
    }

    pub fn text(&mut self, expression: &str) -> String {
        let value = self.ask(expression);
        value
            .as_str()
            .unwrap_or_else(|| panic!("{expression}: {value}"))
            .to_owned()
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, expression: &str) {
        until(expression, SOON, || {
            (self.ask(expression) == true).then_some(())
        });
    }

    /// The size of the page's window.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Everything that was asked of the net so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let sent = self.events.iter();
        let sent = sent.filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.filter_map(|event| {
            event["params"]["request"]["url"]
                .as_str()
                .map(str::to_owned)
        })
        .collect()
    }

    /// Everything that the page or the browser complained about so far.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let kinds = [
            "Log.entryAdded",
            "Runtime.consoleAPICalled",
            "Runtime.exceptionThrown",
        ];
        let is_one = |event: &&Value| kinds.iter().any(|kind| event["method"] == *kind);
        self.events
            .iter()
            .filter(is_one)
            .map(Value::to_string)
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session = None;
        let close = json!({ "id": 0, "method": "Browser.close" });
        let _ = self.to.write_all(format!("{close}\0").as_bytes());
        // Its pipe closes when all its processes have gone.
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline
            && !matches!(
                self.from.recv_timeout(Duration::from_secs(5)),
                Err(mpsc::RecvTimeoutError::Disconnected)
            )
        {}
        let _ = self.child.kill();
        let _ = self.child.wait();
        runner::forget(Pid::try_from(self.child.id()).expect("a pid is positive"));
    }
}
