//! A helper that starts nothing: the tests are the servers.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use usherd::front::plan::{ListenerPlan, Plan, ServePlan, ServicePlan};
use usherd::helper::wire::{MAX_PACKET, Notice, Outcome, Request};
use usherd::ids::{ConnectionId, InstanceId, ListenerId, ServiceId};
use usherd::sys::link;
use usherd::table::{
    Access, Banner, LogEvents, LogFormat, LogLevel, LogSettings, LogTarget, OnFull, Rules,
    SourcePrefix,
};

/// Nothing that should happen takes as long as this.
const STUCK: Duration = Duration::from_secs(10);

pub const SERVICE: ServiceId = ServiceId(1);
pub const LISTENER: ListenerId = ListenerId(1);

pub struct Helper {
    link: OwnedFd,
    child: Child,
    log: Arc<(Mutex<String>, Condvar)>,
    instances: u64,
}

/// What the front asked for.
#[derive(Debug)]
pub struct Asked {
    pub request: Request,
    pub socket: Option<OwnedFd>,
}

impl Helper {
    /// Starts a front in its cage, with room for `descriptors` if given.
    pub fn start(descriptors: Option<u32>) -> Self {
        let (near, far) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )
        .unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "front_process", "--ignored", "--nocapture"])
            .arg("--test-threads=1")
            .env_clear()
            .stdin(far)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(limit) = descriptors {
            command.env("FRONT_NOFILE", limit.to_string());
        }
        let mut child = command.spawn().unwrap();
        drop(command);
        let log = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let (lines, seen) = (
            BufReader::new(child.stderr.take().unwrap()),
            Arc::clone(&log),
        );
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = seen.0.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
                seen.1.notify_all();
            }
        });
        Self {
            link: near,
            child,
            log,
            instances: 0,
        }
    }

    /// A front with one service on one listener.
    pub fn serving(rules: Rules, listener: impl Into<OwnedFd>, datagram: bool) -> Self {
        let helper = Self::start(None);
        helper.plan(vec![(rules, datagram)]);
        helper.give(LISTENER, listener.into());
        helper
    }

    /// Sends a plan: service n on listener n, from 1.
    pub fn plan(&self, services: Vec<(Rules, bool)>) {
        let ids = 1_u32..;
        let mut plan = empty_plan();
        for ((rules, datagram), id) in services.into_iter().zip(ids) {
            plan.services.push(ServicePlan {
                id: ServiceId(id),
                description: None,
                name: format!("service-{id}"),
                serve: ServePlan::Exec,
                rules,
                routing: usherd::table::Routing::default(),
                blocked: None,
            });
            plan.listeners.push(ListenerPlan {
                id: ListenerId(id),
                services: vec![ServiceId(id)],
                label: format!("tcp:{id}"),
                datagram,
                bound: true,
            });
        }
        self.send_plan(&plan);
    }

    pub fn send_plan(&self, plan: &Plan) {
        let memory = memfd_create("plan", MFdFlags::MFD_CLOEXEC).unwrap();
        let text = serde_json::to_vec(plan).unwrap();
        assert_eq!(nix::unistd::write(&memory, &text), Ok(text.len()));
        self.tell(&Notice::Plan, Some(memory));
    }

    pub fn give(&self, id: ListenerId, listener: OwnedFd) {
        self.tell(&Notice::Listeners(vec![id]), Some(listener));
    }

    pub fn tell(&self, notice: &Notice, descriptor: Option<OwnedFd>) {
        let mut packet = Vec::new();
        notice.encode(&mut packet);
        self.tell_bytes(&packet, descriptor);
    }

    pub fn tell_bytes(&self, packet: &[u8], descriptor: Option<OwnedFd>) {
        let descriptor = descriptor.as_ref().map(AsFd::as_fd);
        link::send(self.link.as_fd(), packet, descriptor.as_slice()).unwrap();
    }

    /// Waits until the front has finished a turn in which all that it was told
    /// so far was read. Each of these orders is answered in the turn that reads it;
    /// the first answer may be that to an earlier one.
    pub fn settle(&self) {
        for _ in 0..3 {
            let nothing = Notice::Hold {
                service: ServiceId(u32::MAX),
                held: false,
            };
            self.tell(&nothing, None);
            let answer = self.hear_any(STUCK, |request| *request != Request::Alive);
            let answer = answer.map(|asked| asked.request);
            assert_eq!(answer, Some(Request::Taken), "its log:\n{}", self.log());
        }
    }

    /// The next request other than `Alive` and `Taken`, if one comes within `patience`.
    pub fn hear(&self, patience: Duration) -> Option<Asked> {
        self.hear_any(patience, |request| {
            !matches!(request, Request::Alive | Request::Taken)
        })
    }

    fn hear_any(&self, patience: Duration, wanted_one: fn(&Request) -> bool) -> Option<Asked> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap();
            let mut wanted = [PollFd::new(self.link.as_fd(), PollFlags::POLLIN)];
            if poll(&mut wanted, timeout).unwrap() == 0 {
                return None;
            }
            let mut buffer = [0; MAX_PACKET];
            let packet = link::receive(self.link.as_fd(), &mut buffer);
            let packet = packet.ok().filter(|packet| packet.length > 0);
            let Some(link::Packet {
                length,
                descriptors: mut sockets,
                ..
            }) = packet
            else {
                panic!("the front is gone; its log:\n{}", self.log());
            };
            let request = Request::decode(&buffer[..length], sockets.len()).unwrap();
            if wanted_one(&request) {
                let socket = sockets.pop();
                return Some(Asked { request, socket });
            }
        }
    }

    /// The next request must be for a server.
    pub fn hear_start(&self) -> (ConnectionId, Option<OwnedFd>) {
        let asked = self.hear(STUCK);
        let asked = asked.unwrap_or_else(|| panic!("no request; the log:\n{}", self.log()));
        match asked.request {
            Request::Start { connection, .. } | Request::StartWait { connection, .. } => {
                (connection, asked.socket)
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    pub fn hears_nothing(&self) {
        let asked = self.hear(Duration::from_millis(150));
        assert!(asked.is_none(), "unexpected {asked:?}");
    }

    pub fn started(&mut self, connection: ConnectionId) -> InstanceId {
        self.instances += 1;
        let instance = InstanceId(self.instances);
        let notice = Notice::Started {
            pid: 1,
            connection,
            instance,
        };
        self.tell(&notice, None);
        instance
    }

    pub fn exited(&self, instance: InstanceId) {
        let outcome = Outcome {
            micros: 1,
            ..Outcome::default()
        };
        self.tell(&Notice::Exited { instance, outcome }, None);
    }

    /// The log of the front so far.
    pub fn log(&self) -> String {
        self.log.0.lock().unwrap().clone()
    }

    pub fn wait_for_log(&self, text: &str) {
        let (lock, changed) = &*self.log;
        let lacks = |log: &mut String| !log.contains(text);
        let waited = changed.wait_timeout_while(lock.lock().unwrap(), STUCK, lacks);
        let (log, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "no \"{text}\" in:\n{log}");
    }

    /// Waits for the front to end by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        let pid = i32::try_from(self.child.id()).unwrap();
        let ended = usherd::sys::process::pidfd_open(pid).unwrap();
        let mut wanted = [PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        let stuck = PollTimeout::try_from(STUCK).unwrap();
        let count = poll(&mut wanted, stuck).unwrap();
        assert!(
            count > 0,
            "the front does not end; its log:\n{}",
            self.log()
        );
        self.child.wait().unwrap().code()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn empty_plan() -> Plan {
    Plan {
        epoch: 1,
        fronts: 1,
        log: LogSettings {
            to: LogTarget::Stderr,
            format: LogFormat::Text,
            level: LogLevel::Info,
        },
        undecided: usherd::table::Undecided::default(),
        services: Vec::new(),
        listeners: Vec::new(),
        tcpmux: Vec::new(),
        disabled: Vec::new(),
        helper_pid: 1,
        uptime: 0,
    }
}

/// Rules that let everybody in.
pub fn open_rules() -> Rules {
    Rules {
        wait: false,
        whole: false,
        access: Access::default(),
        hours: Vec::new(),
        instances: 100,
        per_source: None,
        source_prefix: SourcePrefix { v4: 32, v6: 64 },
        rate: None,
        rate_per_source: None,
        max_load: None,
        on_full: OnFull::Queue,
        banner: Banner::default(),
        idle_timeout: None,
        max_runtime: None,
        max_bytes: None,
        log: LogEvents {
            accept: true,
            start: true,
            exit: true,
            refuse: true,
        },
    }
}
