//! What the daemon says from time to time, asked by a thread of its own: a
//! daemon that does not answer must not hold up the keys.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Instant;

use serde::Serialize;
use serde_json::json;

use crate::control::types::{
    Daemon, Drain, GetDaemon, GetInstances, GetServices, GetStatistics, Instance, KillWhat,
    OfService, Service, TheService,
};
use crate::ctl::console::{Console, Link};
use crate::ctl::failure::Failure;
use crate::ctl::text::count;

/// Everything at a moment.
#[derive(Clone, Debug, Serialize)]
pub struct Reading {
    #[serde(skip)]
    pub at: Option<Instant>,
    pub daemon: Daemon,
    pub services: Vec<Service>,
    pub instances: Vec<Instance>,
    pub statistics: GetStatistics,
}

impl Reading {
    pub fn take(link: &mut Link) -> Result<Self, Failure> {
        let GetDaemon { daemon } = link.call("GetDaemon", &json!({}))?;
        let GetServices { services } = link.call("GetServices", &OfService::default())?;
        let GetInstances { instances } = link.call("GetInstances", &OfService::default())?;
        let statistics = link.call("GetStatistics", &OfService::default())?;
        Ok(Self {
            at: Some(Instant::now()),
            daemon,
            services,
            instances,
            statistics,
        })
    }
}

/// What the thread is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Read,
    Drain(String),
    Kill(u64),
}

/// What has come of it.
#[derive(Debug)]
pub enum News {
    Reading(Box<Reading>),
    /// There is no reading, and why.
    NoReading(String),
    /// What became of a change.
    Done(String),
}

/// The thread's other end.
#[derive(Debug)]
pub struct Reader {
    orders: Sender<Order>,
    news: Receiver<News>,
    /// Readable when there is news.
    bell: UnixStream,
}

impl Reader {
    pub fn start(console: &Console) -> io::Result<Self> {
        let (orders, to_do) = channel();
        let (tell, news) = channel();
        let (bell, rope) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        let console = console.clone();
        thread::Builder::new()
            .name("readings".to_owned())
            .spawn(move || work(&console, &to_do, &tell, rope))?;
        Ok(Self { orders, news, bell })
    }

    pub fn order(&self, order: Order) {
        // A thread that is gone is found out about by `next`.
        let _ = self.orders.send(order);
    }

    /// What is new; an error says that the thread is gone.
    pub fn next(&mut self) -> io::Result<Option<News>> {
        let _ = self.bell.read(&mut [0; 64]);
        match self.news.try_recv() {
            Ok(news) => Ok(Some(news)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    #[must_use]
    pub fn source(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn work(console: &Console, orders: &Receiver<Order>, news: &Sender<News>, mut rope: UnixStream) {
    let mut link = None;
    for order in orders {
        let told = match order {
            Order::Read => match read(console, &mut link) {
                Ok(reading) => News::Reading(Box::new(reading)),
                Err(failure) => {
                    // The next one begins anew: the daemon may be another by then.
                    link = None;
                    News::NoReading(one_line(&failure))
                }
            },
            Order::Drain(service) => News::Done(drain(console, service)),
            Order::Kill(instance) => News::Done(kill(console, instance)),
        };
        if news.send(told).is_err() || rope.write_all(&[0]).is_err() {
            return;
        }
    }
}

fn read(console: &Console, link: &mut Option<Link>) -> Result<Reading, Failure> {
    let open = match link.take() {
        Some(open) => open,
        None => console.status()?,
    };
    Reading::take(link.insert(open))
}

fn drain(console: &Console, service: String) -> String {
    let asked = TheService {
        service: service.clone(),
    };
    let done: Result<Drain, Failure> = console
        .admin()
        .and_then(|mut link| link.call("Drain", &asked));
    match done {
        Ok(done) => format!(
            "{service} takes no new requests; {} may finish",
            count(done.running.into(), "instance")
        ),
        Err(failure) => one_line(&failure),
    }
}

fn kill(console: &Console, instance: u64) -> String {
    let asked = KillWhat {
        instance,
        signal: None,
    };
    let done: Result<serde_json::Value, Failure> = console
        .admin()
        .and_then(|mut link| link.call("Kill", &asked));
    match done {
        Ok(_) => format!("instance {instance} is being ended"),
        Err(failure) => one_line(&failure),
    }
}

fn one_line(failure: &Failure) -> String {
    failure.text.replace('\n', "; ")
}
